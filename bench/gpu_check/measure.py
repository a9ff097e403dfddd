"""Times every operation on this machine's GPU, by each backend and in plain PyTorch, beside a copy in the same run;
writes rows, a table and the choice between the backends that compvae_fast.backends reads."""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import statistics
import sys
import time
from importlib.metadata import version
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
            except Exception as error:  # a backend's refusal, too little memory, a compiler's complaint, a lost device
                found = {"failed": f"{type(error).__name__}: {error}".partition("\n")[0][:200]}
            yield row | {"by": contestant, "pass": label} | found


def device_lost() -> str:
    """What is wrong where no call of this process can reach the device any more."""
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    return ""


def choice(rows) -> dict:
    """The faster backend of each operation and class of shapes: the least sum of the logarithms of its times. One that
    failed there is none to choose."""
    scores: dict = {}
    for row in rows:
        if row["by"] in ("cuda", "triton"):
            key = row["operation"].removesuffix("_counts"), row["class"]
            scores.setdefault(key, {}).setdefault(row["by"], []).append(row.get("median", math.inf))
    table: dict = {}
    for (operation, shapes), found in sorted(scores.items()):
        means = {name: statistics.geometric_mean(times) for name, times in found.items()}
        fastest = min(means, key=means.__getitem__)
        if means[fastest] < math.inf:
            table.setdefault(operation, {})[shapes] = fastest
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


def write(path: Path, text: str) -> None:
    """The file is there whole, or as it was before."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


def write_rows(out: Path, machine: dict, copied: float, rows: list[dict]) -> None:
    write(out / "gpu.json", json.dumps({"machine": machine, "copy": copied, "rows": rows}, indent=1))
    write(out / "gpu.md", table(rows, copied))


def write_choice(machine: dict, rows: list[dict]) -> None:
    measured_on = {key: machine[key] for key in ("device", "torch", "date")}
    write(backends.GPU_CHOICE, json.dumps({"measured": measured_on, "choices": choice(rows)}, indent=1) + "\n")


def machine() -> dict:
    """Where and with what is measured."""
    return {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "CUDA": torch.version.cuda,
            "triton": version("triton"), "python": platform.python_version(),
            "date": datetime.date.today().isoformat(), "compvae_fast": compvae_fast.__version__,
            "backends": {name: b.reason or "there" for name, b in compvae_fast.backends().items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json and gpu.md")
    parser.add_argument("--seconds", type=float, default=150, help="that all of it may take, about")
    parser.add_argument("--choose", action="store_true",
                        help=f"rewrite {backends.GPU_CHOICE.name}, if there are two to choose from")
    parser.add_argument("--skip", type=int, default=0, help="go on with what is in --out, after so many cases")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    until, here, before = time.monotonic() + options.seconds, machine(), options.out / "gpu.json"
    rows = json.loads(before.read_text())["rows"] if options.skip and before.exists() else []
    choose = options.choose and all(here["backends"][name] == "there" for name in ("cuda", "triton"))
    copied = copy_bandwidth(1.0)
    for index, (name, shape, dtype) in list(enumerate(cases()))[options.skip :]:
        if time.monotonic() > until:
            print(f"gpu-check: no time left for {name} {shape.sets} sets and what follows")
            break
        try:
            for row in measured(name, shape, dtype, 0.15):
                rows.append(row)
                write_rows(options.out, here, copied, rows)
                if why := device_lost():
                    print(f"gpu-check: {name} by {row['by']}, {row['pass']}: {why}; on with a new process", flush=True)
                    left = ["--skip", str(index + 1), "--seconds", str(until - time.monotonic())]
                    os.execv(sys.executable, [sys.executable, "-m", "gpu_check.measure", *sys.argv[1:], *left])
        except torch.cuda.OutOfMemoryError:
            print(f"gpu-check: {name} {shape.sets} x {max(shape.sizes)} x {shape.width} does not fit into memory")
        torch.cuda.empty_cache()
        if choose:
            write_choice(here, rows)
    if failed := [row for row in rows if row["by"] in ("cuda", "triton") and "failed" in row]:
        sys.exit(f"gpu-check: {len(failed)} passes of cuda and triton failed")


if __name__ == "__main__":
    main()
