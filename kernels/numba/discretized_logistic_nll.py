"""discretized_logistic_nll by Numba kernels: -log P(x) of x, mu and log s.

With a = (x - mu + 1/510)/s, b = (x - mu - 1/510)/s and y = a - b = 1/(255 s):

    log P = log S(a) + log S(-b) + log(1 - exp(-y)),

its first term alone at x = 0, its second alone at x = 1. x - mu is taken first: where a or b is small, so is its
rounding.
"""

import math

from compvae_fast.kernels.numba.compiling import inlined
from compvae_fast.kernels.numba.elementary import absolute, exp, exp_tail, expm1, log, sigmoid, softplus
from compvae_fast.kernels.numba.elements import sum_of_terms
from compvae_fast.kernels.numba.vectors import select

_HALF_BIN = 1 / 510
_LOG_BIN = math.log(1 / 255)


@inlined
def _scaled(difference, log_scale):
    """1/s, a, b and y, given x - mu."""
    rate = exp(-log_scale)
    return rate, (difference + _HALF_BIN) * rate, (difference - _HALF_BIN) * rate, 2 * _HALF_BIN * rate


@inlined
def _value(x, mu, log_scale, _):
    rate, a, b, y = _scaled(x - mu, log_scale)
    lowest, highest = x < _HALF_BIN, x > 1 - _HALF_BIN
    near, far = log_scale - _LOG_BIN - log(1.0 - y * exp_tail(-y)), -log(1.0 - exp(-y))
    width = select(y < 0.5, near, far)
    tails = select(highest, 0.0, softplus(-a)) + select(lowest, 0.0, softplus(b))
    return tails + select(lowest | highest, 0.0, width)


@inlined
def _inside(difference, rate, y):
    """S(-a) - S(b): sinh u / (cosh u + cosh(y/2)), u = |x - mu| / s, with its sign; nothing cancels."""
    away = absolute(difference)
    beyond = (away - _HALF_BIN) * rate
    e, grown = exp(-absolute(beyond)), -expm1(-2.0 * away * rate)
    of_u, of_y = select(beyond < 0.0, e, 1.0), select(beyond > 0.0, e, 1.0)
    inside = grown * of_u / (of_u * (2.0 - grown) + of_y * (1.0 + exp(-y)))
    return select(difference < 0.0, inside, -inside)


@inlined
def _product(x, density):
    """x times a density; where that has vanished it is 0, be x infinite."""
    return select(density == 0.0, 0.0, x * density)


@inlined
def _gradient(x, mu, log_scale, _):
    difference = x - mu
    rate, a, b, y = _scaled(difference, log_scale)
    lowest, highest = x < _HALF_BIN, x > 1 - _HALF_BIN
    # d log S(a) / da and d log S(-b) / d(-b)
    below, above = sigmoid(-a), sigmoid(b)
    to_x = _product(rate, select(lowest, below, select(highest, -above, _inside(difference, rate, y))))
    a_term, b_term = _product(a, below), _product(b, above)
    width = select(y < 1e-30, 1.0, _product(y, 1.0 / expm1(y)))
    to_log_scale = select(lowest, a_term, select(highest, -b_term, a_term - b_term + width))
    return -to_x, to_x, to_log_scale, to_x


forward, backward = sum_of_terms("discretized_logistic_nll", _value, _gradient)
