"""The negative log-likelihood of 256 levels under a logistic distribution, on NumPy arrays."""

from __future__ import annotations

import numpy as np

from compvae_fast.numpy._door import ArrayLike
from compvae_fast.numpy._sum_of_terms import observation, summed


def discretized_logistic_nll(
    x: ArrayLike, mu: ArrayLike, log_scale: ArrayLike, *, threads: int | None = None
) -> np.ndarray:
    r"""-log P(x) of levels x in {0..255}/255 under a logistic distribution, summed over all dimensions but the first.

    `compvae_fast.ops.discretized_logistic_nll` has the formulas.

    Args:
        x: the observation [B, ...].
        mu, log_scale: location and log-scale, of shapes that broadcast to x; one dtype, maybe another than x's.
        threads: how many to use.

    Returns:
        nll [B] in nats, float64 for float64 x, else float32.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    >>> x = np.arange(256)[:, None] / 255
    >>> float(np.exp(-discretized_logistic_nll(x, np.full(1, 0.4), np.full(1, -2.0))).sum().round(9))
    1.0
    """
    return summed("discretized_logistic_nll", observation(x, mu=mu, log_scale=log_scale), threads)
