"""How the shards' states become the numbers of the whole set: w~, the KL, and what each part's gradient needs.

The formulas are those of csrc/cpu/multiset.h, in float64 and once for each set and coordinate. m, the part with the
largest logit of all, stays out of the sums; every other shard's own m joins them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compvae_fast.distributed.wire import Wire
from compvae_fast.reference.posterior_shard import OF_M, Row


def joined(wire: Wire, state: Tensor, present: Tensor, coupling: str) -> Tensor:
    """The state [STATE, B, D] of the union of all shards, the same bits on every rank; ``present`` [B]: who has parts.

    Four collectives of 15 rows of [B, D] together.
    """
    present = present[:, None]
    logit = torch.where(present, state[Row.LOGIT], -torch.inf)
    largest = wire.largest(logit)
    owner = wire.smallest(torch.where(present & (logit == largest), wire.rank, wire.size))
    mine = owner == wire.rank
    of_m = wire.sum(torch.where(mine, state[:OF_M], 0))
    of_m[Row.LOGIT] = largest
    sums = _relative_to(of_m, state, present & ~mine, coupling)
    return torch.cat([of_m, wire.sum(torch.where(present, sums, 0))])


def _relative_to(of_m: Tensor, state: Tensor, joins: Tensor, coupling: str) -> Tensor:
    """A shard's sums relative to the joint m; its own m is among them where it ``joins``."""
    logit, logvar_q, logvar_p, difference, normal, others, base, trace, squares, noise, means, spread, shift = state
    ref = of_m[Row.LOGIT].clamp(min=0)
    rescale, e = torch.exp(logit.clamp(min=0) - ref), torch.where(joins, torch.exp(logit - ref), 0)
    x = logvar_q - logvar_p
    ratio, precision, sigma = torch.exp(x), torch.exp(-logvar_p), torch.exp(logvar_q / 2)
    excess = torch.expm1(x) - x + difference.square() * precision
    unit = coupling == "unit"
    others = others * rescale + e
    noise = noise + torch.where(joins, normal if unit else sigma * normal, 0)
    shift = shift * rescale
    if unit:
        change = torch.where(joins, -sigma * torch.expm1((of_m[Row.LOGVAR_Q] - logvar_q) / 2), 0)
        spread, shift = spread + change * noise, shift + change * others
    else:
        spread = spread + torch.where(joins, sigma.square(), 0)
    return torch.stack([
        others,
        base + torch.where(joins, excess, 0),
        trace * rescale + e * torch.where(joins, ratio, 0),
        squares * rescale.square() + e.square() * torch.where(joins, ratio if unit else precision, 0),
        noise, means, spread, shift,
    ])


def finished(state: Tensor, counts: Tensor, coupling: str) -> tuple[Tensor, Tensor, Tensor]:
    """(w~ [B, D], KL [B], the joint rows [JOINT, B, D]) of a joint state; counts [B] parts of each set; float64."""
    logit, logvar_q, logvar_p, difference, normal, others, base, trace, squares, noise, means, spread, shift = state
    some = counts[:, None] > 0
    count = counts[:, None].to(torch.float64)
    ref = logit.clamp(min=0)
    one, e_m = torch.exp(-ref), torch.where(some, torch.exp(logit - ref), 0)
    z = one + others + e_m
    inverse_z = 1 / z
    rho_m, one_minus_rho, rest = e_m * inverse_z, (one + others) * inverse_z, one * inverse_z
    sigma_m, ratio_m, precision_m = torch.exp(logvar_q / 2), torch.exp(logvar_q - logvar_p), torch.exp(-logvar_p)
    first, second = trace * inverse_z, squares * inverse_z.square()
    quadratic = difference.square() * precision_m
    if coupling == "unit":
        total = noise + normal
        factor = sigma_m * rest - shift * inverse_z
        noise_of_sum = spread + factor * total
        factor_m = one_minus_rho.square() + (count - 1) * rho_m.square()
        trace_others, trace_m = count * second - 2 * first, factor_m * ratio_m
        y_m, h_others = ratio_m * ((count - 1) * rho_m - one_minus_rho), count * second - first
        own = [total, noise, factor, sigma_m, factor_m, count.expand_as(z)]
    else:
        total = noise + sigma_m * normal
        noise_of_sum = rest * total
        variance = spread + sigma_m.square()
        trace_others = second * variance - 2 * first
        trace_m = one_minus_rho.square() * ratio_m + rho_m.square() * spread * precision_m
        y_m = rho_m * spread * precision_m - one_minus_rho * ratio_m
        h_others = second * variance - first
        own = [total, rest, variance, spread, second + rho_m.square() * precision_m, second]
    terms = (base + trace_others + (trace_m + quadratic - 1) - (logvar_q - logvar_p)) / 2 + ref + torch.log(z)
    kl = torch.where(some, terms, 0).sum(1)
    w_sum = torch.where(some, means + noise_of_sum, 0)
    return w_sum, kl, torch.stack([ref, inverse_z, one_minus_rho, rho_m * y_m + h_others, h_others, *own])
