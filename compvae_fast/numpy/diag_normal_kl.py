"""The KL divergence between diagonal Gaussians, on NumPy arrays."""

from __future__ import annotations

import numpy as np

from compvae_fast import _rules
from compvae_fast.numpy import _door, _native
from compvae_fast.numpy._door import ArrayLike
from compvae_fast.numpy._sum_of_terms import summed


def diag_normal_kl(
    mu_q: ArrayLike, logvar_q: ArrayLike, mu_p: ArrayLike, logvar_p: ArrayLike, *, threads: int | None = None
) -> np.ndarray:
    r"""KL(N(mu, sigma^2) || N(m, s^2)) of diagonal Gaussians, summed over all dimensions but the first.

        1/2 sum [sigma^2/s^2 - 1 - log(sigma^2/s^2) + (mu - m)^2/s^2]

    Args:
        mu_q, logvar_q: means and log-variances [B, ...], of one dtype.
        mu_p, logvar_p: the prior's, of the same shape; one dtype, maybe another.
        threads: how many to use.

    Returns:
        kl [B] in nats, float64 for float64 mu_q, else float32.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    >>> diag_normal_kl(np.ones((1, 3)), np.zeros((1, 3)), np.zeros((1, 3)), np.zeros((1, 3)))
    array([1.5])
    """
    arrays = _door.arrays(mu_q=mu_q, logvar_q=logvar_q, mu_p=mu_p, logvar_p=logvar_p)
    _native.RULES.alike(arrays, ("mu_q", "logvar_q"), ("mu_p", "logvar_p"))
    _rules.has_sets("mu_q", arrays["mu_q"])
    return summed("diag_normal_kl", list(arrays.values()), threads)
