"""One shard of correlated_normal_rsample by Numba kernels."""

from __future__ import annotations

from compvae_fast.kernels.numba.calls import adapted, kind_of, run_places
from compvae_fast.kernels.numba.compiling import kernel
from compvae_fast.kernels.numba.correlated_normal_rsample import centre_gradients, write_gradients, write_sample
from compvae_fast.kernels.numba.multiset import PART_COUNT, STATS, posterior, sum_set, write_state
from compvae_fast.kernels.numba.parts import read_centre, write_centre
from compvae_fast.kernels.numba.places import next_item, place_at, places_of, read_stats, value_of
from compvae_fast.kernels.numba.rows import tensor
from compvae_fast.kernels.numba.vectors import NO, YES


@kernel
def _sums(kind, unit, density, sets, given, state, queue, memory):
    index = next_item(queue, -1)
    while index < places_of(sets):
        place = place_at(sets, index, memory)
        sum_set(kind, unit, NO, YES, NO, density, sets, place, given)
        write_state(kind, unit, NO, NO, density, sets, place, state)
        index = next_item(queue, index)


@kernel
def _sample(kind, unit, sets, given, w, stats, queue, memory):
    index = next_item(queue, -1)
    while index < places_of(sets):
        place = place_at(sets, index, memory)
        read_stats(kind, sets, place, stats, PART_COUNT, memory + STATS)
        write_sample(kind, unit, sets, place, given, w, True)
        index = next_item(queue, index)


@kernel
def _centre(kind, unit, sets, given, grad_w, stats, centre, queue, memory):
    index = next_item(queue, -1)
    while index < places_of(sets):
        place = place_at(sets, index, memory)
        read_stats(kind, sets, place, stats, PART_COUNT, memory + STATS)
        centre_gradients(kind, unit, place, given, grad_w)
        write_centre(kind, sets, place, centre)
        index = next_item(queue, index)


@kernel
def _backward(kind, unit, sets, given, grad_w, grad_density, stats, centre, wanted, queue, memory):
    index = next_item(queue, -1)
    while index < places_of(sets):
        place = place_at(sets, index, memory)
        read_stats(kind, sets, place, stats, PART_COUNT, memory + STATS)
        read_centre(kind, sets, place, centre)
        write_gradients(kind, unit, sets, place, given, grad_w, value_of(kind, place, grad_density), wanted)
        index = next_item(queue, index)


def correlated_normal_rsample_shard_sums(sets, inputs, state, density, scaled, float64):
    run_places(_sums, sets, kind_of(float64), (not scaled, density), posterior(inputs), state)


def correlated_normal_rsample_shard_sample(sets, inputs, w, stats, scaled, float64):
    run_places(_sample, sets, kind_of(float64), (not scaled,), posterior(inputs), tensor(w), stats)


def correlated_normal_rsample_shard_centre(sets, inputs, grad_w, stats, centre, scaled, float64):
    run_places(_centre, sets, kind_of(float64), (not scaled,), posterior(inputs), tensor(grad_w), stats, centre)


def correlated_normal_rsample_shard_backward(sets, inputs, grad_w, grad_density, stats, centre, gradients, scaled,
                                             float64):
    run_places(_backward, sets, kind_of(float64), (not scaled,), posterior(inputs), tensor(grad_w),
               tensor(grad_density), stats, centre, posterior(gradients))


sums, sample, centre, backward = adapted(
    "correlated_normal_rsample_shard", correlated_normal_rsample_shard_sums, correlated_normal_rsample_shard_sample,
    correlated_normal_rsample_shard_centre, correlated_normal_rsample_shard_backward,
    names=("sums", "sample", "centre", "backward"))
