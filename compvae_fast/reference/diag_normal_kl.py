"""KL divergence between diagonal Gaussians."""

import torch
from torch import Tensor

from compvae_fast.reference.dtypes import like_wide
from compvae_fast.reference.layout import sum_per_row


def diag_normal_kl(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    """1/2 sum [sigma^2/s^2 - 1 - log(sigma^2/s^2) + (mu - m)^2/s^2] over all dimensions but the first, [B]."""
    centre, spread, prior_centre, prior_spread = (x.double() for x in (mu_q, logvar_q, mu_p, logvar_p))
    log_ratio = spread - prior_spread
    square = (centre - prior_centre).square() * torch.exp(-prior_spread)
    return like_wide(sum_per_row(torch.expm1(log_ratio) - log_ratio + square) / 2, mu_q)
