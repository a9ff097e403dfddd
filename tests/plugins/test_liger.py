"""The rows for Liger-Kernel, asked for as its run_benchmarks asks."""

import csv
import json
from dataclasses import dataclass, replace
from typing import Any

import pytest

from compvae_fast.bench.timing import Timing
from compvae_fast.plugins import liger
from compvae_fast.registry import RECORDS, Shape
from compvae_fast.registry.records import TOLERANCES


@dataclass
class SingleBenchmarkRunInput:
    x: Any
    kernel_provider: str
    kernel_operation_mode: str | None = ""
    extra_benchmark_config: dict | None = None


def run_benchmarks(
    bench_test_fn, kernel_name, metric_name, metric_unit, x_name, x_label, x_values, kernel_providers,
    kernel_operation_modes=(None,), extra_benchmark_configs=None, overwrite=False,
):
    """Liger's order of calls, and what it reads of the outputs."""
    data = []
    for config in extra_benchmark_configs:
        for mode in kernel_operation_modes:
            for provider in kernel_providers:
                outputs = [bench_test_fn(SingleBenchmarkRunInput(x, provider, mode, config)) for x in x_values]
                data.append((provider, mode, config, [(o.y_20, o.y_50, o.y_80) for o in outputs]))
    assert (x_name, x_label) == ("K", "parts of a set") and metric_unit in ("ms", "MB")
    return data


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, record in list(RECORDS.items()):
        if record.sweep:
            monkeypatch.setitem(RECORDS, name, replace(record, sweep=Shape.dense(2, 4, 64)))


def test_speed_of_forward_backward_and_full():
    data = run_benchmarks(**liger.benchmark("multiset_kl", "speed", parts=(2, 5), seconds=1e-3))
    assert [(p, m, c["coupling"]) for p, m, c, _ in data] == [
        (provider, mode, coupling) for coupling in ("scaled", "unit") for mode in ("forward", "backward", "full")
        for provider in ("compvae_fast", "torch")]
    for *_, quantiles in data:
        assert len(quantiles) == 2 and all(0 < q20 <= q50 <= q80 for q20, q50, q80 in quantiles)


def test_times_are_milliseconds(monkeypatch):
    timing = Timing(q20=1.0, median=2.0, q80=3.0, least=0.5, samples=4)
    monkeypatch.setattr(liger, "interleaved", lambda calls, **_: dict.fromkeys(calls, timing))
    data = run_benchmarks(**liger.benchmark("multiset_kl", "speed", parts=(2,)))
    assert data[0][3] == [(1e3, 2e3, 3e3)]


def test_memory_grows_with_the_parts_in_plain_torch():
    data = run_benchmarks(**liger.benchmark("posterior_sum_and_kl", "memory", parts=(32, 128)))
    forward = {provider: [q50 for _, q50, _ in quantiles] for provider, mode, config, quantiles in data
               if mode == "forward" and config["coupling"] == "unit"}
    small, large = forward["torch"]
    tensor = 2 * 32 * 64 * 4 / 2**20
    assert 5 * tensor < small < 20 * tensor and large == pytest.approx(4 * small, rel=0.05)


def test_wrong_results_are_not_timed(monkeypatch):
    monkeypatch.setitem(TOLERANCES, "number", 1e-30)
    with pytest.raises(ValueError, match="multiset_kl 2x2x64 is wrong: errors over what is allowed"):
        run_benchmarks(**liger.benchmark("multiset_kl", "speed", parts=(2,)))


def test_csv_has_liger_columns(tmp_path):
    path = tmp_path / "all_benchmark_data.csv"
    rows = liger.write_csv(path, ["sum_minus_self", "prior_sum"], parts=(3,), seconds=1e-3)
    with open(path) as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == list(liger.COLUMNS) and len(lines) == len(rows) == 2 * 3 * 2 * (2 + 1)
    first = lines[0]
    assert (first["kernel_name"], first["kernel_provider"], first["kernel_operation_mode"], first["metric_unit"]) == (
        "sum_minus_self", "compvae_fast", "forward", "ms")
    assert json.loads(first["extra_benchmark_config_str"])["pre"] == "elu"
    assert first["x_value"] == "3" and first["gpu_name"] and float(first["y_value_50"]) > 0
    with pytest.raises(ValueError, match="path: expected a new file"):
        liger.write_csv(path, ["prior_sum"])


def test_refusals():
    with pytest.raises(ValueError, match="metric: expected one of speed, memory, got 'power'"):
        liger.benchmark("multiset_kl", "power")
    with pytest.raises(ValueError, match="name: expected an operation over the parts of sets, got 'gaussian_nll'"):
        liger.benchmark("gaussian_nll", "speed")
    with pytest.raises(ValueError, match="kernel_provider: expected compvae_fast or torch, got 'huggingface'"):
        liger.benchmark("multiset_kl", "speed")["bench_test_fn"](
            SingleBenchmarkRunInput(2, "huggingface", "forward", {"B": 1, "D": 4, "dtype": None}))
