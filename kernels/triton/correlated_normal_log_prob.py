"""correlated_normal_log_prob by Triton kernels.

The inverse of the transform loses a factor exp(L), so everything here is float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from compvae_fast.kernels.triton.elementary import exp, log
from compvae_fast.kernels.triton.places import (
    MERGED,
    SEGMENTS,
    WHOLE,
    columns,
    finish_padding,
    first_segment,
    load_number,
    load_row,
    place_of,
    segment_length,
    slot_at,
    store_groups,
    store_row,
    within,
)
from compvae_fast.kernels.triton.sets import Call, given, like_wanted, of_parts, outputs_of, per_set, rows, wanted
from compvae_fast.ops.correlated_normal_log_prob import OPERATION

_LOG_2_PI = tl.constexpr(1.8378770664093454836)
# Rows of stats [4, B, D]: max(0, nu_m); 1/Z; E (unit) or T (scaled); and exp(L) sum rho_j eps_j (unit) or
# exp(L) sum rho_j eps_j / sigma_j (scaled).
_STATS = tl.constexpr(4)
# What a segment leaves, first max(0, nu), Z over exp(that) and the sum of residuals, then two sums.
PARTIAL = tl.constexpr(5)


@triton.jit
def _residual(inputs, place, k, there, UNIT: tl.constexpr, BLOCK: tl.constexpr):
    """(w - mu) / sigma in unit, w - mu in scaled; 1 / sigma; the log-variance; the logit."""
    difference = (load_row(inputs[0], place, k, there, tl.float64, BLOCK)
                  - load_row(inputs[1], place, k, there, tl.float64, BLOCK))
    logvar = load_row(inputs[2], place, k, there, tl.float64, BLOCK)
    inverse_sigma = exp(-0.5 * logvar)
    residual = difference * inverse_sigma if UNIT else difference
    return residual, inverse_sigma, logvar, load_row(inputs[3], place, k, there, tl.float64, BLOCK)


@triton.jit
def _join_logits(reference, z, other, z_other):
    both = tl.where(other > reference, other, reference)
    return both, z * exp(reference - both) + z_other * exp(other - both)


@triton.jit
def first_sums(place, inputs, there, UNIT: tl.constexpr, BLOCK: tl.constexpr):
    reference = tl.zeros([BLOCK], tl.float64)
    z, total = reference, reference
    for k in range(place.first, place.end):
        residual, _, _, logit = _residual(inputs, place, k, there, UNIT, BLOCK)
        both = tl.where(logit > reference, logit, reference)
        z = z * exp(reference - both) + exp(logit - both)
        reference = both
        total += residual
    return reference, z, total


@triton.jit
def _eps(residual, inverse_sigma, rho, total, UNIT: tl.constexpr):
    v = residual + rho * total
    return v if UNIT else v * inverse_sigma


@triton.jit
def second_sums(place, inputs, there, reference, inverse_z, total, UNIT: tl.constexpr, BLOCK: tl.constexpr):
    squares, pull = tl.zeros([BLOCK], tl.float64), tl.zeros([BLOCK], tl.float64)
    for k in range(place.first, place.end):
        residual, inverse_sigma, logvar, logit = _residual(inputs, place, k, there, UNIT, BLOCK)
        rho = exp(logit - reference) * inverse_z
        eps = _eps(residual, inverse_sigma, rho, total, UNIT)
        squares += eps * eps + logvar
        pull += rho * eps if UNIT else rho * eps * inverse_sigma
    return squares, pull


@triton.jit
def _keep(stats, sets, place, there, slot: tl.constexpr, values, BLOCK: tl.constexpr):
    tl.store(slot_at(stats, sets, place, slot, BLOCK), values, mask=there)


@triton.jit
def _keep_first(stats, sets, place, there, reference, z, total, BLOCK: tl.constexpr):
    """The first three rows of stats; L, 1/Z and the total noise."""
    z += exp(-reference)
    log_normaliser = reference + log(z)
    total *= exp(log_normaliser)
    inverse_z = 1 / z
    if stats is not None:
        _keep(stats, sets, place, there, 0, reference, BLOCK)
        _keep(stats, sets, place, there, 1, inverse_z, BLOCK)
        _keep(stats, sets, place, there, 2, total, BLOCK)
    return log_normaliser, inverse_z, total


@triton.jit
def _keep_second(stats, sets, place, there, numbers, squares, pull, log_normaliser, BLOCK: tl.constexpr):
    density = log_normaliser - 0.5 * (squares + _LOG_2_PI * place.end.to(tl.float64))
    store_groups(numbers, sets, place, place.set, tl.where(within(there, 0, place.size, BLOCK), density, 0.0), BLOCK)
    if stats is not None:
        _keep(stats, sets, place, there, 3, pull * exp(log_normaliser), BLOCK)


@triton.jit
def _partial_at(partial, sets, item, column, slot: tl.constexpr, BLOCK: tl.constexpr):
    return partial + (item * PARTIAL + slot) * sets.width + column + tl.arange(0, BLOCK)


@triton.jit
def _stat(stats, sets, place, slot: tl.constexpr, there, BLOCK: tl.constexpr):
    return tl.load(slot_at(stats, sets, place, slot, BLOCK), mask=there, other=0.0)


@triton.jit
def store_partial(partial, sets, place, there, SECOND: tl.constexpr, found, BLOCK: tl.constexpr):
    """Leaves a segment's first or second sums."""
    for i in tl.static_range(2 if SECOND else 3):
        at = _partial_at(partial, sets, place.item, place.column, i + (3 if SECOND else 0), BLOCK)
        tl.store(at, found[i], mask=there)


@triton.jit
def merge_first(partial, sets, place, there, BLOCK: tl.constexpr):
    """The first sums of a set out of what its segments left, in their order."""
    length = segment_length(place.end)
    first = first_segment(sets, place.set)
    reference = tl.zeros([BLOCK], tl.float64)
    z, total = reference, reference
    for item in range(first, first + (place.end + length - 1) // length):
        other = tl.load(_partial_at(partial, sets, item, place.column, 0, BLOCK), mask=there, other=0.0)
        other_z = tl.load(_partial_at(partial, sets, item, place.column, 1, BLOCK), mask=there, other=0.0)
        reference, z = _join_logits(reference, z, other, other_z)
        total += tl.load(_partial_at(partial, sets, item, place.column, 2, BLOCK), mask=there, other=0.0)
    return reference, z, total


@triton.jit
def merge_second(partial, sets, place, there, BLOCK: tl.constexpr):
    length = segment_length(place.end)
    first = first_segment(sets, place.set)
    squares, pull = tl.zeros([BLOCK], tl.float64), tl.zeros([BLOCK], tl.float64)
    for item in range(first, first + (place.end + length - 1) // length):
        squares += tl.load(_partial_at(partial, sets, item, place.column, 3, BLOCK), mask=there, other=0.0)
        pull += tl.load(_partial_at(partial, sets, item, place.column, 4, BLOCK), mask=there, other=0.0)
    return squares, pull


@triton.jit
def second_sums_of(stats, sets, place, inputs, there, UNIT: tl.constexpr, BLOCK: tl.constexpr):
    """The second sums where the first three rows of stats are there."""
    return second_sums(place, inputs, there, _stat(stats, sets, place, 0, there, BLOCK),
                       _stat(stats, sets, place, 1, there, BLOCK), _stat(stats, sets, place, 2, there, BLOCK), UNIT,
                       BLOCK)


@triton.jit
def _forward(sets, inputs, numbers, stats, partial, MODE: tl.constexpr, SECOND: tl.constexpr, UNIT: tl.constexpr,
             BLOCK: tl.constexpr):
    """SECOND: the second pass over long sets, whose first three rows of stats are there."""
    place = place_of(sets, MODE, BLOCK)
    if place.here:
        there = columns(sets, place, BLOCK)
        if MODE == WHOLE:
            reference, z, total = first_sums(place, inputs, there, UNIT, BLOCK)
            log_normaliser, inverse_z, total = _keep_first(stats, sets, place, there, reference, z, total, BLOCK)
            squares, pull = second_sums(place, inputs, there, reference, inverse_z, total, UNIT, BLOCK)
            _keep_second(stats, sets, place, there, numbers, squares, pull, log_normaliser, BLOCK)
        elif MODE == SEGMENTS:
            if SECOND:
                found = second_sums_of(stats, sets, place, inputs, there, UNIT, BLOCK)
            else:
                found = first_sums(place, inputs, there, UNIT, BLOCK)
            store_partial(partial, sets, place, there, SECOND, found, BLOCK)
        elif SECOND:
            squares, pull = merge_second(partial, sets, place, there, BLOCK)
            reference = _stat(stats, sets, place, 0, there, BLOCK)
            log_normaliser = reference - log(_stat(stats, sets, place, 1, there, BLOCK))
            _keep_second(stats, sets, place, there, numbers, squares, pull, log_normaliser, BLOCK)
        else:
            reference, z, total = merge_first(partial, sets, place, there, BLOCK)
            _keep_first(stats, sets, place, there, reference, z, total, BLOCK)


@triton.jit
def _backward(sets, inputs, grad, stats, outputs, MODE: tl.constexpr, UNIT: tl.constexpr, BLOCK: tl.constexpr):
    place = place_of(sets, MODE, BLOCK)
    if place.here:
        there = columns(sets, place, BLOCK)
        g = load_number(grad, place, tl.float64)
        reference, inverse_z = _stat(stats, sets, place, 0, there, BLOCK), _stat(stats, sets, place, 1, there, BLOCK)
        total, pull = _stat(stats, sets, place, 2, there, BLOCK), _stat(stats, sets, place, 3, there, BLOCK)
        for k in range(place.first, place.end):
            residual, inverse_sigma, _, logit = _residual(inputs, place, k, there, UNIT, BLOCK)
            rho = exp(logit - reference) * inverse_z
            eps = _eps(residual, inverse_sigma, rho, total, UNIT)
            if UNIT:
                to_w = -(eps + pull) * inverse_sigma
                to_logvar = residual * (eps + pull) - 1
                to_logit = rho * (1 - eps * total)
            else:
                to_w = -(eps * inverse_sigma + pull)
                to_logvar = eps * eps - 1
                to_logit = rho * (1 - eps * total * inverse_sigma)
            store_row(outputs[0], place, k, there, g * to_w, BLOCK)
            store_row(outputs[1], place, k, there, -g * to_w, BLOCK)
            store_row(outputs[2], place, k, there, 0.5 * g * to_logvar, BLOCK)
            store_row(outputs[3], place, k, there, g * to_logit, BLOCK)
        for i in tl.static_range(4):
            finish_padding(outputs[i], sets, place, there, BLOCK)


def forward(*arguments):
    *values, save = arguments
    w, _, _, _, offsets, lengths, coupling = values
    density, stats = outputs_of(OPERATION, values, save)
    call = of_parts(w, offsets, lengths)
    kept = given(stats, save)
    if call.may_be_long and not save:
        kept = call.kept(_STATS.value, stats.dtype)
    numbers = call.numbers()
    arguments = tuple(map(rows, values[:4])), numbers, kept, call.partial(PARTIAL.value)
    unit = coupling == "unit"
    call.launch(_forward, WHOLE, *arguments, SECOND=False, UNIT=unit)
    for second in (False, True):
        call.launch(_forward, SEGMENTS, *arguments, SECOND=second, UNIT=unit)
        call.launch(_forward, MERGED, *arguments, SECOND=second, UNIT=unit)
    call.join(numbers, density)
    call.finish()
    return density, stats


def backward(grad, *arguments):
    *values, stats, needs = arguments
    w, _, _, _, offsets, lengths, coupling = values
    gradients = like_wanted(values[:4], needs)
    call = of_parts(w, offsets, lengths, spoilt=gradients)
    run_backward(call, values[:4], grad, stats, wanted(gradients, needs), coupling == "unit")
    return gradients


def run_backward(call: Call, inputs: Sequence[Tensor], grad: Tensor, stats: Tensor,
                 outputs: tuple[Tensor | None, ...], unit: bool) -> None:
    arguments = tuple(map(rows, inputs)), per_set(grad), stats, tuple(map(rows, outputs))
    for mode in (WHOLE, SEGMENTS):
        call.launch(_backward, mode, *arguments, UNIT=unit)
    call.finish()
