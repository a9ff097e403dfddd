"""Samples of the correlated Gaussian over the parts of a set, on NumPy arrays."""

from __future__ import annotations

import numpy as np

from compvae_fast import _rules
from compvae_fast.numpy import _door, _native
from compvae_fast.numpy._door import ArrayLike


def correlated_normal_rsample(
    mu: ArrayLike,
    logvar: ArrayLike,
    rho_logits: ArrayLike,
    *,
    offsets: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    coupling: str = "scaled",
    seed: int | None = None,
    with_log_prob: bool = False,
    set_index: ArrayLike | None = None,
    part_start: ArrayLike | None = None,
    threads: int | None = None,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    r"""Draw the parts w_i of each set from the correlated Gaussian.

    `compvae_fast.ops.correlated_normal_rsample` has the formulas.

    Args:
        mu, logvar, rho_logits: means, log-variances and logits, each [B, K, D] or, with offsets, [N, D]; one dtype.
        offsets: [B + 1] int32 or int64: ragged sets.
        lengths: [B] int32 or int64: padded sets.
        coupling: "scaled" or "unit".
        seed, set_index [B], part_start [B]: of the noise.
        with_log_prob: also return log q(w), computed from the noise.
        threads: how many to use.

    Returns:
        w, like mu, zero beyond lengths; with_log_prob=True: (w, log q(w) [B], float64 for float64 mu, else float32).

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    >>> mu, logvar, logits = np.zeros((3, 2, 4, 8))
    >>> correlated_normal_rsample(mu, logvar, logits, seed=1).shape
    (2, 4, 8)
    """
    arrays = _door.arrays(mu=mu, logvar=logvar, rho_logits=rho_logits)
    offsets, lengths = _door.optional("offsets", offsets), _door.optional("lengths", lengths)
    _native.parts_of_sets(arrays, offsets, lengths, tuple(arrays))
    _rules.coupling(coupling)
    _rules.is_flag("with_log_prob", with_log_prob)
    inputs = [_native.strided(x) for x in arrays.values()]
    draw = _native.Draw(seed, set_index, part_start)
    sets = _native.Sets.of(inputs[0], offsets, lengths, draw, threads)
    w = np.empty(inputs[0].shape, inputs[0].dtype)
    log_q = np.empty(sets.count if with_log_prob else 0, _native.wide(inputs[0]))
    _native.library().correlated_normal_rsample_forward(
        sets.arguments, tuple(map(_native.rows, inputs)), _native.rows(w),
        _native.per_set(log_q) if with_log_prob else None, 0, coupling == "scaled",
        _native.computes_float64(inputs[0]))
    return (w, log_q) if with_log_prob else w
