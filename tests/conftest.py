"""Fixtures that every folder may use: the backends, each instruction set of the native one as one of its own, and the
CUDA kernels as the host emulates them."""

from __future__ import annotations

from contextlib import contextmanager

import emulation
import pytest
import torch

import compvae_fast
from compvae_fast import native

ISAS = ("avx512", "avx2", "portable")


def _served(name: str) -> list[str]:
    """A backend's test names."""
    return {"cpu": [f"cpu-{isa}" for isa in ISAS], "cuda": ["cuda-emulated"]}.get(name, [name])


# Triton's interpreter is too slow for all of these tests; tests/kernels/test_triton.py has those that it can take.
BACKENDS = [variant for name in compvae_fast.backends() if name != "triton" for variant in _served(name)]


def why_not(variant: str) -> str:
    """Why a backend cannot be tested here on CPU tensors; empty where it can."""
    name, _, isa = variant.partition("-")
    if name == "cuda":
        return emulation.why_not()
    known = compvae_fast.backends()[name]
    if known.device not in ("cpu", "any"):
        return f"{name} serves {known.device} tensors"
    if not known.available:
        return known.reason
    if isa and isa not in native.library().instruction_sets():
        return f"this processor or build has no {isa}"
    return ""


@contextmanager
def chosen(variant: str):
    """Runs operations on one backend and instruction set."""
    name, _, isa = variant.partition("-")
    if name == "cuda":
        with emulation.emulated():
            yield variant
        return
    before = native.library().instruction_set() if isa else None
    if isa:
        assert native.library().use_instruction_set(isa)
    try:
        with compvae_fast.use_backend(name):
            yield variant
    finally:
        if isa:
            native.library().use_instruction_set(before)


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request):
    """Each backend in turn; skipped, with the reason, where it is missing."""
    if reason := why_not(request.param):
        pytest.skip(f"{request.param}: {reason}")
    with chosen(request.param):
        yield request.param


@pytest.fixture
def poisoned_memory():
    """torch.empty gives NaN, so that what a kernel forgets to write is seen."""
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.utils.deterministic.fill_uninitialized_memory = before[1]
