"""One shard of posterior_sum_and_kl, by the compiled kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from compvae_fast import native
from compvae_fast.native.shards import sets_of, state_of, stats_of
from compvae_fast.reference.shards import POSTERIOR_STATE, Shard


def forward(inputs: tuple[Tensor, ...], shard: Shard) -> Tensor:
    sets = sets_of(inputs[0], shard)
    state = state_of(len(POSTERIOR_STATE[shard.coupling]), sets, inputs[0].device)
    native.library().posterior_shard_forward(
        sets.arguments, native.rows(*inputs), state.data_ptr(), shard.coupling == "scaled",
        native.computes_float64(*inputs))
    return state


def backward(grad_w: Tensor | None, grad_kl: Tensor | None, inputs: tuple[Tensor, ...], shard: Shard, stats: Tensor,
             needs: list[bool]) -> tuple[Tensor, ...]:
    """By the whole sets' kernel, which needs to know no more of other shards than the stats and the sets' sizes."""
    sets = sets_of(inputs[0], shard)
    stats = stats_of(stats, inputs)
    gradients = native.like_wanted(inputs, needs)
    native.library().posterior_sum_and_kl_backward(
        sets.arguments, native.rows(*inputs), *native.per_set(grad_w, grad_kl),
        stats.data_ptr(), native.wanted_rows(gradients, needs), shard.coupling == "scaled",
        stats.dtype == torch.float64)
    return gradients
