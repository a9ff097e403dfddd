"""KL divergence of the correlated Gaussian to a diagonal prior."""

from torch import Tensor

from compvae_fast.reference import correlated
from compvae_fast.reference.dtypes import like_wide
from compvae_fast.reference.layout import Layout


def multiset_kl(
    mu_q: Tensor,
    logvar_q: Tensor,
    rho_logits: Tensor,
    mu_p: Tensor,
    logvar_p: Tensor,
    *,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    coupling: str = "scaled",
) -> Tensor:
    """KL(q || p) [B] in nats, summed over parts and coordinates; paper eq. 9 mended, thesis appendix 9.B."""
    layout = Layout.of(mu_q, offsets, lengths)
    given = (mu_q, logvar_q, rho_logits, mu_p, logvar_p)
    centre, spread, logits, prior_centre, prior_spread = (layout.padded(x.double()) for x in given)
    rho = correlated.rho_of(layout, logits)
    divergence = correlated.kl(layout, coupling, rho, centre, spread, prior_centre, prior_spread)
    return like_wide(divergence, mu_q)
