"""`make gpu-check`: builds the CUDA kernels, runs the tests that need a GPU, compute-sanitizer with planted faults that
it must catch, and the benchmarks, a training step's among them; under nine minutes. Needs PyTorch with Triton, NumPy,
pybind11, pytest, hypothesis and the CUDA toolkit; no network. Leaves gpu.json, gpu.md, step.json, step.md, the tests'
reports and check.json in the folder --out, what a step printed in a file of its name, and whatever came out before a
step failed, or before Ctrl-C."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "gpu-check"
NEEDED = ("torch", "triton", "numpy", "pybind11", "pytest", "hypothesis")
LIMIT = 525.0  # seconds, for all steps
GRACE = 10.0  # for a step to leave its results when it is stopped
# The steps in order, each with the seconds that are kept for it; it may also take what those before it have left.
KEPT = {"build": 90, "tests-cuda": 90, "tests-triton": 70, "planted": 15,
        "memcheck-none": 8, "memcheck-planted": 8, "memcheck-kernels": 45,
        "racecheck-none": 8, "racecheck-planted": 8, "racecheck-kernels": 55,
        "training-step": 40, "benchmarks": 85}


class Check:
    """The steps that were run, each with its time, its end and the last lines of what it printed."""

    def __init__(self, out: Path, limit: float = LIMIT):
        self.out, self.limit, self.steps, self.began = out, limit, {}, time.monotonic()
        out.mkdir(parents=True, exist_ok=True)
        for file in out.iterdir():  # of an earlier run
            if file.suffix in (".json", ".md", ".txt", ".xml"):
                file.unlink()

    def left_for(self, name: str) -> float:
        """How many seconds a step may take."""
        later = list(KEPT)[list(KEPT).index(name) + 1 :]
        return self.limit - (time.monotonic() - self.began) - sum(KEPT[step] for step in later)

    def run(self, name: str, *command, expect: Callable[[int, str], bool] = lambda code, told: code == 0,
            **environment: str) -> bool:
        """Whether a command ended as expected within its time; what it prints goes to a file."""
        began, limit, told = time.monotonic(), self.left_for(name), self.out / f"{name}.txt"
        code, why = None, "stopped by Ctrl-C"
        try:
            with open(told, "w") as file:
                code = _run(command, max(limit, 1.0), file, environment)
            why = f"stopped after {limit:.0f} s" if code is None else ""
        except OSError as error:
            why = f"{command[0]} cannot be run: {error.strerror}"
        finally:
            with open(told, "a") as file:
                file.write(why and why + "\n")
            text = told.read_text(errors="replace")
            passed = code is not None and expect(code, text)
            self.record(name, passed, text, time.monotonic() - began)
        return passed

    def record(self, name: str, passed: bool, told: str, seconds: float = 0.0) -> None:
        """Keeps how a step ended, and tells of it."""
        self.steps[name] = {"passed": passed, "seconds": round(seconds, 1), "end": told[-1500:]}
        (self.out / "check.json").write_text(json.dumps(self.steps, indent=1))
        print(f"gpu-check: {name}: {'passed' if passed else 'FAILED'}, {seconds:.1f} s", flush=True)
        if not passed:
            print(told[-1500:], flush=True)

    def show(self, name: str) -> None:
        """Prints a table, where a step left it."""
        with suppress(FileNotFoundError):
            print((self.out / name).read_text(), flush=True)

    def summary(self) -> str:
        """How it went, for the last line; the names of the steps that failed."""
        failed = [name for name, step in self.steps.items() if not step["passed"]]
        print(f"gpu-check: {len(self.steps) - len(failed)} of {len(self.steps)} steps passed, "
              f"{time.monotonic() - self.began:.0f} s; {self.out}", flush=True)
        return ", ".join(failed)


def _run(command, limit: float, output, environment: dict[str, str]) -> int | None:
    """The exit code, or None where the time was over; nothing of what the command started is left running."""
    variables = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'bench'}", "PYTHONUNBUFFERED": "1", **environment}
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, env=variables, stdin=subprocess.DEVNULL,
                               stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        return None
    finally:
        try:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)  # pytest then writes its report
                process.wait(GRACE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def tests(check: Check, backend: str) -> None:
    """The tests that need a GPU, those of Triton apart."""
    name, words = f"tests-{backend}", "triton" if backend == "triton" else "not triton"
    check.run(name, sys.executable, "-m", "gpu_check.tests", check.out / name, "-k", words,
              OMP_NUM_THREADS="1")  # the judge's calls are small


def sanitize(check: Check, built: bool) -> None:
    """compute-sanitizer on every kernel, and on planted faults, which it must find."""
    if not shutil.which("compute-sanitizer"):
        check.record("planted", False, "compute-sanitizer is not installed here\n")
        return
    planted = WORK / "planted"
    if not check.run("planted", "nvcc", "-o", planted, Path(__file__).parent / "planted.cu"):
        return
    for tool, fault, words in (("memcheck", "memory", "Invalid __global__ write"), ("racecheck", "race", "hazard")):
        watched = ("compute-sanitizer", "--tool", tool, "--error-exitcode", 9)
        check.run(f"{tool}-none", *watched, planted, "none")
        check.run(f"{tool}-planted", *watched, planted, fault,
                  expect=lambda code, told, words=words: code == 9 and words in told)
        if built:
            check.run(f"{tool}-kernels", *watched, sys.executable, "-m", "gpu_check.exercise",
                      PYTORCH_NO_CUDA_MEMORY_CACHING="1")


def steps(check: Check, architecture: str) -> None:
    """All of them; what needs no CUDA module goes on without one."""
    build = f"from gpu_check.build import *; compiled(Path({str(WORK)!r}), {architecture!r})"
    built = check.run("build", sys.executable, "-c", build)
    for backend in ("cuda", "triton") if built else ("triton",):
        tests(check, backend)
    sanitize(check, built)
    check.run("training-step", sys.executable, "bench/training_step.py", "--device", "cuda", "--precision", "bf16",
              "--out", check.out)
    check.show("step.md")
    check.run("benchmarks", sys.executable, "-m", "gpu_check.measure", "--out", check.out, "--choose",
              "--seconds", check.left_for("benchmarks") - GRACE)
    check.show("gpu.md")


def architecture() -> str:
    """That of this machine's device ("90"); ends the program where something is missing."""
    if missing := [name for name in NEEDED if not find_spec(name)]:
        sys.exit(f"gpu-check: not installed here: {', '.join(missing)}")
    import torch

    if not torch.cuda.is_available():
        sys.exit("gpu-check: there is no CUDA device here")
    return "{}{}".format(*torch.cuda.get_device_capability())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gpu-check")
    options = parser.parse_args()
    began, device = time.monotonic(), architecture()
    os.environ["PATH"] += ":/usr/local/cuda/bin"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    WORK.mkdir(parents=True, exist_ok=True)
    with open(WORK / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("gpu-check: another one is at work in this folder")
        check = Check(options.out.resolve(), LIMIT - (time.monotonic() - began))
        try:
            steps(check, device)
        except KeyboardInterrupt:
            check.summary()
            sys.exit(130)
        failed = check.summary()
        sys.exit(f"gpu-check: failed: {failed}" if failed else 0)


if __name__ == "__main__":
    main()
