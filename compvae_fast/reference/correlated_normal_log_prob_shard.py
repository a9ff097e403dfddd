"""One shard of correlated_normal_log_prob: its sums, what it adds to the density, and its parts' gradients.

u = (w - mu) / sigma (unit) or w - mu (scaled); eps = u + rho T, over sigma in "scaled", with T = exp(L) sum u.
The joint stats are rows [4, B, D]: ref = max(0, nu_m), 1/Z = exp(ref - L), T, and exp(L) sum rho eps, over sigma in
"scaled".
"""

from __future__ import annotations

import torch
from torch import Tensor

from compvae_fast.reference.dtypes import like
from compvae_fast.reference.layout import Layout
from compvae_fast.reference.shards import Shard


def sums(inputs: tuple[Tensor, ...], shard: Shard) -> Tensor:
    """ref, sum exp(nu - ref), sum u of w, mu, logvar, rho_logits, each [B, K, D] or [N, D]; float64 [3, B, D]."""
    layout, (_, _, _, logits) = _padded(inputs, shard)
    ref = torch.where(layout.mask, logits, -torch.inf).amax(1).clamp(min=0)
    u, _ = _residual(inputs, shard)
    return torch.stack([ref, layout.sum(torch.exp(logits - layout.expand(ref))), layout.sum(u)])


def squares(inputs: tuple[Tensor, ...], shard: Shard, stats: Tensor) -> Tensor:
    """sum eps^2 + log sigma^2 and sum rho eps, over sigma in "scaled", given three of the joint stats; [2, B, D]."""
    layout, (_, _, logvar, _) = _padded(inputs, shard)
    rho, _, inverse, eps = _noise(inputs, shard, stats)
    return torch.stack([layout.sum(eps.square() + logvar), layout.sum(rho * eps * inverse)])


def backward(grad: Tensor, inputs: tuple[Tensor, ...], shard: Shard, stats: Tensor, needs: list[bool]
             ) -> tuple[Tensor, ...]:
    """Gradients like the inputs, given that of the density [B]."""
    layout, (_, _, logvar, _) = _padded(inputs, shard)
    rho, u, inverse, eps = _noise(inputs, shard, stats)
    g, total, pull = grad.double()[:, None, None], layout.expand(stats[2]), layout.expand(stats[3])
    if shard.coupling == "unit":
        to_w, to_logvar = -(eps + pull) * torch.exp(-logvar / 2), u * (eps + pull) - 1
    else:
        to_w, to_logvar = -(eps * inverse + pull), eps.square() - 1
    gradients = (g * to_w, -g * to_w, g * to_logvar / 2, g * rho * (1 - eps * total * inverse))
    return tuple(like(layout.unpadded(gradient), x) if need else x.new_empty(0)
                 for gradient, x, need in zip(gradients, inputs, needs))


def _padded(inputs: tuple[Tensor, ...], shard: Shard) -> tuple[Layout, list[Tensor]]:
    layout = Layout.of(inputs[0], shard.offsets, shard.lengths)
    return layout, [layout.padded(x.double()) for x in inputs]


def _residual(inputs: tuple[Tensor, ...], shard: Shard) -> tuple[Tensor, Tensor]:
    """u, and what turns it into noise: 1 in "unit", 1 / sigma in "scaled"."""
    _, (w, mu, logvar, _) = _padded(inputs, shard)
    inverse = torch.exp(-logvar / 2)
    return ((w - mu) * inverse, torch.ones_like(inverse)) if shard.coupling == "unit" else (w - mu, inverse)


def _noise(inputs: tuple[Tensor, ...], shard: Shard, stats: Tensor) -> tuple[Tensor, ...]:
    """rho, u, what turns it into noise, and eps."""
    layout, (_, _, _, logits) = _padded(inputs, shard)
    u, inverse = _residual(inputs, shard)
    ref, inverse_z, total = (layout.expand(row) for row in stats[:3])
    rho = torch.exp(logits - ref) * inverse_z
    return rho, u, inverse, (u + rho * total) * inverse
