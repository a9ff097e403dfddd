"""The sum of the parts drawn from the correlated Gaussian, and log p(w) - log q(w) at that draw."""

import torch
from torch import Tensor

from compvae_fast.reference import correlated
from compvae_fast.reference.dtypes import like_wide
from compvae_fast.reference.layout import Layout, tree_sum
from compvae_fast.reference.noise import set_normals64


def posterior_sum_and_log_ratio(
    mu_q: Tensor,
    logvar_q: Tensor,
    rho_logits: Tensor,
    mu_p: Tensor,
    logvar_p: Tensor,
    *,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    coupling: str = "scaled",
    seed: Tensor,
    path: bool = False,
    set_index: Tensor | None = None,
    part_start: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(w~ [B, D], log p(w) - log q(w) [B]), with the noise of correlated_normal_rsample.

    path=True drops the score of q from the gradient (thesis eq. 4.4): q's parameters then act through w alone.
    """
    layout = Layout.of(mu_q, offsets, lengths)
    given = (mu_q, logvar_q, rho_logits, mu_p, logvar_p)
    centre, spread, logits, prior_centre, prior_spread = (layout.padded(x.double()) for x in given)
    eps = set_normals64(seed, tuple(centre.shape), set_index, part_start)
    rho = correlated.rho_of(layout, logits)
    total = layout.sum(centre) + correlated.sum_noise(layout, coupling, rho, spread, eps)
    noise = correlated.part_noise(layout, coupling, rho, spread, eps)
    square = (centre - prior_centre + noise).square() * torch.exp(-prior_spread)
    if path:
        with torch.no_grad():
            entropy_terms = layout.sum(spread + eps.square()) / 2 - rho.log_total
        entropy_terms = entropy_terms + _path(layout, coupling, rho, centre, spread, logits, eps, noise)
    else:
        entropy_terms = layout.sum(spread + eps.square()) / 2 - rho.log_total
    ratio = entropy_terms - layout.sum(square + prior_spread) / 2
    return like_wide(total, mu_q), like_wide(tree_sum(ratio, -1), mu_q)


def _path(
    layout: Layout,
    coupling: str,
    rho: correlated.Rho,
    mu: Tensor,
    logvar: Tensor,
    logits: Tensor,
    eps: Tensor,
    noise: Tensor,
) -> Tensor:
    """0 [B, D], with the gradient of -log q(w) through w alone.

    With G = -d log q/dw, unit G_i = (eps_i + exp(L) sum_j rho_j eps_j)/sigma_i and scaled
    G_i = eps_i/sigma_i + exp(L) sum_j rho_j eps_j/sigma_j. In G times dw/d(logvar, nu) the factor exp(L) falls out
    but for unit's logvar; it is taken out here, since autograd would leave its rounding.
    """
    with torch.no_grad():
        inverse_sigma = torch.exp(-logvar / 2)
        grow = torch.exp(rho.log_total)[:, None]
        if coupling == "unit":
            pull = eps + grow * layout.sum(rho.value * eps)[:, None]
            by_mu = pull * inverse_sigma
            by_logvar = pull * noise * inverse_sigma / 2
            by_logits = -layout.sum(eps)[:, None] * rho.value * eps
        else:
            pull = eps * inverse_sigma
            by_mu = pull + grow * layout.sum(rho.value * pull)[:, None]
            by_logvar = eps.square() / 2
            by_logits = -layout.sum(eps / inverse_sigma)[:, None] * rho.value * pull
    return layout.sum(_zero(mu) * by_mu + _zero(logvar) * by_logvar + _zero(logits) * by_logits)


def _zero(x: Tensor) -> Tensor:
    """0 with derivative 1; logits of -inf, where rho = 0, are constants."""
    return torch.where(x.detach().isfinite(), x - x.detach(), 0)
