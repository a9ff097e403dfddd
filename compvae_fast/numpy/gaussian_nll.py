"""The negative log-likelihood of a diagonal Gaussian, on NumPy arrays."""

from __future__ import annotations

import numpy as np

from compvae_fast.numpy._door import ArrayLike
from compvae_fast.numpy._sum_of_terms import observation, summed


def gaussian_nll(x: ArrayLike, mu: ArrayLike, logvar: ArrayLike, *, threads: int | None = None) -> np.ndarray:
    r"""-log N(x; mu, sigma^2) of a diagonal Gaussian, summed over all dimensions but the first.

        1/2 sum [log 2 pi + log sigma^2 + (x - mu)^2/sigma^2]

    Args:
        x: the observation [B, ...].
        mu, logvar: mean and log-variance, of shapes that broadcast to x; one dtype, maybe another than x's.
        threads: how many to use.

    Returns:
        nll [B] in nats, float64 for float64 x, else float32.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    >>> gaussian_nll(np.zeros((2, 3)), np.zeros(3), np.zeros(3)).round(4)
    array([2.7568, 2.7568])
    """
    return summed("gaussian_nll", observation(x, mu=mu, logvar=logvar), threads)
