"""Training in a process of its own: killed, interrupted, and out of disk."""

import random
import resource
import signal
import time

import pytest

from .tiny import OPTIONS, content, finish, start

pytest.importorskip("jsonargparse", reason="the command line needs jsonargparse")

STEPS = 40
COMMAND = ["train", "sines-small", "--steps", STEPS, "--seed", 3, *OPTIONS]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    code, _, err = finish(start(*COMMAND, "--out", folder))
    assert code == 0, err
    return folder


def at_step(process, folder, step, timeout=60):
    """Wait until the log shows ``step``, or the process is over."""
    log, latest = folder / "log.jsonl", time.monotonic() + timeout
    while process.poll() is None and not (log.exists() and f'"step": {step},' in log.read_text()):
        assert time.monotonic() < latest, "no progress"
        time.sleep(0.002)


def test_killed_at_any_moment_it_ends_in_the_bytes_of_the_uninterrupted_run(tmp_path, uninterrupted):
    folder, moments = tmp_path / "run", random.Random(0)
    for step in (5, 15, 25):
        process = start(*COMMAND, "--out", folder)
        at_step(process, folder, step)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        finish(process)
    code, _, err = finish(start(*COMMAND, "--out", folder))
    assert code == 0, err
    assert content(folder) == content(uninterrupted)


def test_ctrl_c_saves_says_how_to_go_on_and_exits_with_130(tmp_path, uninterrupted):
    folder = tmp_path / "run"
    process = start(*COMMAND, "--out", folder)
    at_step(process, folder, 10)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130
    assert "the same command goes on from there" in err and "Traceback" not in err
    saved = sorted((folder / "checkpoints").iterdir())[-1].name
    assert f"stopped at step {int(saved[5:14])} of {STEPS}" in err
    code, _, err = finish(start(*COMMAND, "--out", folder))
    assert code == 0, err
    last = f"checkpoints/step-{STEPS:09d}.safetensors"
    assert content(folder)[last] == content(uninterrupted)[last]
    assert content(folder)["log.jsonl"] == content(uninterrupted)["log.jsonl"]


def test_a_disk_that_fills_up_leaves_the_last_good_state(tmp_path, uninterrupted):
    """Files are limited to less than a checkpoint after the first ones: a write then fails halfway."""
    folder = tmp_path / "run"
    first = ["train", "sines-small", "--steps", 20, "--horizon", STEPS, "--seed", 3, *OPTIONS, "--out", folder]
    code, _, err = finish(start(*first))
    assert code == 0, err
    before = {path.name: path.read_bytes() for path in (folder / "checkpoints").iterdir()}
    limit = len(before["step-000000020.safetensors"]) // 2
    process = start(
        *COMMAND, "--out", folder, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    code, _, err = finish(process)
    assert code == 1
    assert "compvae_fast: error: cannot write" in err and "File too large" in err and "Traceback" not in err
    assert {path.name: path.read_bytes() for path in (folder / "checkpoints").iterdir()} == before
    code, _, err = finish(start(*COMMAND, "--out", folder))
    assert code == 0, err
    last = f"checkpoints/step-{STEPS:09d}.safetensors"
    assert content(folder)[last] == content(uninterrupted)[last]
    assert content(folder)["log.jsonl"] == content(uninterrupted)["log.jsonl"]
