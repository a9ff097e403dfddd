"""What the functions of every operation share: they take what the native library's functions of their names take.

The adapters in compvae_fast.native describe torch tensors to those functions by addresses and strides; `adapted` puts
the functions here in the place of the compiled ones.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from compvae_fast import native
from compvae_fast.kernels.numba.compiling import kernel
from compvae_fast.kernels.numba.memory import read_float64, write_float32, write_float64
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


@kernel
def _join(count, per_set, scratch, out, is_float64):
    for b in range(count):
        sum_ = 0.0
        for i in range(b * per_set, (b + 1) * per_set):
            sum_ += read_float64(scratch + 8 * i)
        if is_float64:
            write_float64(out + 8 * b, sum_)
        else:
            write_float32(out + 4 * b, sum_)


def scratch_for(sets_arguments: tuple[int, ...], step: int = BLOCK) -> np.ndarray:
    """Working memory of a call: one float64 for each set and block of `step` coordinates, [B, blocks]."""
    return np.empty((sets_arguments[0], -(-sets_arguments[2] // step)))


def join(scratch: np.ndarray, out: tuple[int, int, int, int, int]) -> None:
    """out[b] = the sum of set b's numbers in scratch [B, blocks], in their order; out [B] float32 or float64."""
    address, dtype, *_ = out
    _join(*scratch.shape, scratch.ctypes.data, address, dtype == 1)
