"""The normalised product of the Gaussian experts of a set."""

import torch
from torch import Tensor

from compvae_fast.reference.correlated import log_total
from compvae_fast.reference.dtypes import like
from compvae_fast.reference.layout import Layout


def product_of_experts(
    mu: Tensor,
    logvar: Tensor,
    *,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
    prior: bool = True,
) -> tuple[Tensor, Tensor]:
    """(mean, log-variance), both [B, D], of prod_i N(mu_i, sigma_i^2), times N(0, 1) with prior=True.

    With precisions t_i = exp(-logvar_i) and T = prior + sum t_i: mean sum t_i mu_i / T, log-variance -log T.
    mask [B, K] says which experts are there. No expert: (0, 0), or (0, +inf) with prior=False.
    """
    layout = Layout.of(mu, offsets, lengths)
    if mask is not None:
        layout = layout.where(mask)
    centre = layout.padded(mu.double())
    log_precision = torch.where(layout.mask, -layout.padded(logvar.double()), -torch.inf)
    total = log_total(layout, log_precision)[0] if prior else _log_sum(layout, log_precision)
    finite_total = torch.where(total == -torch.inf, 0, total)
    mean = layout.sum(torch.exp(log_precision - layout.expand(finite_total)) * centre)
    return like(mean, mu), like(-total, mu)


def _log_sum(layout: Layout, x: Tensor) -> Tensor:
    """log sum exp x over each set, x -inf in empty slots, [B, D]; -inf, without gradient, where the sum is 0."""
    peak = x.detach().amax(1)
    peak = torch.where(peak == -torch.inf, 0, peak)
    total = layout.sum(torch.exp(x - layout.expand(peak)))
    there = total != 0
    return torch.where(there, peak + torch.log(torch.where(there, total, 1)), -torch.inf)
