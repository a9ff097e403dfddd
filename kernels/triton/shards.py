"""Shards of sets whose parts are spread over processes: what their kernels share.

compvae_fast/distributed/joint.py says how shards are joined.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from compvae_fast.kernels.triton.multiset import PARTIAL, merge_partial, row_of, store_partial, sum_over
from compvae_fast.kernels.triton.places import MERGED, SEGMENTS, WHOLE, calls, columns, place_of, slot_at
from compvae_fast.kernels.triton.sets import Call, float_type, of_parts, rows
from compvae_fast.reference.shards import Shard


@triton.jit
def store_shard(given, sets, place, there, row: tl.constexpr, values, BLOCK: tl.constexpr):
    """Writes a row of what a shard adds, float64 [rows, B, D]: 0 of an empty one, NaN where its indices were wrong."""
    nothing = tl.where(place.size < 0, float("nan"), 0.0)
    values = tl.where(place.size > 0, values.to(tl.float64), nothing)
    tl.store(slot_at(given, sets, place, row, BLOCK), values, mask=there)


@triton.jit
def _sums(sets, inputs, state, partial, MODE: tl.constexpr, ONE_CHUNK: tl.constexpr, UNIT: tl.constexpr,
          KL: tl.constexpr, DENSITY: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    place = place_of(sets, MODE, BLOCK)
    if place.here:
        there = columns(sets, place, BLOCK)
        if MODE == MERGED:
            m, sums = merge_partial(partial, sets, place, there, UNIT, KL, True, KL, DENSITY, T, BLOCK)
        else:
            m, sums = sum_over(sets, place, inputs, calls(place, BLOCK), there, ONE_CHUNK, UNIT, KL, True, KL, DENSITY,
                               T, BLOCK)
        if MODE == SEGMENTS:
            store_partial(partial, sets, place, there, m, sums, UNIT, KL, True, KL, DENSITY, BLOCK)
        else:
            for i in tl.static_range(15):
                if row_of(i, UNIT, KL, True, KL, DENSITY) >= 0:
                    store_shard(state, sets, place, there, row_of(i, UNIT, KL, True, KL, DENSITY),
                                m[i] if i < 5 else sums[i - 5], BLOCK)


def of_shard(like: Tensor, shard: Shard, spoilt: tuple[Tensor, ...] = ()) -> Call:
    """The sets of a shard's tensors like `like`."""
    return of_parts(like, shard.offsets, shard.lengths, shard.set_index, shard.part_start, shard.seed, spoilt=spoilt,
                    whole_sizes=shard.counts)


def sums(inputs: tuple[Tensor, ...], shard: Shard, count: int, kl: bool, density: bool) -> Tensor:
    """A shard's state of `count` rows: of posterior_sum_and_kl (kl) or of draws of parts."""
    call = of_shard(inputs[0], shard)
    state = call.kept(count, torch.float64)
    arguments = tuple(map(rows, inputs)), state, call.partial(PARTIAL.value)
    constants = dict(UNIT=shard.coupling == "unit", KL=kl, DENSITY=density, T=float_type(*inputs))
    for mode in (WHOLE, SEGMENTS, MERGED):
        call.launch(_sums, mode, *arguments, ONE_CHUNK=mode.value == WHOLE.value and call.one_chunk, **constants)
    call.finish()
    return state
