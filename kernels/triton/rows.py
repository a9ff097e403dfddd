"""Operations that sum a term of their elements over all dimensions but the first, and the gradients of such sums."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from compvae_fast.kernels.triton.elementary import tree_sum
from compvae_fast.kernels.triton.launch import run_one_each
from compvae_fast.kernels.triton.sets import Call, as_matrix, float_type, like_wanted, per_set, wanted
from compvae_fast.ops._library import wide_dtype

SEGMENT = tl.constexpr(8192)  # elements that one program works on
_BLOCK = 1024


@triton.jit
def _element(t, row, column, there, T: tl.constexpr):
    return tl.load(t.data + row * t.set + column * t.coordinate, mask=there, other=0.0).to(T)


@triton.jit
def _elements(inputs, row, column, there, COUNT: tl.constexpr, T: tl.constexpr):
    if COUNT == 3:
        return (_element(inputs[0], row, column, there, T), _element(inputs[1], row, column, there, T),
                _element(inputs[2], row, column, there, T))
    else:
        return (_element(inputs[0], row, column, there, T), _element(inputs[1], row, column, there, T),
                _element(inputs[2], row, column, there, T), _element(inputs[3], row, column, there, T))


@triton.jit
def _sum(inputs, numbers, width, VALUE: tl.constexpr, COUNT: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    """numbers[program] = the sum of VALUE over a segment of a row."""
    program = tl.program_id(0).to(tl.int64)
    segments = (width + (SEGMENT - 1)) // SEGMENT
    row, first = program // segments, program % segments * SEGMENT
    sum_ = tl.zeros([BLOCK], tl.float64)
    for start in range(first, tl.minimum(first + SEGMENT, width), BLOCK):
        column = start + tl.arange(0, BLOCK).to(tl.int64)
        there = column < width
        term = VALUE(_elements(inputs, row, column, there, COUNT, T))
        sum_ += tl.where(there, term, 0.0).to(tl.float64)
    tl.store(numbers + program, tree_sum(sum_, BLOCK))


@triton.jit
def _gradients(inputs, grad, outputs, width, GRADIENT: tl.constexpr, COUNT: tl.constexpr, T: tl.constexpr,
               BLOCK: tl.constexpr):
    """outputs[i] = grad[row] times GRADIENT's i-th, over a segment of a row."""
    program = tl.program_id(0).to(tl.int64)
    segments = (width + (SEGMENT - 1)) // SEGMENT
    row, first = program // segments, program % segments * SEGMENT
    g = tl.load(grad.data + row * grad.set).to(T)
    for start in range(first, tl.minimum(first + SEGMENT, width), BLOCK):
        column = start + tl.arange(0, BLOCK).to(tl.int64)
        there = column < width
        found = GRADIENT(_elements(inputs, row, column, there, COUNT, T))
        for i in tl.static_range(COUNT):
            if outputs[i].data is not None:
                tl.store(outputs[i].data + row * outputs[i].set + column * outputs[i].coordinate, g * found[i],
                         mask=there)


class SumOfTerms:
    """The forward and backward functions of one operation; value and gradient: kernels' functions of its elements."""

    def __init__(self, value, gradient):
        self._value, self._gradient = value, gradient

    def forward(self, *arguments):
        *inputs, _ = arguments
        call, matrices, constants = _call(inputs)
        out = inputs[0].new_empty(call.count, dtype=wide_dtype(inputs[0]))
        segments = -(-call.width // SEGMENT.value)
        numbers = call.numbers(segments)
        run_one_each(_sum, call.count * segments, inputs[0], matrices, numbers, call.width, VALUE=self._value,
                     **constants)
        call.join(numbers, out)
        return (out,)

    def backward(self, grad_out, *arguments):
        *inputs, needs = arguments
        gradients = like_wanted(inputs, needs)
        if grad_out is None:
            return tuple(g.zero_() for g in gradients)
        call, matrices, constants = _call(inputs)
        outputs = tuple(per_set(None if g is None else as_matrix(g)) for g in wanted(gradients, needs))
        run_one_each(_gradients, call.count * -(-call.width // SEGMENT.value), inputs[0], matrices, per_set(grad_out),
                     outputs, call.width, GRADIENT=self._gradient, **constants)
        return gradients


def _call(inputs: list[Tensor]):
    matrices = [as_matrix(t) for t in inputs]
    count, width = matrices[0].shape
    block = min(_BLOCK, triton.next_power_of_2(max(width, 1)))
    constants = dict(COUNT=len(inputs), T=float_type(*inputs), BLOCK=block)
    return Call(inputs[0].device, count, 1, width), tuple(map(per_set, matrices)), constants
