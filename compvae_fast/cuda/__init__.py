"""The compiled CUDA kernels: loading them, and queueing them on the caller's stream.

The adapters of compvae_fast.native describe tensors on a CUDA device as they do on the CPU; `adapted` puts the CUDA
module's functions in the place of the CPU's. Nothing here waits for the device.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from compvae_fast import _loading, native

# What a kernel says of a wrong value: (exception, what was expected).
_EXPECTED: dict[str, tuple[type[Exception], str]] = {
    "offsets": (ValueError, "non-decreasing values that run from 0 to N"),
    "lengths": (ValueError, "values in [0, K]"),
    "set_index": (ValueError, "values in [0, 2^48 - 1)"),
    "part_start": (ValueError, "values in [0, 2^48), with room for the set's parts"),
    "labels": (IndexError, "values in [0, C)"),
    "counts": (ValueError, "values in [0, 2^53]"),
}


def reason_missing() -> str:
    """Why no CUDA kernel can run here; empty where they can."""
    module, reason = _loading.load("_cuda")
    if module is None:
        return reason
    count, error = module.device_count()
    if not count:
        return f"no CUDA device: {error or 'none was found'}"
    if not torch.cuda.is_available():
        return "this build of PyTorch sees no CUDA device"
    return ""


def library() -> ModuleType:
    """The CUDA module."""
    module, reason = _loading.load("_cuda")
    if module is None:
        raise RuntimeError(f"compvae_fast: {reason}")
    return module


class Queue(NamedTuple):
    """Where a call's kernels go: the caller's current stream of the tensors' device."""

    device: torch.device
    stream: int
    report: Tensor | None  # [arguments, 2] int64, written by kernels, read by the host

    def launch(self, scratch: Tensor | None = None) -> tuple[int, int, int]:
        """The first argument of the CUDA module's functions."""
        return self.stream, native.address(scratch), native.address(self.report)

    def scratch(self, sets: tuple[int, ...]) -> Tensor:
        """Working memory for a call on these sets; the stream's order keeps later calls from it until it is free."""
        return torch.empty(library().scratch_size(sets), dtype=torch.float64, device=self.device)

    def __call__(self, name: str, sets: tuple[int, ...], *arguments: Any, **options: Any) -> None:
        """Queue a function of the CUDA module on sets that an adapter describes."""
        scratch = self.scratch(sets)
        getattr(library(), name)(self.launch(scratch), sets, *arguments, **options)


class _Functions(SimpleNamespace):
    """The CUDA module's functions with the arguments of the native module's."""

    queue: Queue

    def __getattr__(self, name: str) -> Callable[..., None]:
        return functools.partial(self.queue.__call__, name)


@functools.cache
def _report(device: torch.device) -> Tensor:
    return torch.zeros(len(library().arguments), 2, dtype=torch.int64, pin_memory=device.type == "cuda")


def raise_reported(report: Tensor, when: str) -> None:
    """Raises for the first index tensor that kernels found a wrong value in, and forgets it."""
    if not report.any():
        return
    found = dict(zip(library().arguments, report.tolist()))
    report.zero_()
    for name, (place, value) in found.items():
        if place:
            error, expected = _EXPECTED[name]
            raise error(f"{name}: expected {expected}, got {value} at place {place - 1}, in {when}")


@contextlib.contextmanager
def queue_on(device: torch.device):
    """A Queue for one call. Raises what an earlier call found in its index tensors, outside the capture of a graph;
    with COMPVAE_FAST_CHECKS=1 waits for this call and raises what it found."""
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            # memory that the host shares may not be made while a graph is captured
            yield Queue(device, stream, _report(device) if _report.cache_info().currsize else None)
            return
        report = _report(device)
        raise_reported(report, "an earlier call")
        yield Queue(device, stream, report)
        if os.environ.get("COMPVAE_FAST_CHECKS") == "1":
            if device.type == "cuda":
                torch.cuda.current_stream(device).synchronize()
            raise_reported(report, "this call")


def _tensors(arguments: tuple) -> Iterator[Tensor]:
    """The tensors among the arguments, those in tuples too."""
    for a in arguments:
        if isinstance(a, tuple):
            yield from _tensors(a)
        elif isinstance(a, Tensor):
            yield a


def queued(function: Callable) -> Callable:
    """function(queue, *arguments) as one of the arguments, queued on the device of the tensors among them; what it
    calls of the native module are the CUDA module's functions."""

    @functools.wraps(function)
    def on_device(*arguments):
        device = next(_tensors(arguments)).device
        with queue_on(device) as queue:
            return native.served_by(_Functions(queue=queue), function)(queue, *arguments)

    return on_device


def adapted(operation: str, *names: str) -> list[Callable]:
    """Functions of the native adapter of an operation, forward and backward, calling the CUDA module's."""
    adapter = importlib.import_module(f"compvae_fast.native.{operation}")

    def over(function: Callable) -> Callable:
        return queued(lambda _, *arguments: function(*arguments))

    return [over(getattr(adapter, name)) for name in names or ("forward", "backward")]
