"""Times every operation on this machine's GPU, by each backend and in plain PyTorch, beside a copy in the same run;
writes rows, a table and the choice between the backends that compvae_fast.backends reads."""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import time
from pathlib import Path

import torch

import compvae_fast
from compvae_fast import backends
from compvae_fast.ops._library import shapes_of
from compvae_fast.registry import RECORDS, Shape

COPIED = 1 << 30  # bytes
# (record, shape, dtype): the sizes that docs/performance.md names, and for each operation one shape of each class
NAMED = [
    ("posterior_sum_and_kl", Shape.dense(2048, 16, 1024), torch.float32),
    ("posterior_sum_and_kl", Shape.dense(8192, 16, 1024), torch.float32),
    ("posterior_sum_and_kl", Shape.dense(64, 4096, 256), torch.float32),
    ("sum_minus_self", Shape.dense(2048, 16, 2048), torch.bfloat16),
    ("correlated_normal_rsample", Shape.dense(2048, 16, 1024), torch.float32),
    ("prior_sum", Shape.dense(1, 10**6, 1024), torch.float32),
]
CLASSES = [Shape.dense(1024, 16, 1024), Shape.dense(32, 2048, 256), Shape(tuple(range(1, 257)) * 2, 256, "ragged")]


def cases():
    yield from NAMED
    for name in RECORDS:
        for shape in CLASSES:
            yield name, shape, torch.float32


def seconds(call, budget: float) -> list[float]:
    """Times of single calls by the device's clock, sorted; the first calls compile and tune."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    times, until = [], time.monotonic() + budget
    while len(times) < 5 or (time.monotonic() < until and len(times) < 200):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return sorted(times)


def copy_bandwidth(budget: float) -> float:
    """Bytes a second, read and written, of a copy from device memory to device memory."""
    source = torch.ones(COPIED // 4, device="cuda")
    target = torch.empty_like(source)
    return 2 * COPIED / statistics.median(seconds(lambda: target.copy_(source), budget))


def contestants(record, arguments):
    """(name, backend or None for plain PyTorch): those that can run the case."""
    for name in backends.serving(record.operation, "cuda"):
        if name != "reference":
            yield name, lambda: record.fused(arguments), name
    yield "eager", lambda: record.plain(arguments), None
    if record.operation == "posterior_sum_and_kl":
        yield "compiled", torch.compile(lambda: record.plain(arguments), mode="max-autotune-no-cudagraphs"), None


def passes(record, forward, arguments):
    """The forward pass, and both together."""
    inputs = [arguments[name] for name in record.differentiable]

    def both():
        outputs = forward()
        torch.autograd.grad(sum(o.float().sum() for o in outputs), inputs)

    def alone():
        with torch.no_grad():
            forward()

    return {"forward": alone, "forward and backward": both}


def measured(name: str, shape: Shape, dtype: torch.dtype, budget: float):
    """Rows of one case; one that runs out of memory, or that a backend refuses, says so."""
    record = RECORDS[name]
    options = dict(record.options[0]) | ({"coupling": "scaled"} if record.coupled else {})
    arguments = record.arguments(shape, dtype=dtype, device="cuda", requires_grad=True, **options)
    values = [arguments.get(a.name) for a in record.registered.all_arguments]
    row = {"operation": name, "shape": [shape.sets, max(shape.sizes), shape.width], "layout": shape.layout,
           "class": shapes_of(record.registered, values), "dtype": str(dtype).removeprefix("torch.")}
    for contestant, forward, backend in contestants(record, arguments):
        for label, call in passes(record, forward, arguments).items():
            try:
                with backends.use_backend(backend or "reference"):
                    times = seconds(call, budget)
                    outputs = forward()
                traffic = dict(zip(("forward", "backward"), record.traffic(arguments, outputs)))
                moved = traffic["forward"] if label == "forward" else sum(traffic.values())
                found = {"median": statistics.median(times), "least": times[0], "samples": len(times), "bytes": moved}
            except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
                found = {"failed": str(error).partition("\n")[0][:200]}
            yield row | {"by": contestant, "pass": label} | found
    del arguments, values
    torch.cuda.empty_cache()


def choice(rows) -> dict:
    """The faster backend of each operation and class of shapes: the least sum of the logarithms of its times."""
    scores: dict = {}
    for row in rows:
        if row["by"] in ("cuda", "triton") and "median" in row:
            key = row["operation"].removesuffix("_counts"), row["class"]
            scores.setdefault(key, {}).setdefault(row["by"], []).append(row["median"])
    table: dict = {}
    for (operation, shapes), found in sorted(scores.items()):
        means = {name: statistics.geometric_mean(times) for name, times in found.items()}
        table.setdefault(operation, {})[shapes] = min(means, key=means.__getitem__)
    return table


def table(rows, copied: float) -> str:
    lines = [f"Copy: {copied / 1e12:.2f} TB/s. A share is what the pass must move, over its time, over that.", "",
             "| operation | shape | dtype | pass | by | ms | TB/s | share of copy |", "|---" * 8 + "|"]
    for row in rows:
        head = "".join(f"| {x} " for x in (row["operation"], f"{row['shape']} {row['layout']}", row["dtype"],
                                          row["pass"], row["by"])) + "| "
        if "failed" in row:
            lines.append(head + f"{row['failed']} | | |")
        else:
            speed = row["bytes"] / row["median"]
            lines.append(head + f"{row['median'] * 1e3:.3f} | {speed / 1e12:.2f} | {speed / copied:.0%} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json and gpu.md")
    parser.add_argument("--seconds", type=float, default=150, help="that all of it may take, about")
    parser.add_argument("--choose", action="store_true", help=f"rewrite {backends.GPU_CHOICE.name}")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    machine = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "CUDA": torch.version.cuda,
               "date": datetime.date.today().isoformat(), "compvae_fast": compvae_fast.__version__,
               "backends": {name: b.reason or "there" for name, b in compvae_fast.backends().items()}}
    copied, rows, until = copy_bandwidth(1.0), [], time.monotonic() + options.seconds
    for name, shape, dtype in cases():
        if time.monotonic() > until:
            print(f"gpu-check: no time left for {name} {shape.sets} sets and what follows")
            break
        try:
            rows += measured(name, shape, dtype, 0.15)
        except torch.cuda.OutOfMemoryError:
            print(f"gpu-check: {name} {shape.sets} x {max(shape.sizes)} x {shape.width} does not fit into memory")
        (options.out / "gpu.json").write_text(json.dumps({"machine": machine, "copy": copied, "rows": rows}, indent=1))
    (options.out / "gpu.md").write_text(table(rows, copied))
    if options.choose:
        measured_on = {key: machine[key] for key in ("device", "torch", "date")}
        backends.GPU_CHOICE.write_text(json.dumps({"measured": measured_on, "choices": choice(rows)}, indent=1) + "\n")
    print((options.out / "gpu.md").read_text())


if __name__ == "__main__":
    main()
