"""The closed-form KL of the correlated Gaussian to the diagonal prior, with (DRAW) or without a draw of w~ in the same
pass over the inputs: posterior_sum_and_kl and multiset_kl."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from compvae_fast.kernels.triton.elementary import exp, exp_excess
from compvae_fast.kernels.triton.multiset import (
    PARTIAL,
    finish,
    merge_partial,
    reference_of,
    slots,
    store_partial,
    sum_over,
)
from compvae_fast.kernels.triton.normals import draw
from compvae_fast.kernels.triton.places import (
    MERGED,
    SEGMENTS,
    WHOLE,
    calls,
    columns,
    finish_padding,
    load_number,
    load_row,
    load_vector,
    place_of,
    set_of_noise,
    slot_at,
    store_row,
    whole_size,
    within,
)
from compvae_fast.kernels.triton.sets import Call, float_type, per_set, rows


@triton.jit
def _forward(sets, inputs, w_sum, numbers, stats, partial, MODE: tl.constexpr, ONE_CHUNK: tl.constexpr,
             UNIT: tl.constexpr, DRAW: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    place = place_of(sets, MODE, BLOCK)
    if place.here:
        there = columns(sets, place, BLOCK)
        if MODE == MERGED:
            m, sums = merge_partial(partial, sets, place, there, UNIT, True, DRAW, DRAW, False, T, BLOCK)
        else:
            m, sums = sum_over(sets, place, inputs, calls(place, BLOCK), there, ONE_CHUNK, UNIT, True, DRAW, DRAW,
                               False, T, BLOCK)
        if MODE == SEGMENTS:
            store_partial(partial, sets, place, there, m, sums, UNIT, True, DRAW, DRAW, False, BLOCK)
        else:
            finish(sets, place, m, sums, there, w_sum, numbers, stats, UNIT, True, DRAW, DRAW, False, T, BLOCK)


@triton.jit
def _stat(stats, sets, place, slot: tl.constexpr, there, BLOCK: tl.constexpr):
    return tl.load(slot_at(stats, sets, place, slot, BLOCK), mask=there, other=0.0)


@triton.jit
def _inputs_of(inputs, place, part, there, T: tl.constexpr, BLOCK: tl.constexpr):
    there = within(there, part, place.end, BLOCK)
    return (load_row(inputs[0], place, part, there, T, BLOCK), load_row(inputs[1], place, part, there, T, BLOCK),
            load_row(inputs[2], place, part, there, T, BLOCK), load_row(inputs[3], place, part, there, T, BLOCK),
            load_row(inputs[4], place, part, there, T, BLOCK))


@triton.jit
def _backward(sets, inputs, grad_w, grad_kl, stats, outputs, MODE: tl.constexpr, UNIT: tl.constexpr,
              DRAW: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    SLOTS: tl.constexpr = slots(UNIT, True, DRAW)
    place = place_of(sets, MODE, BLOCK)
    if place.here:
        there = columns(sets, place, BLOCK)
        g = load_number(grad_kl, place, T)
        parts = whole_size(sets, place).to(T)
        reference = reference_of(_stat(stats, sets, place, 0, there, BLOCK))
        inverse_z = _stat(stats, sets, place, 1, there, BLOCK)
        one_minus_rho_m = _stat(stats, sets, place, 2, there, BLOCK)
        h_all = _stat(stats, sets, place, SLOTS[4], there, BLOCK)
        h_others = _stat(stats, sets, place, SLOTS[5], there, BLOCK)
        if UNIT:
            factor_m = _stat(stats, sets, place, SLOTS[6], there, BLOCK)
        else:
            variances = _stat(stats, sets, place, SLOTS[6], there, BLOCK)
            variances_others = _stat(stats, sets, place, SLOTS[7], there, BLOCK)
            q = _stat(stats, sets, place, SLOTS[8], there, BLOCK)
            q_others = _stat(stats, sets, place, SLOTS[9], there, BLOCK)
        if DRAW:
            g_w = load_vector(grad_w, place, there, T, BLOCK)
            seed, index, start = set_of_noise(sets, place)
            call = calls(place, BLOCK)
            noise = _stat(stats, sets, place, SLOTS[0], there, BLOCK)
            noise_factor = _stat(stats, sets, place, SLOTS[2], there, BLOCK)
            if UNIT:
                noise_others = _stat(stats, sets, place, SLOTS[1], there, BLOCK)
                sigma_m = exp(0.5 * _stat(stats, sets, place, SLOTS[3], there, BLOCK))
        coming = _inputs_of(inputs, place, place.first, there, T, BLOCK)
        for k in range(place.first, place.end):
            mu, lv, logit, mu_p, lv_p = coming
            coming = _inputs_of(inputs, place, k + 1, there, T, BLOCK)
            difference = mu - mu_p
            rho = exp(logit - reference) * inverse_z
            # Only the part with the largest logit can have more; up to there the plain forms do not cancel.
            is_m = rho > 0.5
            rest = tl.where(is_m, one_minus_rho_m, 1.0)
            x = lv - lv_p
            ratio, precision = exp(x), exp(-lv_p)
            scaled_difference = difference * precision
            quadratic = difference * scaled_difference
            growth = x + exp_excess(x, ratio)  # ratio - 1, exact where q is close to p
            sigma = exp(0.5 * lv)
            if UNIT:
                own = tl.where(is_m, ratio * factor_m - 1, growth + ratio * ((parts * rho - 2) * rho))
                to_logvar_q = own
                to_logvar_p = -(quadratic + own)
                y = ratio * tl.where(is_m, (parts - 1) * rho - one_minus_rho_m, parts * rho - 1)
            else:
                own = tl.where(is_m, ratio * (one_minus_rho_m * one_minus_rho_m) - 1, growth - 2 * rho * ratio)
                shared = rho * precision * tl.where(is_m, variances_others, variances)
                to_logvar_q = own + sigma * sigma * tl.where(is_m, q_others, q)
                to_logvar_p = -(quadratic + own + rho * shared)
                y = shared - rest * ratio
            h = tl.where(is_m, y * one_minus_rho_m - h_others, y - h_all)
            to_mu = g * scaled_difference
            to_logvar = g * to_logvar_q
            to_logit = g * (1 + h)
            if DRAW:
                eps = draw(seed, index, start + k, call, T)
                to_mu += g_w
                if UNIT:
                    of_part = sigma * (rest * eps - rho * tl.where(is_m, noise_others, noise))
                    to_logvar += g_w * of_part
                    to_logit -= g_w * (noise * (sigma - sigma_m + noise_factor))
                else:
                    to_logvar += g_w * (noise_factor * sigma * eps)
                    to_logit -= g_w * (noise_factor * noise)
            store_row(outputs[0], place, k, there, to_mu, BLOCK)
            store_row(outputs[1], place, k, there, 0.5 * to_logvar, BLOCK)
            store_row(outputs[2], place, k, there, rho * to_logit, BLOCK)
            store_row(outputs[3], place, k, there, -g * scaled_difference, BLOCK)
            store_row(outputs[4], place, k, there, 0.5 * g * to_logvar_p, BLOCK)
        for i in tl.static_range(5):
            finish_padding(outputs[i], sets, place, there, BLOCK)


def forward(call: Call, inputs: tuple[Tensor, ...], w_sum: Tensor | None, kl: Tensor, stats: Tensor | None, unit: bool):
    """Runs the forward pass; w_sum None: no draw."""
    numbers, partial = call.numbers(), call.partial(PARTIAL.value)
    arguments = tuple(map(rows, inputs)), per_set(w_sum), numbers, stats, partial
    constants = dict(UNIT=unit, DRAW=w_sum is not None, T=float_type(*inputs))
    call.launch(_forward, WHOLE, *arguments, ONE_CHUNK=call.one_chunk, **constants)
    call.launch(_forward, SEGMENTS, *arguments, ONE_CHUNK=False, **constants)
    call.launch(_forward, MERGED, *arguments, ONE_CHUNK=False, **constants)
    call.join(numbers, kl)
    call.finish()


def backward(call: Call, inputs: tuple[Tensor, ...], grad_w: Tensor | None, grad_kl: Tensor | None, stats: Tensor,
             wanted: tuple[Tensor | None, ...], unit: bool, draws: bool):
    """Runs the backward pass; gradients that are None are zero, or not wanted."""
    arguments = tuple(map(rows, inputs)), per_set(grad_w), per_set(grad_kl), stats, tuple(map(rows, wanted))
    constants = dict(UNIT=unit, DRAW=draws, T=float_type(*inputs))
    call.launch(_backward, WHOLE, *arguments, **constants)
    call.launch(_backward, SEGMENTS, *arguments, **constants)
    call.finish()
