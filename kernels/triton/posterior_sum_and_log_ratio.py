"""posterior_sum_and_log_ratio by Triton kernels."""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from compvae_fast.kernels.triton.elementary import exact_exp
from compvae_fast.kernels.triton.multiset import PARTIAL, finish, merge_partial, store_partial, sum_over
from compvae_fast.kernels.triton.normals import draw
from compvae_fast.kernels.triton.parts import (
    Centring,
    add_part,
    centred,
    load_whole,
    merge_centring,
    no_parts,
    noise_of_part,
    offset_of,
    rho_of,
    settled,
    store_centring,
)
from compvae_fast.kernels.triton.places import (
    MERGED,
    SEGMENTS,
    WHOLE,
    calls,
    columns,
    finish_padding,
    first_segment,
    load_number,
    load_row,
    load_vector,
    place_of,
    segment_length,
    set_of_noise,
    slot_at,
    store_groups,
    store_row,
    within,
)
from compvae_fast.kernels.triton.sets import float_type, given, like_wanted, of_parts, outputs_of, per_set, rows, wanted
from compvae_fast.ops.posterior_sum_and_log_ratio import OPERATION

# Row of stats after those of the parts: exp(L) sum rho_j eps_j (unit) or exp(L) sum rho_j eps_j / sigma_j (scaled),
# which -d log q / dw_i holds.
_PULL = tl.constexpr(6)


class Deviation(NamedTuple):
    """One part: its noise w - mu, deviation y from the prior's mean, precision 1 / s^2 of the prior and log s^2."""

    sigma: Any
    eps: Any
    rho: Any
    noise: Any
    y: Any
    precision: Any
    logvar_p: Any


@triton.jit
def _deviation(inputs, place, k, noise, call, there, whole, UNIT: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    sigma = exact_exp(0.5 * load_row(inputs[1], place, k, there, T, BLOCK))
    rho = rho_of(whole, load_row(inputs[2], place, k, there, T, BLOCK))
    logvar_p = load_row(inputs[4], place, k, there, T, BLOCK)
    eps = draw(noise[0], noise[1], noise[2] + k, call, T)
    of_part = noise_of_part(whole, rho, sigma, eps, UNIT)
    y = load_row(inputs[0], place, k, there, T, BLOCK) - load_row(inputs[3], place, k, there, T, BLOCK) + of_part
    return Deviation(sigma, eps, rho, of_part, y, exact_exp(-logvar_p), logvar_p)


@triton.jit
def _sum_terms(sets, place, inputs, whole, there, UNIT: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    """sum y^2 / s^2 + log s^2, and the pull's sum, over the place's parts, float64."""
    noise, call = set_of_noise(sets, place), calls(place, BLOCK)
    terms, pull = tl.zeros([BLOCK], tl.float64), tl.zeros([BLOCK], tl.float64)
    for k in range(place.first, place.end):
        d = _deviation(inputs, place, k, noise, call, there, whole, UNIT, T, BLOCK)
        terms += (d.y * d.y * d.precision + d.logvar_p).to(tl.float64)
        along = d.rho * d.eps if UNIT else d.rho * d.eps / d.sigma
        pull += along.to(tl.float64)
    return terms, pull


@triton.jit
def _finish_terms(sets, place, there, terms, pull, density, whole, numbers, stats, T: tl.constexpr,
                  BLOCK: tl.constexpr):
    ratio = tl.where(within(there, 0, place.size, BLOCK), -density - 0.5 * terms, 0.0)
    store_groups(numbers, sets, place, place.set, ratio, BLOCK)
    if stats is not None:
        tl.store(slot_at(stats, sets, place, _PULL, BLOCK), (pull / whole.rest.to(tl.float64)).to(T), mask=there)


@triton.jit
def _forward(sets, inputs, w_sum, numbers, stats, partial, MODE: tl.constexpr, ONE_CHUNK: tl.constexpr,
             UNIT: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    place = place_of(sets, MODE, BLOCK)
    if place.here:
        there = columns(sets, place, BLOCK)
        if MODE == MERGED:
            m, sums = merge_partial(partial, sets, place, there, UNIT, False, True, True, True, T, BLOCK)
        else:
            m, sums = sum_over(sets, place, inputs, calls(place, BLOCK), there, ONE_CHUNK, UNIT, False, True, True,
                               True, T, BLOCK)
        if MODE == SEGMENTS:
            store_partial(partial, sets, place, there, m, sums, UNIT, False, True, True, True, BLOCK)
        else:
            whole, density = finish(sets, place, m, sums, there, w_sum, numbers, stats, UNIT, False, True, True, True,
                                    T, BLOCK)
        if MODE == WHOLE:
            terms, pull = _sum_terms(sets, place, inputs, whole, there, UNIT, T, BLOCK)
            _finish_terms(sets, place, there, terms, pull, density, whole, numbers, stats, T, BLOCK)


@triton.jit
def _terms(sets, inputs, w_sum, numbers, stats, partial, terms_of, MODE: tl.constexpr, UNIT: tl.constexpr,
           T: tl.constexpr, BLOCK: tl.constexpr):
    """The second pass over long sets: terms_of [segments, 2, D] gets the sums of segments, which are then joined."""
    place = place_of(sets, MODE, BLOCK)
    if place.here:
        there = columns(sets, place, BLOCK)
        column = place.column + tl.arange(0, BLOCK)
        if MODE == SEGMENTS:
            whole = load_whole(stats, sets, place, there, BLOCK)
            terms, pull = _sum_terms(sets, place, inputs, whole, there, UNIT, T, BLOCK)
            tl.store(terms_of + 2 * place.item * sets.width + column, terms, mask=there)
            tl.store(terms_of + (2 * place.item + 1) * sets.width + column, pull, mask=there)
        else:
            m, sums = merge_partial(partial, sets, place, there, UNIT, False, True, True, True, T, BLOCK)
            whole, density = finish(sets, place, m, sums, there, w_sum, numbers, None, UNIT, False, True, True, True, T,
                                    BLOCK)
            terms, pull = tl.zeros([BLOCK], tl.float64), tl.zeros([BLOCK], tl.float64)
            length = segment_length(place.end)
            first = first_segment(sets, place.set)
            for item in range(first, first + (place.end + length - 1) // length):
                terms += tl.load(terms_of + 2 * item * sets.width + column, mask=there, other=0.0)
                pull += tl.load(terms_of + (2 * item + 1) * sets.width + column, mask=there, other=0.0)
            _finish_terms(sets, place, there, terms, pull, density, whole, numbers, stats, T, BLOCK)


@triton.jit
def _write_gradients(sets, place, inputs, g_w, g, pull, whole, reference, offset, outputs, there, UNIT: tl.constexpr,
                     PATH: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    noise, call = set_of_noise(sets, place), calls(place, BLOCK)
    for k in range(place.first, place.end):
        d = _deviation(inputs, place, k, noise, call, there, whole, UNIT, T, BLOCK)
        to_prior = d.y * d.precision
        upstream = g_w - g * to_prior  # of w_i, but for -d log q / dw_i
        around = centred(upstream * d.sigma if UNIT else upstream, d.rho, reference, offset)
        to_mu = upstream
        to_logvar = upstream * d.noise if UNIT else d.sigma * d.eps * around
        to_logit = -whole.noise * around
        if PATH:
            # the path through log q: exp(L) cancels in all but the means and, in "unit", the log-variances
            inverse_sigma = 1 / d.sigma
            scaled_eps = d.eps * inverse_sigma
            along = (d.eps + pull) * inverse_sigma if UNIT else scaled_eps + pull
            to_mu += g * along
            to_logvar += g * (along * d.noise if UNIT else d.eps * d.eps)
            to_logit -= g * whole.noise * (d.eps if UNIT else scaled_eps)
        else:
            to_logvar += g
            to_logit -= g
        store_row(outputs[0], place, k, there, to_mu, BLOCK)
        store_row(outputs[1], place, k, there, 0.5 * to_logvar, BLOCK)
        store_row(outputs[2], place, k, there, d.rho * to_logit, BLOCK)
        store_row(outputs[3], place, k, there, g * to_prior, BLOCK)
        store_row(outputs[4], place, k, there, 0.5 * g * (d.y * to_prior - 1), BLOCK)
    for i in tl.static_range(5):
        finish_padding(outputs[i], sets, place, there, BLOCK)


@triton.jit
def _backward(sets, inputs, grad_w, grad_ratio, stats, outputs, partial, kept, MODE: tl.constexpr, WRITE: tl.constexpr,
              UNIT: tl.constexpr, PATH: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    """WRITE: the gradients of a long set's segments, whose centring is in kept [2, B, D]."""
    place = place_of(sets, MODE, BLOCK)
    if place.here:
        there = columns(sets, place, BLOCK)
        whole = load_whole(stats, sets, place, there, BLOCK)
        g_w = load_vector(grad_w, place, there, T, BLOCK)
        g = load_number(grad_ratio, place, T)
        pull = tl.load(slot_at(stats, sets, place, _PULL, BLOCK), mask=there, other=0.0)
        c = no_parts(T, BLOCK)
        if MODE == MERGED:
            c = settled(merge_centring(partial, sets, place, there, T, BLOCK))
            tl.store(slot_at(kept, sets, place, 0, BLOCK), c.reference, mask=there)
            tl.store(slot_at(kept, sets, place, 1, BLOCK), offset_of(c, whole.rest), mask=there)
        elif not WRITE:
            noise, call = set_of_noise(sets, place), calls(place, BLOCK)
            for k in range(place.first, place.end):
                d = _deviation(inputs, place, k, noise, call, there, whole, UNIT, T, BLOCK)
                upstream = g_w - g * (d.y * d.precision)
                c = add_part(c, d.rho, upstream * d.sigma if UNIT else upstream)
            if MODE == SEGMENTS:
                store_centring(partial, sets, place, there, c, BLOCK)
        if WRITE:
            reference = tl.load(slot_at(kept, sets, place, 0, BLOCK), mask=there, other=0.0)
            offset = tl.load(slot_at(kept, sets, place, 1, BLOCK), mask=there, other=0.0)
            _write_gradients(sets, place, inputs, g_w, g, pull, whole, reference, offset, outputs, there, UNIT, PATH, T,
                             BLOCK)
        elif MODE == WHOLE:
            c = settled(c)
            _write_gradients(sets, place, inputs, g_w, g, pull, whole, c.reference, offset_of(c, whole.rest), outputs,
                             there, UNIT, PATH, T, BLOCK)


def forward(*arguments):
    *values, save = arguments
    mu_q, _, _, _, logvar_p, offsets, lengths, seed, set_index, part_start, coupling, _ = values
    w_sum, ratio, stats = outputs_of(OPERATION, values, save)
    call = of_parts(mu_q, offsets, lengths, set_index, part_start, seed)
    kept = given(stats, save)
    if call.may_be_long and not save:
        kept = call.kept(7, stats.dtype)
    numbers, partial = call.numbers(), call.partial(PARTIAL.value)
    arguments = tuple(map(rows, values[:5])), per_set(w_sum), numbers, kept, partial
    constants = dict(UNIT=coupling == "unit", T=float_type(mu_q, logvar_p))
    call.launch(_forward, WHOLE, *arguments, ONE_CHUNK=call.one_chunk, **constants)
    call.launch(_forward, SEGMENTS, *arguments, ONE_CHUNK=False, **constants)
    call.launch(_forward, MERGED, *arguments, ONE_CHUNK=False, **constants)
    terms_of = call.partial(2)
    call.launch(_terms, SEGMENTS, *arguments, terms_of, **constants)
    call.launch(_terms, MERGED, *arguments, terms_of, **constants)
    call.join(numbers, ratio)
    call.finish()
    return w_sum, ratio, stats


def backward(grad_w, grad_ratio, *arguments):
    *values, stats, needs = arguments
    mu_q, _, _, _, logvar_p, offsets, lengths, seed, set_index, part_start, coupling, path = values
    gradients = like_wanted(values[:5], needs)
    call = of_parts(mu_q, offsets, lengths, set_index, part_start, seed, spoilt=gradients)
    kept = call.kept(2, stats.dtype) if call.may_be_long else None
    outputs = tuple(map(rows, wanted(gradients, needs)))
    arguments = (tuple(map(rows, values[:5])), per_set(grad_w), per_set(grad_ratio), stats, outputs,
                 call.partial(len(Centring._fields)), kept)
    constants = dict(UNIT=coupling == "unit", PATH=path, T=float_type(mu_q, logvar_p))
    for mode in (WHOLE, SEGMENTS, MERGED):
        call.launch(_backward, mode, *arguments, WRITE=False, **constants)
    call.launch(_backward, SEGMENTS, *arguments, WRITE=True, **constants)
    call.finish()
    return gradients
