"""discretized_logistic_nll by Triton kernels.

With a = (x - mu + 1/510)/s, b = (x - mu - 1/510)/s and y = a - b = 1/(255 s):
    log P = log S(a) + log S(-b) + log(1 - exp(-y)),
its first term alone at x = 0, its second alone at x = 1. x - mu is taken first: where a or b is small, so is its
rounding.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from compvae_fast.kernels.triton.elementary import exp, exp_tail, expm1, log, sigmoid, softplus
from compvae_fast.kernels.triton.rows import SumOfTerms

_HALF_BIN = tl.constexpr(1 / 510)
_LOG_BIN = tl.constexpr(-5.541263545158426)  # log(1/255)


class Bin(NamedTuple):
    difference: Any
    rate: Any
    a: Any
    b: Any
    y: Any
    lowest: Any
    highest: Any


@triton.jit
def _bin(x):
    difference, rate = x[0] - x[1], exp(-x[2])
    return Bin(difference, rate, (difference + _HALF_BIN) * rate, (difference - _HALF_BIN) * rate, rate * (1 / 255),
               x[0] < _HALF_BIN, x[0] > 1 - _HALF_BIN)


@triton.jit
def _product(x, density):
    """x times a density; one that has vanished gives 0, be x infinite."""
    return tl.where(density == 0, 0.0, x * density)


@triton.jit
def _inside(bin_):
    """|S(-a) - S(b)| = sinh u / (cosh u + cosh(y/2)), u = |x - mu| / s: nothing cancels."""
    away = tl.abs(bin_.difference)
    beyond = (away - _HALF_BIN) * bin_.rate
    e, grown = exp(-tl.abs(beyond)), -expm1(-2 * away * bin_.rate)
    of_u, of_y = tl.where(beyond < 0, e, 1.0), tl.where(beyond > 0, e, 1.0)
    return grown * of_u / (of_u * (2 - grown) + of_y * (1 + exp(-bin_.y)))


@triton.jit
def _value(x):
    bin_ = _bin(x)
    near = x[2] - _LOG_BIN - log(1 - bin_.y * exp_tail(-bin_.y))
    width = tl.where(bin_.y < 0.5, near, -log(1 - exp(-bin_.y)))
    below = tl.where(bin_.highest, 0.0, softplus(-bin_.a))
    above = tl.where(bin_.lowest, 0.0, softplus(bin_.b))
    return below + above + tl.where(bin_.lowest | bin_.highest, 0.0, width)


@triton.jit
def _gradient(x):
    bin_ = _bin(x)
    # d log S(a) / da and d log S(-b) / d(-b)
    below, above = sigmoid(-bin_.a), sigmoid(bin_.b)
    inside = _inside(bin_)
    middle = tl.where(bin_.difference < 0, inside, -inside)
    to_x = _product(bin_.rate, tl.where(bin_.lowest, below, tl.where(bin_.highest, -above, middle)))
    a_term, b_term = _product(bin_.a, below), _product(bin_.b, above)
    width = tl.where(bin_.y < 1e-30, 1.0, _product(bin_.y, 1 / expm1(bin_.y)))
    to_scale = tl.where(bin_.lowest, a_term, tl.where(bin_.highest, -b_term, a_term - b_term + width))
    return -to_x, to_x, to_scale


_functions = SumOfTerms(_value, _gradient)
forward, backward = _functions.forward, _functions.backward
