"""For each part of a set, the sum over the others, on NumPy arrays."""

from __future__ import annotations

import numpy as np

from compvae_fast import _rules
from compvae_fast.numpy import _door, _native
from compvae_fast.numpy._door import ArrayLike


def sum_minus_self(
    h: ArrayLike,
    *,
    offsets: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    pre: str | None = None,
    post: str | None = None,
    reduce: str = "sum",
    threads: int | None = None,
) -> np.ndarray:
    r"""For each part of a set, an aggregate of the others: out_i = post(sum_{j != i} pre(h_j)).

    Args:
        h: [B, K, D] or, with offsets, [N, D].
        offsets: [B + 1] int32 or int64: ragged sets.
        lengths: [B] int32 or int64: padded sets.
        pre: None or "elu", applied to each part before the sum.
        post: None or "tanh", applied after it.
        reduce: "sum", or "mean": the sum over K - 1.
        threads: how many to use.

    Returns:
        Like h, zero beyond lengths.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    >>> sum_minus_self(np.array([[[1.0], [2.0], [4.0]]])).ravel()
    array([6., 5., 3.])
    """
    arrays = _door.arrays(h=h)
    offsets, lengths = _door.optional("offsets", offsets), _door.optional("lengths", lengths)
    _native.parts_of_sets(arrays, offsets, lengths)
    _rules.one_of("pre", pre, None, "elu")
    _rules.one_of("post", post, None, "tanh")
    _rules.one_of("reduce", reduce, "sum", "mean")
    h = _native.strided(arrays["h"])
    out = np.empty(h.shape, h.dtype)
    sets = _native.Sets.of(h, offsets, lengths, threads=threads)
    _native.library().sum_minus_self_forward(
        sets.arguments, _native.rows(h), _native.rows(out), pre == "elu", post == "tanh", reduce == "mean",
        _native.computes_float64(h))
    return out
