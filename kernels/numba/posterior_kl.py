"""The closed-form KL of the correlated Gaussian to the diagonal prior, with (draw) or without a draw of w~ in the same
pass over the inputs: posterior_sum_and_kl and multiset_kl."""

from __future__ import annotations

from compvae_fast.kernels.numba import multiset
from compvae_fast.kernels.numba.calls import join, kind_of, run_places, scratch_for
from compvae_fast.kernels.numba.compiling import kernel, plain
from compvae_fast.kernels.numba.elementary import exp, exp_excess
from compvae_fast.kernels.numba.memory import load, store, write_float64
from compvae_fast.kernels.numba.multiset import STATS, W_SUM, finish_set, kl_count, kl_rows, posterior, sum_set
from compvae_fast.kernels.numba.normals import draw_rows
from compvae_fast.kernels.numba.places import (
    CHUNK,
    INPUTS,
    NOISE,
    OUTPUTS,
    ROW,
    ahead,
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
    whole_size_of,
    write_block,
    write_stats,
    zero_padding,
)
from compvae_fast.kernels.numba.rows import tensor
from compvae_fast.kernels.numba.vectors import NO, YES, count_of, select, size_of, zero

_GRAD_W = multiset.FREE  # a row of working memory


@kernel
def _forward(kind, unit, draw, sets, given, w_sum, stats, scratch, queue, memory):
    index = next_item(queue, -1)
    while index < places_of(sets):
        place = place_at(sets, index, memory)
        sum_set(kind, unit, YES, draw, draw, NO, sets, place, given)
        write_float64(scratch + 8 * index, finish_set(kind, unit, YES, draw, draw, NO, place))
        if draw:
            write_block(kind, place, w_sum, memory + W_SUM)
        write_stats(kind, sets, place, stats, kl_count(unit, draw), memory + STATS)
        index = next_item(queue, index)


@kernel
def _backward(kind, unit, draw, sets, given, grad_w, grad_kl, stats, wanted, queue, memory):
    index = next_item(queue, -1)
    while index < places_of(sets):
        place = place_at(sets, index, memory)
        g = value_of(kind, place, grad_kl)
        read_block(kind, place, grad_w, memory + _GRAD_W)
        read_stats(kind, sets, place, stats, kl_count(unit, draw), memory + STATS)
        for part in range(0, place.size, CHUNK):
            n = min(CHUNK, place.size - part)
            inputs = (stage_input(kind, place, given.mu_q, memory + INPUTS[0], part, n),
                      stage_input(kind, place, given.logvar_q, memory + INPUTS[1], part, n),
                      stage_input(kind, place, given.rho_logits, memory + INPUTS[2], part, n),
                      stage_input(kind, place, given.mu_p, memory + INPUTS[3], part, n),
                      stage_input(kind, place, given.logvar_p, memory + INPUTS[4], part, n))
            outputs = (stage_output(kind, place, wanted.mu_q, memory + OUTPUTS[0], part),
                       stage_output(kind, place, wanted.logvar_q, memory + OUTPUTS[1], part),
                       stage_output(kind, place, wanted.rho_logits, memory + OUTPUTS[2], part),
                       stage_output(kind, place, wanted.mu_p, memory + OUTPUTS[3], part),
                       stage_output(kind, place, wanted.logvar_p, memory + OUTPUTS[4], part))
            if draw:
                draw_rows(kind, sets, place, part, n)
            for column in range(0, place.width, count_of(kind)):
                _write_chunk(kind, unit, draw, memory, column * size_of(kind), n, whole_size_of(sets, place), g, inputs,
                             outputs)
            finish_output(kind, place, wanted.mu_q, memory + OUTPUTS[0], part, n)
            finish_output(kind, place, wanted.logvar_q, memory + OUTPUTS[1], part, n)
            finish_output(kind, place, wanted.rho_logits, memory + OUTPUTS[2], part, n)
            finish_output(kind, place, wanted.mu_p, memory + OUTPUTS[3], part, n)
            finish_output(kind, place, wanted.logvar_p, memory + OUTPUTS[4], part, n)
        for t in wanted:
            zero_padding(kind, sets, place, t)
        index = next_item(queue, index)


@plain
def _write_chunk(kind, unit, draw, memory, at, n, size, g, inputs, outputs):
    mu_q, logvar_q, logits, mu_p, logvar_p = inputs
    to_mu_q, to_logvar_q, to_logits, to_mu_p, to_logvar_p = outputs
    stats = memory + STATS + at
    logit_m = load(kind, stats + multiset.LARGEST_LOGIT * ROW)
    ref = select(logit_m < 0.0, 0.0, logit_m)
    inverse_z = load(kind, stats + multiset.INVERSE_Z * ROW)
    one_minus_rho_m = load(kind, stats + multiset.ONE_MINUS_RHO_M * ROW)
    kl_stats = stats + kl_rows(unit, draw) * ROW
    h_all, h_others = load(kind, kl_stats + multiset.H * ROW), load(kind, kl_stats + multiset.H_OTHERS * ROW)
    g_w = load(kind, memory + _GRAD_W + at)
    none = zero(kind)
    factor_m, v, v_others, q, q_others = none, none, none, none, none
    noise, noise_others, noise_factor, sigma_m = none, none, none, none
    if unit:
        factor_m = load(kind, kl_stats + multiset.FACTOR_M * ROW)
        if draw:
            noise = load(kind, stats + multiset.UNIT_NOISE * ROW)
            noise_others = load(kind, stats + multiset.UNIT_NOISE_OTHERS * ROW)
            noise_factor = load(kind, stats + multiset.UNIT_NOISE_FACTOR * ROW)
            sigma_m = exp(load(kind, stats + multiset.UNIT_LOGVAR_M * ROW) * 0.5)
    else:
        v, v_others = load(kind, kl_stats + multiset.V * ROW), load(kind, kl_stats + multiset.V_OTHERS * ROW)
        q, q_others = load(kind, kl_stats + multiset.Q * ROW), load(kind, kl_stats + multiset.Q_OTHERS * ROW)
        if draw:
            noise = load(kind, stats + multiset.SCALED_NOISE * ROW)
            noise_factor = load(kind, stats + multiset.SCALED_NOISE_FACTOR * ROW)
    for k in range(n):
        for rows in inputs:
            ahead(kind, row_at(rows, k) + at)
        lv, lv_p = load(kind, row_at(logvar_q, k) + at), load(kind, row_at(logvar_p, k) + at)
        difference = load(kind, row_at(mu_q, k) + at) - load(kind, row_at(mu_p, k) + at)
        rho = exp(load(kind, row_at(logits, k) + at) - ref) * inverse_z
        # Only the part with the largest logit can have more; up to there the plain forms do not cancel.
        is_m = rho > 0.5
        rest = select(is_m, one_minus_rho_m, 1.0)
        x, precision = lv - lv_p, exp(-lv_p)
        ratio, scaled_difference = exp(x), difference * precision
        quadratic = difference * scaled_difference
        growth = x + exp_excess(x, ratio)  # ratio - 1, exact where q is close to p
        sigma = none
        if draw:
            sigma = exp(lv * 0.5)
        if unit:
            by_logvar_q = select(is_m, ratio * factor_m - 1.0, growth + ratio * ((size * rho - 2.0) * rho))
            by_logvar_p = -(quadratic + by_logvar_q)
            y = ratio * select(is_m, (size - 1) * rho - one_minus_rho_m, size * rho - 1.0)
        else:
            own = select(is_m, ratio * (one_minus_rho_m * one_minus_rho_m) - 1.0, growth - 2.0 * rho * ratio)
            shared = rho * precision * select(is_m, v_others, v)
            if draw:
                variance = sigma * sigma
            else:
                variance = exp(lv)
            by_logvar_q = own + variance * select(is_m, q_others, q)
            by_logvar_p = -(quadratic + own + rho * shared)
            y = shared - rest * ratio
        by_noise, by_logit = none, none
        if draw:
            eps = load(kind, memory + NOISE + k * ROW + at)
            if unit:
                by_noise = sigma * (rest * eps - rho * select(is_m, noise_others, noise))
                by_logit = noise * (sigma - sigma_m + noise_factor)
            else:
                by_noise = noise_factor * sigma * eps
                by_logit = noise_factor * noise
        h = select(is_m, y * one_minus_rho_m - h_others, y - h_all)
        store(row_at(to_mu_q, k) + at, g_w + g * scaled_difference)
        store(row_at(to_logvar_q, k) + at, 0.5 * (g * by_logvar_q + g_w * by_noise))
        store(row_at(to_logits, k) + at, rho * (g * (1.0 + h) - g_w * by_logit))
        store(row_at(to_mu_p, k) + at, -g * scaled_difference)
        store(row_at(to_logvar_p, k) + at, 0.5 * g * by_logvar_p)


def forward(draw: bool, sets, inputs, w_sum, kl, stats: int, scaled: bool, float64: bool):
    scratch = scratch_for(sets)
    run_places(_forward, sets, kind_of(float64), (not scaled, draw), posterior(inputs), tensor(w_sum), stats,
               scratch.ctypes.data)
    join(scratch, kl)


def backward(draw: bool, sets, inputs, grad_w, grad_kl, stats: int, gradients, scaled: bool, float64: bool):
    run_places(_backward, sets, kind_of(float64), (not scaled, draw), posterior(inputs), tensor(grad_w),
               tensor(grad_kl), stats, posterior(gradients))
