"""Launching kernels: the block of coordinates and warps of each, measured once and kept.

The first call of a kernel on a kind of shape tries every choice on its own arguments, which the kernels only read but
for outputs that they write whole, and waits for the device while it does; later calls and processes take what was
found. Under graph capture, and with COMPVAE_FAST_TUNING=0, a choice not yet known is the first of the list. No choice
changes a bit of the results. Stages are no choice: the compiler (Triton 3.9) pipelines none of these loops, which read
a part ahead by themselves where that pays, and makes the same code for 1, 2 and 4 of them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import triton
import triton.language as tl

from compvae_fast.kernels.triton import is_interpreted


@dataclass(frozen=True)
class Choice:
    """Coordinates of a block, warps of a program."""

    block: int
    warps: int


# A thread's own coordinates are four neighbours, one call of the noise: of fewer, the noise would be drawn twice, and
# with eight the sums no longer fit its registers. In float64 four do not fit either: hundreds of bytes are spilled.
CHOICES = (Choice(256, 2), Choice(128, 1), Choice(512, 4), Choice(1024, 8))
FLOAT64_CHOICES = (*CHOICES, Choice(128, 2), Choice(256, 4))
_INTERPRETED = Choice(128, 1)
_ROUNDS = 5

_found: dict[tuple, Choice] = {}


def launch(kernel, items: int, width: int, arguments: tuple, like: torch.Tensor, shape: tuple[int, ...], **constants):
    """Runs kernel(*arguments, BLOCK=..., **constants) on items * blocks programs.

    items: sets or segments; width: coordinates; like: a tensor of the device; shape: what else the speed hangs on.
    """
    if not items:
        return
    choice = _INTERPRETED
    if not is_interpreted():
        with torch.cuda.device_of(like):
            choice = _choice(kernel, items, width, arguments, like, shape, constants)
    _submit(kernel, items, width, arguments, like, constants, choice)


def run_one_each(kernel, programs: int, like: torch.Tensor, *arguments, **constants) -> None:
    """Runs a kernel that leaves nothing to choose."""
    submit(kernel, programs, like, arguments, constants, num_warps=4)


def submit(kernel, programs: int, like: torch.Tensor, arguments: tuple, constants: dict, **options) -> None:
    """Puts a kernel on the caller's current stream of the tensor's device."""
    if not programs:
        return
    if is_interpreted():
        kernel[(programs,)](*arguments, **constants)
        return
    with torch.cuda.device_of(like):
        kernel[(programs,)](*arguments, **constants, **options, enable_fp_fusion=True)


def _submit(kernel, items, width, arguments, like, constants, choice: Choice):
    submit(kernel, items * triton.cdiv(width, choice.block), like, arguments, {**constants, "BLOCK": choice.block},
           num_warps=choice.warps)


def _tensors(arguments: tuple):
    """The tensors among the arguments, those in tuples too."""
    for a in arguments:
        if isinstance(a, tuple):
            yield from _tensors(a)
        elif isinstance(a, torch.Tensor):
            yield a


def _candidates(width: int, float64: bool) -> list[Choice]:
    """Blocks no wider than the coordinates need, or the narrowest."""
    choices = FLOAT64_CHOICES if float64 else CHOICES
    narrowest = min(c.block for c in choices)
    return [c for c in choices if c.block < max(2 * width, narrowest + 1)]


def _choice(kernel, items, width, arguments, like, shape, constants) -> Choice:
    sizes = tuple(n if n <= 32 else 1 << (n - 1).bit_length() for n in (items, *shape))
    dtypes = tuple(t.dtype for t in _tensors(arguments))
    known = (kernel, width, sizes, dtypes, *constants.values(), torch.cuda.current_device())
    if known in _found:
        return _found[known]
    options = " ".join(f"{name}={value}" for name, value in sorted(constants.items()))
    key = f"{kernel.__module__}.{kernel.__name__} {options} {width} {sizes} {dtypes} {torch.cuda.get_device_name()}"
    kept = _read_file().get(key)
    candidates = _candidates(width, constants.get("T") == tl.float64)
    if kept is not None:
        _found[known] = Choice(**kept)
    elif len(candidates) == 1:
        _found[known] = candidates[0]
    elif torch.cuda.is_current_stream_capturing() or os.environ.get("COMPVAE_FAST_TUNING") == "0":
        return candidates[0]
    else:
        _found[known] = min(candidates, key=lambda c: _time(kernel, items, width, arguments, like, constants, c))
        _write_file(key, _found[known])
    return _found[known]


def _time(kernel, items, width, arguments, like, constants, choice: Choice) -> float:
    """Milliseconds, the median of some rounds; a choice that the device cannot run takes forever."""
    try:
        _submit(kernel, items, width, arguments, like, constants, choice)
    except triton.runtime.errors.OutOfResources:
        return float("inf")
    times = []
    for _ in range(_ROUNDS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        _submit(kernel, items, width, arguments, like, constants, choice)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def cache_file() -> Path:
    """Where choices are kept: in XDG_CACHE_HOME or ~/.cache, a file for each state of the kernels and of Triton."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "compvae_fast" / f"triton-{_fingerprint()}.json"


@functools.cache
def _fingerprint() -> str:
    sources = sorted(Path(__file__).parent.glob("*.py"))
    text = b"".join(file.read_bytes() for file in sources) + triton.__version__.encode()
    return hashlib.sha256(text).hexdigest()[:16]


@functools.cache
def _read_file() -> dict[str, dict]:
    try:
        return json.loads(cache_file().read_text())
    except (OSError, ValueError):
        return {}


def _write_file(key: str, choice: Choice) -> None:
    """Adds a choice to the file, as a whole or not at all; where it cannot be written, the process keeps it."""
    with contextlib.suppress(OSError):
        file = cache_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        _read_file.cache_clear()
        known = {**_read_file(), key: asdict(choice)}
        _read_file.cache_clear()
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as new:
            json.dump(known, new, indent=1)
        os.replace(new.name, file)
