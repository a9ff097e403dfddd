"""Running kernels on as many threads as torch would use.

A kernel releases the GIL and takes places of work from a shared counter until none is left, so any number of threads
may run it at once, and results do not depend on how many there are. The threads are the package's own, not Numba's:
Numba's workqueue ends the process when two threads enter it at once, be the other one the user's own code, and its
other layers bring an OpenMP runtime beside torch's.
"""

from __future__ import annotations

import ctypes
import os
import threading
from concurrent.futures import ThreadPoolExecutor

from compvae_fast.kernels.numba.places import MEMORY

_ALIGNMENT = 64
_PIECES = 16  # of the work, for each thread
_local = threading.local()
_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def _working_memory() -> int:
    """The address of this thread's working memory."""
    if not hasattr(_local, "address"):
        _local.memory = (ctypes.c_char * (MEMORY + _ALIGNMENT))()
        address = ctypes.addressof(_local.memory)
        _local.address = address + -address % _ALIGNMENT
    return _local.address


def _after_fork() -> None:
    """A forked child has none of the threads, and locks may be held by threads it does not have."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def _helpers() -> ThreadPoolExecutor:
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="compvae_fast")
        return _pool


def _help(kernel, arguments, queue: int) -> None:
    kernel(*arguments, queue, _working_memory())


def run(kernel, work: int, threads: int, *arguments) -> None:
    """kernel(*arguments, queue, memory) on up to so many threads, this one among them, until `work` items are done.

    queue: what next_item takes items from; memory: address of the thread's working memory.
    """
    # Neighbouring items to one thread, which reads ahead, in pieces small enough to even out ragged sets.
    pieces = (ctypes.c_int64 * 2)(0, work // (threads * _PIECES + 1) + 1)
    queue = ctypes.addressof(pieces)
    helpers = [_helpers().submit(_help, kernel, arguments, queue) for _ in range(min(threads, work) - 1)]
    try:
        _help(kernel, arguments, queue)
    finally:
        # Those that have not begun by now find nothing left to do; the others use memory that the caller owns.
        for helper in helpers:
            if not helper.cancel():
                helper.result()
