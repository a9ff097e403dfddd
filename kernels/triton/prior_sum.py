"""prior_sum by Triton kernels: w~ = sum_i mu[l_i] + sigma[l_i] eps_i, drawn part by part or at once, and its gradient
to the tables."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from compvae_fast.kernels.triton import errors
from compvae_fast.kernels.triton.elementary import exp, sqrt
from compvae_fast.kernels.triton.normals import draw
from compvae_fast.kernels.triton.places import (
    CHUNK,
    MERGED,
    SEGMENTS,
    WHOLE,
    Rows,
    calls,
    columns,
    first_segment,
    load_vector,
    place_of,
    segment_length,
    set_of_noise,
    store_vector,
    with_set,
)
from compvae_fast.kernels.triton.sets import Call, float_type, given, like_wanted, outputs_of, per_set, wanted
from compvae_fast.ops.prior_sum import OPERATION

_MOST = tl.constexpr(1 << 53)
_PARTIAL = tl.constexpr(2)


@triton.jit
def _label(labels, place, k, classes, wrong):
    """The class of part k, 0 where it is none, and whether it is one."""
    label = tl.load(labels.data + place.set * labels.set + (place.row + k) * labels.part).to(tl.int64)
    good = (label >= 0) & (label < classes)
    if not good:
        errors.note(wrong, errors.LABELS, label, label, classes)
    return tl.where(good, label, 0), good


@triton.jit
def _class_row(table, label, place, there, good, T: tl.constexpr, BLOCK: tl.constexpr):
    column = place.column + tl.arange(0, BLOCK).to(tl.int64)
    there = there & (tl.zeros([BLOCK], tl.int32) + good.to(tl.int32) != 0)
    return tl.load(table.data + label * table.part + column * table.coordinate, mask=there, other=0.0).to(T)


@triton.jit
def _drawn(sets, place, tables, labels, classes, wrong, there, T: tl.constexpr, BLOCK: tl.constexpr):
    """The sum of the place's parts, float64; NaN where a label is wrong."""
    seed, index, start = set_of_noise(sets, place)
    call = calls(place, BLOCK)
    total = tl.zeros([BLOCK], tl.float64)
    for part in range(place.first, place.end, CHUNK):
        chunk = tl.zeros([BLOCK], T)
        for k in range(part, tl.minimum(part + CHUNK, place.end)):
            label, good = _label(labels, place, k, classes, wrong)
            mean = _class_row(tables[0], label, place, there, good, T, BLOCK)
            sigma = exp(0.5 * _class_row(tables[1], label, place, there, good, T, BLOCK))
            chunk += tl.where(good, mean + sigma * draw(seed, index, start + k, call, T), float("nan"))
        total += chunk.to(tl.float64)
    return total


@triton.jit
def _counted(sets, place, tables, labels, counts, classes, wrong, there, BLOCK: tl.constexpr):
    """Mean and variance of the sum of the place's parts, or of its classes with their counts, float64."""
    mean, variance = tl.zeros([BLOCK], tl.float64), tl.zeros([BLOCK], tl.float64)
    for k in range(place.first, place.end):
        if counts.data is not None:
            number = tl.load(counts.data + place.set * counts.set + k * counts.part).to(tl.int64)
            good = (number >= 0) & (number <= _MOST)
            if not good:
                errors.note(wrong, errors.COUNTS, number, number, _MOST)
            label, present = number * 0 + k, good & (number > 0)
        else:
            label, good = _label(labels, place, k, classes, wrong)
            number, present = label * 0 + 1, good
        n = tl.where(good, number.to(tl.float64), float("nan"))
        # a class that nobody has does not matter, be it NaN
        mu = _class_row(tables[0], label, place, there, present, tl.float64, BLOCK)
        logvar = _class_row(tables[1], label, place, there, present, tl.float64, BLOCK)
        mean += n * mu
        variance += n * exp(logvar)
    return mean, variance


@triton.jit
def _finish_counted(sets, place, there, mean, variance, w_sum, slope, BLOCK: tl.constexpr):
    seed, index, start = set_of_noise(sets, place)
    eps = draw(seed, index, start, calls(place, BLOCK), tl.float64)
    deviation = tl.where(variance > 0, sqrt(variance), variance)
    store_vector(w_sum, place, there, mean + deviation * eps, BLOCK)
    if slope is not None:
        by_variance = tl.where(variance != 0, eps / (2 * deviation), 0.0)
        tl.store(slope + place.set * sets.width + place.column + tl.arange(0, BLOCK), by_variance, mask=there)


@triton.jit
def _partial_at(partial, sets, item, column, slot: tl.constexpr, BLOCK: tl.constexpr):
    return partial + (item * _PARTIAL + slot) * sets.width + column + tl.arange(0, BLOCK)


@triton.jit
def _joined(partial, sets, place, there, BLOCK: tl.constexpr):
    """The two sums that a set's segments left, in their order."""
    length = segment_length(place.end)
    first = first_segment(sets, place.set)
    a, b = tl.zeros([BLOCK], tl.float64), tl.zeros([BLOCK], tl.float64)
    for item in range(first, first + (place.end + length - 1) // length):
        a += tl.load(_partial_at(partial, sets, item, place.column, 0, BLOCK), mask=there, other=0.0)
        b += tl.load(_partial_at(partial, sets, item, place.column, 1, BLOCK), mask=there, other=0.0)
    return a, b


@triton.jit
def _forward(sets, tables, labels, counts, classes, w_sum, slope, partial, wrong, MODE: tl.constexpr,
             COLLAPSED: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    place = place_of(sets, MODE, BLOCK)
    if place.here:
        there = columns(sets, place, BLOCK)
        if MODE == MERGED:
            a, b = _joined(partial, sets, place, there, BLOCK)
        elif COLLAPSED:
            a, b = _counted(sets, place, tables, labels, counts, classes, wrong, there, BLOCK)
        else:
            a = _drawn(sets, place, tables, labels, classes, wrong, there, T, BLOCK)
            b = a
        if MODE == SEGMENTS:
            tl.store(_partial_at(partial, sets, place.item, place.column, 0, BLOCK), a, mask=there)
            tl.store(_partial_at(partial, sets, place.item, place.column, 1, BLOCK), b, mask=there)
        elif COLLAPSED:
            _finish_counted(sets, place, there, a, b, w_sum, slope, BLOCK)
        else:
            store_vector(w_sum, place, there, a, BLOCK)


@triton.jit
def _gradient_sums(groups, sets, place, members, parts, counts, grad_w, slope, there, T: tl.constexpr,
                   BLOCK: tl.constexpr):
    """Of a class (a set of `groups`): the sums over its parts of the upstream gradient and of that times the noise."""
    to_mean, to_spread = tl.zeros([BLOCK], tl.float64), tl.zeros([BLOCK], tl.float64)
    call = calls(place, BLOCK)
    for k in range(place.first, place.end):
        number = tl.full([], 1, tl.float64)
        if counts.data is not None:
            owner = place.set * 0 + k
            count = tl.load(counts.data + owner * counts.set + place.set * counts.part).to(tl.int64)
            number = count.to(tl.float64)
        else:
            owner = tl.load(members + place.row + k)
        own = with_set(place, owner)
        g = load_vector(grad_w, own, there, T, BLOCK)
        if slope is not None:
            at = slope + owner * groups.width + place.column + tl.arange(0, BLOCK)
            noise = tl.load(at, mask=there, other=0.0)
        else:
            seed, index, start = set_of_noise(sets, own)
            noise = draw(seed, index, start + tl.load(parts + place.row + k), call, T).to(tl.float64)
        used = tl.where(number > 0, number, 0.0)
        to_mean += tl.where(used > 0, used * g.to(tl.float64), 0.0)
        to_spread += tl.where(used > 0, used * g.to(tl.float64) * noise, 0.0)
    return to_mean, to_spread


@triton.jit
def _backward(groups, sets, tables, members, parts, counts, grad_w, slope, outputs, partial, MODE: tl.constexpr,
              T: tl.constexpr, BLOCK: tl.constexpr):
    place = place_of(groups, MODE, BLOCK)
    if place.here:
        there = columns(groups, place, BLOCK)
        if MODE == MERGED:
            to_mean, to_spread = _joined(partial, groups, place, there, BLOCK)
        else:
            to_mean, to_spread = _gradient_sums(groups, sets, place, members, parts, counts, grad_w, slope, there, T,
                                                BLOCK)
        if MODE == SEGMENTS:
            tl.store(_partial_at(partial, groups, place.item, place.column, 0, BLOCK), to_mean, mask=there)
            tl.store(_partial_at(partial, groups, place.item, place.column, 1, BLOCK), to_spread, mask=there)
        else:
            logvar = _class_row(tables[1], place.set, place, there, place.end > 0, tl.float64, BLOCK)
            if slope is not None:
                spread = exp(logvar)
            else:
                spread = 0.5 * exp(0.5 * logvar)
            # the tables of a class that nobody has do not matter, be they NaN
            to_logvar = tl.where(to_spread == 0, 0.0, to_spread * spread)
            store_vector(outputs[0], place, there, to_mean, BLOCK)
            store_vector(outputs[1], place, there, to_logvar, BLOCK)


def _rows(t: Tensor | None) -> Rows:
    """labels or counts [B, K], or ragged labels [N]."""
    if t is None:
        return Rows(None, 0, 0, 0)
    return Rows(t, *t.stride(), 0) if t.dim() == 2 else Rows(t, 0, t.stride(0), 0)


def _table(t: Tensor | None) -> Rows:
    return Rows(None, 0, 0, 0) if t is None else Rows(t, t.stride(0), t.stride(0), t.stride(1))


def _call(mu, labels, counts, offsets, lengths, set_index, part_start, seed) -> Call:
    of_parts = counts if labels is None else labels
    count = of_parts.shape[0] if offsets is None else offsets.shape[0] - 1
    return Call(mu.device, count, of_parts.shape[-1], mu.shape[1], offsets, lengths, set_index, part_start, seed)


def forward(*arguments):
    *values, save = arguments
    mu, logvar, labels, counts, offsets, lengths, seed, set_index, part_start, collapse = values
    w_sum, slope = outputs_of(OPERATION, values, save)
    collapsed = collapse or counts is not None
    call = _call(mu, labels, counts, offsets, lengths, set_index, part_start, seed)
    arguments = ((_table(mu), _table(logvar)), _rows(labels), _rows(counts), mu.shape[0], per_set(w_sum),
                 given(slope, save and collapsed), call.partial(_PARTIAL.value), call.wrong)
    for mode in (WHOLE, SEGMENTS, MERGED):
        call.launch(_forward, mode, *arguments, COLLAPSED=collapsed, T=float_type(mu))
    call.finish()
    return w_sum, slope


def backward(grad_w, *arguments):
    *values, slope, needs = arguments
    mu, logvar, labels, counts, offsets, lengths, seed, set_index, part_start, collapse = values
    gradients = like_wanted((mu, logvar), needs)
    if grad_w is None:
        return tuple(g.zero_() for g in gradients)
    collapsed = collapse or counts is not None
    call = _call(mu, labels, counts, offsets, lengths, set_index, part_start, seed)
    members = parts = None
    if counts is None:
        members, parts, starts, sizes = _by_class(call, labels, mu.shape[0])
        groups = Call(mu.device, mu.shape[0], labels.numel(), mu.shape[1], tables=(sizes, starts))
    else:
        groups = Call(mu.device, mu.shape[0], counts.shape[0], mu.shape[1])
    outputs = tuple(map(_table, wanted(gradients, needs)))
    arguments = (call.sets, (_table(mu), _table(logvar)), members, parts, _rows(counts), per_set(grad_w),
                 slope if collapsed else None, outputs, groups.partial(_PARTIAL.value))
    for mode in (WHOLE, SEGMENTS, MERGED):
        groups.launch(_backward, mode, *arguments, T=tl.float64 if collapsed else float_type(mu))
    groups.finish()
    return gradients


def _by_class(call: Call, labels: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The parts in the order of their classes: their sets and places there, and each class's first one and number.

    Parts that are not there, or of no class, come last and belong to none.
    """
    sizes, starts = call.sets.sizes, call.sets.starts
    flat = labels.reshape(-1).to(torch.int64)
    row = torch.arange(flat.shape[0], device=flat.device)
    if starts is not None:
        # sets without parts begin where the next one does: the last of these is meant
        owner = torch.searchsorted(starts, row, right=True) - 1
        place = row - starts[owner.clamp(min=0)]
    else:
        owner, place = row // max(call.parts, 1), row % max(call.parts, 1)
    good = (flat >= 0) & (flat < classes)
    if sizes is not None:
        good &= (owner >= 0) & (place >= 0) & (place < sizes[owner.clamp(min=0)])
    key = torch.where(good, flat, classes)
    key, order = torch.sort(key, stable=True)
    bounds = torch.searchsorted(key, torch.arange(classes + 1, device=flat.device))
    return owner[order], place[order], bounds[:-1].contiguous(), bounds.diff()
