"""The compiled kernels: loading them, and describing torch tensors to them.

One module for each operation turns the arguments of the registered operation into the native call. Scratch memory
is allocated here, by torch; the native code allocates none of the size of its inputs.
"""

from __future__ import annotations

import contextvars
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import overload

import torch
from torch import Tensor

from compvae_fast import _loading
from compvae_fast.native._memory import LARGE, MAPPED, advise_huge_pages, mapped_empty
from compvae_fast.native._memory import release_memory as release_memory

_DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}

_in_its_place: contextvars.ContextVar = contextvars.ContextVar("compvae_fast_library", default=None)


def library() -> ModuleType:
    """The native module, or what has been put in its place."""
    return _in_its_place.get() or _loading.library()


def threads() -> int:
    """How many threads a kernel may run: torch's number, or one in a forked process."""
    return _loading.threads(torch.get_num_threads())


def served_by(other, adapter: Callable) -> Callable:
    """An adapter of this package, calling another object's functions of the same names and arguments."""

    @functools.wraps(adapter)
    def served(*arguments):
        token = _in_its_place.set(other)
        try:
            return adapter(*arguments)
        finally:
            _in_its_place.reset(token)

    return served


def rows(*tensors: Tensor | None) -> tuple:
    """Address, dtype and strides (set, part, coordinate) of each [B, K, D] or ragged [N, D] tensor; None for None.

    Packed for the native module, for what has been put in its place as tuples of numbers.
    """
    module = _loading.load()[0]
    return tuple(map(_rows, tensors)) if module is None else module.rows(_in_its_place.get() is None, *tensors)


def per_set(*tensors: Tensor | None) -> tuple:
    """The same of tensors with one row [B, D] or one value [B] for each set."""
    module = _loading.load()[0]
    return tuple(map(_per_set, tensors)) if module is None else module.per_set(_in_its_place.get() is None, *tensors)


def _rows(t: Tensor | None) -> tuple[int, ...] | None:
    """What the native module says of one tensor, for where there is none."""
    if t is None:
        return None
    return t.data_ptr(), _DTYPES[t.dtype], *((0, *t.stride()) if t.dim() == 2 else t.stride())


def _per_set(t: Tensor | None) -> tuple[int, ...] | None:
    if t is None:
        return None
    return t.data_ptr(), _DTYPES[t.dtype], t.stride(0), 0, t.stride(1) if t.dim() == 2 else 1


@overload
def index(t: Tensor) -> Tensor: ...
@overload
def index(t: Tensor | None) -> Tensor | None: ...
def index(t: Tensor | None) -> Tensor | None:
    """An index tensor as contiguous int64."""
    return None if t is None else t.to(torch.int64).contiguous()


def address(t: Tensor | None) -> int:
    return 0 if t is None else t.data_ptr()


class Sets:
    """The sets of a call as the native code takes them; keeps the index tensors that it points to alive.

    shape: of its tensors of parts, [B, K, D] or, with offsets, [N, D].
    """

    def __init__(self, shape: Sequence[int], offsets: Tensor | None, lengths: Tensor | None,
                 set_index: Tensor | None = None, part_start: Tensor | None = None, seed: Tensor | None = None,
                 whole_sizes: Tensor | None = None):
        indices = [t if t is None else index(t) for t in (offsets, lengths, set_index, part_start, whole_sizes)]
        self._kept, self._shape = indices, shape
        if _in_its_place.get() is None:
            self.arguments = _loading.library().sets(shape, threads(), seed, *indices)
        else:
            *layout, sizes = map(address, indices)
            seeds = (0, 0) if seed is None else (seed.data_ptr(), seed.dim())
            self.arguments = (self.count, shape[0 if offsets is not None else 1], self.width, *layout, *seeds, sizes,
                              threads())

    @property
    def count(self) -> int:
        return self._shape[0] if self._kept[0] is None else self._kept[0].shape[0] - 1

    @property
    def width(self) -> int:
        return self._shape[-1]


def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """torch.empty; large ones in huge pages, larger ones in memory that earlier results have had."""
    count = math.prod(shape)
    if count < LARGE // 8 or device.type != "cpu":
        return torch.empty(*shape, dtype=dtype, device=device)  # which takes numbers faster than a tuple of them
    size = count * dtype.itemsize
    if size >= MAPPED:
        return mapped_empty(tuple(shape), dtype)
    t = torch.empty(*shape, dtype=dtype, device=device)
    if size >= LARGE:
        advise_huge_pages(t)
    return t


def outputs(described: Iterable[tuple[Sequence[int], torch.dtype]], device: torch.device) -> tuple[Tensor, ...]:
    """Memory for what an operation returns and saves, as its record describes it."""
    return tuple([empty(shape, dtype, device) for shape, dtype in described])


def computes_float64(*tensors: Tensor) -> bool:
    """Whether a call computes in float64: where an input has it."""
    for t in tensors:
        if t.dtype == torch.float64:
            return True
    return False


def like_wanted(tensors: tuple[Tensor, ...], needs: list[bool]) -> tuple[Tensor, ...]:
    """Memory for the gradients that are wanted; an empty tensor for each of the others."""
    return tuple([empty(t.shape if need else (0,), t.dtype, t.device) for t, need in zip(tensors, needs)])


def wanted_rows(gradients: tuple[Tensor, ...], needs: list[bool]) -> tuple:
    return rows(*[g if need else None for g, need in zip(gradients, needs)])
