"""diag_normal_kl by Triton kernels: 1/2 (R - 1 - log R + (mu - m)^2 / s^2), R = sigma^2 / s^2."""

import triton
import triton.language as tl  # noqa: F401  the interpreter looks for it

from compvae_fast.kernels.triton.elementary import exp, exp_excess, expm1
from compvae_fast.kernels.triton.rows import SumOfTerms


@triton.jit
def _value(x):
    log_ratio, difference = x[1] - x[3], x[0] - x[2]
    return 0.5 * (exp_excess(log_ratio, exp(log_ratio)) + difference * difference * exp(-x[3]))


@triton.jit
def _gradient(x):
    excess, difference = expm1(x[1] - x[3]), x[0] - x[2]
    scaled = difference * exp(-x[3])
    return scaled, 0.5 * excess, -scaled, -0.5 * (excess + difference * scaled)


_functions = SumOfTerms(_value, _gradient)
forward, backward = _functions.forward, _functions.backward
