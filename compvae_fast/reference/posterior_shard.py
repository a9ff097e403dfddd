"""One shard of sets whose parts are spread over processes: what it adds to the joint sums, and its parts' gradients.

Rows of the state, [STATE, B, D]: five numbers of m, the shard's part with the largest logit; then sums over its other
parts, relative to ref = max(0, nu_m), with e_i = exp(nu_i - ref), d_i = sigma_i - sigma_m, R_i = sigma_i^2 / s_i^2. The
rows of joint numbers, [JOINT, B, D], are those that `compvae_fast.distributed` makes of all shards' states.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from compvae_fast.reference.dtypes import like
from compvae_fast.reference.layout import Layout
from compvae_fast.reference.noise import set_normals64


class Row(IntEnum):
    """Rows of the state. SPREAD and SHIFT: d eps and e d in "unit", sigma^2 and nothing in "scaled"."""

    LOGIT = 0
    LOGVAR_Q = 1
    LOGVAR_P = 2
    DIFFERENCE = 3
    NORMAL = 4
    OTHERS = 5  # e
    BASE = 6  # R - 1 - log R + (mu - m)^2 / s^2
    TRACE = 7  # e R
    SQUARES = 8  # e^2 R (unit), e^2 / s^2 (scaled)
    NOISE = 9  # eps (unit), sigma eps (scaled)
    MEANS = 10  # mu, of all parts
    SPREAD = 11
    SHIFT = 12


STATE = len(Row)
OF_M = 5  # the rows that are not sums
JOINT = 11


class Shard(NamedTuple):
    """Where a shard's parts lie, in memory and in the noise."""

    offsets: Tensor | None
    lengths: Tensor | None
    coupling: str
    seed: Tensor
    set_index: Tensor | None
    part_start: Tensor | None


def _padded(inputs: tuple[Tensor, ...], shard: Shard) -> tuple[Layout, list[Tensor], Tensor]:
    layout = Layout.of(inputs[0], shard.offsets, shard.lengths)
    padded = [layout.padded(x.double()) for x in inputs]
    eps = set_normals64(shard.seed, (*padded[0].shape,), shard.set_index, shard.part_start)
    return layout, padded, eps


def forward(inputs: tuple[Tensor, ...], shard: Shard) -> Tensor:
    """The state of mu_q, logvar_q, rho_logits, mu_p, logvar_p, each [B, K, D] or [N, D]; float64 [STATE, B, D]."""
    layout, (mu_q, logvar_q, logits, mu_p, logvar_p), eps = _padded(inputs, shard)
    logits = torch.where(layout.mask, logits, -torch.inf)
    m = logits.argmax(1, keepdim=True)
    top = torch.zeros_like(layout.mask.expand_as(logits)).scatter(1, m, True) & layout.mask

    def of_m(x: Tensor) -> Tensor:
        return torch.where(layout.mask.any(1), x.gather(1, m)[:, 0], 0)

    def others(x: Tensor) -> Tensor:
        return layout.sum(torch.where(top, 0, x))

    largest = logits.gather(1, m)[:, 0]
    e = torch.exp(logits - layout.expand(largest.clamp(min=0)))
    x = logvar_q - logvar_p
    difference, ratio, precision, sigma = mu_q - mu_p, torch.exp(x), torch.exp(-logvar_p), torch.exp(logvar_q / 2)
    unit = shard.coupling == "unit"
    logvar_m = layout.expand(of_m(logvar_q))
    excess = torch.exp(logvar_m / 2) * torch.expm1((logvar_q - logvar_m) / 2)
    return torch.stack([
        largest, of_m(logvar_q), of_m(logvar_p), of_m(difference), of_m(eps),
        others(e), others(torch.expm1(x) - x + difference.square() * precision), others(e * ratio),
        others(e.square() * (ratio if unit else precision)), others(eps if unit else sigma * eps), layout.sum(mu_q),
        others(excess * eps if unit else sigma.square()), others(e * excess) if unit else torch.zeros_like(largest),
    ])


def backward(grad_w: Tensor | None, grad_kl: Tensor | None, inputs: tuple[Tensor, ...], shard: Shard, joint: Tensor,
             needs: list[bool]) -> tuple[Tensor, ...]:
    """Gradients like the inputs, given those of the joint w~ [B, D] and kl [B] and the joint rows."""
    layout, (mu_q, logvar_q, logits, mu_p, logvar_p), eps = _padded(inputs, shard)
    rows = [layout.expand(row.double()) for row in joint]
    ref, inverse_z, one_minus_rho, h_all, h_others = rows[:5]
    zero = mu_q.new_zeros(())
    g_w = zero if grad_w is None else layout.expand(grad_w.double())
    g = zero if grad_kl is None else grad_kl.double()[:, None, None]
    x, difference = logvar_q - logvar_p, mu_q - mu_p
    rho, sigma = torch.exp(logits - ref) * inverse_z, torch.exp(logvar_q / 2)
    ratio, precision = torch.exp(x), torch.exp(-logvar_p)
    quadratic, growth = difference.square() * precision, torch.expm1(x)
    top = rho > 0.5
    rest = torch.where(top, one_minus_rho, 1)
    if shard.coupling == "unit":
        noise, noise_others, factor, sigma_m, factor_m, count = rows[5:]
        to_logvar_q = torch.where(top, ratio * factor_m - 1, growth + ratio * (count * rho - 2) * rho)
        to_logvar_p = -(quadratic + to_logvar_q)
        y = ratio * torch.where(top, (count - 1) * rho - one_minus_rho, count * rho - 1)
        from_noise = sigma * (rest * eps - rho * torch.where(top, noise_others, noise))
        to_logit = noise * (sigma - sigma_m + factor)
    else:
        total, left, v, v_others, q, q_others = rows[5:]
        own = torch.where(top, ratio * rest.square() - 1, growth - 2 * rho * ratio)
        shared = rho * precision * torch.where(top, v_others, v)
        to_logvar_q = own + sigma.square() * torch.where(top, q_others, q)
        to_logvar_p = -(quadratic + own + rho * shared)
        y = shared - rest * ratio
        from_noise = left * sigma * eps
        to_logit = left * total
    h = torch.where(top, y * one_minus_rho - h_others, y - h_all)
    to_mean = g * difference * precision
    gradients = (
        g_w + to_mean, (g * to_logvar_q + g_w * from_noise) / 2, rho * (g * (1 + h) - g_w * to_logit),
        -to_mean, g * to_logvar_p / 2,
    )
    return tuple(like(layout.unpadded(gradient.expand_as(mu_q)), x) if need else x.new_empty(0)
                 for gradient, x, need in zip(gradients, inputs, needs))
