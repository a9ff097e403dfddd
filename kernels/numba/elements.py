"""Sums over the rows of [B, M] tensors of a term of their elements, and the gradients of such sums.

A term is two functions of four vectors, its inputs: `value` gives the term, `gradient` its four derivatives. One of
three inputs is given the first of them again as the fourth, and gives what it likes as the derivative.
"""

from __future__ import annotations

from numba.extending import overload

from compvae_fast.kernels.numba.calls import adapted, join, scratch_for
from compvae_fast.kernels.numba.compiling import inlined, kernel
from compvae_fast.kernels.numba.memory import load, store, write_float64
from compvae_fast.kernels.numba.places import (
    INPUTS,
    OUTPUTS,
    Sets,
    finish_output,
    next_item,
    place_of,
    row_at,
    stage_input,
    stage_output,
    value_of,
)
from compvae_fast.kernels.numba.rows import BLOCK, Tensor, tensor
from compvae_fast.kernels.numba.threads import run
from compvae_fast.kernels.numba.vectors import (
    FLOAT32,
    FLOAT64,
    Choice,
    count_of,
    lane_numbers,
    select,
    size_of,
    to_float64,
    total,
    zero,
)

_SEGMENT = 16 * BLOCK  # elements that one thread handles at a time

_TERMS = {}  # operation -> its value and gradient


def _value(term, a, b, c, d):
    raise NotImplementedError("for compiled code")


def _gradient(term, a, b, c, d):
    raise NotImplementedError("for compiled code")


@overload(_value, jit_options={"forceinline": True, "error_model": "numpy"})
def _(term, a, b, c, d):
    value, _ = _TERMS[term.value]
    return lambda term, a, b, c, d: value(a, b, c, d)


@overload(_gradient, jit_options={"forceinline": True, "error_model": "numpy"})
def _(term, a, b, c, d):
    _, gradient = _TERMS[term.value]
    return lambda term, a, b, c, d: gradient(a, b, c, d)


def _segments_of(width: int) -> int:
    return -(-width // _SEGMENT)


@inlined
def _stage(kind, place, inputs):
    return (stage_input(kind, place, inputs[0], place.memory + INPUTS[0], 0, 1),
            stage_input(kind, place, inputs[1], place.memory + INPUTS[1], 0, 1),
            stage_input(kind, place, inputs[2], place.memory + INPUTS[2], 0, 1),
            stage_input(kind, place, inputs[3], place.memory + INPUTS[3], 0, 1))


@inlined
def _vectors(kind, rows, at):
    return (load(kind, row_at(rows[0], 0) + at), load(kind, row_at(rows[1], 0) + at),
            load(kind, row_at(rows[2], 0) + at), load(kind, row_at(rows[3], 0) + at))


@kernel
def _sum(kind, term, sets, inputs, scratch, queue, memory):
    """Sums of the terms of each segment of each row, into scratch [B, segments]."""
    segments = (sets.width + _SEGMENT - 1) // _SEGMENT
    index = next_item(queue, -1)
    while index < sets.count * segments:
        sums, first = to_float64(zero(kind)), index % segments * _SEGMENT
        for coordinate in range(first, min(first + _SEGMENT, sets.width), BLOCK):
            place = place_of(sets, index // segments, coordinate, memory)
            rows = _stage(kind, place, inputs)
            for column in range(0, place.width, count_of(kind)):
                values = to_float64(_value(term, *_vectors(kind, rows, column * size_of(kind))))
                sums += select(lane_numbers(kind) < place.width - column, values, 0.0)
        write_float64(scratch + 8 * index, total(sums))
        index = next_item(queue, index)


@kernel
def _differentiate(kind, term, sets, inputs, grad_out, wanted, queue, memory):
    """grad_out[b] times the derivatives of the terms."""
    segments = (sets.width + _SEGMENT - 1) // _SEGMENT
    index = next_item(queue, -1)
    while index < sets.count * segments:
        first = index % segments * _SEGMENT
        for coordinate in range(first, min(first + _SEGMENT, sets.width), BLOCK):
            place = place_of(sets, index // segments, coordinate, memory)
            g, rows = value_of(kind, place, grad_out), _stage(kind, place, inputs)
            outputs = (stage_output(kind, place, wanted[0], memory + OUTPUTS[0], 0),
                       stage_output(kind, place, wanted[1], memory + OUTPUTS[1], 0),
                       stage_output(kind, place, wanted[2], memory + OUTPUTS[2], 0),
                       stage_output(kind, place, wanted[3], memory + OUTPUTS[3], 0))
            for column in range(0, place.width, count_of(kind)):
                at = column * size_of(kind)
                a, b, c, d = _gradient(term, *_vectors(kind, rows, at))
                store(row_at(outputs[0], 0) + at, g * a)
                store(row_at(outputs[1], 0) + at, g * b)
                store(row_at(outputs[2], 0) + at, g * c)
                store(row_at(outputs[3], 0) + at, g * d)
            for i in range(4):
                finish_output(kind, place, wanted[i], memory + OUTPUTS[i], 0, 1)
        index = next_item(queue, index)


def _four(descriptions, missing) -> tuple[Tensor, ...]:
    return tuple(map(tensor, (*descriptions, *[missing] * (4 - len(descriptions)))))


def sum_of_terms(operation: str, value, gradient) -> list:
    """The functions `forward` and `backward` of an operation that sums a term."""
    _TERMS[operation] = value, gradient
    term = Choice(operation)

    def forward(sets_arguments, inputs, out, float64: bool) -> None:
        scratch = scratch_for(sets_arguments, _SEGMENT)
        _run(_sum, sets_arguments, float64, term, inputs, scratch.ctypes.data)
        join(scratch, out)

    def backward(sets_arguments, inputs, grad_out, gradients, float64: bool) -> None:
        _run(_differentiate, sets_arguments, float64, term, inputs, tensor(grad_out), _four(gradients, None))

    forward.__name__, backward.__name__ = operation + "_forward", operation + "_backward"
    return adapted(operation, forward, backward)


def _run(kernel, sets_arguments, float64: bool, term: Choice, inputs, *arguments) -> None:
    *described, threads = sets_arguments
    sets = Sets(*described)
    run(kernel, sets.count * _segments_of(sets.width), threads, FLOAT64 if float64 else FLOAT32, term, sets,
        _four(inputs, inputs[0]), *arguments)
