"""One shard's share of posterior_sum_and_kl, by the compiled kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from compvae_fast import native
from compvae_fast.reference.posterior_shard import JOINT, STATE, Shard


def forward(inputs: tuple[Tensor, ...], shard: Shard) -> Tensor:
    sets = _sets(inputs, shard)
    state = torch.empty(STATE, sets.count, sets.width, dtype=torch.float64)
    native.library().posterior_shard_forward(
        sets.arguments, tuple(map(native.rows, inputs)), state.data_ptr(), shard.coupling == "scaled",
        native.computes_float64(*inputs))
    return state


def backward(grad_w: Tensor | None, grad_kl: Tensor | None, inputs: tuple[Tensor, ...], shard: Shard, joint: Tensor,
             needs: list[bool]) -> tuple[Tensor, ...]:
    sets = _sets(inputs, shard)
    float64 = native.computes_float64(*inputs)
    joint = joint.to(torch.float64 if float64 else torch.float32).contiguous()
    assert joint.shape[0] == JOINT
    gradients = native.like_wanted(inputs, needs)
    native.library().posterior_shard_backward(
        sets.arguments, tuple(map(native.rows, inputs)), native.per_set(grad_w), native.per_set(grad_kl),
        joint.data_ptr(), native.wanted_rows(gradients, needs), shard.coupling == "scaled", float64)
    return gradients


def _sets(inputs: tuple[Tensor, ...], shard: Shard) -> native.Sets:
    return native.Sets(inputs[0], shard.offsets, shard.lengths, shard.set_index, shard.part_start, shard.seed)
