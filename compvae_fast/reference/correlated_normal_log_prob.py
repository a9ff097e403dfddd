"""Log-density of the correlated Gaussian over the parts of a set."""

import torch
from torch import Tensor

from compvae_fast.reference import correlated
from compvae_fast.reference.dtypes import like_wide
from compvae_fast.reference.layout import Layout


def correlated_normal_log_prob(
    w: Tensor,
    mu: Tensor,
    logvar: Tensor,
    rho_logits: Tensor,
    *,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    coupling: str = "scaled",
) -> Tensor:
    """log q(w) [B], summed over parts and coordinates; thesis eq. 9.9 and 9.10.

    The noise is recovered with rho exp(L) = exp(nu): unit u = (w - mu)/sigma, eps = u + exp(nu) sum u;
    scaled eps = (w - mu + exp(nu) sum (w - mu))/sigma. Rounding in w grows by up to exp(L).
    """
    layout = Layout.of(mu, offsets, lengths)
    point, centre, spread, logits = (layout.padded(x.double()) for x in (w, mu, logvar, rho_logits))
    inverse_sigma = torch.exp(-spread / 2)
    weight = torch.exp(logits)
    if coupling == "unit":
        u = (point - centre) * inverse_sigma
        eps = u + weight * layout.expand(layout.sum(u))
    else:
        difference = point - centre
        eps = (difference + weight * layout.expand(layout.sum(difference))) * inverse_sigma
    rho = correlated.rho_of(layout, logits)
    return like_wide(correlated.log_density_of_noise(layout, rho, spread, eps), mu)
