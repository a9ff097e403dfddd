"""What a grid is dimensioned by: peak, sustained peak and flexibility of weekly curves."""

from __future__ import annotations

from torch import Tensor

HALF_HOURS_PER_HOUR = 2


def peak(x: Tensor) -> Tensor:
    """The largest value of every curve [B, T] -> [B].

    >>> import torch
    >>> peak(torch.tensor([[1.0, 5.0, 2.0]]))
    tensor([5.])
    """
    return x.amax(-1)


def sustained_peak(x: Tensor, hours: float = 8.0) -> Tensor:
    """The largest value that every curve of half hours [B, T] reaches for so many hours in total, [B].

    >>> import torch
    >>> sustained_peak(torch.tensor([[1.0, 5.0, 2.0, 4.0]]), hours=1.0)
    tensor([4.])
    """
    count = round(hours * HALF_HOURS_PER_HOUR)
    if not 1 <= count <= x.shape[-1]:
        raise ValueError(f"hours: expected 0.5 to {x.shape[-1] / HALF_HOURS_PER_HOUR:g}, got {hours}")
    return x.topk(count, dim=-1).values[..., -1]


def flexibility(x: Tensor) -> Tensor:
    """How far every curve [B, T] is from the constant one of the same energy: sum over t of |x - mean|, [B].

    Source: thesis 9.3.3.

    >>> import torch
    >>> flexibility(torch.tensor([[1.0, 5.0, 3.0]]))
    tensor([4.])
    """
    return (x - x.mean(-1, keepdim=True)).abs().sum(-1)


def distance(x: Tensor, y: Tensor, counts: Tensor) -> Tensor:
    """Sum over the week of |x - y| per household: [B, T], [B, T] and households [B] -> [B], kW.

    Source: thesis 9.3.3, footnote 7.
    """
    return (x - y).abs().sum(-1) / counts
