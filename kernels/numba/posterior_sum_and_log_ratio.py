"""posterior_sum_and_log_ratio by Numba kernels."""

from __future__ import annotations

from typing import NamedTuple

from compvae_fast.kernels.numba.calls import adapted, join, kind_of, run_places, scratch_for
from compvae_fast.kernels.numba.compiling import inlined, kernel, plain
from compvae_fast.kernels.numba.elementary import exp
from compvae_fast.kernels.numba.memory import load, load_float64, store, write_float64
from compvae_fast.kernels.numba.multiset import PART_COUNT, STATS, W_SUM, finish_set, posterior, sum_set
from compvae_fast.kernels.numba.normals import draw_rows
from compvae_fast.kernels.numba.parts import (
    A_ROWS,
    CENTRED_END,
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
    value_of,
    write_block,
    write_stats,
    zero_padding,
)
from compvae_fast.kernels.numba.rows import tensor
from compvae_fast.kernels.numba.vectors import (
    NO,
    YES,
    count_of,
    lane_numbers,
    rounded_product,
    select,
    size_of,
    to_float64,
    to_kind,
    total,
    zero,
)

# After the rows of stats of the parts: exp(L) sum rho_j eps_j (unit) or exp(L) sum rho_j eps_j / sigma_j (scaled),
# which -d log q / dw_i holds.
_PULL = PART_COUNT
_COUNT = PART_COUNT + 1
# Rows of working memory
_PULL_SUM = CENTRED_END  # float64
_GRAD_W = CENTRED_END + ROW


@plain
def _stage(kind, place, given, memory, part, n):
    return (stage_input(kind, place, given.mu_q, memory + INPUTS[2], part, n),
            stage_input(kind, place, given.logvar_q, memory + INPUTS[1], part, n),
            stage_input(kind, place, given.rho_logits, memory + INPUTS[0], part, n),
            stage_input(kind, place, given.mu_p, memory + INPUTS[3], part, n),
            stage_input(kind, place, given.logvar_p, memory + INPUTS[4], part, n))


@kernel
def _forward(kind, unit, sets, given, w_sum, stats, scratch, queue, memory):
    index = next_item(queue, -1)
    while index < places_of(sets):
        place = place_at(sets, index, memory)
        sum_set(kind, unit, NO, YES, YES, YES, sets, place, given)
        ratio = -finish_set(kind, unit, NO, YES, YES, YES, place)
        write_block(kind, place, w_sum, memory + W_SUM)
        clear_rows(kind, memory + _PULL_SUM, 1)
        for part in range(0, place.size, CHUNK):
            n = min(CHUNK, place.size - part)
            inputs = _stage(kind, place, given, memory, part, n)
            if place.size > CHUNK:  # else it is still there from the first pass
                draw_rows(kind, sets, place, part, n)
            for column in range(0, place.width, count_of(kind)):
                ratio -= 0.5 * _add_chunk(kind, unit, memory, column, n, place.width, inputs)
        for column in range(0, place.width, count_of(kind)):
            at = column * size_of(kind)
            pull = load_float64(kind, memory + _PULL_SUM + 8 * column)
            rest_of_rho = to_float64(column_of(kind, memory, at).rest_of_rho)
            store(memory + STATS + _PULL * ROW + at, to_kind(kind, pull / rest_of_rho))
        write_stats(kind, sets, place, stats, _COUNT, memory + STATS)
        write_float64(scratch + 8 * index, ratio)
        index = next_item(queue, index)


@plain
def _add_chunk(kind, unit, memory, column, n, width, inputs):
    """-2 sum_i log N(w_i; m_i, s_i^2), but for the constant."""
    at = column * size_of(kind)
    mu_q, logvar_q, logits, mu_p, logvar_p = inputs
    of_set = column_of(kind, memory, at)
    sum_, pull = zero(kind), zero(kind)
    for k in range(n):
        sigma = exp(load(kind, row_at(logvar_q, k) + at) * 0.5)
        eps, lv_p = load(kind, memory + NOISE + k * ROW + at), load(kind, row_at(logvar_p, k) + at)
        rho = rho_of(of_set, load(kind, row_at(logits, k) + at))
        difference = load(kind, row_at(mu_q, k) + at) - load(kind, row_at(mu_p, k) + at)
        y = difference + noise_of_part(unit, of_set, rho, sigma, eps)
        sum_ += y * y * exp(-lv_p) + lv_p
        if unit:
            pull += rho * eps
        else:
            pull += rho * eps / sigma
    pulls = memory + _PULL_SUM + 8 * column
    store(pulls, load_float64(kind, pulls) + to_float64(pull))
    return float(total(select(lane_numbers(kind) < width - column, sum_, 0.0)))


@kernel
def _backward(kind, unit, sets, path, given, grad_w, grad_ratio, stats, wanted, queue, memory):
    index = next_item(queue, -1)
    while index < places_of(sets):
        place = place_at(sets, index, memory)
        g = value_of(kind, place, grad_ratio)
        read_block(kind, place, grad_w, memory + _GRAD_W)
        read_stats(kind, sets, place, stats, _COUNT, memory + STATS)
        clear_centred(kind, memory)
        for part in range(0, place.size, CHUNK):
            n = min(CHUNK, place.size - part)
            inputs = _stage(kind, place, given, memory, part, n)
            draw_rows(kind, sets, place, part, n)
            for column in range(0, place.width, count_of(kind)):
                _reduce(kind, unit, memory, column, n, g, inputs)
        settle(kind, place)
        for part in range(0, place.size, CHUNK):
            n = min(CHUNK, place.size - part)
            inputs = _stage(kind, place, given, memory, part, n)
            outputs = (stage_output(kind, place, wanted.mu_q, memory + OUTPUTS[0], part),
                       stage_output(kind, place, wanted.logvar_q, memory + OUTPUTS[1], part),
                       stage_output(kind, place, wanted.rho_logits, memory + OUTPUTS[2], part),
                       stage_output(kind, place, wanted.mu_p, memory + OUTPUTS[3], part),
                       stage_output(kind, place, wanted.logvar_p, memory + OUTPUTS[4], part))
            if place.size > CHUNK:
                draw_rows(kind, sets, place, part, n)
            for column in range(0, place.width, count_of(kind)):
                _write_gradients(kind, unit, path, memory, column, n, g, inputs, outputs)
            finish_output(kind, place, wanted.mu_q, memory + OUTPUTS[0], part, n)
            finish_output(kind, place, wanted.logvar_q, memory + OUTPUTS[1], part, n)
            finish_output(kind, place, wanted.rho_logits, memory + OUTPUTS[2], part, n)
            finish_output(kind, place, wanted.mu_p, memory + OUTPUTS[3], part, n)
            finish_output(kind, place, wanted.logvar_p, memory + OUTPUTS[4], part, n)
        for t in wanted:
            zero_padding(kind, sets, place, t)
        index = next_item(queue, index)


class _Part(NamedTuple):
    """Vectors of one part: its sample's deviation y from the prior, and the upstream gradient of w_i but for
    -d log q / dw_i."""

    sigma: object
    eps: object
    rho: object
    noise: object
    y: object
    precision: object
    upstream: object


@inlined
def _part(kind, unit, memory, of_set, k, at, g, inputs):
    mu_q, logvar_q, logits, mu_p, logvar_p = inputs
    sigma, eps = exp(load(kind, row_at(logvar_q, k) + at) * 0.5), load(kind, memory + NOISE + k * ROW + at)
    rho = rho_of(of_set, load(kind, row_at(logits, k) + at))
    noise = noise_of_part(unit, of_set, rho, sigma, eps)
    y = load(kind, row_at(mu_q, k) + at) - load(kind, row_at(mu_p, k) + at) + noise
    precision = exp(-load(kind, row_at(logvar_p, k) + at))
    upstream = load(kind, memory + _GRAD_W + at) - g * (y * precision)
    return _Part(sigma, eps, rho, noise, y, precision, upstream)


@plain
def _reduce(kind, unit, memory, column, n, g, inputs):
    at = column * size_of(kind)
    of_set = column_of(kind, memory, at)
    for k in range(n):
        p = _part(kind, unit, memory, of_set, k, at, g, inputs)
        a = p.upstream
        if unit:
            a = rounded_product(a, p.sigma)
        store(memory + RHO_ROWS + k * ROW + at, p.rho)
        store(memory + A_ROWS + k * ROW + at, a)
    centre_chunk(kind, memory, column, n)


@plain
def _write_gradients(kind, unit, path, memory, column, n, g, inputs, outputs):
    at = column * size_of(kind)
    to_mu_q, to_logvar_q, to_logits, to_mu_p, to_logvar_p = outputs
    of_set = column_of(kind, memory, at)
    reference, offset = centring(kind, memory, column, of_set.rest_of_rho)
    pull = load(kind, memory + STATS + _PULL * ROW + at)
    for k in range(n):
        p = _part(kind, unit, memory, of_set, k, at, g, inputs)
        if unit:
            centred = (rounded_product(p.upstream, p.sigma) - reference) + offset
            by_logvar = p.upstream * p.noise
        else:
            centred = (p.upstream - reference) + offset
            by_logvar = p.sigma * p.eps * centred
        by_mu, by_logit = p.upstream, -of_set.noise * centred
        if path:
            # the path through log q: exp(L) cancels in all but the means and, in unit, the log-variances
            inverse_sigma = 1.0 / p.sigma
            if unit:
                along = (p.eps + pull) * inverse_sigma
                by_logvar += g * (along * p.noise)
                by_logit -= g * of_set.noise * p.eps
            else:
                along = p.eps * inverse_sigma + pull
                by_logvar += g * (p.eps * p.eps)
                by_logit -= g * of_set.noise * (p.eps * inverse_sigma)
            by_mu += g * along
        else:
            by_logvar += g
            by_logit -= g
        by_prior = p.y * p.precision
        store(row_at(to_mu_q, k) + at, by_mu)
        store(row_at(to_logvar_q, k) + at, 0.5 * by_logvar)
        store(row_at(to_logits, k) + at, p.rho * by_logit)
        store(row_at(to_mu_p, k) + at, g * by_prior)
        store(row_at(to_logvar_p, k) + at, 0.5 * g * (p.y * by_prior - 1.0))


def posterior_sum_and_log_ratio_forward(sets, inputs, w_sum, ratio, stats, scaled, float64):
    scratch = scratch_for(sets)
    run_places(_forward, sets, kind_of(float64), (not scaled,), posterior(inputs), tensor(w_sum), stats,
               scratch.ctypes.data)
    join(scratch, ratio)


def posterior_sum_and_log_ratio_backward(sets, inputs, grad_w, grad_ratio, stats, gradients, scaled, float64, path):
    run_places(_backward, sets, kind_of(float64), (not scaled,), path, posterior(inputs), tensor(grad_w),
               tensor(grad_ratio), stats, posterior(gradients))


forward, backward = adapted("posterior_sum_and_log_ratio", posterior_sum_and_log_ratio_forward,
                            posterior_sum_and_log_ratio_backward)
