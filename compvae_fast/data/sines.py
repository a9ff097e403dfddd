"""The 1D problem: sums of sines behind a saturation, drawn on the fly.

    x(t) = K tanh(C/K sum_i a_i cos(2 pi l_i t/T + k_i)),  a ~ N(1, 0.3), k ~ N(0, pi/2)

t = 0..199, T = 100, C = 3, l in 1..10; second arguments are standard deviations. All draws are pure
functions of (seed, set, part), so that data do not depend on how the sets are shared out.
Source: paper section 4.2, thesis eq. 9.15.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..nn.sets import Sets
from ..random import Stream, fold, normal, uniform

LENGTH = 200
PERIOD = 100
SATURATION = 3.0
LABELS = (1, 10)
AMPLITUDE_MEAN = 1.0
AMPLITUDE_DEVIATION = 0.3
PHASE_DEVIATION = math.pi / 2


class Batch(NamedTuple):
    """Wholes x [B, 200] and the labels of their parts: [B, K], or [N] with offsets [B+1]."""

    x: Tensor
    labels: Tensor
    offsets: Tensor | None


def sample_labels(
    batch: int,
    k_max: int,
    *,
    seed: int | Tensor,
    k_min: int = 1,
    k_exponent: float = 0.0,
    k_per_batch: int | None = None,
    labels: tuple[int, int] = LABELS,
    set_start: int = 0,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Multisets with K parts, P(K) ~ K^k_exponent on k_min..k_max, and uniform labels.

    Args:
        batch: B, the number of sets.
        k_max, k_min: largest and smallest K.
        seed: int or 0-d int64 tensor.
        k_exponent: 0 is uniform, negative prefers small sets.
        k_per_batch: None lets every set draw its own K, an int G cuts the batch in G equal groups
            of one K each (paper: 1).
        labels: smallest and largest label.
        set_start: index of the first set, for a batch drawn in shards (of any sizes when every set
            draws its own K).
        device: of the results.

    Returns:
        (labels [B, K] int64, None) when k_per_batch is 1, else (labels [N], offsets [B+1] int64).

    Raises:
        ValueError: a range that is empty, or a group count that does not divide the batch.

    >>> sample_labels(2, 3, seed=0, k_min=3, k_per_batch=1)[0].shape
    torch.Size([2, 3])
    """
    if not 1 <= k_min <= k_max:
        raise ValueError(f"k_min, k_max: expected 1 <= k_min <= k_max, got {k_min} and {k_max}")
    if not labels[0] <= labels[1]:
        raise ValueError(f"labels: expected (smallest, largest), got {labels}")
    if k_per_batch is not None and (k_per_batch < 1 or batch % k_per_batch):
        raise ValueError(f"k_per_batch: expected a divisor of the batch, {batch}, got {k_per_batch}")
    seed = fold(seed, Stream.LABELS)
    sets = torch.arange(batch, device=device)
    drawers = sets + set_start if k_per_batch is None else sets * k_per_batch // max(batch, 1)
    zero = torch.zeros((), dtype=torch.int64, device=device)
    sizes = torch.arange(k_min, k_max + 1, dtype=torch.float64, device=device)
    chances = sizes.pow(k_exponent).cumsum(0)
    counts = torch.searchsorted(
        chances, uniform(seed, drawers, zero, zero + 4).double() * chances[-1], right=True
    ).clamp(max=k_max - k_min) + k_min
    if k_per_batch == 1:
        width = int(counts[0]) if batch else k_min
        shape, offsets = torch.zeros(batch, width, dtype=torch.int64, device=device), None
    else:
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        shape = torch.zeros(int(offsets[-1]), dtype=torch.int64, device=device)
    of_set, of_part = Sets.of(shape, offsets).positions(shape.shape[-1])
    drawn = uniform(seed, of_set + set_start, of_part, zero).double().squeeze(-1)
    span = labels[1] - labels[0] + 1
    return (drawn * span).long().clamp(max=span - 1) + labels[0], offsets


def amplitudes_and_phases(
    labels: Tensor,
    *,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    seed: int | Tensor,
    phase_deviation: float = PHASE_DEVIATION,
    set_start: int = 0,
) -> tuple[Tensor, Tensor]:
    """The parts' own (a, k): a ~ N(1, 0.3), k ~ N(0, phase_deviation) in radians.

    Args:
        labels: [B, K], or [N] with offsets [B+1]; only the shape matters.
        offsets, lengths: the layout.
        seed: int or 0-d int64 tensor; set_start: index of the first set.

    Returns:
        Two float32 tensors like ``labels``.
    """
    of_set, of_part = Sets.of(labels, offsets, lengths).positions(labels.shape[-1])
    draws = normal(
        fold(seed, Stream.DATA), of_set + set_start, of_part, torch.arange(2, device=labels.device)
    )
    amplitude, phase = draws.unbind(-1)
    return AMPLITUDE_MEAN + AMPLITUDE_DEVIATION * amplitude, phase_deviation * phase


def basis(labels: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """cos and sin of 2 pi l t/T for every label, float64 [labels, 2, 200]."""
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
) -> Tensor:
    """True wholes of the labels, their amplitudes and phases drawn by ``amplitudes_and_phases``.

    The curves of equal frequency are added as two numbers, a cos k and a sin k, before they become
    curves, at a cost per set that hardly depends on K.

    Args:
        labels: [B, K], padded with lengths [B], or [N] with offsets [B+1].

    Returns:
        x [B, 200] float32.

    >>> wholes(torch.tensor([[1, 1, 5, 7]]), seed=0).shape
    torch.Size([1, 200])
    """
    sets = Sets.of(labels, offsets, lengths)
    amplitude, phase = amplitudes_and_phases(
        labels, offsets=offsets, lengths=lengths, seed=seed, phase_deviation=phase_deviation,
        set_start=set_start,
    )
    if labels.numel() == 0:
        return torch.zeros(sets.batch, LENGTH, device=labels.device)
    amplitude, phase = amplitude.double(), phase.double()
    owner = sets.to_parts(torch.arange(sets.batch, device=labels.device).unsqueeze(-1)).squeeze(-1)
    if sets.mask is not None:
        amplitude = torch.where(sets.mask, amplitude, 0.0)
        labels = torch.where(sets.mask, labels, labels[sets.mask].min())
    low, high = int(labels.min()), int(labels.max())
    table = basis((low, high), labels.device)
    pair = torch.stack([amplitude * phase.cos(), -amplitude * phase.sin()], dim=-1)
    cell = (owner * table.shape[0] + labels - low).reshape(-1)
    sums = pair.new_zeros(sets.batch * table.shape[0], 2).index_add_(0, cell, pair.reshape(-1, 2))
    total = sums.view(sets.batch, -1) @ table.view(-1, LENGTH)
    return _saturate(total, sets.counts).float()


def draw(
    batch: int,
    k_max: int,
    *,
    seed: int | Tensor,
    k_min: int = 1,
    k_exponent: float = 0.0,
    k_per_batch: int | None = None,
    labels: tuple[int, int] = LABELS,
    phase_deviation: float = PHASE_DEVIATION,
    set_start: int = 0,
    device: torch.device | str | None = None,
) -> Batch:
    """A training batch: the arguments of ``sample_labels``, and true ``wholes`` of the labels.

    >>> draw(4, 2, seed=1).x.shape
    torch.Size([4, 200])
    """
    drawn, offsets = sample_labels(
        batch, k_max, seed=seed, k_min=k_min, k_exponent=k_exponent, k_per_batch=k_per_batch,
        labels=labels, set_start=set_start, device=device,
    )
    x = wholes(
        drawn, offsets=offsets, seed=seed, phase_deviation=phase_deviation, set_start=set_start
    )
    return Batch(x, drawn, offsets)
