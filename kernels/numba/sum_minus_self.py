"""sum_minus_self by Numba kernels.

out_i = post(sum over j != i of pre(h_j)), exact to rounding of the true sum: the part with the largest |pre(h)| is kept
out of the float64 total, so that total minus self never cancels beyond what the true sum holds.
"""

from __future__ import annotations

import math

from compvae_fast.kernels.numba.calls import adapted, kind_of, run_places
from compvae_fast.kernels.numba.compiling import inlined, kernel, plain
from compvae_fast.kernels.numba.elementary import absolute, exp, expm1, tanh
from compvae_fast.kernels.numba.memory import load, load_float64, store
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
    row_at,
    stage_input,
    stage_output,
    zero_padding,
)
from compvae_fast.kernels.numba.rows import tensor
from compvae_fast.kernels.numba.vectors import any_of, count_of, select, size_of, splat, to_float64, to_kind, zero

# Rows of the sums of one quantity. Float64: the sum over all but the largest; which part is the largest; how many are
# +inf, -inf and NaN. In the compute type: the largest.
_OTHERS, _WHERE, _PLUS, _MINUS, _UNDEFINED, _LARGEST = (i * ROW for i in range(6))
_SUMS_ROWS = 6
_VALUE_SUMS, _UPSTREAM_SUMS = SMALL, SMALL + _SUMS_ROWS * ROW
# Rows of a chunk: pre(h), the upstream gradients of the sums, and sums without each part
_VALUES, _UPSTREAM, _WITHOUT = OUTPUTS[1], OUTPUTS[2], OUTPUTS[3]


@inlined
def _magnitude(v):
    return select(v == v, absolute(v), math.inf)


@plain
def _add_chunk(kind, sums, values, column, n, part):
    """Adds rows `values` of parts [part, part + n) to sums."""
    at, wide, rows = column * size_of(kind), sums + 8 * column, values + column * size_of(kind)
    old = load(kind, sums + _LARGEST + at)
    where, largest, start = splat(kind, -1), old, 0
    if part == 0:
        where, largest, start = zero(kind), load(kind, rows), 1
    size = _magnitude(largest)
    for k in range(start, n):
        v = load(kind, rows + k * ROW)
        m = _magnitude(v)
        larger = m > size
        size, largest, where = select(larger, m, size), select(larger, v, largest), select(larger, k, where)
    changed = where >= 0.0
    # a largest part of before joins the others
    sum_ = to_float64(select(changed, old, 0.0))
    for k in range(n):
        sum_ += to_float64(select(where == k, 0.0, load(kind, rows + k * ROW)))
    store(wide + _OTHERS, load_float64(kind, wide + _OTHERS) + sum_)
    store(wide + _WHERE, select(changed, to_float64(where) + part, load_float64(kind, wide + _WHERE)))
    store(sums + _LARGEST + at, largest)
    if any_of(size == math.inf):
        plus, minus, undefined = (load_float64(kind, wide + _PLUS), load_float64(kind, wide + _MINUS),
                                  load_float64(kind, wide + _UNDEFINED))
        for k in range(n):
            v = load(kind, rows + k * ROW)
            plus += to_float64(v == math.inf)
            minus += to_float64(v == -math.inf)
            undefined += to_float64(v != v)
        store(wide + _PLUS, plus)
        store(wide + _MINUS, minus)
        store(wide + _UNDEFINED, undefined)


@plain
def _without_each(kind, sums, values, column, n, part, factor, out):
    """The sums without each of the parts [part, part + n), times factor, into rows `out`."""
    at, wide = column * size_of(kind), sums + 8 * column
    others, largest = load_float64(kind, wide + _OTHERS), to_float64(load(kind, sums + _LARGEST + at))
    where = load_float64(kind, wide + _WHERE)
    for k in range(n):
        rest = (others - to_float64(load(kind, values + k * ROW + at))) + largest
        store(out + k * ROW + at, to_kind(kind, select(where == part + k, others, rest) * factor))
    plus, minus = load_float64(kind, wide + _PLUS), load_float64(kind, wide + _MINUS)
    undefined = load_float64(kind, wide + _UNDEFINED)
    several = plus + minus + undefined > 1.0
    if any_of(several):
        # What remains of those that are not finite is told by their counts.
        for k in range(n):
            v = load(kind, values + k * ROW + at)
            has_plus, has_minus = plus > to_float64(v == math.inf), minus > to_float64(v == -math.inf)
            is_undefined = (undefined > to_float64(v != v)) | (has_plus & has_minus)
            rest = select(is_undefined, math.nan, select(has_plus, math.inf, splat(kind, -math.inf)))
            store(out + k * ROW + at, select(several, rest, load(kind, out + k * ROW + at)))


@plain
def _values(kind, memory, elu, h, at, n):
    for k in range(n):
        x = load(kind, row_at(h, k) + at)
        if elu:
            x = select(x > 0.0, x, expm1(x))
        store(memory + _VALUES + k * ROW + at, x)


@inlined
def _factor(mean, size):
    """What the sums are multiplied by."""
    if not mean:
        return 1.0
    return 1.0 / (size - 1) if size > 1 else 0.0


@plain
def _sum_values(kind, place, elu, h):
    memory = place.memory
    clear_rows(kind, memory + _VALUE_SUMS, _SUMS_ROWS)
    for part in range(0, place.size, CHUNK):
        n = min(CHUNK, place.size - part)
        rows = stage_input(kind, place, h, memory + INPUTS[0], part, n)
        for column in range(0, place.width, count_of(kind)):
            _values(kind, memory, elu, rows, column * size_of(kind), n)
            _add_chunk(kind, memory + _VALUE_SUMS, memory + _VALUES, column, n, part)


@kernel
def _forward(kind, sets, h, out, elu, has_tanh, mean, queue, memory):
    index = next_item(queue, -1)
    while index < places_of(sets):
        place = place_at(sets, index, memory)
        factor = _factor(mean, place.size)
        _sum_values(kind, place, elu, h)
        for part in range(0, place.size, CHUNK):
            n = min(CHUNK, place.size - part)
            rows = stage_input(kind, place, h, memory + INPUTS[0], part, n)
            outputs = stage_output(kind, place, out, memory + OUTPUTS[0], part)
            for column in range(0, place.width, count_of(kind)):
                at = column * size_of(kind)
                if place.size > CHUNK:  # else they are still there from the first pass
                    _values(kind, memory, elu, rows, at, n)
                _without_each(kind, memory + _VALUE_SUMS, memory + _VALUES, column, n, part, factor, memory + _WITHOUT)
                for k in range(n):
                    x = load(kind, memory + _WITHOUT + k * ROW + at)
                    if has_tanh:
                        x = tanh(x)
                    store(row_at(outputs, k) + at, x)
            finish_output(kind, place, out, memory + OUTPUTS[0], part, n)
        zero_padding(kind, sets, place, out)
        index = next_item(queue, index)


@kernel
def _backward(kind, sets, h, grad_out, to_h, elu, has_tanh, mean, queue, memory):
    """The gradient of h is pre'(h_j) sum over i != j of the upstream gradient of the sums."""
    index = next_item(queue, -1)
    while index < places_of(sets):
        place = place_at(sets, index, memory)
        factor = _factor(mean, place.size)
        if has_tanh:
            _sum_values(kind, place, elu, h)
        clear_rows(kind, memory + _UPSTREAM_SUMS, _SUMS_ROWS)
        for part in range(0, place.size, CHUNK):
            n = min(CHUNK, place.size - part)
            rows = stage_input(kind, place, h, memory + INPUTS[0], part, n)
            upstream = stage_input(kind, place, grad_out, memory + INPUTS[1], part, n)
            for column in range(0, place.width, count_of(kind)):
                _upstream(kind, memory, elu, has_tanh, rows, upstream, column, n, part, factor)
                _add_chunk(kind, memory + _UPSTREAM_SUMS, memory + _UPSTREAM, column, n, part)
        for part in range(0, place.size, CHUNK):
            n = min(CHUNK, place.size - part)
            rows = stage_input(kind, place, h, memory + INPUTS[0], part, n)
            upstream = stage_input(kind, place, grad_out, memory + INPUTS[1], part, n)
            outputs = stage_output(kind, place, to_h, memory + OUTPUTS[0], part)
            for column in range(0, place.width, count_of(kind)):
                at = column * size_of(kind)
                if place.size > CHUNK:
                    _upstream(kind, memory, elu, has_tanh, rows, upstream, column, n, part, factor)
                _without_each(kind, memory + _UPSTREAM_SUMS, memory + _UPSTREAM, column, n, part, factor,
                              memory + _WITHOUT)
                for k in range(n):
                    g = load(kind, memory + _WITHOUT + k * ROW + at)
                    if elu:
                        x = load(kind, row_at(rows, k) + at)
                        g = g * select(x > 0.0, 1.0, exp(x))
                    store(row_at(outputs, k) + at, g)
            finish_output(kind, place, to_h, memory + OUTPUTS[0], part, n)
        zero_padding(kind, sets, place, to_h)
        index = next_item(queue, index)


@plain
def _upstream(kind, memory, elu, has_tanh, h, upstream, column, n, part, factor):
    """The upstream gradients of the sums of a chunk."""
    at = column * size_of(kind)
    if has_tanh:
        _values(kind, memory, elu, h, at, n)
        _without_each(kind, memory + _VALUE_SUMS, memory + _VALUES, column, n, part, factor, memory + _WITHOUT)
    for k in range(n):
        g = load(kind, row_at(upstream, k) + at)
        if has_tanh:
            # 1 - tanh^2, without the cancellation
            e = exp(-2.0 * absolute(load(kind, memory + _WITHOUT + k * ROW + at)))
            q = 1.0 / (1.0 + e)
            g = g * (4.0 * e * q * q)
        store(memory + _UPSTREAM + k * ROW + at, g)


def sum_minus_self_forward(sets, h, out, elu, has_tanh, mean, float64):
    run_places(_forward, sets, kind_of(float64), (), tensor(h), tensor(out), elu, has_tanh, mean)


def sum_minus_self_backward(sets, h, grad_out, grad_h, elu, has_tanh, mean, float64):
    run_places(_backward, sets, kind_of(float64), (), tensor(h), tensor(grad_out), tensor(grad_h), elu, has_tanh, mean)


forward, backward = adapted("sum_minus_self", sum_minus_self_forward, sum_minus_self_backward)
