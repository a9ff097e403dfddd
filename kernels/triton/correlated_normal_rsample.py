"""correlated_normal_rsample by Triton kernels."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from compvae_fast.kernels.triton.elementary import exp
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
    load_number,
    load_row,
    place_of,
    set_of_noise,
    slot_at,
    store_groups,
    store_row,
    within,
)
from compvae_fast.kernels.triton.sets import float_type, given, like_wanted, of_parts, outputs_of, per_set, rows, wanted
from compvae_fast.ops.correlated_normal_rsample import OPERATION

_LOG_2_PI = tl.constexpr(1.8378770664093454836)


@triton.jit
def _write_parts(sets, place, inputs, w, whole, there, UNIT: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    seed, index, start = set_of_noise(sets, place)
    call = calls(place, BLOCK)
    for k in range(place.first, place.end):
        mu = load_row(inputs[0], place, k, there, T, BLOCK)
        sigma = exp(0.5 * load_row(inputs[1], place, k, there, T, BLOCK))
        rho = rho_of(whole, load_row(inputs[2], place, k, there, T, BLOCK))
        noise = noise_of_part(whole, rho, sigma, draw(seed, index, start + k, call, T), UNIT)
        store_row(w, place, k, there, mu + noise, BLOCK)
    finish_padding(w, sets, place, there, BLOCK)


@triton.jit
def _forward(sets, inputs, w, numbers, stats, partial, MODE: tl.constexpr, ONE_CHUNK: tl.constexpr, UNIT: tl.constexpr,
             DENSITY: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    place = place_of(sets, MODE, BLOCK)
    if place.here:
        there = columns(sets, place, BLOCK)
        if MODE == MERGED:
            m, sums = merge_partial(partial, sets, place, there, UNIT, False, True, False, DENSITY, T, BLOCK)
        else:
            m, sums = sum_over(sets, place, inputs, calls(place, BLOCK), there, ONE_CHUNK, UNIT, False, True, False,
                               DENSITY, T, BLOCK)
        if MODE == SEGMENTS:
            store_partial(partial, sets, place, there, m, sums, UNIT, False, True, False, DENSITY, BLOCK)
        else:
            whole, density = finish(sets, place, m, sums, there, w, numbers, stats, UNIT, False, True, False, DENSITY,
                                    T, BLOCK)
            if DENSITY:
                density -= 0.5 * _LOG_2_PI * place.end.to(tl.float64)
                density = tl.where(within(there, 0, place.size, BLOCK), density, 0.0)
                store_groups(numbers, sets, place, place.set, density, BLOCK)
        if MODE == WHOLE:
            _write_parts(sets, place, inputs, w, whole, there, UNIT, T, BLOCK)


@triton.jit
def write(sets, inputs, w, stats, MODE: tl.constexpr, UNIT: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    """The parts of sets whose stats are there: of long ones, segment by segment, and of shards."""
    place = place_of(sets, MODE, BLOCK)
    if place.here:
        there = columns(sets, place, BLOCK)
        whole = load_whole(stats, sets, place, there, BLOCK)
        _write_parts(sets, place, inputs, w, whole, there, UNIT, T, BLOCK)


@triton.jit
def _upstream(inputs, grad_w, place, k, there, whole, UNIT: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    """Upstream gradient, sigma, rho and the number to centre of a part."""
    g = load_row(grad_w, place, k, there, T, BLOCK)
    sigma = exp(0.5 * load_row(inputs[1], place, k, there, T, BLOCK))
    rho = rho_of(whole, load_row(inputs[2], place, k, there, T, BLOCK))
    return g, sigma, rho, g * sigma if UNIT else g


@triton.jit
def centring_of(place, inputs, grad_w, there, whole, UNIT: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    c = no_parts(T, BLOCK)
    for k in range(place.first, place.end):
        _, _, rho, a = _upstream(inputs, grad_w, place, k, there, whole, UNIT, T, BLOCK)
        c = add_part(c, rho, a)
    return c


@triton.jit
def _write_gradients(sets, place, inputs, grad_w, grad_density, whole, reference, offset, outputs, there,
                     UNIT: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    seed, index, start = set_of_noise(sets, place)
    call = calls(place, BLOCK)
    g_density = load_number(grad_density, place, T)
    for k in range(place.first, place.end):
        g, sigma, rho, a = _upstream(inputs, grad_w, place, k, there, whole, UNIT, T, BLOCK)
        eps = draw(seed, index, start + k, call, T)
        around = centred(a, rho, reference, offset)
        to_logvar = g * noise_of_part(whole, rho, sigma, eps, UNIT) if UNIT else sigma * eps * around
        store_row(outputs[0], place, k, there, g, BLOCK)
        store_row(outputs[1], place, k, there, 0.5 * (to_logvar - g_density), BLOCK)
        store_row(outputs[2], place, k, there, rho * (g_density - whole.noise * around), BLOCK)
    for i in tl.static_range(3):
        finish_padding(outputs[i], sets, place, there, BLOCK)


@triton.jit
def _backward(sets, inputs, grad_w, grad_density, stats, outputs, partial, kept, MODE: tl.constexpr, UNIT: tl.constexpr,
              T: tl.constexpr, BLOCK: tl.constexpr):
    place = place_of(sets, MODE, BLOCK)
    if place.here:
        there = columns(sets, place, BLOCK)
        whole = load_whole(stats, sets, place, there, BLOCK)
        if MODE == MERGED:
            c = settled(merge_centring(partial, sets, place, there, T, BLOCK))
            tl.store(slot_at(kept, sets, place, 0, BLOCK), c.reference, mask=there)
            tl.store(slot_at(kept, sets, place, 1, BLOCK), offset_of(c, whole.rest), mask=there)
        else:
            c = centring_of(place, inputs, grad_w, there, whole, UNIT, T, BLOCK)
            if MODE == SEGMENTS:
                store_centring(partial, sets, place, there, c, BLOCK)
            else:
                c = settled(c)
                _write_gradients(sets, place, inputs, grad_w, grad_density, whole, c.reference,
                                 offset_of(c, whole.rest), outputs, there, UNIT, T, BLOCK)


@triton.jit
def write_backward(sets, inputs, grad_w, grad_density, stats, outputs, kept, MODE: tl.constexpr, UNIT: tl.constexpr,
                   T: tl.constexpr, BLOCK: tl.constexpr):
    """The gradients of sets whose centring is there: a_r, and what to add to a_i - a_r."""
    place = place_of(sets, MODE, BLOCK)
    if place.here:
        there = columns(sets, place, BLOCK)
        whole = load_whole(stats, sets, place, there, BLOCK)
        reference = tl.load(slot_at(kept, sets, place, 0, BLOCK), mask=there, other=0.0)
        offset = tl.load(slot_at(kept, sets, place, 1, BLOCK), mask=there, other=0.0)
        _write_gradients(sets, place, inputs, grad_w, grad_density, whole, reference, offset, outputs, there, UNIT, T,
                         BLOCK)


def forward(*arguments):
    *values, save = arguments
    mu, _, _, offsets, lengths, seed, set_index, part_start, coupling, with_log_prob = values
    w, log_q, stats = outputs_of(OPERATION, values, save)
    call = of_parts(mu, offsets, lengths, set_index, part_start, seed, spoilt=(w,))
    if call.may_be_long and not save:
        stats = call.kept(6, stats.dtype)
    numbers, partial = call.numbers(), call.partial(PARTIAL.value)
    inputs, kept = tuple(map(rows, values[:3])), given(stats, save or call.may_be_long)
    constants = dict(UNIT=coupling == "unit", T=float_type(mu))
    arguments = inputs, rows(w), numbers, kept, partial
    call.launch(_forward, WHOLE, *arguments, ONE_CHUNK=call.one_chunk, DENSITY=with_log_prob, **constants)
    call.launch(_forward, SEGMENTS, *arguments, ONE_CHUNK=False, DENSITY=with_log_prob, **constants)
    call.launch(_forward, MERGED, *arguments, ONE_CHUNK=False, DENSITY=with_log_prob, **constants)
    call.launch(write, SEGMENTS, inputs, rows(w), kept, **constants)
    if with_log_prob:
        call.join(numbers, log_q)
    call.finish()
    return w, log_q, stats if save else stats.new_empty(0)


def backward(grad_w, grad_log_q, *arguments):
    *values, stats, needs = arguments
    mu, _, _, offsets, lengths, seed, set_index, part_start, coupling, _ = values
    gradients = like_wanted(values[:3], needs)
    call = of_parts(mu, offsets, lengths, set_index, part_start, seed, spoilt=gradients)
    if grad_w is None:
        grad_w = torch.zeros((), dtype=mu.dtype, device=mu.device).expand(mu.shape)
    kept = call.kept(2, stats.dtype) if call.may_be_long else None
    inputs, outputs = tuple(map(rows, values[:3])), tuple(map(rows, wanted(gradients, needs)))
    constants = dict(UNIT=coupling == "unit", T=float_type(mu))
    arguments = inputs, rows(grad_w), per_set(grad_log_q), stats, outputs
    partial = call.partial(len(Centring._fields))
    for mode in (WHOLE, SEGMENTS, MERGED):
        call.launch(_backward, mode, *arguments, partial, kept, **constants)
    call.launch(write_backward, SEGMENTS, *arguments, kept, **constants)
    call.finish()
    return gradients
