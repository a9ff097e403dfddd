"""The operations in the form of Liger-Kernel's benchmarks (github.com/linkedin/Liger-Kernel).

Within its benchmark/scripts, on a GPU:

    from utils import run_benchmarks
    from compvae_fast.plugins import liger

    for metric in ("speed", "memory"):
        run_benchmarks(**liger.benchmark("posterior_sum_and_kl", metric))

and anywhere, into a CSV of the same columns: `liger.write_csv(path, ["posterior_sum_and_kl"])`.
"""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from compvae_fast import backends
from compvae_fast.bench.checks import errors
from compvae_fast.bench.contestants import PASSES, PREFIX, Contestant, contestants, one_pass
from compvae_fast.bench.suite import CHECKED
from compvae_fast.bench.timing import interleaved, peak_memory, synchronizer
from compvae_fast.registry import RECORDS, Record, Shape, geometric

COLUMNS = (
    "kernel_name", "kernel_provider", "kernel_operation_mode", "metric_name", "metric_unit", "x_name", "x_label",
    "x_value", "y_value_50", "y_value_20", "y_value_80", "extra_benchmark_config_str", "gpu_name", "timestamp",
    "liger_version",
)
UNITS = {"speed": "ms", "memory": "MB"}
PARTS = geometric(4, 1024, 5)


class Output(NamedTuple):
    """What Liger calls SingleBenchmarkRunOutput: the 20 %, 50 % and 80 % quantiles."""

    y_20: float
    y_50: float
    y_80: float


def benchmark(name: str, metric: str, *, parts: tuple[int, ...] = PARTS, seconds: float = 1.0) -> dict[str, Any]:
    """The arguments of Liger's run_benchmarks for a record: time or memory over the number of parts K of a set.

    Args:
        name: of the record, as in `compvae_fast.registry.RECORDS`; one whose cost grows with K.
        metric: "speed" (milliseconds) or "memory" (MB at the peak, beyond the inputs).
        parts: the values of K.
        seconds: that each time measurement may take.

    Returns:
        Keyword arguments; bench_test_fn takes Liger's SingleBenchmarkRunInput.

    Raises:
        ValueError: another metric, or a record that has no K to vary. When a benchmark runs: results that are wrong.
    """
    record = RECORDS[name]
    if metric not in UNITS:
        raise ValueError(f"metric: expected one of {', '.join(UNITS)}, got {metric!r}")
    if record.sweep is None:
        raise ValueError(f"name: expected an operation over the parts of sets, got {name!r}")
    return {
        "bench_test_fn": _measure(record, metric, seconds),
        "kernel_name": name,
        "metric_name": metric,
        "metric_unit": UNITS[metric],
        "x_name": "K",
        "x_label": "parts of a set",
        "x_values": list(parts),
        "kernel_providers": [PREFIX, "torch"],
        "kernel_operation_modes": list(PASSES),
        "extra_benchmark_configs": [{"B": record.sweep.sets, "D": record.sweep.width, "dtype": torch.float32, **options}
                                    for options in record.options],
        "overwrite": True,
    }


def write_csv(
    path: str | Path, names: list[str], *, parts: tuple[int, ...] = PARTS, seconds: float = 1.0
) -> list[dict[str, Any]]:
    """Measure records as Liger's run_benchmarks would, on the CPU too, into a new CSV of its columns; gives the rows.

    Raises ValueError where the file is there already.
    """
    path = Path(path)
    if path.exists():
        raise ValueError(f"path: expected a new file, got {path}")
    asked = [benchmark(name, metric, parts=parts, seconds=seconds) for name in names for metric in UNITS]
    rows = [row for one in asked for row in _rows(one)]
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue())
    return rows


class _Input(NamedTuple):
    x: int
    kernel_provider: str
    kernel_operation_mode: str
    extra_benchmark_config: dict[str, Any]


def _rows(asked: dict[str, Any]) -> list[dict[str, Any]]:
    from compvae_fast.report.info import processor_name

    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else processor_name()
    liger = importlib.metadata.version("liger-kernel") if importlib.util.find_spec("liger_kernel") else ""
    told = {name: asked[name] for name in ("kernel_name", "metric_name", "metric_unit", "x_name", "x_label")}
    rows = []
    for config in asked["extra_benchmark_configs"]:
        for mode in asked["kernel_operation_modes"]:
            for provider in asked["kernel_providers"]:
                for x in asked["x_values"]:
                    output = asked["bench_test_fn"](_Input(x, provider, mode, config))
                    rows.append(told | {
                        "kernel_provider": provider, "kernel_operation_mode": mode, "x_value": x,
                        "y_value_50": output.y_50, "y_value_20": output.y_20, "y_value_80": output.y_80,
                        "extra_benchmark_config_str": json.dumps(config, default=str), "gpu_name": machine,
                        "timestamp": time.strftime("%Y-%m-%d %H:%M:%S"), "liger_version": liger,
                    })
    return rows


def _measure(record: Record, metric: str, seconds: float) -> Callable[[Any], Output]:
    checked = set()

    def measure(asked) -> Output:
        options = dict(asked.extra_benchmark_config)
        sets, width, dtype = options.pop("B"), options.pop("D"), options.pop("dtype")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        shape = Shape.dense(sets, asked.x, width)
        contestant = _provider(record, shape, asked.kernel_provider, device)
        key = (contestant.name, shape, str(options))
        if key not in checked:
            small = record.arguments(record.reduced(shape, CHECKED), dtype=dtype, device=device, **options)
            assert contestant.check is not None, "ours and eager are always compared"
            told = errors(record, small, contestant.check)
            if max(told.values()) > 1:
                raise ValueError(f"{contestant.name}: {record.name} {shape} is wrong: errors over what is allowed "
                                 f"{told}")
            checked.add(key)
        arguments = record.arguments(shape, dtype=dtype, device=device, **options)
        call = one_pass(contestant.run, arguments, record.differentiable, asked.kernel_operation_mode)
        call()
        if metric == "memory":
            # What is allocated does not vary from call to call.
            return Output(*[peak_memory(call, device) / 2**20] * 3)
        timing = interleaved({"": call}, seconds=seconds, synchronize=synchronizer(device))[""]
        return Output(1e3 * timing.q20, 1e3 * timing.median, 1e3 * timing.q80)

    return measure


def _provider(record: Record, shape: Shape, provider: str, device: torch.device) -> Contestant:
    backend = backends.resolve(record.operation, device.type)
    ours, plain = contestants(record, shape, backends=(backend,), compiled=False, alternatives=False)
    if provider not in (PREFIX, "torch"):
        raise ValueError(f"kernel_provider: expected {PREFIX} or torch, got {provider!r}")
    return ours if provider == PREFIX else plain
