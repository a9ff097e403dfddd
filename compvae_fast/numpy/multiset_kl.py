"""The KL divergence of the correlated posterior, on NumPy arrays."""

from __future__ import annotations

import numpy as np

from compvae_fast.numpy import _native
from compvae_fast.numpy._door import ArrayLike
from compvae_fast.numpy._posterior import checked


def multiset_kl(
    mu_q: ArrayLike,
    logvar_q: ArrayLike,
    rho_logits: ArrayLike,
    mu_p: ArrayLike,
    logvar_p: ArrayLike,
    *,
    offsets: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    coupling: str = "scaled",
    threads: int | None = None,
) -> np.ndarray:
    r"""KL(q || p) of the correlated posterior to independent N(m_i, s_i^2), summed over parts and coordinates.

    `compvae_fast.ops.multiset_kl` has the formulas.

    Args:
        mu_q, logvar_q, rho_logits: posterior means, log-variances and logits, each [B, K, D] or, with offsets, [N, D].
        mu_p, logvar_p: the prior's means and log-variances, of the same shape; one dtype, maybe another.
        offsets: [B + 1] int32 or int64: ragged sets.
        lengths: [B] int32 or int64: padded sets.
        coupling: "scaled" or "unit".
        threads: how many to use.

    Returns:
        kl [B] in nats, float64 for float64 mu_q, else float32.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    >>> mu, logvar = np.zeros((2, 1, 2, 3))
    >>> multiset_kl(mu, logvar, mu - np.inf, mu, logvar)
    array([0.])
    """
    inputs, offsets, lengths = checked(mu_q, logvar_q, rho_logits, mu_p, logvar_p, offsets, lengths, coupling)
    sets = _native.Sets.of(inputs[0], offsets, lengths, threads=threads)
    kl = np.empty(sets.count, _native.wide(inputs[0]))
    _native.library().multiset_kl_forward(
        sets.arguments, tuple(map(_native.rows, inputs)), _native.per_set(kl), 0,
        coupling == "scaled", _native.computes_float64(inputs[0], inputs[3]))
    return kl
