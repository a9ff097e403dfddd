"""Operations that sum a term of their elements over all dimensions but the first."""

from __future__ import annotations

import numpy as np

from compvae_fast.numpy import _door, _native


def observation(x, **parameters) -> list[np.ndarray]:
    """x [B, ...] and its parameters, checked and broadcast to its shape."""
    arrays = _door.arrays(x=x, **parameters)
    x = arrays.pop("x")
    _native.RULES.observation(x, arrays)
    return [x, *(np.broadcast_to(value, x.shape) for value in arrays.values())]


def summed(operation: str, inputs: list[np.ndarray], threads: int | None) -> np.ndarray:
    """One number for each row of inputs [B, ...]."""
    matrices = [_native.matrix(x) for x in inputs]
    sets = _native.Sets(matrices[0].shape[0], 0, matrices[0].shape[1], threads=threads)
    out = np.empty(sets.count, _native.wide(inputs[0]))
    getattr(_native.library(), operation + "_forward")(
        sets.arguments, tuple(map(_native.per_set, matrices)), _native.per_set(out),
        _native.computes_float64(*inputs))
    return out
