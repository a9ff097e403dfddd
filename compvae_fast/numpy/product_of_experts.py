"""The normalised product of the Gaussian experts of a set, on NumPy arrays."""

from __future__ import annotations

import numpy as np

from compvae_fast import _rules
from compvae_fast.numpy import _door, _native
from compvae_fast.numpy._door import ArrayLike


def product_of_experts(
    mu: ArrayLike,
    logvar: ArrayLike,
    *,
    offsets: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    prior: bool = True,
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    r"""The product of the Gaussian experts of each set, normalised: again a Gaussian.

    With precisions t_i = exp(-logvar_i) and T = prior + sum_i t_i: mu = sum_i t_i mu_i / T, logvar = -log T.

    Args:
        mu, logvar: the experts' means and log-variances, each [B, K, D] or, with offsets, [N, D]; one dtype.
        offsets: [B + 1] int32 or int64: ragged sets.
        lengths: [B] int32 or int64: padded sets.
        mask: [B, K] bool, which experts are there; without offsets and lengths.
        prior: multiply N(0, 1) in.
        threads: how many to use.

    Returns:
        (mu [B, D], logvar [B, D]), of the dtype of the inputs. A set without experts gives (0, 0), or (0, +inf) with
        prior=False.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    >>> product_of_experts(np.array([[[1.0], [3.0]]]), np.zeros((1, 2, 1)), prior=False)[0]
    array([[2.]])
    """
    arrays = _door.arrays(mu=mu, logvar=logvar)
    offsets, lengths, mask = (_door.optional(name, value) for name, value in
                              (("offsets", offsets), ("lengths", lengths), ("mask", mask)))
    _native.parts_of_sets(arrays, offsets, lengths, tuple(arrays))
    if mask is not None:
        _native.RULES.mask(mask, arrays["mu"], offsets, lengths)
        mask = np.ascontiguousarray(mask)
    _rules.is_flag("prior", prior)
    inputs = [_native.strided(x) for x in arrays.values()]
    sets = _native.Sets.of(inputs[0], offsets, lengths, threads=threads)
    mean, total = np.empty((2, sets.count, sets.width), inputs[0].dtype)
    _native.library().product_of_experts_forward(
        sets.arguments, tuple(map(_native.rows, inputs)), _native.address(mask), prior, _native.per_set(mean),
        _native.per_set(total), 0, _native.computes_float64(inputs[0]))
    return mean, total
