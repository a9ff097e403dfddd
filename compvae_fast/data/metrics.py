"""How close generated wholes are to true ones of the same labels."""

from __future__ import annotations

import math
from collections.abc import Mapping

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
    return energy_distances({"x": x}, y)["x"]


def energy_distances(
    samples: Mapping[str, Tensor], y: Tensor, *, paired: bool = False
) -> dict[str, Tensor]:
    """``energy_distance`` of each of several samples x [n, ...] to the same y [m, ...], by name, each 0-d float64.

    Args:
        paired: row i of x and of y, n = m, may have a cause in common (the same week): E|x-y| is then over different
            rows alone. Without bias as before, and much less moved by chance where the cause is most of what varies.

    Raises:
        ValueError: shapes that differ, or less than two rows.
    """
    for name, x in samples.items():
        if min(x.dim(), y.dim()) < 2 or x.shape[1:] != y.shape[1:] or min(len(x), len(y)) < 2:
            raise ValueError(
                f"{name}, y: expected [n, ...] and [m, ...] with n, m >= 2; got {list(x.shape)} and {list(y.shape)}"
            )
        if paired and len(x) != len(y):
            raise ValueError(f"{name}, y: expected as many rows in pairs, got {len(x)} and {len(y)}")
    # distances stay, and by matrix products their rounding is that of numbers near zero
    centre = y.flatten(1).double().mean(0)
    y = y.flatten(1).double() - centre
    spread, within = (y + centre).std(), _across(y, y, paired=True)
    found = {}
    for name, x in samples.items():
        x = x.flatten(1).double() - centre
        found[name] = (2 * _across(x, y, paired) - _across(x, x, paired=True) - within) / spread
    return found


def _across(x: Tensor, y: Tensor, paired: bool) -> Tensor:
    """Mean distance of a row of x and one of y, of other rows if paired."""
    # cdist takes a matrix product; pdist takes none, and ten times as long where rows are images
    distance = torch.cdist(x, y)
    return distance.fill_diagonal_(0).sum() / (len(x) * (len(x) - 1)) if paired else distance.mean()


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
