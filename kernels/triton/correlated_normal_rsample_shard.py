"""One shard of correlated_normal_rsample by Triton kernels."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from compvae_fast.kernels.triton import shards
from compvae_fast.kernels.triton.correlated_normal_rsample import centring_of, write, write_backward
from compvae_fast.kernels.triton.parts import Centring, load_whole, merge_centring, store_centring
from compvae_fast.kernels.triton.places import MERGED, SEGMENTS, WHOLE, columns, place_of
from compvae_fast.kernels.triton.sets import float_type, like_wanted, per_set, rows, wanted
from compvae_fast.kernels.triton.shards import store_shard
from compvae_fast.native.shards import stats_of
from compvae_fast.reference.shards import PARTS_STATE, Shard


@triton.jit
def _centre(sets, inputs, grad_w, stats, centre, partial, MODE: tl.constexpr, UNIT: tl.constexpr, T: tl.constexpr,
            BLOCK: tl.constexpr):
    place = place_of(sets, MODE, BLOCK)
    if place.here:
        there = columns(sets, place, BLOCK)
        if MODE == MERGED:
            c = merge_centring(partial, sets, place, there, T, BLOCK)
        else:
            c = centring_of(place, inputs, grad_w, there, load_whole(stats, sets, place, there, BLOCK), UNIT, T, BLOCK)
        if MODE == SEGMENTS:
            store_centring(partial, sets, place, there, c, BLOCK)
        else:
            store_shard(centre, sets, place, there, 0, c.reference, BLOCK)
            store_shard(centre, sets, place, there, 1, c.sum, BLOCK)
            store_shard(centre, sets, place, there, 2, c.rhos, BLOCK)


def sums(inputs: tuple[Tensor, ...], shard: Shard, density: bool) -> Tensor:
    return shards.sums(inputs, shard, len(PARTS_STATE) - (not density), kl=False, density=density)


def sample(inputs: tuple[Tensor, ...], shard: Shard, stats: Tensor) -> Tensor:
    w = torch.empty(inputs[0].shape, dtype=inputs[0].dtype, device=inputs[0].device)
    call = shards.of_shard(inputs[0], shard, spoilt=(w,))
    arguments = tuple(map(rows, inputs)), rows(w), stats_of(stats, inputs)
    for mode in (WHOLE, SEGMENTS):
        call.launch(write, mode, *arguments, **_constants(inputs, shard))
    call.finish()
    return w


def centre(grad_w: Tensor, inputs: tuple[Tensor, ...], shard: Shard, stats: Tensor) -> Tensor:
    call = shards.of_shard(inputs[0], shard)
    found, partial = call.kept(3, torch.float64), call.partial(len(Centring._fields))
    arguments = tuple(map(rows, inputs)), rows(grad_w), stats_of(stats, inputs), found, partial
    for mode in (WHOLE, SEGMENTS, MERGED):
        call.launch(_centre, mode, *arguments, **_constants(inputs, shard))
    call.finish()
    return found


def backward(grad_w: Tensor, grad_log_q: Tensor | None, inputs: tuple[Tensor, ...], shard: Shard, stats: Tensor,
             centred: Tensor, needs: list[bool]) -> tuple[Tensor, ...]:
    gradients = like_wanted(inputs, needs)
    call = shards.of_shard(inputs[0], shard, spoilt=gradients)
    reference, sum_ = centred[:2]
    kept = stats_of(torch.stack([reference, reference * stats[5] - sum_]), inputs)
    arguments = (tuple(map(rows, inputs)), rows(grad_w), per_set(grad_log_q), stats_of(stats, inputs),
                 tuple(map(rows, wanted(gradients, needs))), kept)
    for mode in (WHOLE, SEGMENTS):
        call.launch(write_backward, mode, *arguments, **_constants(inputs, shard))
    call.finish()
    return gradients


def _constants(inputs: tuple[Tensor, ...], shard: Shard) -> dict:
    return dict(UNIT=shard.coupling == "unit", T=float_type(*inputs))
