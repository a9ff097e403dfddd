"""An invertible map of sums of parts, label by label."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

START_REACH = 0.4


class RadialFlow(nn.Module):
    """Stretches each label's block of coordinates about a centre of its own, in a way that can be undone.

        v' = c + exp(g) e (1 + a (exp(d) - 1) / (a + |e|)),  e = v - c

    Lengths near the centre are stretched by exp(g + d), far from it by exp(g); a > 0 says where one becomes the
    other. So a Gaussian can become a shell and a shell a Gaussian. Of a label with n parts c / n, a, n d and n g
    are learned: as a sum of many parts becomes Gaussian by itself, the flow becomes the identity. The block of a
    label with no part stays as it is, as do coordinates beyond C equal blocks. Starts as the identity.

    Args:
        labels: C.
        features: D >= C; each label's block is D // C wide.

    Shapes (forward and inverse): v [B, D] and counts [B, C] of v's dtype -> [B, D].
    Source: Rezende and Mohamed, "Variational inference with normalizing flows", 2015, eq. 14, which is g = 0.

    >>> flow = RadialFlow(2, 6)
    >>> v, counts = torch.randn(5, 6), torch.tensor([1.0, 2.0]).expand(5, 2)
    >>> torch.allclose(flow.inverse(flow(v, counts), counts), v, atol=1e-6)
    True
    """

    def __init__(self, labels: int, features: int) -> None:
        super().__init__()
        self.labels, self.width = labels, features // labels
        self.centre = nn.Parameter(torch.zeros(labels, self.width))
        self.log_reach = nn.Parameter(torch.full((labels, 1), math.log(START_REACH)))
        self.log_stretch = nn.Parameter(torch.zeros(labels, 1))
        self.log_scale = nn.Parameter(torch.zeros(labels, 1))

    # Both maps are v plus an offset times what its factor has beyond 1, so that near the identity nothing cancels.

    def forward(self, v: Tensor, counts: Tensor) -> Tensor:
        """The stretched v."""
        reach, extra, log_scale, offset = self._at(v, counts)
        radius = torch.linalg.vector_norm(offset, dim=-1, keepdim=True)
        beyond = log_scale.expm1() + log_scale.exp() * extra / (reach + radius)
        return self._added(v, offset * beyond)

    def inverse(self, v: Tensor, counts: Tensor) -> Tensor:
        """The v that ``forward`` stretches into this one."""
        reach, extra, log_scale, offset = self._at(v, counts)
        stretched = torch.linalg.vector_norm(offset, dim=-1, keepdim=True) * (-log_scale).exp()
        half = 0.5 * (stretched - reach - extra)
        far = reach + half + (half.square() + reach * stretched).sqrt()
        beyond = ((-log_scale).expm1() * far - extra) / (far + extra)
        return self._added(v, offset * beyond)

    def _at(self, v: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """a, a (exp(d) - 1) and g, [C, 1] or [B, C, 1]; v - c [B, C, W]."""
        n = counts.unsqueeze(-1)
        share = (n > 0).to(v.dtype) / n.clamp(min=1)
        reach = self.log_reach.exp()
        extra = reach * torch.expm1(share * self.log_stretch)
        blocks = v[:, : self.labels * self.width].unflatten(1, (self.labels, self.width))
        return reach, extra, share * self.log_scale, blocks - n * self.centre

    def _added(self, v: Tensor, moved: Tensor) -> Tensor:
        """v with its blocks moved, and the rest as it is."""
        return v + F.pad(moved.flatten(1), (0, v.shape[1] - self.labels * self.width))
