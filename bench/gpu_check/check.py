"""`make gpu-check`: builds the CUDA kernels, runs the tests that need a GPU, compute-sanitizer with planted faults that
it must catch, and the benchmarks, a training step's among them; under nine minutes. Needs PyTorch with Triton, NumPy,
pybind11, pytest, hypothesis and the CUDA toolkit; no network. Leaves gpu.json, gpu.md, step.json, step.md, tests.xml
and check.json in the folder --out."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT = 540  # seconds, for all of it


class Check:
    """The steps, each with its time, its end and the last lines of what it printed."""

    def __init__(self, out: Path):
        self.out, self.steps, self.began = out, {}, time.monotonic()
        out.mkdir(parents=True, exist_ok=True)

    def run(self, name: str, *command, limit: float, expect=lambda code, told: code == 0, **environment) -> bool:
        """Whether a command ended as expected within its limit; what it told goes to a file."""
        began = time.monotonic()
        limit = min(limit, LIMIT - (began - self.began))
        variables = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'bench'}", **environment}
        try:
            done = subprocess.run(list(map(str, command)), cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=max(limit, 1))
            code, told = done.returncode, done.stdout
        except subprocess.TimeoutExpired as error:
            code, told = None, (error.stdout or b"").decode(errors="replace") + f"\nstopped after {limit:.0f} s"
        except OSError as error:
            code, told = None, f"{command[0]} cannot be run: {error.strerror}"
        passed = code is not None and expect(code, told)
        (self.out / f"{name}.txt").write_text(told)
        self.steps[name] = {"passed": passed, "seconds": round(time.monotonic() - began, 1), "end": told[-1500:]}
        (self.out / "check.json").write_text(json.dumps(self.steps, indent=1))
        print(f"gpu-check: {name}: {'passed' if passed else 'FAILED'}, {self.steps[name]['seconds']} s", flush=True)
        if not passed:
            print(told[-1500:], flush=True)
        return passed


def sanitize(check: Check, folder: Path) -> None:
    """compute-sanitizer on every kernel, and on planted faults, which it must find."""
    sanitizer = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    planted = folder / "planted"
    check.run("planted", "nvcc", "-o", planted, Path(__file__).parent / "planted.cu", limit=60)
    for tool, fault, words in (("memcheck", "memory", "Invalid __global__ write"), ("racecheck", "race", "hazard")):
        watched = (sanitizer, "--tool", tool, "--error-exitcode", 9)
        check.run(f"{tool}-planted", *watched, planted, fault, limit=60,
                  expect=lambda code, told, words=words: code == 9 and words in told)
        check.run(f"{tool}-none", *watched, planted, "none", limit=60)
        check.run(f"{tool}-kernels", *watched, sys.executable, "-m", "gpu_check.exercise", limit=120,
                  PYTORCH_NO_CUDA_MEMORY_CACHING="1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gpu-check")
    options = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("gpu-check: PyTorch is not installed here")
    if not torch.cuda.is_available():
        sys.exit("gpu-check: there is no CUDA device here")
    if not shutil.which("nvcc"):
        sys.exit("gpu-check: there is no nvcc on the PATH")
    check = Check(options.out)
    folder = ROOT / "build" / "gpu-check"
    architecture = "{}{}".format(*torch.cuda.get_device_capability())
    build = f"from gpu_check.build import *; compiled(Path({str(folder)!r}), {architecture!r})"
    if check.run("build", sys.executable, "-c", build, limit=180):
        check.run("tests", sys.executable, "-m", "pytest", "tests/gpu", "-q", "-m", "gpu", "-p", "no:cacheprovider",
                  f"--junitxml={options.out / 'tests.xml'}", limit=200)
        sanitize(check, folder)
        check.run("training-step", sys.executable, "bench/training_step.py", "--device", "cuda", "--precision", "bf16",
                  "--out", options.out, limit=90)
        print((options.out / "training-step.txt").read_text())
        left = LIMIT - (time.monotonic() - check.began) - 20
        check.run("benchmarks", sys.executable, "-m", "gpu_check.measure", "--out", options.out, "--seconds", left - 20,
                  "--choose", limit=left)
        print((options.out / "benchmarks.txt").read_text())
    failed = [name for name, step in check.steps.items() if not step["passed"]]
    print(f"gpu-check: {len(check.steps) - len(failed)} of {len(check.steps)} steps passed, "
          f"{time.monotonic() - check.began:.0f} s; {options.out}")
    sys.exit(f"gpu-check: failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
