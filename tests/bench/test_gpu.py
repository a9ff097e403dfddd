"""`make gpu-check`, as far as it goes without a GPU: what it runs, what it chooses from, how it refuses."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import emulation
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from compvae_fast import backends
from compvae_fast.data import sines
from compvae_fast.distributed.shards import kernels_of
from compvae_fast.models import CompVAE
from compvae_fast.ops.correlated_normal_log_prob import OPERATION
from compvae_fast.reference.shards import Shard
from compvae_fast.registry import RECORDS
from compvae_fast.training import TrainingConfig

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import training_step  # noqa: E402
from gpu_check import check, exercise, measure  # noqa: E402


def row(by, median, operation="multiset_kl", shapes="few parts", **others):
    return {"operation": operation, "class": shapes, "by": by, "median": median, **others}


def test_the_faster_backend_is_chosen_for_each_class():
    rows = [row("cuda", 2.0), row("triton", 1.0), row("cuda", 1.0), row("triton", 8.0), row("eager", 1e-9),
            row("cuda", 3.0, shapes="ragged"), row("triton", 2.0, shapes="ragged"),
            row("triton", 1.0, operation="prior_sum_counts", shapes="rows"), {**row("cuda", 0), "median": 1e-9}]
    del rows[-1]["median"]  # it failed
    assert measure.choice(rows) == {"multiset_kl": {"few parts": "cuda", "ragged": "triton"},
                                    "prior_sum": {"rows": "triton"}}


def test_the_table_is_what_calls_go_by(monkeypatch):
    """And what it does not name goes in the order of preference; shards go where whole sets would."""
    by_layout = {"ragged": "triton"}
    choices = {"multiset_kl": by_layout, "correlated_normal_log_prob": by_layout}
    monkeypatch.setattr(backends, "gpu_choice", lambda: {"choices": choices})
    monkeypatch.setattr(backends, "implementation", lambda *names: names)
    monkeypatch.setattr(backends, "_reason", lambda name: "")
    monkeypatch.setitem(backends._KNOWN, "triton", ("cuda", lambda: "", "compvae_fast.cuda"))
    backends._preference.cache_clear()
    backends._fastest.cache_clear()
    try:
        assert backends.resolve("multiset_kl", "cuda", "ragged") == "triton"
        assert backends.resolve("multiset_kl", "cuda", "few parts") == "cuda"
        assert backends.resolve("multiset_kl", "cpu") == "cpu"
        with FakeTensorMode():
            parts, rows, offsets = (torch.empty(shape, device="cuda") for shape in ((2, 3, 4), (6, 4), (3,)))
        for part, ends, backend in ((parts, None, "cuda"), (rows, offsets, "triton")):
            shard = Shard(ends, None, "unit", offsets, None, None, offsets)
            assert kernels_of(OPERATION, "its_shard", (part,) * 4, shard) == (backend, "its_shard")
    finally:
        backends._preference.cache_clear()
        backends._fastest.cache_clear()


def test_the_stored_table_says_whether_it_was_measured():
    found = backends.gpu_choice()
    assert set(found) == {"measured", "choices"} and (found["measured"] is None) == (found["choices"] == {})
    known = {record.operation for record in RECORDS.values()}
    assert set(found["choices"]) <= known
    assert {name for row in found["choices"].values() for name in row.values()} <= {"cuda", "triton"}


def test_every_case_has_a_class():
    from compvae_fast.ops._library import shapes_of

    for name, shape, dtype in measure.cases():
        record = RECORDS[name]
        arguments = record.arguments(shape.reduced(4096) if shape.elements > 4096 else shape, dtype=dtype)
        assert shapes_of(record.registered, [arguments.get(a.name) for a in record.registered.all_arguments])


def test_every_kernel_is_exercised(capsys):
    if reason := emulation.why_not():
        pytest.skip(reason)
    with emulation.emulated():
        exercise.main("cpu")
    assert capsys.readouterr().out == "every kernel ran\n"


def test_a_step_that_fails_or_takes_too_long_is_told(tmp_path, capsys):
    steps = check.Check(tmp_path / "out")
    assert steps.run("good", sys.executable, "-c", "print(1)", limit=60)
    assert not steps.run("bad", sys.executable, "-c", "print('words'); raise SystemExit(3)", limit=60)
    assert not steps.run("long", sys.executable, "-c", "import time; time.sleep(60)", limit=1)
    assert not steps.run("missing", tmp_path / "nothing", limit=1)
    assert {name: step["passed"] for name, step in steps.steps.items()} == {
        "good": True, "bad": False, "long": False, "missing": False}
    assert "words" in capsys.readouterr().out and (tmp_path / "out" / "check.json").exists()


def test_without_a_device_it_ends_with_the_reason(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    command = [sys.executable, "-m", "gpu_check.check", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT / "bench", capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == "gpu-check: there is no CUDA device here\n"
    assert not (tmp_path / "out").exists()


def test_products_are_counted_and_done_alone():
    layer, x = torch.nn.Linear(3, 4), torch.randn(5, 3, requires_grad=True)
    with training_step.Products() as counted:
        (layer(x) @ torch.randn(4, 2)).sum().backward()
        torch.nn.functional.conv1d(torch.randn(1, 2, 9), torch.randn(3, 2, 4))
    found = Counter()
    for (function, arguments), count in counted.found.items():
        shapes = tuple(a.shape for a in arguments if isinstance(a, training_step.Described))
        found[function.overloadpacket.__name__, shapes] += count
    assert found == {("addmm", ((4,), (5, 3), (3, 4))): 1, ("mm", ((5, 4), (4, 2))): 1,
                     ("mm", ((5, 2), (2, 4))): 1,  # to what went into the second product
                     ("mm", ((5, 4), (4, 3))): 1, ("mm", ((4, 5), (5, 3))): 1,
                     ("convolution", ((1, 2, 9), (3, 2, 4))): 1}
    with training_step.Products() as again:
        training_step.products_alone(counted.found, torch.device("cpu"))()
    assert again.found == counted.found


def test_a_step_is_timed_in_every_way():
    config = TrainingConfig.from_preset("sines-small", threads=1)
    config = replace(config, recipe=replace(config.recipe, batch=4), model=replace(config.model, hidden=8))
    found = training_step.measured(config, budget=0.0, compiled=False, parts=3, copied=1 << 20)
    assert list(found) == ["launched", "bare", "products", "optimiser", "plain eager"]
    assert all(value > 0 for value in found.values()) and found["products"] < found["launched"]
    assert f"| launched | {found['launched'] * 1e3:.3f} |" in training_step.table(found, config)


def test_the_plain_model_has_the_losses_of_the_other():
    """Averaged over draws of its noise; the parts' divergence, which has none, exactly."""
    config = TrainingConfig.from_preset("sines-small")
    model = CompVAE.from_config(replace(config.model, hidden=8)).eval()
    batch = sines.draw(64, 3, seed=1, k_per_batch=1)
    with torch.no_grad():
        fused = model.loss(batch.x, batch.labels, seed=1)
        with training_step.plain_operations():
            plain = model.loss(batch.x, batch.labels, seed=1)
    torch.testing.assert_close(plain.w, fused.w, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(plain.x.mean(), fused.x.mean(), rtol=0.2, atol=1.0)
