"""product_of_experts by Numba kernels.

The product of a set's Gaussian experts, with precisions t_i = exp(-logvar_i), T = prior + sum t_i: mean
sum t_i mu_i / T, log-variance -log T. Sums are in float64, relative to the largest t so far.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from compvae_fast.kernels.numba.calls import adapted, kind_of, run_places
from compvae_fast.kernels.numba.compiling import inlined, kernel, plain
from compvae_fast.kernels.numba.elementary import exp, expm1, log, log1p
from compvae_fast.kernels.numba.memory import load, load_float64, read_uint8, store
from compvae_fast.kernels.numba.places import (
    CHUNK,
    INPUTS,
    OUTPUTS,
    ROW,
    SMALL,
    clear_rows,
    finish_output,
    next_item,
    place_at,
    places_of,
    read_block,
    read_stats,
    row_at,
    stage_input,
    stage_output,
    write_block,
    write_stats,
    zero_padding,
)
from compvae_fast.kernels.numba.rows import Tensor, tensor
from compvae_fast.kernels.numba.vectors import count_of, select, size_of, splat, to_float64, to_kind, zero


class Experts(NamedTuple):
    mu: Tensor
    logvar: Tensor
    mask: int  # address of bool [B, K]; 0: all are there


# Rows of stats [_COUNT, B, D]: t_i / T = exp(-logvar_i - _REFERENCE) * _INVERSE, and the mean in two pieces, so that
# its difference from a mean close by keeps its digits.
_MEAN, _MEAN_REST, _REFERENCE, _INVERSE = (SMALL + i * ROW for i in range(4))
_COUNT = 4
# Rows of working memory: sums of t_i and t_i mu_i over exp(reference), without the prior, in float64; -log T; upstream
_TOTAL, _WEIGHTED, _LOGVAR, _GRAD_MEAN, _GRAD_LOGVAR = (SMALL + i * ROW for i in range(4, 9))


@inlined
def _is_there(experts, sets, place, part):
    return experts.mask == 0 or read_uint8(experts.mask + place.set * sets.parts + part) != 0


@kernel
def _forward(kind, sets, experts, prior, mean, logvar, stats, queue, memory):
    index = next_item(queue, -1)
    while index < places_of(sets):
        place = place_at(sets, index, memory)
        clear_rows(kind, memory + SMALL, 9)
        if not prior:
            for column in range(0, place.width, count_of(kind)):
                store(memory + _REFERENCE + column * size_of(kind), splat(kind, -math.inf))
        for part in range(0, place.size, CHUNK):
            n = min(CHUNK, place.size - part)
            mu = stage_input(kind, place, experts.mu, memory + INPUTS[0], part, n)
            logvars = stage_input(kind, place, experts.logvar, memory + INPUTS[1], part, n)
            for column in range(0, place.width, count_of(kind)):
                _add_chunk(kind, sets, place, experts, column, part, n, mu, logvars)
        for column in range(0, place.width, count_of(kind)):
            _finish(kind, memory, column, prior)
        write_block(kind, place, mean, memory + _MEAN)
        write_block(kind, place, logvar, memory + _LOGVAR)
        write_stats(kind, sets, place, stats, _COUNT, memory + SMALL)
        index = next_item(queue, index)


@plain
def _add_chunk(kind, sets, place, experts, column, part, n, mu, logvar):
    at, sums = column * size_of(kind), place.memory + 8 * column
    old = load(kind, place.memory + _REFERENCE + at)
    reference = old
    for k in range(n):
        if _is_there(experts, sets, place, part + k):
            log_precision = -load(kind, row_at(logvar, k) + at)
            reference = select(log_precision > reference, log_precision, reference)
    ref = select(reference == -math.inf, 0.0, reference)
    rescale = to_float64(select(old == reference, 1.0, exp(old - ref)))
    total, weighted = load_float64(kind, sums + _TOTAL) * rescale, load_float64(kind, sums + _WEIGHTED) * rescale
    for k in range(n):
        if _is_there(experts, sets, place, part + k):
            t = to_float64(exp(-load(kind, row_at(logvar, k) + at) - ref))
            total += t
            weighted += t * to_float64(load(kind, row_at(mu, k) + at))
    store(sums + _TOTAL, total)
    store(sums + _WEIGHTED, weighted)
    store(place.memory + _REFERENCE + at, reference)


@plain
def _finish(kind, memory, column, prior):
    at, sums = column * size_of(kind), memory + 8 * column
    experts, reference = load_float64(kind, sums + _TOTAL), to_float64(load(kind, memory + _REFERENCE + at))
    none = reference == -math.inf
    reference = select(none, 0.0, reference)
    if prior:
        total = exp(-reference) + experts
        # the reference is at least 0, and 1 + x must keep the digits of a small x
        log_total = reference + log1p(expm1(-reference) + experts)
    else:
        total = experts
        log_total = reference + log(total)
    mean = select(none, 0.0, load_float64(kind, sums + _WEIGHTED) / total)
    rounded = to_kind(kind, mean)
    store(memory + _MEAN + at, rounded)
    store(memory + _MEAN_REST + at, to_kind(kind, mean - to_float64(rounded)))
    store(memory + _REFERENCE + at, to_kind(kind, reference))
    store(memory + _INVERSE + at, to_kind(kind, select(none, 0.0, 1.0 / total)))
    store(memory + _LOGVAR + at, to_kind(kind, select(none, math.inf, -log_total)))


@kernel
def _backward(kind, sets, experts, grad_mean, grad_logvar, stats, to_mu, to_logvar, queue, memory):
    index = next_item(queue, -1)
    while index < places_of(sets):
        place = place_at(sets, index, memory)
        read_stats(kind, sets, place, stats, _COUNT, memory + SMALL)
        read_block(kind, place, grad_mean, memory + _GRAD_MEAN)
        read_block(kind, place, grad_logvar, memory + _GRAD_LOGVAR)
        for part in range(0, place.size, CHUNK):
            n = min(CHUNK, place.size - part)
            mu = stage_input(kind, place, experts.mu, memory + INPUTS[0], part, n)
            logvar = stage_input(kind, place, experts.logvar, memory + INPUTS[1], part, n)
            mu_out = stage_output(kind, place, to_mu, memory + OUTPUTS[0], part)
            logvar_out = stage_output(kind, place, to_logvar, memory + OUTPUTS[1], part)
            for column in range(0, place.width, count_of(kind)):
                _write_gradients(kind, sets, place, experts, column * size_of(kind), part, n, mu, logvar, mu_out,
                                 logvar_out)
            finish_output(kind, place, to_mu, memory + OUTPUTS[0], part, n)
            finish_output(kind, place, to_logvar, memory + OUTPUTS[1], part, n)
        zero_padding(kind, sets, place, to_mu)
        zero_padding(kind, sets, place, to_logvar)
        index = next_item(queue, index)


@plain
def _write_gradients(kind, sets, place, experts, at, part, n, mu, logvar, to_mu, to_logvar):
    column = place.memory + at
    g_mean, g_logvar = load(kind, column + _GRAD_MEAN), load(kind, column + _GRAD_LOGVAR)
    mean, mean_rest = load(kind, column + _MEAN), load(kind, column + _MEAN_REST)
    reference, inverse = load(kind, column + _REFERENCE), load(kind, column + _INVERSE)
    for k in range(n):
        by_mu, by_logvar = zero(kind), zero(kind)
        if _is_there(experts, sets, place, part + k):
            weight = exp(-load(kind, row_at(logvar, k) + at) - reference) * inverse
            apart = (load(kind, row_at(mu, k) + at) - mean) - mean_rest
            by_mu, by_logvar = weight * g_mean, weight * (g_logvar - g_mean * apart)
        store(row_at(to_mu, k) + at, by_mu)
        store(row_at(to_logvar, k) + at, by_logvar)


def product_of_experts_forward(sets, inputs, mask, prior, mean, logvar, stats, float64):
    run_places(_forward, sets, kind_of(float64), (), Experts(*map(tensor, inputs), mask), prior, tensor(mean),
               tensor(logvar), stats)


def product_of_experts_backward(sets, inputs, mask, prior, grad_mean, grad_logvar, stats, gradients, float64):
    run_places(_backward, sets, kind_of(float64), (), Experts(*map(tensor, inputs), mask), tensor(grad_mean),
               tensor(grad_logvar), stats, *map(tensor, gradients))


forward, backward = adapted("product_of_experts", product_of_experts_forward, product_of_experts_backward)
