"""A model and a run small enough to train in a test, in this process and by the command."""

import dataclasses
import os
import subprocess
import sys

import pytest

from compvae_fast.training import TrainingConfig, train

RECIPE = {"batch": 4, "k_start": 3, "k_max": 3, "warmup": 3}
MODEL = {"hidden": 8}
RUN = {"log_every": 5, "checkpoint_every": 4, "threads": 1}
OPTIONS = [
    f"--{prefix}{name}={value}"
    for prefix, values in (("recipe.", RECIPE), ("model.", MODEL), ("", RUN))
    for name, value in values.items()
]


def tiny_config(preset="sines-small", *, recipe=None, **settings):
    """What ``train PRESET OPTIONS`` trains."""
    config = TrainingConfig.from_preset(preset, **{"steps": 12, **RUN, **settings})
    return dataclasses.replace(
        config,
        recipe=dataclasses.replace(config.recipe, **{**RECIPE, **(recipe or {})}),
        model=dataclasses.replace(config.model, **MODEL),
    )


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A finished run of twelve steps; tests read it and leave it as it is."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(tiny_config(), folder, show=False)
    return folder


def content(folder):
    """Every file of a run that must be the same bytes for the same command."""
    names = ["config.json", "log.jsonl"]
    names += [f"checkpoints/{path.name}" for path in sorted((folder / "checkpoints").iterdir())]
    return {name: (folder / name).read_bytes() for name in names}


def start(*arguments, **settings):
    """The command in a process of its own, one thread, output piped."""
    return subprocess.Popen(
        [sys.executable, "-m", "compvae_fast", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **settings,
    )


def finish(process, timeout=100):
    """Its exit code, stdout and stderr."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err
