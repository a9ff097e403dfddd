"""Which backends there are, why not where one is missing, and which one serves a call."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from compvae_fast import _loading
from compvae_fast.kernels import triton

__all__ = ["Backend", "backends", "set_backend", "use_backend", "resolve", "implementation"]


@dataclass(frozen=True)
class Backend:
    """One way to compute the operations: is it there, and where it is not, why.

    Attributes: name; device ("cpu", "cuda" or "any"); available; reason (empty where it is available); note, what else
    there is to know.
    """

    name: str
    device: str
    available: bool
    reason: str
    note: str = ""


def _reference_reason() -> str:
    return ""


def _cpu_reason() -> str:
    return _loading.reason_missing()


def _numba_reason() -> str:
    from compvae_fast.kernels import numba

    return numba.reason_missing()


def _torch_reason() -> str:
    """Why torch, which the kernels for devices go by, cannot be had; empty where it can."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        return f"torch cannot be imported: {error}"
    return ""


def _cuda_reason() -> str:
    if reason := _torch_reason():
        return reason
    from compvae_fast import cuda

    return cuda.reason_missing()


def _triton_reason() -> str:
    return _torch_reason() or triton.reason_missing()


# name -> (device, why it cannot be used here or "", package that holds one module for each operation)
_KNOWN: dict[str, tuple[str, Callable[[], str], str]] = {
    "cpu": ("cpu", _cpu_reason, "compvae_fast.native"),
    "numba": ("cpu", _numba_reason, "compvae_fast.kernels.numba"),
    "cuda": ("cuda", _cuda_reason, "compvae_fast.cuda"),
    "triton": (triton.device(), _triton_reason, "compvae_fast.kernels.triton"),
    "reference": ("any", _reference_reason, "compvae_fast.reference"),
}
_NOTES: dict[str, Callable[[], str]] = {"triton": triton.note}
# Fastest first; between the two on a CUDA device a table decides that is made from measurements.
_PREFERENCE = {"cpu": ("cpu", "numba", "reference"), "cuda": ("cuda", "triton", "reference")}
GPU_CHOICE = Path(__file__).parent / "gpu_choice.json"

_chosen: contextvars.ContextVar[str | None] = contextvars.ContextVar("compvae_fast_backend", default=None)
_default: str | None = None


@functools.cache
def _reason(name: str) -> str:
    return _KNOWN[name][1]()


def backends() -> dict[str, Backend]:
    """The backends by name, each with its device, whether it is available and, where it is not, why.

    >>> backends()["reference"].available
    True
    """
    return {name: Backend(name, device, not _reason(name), _reason(name), _NOTES.get(name, lambda: "")())
            for name, (device, _, _) in _KNOWN.items()}


def _validated(name: str | None, source: str) -> str | None:
    if name is None:
        return None
    if name not in _KNOWN:
        raise ValueError(f"{source}: expected one of {', '.join(_KNOWN)}, got {name!r}")
    if _reason(name):
        raise ValueError(f"{source}: backend {name!r} is not available: {_reason(name)}")
    return name


def set_backend(name: str | None) -> None:
    """Choose the backend of every later call in this process; None lets each call take the fastest one.

    Raises ValueError for an unknown backend and for one that is not available, saying why.
    """
    global _default
    _default = _validated(name, "set_backend(name)")


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Choose the backend of the calls inside a `with` block (of this thread or task).

    Raises ValueError as `set_backend` does.
    """
    token = _chosen.set(_validated(name, "use_backend(name)"))
    try:
        yield
    finally:
        _chosen.reset(token)


def requested() -> str | None:
    """The backend that was asked for: by `use_backend`, then `set_backend`, then COMPVAE_FAST_BACKEND."""
    name = _chosen.get() or _default
    if name is None and (name := _loading.environment("COMPVAE_FAST_BACKEND") or None):
        _validated(name, "COMPVAE_FAST_BACKEND")
    return name


@functools.cache
def _has(backend: str, operation: str) -> bool:
    return importlib.util.find_spec(f"{_KNOWN[backend][2]}.{operation}") is not None


@functools.cache
def gpu_choice() -> dict:
    """What was measured to be fastest on a GPU: "measured", on what and when, or None; "choices", a backend by
    operation and class of shapes. `make gpu-check` rewrites the file."""
    return json.loads(GPU_CHOICE.read_text())


@functools.cache
def _preference(operation: str, device: str, shapes: str) -> tuple[str, ...]:
    """The backends for a device type, fastest first."""
    order = _PREFERENCE.get(device, ("reference",))
    fastest = gpu_choice()["choices"].get(operation, {}).get(shapes) if device == "cuda" else None
    return order if fastest is None else (fastest, *(name for name in order if name != fastest))


def resolve(operation: str, device: str, shapes: str = "") -> str:
    """The backend that serves an operation on a device type; a backend asked for that cannot serve raises.

    shapes: the class of the arguments' shapes, where the choice depends on it: "few parts", "many parts", "ragged",
    "rows" or "float64" (ops._library.shapes_of).
    """
    name = requested()
    if name is not None:
        if _KNOWN[name][0] not in (device, "any"):
            raise ValueError(f"{operation}: backend {name!r} serves {_KNOWN[name][0]} tensors, got {device} tensors")
        if not _has(name, operation):
            raise ValueError(f"{operation}: backend {name!r} does not offer this operation")
        return name
    return _fastest(operation, device, shapes)


@functools.cache
def _fastest(operation: str, device: str, shapes: str) -> str:
    for candidate in _preference(operation, device, shapes):
        if _KNOWN[candidate][0] in (device, "any") and not _reason(candidate) and _has(candidate, operation):
            return candidate
    return "reference"


def serving(operation: str, device: str) -> tuple[str, ...]:
    """The available backends that serve an operation on a device type, fastest first; not those for tests alone.

    >>> "reference" in serving("multiset_kl", "cpu")
    True
    """
    return tuple(name for name in _PREFERENCE.get(device, ("reference",))
                 if _KNOWN[name][0] in (device, "any") and not _reason(name) and _has(name, operation))


@functools.cache
def implementation(backend: str, operation: str) -> ModuleType:
    """The module of one operation on one backend, loaded when it is first needed."""
    return importlib.import_module(f"{_KNOWN[backend][2]}.{operation}")


class _Callable(ModuleType):
    """This module, called as the function of its own name: the import system puts it in that function's place."""

    def __call__(self) -> dict[str, Backend]:
        return backends()


sys.modules[__name__].__class__ = _Callable
