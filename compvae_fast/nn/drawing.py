"""Draws of which every row may have a seed and an index of its own."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import ops
from ..ops.prior_sum import OPERATION
from ..random import Stream, fold, normal
from ..reference.noise import fold as fold_any_shape


def fold_each(seed: int | Tensor, stream: Stream) -> int | Tensor:
    """``fold`` of one seed, or of each of [B]."""
    if isinstance(seed, Tensor) and seed.dim():
        return fold_any_shape(seed, int(stream))
    return fold(seed, stream)


def row_normals(seed: int | Tensor, rows: Tensor, width: int) -> Tensor:
    """Standard normals [B, D] of part 0 of the sets ``rows`` [B], under one seed or under seeds [B]."""
    columns = torch.arange(width, device=rows.device)
    if not (isinstance(seed, Tensor) and seed.dim()):
        return normal(seed, rows[:, None], rows.new_zeros(()), columns)
    standard = torch.zeros(len(rows), width, device=rows.device)
    each = torch.arange(len(rows) + 1, device=rows.device)
    return OPERATION(standard, standard, each[:-1], None, each, None, seed, rows, None, False)[0]


def gaussian_rows(mu: Tensor, logvar: Tensor, seed: int | Tensor, rows: Tensor | None = None) -> Tensor:
    """One draw of each row [B, ...] of a diagonal Gaussian, rows counted as sets; logvar broadcasts to mu."""
    if rows is None:
        rows = torch.arange(len(mu), device=mu.device)
    return mu + (0.5 * logvar).exp() * row_normals(seed, rows, math.prod(mu.shape[1:])).view(mu.shape)


def prior_sum(labels: Tensor | None, mu: Tensor, logvar: Tensor, *, seed: int | Tensor, **options: Any) -> Tensor:
    """``ops.prior_sum`` under one seed, or under seeds [B]."""
    if not (isinstance(seed, Tensor) and seed.dim()):
        return ops.prior_sum(labels, mu, logvar, seed=seed, **options)
    asked = (options.get(name) for name in ("counts", "offsets", "lengths"))
    return OPERATION(mu, logvar, labels, *asked, seed, options.get("set_index"), None, False)[0]
