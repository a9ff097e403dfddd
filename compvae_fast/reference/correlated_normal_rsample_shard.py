"""One shard of correlated_normal_rsample: its state, its parts given the joint stats, and their gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from compvae_fast.reference.dtypes import like
from compvae_fast.reference.shards import PARTS_STATE, PARTS_STATS, Parts, Shard, named


def sums(inputs: tuple[Tensor, ...], shard: Shard, density: bool) -> Tensor:
    """The state of mu, logvar, rho_logits, each [B, K, D] or [N, D]; float64, rows of [B, D], the last if density."""
    parts = Parts.of(inputs, inputs[2], shard)
    layout, (_, logvar, logits), eps, *_ = parts
    largest = parts.of_m(logits)
    e = torch.exp(logits - layout.expand(largest.clamp(min=0)))
    noise = eps if shard.coupling == "unit" else torch.exp(logvar / 2) * eps
    rows = [largest, parts.of_m(logvar), parts.of_m(eps), parts.others(e), parts.others(noise),
            layout.sum(eps.square() + logvar)]
    return torch.stack(rows[: len(PARTS_STATE) if density else -1])


def sample(inputs: tuple[Tensor, ...], shard: Shard, stats: Tensor) -> Tensor:
    """w, like mu."""
    (layout, (mu, logvar, logits), eps, *_), of = _joint(inputs, shard, stats)
    return like(layout.unpadded(mu + _noise(shard, of, logvar, logits, eps)), inputs[0])


def centre(grad_w: Tensor, inputs: tuple[Tensor, ...], shard: Shard, stats: Tensor) -> Tensor:
    """a_r, sum_j rho_j (a_j - a_r), sum rho, float64 [3, B, D]; a is the upstream gradient, times sigma in "unit"; r is
    the part with rho > 1/2 or else the first."""
    (layout, (_, logvar, logits, upstream), *_), of = _joint((*inputs, grad_w), shard, stats)
    a, rho = _weighted(shard, logvar, upstream), _rho(of, logits)
    top = (rho > 0.5) & layout.mask
    reference = torch.where(top.any(1), layout.sum(torch.where(top, a, 0)), torch.where(layout.mask, a, 0)[:, 0])
    return torch.stack([reference, layout.sum(rho * (a - layout.expand(reference))), layout.sum(rho)])


def backward(grad_w: Tensor, grad_log_q: Tensor | None, inputs: tuple[Tensor, ...], shard: Shard, stats: Tensor,
             centred: Tensor, needs: list[bool]) -> tuple[Tensor, ...]:
    """Gradients like the inputs, given the joint stats and the first two rows of the joint centre."""
    (layout, (mu, logvar, logits, upstream), eps, *_), of = _joint((*inputs, grad_w), shard, stats)
    reference, offset = (layout.expand(row) for row in (centred[0], centred[0] * stats[5].double() - centred[1]))
    g = mu.new_zeros(()) if grad_log_q is None else grad_log_q.double()[:, None, None]
    along = (_weighted(shard, logvar, upstream) - reference) + offset
    if shard.coupling == "unit":
        to_logvar = upstream * _noise(shard, of, logvar, logits, eps)
    else:
        to_logvar = torch.exp(logvar / 2) * eps * along
    gradients = (upstream, (to_logvar - g) / 2, _rho(of, logits) * (g - of["noise"] * along))
    return tuple(like(layout.unpadded(gradient), x) if need else x.new_empty(0)
                 for gradient, x, need in zip(gradients, inputs, needs))


def _joint(tensors: tuple[Tensor, ...], shard: Shard, stats: Tensor) -> tuple[Parts, dict[str, Tensor]]:
    parts = Parts.of(tensors, tensors[2], shard)
    return parts, named(PARTS_STATS, torch.stack([parts.layout.expand(row.double()) for row in stats]))


def _rho(of: dict[str, Tensor], logits: Tensor) -> Tensor:
    return torch.exp(logits - of["logit"].clamp(min=0)) * of["inverse_z"]


def _weighted(shard: Shard, logvar: Tensor, upstream: Tensor) -> Tensor:
    return torch.exp(logvar / 2) * upstream if shard.coupling == "unit" else upstream


def _noise(shard: Shard, of: dict[str, Tensor], logvar: Tensor, logits: Tensor, eps: Tensor) -> Tensor:
    """w - mu."""
    rho, sigma = _rho(of, logits), torch.exp(logvar / 2)
    top = rho > 0.5
    own = torch.where(top, of["one_minus_rho_m"] * eps, eps)
    others = rho * torch.where(top, of["noise_others"], of["noise"])
    return sigma * (own - others) if shard.coupling == "unit" else sigma * own - others
