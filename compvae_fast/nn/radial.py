"""An invertible map of sums of parts, label by label."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

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

    def forward(self, v: Tensor, counts: Tensor) -> Tensor:
        """The stretched v."""
        centre, reach, extra, scale, offset = self._at(v, counts)
        radius = torch.linalg.vector_norm(offset, dim=-1, keepdim=True)
        return self._with_rest(centre + scale * offset * (1 + extra / (reach + radius)), v)

    def inverse(self, v: Tensor, counts: Tensor) -> Tensor:
        """The v that ``forward`` stretches into this one."""
        centre, reach, extra, scale, offset = self._at(v, counts)
        offset = offset / scale
        stretched = torch.linalg.vector_norm(offset, dim=-1, keepdim=True)
        half = 0.5 * (stretched - reach - extra)
        radius = half + (half.square() + reach * stretched).sqrt()
        return self._with_rest(centre + offset * (reach + radius) / (reach + radius + extra), v)

    def _at(self, v: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """c [B, C, W]; a, a (exp(d) - 1) and exp(g), each [B, C, 1]; v - c [B, C, W]."""
        n = counts.unsqueeze(-1)
        share = (n > 0).to(v.dtype) / n.clamp(min=1)
        centre = n * self.centre
        reach = self.log_reach.exp().expand(len(v), -1, -1)
        extra = reach * torch.expm1(share * self.log_stretch)
        scale = (share * self.log_scale).exp()
        blocks = v[:, : self.labels * self.width].unflatten(1, (self.labels, self.width))
        return centre, reach, extra, scale, blocks - centre

    def _with_rest(self, blocks: Tensor, v: Tensor) -> Tensor:
        return torch.cat([blocks.flatten(1), v[:, self.labels * self.width :]], dim=1)
