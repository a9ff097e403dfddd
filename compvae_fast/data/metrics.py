"""How close generated wholes are to true ones of the same labels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..random import Stream, fold, normal


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """Energy distance in units of the true values' own spread, without the diagonal.

        (2 E|x-y| - E|x-x'| - E|y-y'|) / s

    Means are U-statistics, so that two samples of one distribution give 0 on average (and may give
    less); s is the standard deviation of all single values of y.

    Args:
        x: [n, ...] generated, n >= 2.
        y: [m, ...] true, m >= 2.

    Returns:
        0-d float64.

    >>> bool(energy_distance(torch.zeros(9, 1) + 3, torch.tensor([[-1.0], [1.0]])) > 2)
    True
    """
    if min(x.dim(), y.dim()) < 2 or x.shape[1:] != y.shape[1:] or min(len(x), len(y)) < 2:
        raise ValueError(
            f"x, y: expected [n, ...] and [m, ...] with n, m >= 2; got {list(x.shape)} and {list(y.shape)}"
        )
    x, y = x.flatten(1).double(), y.flatten(1).double()
    within = sum(torch.pdist(rows).mean() for rows in (x, y))
    return (2 * torch.cdist(x, y).mean() - within) / y.std()


def amplitude_ratio(x: Tensor, y: Tensor) -> Tensor:
    """Standard deviation of all values of x [n, ...] over that of y [m, ...], 0-d float64."""
    return x.double().std() / y.double().std()


def gaussian_fit(y: Tensor, n: int, *, seed: int | Tensor) -> Tensor:
    """n draws [n, ...] of the Gaussian with the mean and covariance of true wholes y [m, ...]."""
    shape = y.shape[1:]
    y = y.flatten(1).double()
    centred = (y - y.mean(0)) / math.sqrt(len(y) - 1)
    weights = standard_normals(seed, n, len(y))
    return (y.mean(0) + weights @ centred).float().view(n, *shape)


def standard_normals(seed: int | Tensor, rows: int, columns: int) -> Tensor:
    """Normals [rows, columns] of the stream of evaluations, float64."""
    seed = fold(seed, Stream.EVALUATION)
    return normal(seed, torch.arange(rows)[:, None], torch.tensor(0), torch.arange(columns)).double()
