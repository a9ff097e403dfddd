"""The operators for tritonbench, driven by a stand-in for it."""

import importlib
import sys
import types
from dataclasses import replace

import pytest
import torch

from compvae_fast.plugins import tritonbench
from compvae_fast.registry import RECORDS, Shape
from compvae_fast.registry.records import TOLERANCES

from . import tritonbench_standin

SMALL = (Shape.dense(2, 3, 8), Shape((2, 1), 8, "ragged"))


@pytest.fixture
def registers(monkeypatch):
    for name, record in list(RECORDS.items()):
        monkeypatch.setitem(RECORDS, name, replace(record, shapes=SMALL if record.sets else SMALL[:1]))
    return tritonbench_standin.install(monkeypatch)


def operator(name, mode="fwd"):
    return tritonbench.make_operator(name, f"tritonbench.operators.{name}.operator")(mode)


def test_operator_registers_what_it_has(registers):
    made = operator("multiset_kl")
    assert made.name == "multiset_kl" and made.available == 4
    benchmarks = registers.benchmarks["multiset_kl"]
    assert [name for name, b in benchmarks.items() if b.baseline] == ["eager"]
    assert {"compvae_fast_reference", "torch_compile", "MultivariateNormal", "torch_segment_reduce"} <= set(benchmarks)
    assert benchmarks["compvae_fast_reference"].label == "compvae_fast:reference"
    assert registers.metrics["multiset_kl"] == ["gbps"] and registers.x_labels["multiset_kl"] == "multiset_kl"


@pytest.mark.parametrize("mode", [mode.value for mode in tritonbench_standin.Mode])
@pytest.mark.parametrize("name", RECORDS)
def test_every_operator_runs_in_every_mode(registers, name, mode):
    made = operator(name, mode)
    rows = made.run(only={"eager", "compvae_fast_reference"})
    assert len(rows) == made.available
    for x_val, row in rows:
        assert x_val.startswith(name) and row["compvae_fast_reference"].accuracy is True
        assert all(metrics.latency > 0 and metrics.extra_metrics["gbps"] > 0 for metrics in row.values())


def test_bandwidth_counts_what_the_mode_moves(registers):
    inputs, output = 5 * 6 * 8 * 4, 2 * 4
    for mode, traffic in (("fwd", inputs + output), ("bwd", 2 * inputs + output), ("fwd_bwd", 3 * inputs + 2 * output)):
        (_, row), *_ = operator("multiset_kl", mode).run(only={"eager"})
        assert row["eager"].extra_metrics["gbps"] * row["eager"].latency * 1e6 == pytest.approx(traffic)


def test_backward_goes_through_all_outputs(registers):
    made = operator("product_of_experts", "bwd")
    made._cur_input_id, made.example_inputs = 0, next(made.get_input_iter())
    leaves = made.prepared("compvae_fast_reference")()
    found = [leaf.grad for leaf in leaves]
    outputs = RECORDS["product_of_experts"].fused(made.example_inputs)
    wanted = torch.autograd.grad(sum(o.sum() for o in outputs), leaves)
    torch.testing.assert_close(found, list(wanted))


def test_wrong_results_are_inaccurate(registers, monkeypatch):
    monkeypatch.setitem(TOLERANCES, "number", 1e-30)
    (_, row), *_ = operator("multiset_kl").run(only={"eager", "compvae_fast_reference"})
    assert row["compvae_fast_reference"].accuracy is False


def test_alternatives_say_what_they_do_not_serve(registers):
    dense, *_, ragged = operator("multiset_kl").run(only={"eager", "MultivariateNormal", "torch_segment_reduce"})
    assert dense[1]["MultivariateNormal"].accuracy is True
    assert dense[1]["torch_segment_reduce"].error_msg == "torch_segment_reduce does not serve multiset_kl 2x3x8 " \
        "coupling=scaled on cpu"
    assert ragged[1]["torch_segment_reduce"].latency > 0 and ragged[1]["MultivariateNormal"].latency is None


def test_noise_of_another_kind_is_not_compared(registers):
    (_, row), *_ = operator("correlated_normal_rsample").run(only={"eager", "MultivariateNormal"})
    assert row["MultivariateNormal"].accuracy is None and row["MultivariateNormal"].latency > 0


def test_written_packages_hold_the_operators(registers, tmp_path, monkeypatch):
    folder = tmp_path / "operators"
    folder.mkdir()
    files = tritonbench.write_operators(folder)
    assert {path.parent.name for path in files} == set(RECORDS)
    package = types.ModuleType("tritonbench.operators")
    package.__path__ = [str(folder)]
    monkeypatch.setitem(sys.modules, "tritonbench.operators", package)
    loaded = importlib.import_module("tritonbench.operators.prior_sum_counts")
    for name in list(sys.modules):
        if name.startswith("tritonbench.operators."):
            monkeypatch.setitem(sys.modules, name, sys.modules[name])
    (_, row), *_ = loaded.Operator("fwd").run(only={"eager", "compvae_fast_reference"})
    assert row["compvae_fast_reference"].accuracy is True
    assert tritonbench.write_operators(folder) == files


def test_nothing_of_others_is_overwritten(tmp_path):
    with pytest.raises(ValueError, match="folder: expected an existing folder, got"):
        tritonbench.write_operators(tmp_path / "nowhere")
    taken = tmp_path / "multiset_kl" / "operator.py"
    taken.parent.mkdir()
    taken.write_text("mine")
    with pytest.raises(ValueError, match="folder: expected no other multiset_kl/operator.py"):
        tritonbench.write_operators(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["multiset_kl"] and taken.read_text() == "mine"
