"""What the functions of every operation share: they take what the native library's functions of their names take.

The adapters in compvae_fast.native describe torch tensors to those functions by addresses and strides; `adapted` puts
the functions here in the place of the compiled ones.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from compvae_fast import native
from compvae_fast.kernels.numba.places import Sets
from compvae_fast.kernels.numba.rows import BLOCK
from compvae_fast.kernels.numba.threads import run
from compvae_fast.kernels.numba.vectors import FLOAT32, FLOAT64, NO, YES, Kind


def adapted(operation: str, *functions: Callable, names: tuple[str, ...] = ("forward", "backward")) -> list[Callable]:
    """Functions of the native adapter of an operation, calling these functions."""
    adapter = importlib.import_module(f"compvae_fast.native.{operation}")
    library = SimpleNamespace(**{f.__name__: f for f in functions})
    return [native.served_by(library, getattr(adapter, name)) for name in names]


def kind_of(float64: bool) -> Kind:
    return FLOAT64 if float64 else FLOAT32


def run_places(kernel, sets_arguments: tuple[int, ...], kind: Kind, choices: tuple[bool, ...], *arguments) -> None:
    """Runs a kernel over every place of the sets that an adapter describes."""
    *described, threads = sets_arguments
    sets = Sets(*described)
    run(kernel, sets.count * -(-sets.width // BLOCK), threads, kind, *(YES if c else NO for c in choices), sets,
        *arguments)


def _numbers(address: int, count: int, dtype) -> np.ndarray:
    """Numbers at an address, without a copy."""
    return np.ctypeslib.as_array((ctypes.c_byte * (count * np.dtype(dtype).itemsize)).from_address(address)).view(dtype)


def join(sets_arguments: tuple[int, ...], per_set: int, scratch: int, out: tuple[int, int, int, int, int]) -> None:
    """out[b] = the sum of set b's numbers in scratch [B, per_set], in their order; out [B] float32 or float64."""
    address, dtype, *_ = out
    count = sets_arguments[0]
    sums = np.zeros((count, per_set + 1))
    sums[:, 1:] = _numbers(scratch, count * per_set, np.float64).reshape(count, per_set)
    # cumsum adds one number after the other; sum would not
    _numbers(address, count, (np.float32, np.float64)[dtype])[:] = sums.cumsum(1)[:, -1]


def join_blocks(sets_arguments: tuple[int, ...], scratch: int, out: tuple[int, int, int, int, int]) -> None:
    """The same where there is one number for each set and block of coordinates."""
    join(sets_arguments, -(-sets_arguments[2] // BLOCK), scratch, out)
