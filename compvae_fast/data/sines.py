"""The 1D problem: sums of sines behind a saturation, drawn on the fly.

    x(t) = K tanh(C/K sum_i a_i cos(2 pi l_i t/T + k_i)),  a ~ N(1, 0.3), k ~ N(0, pi/2)

t = 0..199, T = 100, C = 3, l in 1..10; second arguments are standard deviations. All draws are pure
functions of (seed, set, part), so that data do not depend on how the sets are shared out.
Source: paper section 4.2, thesis eq. 9.15.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from ..nn.sets import Sets
from ..random import Stream, fold, normal
from .metrics import standard_normals
from .problem import Description, Problem

LENGTH = 200
PERIOD = 100
SATURATION = 3.0
LABELS = (1, 10)
AMPLITUDE_MEAN = 1.0
AMPLITUDE_DEVIATION = 0.3
PHASE_DEVIATION = math.pi / 2


def amplitudes_and_phases(
    labels: Tensor,
    *,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    seed: int | Tensor,
    phase_deviation: float = PHASE_DEVIATION,
    set_start: int = 0,
    part_start: int = 0,
) -> tuple[Tensor, Tensor]:
    """The parts' own (a, k): a ~ N(1, 0.3), k ~ N(0, phase_deviation) in radians.

    Args:
        labels: [B, K], or [N] with offsets [B+1]; only the shape matters.
        offsets, lengths: the layout.
        seed: int or 0-d int64 tensor; set_start: index of the first set; part_start: of each set's first part.

    Returns:
        Two float32 tensors like ``labels``.
    """
    of_set, of_part = Sets.of(labels, offsets, lengths).positions(labels.shape[-1])
    draws = normal(
        fold(seed, Stream.DATA), of_set + set_start, of_part + part_start, torch.arange(2, device=labels.device)
    )
    amplitude, phase = draws.unbind(-1)
    return AMPLITUDE_MEAN + AMPLITUDE_DEVIATION * amplitude, phase_deviation * phase


def basis(labels: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """cos and sin of 2 pi l t/T for every label, float64 [labels, 2, 200]; not to be written into."""
    # what is made while a CUDA graph is captured is the graph's own, and not for others
    return _basis(labels, device) if device is None or device.type != "cpu" else _kept_basis(labels)


@functools.cache
def _kept_basis(labels: tuple[int, int]) -> Tensor:
    return _basis(labels, torch.device("cpu"))


def _basis(labels: tuple[int, int], device: torch.device | None) -> Tensor:
    t = torch.arange(LENGTH, dtype=torch.float64, device=device)
    label = torch.arange(labels[0], labels[1] + 1, dtype=torch.float64, device=device)
    angle = (2 * math.pi / PERIOD) * torch.remainder(label[:, None] * t, PERIOD)
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def curves(labels: Tensor, amplitudes: Tensor, phases: Tensor) -> Tensor:
    """Every part alone, before any saturation: a cos(2 pi l t/T + k).

    Args:
        labels: int64, any shape; amplitudes, phases: the same shape.

    Returns:
        [..., 200], of the dtype of ``amplitudes``.

    >>> curves(torch.tensor([1]), torch.tensor([2.0]), torch.tensor([0.0]))[0, ::50]
    tensor([ 2., -2.,  2., -2.])
    """
    t = torch.arange(LENGTH, device=labels.device)
    cycle = torch.remainder(labels.unsqueeze(-1) * t, PERIOD).double()
    angle = (2 * math.pi / PERIOD) * cycle + phases.unsqueeze(-1).double()
    return (amplitudes.unsqueeze(-1).double() * angle.cos()).to(amplitudes.dtype)


def combine(curves: Tensor, *, offsets: Tensor | None = None, lengths: Tensor | None = None) -> Tensor:
    """Wholes of part curves: K tanh(C/K sum of the set's curves); an empty set is 0.

    Args:
        curves: [B, K, 200], or [N, 200] with offsets [B+1].

    Returns:
        [B, 200], of the dtype of ``curves``.
    """
    sets = Sets.of(curves.select(-1, 0), offsets, lengths)
    return _saturate(sets.sum(curves.double()), sets.counts).to(curves.dtype)


def _saturate(total: Tensor, counts: Tensor) -> Tensor:
    counts = counts.to(total.dtype).unsqueeze(-1)
    return counts * torch.tanh(SATURATION * total / counts.clamp(min=1))


def wholes(
    labels: Tensor,
    *,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    seed: int | Tensor,
    phase_deviation: float = PHASE_DEVIATION,
    set_start: int = 0,
    part_start: int = 0,
    within: tuple[int, int] | None = None,
) -> Tensor:
    """True wholes of the labels, their amplitudes and phases drawn by ``amplitudes_and_phases``.

    The curves of equal frequency are added as two numbers, a cos k and a sin k, before they become
    curves, at a cost per set that hardly depends on K.

    Args:
        labels: [B, K], padded with lengths [B], or [N] with offsets [B+1].
        within: smallest and largest label, where they are known: nothing then waits for a device.

    Returns:
        x [B, 200] float32.

    >>> wholes(torch.tensor([[1, 1, 5, 7]]), seed=0).shape
    torch.Size([1, 200])
    """
    sets = Sets.of(labels, offsets, lengths)
    amplitude, phase = amplitudes_and_phases(
        labels, offsets=offsets, lengths=lengths, seed=seed, phase_deviation=phase_deviation,
        set_start=set_start, part_start=part_start,
    )
    if labels.numel() == 0:
        return torch.zeros(sets.batch, LENGTH, device=labels.device)
    amplitude, phase = amplitude.double(), phase.double()
    owner = sets.to_parts(torch.arange(sets.batch, device=labels.device).unsqueeze(-1)).squeeze(-1)
    if sets.mask is not None:
        amplitude = torch.where(sets.mask, amplitude, 0.0)
        labels = torch.where(sets.mask, labels, labels[sets.mask].min() if within is None else within[0])
    low, high = (int(labels.min()), int(labels.max())) if within is None else within
    table = basis((low, high), labels.device)
    pair = torch.stack([amplitude * phase.cos(), -amplitude * phase.sin()], dim=-1)
    cell = (owner * table.shape[0] + labels - low).reshape(-1)
    sums = pair.new_zeros(sets.batch * table.shape[0], 2).index_add_(0, cell, pair.reshape(-1, 2))
    total = sums.view(sets.batch, -1) @ table.view(-1, LENGTH)
    return _saturate(total, sets.counts).float()


def part_moments() -> tuple[tuple[float, float], tuple[float, float]]:
    """Means and standard deviations of a part's (a cos k, a sin k), whose covariance is 0.

    From E cos k = exp(-v/2) and E cos 2k = exp(-2v) for the phase's variance v.

    >>> [[round(v, 3) for v in pair] for pair in part_moments()]
    [[0.291, 0.0], [0.681, 0.736]]
    """
    variance = PHASE_DEVIATION**2
    square = AMPLITUDE_MEAN**2 + AMPLITUDE_DEVIATION**2
    mean = AMPLITUDE_MEAN * math.exp(-variance / 2)
    deviation_cos = math.sqrt(square * (1 + math.exp(-2 * variance)) / 2 - mean**2)
    deviation_sin = math.sqrt(square * (1 - math.exp(-2 * variance)) / 2)
    return (mean, 0.0), (deviation_cos, deviation_sin)


def two_moment_parts(labels: Tensor, n: int, *, seed: int | Tensor) -> Tensor:
    """n wholes [n, 200] of parts known by their first two moments behind the exact saturation.

    Args:
        labels: [K], one multiset.
    """
    means, deviations = torch.tensor(part_moments(), dtype=torch.float64)
    noise = standard_normals(seed, n, 2 * len(labels)).view(n, len(labels), 2)
    cosine, sine = (means + deviations * noise).unbind(-1)
    phase, amplitude = torch.atan2(sine, cosine), torch.hypot(sine, cosine)
    return combine(curves(labels.expand(n, -1), amplitude, phase)).float()


class Sines(Problem):
    """The 1D problem as models, trainer and report know it."""

    name = "sines"
    shape = (LENGTH,)
    labels = LABELS
    grows_with_parts = True
    recipe_options = ("phase_deviation",)
    axis = "t"
    true_up_to = 1000
    takes_within = True

    def example(self):
        return Description(torch.tensor([[1, 1, 5, 7]]), None)

    def wholes(self, labels, *, features=None, context=None, **options):
        self.check(features, context)
        return wholes(labels, **options)

    def rivals(self, labels, n, *, seed, **given):
        return {**super().rivals(labels, n, seed=seed, **given), "moments": two_moment_parts(labels, n, seed=seed)}


PROBLEM = Sines()
draw = PROBLEM.draw
sample_labels = PROBLEM.sample_labels
