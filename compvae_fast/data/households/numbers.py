"""Noise of household-weeks, drawn in the order in which it is asked for."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...random import fold, normal, uniform

_BLOCK = 113


class Numbers:
    """Draws of N pairs (household, week): pure functions of (seed, household, week, place in the order).

    Args:
        seed: of all of them.
        households, weeks: int64 [N].
    """

    def __init__(self, seed: int, households: Tensor, weeks: Tensor) -> None:
        self._seeds = fold(seed, 1), fold(seed, 2)
        self._where = households[:, None], weeks[:, None]
        self._drawn = [torch.empty(len(households), 0), torch.empty(len(households), 0)]
        self._place = [0, 0]

    def uniform(self, *shape: int) -> Tensor:
        """Uniforms in (0, 1], [N, *shape]."""
        return self._draw(0, shape)

    def normal(self, *shape: int) -> Tensor:
        """Standard normals, [N, *shape]."""
        return self._draw(1, shape)

    def _draw(self, kind: int, shape: tuple[int, ...]) -> Tensor:
        first = self._place[kind]
        self._place[kind] = last = first + math.prod(shape)
        held, known = self._drawn[kind], self._drawn[kind].shape[1]
        if last > known:
            # many at once, since each call costs as much as some thousand numbers
            more = torch.arange(known, known + -(-(last - known) // _BLOCK) * _BLOCK)
            held = torch.cat([held, (uniform, normal)[kind](self._seeds[kind], *self._where, more)], 1)
            self._drawn[kind] = held
        return held[:, first:last].reshape(-1, *shape)
