"""The operations as custom operations of BackendBench (github.com/meta-pytorch/BackendBench).

    python -c "from compvae_fast.plugins import backendbench; backendbench.write_operations('custom_ops')"

gives each record <operation>/gen_input.py, <operation>_reference.py and, for each backend, a <operation>_kernel_impl.
The reference is the plain PyTorch formula with the very noise of the operation, so that the two are compared number by
number; that noise is drawn by the package's own `random.normal`, which counts for the reference's speed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compvae_fast.backends import use_backend
from compvae_fast.bench.suite import cases_of
from compvae_fast.plugins._files import leave
from compvae_fast.registry import RECORDS, SEED

Tests = list[tuple[tuple, dict[str, Callable]]]

_INPUTS = """from compvae_fast.plugins import backendbench


def get_correctness_tests():
    return backendbench.tests({name!r}, quick=True)


def get_performance_tests():
    return backendbench.tests({name!r}, quick=False)
"""
_FUNCTION = """from compvae_fast.plugins import backendbench

{name}_{role} = backendbench.{maker}
"""


def write_operations(folder: str | Path, device: str = "cpu") -> list[Path]:
    """Give each record of the registry a folder in BackendBench's folder of custom operations.

    Args:
        folder: an existing folder, custom_ops by BackendBench's default.
        device: whose backends are written down, "cpu" or "cuda".

    Returns:
        The files.

    Raises:
        ValueError: the folder is not there, or holds other files of these names.
    """
    files = {}
    for name, record in RECORDS.items():
        files[f"{name}/gen_input.py"] = _INPUTS.format(name=name)
        files[f"{name}/{name}_reference.py"] = _FUNCTION.format(name=name, role="reference", maker=f"plain({name!r})")
        for backend in record.backends(device):
            files[f"{name}/{backend}/{name}.py"] = _FUNCTION.format(
                name=name, role="kernel_impl", maker=f"kernel({name!r}, {backend!r})")
    return leave(folder, files)


def tests(name: str, quick: bool) -> Tests:
    """Inputs of a record's small shapes or of its full ones: ((), {argument: a callable that gives its value}).

    BackendBench makes the inputs anew for each call that it times; the values are therefore kept until those of another
    test are asked for.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    record = RECORDS[name]
    found: Tests = []
    for index, case in enumerate(cases_of(record, quick)):
        named = [*record.arguments(case.shape.reduced(1), **case.options), *(["seed"] if record.draws else [])]
        found.append(((), {a: functools.partial(_value, name, quick, index, device, a) for a in named}))
    return found


def kernel(name: str, backend: str) -> Callable[..., Tensor | tuple[Tensor, ...]]:
    """The public function of a record on one backend."""
    function = RECORDS[name].function

    def on_backend(**arguments):
        with use_backend(backend):
            return function(**arguments)

    return on_backend


def plain(name: str) -> Callable[..., Tensor | tuple[Tensor, ...]]:
    """The record's formula in plain PyTorch, with the noise of the operation."""
    record = RECORDS[name]

    def formula(seed: int = SEED, **arguments):
        outputs = record.plain_with_noise_of(arguments, seed)
        return outputs if len(outputs) > 1 else outputs[0]

    return formula


@functools.lru_cache(maxsize=1)
def _example(name: str, quick: bool, index: int, device: str) -> dict[str, Any]:
    case = cases_of(RECORDS[name], quick)[index]
    return case.record.arguments(case.shape, device=device, **case.options)


def _value(name: str, quick: bool, index: int, device: str, argument: str) -> Any:
    return SEED if argument == "seed" else _example(name, quick, index, device)[argument]
