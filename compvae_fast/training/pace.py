"""How many steps fit a time on this machine, and with how many threads."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path

import torch

from .config import TrainingConfig
from .errors import BadInput
from .folder import RunFolder, read_config
from .loop import advance
from .state import TrainingState
from .threads import at_most

WARM_UP, TIMED, LONG_ENOUGH = 3, 40, 4.0
ROUND = 100


def seconds_per_step(config: TrainingConfig) -> float:
    """Measured on a model that is thrown away, halfway through its recipe's schedules."""
    with at_most(config.threads):
        state = TrainingState(config)
        state.step = config.recipe.steps // 2
        for _ in range(WARM_UP):
            advance(state)
        begun, steps = time.perf_counter(), 0
        while steps < TIMED and time.perf_counter() - begun < LONG_ENOUGH:
            advance(state)
            steps += 1
        return (time.perf_counter() - begun) / steps


def paced(config: TrainingConfig, out: Path, minutes: float) -> TrainingConfig:
    """``config`` with as many steps as fit ``minutes``, no more than its recipe's, and the threads that are faster.

    A second thread slows small products down where other work keeps the processors busy, so one is tried too.
    A run that ``out`` holds already keeps the steps and threads it was begun with, so that the same command
    resumes it. Raises BadInput for a time that is none.
    """
    if not 0 < minutes < math.inf:
        raise BadInput(f"minutes: expected more than 0, got {minutes}")
    folder = RunFolder(out)
    if folder.config_path.exists():
        stored = read_config(folder)
        return dataclasses.replace(config, steps=stored["steps"], threads=stored["identity"]["threads"])
    choices = [dataclasses.replace(config, threads=threads) for threads in sorted({1, torch.get_num_threads()})]
    fastest = min((seconds_per_step(choice), choice.threads) for choice in choices)
    fitting = int(60 * minutes / fastest[0]) // ROUND * ROUND
    steps = min(max(fitting, ROUND), config.recipe.steps)
    return dataclasses.replace(config, steps=steps, threads=fastest[1])
