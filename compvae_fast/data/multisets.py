"""Random multisets of labels."""

from __future__ import annotations

import torch
from torch import Tensor

from ..nn.sets import Sets
from ..random import Stream, fold, uniform


def set_sizes(
    batch: int,
    k_max: int,
    *,
    seed: int | Tensor,
    k_min: int = 1,
    k_exponent: float = 0.0,
    k_per_batch: int | None = None,
    set_start: int = 0,
    device: torch.device | str | None = None,
) -> Tensor:
    """How many parts each set of ``sample_labels`` has, [B] int64; arguments and errors as there.

    >>> set_sizes(4, 9, seed=0, k_min=9).tolist()
    [9, 9, 9, 9]
    """
    if not 1 <= k_min <= k_max:
        raise ValueError(f"k_min, k_max: expected 1 <= k_min <= k_max, got {k_min} and {k_max}")
    if k_per_batch is not None and (k_per_batch < 1 or batch % k_per_batch):
        raise ValueError(f"k_per_batch: expected a divisor of the batch, {batch}, got {k_per_batch}")
    sets = torch.arange(batch, device=device)
    drawers = sets + set_start if k_per_batch is None else sets * k_per_batch // max(batch, 1)
    zero = torch.zeros((), dtype=torch.int64, device=device)
    sizes = torch.arange(k_min, k_max + 1, dtype=torch.float64, device=device)
    chances = sizes.pow(k_exponent).cumsum(0)
    drawn = uniform(fold(seed, Stream.LABELS), drawers, zero, zero + 4).double() * chances[-1]
    return torch.searchsorted(chances, drawn, right=True).clamp(max=k_max - k_min) + k_min


def labels_at(
    of_set: Tensor, of_part: Tensor, *, labels: tuple[int, int], seed: int | Tensor
) -> Tensor:
    """The labels that ``sample_labels`` gives the parts of these indices, which broadcast."""
    if not labels[0] <= labels[1]:
        raise ValueError(f"labels: expected (smallest, largest), got {labels}")
    zero = torch.zeros((), dtype=torch.int64, device=of_set.device)
    drawn = uniform(fold(seed, Stream.LABELS), of_set, of_part, zero).double()
    span = labels[1] - labels[0] + 1
    return (drawn * span).long().clamp(max=span - 1) + labels[0]


def sample_labels(
    batch: int,
    k_max: int,
    *,
    labels: tuple[int, int],
    seed: int | Tensor,
    k_min: int = 1,
    k_exponent: float = 0.0,
    k_per_batch: int | None = None,
    set_start: int = 0,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Multisets with K parts, P(K) ~ K^k_exponent on k_min..k_max, and uniform labels.

    Args:
        batch: B, the number of sets.
        k_max, k_min: largest and smallest K.
        labels: smallest and largest label.
        seed: int or 0-d int64 tensor.
        k_exponent: 0 is uniform, negative prefers small sets.
        k_per_batch: None lets every set draw its own K, an int G cuts the batch in G equal groups
            of one K each (paper: 1).
        set_start: index of the first set, for a batch drawn in shards (of any sizes when every set
            draws its own K).
        device: of the results.

    Returns:
        (labels [B, K] int64, None) when k_per_batch is 1, else (labels [N], offsets [B+1] int64).

    Raises:
        ValueError: a range that is empty, or a group count that does not divide the batch.

    >>> sample_labels(2, 3, labels=(1, 10), seed=0, k_min=3, k_per_batch=1)[0].shape
    torch.Size([2, 3])
    """
    counts = set_sizes(
        batch, k_max, seed=seed, k_min=k_min, k_exponent=k_exponent, k_per_batch=k_per_batch, set_start=set_start,
        device=device,
    )
    if k_per_batch == 1:
        width = int(counts[0]) if batch else k_min
        shape, offsets = torch.zeros(batch, width, dtype=torch.int64, device=device), None
    else:
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        shape = torch.zeros(int(offsets[-1]), dtype=torch.int64, device=device)
    of_set, of_part = Sets.of(shape, offsets).positions(shape.shape[-1])
    drawn = labels_at(of_set.squeeze(-1) + set_start, of_part.squeeze(-1), labels=labels, seed=seed)
    return drawn, offsets
