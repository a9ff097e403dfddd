"""How a batch of sets of different sizes lies in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import ops
from .opaque import opaque


@dataclass(frozen=True)
class Sets:
    """The layout of per-part tensors: dense [B, K, D], padded [B, K, D] or ragged [N, D].

    Built by ``Sets.of`` from a tensor of labels; knows how to carry a value of every set to its
    parts and back.

    Args:
        batch: B, the number of sets.
        counts: [B] int64, the parts of each set.
        offsets: [B+1], ragged only.
        lengths: [B], padded only.
        owner: [N] int64, the set of each part, ragged only.
        mask: [B, K] bool, which rows are parts, padded only.
        index: [B] int64, each set's index in the noise; None is 0..B-1.
        all_sets: how many sets the whole batch has, where these are a share of it; None: these are all.
    """

    batch: int
    counts: Tensor
    offsets: Tensor | None = None
    lengths: Tensor | None = None
    owner: Tensor | None = None
    mask: Tensor | None = None
    index: Tensor | None = None
    all_sets: int | None = None

    @classmethod
    def of(cls, labels: Tensor, offsets: Tensor | None = None, lengths: Tensor | None = None) -> Sets:
        """The layout of ``labels``: [B, K], [B, K] with lengths [B], or [N] with offsets [B+1].

        Raises:
            ValueError: both offsets and lengths, a shape that fits neither, or values of offsets
                or lengths (read on the CPU) that do not describe ``labels``.

        >>> Sets.of(torch.ones(5), offsets=torch.tensor([0, 2, 2, 5])).counts
        tensor([2, 0, 3])
        """
        if offsets is not None and lengths is not None:
            raise ValueError("offsets, lengths: expected at most one of them, got both")
        if offsets is not None:
            return cls._ragged(labels, offsets)
        if labels.dim() != 2:
            raise ValueError(
                f"labels: expected [B, K], or [N] with offsets; got shape {list(labels.shape)}"
            )
        batch, width = labels.shape
        if lengths is None:
            counts = torch.full((batch,), width, dtype=torch.int64, device=labels.device)
            return cls(batch, counts)
        _index_tensor("lengths", lengths, (batch,))
        counts = _counts_of_lengths(lengths, width) if lengths.device.type == "cpu" else lengths.to(torch.int64)
        mask = torch.arange(width, device=labels.device) < counts[:, None]
        return cls(batch, counts, lengths=lengths, mask=mask)

    @classmethod
    def _ragged(cls, labels: Tensor, offsets: Tensor) -> Sets:
        if labels.dim() != 1:
            raise ValueError(f"labels: expected [N] beside offsets, got shape {list(labels.shape)}")
        _index_tensor("offsets", offsets, None)
        total = labels.shape[0]
        on_cpu = offsets.device.type == "cpu"
        counts = _counts_of_offsets(offsets, total) if on_cpu else offsets.to(torch.int64).diff()
        batch = counts.shape[0]
        owner = torch.repeat_interleave(
            torch.arange(batch, device=counts.device), counts, output_size=total
        )
        return cls(batch, counts, offsets=offsets, owner=owner)

    @property
    def where(self) -> dict[str, Any]:
        """``offsets`` and ``lengths`` as keyword arguments of the operations."""
        return {"offsets": self.offsets, "lengths": self.lengths}

    def operation(self, name: str) -> Callable[..., Any]:
        """The operation of that name for sets that lie like this."""
        return getattr(ops, name)

    def to_parts(self, values: Tensor) -> Tensor:
        """Every part gets its set's row: [B, D] -> [N, D], or a view of [B, 1, D] that broadcasts."""
        return values.unsqueeze(1) if self.owner is None else values.index_select(0, self.owner)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over each set's parts: [N, D] or [B, K, D] -> [B, D]."""
        if self.offsets is not None:
            return torch.segment_reduce(values, "sum", offsets=self.offsets.to(torch.int64), axis=0)
        if self.mask is not None:
            values = torch.where(self.mask.unsqueeze(-1), values, values.new_zeros(()))
        return values.sum(1)

    def positions(self, parts: int) -> tuple[Tensor, Tensor]:
        """(set, index within the set) of each part, shaped to broadcast beside a coordinate axis.

        ``parts`` is the number of rows: N for ragged sets, K otherwise.
        """
        row = torch.arange(parts, device=self.counts.device)
        if self.owner is None or self.offsets is None:
            sets = torch.arange(self.batch, device=row.device) if self.index is None else self.index
            return sets.view(-1, 1, 1), row.view(1, -1, 1)
        first = self.offsets.to(torch.int64)[:-1].index_select(0, self.owner)
        of_set = self.owner if self.index is None else self.index.index_select(0, self.owner)
        return of_set.unsqueeze(-1), (row - first).unsqueeze(-1)


def linear_of_both(weight: Tensor, bias: Tensor | None, own: Tensor, shared: Tensor | None, sets: Sets) -> Tensor:
    """Linear layer of the concatenation (shared, own), with shared multiplied once per set.

    Args:
        weight: [M, S + P]; bias: [M] or None.
        own: [N, P] or [B, K, P], per part.
        shared: [B, S], per set, or None for S = 0.
        sets: the layout.

    Returns:
        [N, M] or [B, K, M].
    """
    if shared is None:
        return F.linear(own, weight, bias)
    width = shared.shape[-1]
    per_set = F.linear(shared, weight[:, :width], bias)
    return F.linear(own, weight[:, width:]) + sets.to_parts(per_set)


@opaque(lambda lengths, width: lengths.new_empty(lengths.shape, dtype=torch.int64))
def _counts_of_lengths(lengths: Tensor, width: int) -> Tensor:
    """The parts of each set, [B] int64. Raises ValueError where one has more than ``width`` of them."""
    if len(lengths) and not (0 <= lengths.min() and lengths.max() <= width):
        raise ValueError(f"lengths: expected values in 0..{width}, got {lengths.tolist()}")
    return lengths.to(torch.int64, copy=True)


@opaque(lambda offsets, total: offsets.new_empty(offsets.shape[0] - 1, dtype=torch.int64))
def _counts_of_offsets(offsets: Tensor, total: int) -> Tensor:
    """The parts of each set, [B] int64. Raises ValueError where they are not ``total`` in all."""
    counts, values = offsets.to(torch.int64).diff(), offsets.tolist()
    if values[0] != 0 or values[-1] != total or (counts < 0).any():
        raise ValueError(
            f"offsets: expected to rise from 0 to {total}, the number of labels; "
            f"got {values if len(values) < 20 else values[:3] + ['...'] + values[-3:]}"
        )
    return counts


def _index_tensor(name: str, tensor: Tensor, shape: tuple[int, ...] | None) -> None:
    if tensor.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"{name}: expected int32 or int64, got {tensor.dtype}")
    if shape is not None and tuple(tensor.shape) != shape:
        raise ValueError(f"{name}: expected shape {list(shape)}, got {list(tensor.shape)}")
    if shape is None and (tensor.dim() != 1 or tensor.shape[0] < 1):
        raise ValueError(f"{name}: expected shape [B+1], got {list(tensor.shape)}")
