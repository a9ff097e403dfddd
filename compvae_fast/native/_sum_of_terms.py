"""Operations that sum a term of their elements over all dimensions but the first."""

from __future__ import annotations

import torch
from torch import Tensor

from compvae_fast import native


class SumOfTerms:
    """The forward and backward functions of one of them, on inputs [B, ...] seen as rows [B, M]."""

    def __init__(self, name: str):
        self._name = name

    def forward(self, *arguments):
        *inputs, _ = arguments
        matrices = [_matrix(t) for t in inputs]
        wide = torch.float64 if inputs[0].dtype == torch.float64 else torch.float32
        out = torch.empty(inputs[0].shape[0], dtype=wide, device=inputs[0].device)
        sets = native.Sets(matrices[0].shape, None, None)
        getattr(native.library(), self._name + "_forward")(
            sets.arguments, native.per_set(*matrices), *native.per_set(out),
            native.computes_float64(*inputs))
        return (out,)

    def backward(self, grad_out, *arguments):
        *inputs, needs = arguments
        gradients = native.like_wanted(inputs, needs)
        if grad_out is None:
            return tuple(g.zero_() for g in gradients)
        matrices = [_matrix(t) for t in inputs]
        sets = native.Sets(matrices[0].shape, None, None)
        wanted = native.per_set(*[_matrix(g) if need else None for g, need in zip(gradients, needs)])
        getattr(native.library(), self._name + "_backward")(
            sets.arguments, native.per_set(*matrices), *native.per_set(grad_out), wanted,
            native.computes_float64(*inputs))
        return gradients


def _matrix(t: Tensor) -> Tensor:
    """[B, ...] as [B, M]; a copy where the strides leave no other way."""
    return t if t.dim() == 2 else t[:, None] if t.dim() == 1 else t.flatten(1)
