"""Wrong values that kernels met: kept where host and device see them, raised at a later call.

A kernel never waits for the host. It notes a wrong index in memory that both can read, and the set becomes NaN; the
next call outside graph capture raises. With COMPVAE_FAST_CHECKS=1 each call waits for its kernels and raises itself.
"""

from __future__ import annotations

import functools
import os

import torch
import triton
import triton.language as tl
from torch import Tensor

OFFSETS, LENGTHS, SET_INDEX, PART_START, LABELS, COUNTS = (tl.constexpr(i) for i in range(6))

_MESSAGES = (
    (ValueError, "offsets: expected non-decreasing values from 0 to N = {2}, got {0} then {1}"),
    (ValueError, "lengths: expected values in [0, K = {2}], got {0}"),
    (ValueError, "set_index: expected values in [0, {2}), got {0}"),
    (ValueError, "part_start: expected values in [0, {2}), got {0}"),
    (IndexError, "labels: expected values in [0, C = {2}), got {0}"),
    (ValueError, "counts: expected values in [0, 2^53], got {0}"),
)
_WORDS = tl.constexpr(4)  # whether there is one, two values, a limit


@functools.cache
def record(interpreted: bool) -> Tensor:
    """[kinds, 4] int64: pinned memory, which a device writes without a copy."""
    return torch.zeros(len(_MESSAGES), _WORDS.value, dtype=torch.int64, pin_memory=not interpreted)


@triton.jit
def note(wrong, KIND: tl.constexpr, first, second, limit):
    """Keeps one wrong value; `wrong` is the record."""
    at = wrong + KIND * _WORDS
    tl.store(at + 1, first)
    tl.store(at + 2, second)
    tl.store(at + 3, limit)
    tl.store(at, 1)


def raise_noted(interpreted: bool) -> None:
    """Raises for what kernels have noted; not while a graph is captured."""
    if not interpreted and torch.cuda.is_current_stream_capturing():
        return
    noted = record(interpreted)
    values = noted.numpy()
    if not values[:, 0].any():
        return
    found = values.tolist()
    values[:] = 0
    for (error, message), (there, *numbers) in zip(_MESSAGES, found):
        if there:
            raise error(message.format(*numbers) + " (noted by a kernel of an earlier call, whose set became NaN)")


def checks_at_once() -> bool:
    return os.environ.get("COMPVAE_FAST_CHECKS") == "1"
