"""prior_sum by Numba kernels: w~ = sum_i mu[l_i] + sigma[l_i] eps_i, drawn part by part or at once, and its gradient to
the tables."""

from __future__ import annotations

from typing import NamedTuple

from compvae_fast.kernels.numba.calls import adapted, kind_of
from compvae_fast.kernels.numba.compiling import inlined, kernel, plain
from compvae_fast.kernels.numba.elementary import exp
from compvae_fast.kernels.numba.memory import load, load_float64, read_int64, store
from compvae_fast.kernels.numba.normals import draw_rows, fill_block, prepare_block
from compvae_fast.kernels.numba.places import (
    CHUNK,
    HOISTED,
    INPUTS,
    NOISE,
    RAW,
    ROW,
    SMALL,
    Sets,
    clear_rows,
    index_of,
    next_item,
    place_at,
    place_of,
    places_of,
    read_block,
    seed_of,
    start_of,
    write_block,
)
from compvae_fast.kernels.numba.rows import BLOCK, Tensor, address_of, read_row, tensor, write_row
from compvae_fast.kernels.numba.threads import run
from compvae_fast.kernels.numba.vectors import FLOAT64, count_of, select, size_of, sqrt, to_float64, to_kind, zero


class Tables(NamedTuple):
    """Means and log-variances of the classes, [C, D]; row c is part c of a ragged tensor."""

    mu: Tensor
    logvar: Tensor
    classes: int


class Groups(NamedTuple):
    """Members of each group: the classes of a set with their counts, or the sets of a class, each with a part or a
    count. Addresses of int64. Without offsets and members, every group has all members, 0..total-1, in their order;
    counts of 0 stand for nothing."""

    offsets: int  # [groups + 1]
    members: int
    parts: int  # index of the part within its set
    weights: int  # how many parts
    total: int = 0
    stride_group: int = 0  # of the weights
    stride_member: int = 1


# Rows of working memory: of the tables, two per class where there are few, else two per part of a chunk
_KEPT = 64
_MEANS, _SPREADS = INPUTS[0], INPUTS[2]
_SUM, _VARIANCE, _EPS, _SLOPE, _RESULT = (SMALL + i * ROW for i in range(5))
_TO_MEAN, _TO_SPREAD, _GRAD_W, _LOGVAR = (SMALL + i * ROW for i in range(4))


@plain
def _read_class(kind, tables, place, c, scale, row):
    """The mean of class c and exp(scale * logvar), rows of the number `row`."""
    mean, spread = place.memory + _MEANS + row * ROW, place.memory + _SPREADS + row * ROW
    raw = place.memory + RAW
    read_row(kind, tables.mu, address_of(tables.mu, 0, c, place.coordinate), place.width, mean, raw)
    read_row(kind, tables.logvar, address_of(tables.logvar, 0, c, place.coordinate), place.width, spread, raw)
    for column in range(0, place.width, count_of(kind)):
        at = spread + column * size_of(kind)
        store(at, exp(load(kind, at) * scale))


@inlined
def _place_by_coordinate(sets, index, memory):
    """Place `index` of all, the sets of the same coordinates one after the other, so that table rows serve them all."""
    return place_of(sets, index % sets.count, index // sets.count * BLOCK, memory)


@plain
def _read_tables(kind, tables, place, scale, known):
    """Reads small tables once for all sets at the same coordinates; known: the coordinate they were read at, or -1."""
    if tables.classes <= _KEPT and place.coordinate != known:
        for c in range(tables.classes):
            _read_class(kind, tables, place, c, scale, c)
    return place.coordinate


@kernel
def _draw(kind, sets, tables, labels, w_sum, queue, memory):
    known, index = -1, next_item(queue, -1)
    while index < places_of(sets):
        place = _place_by_coordinate(sets, index, memory)
        known = _read_tables(kind, tables, place, 0.5, known)
        label = labels + 8 * (place.row if sets.offsets != 0 else place.set * sets.parts)
        clear_rows(kind, memory + _SUM, 1)
        for part in range(0, place.size, CHUNK):
            n = min(CHUNK, place.size - part)
            if tables.classes > _KEPT:
                for k in range(n):
                    _read_class(kind, tables, place, read_int64(label + 8 * (part + k)), 0.5, k)
            draw_rows(kind, sets, place, part, n)
            for column in range(0, place.width, count_of(kind)):
                _add_chunk(kind, memory, column, n, label + 8 * part, tables.classes <= _KEPT)
        for column in range(0, place.width, count_of(kind)):
            sums = load_float64(kind, memory + _SUM + 8 * column)
            store(memory + _RESULT + column * size_of(kind), to_kind(kind, sums))
        write_block(kind, place, w_sum, memory + _RESULT)
        index = next_item(queue, index)


@plain
def _add_chunk(kind, memory, column, n, label, by_class):
    at, total = column * size_of(kind), zero(kind)
    for k in range(n):
        row = at + ROW * (read_int64(label + 8 * k) if by_class else k)
        eps = load(kind, memory + NOISE + k * ROW + at)
        total += load(kind, memory + _MEANS + row) + load(kind, memory + _SPREADS + row) * eps
    sums = memory + _SUM + 8 * column
    store(sums, load_float64(kind, sums) + to_float64(total))


@inlined
def _begin(groups, group):
    return read_int64(groups.offsets + 8 * group) if groups.offsets != 0 else 0


@inlined
def _end(groups, group):
    return read_int64(groups.offsets + 8 * group + 8) if groups.offsets != 0 else groups.total


@inlined
def _member(groups, e):
    return read_int64(groups.members + 8 * e) if groups.members != 0 else e


@inlined
def _weight(groups, group, e):
    return float(read_int64(groups.weights + 8 * (group * groups.stride_group + e * groups.stride_member)))


@kernel
def _draw_collapsed(kind, sets, tables, groups, w_sum, slope, queue, memory):
    """One draw from N(sum_c n_c mu_c, V = sum_c n_c sigma_c^2); leaves dw~/dV in slope [B, D] where that is wanted."""
    known, index = -1, next_item(queue, -1)
    while index < places_of(sets):
        place = _place_by_coordinate(sets, index, memory)
        known = _read_tables(kind, tables, place, 1.0, known)
        clear_rows(kind, memory + _SUM, 2)
        for e in range(_begin(groups, place.set), _end(groups, place.set)):
            row, n = _member(groups, e), _weight(groups, place.set, e)
            if n == 0.0:
                continue
            if tables.classes > _KEPT:
                _read_class(kind, tables, place, row, 1.0, 0)
                row = 0
            for at in range(0, ROW, 8 * count_of(kind)):
                _add_weighted(kind, memory + _SUM + at, n, load(kind, memory + _MEANS + row * ROW + at))
                _add_weighted(kind, memory + _VARIANCE + at, n, load(kind, memory + _SPREADS + row * ROW + at))
        seed, set_, part = seed_of(sets, place.set), index_of(sets, place.set), start_of(sets, place.set)
        prepare_block(seed, set_, place.coordinate, part >> 32, memory + HOISTED)
        fill_block(kind, seed, set_, part, memory + HOISTED, memory + _EPS)
        for at in range(memory, memory + ROW, 8 * count_of(kind)):
            variance, eps = load(kind, at + _VARIANCE), load(kind, at + _EPS)
            deviation = sqrt(variance)
            store(at + _SUM, load(kind, at + _SUM) + deviation * eps)
            store(at + _SLOPE, select(variance != 0.0, eps / (2.0 * deviation), 0.0))
        write_block(kind, place, w_sum, memory + _SUM)
        write_block(kind, place, slope, memory + _SLOPE)
        index = next_item(queue, index)


@inlined
def _add_weighted(kind, address, weight, v):
    store(address, load(kind, address) + weight * v)


@kernel
def _differentiate(kind, sets, tables, groups, grad_w, slope, wanted, queue, memory):
    """The gradient of one class at one block of coordinates: the sum over its parts, in the order of sets and parts."""
    collapsed, per_class = slope.address != 0, Sets(tables.classes, 0, sets.width, 0, 0, 0, 0, 0, 0, 0)
    index = next_item(queue, -1)
    while index < places_of(per_class):
        place = place_at(per_class, index, memory)
        clear_rows(FLOAT64, memory + _TO_MEAN, 2)
        set_, part_high = -1, -1
        for e in range(_begin(groups, place.set), _end(groups, place.set)):
            n = _weight(groups, place.set, e) if collapsed else 1.0
            if n == 0.0:
                continue
            is_another = _member(groups, e) != set_
            set_ = _member(groups, e)
            of_set = place_of(sets, set_, place.coordinate, memory)
            if is_another:
                read_block(kind, of_set, grad_w, memory + _GRAD_W)
            if collapsed:
                read_block(kind, of_set, slope, memory + NOISE)
                _add_entry(kind, memory, n)
            else:
                seed, in_noise = seed_of(sets, set_), index_of(sets, set_)
                part = start_of(sets, set_) + read_int64(groups.parts + 8 * e)
                if is_another or part >> 32 != part_high:
                    part_high = part >> 32
                    prepare_block(seed, in_noise, place.coordinate, part_high, memory + HOISTED)
                fill_block(kind, seed, in_noise, part, memory + HOISTED, memory + NOISE)
                _add_entry(kind, memory, n)
        if set_ >= 0:  # else its tables do not matter, be they NaN
            read_row(FLOAT64, tables.logvar, address_of(tables.logvar, 0, place.set, place.coordinate), place.width,
                     memory + _LOGVAR, memory + RAW)
            for at in range(memory, memory + ROW, 8 * count_of(FLOAT64)):
                by_logvar = exp(load(FLOAT64, at + _LOGVAR) * (1.0 if collapsed else 0.5))
                store(at + _TO_SPREAD, load(FLOAT64, at + _TO_SPREAD) * (by_logvar * (1.0 if collapsed else 0.5)))
        _write_class(place, wanted.mu, memory + _TO_MEAN)
        _write_class(place, wanted.logvar, memory + _TO_SPREAD)
        index = next_item(queue, index)


@plain
def _add_entry(kind, memory, n):
    """Adds n times the upstream gradient, and n times its product with the row at NOISE."""
    for column in range(0, BLOCK, count_of(kind)):
        at, sums = memory + column * size_of(kind), memory + 8 * column
        g, by = to_float64(load(kind, at + _GRAD_W)), to_float64(load(kind, at + NOISE))
        store(sums + _TO_MEAN, load_float64(kind, sums + _TO_MEAN) + n * g)
        store(sums + _TO_SPREAD, load_float64(kind, sums + _TO_SPREAD) + n * g * by)


@plain
def _write_class(place, t, row):
    if t.address != 0:
        write_row(FLOAT64, row, t, address_of(t, 0, place.set, place.coordinate), place.width, place.memory + RAW)


def _run(kernel, rows: int, sets_arguments, kind, *arguments) -> None:
    *described, threads = sets_arguments
    sets = Sets(*described)
    run(kernel, rows * -(-sets.width // BLOCK), threads, kind, sets, *arguments)


def _slope(sets_arguments, address: int) -> Tensor:
    """dw~/dV as a tensor, float64 [B, D]; absent where address is 0."""
    return Tensor(address, 1, sets_arguments[2], 0, 1)


def prior_sum_forward(sets, inputs, classes, labels, w_sum, float64):
    _run(_draw, sets[0], sets, kind_of(float64), Tables(*map(tensor, inputs), classes), labels, tensor(w_sum))


def prior_sum_collapsed_forward(sets, inputs, classes, groups, w_sum, slope):
    _run(_draw_collapsed, sets[0], sets, FLOAT64, Tables(*map(tensor, inputs), classes), Groups(*groups), tensor(w_sum),
         _slope(sets, slope))


def prior_sum_backward(sets, inputs, classes, groups, grad_w, slope, gradients, float64):
    _run(_differentiate, classes, sets, kind_of(float64), Tables(*map(tensor, inputs), classes), Groups(*groups),
         tensor(grad_w), _slope(sets, slope), Tables(*map(tensor, gradients), classes))


forward, backward = adapted("prior_sum", prior_sum_forward, prior_sum_collapsed_forward, prior_sum_backward)
