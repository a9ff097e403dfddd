"""The log-density of the correlated Gaussian over the parts of a set, on NumPy arrays."""

from __future__ import annotations

import numpy as np

from compvae_fast import _rules
from compvae_fast.numpy import _door, _native
from compvae_fast.numpy._door import ArrayLike


def correlated_normal_log_prob(
    w: ArrayLike,
    mu: ArrayLike,
    logvar: ArrayLike,
    rho_logits: ArrayLike,
    *,
    offsets: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    coupling: str = "scaled",
    threads: int | None = None,
) -> np.ndarray:
    r"""The log-density of the correlated Gaussian at w, summed over parts and coordinates.

    `compvae_fast.ops.correlated_normal_log_prob` has the formulas.

    Args:
        w, mu, logvar, rho_logits: the point, means, log-variances and logits, each [B, K, D] or, with offsets, [N, D];
            one dtype.
        offsets: [B + 1] int32 or int64: ragged sets.
        lengths: [B] int32 or int64: padded sets.
        coupling: "scaled" or "unit".
        threads: how many to use.

    Returns:
        log q(w) [B] in nats, float64 for float64 mu, else float32.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    >>> w, mu, logvar, logits = np.zeros((4, 1, 2, 3))
    >>> correlated_normal_log_prob(w, mu, logvar, logits - np.inf).round(4)  # six standard normals at 0
    array([-5.5136])
    """
    arrays = _door.arrays(w=w, mu=mu, logvar=logvar, rho_logits=rho_logits)
    offsets, lengths = _door.optional("offsets", offsets), _door.optional("lengths", lengths)
    _native.parts_of_sets(arrays, offsets, lengths, tuple(arrays))
    _rules.coupling(coupling)
    point, *normal = (_native.strided(x) for x in arrays.values())
    sets = _native.Sets.of(point, offsets, lengths, threads=threads)
    density = np.empty(sets.count, _native.wide(point))
    _native.library().correlated_normal_log_prob_forward(
        sets.arguments, _native.rows(point), tuple(map(_native.rows, normal)), _native.per_set(density), 0,
        coupling == "scaled")
    return density
