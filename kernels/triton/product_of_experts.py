"""product_of_experts by Triton kernels: sums in float64, relative to the largest precision so far."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from compvae_fast.kernels.triton.elementary import exact_exp, exp, expm1, log, log1p
from compvae_fast.kernels.triton.places import (
    MERGED,
    SEGMENTS,
    WHOLE,
    columns,
    finish_padding,
    first_segment,
    load_row,
    load_vector,
    place_of,
    segment_length,
    slot_at,
    store_row,
    store_vector,
)
from compvae_fast.kernels.triton.sets import float_type, given, like_wanted, of_parts, outputs_of, per_set, rows, wanted
from compvae_fast.ops.product_of_experts import OPERATION

# Rows of stats [4, B, D]: the mean in two pieces, so that its difference from a mean close by keeps its digits; and
# REFERENCE and INVERSE, with t_i / T = exp(-logvar_i - REFERENCE) * INVERSE.
_MEAN, _MEAN_REST, _REFERENCE, _INVERSE = (tl.constexpr(i) for i in range(4))
_PARTIAL = tl.constexpr(3)


@triton.jit
def _expert(inputs, mask, sets, place, k, there, T: tl.constexpr, BLOCK: tl.constexpr):
    """Mean and log-variance of an expert, and whether it is there."""
    present = there
    if mask is not None:
        taken = tl.load(mask + place.set * sets.parts + k).to(tl.int32)
        present = there & (tl.zeros([BLOCK], tl.int32) + taken != 0)
    return (load_row(inputs[0], place, k, present, T, BLOCK), load_row(inputs[1], place, k, present, T, BLOCK), present)


@triton.jit
def _rescale(old, new):
    """exp(old - new), where both may be -inf."""
    return tl.where(old == new, 1.0, exact_exp(old - tl.where(new == -float("inf"), 0.0, new))).to(tl.float64)


@triton.jit
def _sums(inputs, mask, sets, place, there, PRIOR: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    """The largest -logvar (with the prior's 0), and sums of t_i and t_i mu_i over exp(that), without the prior."""
    reference = tl.zeros([BLOCK], T) + (0.0 if PRIOR else -float("inf"))
    total, weighted = tl.zeros([BLOCK], tl.float64), tl.zeros([BLOCK], tl.float64)
    for k in range(place.first, place.end):
        mu, logvar, present = _expert(inputs, mask, sets, place, k, there, T, BLOCK)
        larger = present & (-logvar > reference)
        both = tl.where(larger, -logvar, reference)
        scale = _rescale(reference, both)
        reference = both
        finite = tl.where(both == -float("inf"), 0.0, both)
        t = tl.where(present, exact_exp(-logvar - finite), 0.0).to(tl.float64)
        total = total * scale + t
        weighted = weighted * scale + tl.where(present, t * mu.to(tl.float64), 0.0)
    return reference, total, weighted


@triton.jit
def _finish(sets, place, there, reference, total, weighted, mean_out, logvar_out, stats, PRIOR: tl.constexpr,
            T: tl.constexpr, BLOCK: tl.constexpr):
    none = reference == -float("inf")
    wide = tl.where(none, 0.0, reference).to(tl.float64)
    if PRIOR:
        # the reference is at least 0, and 1 + x must keep the digits of a small x
        log_total = wide + log1p(expm1(-wide) + total)
        total += exp(-wide)
    else:
        log_total = wide + log(total)
    mean = tl.where(none, 0.0, weighted / total)
    store_vector(mean_out, place, there, mean, BLOCK)
    store_vector(logvar_out, place, there, tl.where(none, float("inf"), -log_total), BLOCK)
    if stats is not None:
        high = mean.to(T)
        tl.store(slot_at(stats, sets, place, _MEAN, BLOCK), high, mask=there)
        tl.store(slot_at(stats, sets, place, _MEAN_REST, BLOCK), (mean - high.to(tl.float64)).to(T), mask=there)
        tl.store(slot_at(stats, sets, place, _REFERENCE, BLOCK), wide.to(T), mask=there)
        tl.store(slot_at(stats, sets, place, _INVERSE, BLOCK), tl.where(none, 0.0, 1 / total).to(T), mask=there)


@triton.jit
def _partial_at(partial, sets, item, column, slot: tl.constexpr, BLOCK: tl.constexpr):
    return partial + (item * _PARTIAL + slot) * sets.width + column + tl.arange(0, BLOCK)


@triton.jit
def _forward(sets, inputs, mask, mean, logvar, stats, partial, MODE: tl.constexpr, PRIOR: tl.constexpr, T: tl.constexpr,
             BLOCK: tl.constexpr):
    place = place_of(sets, MODE, BLOCK)
    if place.here:
        there = columns(sets, place, BLOCK)
        if MODE == MERGED:
            length = segment_length(place.end)
            first = first_segment(sets, place.set)
            reference = tl.zeros([BLOCK], T) + (0.0 if PRIOR else -float("inf"))
            total, weighted = tl.zeros([BLOCK], tl.float64), tl.zeros([BLOCK], tl.float64)
            for item in range(first, first + (place.end + length - 1) // length):
                other = tl.load(_partial_at(partial, sets, item, place.column, 0, BLOCK), mask=there, other=0.0).to(T)
                t = tl.load(_partial_at(partial, sets, item, place.column, 1, BLOCK), mask=there, other=0.0)
                w = tl.load(_partial_at(partial, sets, item, place.column, 2, BLOCK), mask=there, other=0.0)
                both = tl.where(other > reference, other, reference)
                ours, theirs = _rescale(reference, both), _rescale(other, both)
                total, weighted = total * ours + t * theirs, weighted * ours + w * theirs
                reference = both
        else:
            reference, total, weighted = _sums(inputs, mask, sets, place, there, PRIOR, T, BLOCK)
        if MODE == SEGMENTS:
            tl.store(_partial_at(partial, sets, place.item, place.column, 0, BLOCK), reference, mask=there)
            tl.store(_partial_at(partial, sets, place.item, place.column, 1, BLOCK), total, mask=there)
            tl.store(_partial_at(partial, sets, place.item, place.column, 2, BLOCK), weighted, mask=there)
        else:
            _finish(sets, place, there, reference, total, weighted, mean, logvar, stats, PRIOR, T, BLOCK)


@triton.jit
def _backward(sets, inputs, mask, grad_mean, grad_logvar, stats, outputs, MODE: tl.constexpr, T: tl.constexpr,
              BLOCK: tl.constexpr):
    place = place_of(sets, MODE, BLOCK)
    if place.here:
        there = columns(sets, place, BLOCK)
        to_mean = load_vector(grad_mean, place, there, T, BLOCK)
        to_logvar = load_vector(grad_logvar, place, there, T, BLOCK)
        mean = tl.load(slot_at(stats, sets, place, _MEAN, BLOCK), mask=there, other=0.0)
        mean_rest = tl.load(slot_at(stats, sets, place, _MEAN_REST, BLOCK), mask=there, other=0.0)
        reference = tl.load(slot_at(stats, sets, place, _REFERENCE, BLOCK), mask=there, other=0.0)
        inverse = tl.load(slot_at(stats, sets, place, _INVERSE, BLOCK), mask=there, other=0.0)
        for k in range(place.first, place.end):
            mu, logvar, present = _expert(inputs, mask, sets, place, k, there, T, BLOCK)
            weight = exact_exp(-logvar - reference) * inverse
            apart = (mu - mean) - mean_rest
            store_row(outputs[0], place, k, there, tl.where(present, weight * to_mean, 0.0), BLOCK)
            by_logvar = weight * (to_logvar - to_mean * apart)
            store_row(outputs[1], place, k, there, tl.where(present, by_logvar, 0.0), BLOCK)
        for i in tl.static_range(2):
            finish_padding(outputs[i], sets, place, there, BLOCK)


def _as_bytes(mask):
    return None if mask is None else mask.contiguous().view(torch.uint8)


def forward(*arguments):
    *values, save = arguments
    mu, _, offsets, lengths, mask, prior = values
    mean, logvar, stats = outputs_of(OPERATION, values, save)
    call = of_parts(mu, offsets, lengths)
    arguments = (tuple(map(rows, values[:2])), _as_bytes(mask), per_set(mean), per_set(logvar), given(stats, save),
                 call.partial(_PARTIAL.value))
    for mode in (WHOLE, SEGMENTS, MERGED):
        call.launch(_forward, mode, *arguments, PRIOR=prior, T=float_type(mu))
    call.finish()
    return mean, logvar, stats


def backward(grad_mean, grad_logvar, *arguments):
    *values, stats, needs = arguments
    mu, _, offsets, lengths, mask, _ = values
    gradients = like_wanted(values[:2], needs)
    call = of_parts(mu, offsets, lengths, spoilt=gradients)
    arguments = (tuple(map(rows, values[:2])), _as_bytes(mask), per_set(grad_mean), per_set(grad_logvar), stats,
                 tuple(map(rows, wanted(gradients, needs))))
    for mode in (WHOLE, SEGMENTS):
        call.launch(_backward, mode, *arguments, T=float_type(mu))
    call.finish()
    return gradients
