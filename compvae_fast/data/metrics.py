"""How close generated wholes of the 1D problem are to true ones of the same labels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..random import Stream, fold, normal
from . import sines


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """Energy distance in units of the true values' own spread, without the diagonal.

        (2 E|x-y| - E|x-x'| - E|y-y'|) / s

    Means are U-statistics, so that two samples of one distribution give 0 on average (and may give
    less); s is the standard deviation of all single values of y.

    Args:
        x: [n, T] generated, n >= 2.
        y: [m, T] true, m >= 2.

    Returns:
        0-d float64.

    >>> bool(energy_distance(torch.zeros(9, 1) + 3, torch.tensor([[-1.0], [1.0]])) > 2)
    True
    """
    if x.dim() != 2 or y.dim() != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(
            f"x, y: expected [n, T] and [m, T] with n, m >= 2; got {list(x.shape)} and {list(y.shape)}"
        )
    x, y = x.double(), y.double()
    within = sum(torch.pdist(rows).mean() for rows in (x, y))
    return (2 * torch.cdist(x, y).mean() - within) / y.std()


def amplitude_ratio(x: Tensor, y: Tensor) -> Tensor:
    """Standard deviation of all values of x [n, T] over that of y [m, T], 0-d float64."""
    return x.double().std() / y.double().std()


def gaussian_fit(y: Tensor, n: int, *, seed: int | Tensor) -> Tensor:
    """n draws [n, T] of the Gaussian with the mean and covariance of true wholes y [m, T]."""
    y = y.double()
    centred = (y - y.mean(0)) / math.sqrt(len(y) - 1)
    weights = _normal(seed, n, len(y))
    return (y.mean(0) + weights @ centred).float()


def separately_saturated(labels: Tensor, n: int, *, seed: int | Tensor) -> Tensor:
    """n sums [n, 200] of the labels' parts, each saturated alone: the plain Monte-Carlo simulator.

    Args:
        labels: [K], one multiset.

    Source: paper section 4.1 and figure 2.
    """
    labels = labels.expand(n, -1)
    parts = sines.curves(labels, *sines.amplitudes_and_phases(labels, seed=seed))
    return torch.tanh(sines.SATURATION * parts).sum(1)


def part_moments() -> tuple[tuple[float, float], tuple[float, float]]:
    """Means and standard deviations of a part's (a cos k, a sin k), whose covariance is 0.

    From E cos k = exp(-v/2) and E cos 2k = exp(-2v) for the phase's variance v.

    >>> [[round(v, 3) for v in pair] for pair in part_moments()]
    [[0.291, 0.0], [0.681, 0.736]]
    """
    variance = sines.PHASE_DEVIATION**2
    square = sines.AMPLITUDE_MEAN**2 + sines.AMPLITUDE_DEVIATION**2
    mean = sines.AMPLITUDE_MEAN * math.exp(-variance / 2)
    deviation_cos = math.sqrt(square * (1 + math.exp(-2 * variance)) / 2 - mean**2)
    deviation_sin = math.sqrt(square * (1 - math.exp(-2 * variance)) / 2)
    return (mean, 0.0), (deviation_cos, deviation_sin)


def two_moment_parts(labels: Tensor, n: int, *, seed: int | Tensor) -> Tensor:
    """n wholes [n, 200] of parts known by their first two moments behind the exact saturation.

    Args:
        labels: [K], one multiset.
    """
    means, deviations = torch.tensor(part_moments(), dtype=torch.float64)
    noise = _normal(seed, n, 2 * len(labels)).view(n, len(labels), 2)
    cosine, sine = (means + deviations * noise).unbind(-1)
    phase, amplitude = torch.atan2(sine, cosine), torch.hypot(sine, cosine)
    return sines.combine(sines.curves(labels.expand(n, -1), amplitude, phase)).float()


def _normal(seed: int | Tensor, rows: int, columns: int) -> Tensor:
    seed = fold(seed, Stream.EVALUATION)
    return normal(seed, torch.arange(rows)[:, None], torch.tensor(0), torch.arange(columns)).double()
