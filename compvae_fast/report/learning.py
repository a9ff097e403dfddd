"""How a model of the 2D problem learned: one picture by the states that its run has kept (thesis figure 9.9)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from compvae_fast.data import dots
from compvae_fast.models import CompVAE
from compvae_fast.random import fold
from compvae_fast.training import Failure, Run
from compvae_fast.training.checkpoint import read_checkpoint
from compvae_fast.training.folder import RunFolder
from compvae_fast.training.state import averaged_model, initial_model

from .chapter import Section
from .figures import images, show

FOLLOWED = (2, 4, 6)
MEASURED, K = 64, 4
MOST = 8
COLUMNS = {"step": "step", "colours": "colours, error", "places": "places, error"}


def learning_section(run: Run, seed: int) -> list[Section]:
    """The section, or none where the run has no states."""
    states = _states(run)
    if len(states) < 2:
        return []
    rows = [{"step": str(step), **_errors(model, seed)} for step, model in states.items()]
    rows.append({"step": "true, other intensities", **_errors(None, seed)})
    text = (
        "The truth, and means of p(x | z, w\u0303) of the same colours and locations, by the run's states: the "
        "first weights, and those it has kept (training with --keep_every keeps more than the last two). Colours: the "
        "difference of images' mean colours from the truth's; places: of what is left without these; both as root mean "
        f"squares over the truth's own, {MEASURED} wholes of {K} parts: 1 where nothing is known."
    )
    return [
        Section(
            "How it learned", text, _picture(states, seed), COLUMNS, rows,
            "Thesis figure 9.9: one image at 0 to 500,000 epochs; colours are right from 200,000 (40 %) on, locations "
            "from about 500,000 (100 %).",
        )
    ]


def _states(run: Run) -> dict[int, CompVAE]:
    """Averaged models by step, the untrained one first."""
    found = {}
    paths = RunFolder(Path(run.path)).checkpoint_paths()[::-1]
    for path in paths[:: -(-len(paths) // MOST)] if paths else []:
        try:
            checkpoint = read_checkpoint(path)
        except Failure as error:
            warnings.warn(f"{error}; left out of the report", stacklevel=2)
        else:
            found[checkpoint.step] = averaged_model(run.config, checkpoint)
    if not found:
        return {}
    return {0: initial_model(run.config).eval().requires_grad_(False), **found, run.step: run.model}


@torch.no_grad()
def _picture(states: dict[int, CompVAE], seed: int) -> Figure:
    figure, axes = images(len(FOLLOWED), 1 + len(states))
    for row, k in enumerate(FOLLOWED):
        asked = dots.PROBLEM.describe(1, k, k_min=k, k_per_batch=1, seed=fold(seed, k))
        show(axes[row][0], dots.PROBLEM.wholes(asked.labels, features=asked.features, seed=seed)[0])
        for column, model in enumerate(states.values(), start=1):
            made = model.generate(asked.labels, features=asked.features, seed=seed, noise=False)
            show(axes[row][column], made[0])
        axes[row][0].set_ylabel(f"K = {k}", fontsize=9)
    for panel, name in zip(axes[0], ("true", *(f"step {step:,}" for step in states))):
        panel.set_title(name, fontsize=8)
    return figure


@torch.no_grad()
def _errors(model: CompVAE | None, seed: int) -> dict[str, Any]:
    """Errors of colours and places of a model's wholes, or of true ones of other intensities."""
    own = fold(seed, MEASURED)
    asked = dots.PROBLEM.describe(MEASURED, K, k_min=K, k_per_batch=1, seed=own)
    true = dots.PROBLEM.wholes(asked.labels, features=asked.features, seed=own)
    if model is None:
        made = dots.PROBLEM.wholes(asked.labels, features=asked.features, seed=fold(own, 1))
    else:
        made = model.generate(asked.labels, features=asked.features, seed=own, noise=False)
    colours, true_colours = (x.mean((2, 3), keepdim=True) for x in (made, true))
    return {
        "colours": _relative(colours - true_colours, true_colours - true_colours.mean(0)),
        "places": _relative((made - colours) - (true - true_colours), true - true_colours),
    }


def _relative(error: Tensor, spread: Tensor) -> float:
    return float((error.square().mean() / spread.square().mean()).sqrt())
