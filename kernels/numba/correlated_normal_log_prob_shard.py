"""One shard of correlated_normal_log_prob by Numba kernels."""

from __future__ import annotations

from compvae_fast.kernels.numba.calls import adapted, run_places
from compvae_fast.kernels.numba.compiling import kernel
from compvae_fast.kernels.numba.correlated_normal_log_prob import (
    PULL,
    REF,
    SQUARES,
    TOTAL,
    Z,
    correlated_normal_log_prob_backward,
    square_parts,
    sum_parts,
)
from compvae_fast.kernels.numba.multiset import FREE, STATS, posterior
from compvae_fast.kernels.numba.places import (
    clear_rows,
    next_item,
    place_at,
    places_of,
    read_stats,
    write_float64_row,
)
from compvae_fast.kernels.numba.rows import tensor
from compvae_fast.kernels.numba.vectors import FLOAT64


@kernel
def _sums(kind, unit, sets, w, given, sums, queue, memory):
    index = next_item(queue, -1)
    while index < places_of(sets):
        place = place_at(sets, index, memory)
        sum_parts(kind, unit, place, w, given)
        write_float64_row(sets, place, sums, 0, memory + REF)
        write_float64_row(sets, place, sums, 1, memory + Z)
        write_float64_row(sets, place, sums, 2, memory + TOTAL)
        index = next_item(queue, index)


@kernel
def _squares(kind, unit, sets, w, given, stats, sums, queue, memory):
    index = next_item(queue, -1)
    while index < places_of(sets):
        place = place_at(sets, index, memory)
        clear_rows(kind, memory + PULL, 1)
        clear_rows(kind, memory + FREE, 3)
        read_stats(kind, sets, place, stats, 3, memory + STATS)
        square_parts(kind, unit, place, w, given)
        write_float64_row(sets, place, sums, 0, memory + SQUARES)
        write_float64_row(sets, place, sums, 1, memory + PULL)
        index = next_item(queue, index)


def correlated_normal_log_prob_shard_sums(sets, w, inputs, sums, scaled):
    run_places(_sums, sets, FLOAT64, (not scaled,), tensor(w), posterior(inputs), sums)


def correlated_normal_log_prob_shard_squares(sets, w, inputs, stats, sums, scaled):
    run_places(_squares, sets, FLOAT64, (not scaled,), tensor(w), posterior(inputs), stats, sums)


sums, squares, backward = adapted(
    "correlated_normal_log_prob_shard", correlated_normal_log_prob_shard_sums, correlated_normal_log_prob_shard_squares,
    correlated_normal_log_prob_backward, names=("sums", "squares", "backward"))
