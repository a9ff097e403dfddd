"""One shard of correlated_normal_log_prob, by the compiled kernels."""

from __future__ import annotations

from torch import Tensor

from compvae_fast import native
from compvae_fast.native.shards import sets_of, state_of
from compvae_fast.reference.shards import Shard


def sums(inputs: tuple[Tensor, ...], shard: Shard) -> Tensor:
    sets = sets_of(inputs[0], shard)
    rows = state_of(3, sets, inputs[0].device)
    native.library().correlated_normal_log_prob_shard_sums(
        sets.arguments, *_described(inputs), rows.data_ptr(), shard.coupling == "scaled")
    return rows


def squares(inputs: tuple[Tensor, ...], shard: Shard, stats: Tensor) -> Tensor:
    sets, stats = sets_of(inputs[0], shard), stats.contiguous()
    rows = state_of(2, sets, inputs[0].device)
    native.library().correlated_normal_log_prob_shard_squares(
        sets.arguments, *_described(inputs), stats.data_ptr(), rows.data_ptr(), shard.coupling == "scaled")
    return rows


def backward(grad: Tensor, inputs: tuple[Tensor, ...], shard: Shard, stats: Tensor, needs: list[bool]
             ) -> tuple[Tensor, ...]:
    """By the whole sets' kernel, which needs to know no more of other shards than the stats."""
    sets, stats = sets_of(inputs[0], shard), stats.contiguous()
    gradients = native.like_wanted(inputs, needs)
    wanted = native.wanted_rows(gradients, needs)
    native.library().correlated_normal_log_prob_backward(
        sets.arguments, *_described(inputs), *native.per_set(grad), stats.data_ptr(), wanted[0], wanted[1:],
        shard.coupling == "scaled")
    return gradients


def _described(inputs: tuple[Tensor, ...]) -> tuple:
    return *native.rows(inputs[0]), native.rows(*inputs[1:])
