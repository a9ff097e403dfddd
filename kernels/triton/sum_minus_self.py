"""sum_minus_self by Triton kernels.

The part with the largest |pre(h)| is kept out of the total, so that total minus self never cancels beyond what the true
sum holds. Sets of one chunk are summed in float32, longer ones by chunks that are joined in float64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from compvae_fast.kernels.triton.elementary import exp, expm1, sech_squared, tanh
from compvae_fast.kernels.triton.places import (
    CHUNK,
    MERGED,
    SEGMENTS,
    WHOLE,
    columns,
    finish_padding,
    first_segment,
    load_row,
    place_of,
    segment_length,
    store_row,
    within,
)
from compvae_fast.kernels.triton.sets import float_type, like_wanted, of_parts, rows

_FIELDS = tl.constexpr(5)


class Total(NamedTuple):
    """The value with the largest magnitude; the sum of the other parts; how many parts are +inf, -inf and NaN, counted
    where the largest one is not finite somewhere in the block, which `odd` tells.

    Which part is kept apart need not be known: for any with that very value the sum without it is that of the others.
    """

    largest: Any
    others: Any
    plus: Any
    minus: Any
    undefined: Any
    odd: Any


@triton.jit
def _magnitude(v):
    """|v| as an integer of that order; NaN is the largest."""
    if v.dtype == tl.float64:
        return v.to(tl.int64, bitcast=True) & 0x7FFFFFFFFFFFFFFF
    else:
        return v.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def _any_infinite(v):
    """Whether an infinity or a NaN is among v."""
    finite = tl.abs(v) < float("inf")
    return tl.min(finite.to(tl.int32), 0) == 0


@triton.jit
def _value(h, place, k, there, ELU: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    x = load_row(h, place, k, there, T, BLOCK)
    return tl.where(x > 0, x, expm1(x)) if ELU else x


@triton.jit
def _term(h, grad, totals, factor, place, k, there, ELU: tl.constexpr, TANH: tl.constexpr, MEAN: tl.constexpr,
          UPSTREAM: tl.constexpr, ONE_CHUNK: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    """What is summed: pre(h_k), or (UPSTREAM) the gradient of the k-th sum, for which totals of pre(h) are given."""
    if UPSTREAM:
        g = load_row(grad, place, k, there, T, BLOCK)
        if TANH:
            v = _value(h, place, k, there, ELU, T, BLOCK)
            g *= sech_squared(_without(totals, v, factor, place, MEAN, ONE_CHUNK, T))
        return g
    else:
        return _value(h, place, k, there, ELU, T, BLOCK)


@triton.jit
def _without(t, v, factor, place, MEAN: tl.constexpr, ONE_CHUNK: tl.constexpr, T: tl.constexpr):
    """The sum without a part whose value is v, times factor."""
    largest = v == t.largest
    plain = t.others.to(T)
    rest = tl.where(largest, plain, (plain - v) + t.largest)
    if not ONE_CHUNK:
        if place.size > CHUNK:
            wide = (t.others - v.to(tl.float64)) + t.largest.to(tl.float64)
            rest = tl.where(largest, t.others, wide).to(T)
    if t.odd:
        rest = tl.where((v != v) & (t.largest != t.largest), plain, rest)
    if MEAN:
        rest *= factor.to(T)
    if t.odd:
        # what remains without this part is told by the counts
        several = t.plus + t.minus + t.undefined > 1
        plus = t.plus - (v == float("inf")).to(tl.int32)
        minus = t.minus - (v == -float("inf")).to(tl.int32)
        undefined = t.undefined - (v != v).to(tl.int32)
        told = tl.where(plus > 0, float("inf"), -float("inf"))
        told = tl.where((undefined > 0) | ((plus > 0) & (minus > 0)), float("nan"), told)
        rest = tl.where(several, told.to(T), rest)
    return rest


@triton.jit
def _factor(place, MEAN: tl.constexpr):
    one = tl.full([], 1, tl.float64)
    if MEAN:
        return tl.where(place.size > 1, one / tl.maximum(place.size - 1, 1).to(tl.float64), 0.0)
    else:
        return one


@triton.jit
def _total(h, grad, totals, factor, place, there, ELU: tl.constexpr, TANH: tl.constexpr, MEAN: tl.constexpr,
           UPSTREAM: tl.constexpr, ONE_CHUNK: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    """The total over the place's parts, the sum of the others in T (ONE_CHUNK) or float64."""
    none = tl.zeros([BLOCK], tl.int32)
    any_part = within(there, place.first, place.end, BLOCK)
    largest = _term(h, grad, totals, factor, place, place.first, any_part, ELU, TANH, MEAN, UPSTREAM, ONE_CHUNK, T,
                    BLOCK)
    others = tl.zeros([BLOCK], T if ONE_CHUNK else tl.float64)
    for part in range(place.first, place.end, CHUNK):
        sum_ = tl.zeros([BLOCK], T)
        for k in range(tl.maximum(part, place.first + 1), tl.minimum(part + CHUNK, place.end)):
            v = _term(h, grad, totals, factor, place, k, there, ELU, TANH, MEAN, UPSTREAM, ONE_CHUNK, T, BLOCK)
            larger = _magnitude(v) > _magnitude(largest)
            sum_ += tl.where(larger, largest, v)
            largest = tl.where(larger, v, largest)
        if ONE_CHUNK:
            others = sum_
        else:
            others += sum_.to(tl.float64)
    plus, minus, undefined = none, none, none
    odd = _any_infinite(largest)
    if odd:
        for k in range(place.first, place.end):
            v = _term(h, grad, totals, factor, place, k, there, ELU, TANH, MEAN, UPSTREAM, ONE_CHUNK, T, BLOCK)
            plus += (v == float("inf")).to(tl.int32)
            minus += (v == -float("inf")).to(tl.int32)
            undefined += (v != v).to(tl.int32)
    return Total(largest, others, plus, minus, undefined, odd)


@triton.jit
def _store_total(memory, row, sets, place, there, t, BLOCK: tl.constexpr):
    """A total as rows [5] of memory [rows, D], float64, from `row` on."""
    at = memory + row * sets.width + place.column + tl.arange(0, BLOCK)
    for i in tl.static_range(5):
        tl.store(at + i * sets.width, t[i].to(tl.float64), mask=there)


@triton.jit
def _load_total(memory, row, sets, place, there, T: tl.constexpr, BLOCK: tl.constexpr):
    at = memory + row * sets.width + place.column + tl.arange(0, BLOCK)
    largest = tl.load(at, mask=there, other=0.0).to(T)
    others = tl.load(at + sets.width, mask=there, other=0.0)
    plus = tl.load(at + 2 * sets.width, mask=there, other=0.0).to(tl.int32)
    minus = tl.load(at + 3 * sets.width, mask=there, other=0.0).to(tl.int32)
    undefined = tl.load(at + 4 * sets.width, mask=there, other=0.0).to(tl.int32)
    return Total(largest, others, plus, minus, undefined, _any_infinite(largest))


@triton.jit
def _merged(partial, sets, place, there, T: tl.constexpr, BLOCK: tl.constexpr):
    """The total of a set out of those of its segments, in their order."""
    length = segment_length(place.end)
    first = first_segment(sets, place.set)
    t = _load_total(partial, first * _FIELDS, sets, place, there, T, BLOCK)
    for item in range(first + 1, first + (place.end + length - 1) // length):
        u = _load_total(partial, item * _FIELDS, sets, place, there, T, BLOCK)
        larger = _magnitude(u.largest) > _magnitude(t.largest)
        joins = tl.where(larger, t.largest, u.largest).to(tl.float64)
        t = Total(tl.where(larger, u.largest, t.largest), t.others + u.others + joins, t.plus + u.plus,
                  t.minus + u.minus, t.undefined + u.undefined, t.odd)
    return t


@triton.jit
def _write(sets, h, grad, totals, upstream, factor, out, place, there, ELU: tl.constexpr, TANH: tl.constexpr,
           MEAN: tl.constexpr, UPSTREAM: tl.constexpr, ONE_CHUNK: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    for k in range(place.first, place.end):
        v = _term(h, grad, totals, factor, place, k, there, ELU, TANH, MEAN, UPSTREAM, ONE_CHUNK, T, BLOCK)
        if UPSTREAM:
            result = _without(upstream, v, factor, place, MEAN, ONE_CHUNK, T)
            if ELU:
                x = load_row(h, place, k, there, T, BLOCK)
                result *= tl.where(x > 0, 1.0, exp(x))
        else:
            result = _without(totals, v, factor, place, MEAN, ONE_CHUNK, T)
            if TANH:
                result = tanh(result)
        store_row(out, place, k, there, result, BLOCK)


@triton.jit
def _whole(sets, h, grad, out, MODE: tl.constexpr, ELU: tl.constexpr, TANH: tl.constexpr, MEAN: tl.constexpr,
           UPSTREAM: tl.constexpr, ONE_CHUNK: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    """Small sets: out, or (UPSTREAM) the gradient of h."""
    place = place_of(sets, MODE, BLOCK)
    if place.here:
        there = columns(sets, place, BLOCK)
        factor = _factor(place, MEAN)
        totals, upstream = None, None
        if TANH or not UPSTREAM:
            totals = _total(h, grad, None, factor, place, there, ELU, TANH, MEAN, False, ONE_CHUNK, T, BLOCK)
        if UPSTREAM:
            upstream = _total(h, grad, totals, factor, place, there, ELU, TANH, MEAN, True, ONE_CHUNK, T, BLOCK)
        _write(sets, h, grad, totals, upstream, factor, out, place, there, ELU, TANH, MEAN, UPSTREAM, ONE_CHUNK, T,
               BLOCK)
        finish_padding(out, sets, place, there, BLOCK)


@triton.jit
def _long(sets, h, grad, out, partial, of_values, of_upstream, MODE: tl.constexpr, STEP: tl.constexpr,
          ELU: tl.constexpr, TANH: tl.constexpr, MEAN: tl.constexpr, UPSTREAM: tl.constexpr, T: tl.constexpr,
          BLOCK: tl.constexpr):
    """Long sets: totals of pre(h) (STEP 0) and of the upstream gradient (1), kept [B, 5, D]; what is written (2)."""
    place = place_of(sets, MODE, BLOCK)
    if place.here:
        there = columns(sets, place, BLOCK)
        factor = _factor(place, MEAN)
        if MODE == MERGED:
            kept = of_values if STEP == 0 else of_upstream
            _store_total(kept, place.set * _FIELDS, sets, place, there, _merged(partial, sets, place, there, T, BLOCK),
                         BLOCK)
        else:
            totals, upstream = None, None
            if STEP > 0 and (TANH or not UPSTREAM):
                totals = _load_total(of_values, place.set * _FIELDS, sets, place, there, T, BLOCK)
            if STEP == 2:
                if UPSTREAM:
                    upstream = _load_total(of_upstream, place.set * _FIELDS, sets, place, there, T, BLOCK)
                _write(sets, h, grad, totals, upstream, factor, out, place, there, ELU, TANH, MEAN, UPSTREAM, False, T,
                       BLOCK)
                finish_padding(out, sets, place, there, BLOCK)
            else:
                t = _total(h, grad, totals, factor, place, there, ELU, TANH, MEAN, STEP == 1, False, T, BLOCK)
                _store_total(partial, place.item * _FIELDS, sets, place, there, t, BLOCK)


def _run(call, h, grad, out, pre: str, post: str, reduce: str):
    upstream = grad is not None
    arguments = rows(h), rows(grad), rows(out)
    constants = dict(ELU=pre == "elu", TANH=post == "tanh", MEAN=reduce == "mean", UPSTREAM=upstream, T=float_type(h))
    call.launch(_whole, WHOLE, *arguments, ONE_CHUNK=call.one_chunk, **constants)
    if call.may_be_long:
        partial = call.partial(_FIELDS.value)
        memory = partial, *(call.kept(_FIELDS.value, partial.dtype) for _ in range(2))
        steps = [step for step, needed in enumerate((post == "tanh" or not upstream, upstream)) if needed]
        for step in steps:
            for mode in (SEGMENTS, MERGED):
                call.launch(_long, mode, *arguments, *memory, STEP=step, **constants)
        call.launch(_long, SEGMENTS, *arguments, *memory, STEP=2, **constants)
    call.finish()


def forward(h, offsets, lengths, pre, post, reduce, save):
    out = h.new_empty(h.shape)
    _run(of_parts(h, offsets, lengths, spoilt=(out,)), h, None, out, pre, post, reduce)
    return (out,)


def backward(grad_out, h, offsets, lengths, pre, post, reduce, needs):
    gradients = like_wanted((h,), needs)
    if grad_out is None or not needs[0]:
        return tuple(g.zero_() for g in gradients)
    _run(of_parts(h, offsets, lengths, spoilt=gradients), h, grad_out, gradients[0], pre, post, reduce)
    return gradients
