"""Dense, ragged and padded sets in one form, [B, K, D] with a mask, so that each formula is written once."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor


def tree_sum(x: Tensor, dim: int) -> Tensor:
    """Sum over ``dim`` by a binary tree of neighbours.

    The same bits for any number of threads, any other rows, and any number of trailing zeros.
    """
    x = x.movedim(dim, -1)
    while x.shape[-1] > 1:
        if x.shape[-1] % 2:
            x = torch.nn.functional.pad(x, (0, 1))
        x = x[..., 0::2] + x[..., 1::2]
    return x.sum(-1)


def tree_expand(x: Tensor, dim: int, size: int) -> Tensor:
    """x, of size 1 along ``dim``, repeated ``size`` times; its gradient is summed as tree_sum does."""
    if not x.requires_grad:
        return x.expand(*x.shape[:dim], size, *x.shape[dim + 1 :])
    x = x.movedim(dim, -1)
    while x.shape[-1] < size:
        x = torch.stack((x, x), -1).flatten(-2)
    return x[..., :size].movedim(-1, dim)


def expand_to(x: Tensor, shape: torch.Size) -> Tensor:
    """x broadcast to ``shape`` by tree_expand."""
    x = x.reshape((1,) * (len(shape) - x.dim()) + tuple(x.shape))
    for dim, size in enumerate(shape):
        if x.shape[dim] != size:
            x = tree_expand(x, dim, size)
    return x


def sum_per_row(x: Tensor) -> Tensor:
    """Sum of x [B, ...] over all dimensions but the first, [B]."""
    return tree_sum(x.reshape(x.shape[0], math.prod(x.shape[1:])), 1)


def one_row_at_least(x: Tensor, dim: int) -> Tensor:
    """x, with a row of zeros where ``dim`` is empty; the graph stays connected, so that gradients exist."""
    if x.shape[dim]:
        return x
    shape = list(x.shape)
    shape[dim] = 1
    return torch.cat([x, x.new_zeros(shape)], dim)


@dataclass(frozen=True)
class Layout:
    """Where the parts of B sets lie.

    mask     [B, K, 1] bool: which slots hold a part; K is at least 1, so that maxima over it exist
    lengths  [B] int64: parts of each set
    starts   [B] int64, ragged only: first row of each set
    rows     rows of a ragged tensor, or slots K of a dense or padded one
    """

    mask: Tensor
    lengths: Tensor
    starts: Tensor | None
    rows: int

    @staticmethod
    def of(x: Tensor, offsets: Tensor | None = None, lengths: Tensor | None = None) -> "Layout":
        """The layout of x: [B, K, ...] (dense, or padded with lengths [B]), or [N, ...] with offsets [B + 1]."""
        starts = None
        if offsets is not None:
            offsets = offsets.to(torch.int64)
            starts, lengths, rows = offsets[:-1], offsets.diff(), x.shape[0]
            slots = int(lengths.max()) if lengths.numel() else 0
        else:
            slots = rows = x.shape[1]
            if lengths is None:
                lengths = torch.full((x.shape[0],), slots, device=x.device)
            lengths = lengths.to(torch.int64)
        slot = torch.arange(max(slots, 1), device=x.device)
        return Layout((slot < lengths[:, None])[..., None], lengths, starts, rows)

    def where(self, mask: Tensor) -> "Layout":
        """The same slots, of which only those in mask [B, K] hold a part; lengths then count them."""
        mask = self.padded(mask)[..., None] & self.mask
        return replace(self, mask=mask, lengths=mask.sum((1, 2)))

    def padded(self, x: Tensor) -> Tensor:
        """x as [B, K, ...] with 0 in the slots that hold no part, whatever x has there; their gradient is 0."""
        x = one_row_at_least(x, 0 if self.starts is not None else 1)
        if self.starts is not None:
            slot = torch.arange(self.mask.shape[1], device=x.device)
            x = x[(self.starts[:, None] + slot).clamp(max=x.shape[0] - 1)]
        mask = self.mask if x.dim() == 3 else self.mask[..., 0]
        return torch.where(mask, x, x.new_zeros(()))

    def unpadded(self, x: Tensor) -> Tensor:
        """The inverse of padded, with 0 in a padded tensor's empty slots."""
        if self.starts is None:
            return torch.where(self.mask, x, 0)[:, : self.rows]
        sets = torch.repeat_interleave(self.lengths, output_size=self.rows)
        slots = torch.arange(self.rows, device=x.device) - self.starts[sets]
        return x[sets, slots]

    def sum(self, x: Tensor) -> Tensor:
        """Sum of x [B, K, D] over the parts of each set, [B, D]; what empty slots hold does not matter."""
        return tree_sum(torch.where(self.mask, x, 0), 1)

    def expand(self, x: Tensor) -> Tensor:
        """x [B, D], something of a whole set, at each of its parts, [B, K, D]."""
        return tree_expand(x[:, None], 1, self.mask.shape[1])

    @property
    def count(self) -> Tensor:
        """The number of parts K of each set, float64 [B, 1, 1]."""
        return self.lengths.to(torch.float64)[:, None, None]
