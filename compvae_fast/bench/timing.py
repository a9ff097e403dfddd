"""Clocks and scales: interleaved timing, bandwidth of a copy, peak memory, memory that is free."""

from __future__ import annotations

import contextlib
import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch

Call = Callable[[], object]
# A sample is a batch of calls that takes at least this long, so that the clock's own price does not count.
SHORTEST_SAMPLE = 2e-4
MOST_SAMPLES = 200


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: 20 %, 50 % and 80 % quantiles of the samples, the least, and how many there were."""

    q20: float
    median: float
    q80: float
    least: float
    samples: int

    @staticmethod
    def of(seconds: list[float]) -> Timing:
        """
        >>> Timing.of([3.0, 1.0, 2.0, 5.0, 4.0, 6.0]).median
        3.5
        """
        ordered = sorted(seconds)
        fifths = statistics.quantiles(ordered, n=5, method="inclusive") if len(ordered) > 1 else 4 * ordered
        return Timing(fifths[0], statistics.median(ordered), fifths[3], ordered[0], len(ordered))


def interleaved(
    calls: Mapping[str, Call], *, seconds: float, at_least: int = 5, synchronize: Callable[[], None] | None = None
) -> dict[str, Timing]:
    """Time calls in turns within one stretch of time, so that what slows the machine slows all of them.

    Args:
        calls: by name; each was called before, so that what compiles is compiled.
        seconds: that each call may take in all.
        at_least: samples of each, whatever they take.
        synchronize: waits for the device, where the calls only enqueue work.

    Returns:
        The timing of each.
    """
    wait = synchronize or (lambda: None)
    batch = {name: _calls_a_sample(call, wait) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    with _no_collection():
        while pending := [name for name in names if _wants_more(samples[name], batch[name], seconds, at_least)]:
            for name in pending:
                samples[name].append(_sample(calls[name], batch[name], wait))
            # Another one comes first in the next round: neighbours leave their data in the caches.
            names.append(names.pop(0))
    return {name: Timing.of(samples[name]) for name in calls}


def _wants_more(samples: list[float], batch: int, seconds: float, at_least: int) -> bool:
    return len(samples) < at_least or (batch * sum(samples) < seconds and len(samples) < MOST_SAMPLES)


def _calls_a_sample(call: Call, wait: Callable[[], None]) -> int:
    once = _sample(call, 1, wait)
    if once < SHORTEST_SAMPLE:
        once = min(once, _sample(call, 1, wait))
    return max(1, round(SHORTEST_SAMPLE / max(once, 1e-9)))


def once(call: Call, synchronize: Callable[[], None] | None = None) -> float:
    """Seconds of one call."""
    return _sample(call, 1, synchronize or (lambda: None))


def _sample(call: Call, batch: int, wait: Callable[[], None]) -> float:
    wait()
    start = time.perf_counter()
    for _ in range(batch):
        call()
    wait()
    return (time.perf_counter() - start) / batch


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def synchronizer(device: torch.device) -> Callable[[], None] | None:
    """What waits for the device; None where calls return when they are done."""
    return torch.cuda.synchronize if device.type == "cuda" else None


def copy_of(traffic: int, device: torch.device) -> Call:
    """A copy that reads and writes `traffic` bytes in all: the measure of a kernel that moves as many."""
    source = torch.ones(max(1, traffic // 2), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def product_of_matrices(device: torch.device, size: int = 1024) -> tuple[Call, int]:
    """A float32 matrix product and its operations: the roof of a roofline."""
    a = torch.ones(size, size, device=device)
    out = torch.empty_like(a)
    return lambda: torch.mm(a, a, out=out), 2 * size**3


def peak_memory(call: Call, device: torch.device) -> int:
    """Bytes that one call takes at its peak, outputs included, beyond what was there before it.

    Of what torch allocates: on the CPU by the events of its profiler, on CUDA by the allocator's own count.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with _quiet_stderr(), torch.autograd.profiler.profile(profile_memory=True) as profiler:
        kept = call()
    del kept
    events = [(e.start_ns(), e.nbytes()) for e in profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(accumulate((size for _, size in sorted(events, key=lambda event: event[0])), initial=0))


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """torch's profiler tells on stderr that it starts and stops, and knows no switch for it."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def free_memory(device: torch.device) -> int | None:
    """Bytes that may be allocated without swapping; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info()[0]
    known = Path("/proc/meminfo")
    if not known.exists():
        return None
    lines = (line.split() for line in known.read_text().splitlines())
    return next((1024 * int(words[1]) for words in lines if words[0] == "MemAvailable:"), None)
