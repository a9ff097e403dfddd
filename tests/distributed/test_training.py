"""Training on several processes: the steps of one process, checkpoints that any number goes on from, and deaths."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from training.tiny import OPTIONS, finish, start

from compvae_fast.training import BadInput, Failure
from compvae_fast.training.log import read_rows
from compvae_fast.training.processes import together


@pytest.mark.parametrize("set_parallel", [1, 3, 6])
def test_a_grid_of_processes_makes_the_steps_of_one(pool, set_parallel):
    """Seven wholes of one to three parts on 6 x 1, 2 x 3 and 1 x 6 processes: uneven shares and empty ones."""
    pool.run("distributed.checks:trained_steps", set_parallel=set_parallel, steps=3)


def torchrun(*arguments):
    pytest.importorskip("jsonargparse", reason="the command line needs jsonargparse")
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d",
         "--rdzv-endpoint", "localhost:0", "-m", "compvae_fast", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def workers_of(process) -> list[int]:
    """The processes that torchrun started."""
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(process.pid)], capture_output=True, text=True)
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "compvae_fast" in line]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are found by Linux's ps")
def test_a_worker_that_dies_ends_the_run_and_another_number_goes_on(tmp_path):
    command = ["train", "sines-small", "--steps", 30, *OPTIONS]
    long = [*command[:3], 100_000, "--horizon", 30, *command[4:]]
    process = torchrun(*long, "--out", tmp_path / "run", "--set_parallel", 2)
    try:
        log, latest = tmp_path / "run" / "log.jsonl", time.monotonic() + 90
        while process.poll() is None and not (log.exists() and '"step": 10,' in log.read_text()):
            assert time.monotonic() < latest, "no progress"
            time.sleep(0.05)
        os.kill(workers_of(process)[1], signal.SIGKILL)
        died = time.monotonic()
        code, _, err = finish(process)
        assert code != 0 and time.monotonic() - died < 30 and "Signal 9 (SIGKILL)" in err, err
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    before = read_rows(log)
    reached = int(sorted((tmp_path / "run" / "checkpoints").iterdir())[-1].name[5:14])
    code, _, err = finish(start(*command[:3], reached + 7, "--horizon", 30, *command[4:], "--out", tmp_path / "run"))
    assert code == 0 and "processes 2 there, 1 here" in err, err
    after = read_rows(log)
    kept = [row for row in before if row["step"] <= reached]
    assert after[: len(kept)] == kept and after[-1]["step"] > reached - 5
    for one, other in zip(before, after):  # steps that were made twice, by two processes and by one
        assert one["total_nats"] == pytest.approx(other["total_nats"], rel=1e-4)


def test_a_place_to_meet_that_is_taken_is_named(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for name, value in {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, str(value))
        with pytest.raises(Failure, match=f"the processes of this run cannot meet at 127.0.0.1:{port}: .*EADDRINUSE"):
            with together(1, "cpu"):
                pass


def test_a_grid_that_does_not_fit_is_refused():
    with pytest.raises(BadInput, match="--set_parallel: expected 1 for one process, got 2"):
        with together(2, "cpu"):
            pass
