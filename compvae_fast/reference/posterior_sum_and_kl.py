"""The sum of the parts drawn from the correlated Gaussian, and its KL divergence to the prior."""

from torch import Tensor

from compvae_fast.reference import correlated
from compvae_fast.reference.dtypes import like_wide
from compvae_fast.reference.layout import Layout
from compvae_fast.reference.noise import set_normals64


def posterior_sum_and_kl(
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
    set_index: Tensor | None = None,
    part_start: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(w~ = sum_i w_i [B, D], KL(q || p) [B]), with the noise of correlated_normal_rsample."""
    layout = Layout.of(mu_q, offsets, lengths)
    given = (mu_q, logvar_q, rho_logits, mu_p, logvar_p)
    centre, spread, logits, prior_centre, prior_spread = (layout.padded(x.double()) for x in given)
    eps = set_normals64(seed, tuple(centre.shape), set_index, part_start)
    rho = correlated.rho_of(layout, logits)
    total = layout.sum(centre) + correlated.sum_noise(layout, coupling, rho, spread, eps)
    divergence = correlated.kl(layout, coupling, rho, centre, spread, prior_centre, prior_spread)
    return like_wide(total, mu_q), like_wide(divergence, mu_q)
