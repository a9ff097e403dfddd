"""One shard of posterior_sum_and_kl by Numba kernels."""

from __future__ import annotations

from compvae_fast.kernels.numba.calls import adapted, kind_of, run_places
from compvae_fast.kernels.numba.compiling import kernel
from compvae_fast.kernels.numba.multiset import posterior, sum_set, write_state
from compvae_fast.kernels.numba.places import next_item, place_at, places_of
from compvae_fast.kernels.numba.posterior_sum_and_kl import posterior_sum_and_kl_backward
from compvae_fast.kernels.numba.vectors import NO, YES


@kernel
def _forward(kind, unit, sets, given, state, queue, memory):
    index = next_item(queue, -1)
    while index < places_of(sets):
        place = place_at(sets, index, memory)
        sum_set(kind, unit, YES, YES, YES, NO, sets, place, given)
        write_state(kind, unit, YES, YES, NO, sets, place, state)
        index = next_item(queue, index)


def posterior_shard_forward(sets, inputs, state, scaled, float64):
    run_places(_forward, sets, kind_of(float64), (not scaled,), posterior(inputs), state)


forward, backward = adapted("posterior_shard", posterior_shard_forward, posterior_sum_and_kl_backward)
