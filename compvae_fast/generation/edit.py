"""Observed wholes with parts taken away and others put in."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from compvae_fast.training import BadInput, Run
from compvae_fast.training.errors import check_seed


@torch.no_grad()
def edit_wholes(
    run: Run,
    x: np.ndarray,
    labels: np.ndarray,
    *,
    remove: list[int],
    add: list[int],
    features: np.ndarray | None = None,
    context: np.ndarray | None = None,
    added_features: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Wholes as they would have been without some of their parts and with new ones.

    The parts' latents are drawn from the posterior; for each label in ``remove`` the first part that has it
    goes; parts drawn from p(w | l) for the labels in ``add`` come in; z stays as encoded.

    Args:
        run: from ``load_run``.
        x: wholes [n, ...] float32.
        labels: of their parts, [n, K] int64.
        remove, add: labels; one that is listed twice counts twice.
        features, context: of the parts, [n, K, F] float32, and of the wholes, [n, C], where the problem has them.
        added_features: of the parts that are added, [M, F].
        seed: of the draws, 0 to 2^64 - 1.

    Returns arrays: x [n, ...], the mean of p(x | z, w~) after the edit, scale [n, ...], its standard
    deviation, labels [n, K'], and reconstruction [n, ...], the mean before the edit; features [n, K', F] and context
    where there are any. Raises BadInput for a whole that has no such part left, and for labels the model does not have.
    """
    check_seed("--seed", seed)
    model = run.model
    order, kept = _removed_last(torch.from_numpy(labels.copy()), remove)
    ordered = torch.from_numpy(labels.copy()).gather(1, order)
    located = None if features is None else torch.from_numpy(features.copy())
    if located is not None:
        located = located.gather(1, order.unsqueeze(-1).expand_as(located))
    under = None if context is None else torch.from_numpy(context.copy())
    new = None if added_features is None else torch.from_numpy(added_features)
    try:
        parts = model.encode(torch.from_numpy(x), ordered, features=located, context=under, seed=seed)
        edited = parts.subset(range(kept))
        if add:
            edited = edited.add(add, features=new, seed=seed)
    except (IndexError, ValueError) as error:
        raise BadInput(str(error)) from error
    after = model.decode(edited)
    described = {"features": edited.features, "context": edited.context}
    return {
        "x": after.mean.numpy(),
        "scale": after.stddev.numpy(),
        "labels": edited.labels.numpy(),
        **{name: values.numpy() for name, values in described.items() if values is not None},
        "reconstruction": model.decode(parts).mean.numpy(),
        "seed": np.uint64(seed),
        "preset": np.str_(model.config.preset),
        "step": np.int64(run.step),
    }


def _removed_last(labels: Tensor, remove: list[int]) -> tuple[Tensor, int]:
    """The order of each row's parts with those to remove at its end, and how many stay."""
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
    return order, labels.shape[1] - len(remove)
