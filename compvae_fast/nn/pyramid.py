"""Curves and images taken apart into a small, smooth version and corrections to it, and put together again."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

MODES = {1: ("nearest", "linear"), 2: ("nearest", "bilinear")}


class Pyramid:
    """x <-> (x_0, e_1, .., e_N), a linear bijection.

        x_{i-1} = mean of x_i over blocks of 2 (curves) or 2 x 2 values (images)
        x_i = up(x_{i-1}) + Q e_i

    up interpolates, and then moves each block so that its mean is x_{i-1} again; Q's columns are an orthonormal basis
    of the block's corrections of mean zero: 1 for curves, 3 for images. So e_i has exactly the values that x_{i-1}
    leaves open, and ``volume`` is log |det| of the map from (x_0, e_1, .., e_N) to x.

    Args:
        size: of the last dimensions of x, (T,) or (H, W), each divisible by 2^depth.
        depth: N >= 0.
        mode: of the interpolation; "linear" or "bilinear" (the default of curves, images), or "nearest".

    Source: thesis eq. 6.3 and section 9.3.3; Burt and Adelson, "The Laplacian pyramid as a compact image code", 1983,
    made critical as in a lifting scheme.

    >>> pyramid = Pyramid((8,), 2)
    >>> [list(level.shape) for level in pyramid.split(torch.randn(5, 8))]
    [[5, 2], [5, 2, 1], [5, 4, 1]]
    """

    def __init__(self, size: tuple[int, ...], depth: int, mode: str | None = None) -> None:
        if len(size) not in MODES:
            raise ValueError(f"size: expected (T,) or (H, W), got {size}")
        if depth < 0 or any(side % 2**depth for side in size):
            raise ValueError(f"depth: expected sides {size} divisible by 2^depth, got depth {depth}")
        self.mode = MODES[len(size)][1] if mode is None else mode
        if self.mode not in MODES[len(size)]:
            raise ValueError(f"mode: expected one of {', '.join(MODES[len(size)])}, got {mode!r}")
        self.size, self.depth = tuple(size), depth
        self.sizes = [tuple(side // 2 ** (depth - level) for side in size) for level in range(depth + 1)]
        self.values = math.prod(size)
        blocks = sum(math.prod(coarse) for coarse in self.sizes[:-1])
        self.volume = 0.5 * len(size) * math.log(2) * blocks

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of x_0, e_1, .., e_N, without leading dimensions."""
        return [self.sizes[0], *((*coarse, 2 ** len(self.size) - 1) for coarse in self.sizes[:-1])]

    def split(self, x: Tensor) -> list[Tensor]:
        """[x_0, e_1, .., e_N] of x [..., *size]."""
        corrections = []
        for _ in range(self.depth):
            coarse, x_blocks = self.down(x), x
            corrections.append(self._corrections(x_blocks - self.up(coarse)))
            x = coarse
        return [x, *reversed(corrections)]

    def join(self, levels: list[Tensor]) -> Tensor:
        """The inverse of ``split``; fewer levels give x_0 or a smaller version of x."""
        x, *corrections = levels
        for correction in corrections:
            x = self.up(x) + self.fine(correction)
        return x

    def up(self, coarse: Tensor) -> Tensor:
        """The next larger version of x_{i-1} [..., *side] without a correction."""
        dims = len(self.size)
        lead, side = coarse.shape[:-dims], coarse.shape[-dims:]
        doubled = [2 * length for length in side]
        repeated = F.interpolate(coarse.reshape(-1, 1, *side), size=doubled, mode="nearest").reshape(*lead, *doubled)
        if self.mode == "nearest":
            return repeated
        smooth = F.interpolate(coarse.reshape(-1, 1, *side), size=doubled, mode=self.mode).reshape(*lead, *doubled)
        off = coarse - self.down(smooth)
        return smooth + F.interpolate(off.reshape(-1, 1, *side), size=doubled).reshape(*lead, *doubled)

    def fine(self, correction: Tensor) -> Tensor:
        """Q e_i: what a correction [..., *side, 2^dims - 1] adds to the values of its blocks, [..., *(2 side)]."""
        return self._from_blocks(correction @ self._basis(correction).T)

    def matrix(self, like: Tensor) -> Tensor:
        """The map as a matrix [values, values]: x.flatten() = matrix @ (x_0, e_1, ..).flatten()."""
        return _matrix(self.size, self.depth, self.mode).to(like)

    def down(self, x: Tensor) -> Tensor:
        """The next smaller version of x_i [..., *side]: means of its blocks."""
        return self._to_blocks(x).mean(-1)

    def _corrections(self, x: Tensor) -> Tensor:
        return self._to_blocks(x) @ self._basis(x)

    def _basis(self, like: Tensor) -> Tensor:
        """Q [2^dims, 2^dims - 1]: Haar's differences."""
        pair = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=like.dtype, device=like.device) / math.sqrt(2)
        square = pair if len(self.size) == 1 else torch.kron(pair, pair)
        return square[:, 1:]

    def _to_blocks(self, x: Tensor) -> Tensor:
        """[..., *side] -> [..., *(side / 2), 2^dims]."""
        if len(self.size) == 1:
            return x.unflatten(-1, (-1, 2))
        return x.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).transpose(-3, -2).flatten(-2)

    def _from_blocks(self, blocks: Tensor) -> Tensor:
        if len(self.size) == 1:
            return blocks.flatten(-2)
        return blocks.unflatten(-1, (2, 2)).transpose(-3, -2).flatten(-2).flatten(-3, -2)


@lru_cache(maxsize=8)
def _matrix(size: tuple[int, ...], depth: int, mode: str) -> Tensor:
    pyramid = Pyramid(size, depth, mode)
    unit = torch.eye(pyramid.values, dtype=torch.float64)
    columns = unit.split([math.prod(shape) for shape in pyramid.shapes], dim=1)
    levels = [column.unflatten(1, shape) for column, shape in zip(columns, pyramid.shapes)]
    return pyramid.join(levels).flatten(1).T.contiguous()
