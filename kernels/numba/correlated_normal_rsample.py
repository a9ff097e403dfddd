"""correlated_normal_rsample by Numba kernels."""

from __future__ import annotations

import math

from compvae_fast.kernels.numba.calls import adapted, join, kind_of, run_places, scratch_for
from compvae_fast.kernels.numba.compiling import kernel, plain
from compvae_fast.kernels.numba.elementary import exp
from compvae_fast.kernels.numba.memory import load, store, write_float64
from compvae_fast.kernels.numba.multiset import PART_COUNT, STATS, finish_set, posterior, sum_set
from compvae_fast.kernels.numba.normals import draw_rows
from compvae_fast.kernels.numba.parts import (
    A_ROWS,
    RHO_ROWS,
    centre_chunk,
    centring,
    clear_centred,
    column_of,
    noise_of_part,
    rho_of,
    settle,
)
from compvae_fast.kernels.numba.places import (
    CHUNK,
    INPUTS,
    NOISE,
    OUTPUTS,
    ROW,
    finish_output,
    next_item,
    place_at,
    places_of,
    read_stats,
    row_at,
    stage_input,
    stage_output,
    value_of,
    write_stats,
    zero_padding,
)
from compvae_fast.kernels.numba.rows import tensor
from compvae_fast.kernels.numba.vectors import NO, YES, count_of, rounded_product, size_of

_LOG_2_PI = math.log(2 * math.pi)


@kernel
def _forward(kind, unit, sets, given, w, stats, scratch, queue, memory):
    index = next_item(queue, -1)
    while index < places_of(sets):
        place = place_at(sets, index, memory)
        sum_set(kind, unit, NO, YES, NO, YES, sets, place, given)
        log_density = finish_set(kind, unit, NO, YES, NO, YES, place)
        write_float64(scratch + 8 * index, log_density - 0.5 * _LOG_2_PI * place.size * place.width)
        write_stats(kind, sets, place, stats, PART_COUNT, memory + STATS)
        write_sample(kind, unit, sets, place, given, w, place.size > CHUNK)
        index = next_item(queue, index)


@plain
def write_sample(kind, unit, sets, place, given, w, draws):
    """The parts, given the stats in working memory; the noise is there where it is not to be drawn."""
    memory = place.memory
    for part in range(0, place.size, CHUNK):
        n = min(CHUNK, place.size - part)
        logvar = stage_input(kind, place, given.logvar_q, memory + INPUTS[1], part, n)
        logits = stage_input(kind, place, given.rho_logits, memory + INPUTS[0], part, n)
        mu = stage_input(kind, place, given.mu_q, memory + INPUTS[2], part, n)
        out = stage_output(kind, place, w, memory + OUTPUTS[0], part)
        if draws:
            draw_rows(kind, sets, place, part, n)
        for column in range(0, place.width, count_of(kind)):
            _write_parts(kind, unit, memory, column * size_of(kind), n, mu, logvar, logits, out)
        finish_output(kind, place, w, memory + OUTPUTS[0], part, n)
    zero_padding(kind, sets, place, w)


@plain
def _write_parts(kind, unit, memory, at, n, mu, logvar, logits, out):
    column = column_of(kind, memory, at)
    for k in range(n):
        sigma, rho = exp(load(kind, row_at(logvar, k) + at) * 0.5), rho_of(column, load(kind, row_at(logits, k) + at))
        noise = noise_of_part(unit, column, rho, sigma, load(kind, memory + NOISE + k * ROW + at))
        store(row_at(out, k) + at, load(kind, row_at(mu, k) + at) + noise)


@kernel
def _backward(kind, unit, sets, given, grad_w, grad_density, stats, wanted, queue, memory):
    index = next_item(queue, -1)
    while index < places_of(sets):
        place = place_at(sets, index, memory)
        read_stats(kind, sets, place, stats, PART_COUNT, memory + STATS)
        centre_gradients(kind, unit, place, given, grad_w)
        settle(kind, place)
        write_gradients(kind, unit, sets, place, given, grad_w, value_of(kind, place, grad_density), wanted)
        index = next_item(queue, index)


@plain
def centre_gradients(kind, unit, place, given, grad_w):
    """The sums that centre the upstream gradients, given the stats in working memory."""
    memory = place.memory
    clear_centred(kind, memory)
    for part in range(0, place.size, CHUNK):
        n = min(CHUNK, place.size - part)
        inputs = _stage(kind, place, given, grad_w, memory, part, n)
        for column in range(0, place.width, count_of(kind)):
            _reduce(kind, unit, memory, column, n, inputs)


@plain
def write_gradients(kind, unit, sets, place, given, grad_w, g_density, wanted):
    """The gradients of the parts, given the stats and those sums."""
    memory = place.memory
    for part in range(0, place.size, CHUNK):
        n = min(CHUNK, place.size - part)
        inputs = _stage(kind, place, given, grad_w, memory, part, n)
        outputs = (stage_output(kind, place, wanted.mu_q, memory + OUTPUTS[0], part),
                   stage_output(kind, place, wanted.logvar_q, memory + OUTPUTS[1], part),
                   stage_output(kind, place, wanted.rho_logits, memory + OUTPUTS[2], part))
        draw_rows(kind, sets, place, part, n)
        for column in range(0, place.width, count_of(kind)):
            _write_gradients(kind, unit, memory, column, n, g_density, inputs, outputs)
        finish_output(kind, place, wanted.mu_q, memory + OUTPUTS[0], part, n)
        finish_output(kind, place, wanted.logvar_q, memory + OUTPUTS[1], part, n)
        finish_output(kind, place, wanted.rho_logits, memory + OUTPUTS[2], part, n)
    for t in wanted:
        zero_padding(kind, sets, place, t)


@plain
def _stage(kind, place, given, grad_w, memory, part, n):
    return (stage_input(kind, place, given.logvar_q, memory + INPUTS[0], part, n),
            stage_input(kind, place, given.rho_logits, memory + INPUTS[1], part, n),
            stage_input(kind, place, grad_w, memory + INPUTS[2], part, n))


@plain
def _reduce(kind, unit, memory, column, n, inputs):
    at = column * size_of(kind)
    logvar, logits, upstream = inputs
    of_set = column_of(kind, memory, at)
    for k in range(n):
        a = load(kind, row_at(upstream, k) + at)
        if unit:
            a = rounded_product(a, exp(load(kind, row_at(logvar, k) + at) * 0.5))
        store(memory + RHO_ROWS + k * ROW + at, rho_of(of_set, load(kind, row_at(logits, k) + at)))
        store(memory + A_ROWS + k * ROW + at, a)
    centre_chunk(kind, memory, column, n)


@plain
def _write_gradients(kind, unit, memory, column, n, g_density, inputs, outputs):
    at = column * size_of(kind)
    logvar, logits, upstream = inputs
    to_mu, to_logvar, to_logits = outputs
    of_set = column_of(kind, memory, at)
    reference, offset = centring(kind, memory, column, of_set.rest_of_rho)
    for k in range(n):
        g, sigma = load(kind, row_at(upstream, k) + at), exp(load(kind, row_at(logvar, k) + at) * 0.5)
        eps, rho = load(kind, memory + NOISE + k * ROW + at), rho_of(of_set, load(kind, row_at(logits, k) + at))
        if unit:
            centred = (rounded_product(g, sigma) - reference) + offset
            by_logvar = g * noise_of_part(unit, of_set, rho, sigma, eps)
        else:
            centred = (g - reference) + offset
            by_logvar = sigma * eps * centred
        store(row_at(to_mu, k) + at, g)
        store(row_at(to_logvar, k) + at, 0.5 * (by_logvar - g_density))
        store(row_at(to_logits, k) + at, rho * (g_density - of_set.noise * centred))


def correlated_normal_rsample_forward(sets, inputs, w, log_density, stats, scaled, float64):
    scratch = scratch_for(sets)
    run_places(_forward, sets, kind_of(float64), (not scaled,), posterior(inputs), tensor(w), stats,
               scratch.ctypes.data)
    if log_density is not None:
        join(scratch, log_density)


def correlated_normal_rsample_backward(sets, inputs, grad_w, grad_log_density, stats, gradients, scaled, float64):
    run_places(_backward, sets, kind_of(float64), (not scaled,), posterior(inputs), tensor(grad_w),
               tensor(grad_log_density), stats, posterior(gradients))


forward, backward = adapted("correlated_normal_rsample", correlated_normal_rsample_forward,
                            correlated_normal_rsample_backward)
