"""Memory for large results: to touch fresh pages takes longer than most kernels do."""

from __future__ import annotations

import collections
import ctypes
import functools
import itertools
import math
import weakref

import torch
from torch import Tensor

from compvae_fast import _loading

# Bytes from which fresh memory is worth huge pages.
LARGE = 8 << 20
# Bytes from which memory is kept here for the next results, so many in all: the C library gives 32 MiB and more back to
# the system with each of them, and smaller ones where others' memory is freed beside them.
MAPPED, KEPT = 16 << 20, 256 << 20
_PAGE = 2 << 20  # sizes are rounded up to huge pages, so that nearly equal ones serve each other
# How far memory is moved on from a page's first line, where all of this size begins: a kernel would else write the same
# lines of all its outputs to the same few places of the caches.
_MOVES = itertools.cycle(range(0, 1024, 64))

_Block = collections.namedtuple("_Block", "memory moved")
_free: list[_Block] = []  # the longest unused first; its own operations are atomic


@functools.lru_cache(64)
def _bytes(size: int) -> type[ctypes.Array]:
    return ctypes.c_char * size


def mapped_empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor on the CPU in a block of memory that goes back to `_free` when the tensor's storage is gone.

    The storage cannot be resized: `resize_` to more than it holds is an error.
    """
    size = math.prod(shape) * dtype.itemsize
    block = _taken(-(-size // _PAGE) * _PAGE)
    lease = _bytes(size).from_address(block.memory.data_ptr() + block.moved)
    weakref.finalize(lease, _give_back, block).atexit = False
    storage = torch.frombuffer(lease, dtype=torch.uint8).untyped_storage()
    # not a view, which autograd would have told from a result of its own
    strides = torch.empty(shape, dtype=dtype, device="meta").stride()
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape, strides)


def advise_huge_pages(memory: Tensor) -> None:
    """Asks the system for them, before the memory is touched."""
    if (native := _loading.load()[0]) is not None:
        native.advise_huge_pages(memory.data_ptr(), memory.nbytes)


def release_memory() -> None:
    """Gives the memory that is kept for later results back to the system."""
    _free.clear()


def _taken(size: int) -> _Block:
    return _found(size) or _fresh(size)


def _found(size: int) -> _Block | None:
    for i in reversed(range(len(_free))):
        try:
            block = _free.pop(i)
        except IndexError:  # another thread has been here
            continue
        if block.memory.numel() == size + 1024:
            return block
        _free.insert(i, block)
    return None


def _fresh(size: int) -> _Block:
    try:
        memory = torch.empty(size + 1024, dtype=torch.uint8)
    except RuntimeError:  # what is kept may be what is wanting
        release_memory()
        memory = torch.empty(size + 1024, dtype=torch.uint8)
    advise_huge_pages(memory)
    return _Block(memory, next(_MOVES))


def _give_back(block: _Block) -> None:
    """May be called anywhere, since results are freed anywhere: takes no lock."""
    if block.memory.numel() > KEPT:
        return
    _free.append(block)
    while sum(b.memory.numel() for b in tuple(_free)) > KEPT:
        try:
            _free.pop(0)
        except IndexError:
            break
