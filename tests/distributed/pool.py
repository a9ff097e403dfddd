"""Six processes joined by gloo, started once, that run named checks in step; and their end, whatever happens."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

SIZE = 6
TESTS = Path(__file__).resolve().parents[1]


class Pool:
    def __init__(self, size: int = SIZE):
        self.size = size
        self._folder = tempfile.TemporaryDirectory()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "distributed.pool", str(rank), str(size), f"{self._folder.name}/store"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=TESTS,
                env=environment,
            )
            for rank in range(size)
        ]

    def run(self, check: str, timeout: float = 120, **arguments) -> list:
        """What ``check``, "module:function", returns on each rank; an error on any rank is raised here."""
        for process in self._processes:
            process.stdin.write(json.dumps([check, arguments]) + "\n")
            process.stdin.flush()
        timer = threading.Timer(timeout, self.close)
        timer.start()
        try:
            answers = [process.stdout.readline() for process in self._processes]
        finally:
            timer.cancel()
        results = []
        for rank, answer in enumerate(answers):
            told = json.loads(answer) if answer else {"error": "it ended, or took too long"}
            if "error" in told:
                self.close()
                raise AssertionError(f"{check} on rank {rank}: {told['error']}")
            results.append(told["value"])
        return results

    def alive(self) -> bool:
        return all(process.poll() is None for process in self._processes)

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def end(self) -> None:
        self.close()
        for process in self._processes:
            process.communicate()
        self._folder.cleanup()


def _serve(rank: int, size: int, store: str) -> None:
    import torch
    import torch.distributed as dist

    answers, sys.stdout = sys.stdout, sys.stderr
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    groups = {n: dist.new_group(range(n)) for n in range(1, size + 1)}
    torch.set_num_threads(1)
    for line in sys.stdin:
        check, arguments = json.loads(line)
        module, function = check.split(":")
        try:
            value = getattr(importlib.import_module(module), function)(groups, rank, **arguments)
            told = {"value": value}
        except BaseException:
            told = {"error": traceback.format_exc()}
        print(json.dumps(told), file=answers, flush=True)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
