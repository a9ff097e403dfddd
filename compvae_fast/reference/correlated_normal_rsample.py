"""Samples of the correlated Gaussian over the parts of a set."""

from torch import Tensor

from compvae_fast.reference import correlated
from compvae_fast.reference.dtypes import like, like_wide
from compvae_fast.reference.layout import Layout
from compvae_fast.reference.noise import set_normals64


def correlated_normal_rsample(
    mu: Tensor,
    logvar: Tensor,
    rho_logits: Tensor,
    *,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    coupling: str = "scaled",
    seed: Tensor,
    with_log_prob: bool = False,
    set_index: Tensor | None = None,
    part_start: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """w like mu, or (w, log q(w) [B]) with log q from the noise; paper eq. 6, thesis eq. 9.6 and 9.9.

    mu, logvar, rho_logits [B, K, D] or [N, D]; seed 0-d or [B] int64.
    """
    layout = Layout.of(mu, offsets, lengths)
    centre, spread, logits = (layout.padded(x.double()) for x in (mu, logvar, rho_logits))
    eps = set_normals64(seed, tuple(centre.shape), set_index, part_start)
    rho = correlated.rho_of(layout, logits)
    w = centre + correlated.part_noise(layout, coupling, rho, spread, eps)
    w = like(layout.unpadded(w), mu)
    if not with_log_prob:
        return w
    return w, like_wide(correlated.log_density_of_noise(layout, rho, spread, eps), mu)
