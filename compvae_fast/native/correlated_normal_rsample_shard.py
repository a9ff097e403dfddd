"""One shard of correlated_normal_rsample, by the compiled kernels."""

from __future__ import annotations

from torch import Tensor

from compvae_fast import native
from compvae_fast.native.shards import sets_of, state_of, stats_of
from compvae_fast.reference.shards import PARTS_STATE, Shard


def sums(inputs: tuple[Tensor, ...], shard: Shard, density: bool) -> Tensor:
    sets = sets_of(inputs[0], shard)
    state = state_of(len(PARTS_STATE) - (not density), sets, inputs[0].device)
    native.library().correlated_normal_rsample_shard_sums(
        sets.arguments, native.rows(*inputs), state.data_ptr(), density, *_options(inputs, shard))
    return state


def sample(inputs: tuple[Tensor, ...], shard: Shard, stats: Tensor) -> Tensor:
    sets, stats = sets_of(inputs[0], shard), stats_of(stats, inputs)
    w = native.empty(inputs[0].shape, inputs[0].dtype, inputs[0].device)
    native.library().correlated_normal_rsample_shard_sample(
        sets.arguments, native.rows(*inputs), *native.rows(w), stats.data_ptr(),
        *_options(inputs, shard))
    return w


def centre(grad_w: Tensor, inputs: tuple[Tensor, ...], shard: Shard, stats: Tensor) -> Tensor:
    sets, stats = sets_of(inputs[0], shard), stats_of(stats, inputs)
    rows = state_of(3, sets, inputs[0].device)
    native.library().correlated_normal_rsample_shard_centre(
        sets.arguments, native.rows(*inputs), *native.rows(grad_w), stats.data_ptr(), rows.data_ptr(),
        *_options(inputs, shard))
    return rows


def backward(grad_w: Tensor, grad_log_q: Tensor | None, inputs: tuple[Tensor, ...], shard: Shard, stats: Tensor,
             centred: Tensor, needs: list[bool]) -> tuple[Tensor, ...]:
    sets, stats, centred = sets_of(inputs[0], shard), stats_of(stats, inputs), centred.contiguous()
    gradients = native.like_wanted(inputs, needs)
    native.library().correlated_normal_rsample_shard_backward(
        sets.arguments, native.rows(*inputs), *native.rows(grad_w),
        *native.per_set(grad_log_q), stats.data_ptr(), centred.data_ptr(), native.wanted_rows(gradients, needs),
        *_options(inputs, shard))
    return gradients


def _options(inputs: tuple[Tensor, ...], shard: Shard) -> tuple[bool, bool]:
    return shard.coupling == "scaled", native.computes_float64(*inputs)
