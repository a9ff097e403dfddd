"""correlated_normal_log_prob by Numba kernels.

The inverse of the transform loses a factor exp(L), so everything here is float64.
"""

from __future__ import annotations

import math

from compvae_fast.kernels.numba.calls import adapted, join, run_places, scratch_for
from compvae_fast.kernels.numba.compiling import inlined, kernel, plain
from compvae_fast.kernels.numba.elementary import exp, log
from compvae_fast.kernels.numba.memory import load, store, write_float64
from compvae_fast.kernels.numba.multiset import FREE, STATS, posterior
from compvae_fast.kernels.numba.places import (
    CHUNK,
    INPUTS,
    OUTPUTS,
    ROW,
    clear_rows,
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
from compvae_fast.kernels.numba.vectors import FLOAT64, count_of, lane_numbers, select, total, zero

_LOG_2_PI = math.log(2 * math.pi)
# Rows of stats [_COUNT, B, D]: max(0, nu_m); 1/Z; E (unit) or T (scaled); and exp(L) sum rho_j eps_j (unit) or
# exp(L) sum rho_j eps_j / sigma_j (scaled).
REF, INVERSE_Z, TOTAL, PULL = (STATS + i * ROW for i in range(4))
_COUNT = 4
# Rows of working memory
Z, _NORMALISER, SQUARES = FREE, FREE + ROW, FREE + 2 * ROW


@plain
def _stage(kind, place, w, given, memory, part, n):
    return (stage_input(kind, place, w, memory + INPUTS[0], part, n),
            stage_input(kind, place, given.mu_q, memory + INPUTS[1], part, n),
            stage_input(kind, place, given.logvar_q, memory + INPUTS[2], part, n),
            stage_input(kind, place, given.rho_logits, memory + INPUTS[3], part, n))


@kernel
def _forward(kind, unit, sets, w, given, stats, scratch, queue, memory):
    index = next_item(queue, -1)
    while index < places_of(sets):
        place = place_at(sets, index, memory)
        sum_parts(kind, unit, place, w, given)
        for at in range(0, 8 * place.width, 8 * count_of(kind)):
            ref = load(kind, memory + REF + at)
            z = load(kind, memory + Z + at) + exp(-ref)
            log_normaliser = ref + log(z)
            store(memory + INVERSE_Z + at, 1.0 / z)
            store(memory + TOTAL + at, load(kind, memory + TOTAL + at) * exp(log_normaliser))
            store(memory + _NORMALISER + at, log_normaliser)
        square_parts(kind, unit, place, w, given)
        density = 0.0
        if place.size > 0:
            for column in range(0, place.width, count_of(kind)):
                density += _finish(kind, memory + 8 * column, place.size, place.width - column)
        write_float64(scratch + 8 * index, density)
        write_stats(kind, sets, place, stats, _COUNT, memory + STATS)
        index = next_item(queue, index)


@plain
def sum_parts(kind, unit, place, w, given):
    """REF, Z without its exp(-REF), and the sum of the residuals in TOTAL."""
    memory = place.memory
    clear_rows(kind, memory + STATS, _COUNT)
    clear_rows(kind, memory + FREE, 3)
    for part in range(0, place.size, CHUNK):
        n = min(CHUNK, place.size - part)
        inputs = _stage(kind, place, w, given, memory, part, n)
        for column in range(0, place.width, count_of(kind)):
            _add_chunk(kind, unit, memory + 8 * column, 8 * column, n, inputs)


@plain
def square_parts(kind, unit, place, w, given):
    """SQUARES and PULL before its factor exp(L), given the other stats."""
    memory = place.memory
    for part in range(0, place.size, CHUNK):
        n = min(CHUNK, place.size - part)
        inputs = _stage(kind, place, w, given, memory, part, n)
        for column in range(0, place.width, count_of(kind)):
            _square_chunk(kind, unit, memory + 8 * column, 8 * column, n, inputs)


# `column` below is the address of the column in working memory: of row r it has column + r.
@inlined
def _residual(kind, unit, inputs, k, at, inverse_sigma):
    """(w - mu) / sigma in unit, w - mu in scaled."""
    difference = load(kind, row_at(inputs[0], k) + at) - load(kind, row_at(inputs[1], k) + at)
    if unit:
        return difference * inverse_sigma
    return difference


@inlined
def _inverse_sigma(kind, inputs, k, at):
    return exp(load(kind, row_at(inputs[2], k) + at) * -0.5)


@inlined
def _rho(kind, column, inputs, k, at):
    return exp(load(kind, row_at(inputs[3], k) + at) - load(kind, column + REF)) * load(kind, column + INVERSE_Z)


@inlined
def _eps(unit, residual, rho, total_, inverse_sigma):
    v = residual + rho * total_
    if unit:
        return v
    return v * inverse_sigma


@plain
def _add_chunk(kind, unit, column, at, n, inputs):
    old = load(kind, column + REF)
    ref = old
    for k in range(n):
        nu = load(kind, row_at(inputs[3], k) + at)
        ref = select(nu > ref, nu, ref)
    z, sum_ = zero(kind), zero(kind)
    for k in range(n):
        z += exp(load(kind, row_at(inputs[3], k) + at) - ref)
        sum_ += _residual(kind, unit, inputs, k, at, _inverse_sigma(kind, inputs, k, at))
    store(column + REF, ref)
    store(column + Z, load(kind, column + Z) * exp(old - ref) + z)
    store(column + TOTAL, load(kind, column + TOTAL) + sum_)


@plain
def _square_chunk(kind, unit, column, at, n, inputs):
    squares, pull, total_ = zero(kind), zero(kind), load(kind, column + TOTAL)
    for k in range(n):
        inverse_sigma, rho = _inverse_sigma(kind, inputs, k, at), _rho(kind, column, inputs, k, at)
        eps = _eps(unit, _residual(kind, unit, inputs, k, at, inverse_sigma), rho, total_, inverse_sigma)
        squares += eps * eps + load(kind, row_at(inputs[2], k) + at)
        if unit:
            pull += rho * eps
        else:
            pull += rho * eps * inverse_sigma
    store(column + SQUARES, load(kind, column + SQUARES) + squares)
    store(column + PULL, load(kind, column + PULL) + pull)


@plain
def _finish(kind, column, size, width):
    log_normaliser = load(kind, column + _NORMALISER)
    store(column + PULL, load(kind, column + PULL) * exp(log_normaliser))
    density = log_normaliser - 0.5 * (load(kind, column + SQUARES) + _LOG_2_PI * size)
    return total(select(lane_numbers(kind) < width, density, 0.0))


@kernel
def _backward(kind, unit, sets, w, given, grad, stats, to_w, wanted, queue, memory):
    index = next_item(queue, -1)
    while index < places_of(sets):
        place = place_at(sets, index, memory)
        g = value_of(kind, place, grad)
        read_stats(kind, sets, place, stats, _COUNT, memory + STATS)
        for part in range(0, place.size, CHUNK):
            n = min(CHUNK, place.size - part)
            inputs = _stage(kind, place, w, given, memory, part, n)
            outputs = (stage_output(kind, place, to_w, memory + OUTPUTS[0], part),
                       stage_output(kind, place, wanted.mu_q, memory + OUTPUTS[1], part),
                       stage_output(kind, place, wanted.logvar_q, memory + OUTPUTS[2], part),
                       stage_output(kind, place, wanted.rho_logits, memory + OUTPUTS[3], part))
            for column in range(0, place.width, count_of(kind)):
                _write_gradients(kind, unit, memory + 8 * column, 8 * column, n, g, inputs, outputs)
            finish_output(kind, place, to_w, memory + OUTPUTS[0], part, n)
            finish_output(kind, place, wanted.mu_q, memory + OUTPUTS[1], part, n)
            finish_output(kind, place, wanted.logvar_q, memory + OUTPUTS[2], part, n)
            finish_output(kind, place, wanted.rho_logits, memory + OUTPUTS[3], part, n)
        zero_padding(kind, sets, place, to_w)
        for t in wanted:
            zero_padding(kind, sets, place, t)
        index = next_item(queue, index)


@plain
def _write_gradients(kind, unit, column, at, n, g, inputs, outputs):
    to_w, to_mu, to_logvar, to_logits = outputs
    pull, total_ = load(kind, column + PULL), load(kind, column + TOTAL)
    for k in range(n):
        inverse_sigma, rho = _inverse_sigma(kind, inputs, k, at), _rho(kind, column, inputs, k, at)
        residual = _residual(kind, unit, inputs, k, at, inverse_sigma)
        eps = _eps(unit, residual, rho, total_, inverse_sigma)
        if unit:
            by_w = -(eps + pull) * inverse_sigma
            by_logvar = residual * (eps + pull) - 1.0
            by_logit = rho * (1.0 - eps * total_)
        else:
            by_w = -(eps * inverse_sigma + pull)
            by_logvar = eps * eps - 1.0
            by_logit = rho * (1.0 - eps * total_ * inverse_sigma)
        store(row_at(to_w, k) + at, g * by_w)
        store(row_at(to_mu, k) + at, -g * by_w)
        store(row_at(to_logvar, k) + at, 0.5 * g * by_logvar)
        store(row_at(to_logits, k) + at, g * by_logit)


def correlated_normal_log_prob_forward(sets, w, inputs, density, stats, scaled):
    scratch = scratch_for(sets)
    run_places(_forward, sets, FLOAT64, (not scaled,), tensor(w), posterior(inputs), stats, scratch.ctypes.data)
    join(scratch, density)


def correlated_normal_log_prob_backward(sets, w, inputs, grad, stats, grad_w, gradients, scaled):
    run_places(_backward, sets, FLOAT64, (not scaled,), tensor(w), posterior(inputs), tensor(grad), stats,
               tensor(grad_w), posterior(gradients))


forward, backward = adapted("correlated_normal_log_prob", correlated_normal_log_prob_forward,
                            correlated_normal_log_prob_backward)
