"""The correlated Gaussian of one coordinate of K parts: the stable forms that its operations share.

    unit:    w_i = mu_i + sigma_i (eps_i - rho_i sum_j eps_j)              paper eq. 6
    scaled:  w_i = mu_i + sigma_i eps_i - rho_i sum_j sigma_j eps_j        thesis eq. 9.6

The part with the largest logit ("top") is the only one whose rho may exceed 1/2. There eps - rho E and
1 - 2 rho + K rho^2 cancel, so it is kept out of the running sums and its 1 - rho comes from the other logits.
Tensors are float64 [B, K, D] in a Layout's padded form, sums over the set [B, D].
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from compvae_fast.reference.layout import Layout, tree_sum


class Rho(NamedTuple):
    """rho = exp(nu) / (1 + sum_j exp(nu_j)), with 1 - rho and log(1 - sum rho) = -log_total free of cancellation."""

    value: Tensor  # [B, K, D]
    complement: Tensor  # [B, K, D], 1 - rho
    log_total: Tensor  # [B, D], L = logsumexp(0, nu_1..nu_K)
    top: Tensor  # [B, K, D] bool, one part per coordinate


def log_total(layout: Layout, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """L = logsumexp(0, nu_1..nu_K) [B, D], exp(nu - peak) [B, K, D] and peak = max(0, nu_1..nu_K) [B, D].

    log1p keeps the digits of a small L, where every logit is very negative.
    """
    logits = torch.where(layout.mask, logits, -math.inf)
    peak = logits.detach().amax(1).clamp(min=0)
    terms = torch.exp(logits - layout.expand(peak))
    return peak + torch.log1p(torch.expm1(-peak) + layout.sum(terms)), terms, peak


def rho_of(layout: Layout, logits: Tensor) -> Rho:
    """The couplings of padded logits [B, K, D]; -inf gives rho = 0 and no gradient."""
    total_log, terms, peak = log_total(layout, logits)
    best = torch.where(layout.mask, logits.detach(), -math.inf).argmax(1, keepdim=True)
    top = torch.zeros_like(terms, dtype=torch.bool).scatter_(1, best, True)
    rest = torch.exp(-peak) + layout.sum(torch.where(top, 0, terms))
    total = rest + layout.sum(torch.where(top, terms, 0))
    value = terms / layout.expand(total)
    complement = torch.where(top, layout.expand(rest / total), 1 - value)
    return Rho(value, complement, total_log, top)


def mix(layout: Layout, rho: Rho, x: Tensor) -> Tensor:
    """x_i - rho_i sum_j x_j."""
    others = layout.expand(layout.sum(torch.where(rho.top, 0, x)))
    everyone = layout.expand(layout.sum(x))
    return torch.where(rho.top, rho.complement * x - rho.value * others, x - rho.value * everyone)


def part_noise(layout: Layout, coupling: str, rho: Rho, logvar: Tensor, eps: Tensor) -> Tensor:
    """w - mu [B, K, D]."""
    sigma = torch.exp(logvar / 2)
    if coupling == "unit":
        return sigma * mix(layout, rho, eps)
    return mix(layout, rho, sigma * eps)


def sum_noise(layout: Layout, coupling: str, rho: Rho, logvar: Tensor, eps: Tensor) -> Tensor:
    """w~ - sum mu [B, D].

    scaled:  exp(-L) sum_j sigma_j eps_j
    unit:    sum_k d_k eps_k + (sigma_m exp(-L) - sum_i rho_i d_i) E,  d_k = sigma_k - sigma_m, m the top part
    """
    left = torch.exp(-rho.log_total)
    if coupling == "scaled":
        return left * layout.sum(torch.exp(logvar / 2) * eps)
    logvar_top = layout.sum(torch.where(rho.top, logvar, 0))
    sigma_top = torch.exp(logvar_top / 2)
    excess = layout.expand(sigma_top) * torch.expm1((logvar - layout.expand(logvar_top)) / 2)
    common = sigma_top * left - layout.sum(rho.value * excess)
    return layout.sum(excess * eps) + common * layout.sum(eps)


def kl(
    layout: Layout, coupling: str, rho: Rho, mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor
) -> Tensor:
    """KL to independent N(mu_p, exp logvar_p), summed over parts and coordinates, [B].

    unit:    1/2 sum [log(s^2/sigma^2) + (mu-m)^2/s^2 + (1 - 2 rho + K rho^2) sigma^2/s^2 - 1] + L
    scaled:  1/2 sum [log(s^2/sigma^2) + ((mu-m)^2 + (1 - 2 rho) sigma^2 + rho^2 sum_k sigma_k^2)/s^2 - 1] + L
    """
    ratio = torch.exp(logvar_q - logvar_p)
    square = rho.value.square()
    if coupling == "unit":
        count = layout.count
        factor = torch.where(
            rho.top, rho.complement.square() + (count - 1) * square, 1 - 2 * rho.value + count * square
        )
        trace = factor * ratio
    else:
        variance = torch.exp(logvar_q)
        others = layout.expand(layout.sum(torch.where(rho.top, 0, variance)))
        everyone = layout.expand(layout.sum(variance))
        own = torch.where(rho.top, rho.complement.square(), 1 - 2 * rho.value)
        trace = own * ratio + square * torch.where(rho.top, others, everyone) * torch.exp(-logvar_p)
    terms = logvar_p - logvar_q + (mu_q - mu_p).square() * torch.exp(-logvar_p) + trace - 1
    return tree_sum(layout.sum(terms) / 2 + rho.log_total, -1)


def log_density_of_noise(layout: Layout, rho: Rho, logvar: Tensor, eps: Tensor) -> Tensor:
    """log q(w) = -1/2 sum eps^2 - sum log sigma + L - K/2 log 2 pi at the w made from eps, [B]."""
    terms = eps.square() + logvar + math.log(2 * math.pi)
    return tree_sum(rho.log_total - layout.sum(terms) / 2, -1)
