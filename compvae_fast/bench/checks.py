"""Correct before fast: outputs and gradients against the reference in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from compvae_fast.backends import use_backend
from compvae_fast.bench.contestants import one_pass
from compvae_fast.registry import Record
from compvae_fast.registry.records import GRADIENT_TOLERANCE


def errors(record: Record, arguments: Mapping[str, Any], run: Callable) -> dict[str, float]:
    """The error of each output and gradient over what is allowed to it: right where none is above 1.

    An output may differ from the reference by its tolerance times its norm; a gradient by 1e-4 of its norm and 1e-6 of
    that of all together; each in half precision also by the rounding of its dtype.
    """
    truth = _wide(arguments)
    with use_backend("reference"):
        true_outputs = [t.double() for t in record.fused(truth)]
        true_gradients = one_pass(record.fused, truth, record.differentiable, "full")()
    outputs = one_pass(run, arguments, record.differentiable, "forward")()
    gradients = one_pass(run, arguments, record.differentiable, "full")()
    found = {}
    for i, (got, wanted, tolerance) in enumerate(zip(outputs, true_outputs, record.tolerances)):
        found[f"output {i}"] = _over(got, wanted, tolerance * float(wanted.norm()))
    joint = float(torch.stack([g.norm() for g in true_gradients]).norm())
    for name, got, wanted in zip(record.differentiable, gradients, true_gradients):
        allowed = GRADIENT_TOLERANCE * float(wanted.norm()) + 1e-6 * joint
        found[f"gradient of {name}"] = _over(got, wanted, allowed)
    return found


def _wide(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.detach().double() if isinstance(value, Tensor) and value.is_floating_point() else value
            for name, value in arguments.items()}


def _over(got: Tensor | None, wanted: Tensor, allowed: float) -> float:
    if got is None or got.shape != wanted.shape:
        return float("inf")
    rounding = torch.finfo(got.dtype).eps * float(wanted.norm()) if got.dtype.itemsize < 4 else 0.0
    error = float((got.double() - wanted).norm())
    return error / max(allowed + rounding, 1e-30) if error == error else float("inf")
