"""One shard of posterior_sum_and_kl: what it adds to the joint sums, and its parts' gradients once those are known."""

from __future__ import annotations

import torch
from torch import Tensor

from compvae_fast.reference.dtypes import like
from compvae_fast.reference.layout import Layout
from compvae_fast.reference.noise import set_normals64
from compvae_fast.reference.shards import POSTERIOR_STATE, POSTERIOR_STATS, Parts, Shard, named


def forward(inputs: tuple[Tensor, ...], shard: Shard) -> Tensor:
    """The state of mu_q, logvar_q, rho_logits, mu_p, logvar_p, each [B, K, D] or [N, D]; float64, rows of [B, D]."""
    parts = Parts.of(inputs, inputs[2], shard)
    layout, (mu_q, logvar_q, logits, mu_p, logvar_p), eps, *_ = parts
    largest = parts.of_m(logits)
    e = torch.exp(logits - layout.expand(largest.clamp(min=0)))
    x = logvar_q - logvar_p
    difference, ratio, precision, sigma = mu_q - mu_p, torch.exp(x), torch.exp(-logvar_p), torch.exp(logvar_q / 2)
    unit = shard.coupling == "unit"
    logvar_m = layout.expand(parts.of_m(logvar_q))
    excess = torch.exp(logvar_m / 2) * torch.expm1((logvar_q - logvar_m) / 2)
    rows = {
        "logit": largest, "logvar_q": parts.of_m(logvar_q), "logvar_p": parts.of_m(logvar_p),
        "difference": parts.of_m(difference), "normal": parts.of_m(eps), "others": parts.others(e),
        "base": parts.others(torch.expm1(x) - x + difference.square() * precision), "trace": parts.others(e * ratio),
        "squares": parts.others(e.square() * (ratio if unit else precision)),
        "noise": parts.others(eps if unit else sigma * eps), "means": layout.sum(mu_q),
        "spread": parts.others(excess * eps if unit else sigma.square()), "shift": parts.others(e * excess),
    }
    return torch.stack([rows[name] for name in POSTERIOR_STATE[shard.coupling]])


def backward(grad_w: Tensor | None, grad_kl: Tensor | None, inputs: tuple[Tensor, ...], shard: Shard, stats: Tensor,
             needs: list[bool]) -> tuple[Tensor, ...]:
    """Gradients like the inputs, given those of the joint w~ [B, D] and kl [B] and the joint stats."""
    layout = Layout.of(inputs[0], shard.offsets, shard.lengths)
    mu_q, logvar_q, logits, mu_p, logvar_p = (layout.padded(x.double()) for x in inputs)
    eps = set_normals64(shard.seed, (*mu_q.shape,), shard.set_index, shard.part_start)
    of = named(POSTERIOR_STATS[shard.coupling], torch.stack([layout.expand(row.double()) for row in stats]))
    zero = mu_q.new_zeros(())
    g_w = zero if grad_w is None else layout.expand(grad_w.double())
    g = zero if grad_kl is None else grad_kl.double()[:, None, None]
    x, difference = logvar_q - logvar_p, mu_q - mu_p
    rho, sigma = torch.exp(logits - of["logit"].clamp(min=0)) * of["inverse_z"], torch.exp(logvar_q / 2)
    ratio, precision = torch.exp(x), torch.exp(-logvar_p)
    quadratic, growth = difference.square() * precision, torch.expm1(x)
    top = rho > 0.5
    rest = torch.where(top, of["one_minus_rho_m"], 1)
    if shard.coupling == "unit":
        count = shard.counts.double()[:, None, None]
        to_logvar_q = torch.where(top, ratio * of["factor_m"] - 1, growth + ratio * (count * rho - 2) * rho)
        to_logvar_p = -(quadratic + to_logvar_q)
        y = ratio * torch.where(top, (count - 1) * rho - of["one_minus_rho_m"], count * rho - 1)
        from_noise = sigma * (rest * eps - rho * torch.where(top, of["noise_others"], of["noise"]))
        to_logit = of["noise"] * (sigma - torch.exp(of["logvar_m"] / 2) + of["noise_factor"])
    else:
        own = torch.where(top, ratio * rest.square() - 1, growth - 2 * rho * ratio)
        shared = rho * precision * torch.where(top, of["v_others"], of["v"])
        to_logvar_q = own + sigma.square() * torch.where(top, of["q_others"], of["q"])
        to_logvar_p = -(quadratic + own + rho * shared)
        y = shared - rest * ratio
        from_noise = of["noise_factor"] * sigma * eps
        to_logit = of["noise_factor"] * of["noise"]
    h = torch.where(top, y * of["one_minus_rho_m"] - of["h_others"], y - of["h"])
    to_mean = g * difference * precision
    gradients = (
        g_w + to_mean, (g * to_logvar_q + g_w * from_noise) / 2, rho * (g * (1 + h) - g_w * to_logit),
        -to_mean, g * to_logvar_p / 2,
    )
    return tuple(like(layout.unpadded(gradient.expand_as(mu_q)), x) if need else x.new_empty(0)
                 for gradient, x, need in zip(gradients, inputs, needs))
