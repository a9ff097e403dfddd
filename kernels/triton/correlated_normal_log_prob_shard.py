"""One shard of correlated_normal_log_prob by Triton kernels, in float64."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from compvae_fast.kernels.triton import shards
from compvae_fast.kernels.triton.correlated_normal_log_prob import (
    PARTIAL,
    first_sums,
    merge_first,
    merge_second,
    run_backward,
    second_sums_of,
    store_partial,
)
from compvae_fast.kernels.triton.places import MERGED, SEGMENTS, WHOLE, columns, place_of
from compvae_fast.kernels.triton.sets import like_wanted, rows, wanted
from compvae_fast.kernels.triton.shards import store_shard
from compvae_fast.reference.shards import Shard


@triton.jit
def _sums(sets, inputs, stats, found, partial, MODE: tl.constexpr, SECOND: tl.constexpr, UNIT: tl.constexpr,
          BLOCK: tl.constexpr):
    """SECOND: the sums that need the first three rows of the joint stats."""
    place = place_of(sets, MODE, BLOCK)
    if place.here:
        there = columns(sets, place, BLOCK)
        if SECOND:
            if MODE == MERGED:
                sums_ = merge_second(partial, sets, place, there, BLOCK)
            else:
                sums_ = second_sums_of(stats, sets, place, inputs, there, UNIT, BLOCK)
        elif MODE == MERGED:
            sums_ = merge_first(partial, sets, place, there, BLOCK)
        else:
            sums_ = first_sums(place, inputs, there, UNIT, BLOCK)
        if MODE == SEGMENTS:
            store_partial(partial, sets, place, there, SECOND, sums_, BLOCK)
        else:
            for i in tl.static_range(2 if SECOND else 3):
                store_shard(found, sets, place, there, i, sums_[i], BLOCK)


def sums(inputs: tuple[Tensor, ...], shard: Shard) -> Tensor:
    return _run(inputs, shard, None)


def squares(inputs: tuple[Tensor, ...], shard: Shard, stats: Tensor) -> Tensor:
    return _run(inputs, shard, stats.contiguous())


def _run(inputs: tuple[Tensor, ...], shard: Shard, stats: Tensor | None) -> Tensor:
    call, second = shards.of_shard(inputs[0], shard), stats is not None
    found, partial = call.kept(2 if second else 3, torch.float64), call.partial(PARTIAL.value)
    for mode in (WHOLE, SEGMENTS, MERGED):
        call.launch(_sums, mode, tuple(map(rows, inputs)), stats, found, partial, SECOND=second,
                    UNIT=shard.coupling == "unit")
    call.finish()
    return found


def backward(grad: Tensor, inputs: tuple[Tensor, ...], shard: Shard, stats: Tensor, needs: list[bool]
             ) -> tuple[Tensor, ...]:
    """By the whole sets' kernel, which needs to know no more of other shards than the stats."""
    gradients = like_wanted(inputs, needs)
    call = shards.of_shard(inputs[0], shard, spoilt=gradients)
    run_backward(call, inputs, grad, stats.contiguous(), wanted(gradients, needs), shard.coupling == "unit")
    return gradients
