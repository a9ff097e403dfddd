"""Describing NumPy arrays to the native module, and the rules that they keep."""

from __future__ import annotations

import math
import os
from typing import NamedTuple

import numpy as np

from compvae_fast import _loading, _rules, backends
from compvae_fast.numpy._door import BFLOAT16, ArrayLike, optional

_CODES = {np.dtype(np.float32): 0, np.dtype(np.float64): 1, np.dtype(np.float16): 3}
if BFLOAT16 is not None:
    _CODES[BFLOAT16] = 2


class _Rules(_rules.Rules):
    def same_device(self, name: str, value, like_name: str, like) -> None:
        """All are in CPU memory."""


RULES = _Rules(np.ndarray, "a NumPy array", tuple(_CODES), (np.dtype(np.int64), np.dtype(np.int32)), np.dtype(np.bool_))

# The two sides of the operations that hold a posterior against a prior.
POSTERIOR, PRIOR = ("mu_q", "logvar_q", "rho_logits"), ("mu_p", "logvar_p")

# address, dtype and strides (set, part, coordinate) in elements
Described = tuple[int, ...]


def library():
    """The native module.

    Raises ValueError where another backend was asked for, RuntimeError where the native module is missing.
    """
    name = backends.requested()
    if name not in (None, "cpu"):
        raise ValueError(f"compvae_fast.numpy: expected backend 'cpu', the one that serves NumPy arrays, got {name!r}")
    return _loading.library()


def parts_of_sets(arrays: dict[str, np.ndarray], offsets, lengths, *sides: tuple[str, ...]) -> None:
    """The rules of float arrays of parts, of one dtype on each side, and of their layout."""
    RULES.alike(arrays, *sides)
    first = next(iter(arrays))
    like = arrays[first]
    RULES.sets(first, like, offsets, lengths)
    _rules.layout_values(like.shape[0], None if offsets is not None else like.shape[1], offsets, lengths)


def strided(x: np.ndarray) -> np.ndarray:
    """x, or a copy where its strides are no whole numbers of elements, or its elements not aligned."""
    whole = all(stride % x.itemsize == 0 for stride in x.strides)
    return x if whole and x.flags.aligned else np.ascontiguousarray(x)


def rows(x: np.ndarray) -> Described:
    """A [B, K, D] or a ragged [N, D] array."""
    steps = tuple(stride // x.itemsize for stride in x.strides)
    return x.ctypes.data, _CODES[x.dtype], *(steps if x.ndim == 3 else (0, *steps))


def per_set(x: np.ndarray) -> Described:
    """An array with one row [B, D] or one value [B] for each set."""
    steps = tuple(stride // x.itemsize for stride in x.strides)
    return x.ctypes.data, _CODES[x.dtype], steps[0], 0, steps[1] if x.ndim == 2 else 1


def index(x: np.ndarray | None) -> np.ndarray | None:
    """An index array as contiguous int64."""
    return None if x is None else np.ascontiguousarray(x, np.int64)


def address(x: np.ndarray | None) -> int:
    return 0 if x is None else x.ctypes.data


class Draw(NamedTuple):
    """What tells the noise of a draw, as the caller gave it."""

    seed: int | None
    set_index: ArrayLike | None
    part_start: ArrayLike | None


class Sets:
    """The sets of a call as the native code takes them; keeps the arrays that it points to alive."""

    def __init__(self, count: int, parts: int, width: int, offsets=None, lengths=None, draw: Draw | None = None,
                 threads: int | None = None):
        self.count, self.width = count, width
        drawn = (None, None, None) if draw is None else self._noise(parts, *draw)
        self._kept = [index(offsets), index(lengths), *drawn]
        self.arguments = (count, 0 if offsets is not None else parts, width, *map(address, self._kept), 0, 0,
                          _threads(threads))

    @staticmethod
    def of(like: np.ndarray, offsets=None, lengths=None, draw: Draw | None = None, threads: int | None = None) -> Sets:
        """Those of an array of parts."""
        if offsets is not None:
            return Sets(offsets.shape[0] - 1, like.shape[0], like.shape[1], offsets, None, draw, threads)
        count, parts, width = like.shape
        return Sets(count, parts, width, None, lengths, draw, threads)


    def _noise(self, parts: int, seed, set_index, part_start) -> tuple[np.ndarray | None, ...]:
        given = {"set_index": optional("set_index", set_index), "part_start": optional("part_start", part_start)}
        for name, value in given.items():
            RULES.per_set_index(name, value, self.count, None)
        _rules.noise_values(parts, self.width, **given)
        return *map(index, given.values()), np.array(_seed(seed), np.int64)


def _seed(seed: int | None) -> int:
    if seed is None:
        return int(np.random.randint(-(2**63), 2**63 - 1, dtype=np.int64))
    return _rules.seed_number(seed, "None or an int")


def _threads(threads: int | None) -> int:
    """The number asked for, else OMP_NUM_THREADS, else the processors at hand; one in a forked process."""
    if threads is None:
        asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
        threads = int(asked) if asked.isdecimal() and int(asked) else _processors()
    elif isinstance(threads, bool) or not isinstance(threads, int | np.integer):
        raise TypeError(f"threads: expected None or an int, got {type(threads).__name__}")
    elif threads < 1:
        raise ValueError(f"threads: expected at least 1, got {threads}")
    return _loading.threads(int(threads))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def wide(x: np.ndarray) -> np.dtype:
    """The dtype of sums over a set: float32 for half inputs, else the input's."""
    return np.dtype(np.float64 if x.dtype == np.float64 else np.float32)


def computes_float64(*arrays: np.ndarray) -> bool:
    """Whether a call computes in float64: where an input has it."""
    return any(x.dtype == np.float64 for x in arrays)


def matrix(x: np.ndarray) -> np.ndarray:
    """[B, ...] as [B, M]; a copy where the strides leave no other way."""
    return strided(x.reshape(x.shape[0], math.prod(x.shape[1:])))
