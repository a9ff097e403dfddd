"""Observed wholes with parts taken away and others put in."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from compvae_fast.training import BadInput, Run


@torch.no_grad()
def edit_wholes(
    run: Run,
    x: np.ndarray,
    labels: np.ndarray,
    *,
    remove: list[int],
    add: list[int],
    seed: int = 0,
) -> dict[str, Any]:
    """Wholes as they would have been without some of their parts and with new ones.

    The parts' latents are drawn from the posterior; for each label in ``remove`` the first part that has it
    goes; parts drawn from p(w | l) for the labels in ``add`` come in; z stays as encoded.

    Args:
        run: from ``load_run``.
        x: wholes [n, 200] float32.
        labels: of their parts, [n, K] int64.
        remove, add: labels; one that is listed twice counts twice.
        seed: of the draws.

    Returns arrays: x [n, 200], the mean of p(x | z, w~) after the edit, scale [n, 200], its standard
    deviation, labels [n, K'], and reconstruction [n, 200], the mean before the edit. Raises BadInput for
    a whole that has no such part left, and for labels the model does not have.
    """
    model = run.model
    kept_first, kept = _removed_last(torch.from_numpy(labels.copy()), remove)
    try:
        parts = model.encode(torch.from_numpy(x), kept_first, seed=seed)
        edited = parts.subset(range(kept))
        if add:
            edited = edited.add(add, seed=seed)
    except IndexError as error:
        raise BadInput(str(error)) from error
    after = model.decode(edited)
    return {
        "x": after.mean.numpy(),
        "scale": after.stddev.numpy(),
        "labels": edited.labels.numpy(),
        "reconstruction": model.decode(parts).mean.numpy(),
        "seed": np.uint64(seed),
        "preset": np.str_(model.config.preset),
        "step": np.int64(run.step),
    }


def _removed_last(labels: Tensor, remove: list[int]) -> tuple[Tensor, int]:
    """Each row with the parts to remove moved to its end, and how many stay."""
    stays = torch.ones_like(labels, dtype=torch.bool)
    for label in remove:
        here = (labels == label) & stays
        if not here.any(1).all():
            row = int((~here.any(1)).nonzero()[0])
            raise BadInput(
                f"--remove: whole {row} has no part of label {label} left; its labels are {labels[row].tolist()}"
            )
        stays[torch.arange(len(labels)), here.int().argmax(1)] = False
    order = torch.argsort((~stays).int(), dim=1, stable=True)
    return labels.gather(1, order), labels.shape[1] - len(remove)
