"""Loading the native module, which knows no torch, and what its threads may be."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

WORDS = {"_native": "native", "_cuda": "CUDA"}
INTERFACE = 2  # of the compiled modules that this package calls, csrc/bindings.h


@functools.cache
def load(name: str = "_native") -> tuple[ModuleType | None, str]:
    """A compiled module, "_native" or "_cuda", or None and why it cannot be used."""
    try:
        module = importlib.import_module(f"compvae_fast.{name}")
    except ModuleNotFoundError:
        return None, why_absent(Path(__file__).parent, name)
    except ImportError as error:
        return None, f"the {WORDS[name]} module cannot be loaded: {error}"
    if getattr(module, "interface", 0) != INTERFACE:
        return None, f"the {WORDS[name]} module was built from other sources than these: build it again"
    return module, ""


def reason_missing() -> str:
    """Why the native module cannot be used; empty where it can."""
    return load()[1]


def library() -> ModuleType:
    """The native module."""
    module, reason = load()
    if module is None:
        raise RuntimeError(f"compvae_fast: {reason}")
    return module


def environment(name: str) -> str | None:
    """A variable of the environment; os.environ takes two exceptions to say that there is none."""
    module = load()[0]
    return os.environ.get(name) if module is None else module.environment(name)


def why_absent(package: Path, name: str = "_native") -> str:
    """Why the folder of the package does not hold a compiled module for this Python; setup.py leaves a note where it
    failed or could not be."""
    note = package / f"{name}_build_failure.txt"
    if note.exists():
        return note.read_text().strip()
    others = ", ".join(sorted(file.name for file in package.glob(f"{name}.*")))
    return (f"no {WORDS[name]} module was built for {sys.implementation.cache_tag}"
            + (f"; there is {others}" if others else ""))


_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def threads(wanted: int) -> int:
    """How many threads a kernel may run: one in a forked process, whose copy of OpenMP's pool has lost its threads."""
    return 1 if _forked else wanted
