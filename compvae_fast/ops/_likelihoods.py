"""What the likelihoods of observations share: parameters that broadcast to the observation."""

from __future__ import annotations

import torch
from torch import Tensor

from compvae_fast.ops import _checks, _library
from compvae_fast.reference.layout import expand_to


def likelihood(name: str, spread: str) -> _library.Operation:
    """The record of a negative log-likelihood of x given mu and `spread`, all [B, ...] of one shape."""
    return _library.Operation(
        name=name,
        inputs=tuple(_library.Argument(argument, "set") for argument in ("x", "mu", spread)),
        arguments=(),
        outputs=("set",),
        saved=(),
        describe=lambda values, save: [((values[0].shape[0],), _library.wide_dtype(values[0]))],
    )


def observation(x: Tensor, **parameters: Tensor) -> tuple[Tensor, ...]:
    """Checks x [B, ...] and its parameters, of one dtype, and expands these to the shape of x."""
    _checks.observation(x, parameters)
    return x, *(_expanded(value, x) for value in parameters.values())


def _expanded(value: Tensor, x: Tensor) -> Tensor:
    if value.shape == x.shape:
        return value
    # Gradients are summed over the expansion: not in 8 or 11 bits, and not by halves that depend on the threads.
    if value.dtype in (torch.bfloat16, torch.float16):
        value = value.float()
    return expand_to(value, x.shape) if value.numel() == 1 else value.expand(x.shape)
