"""gaussian_nll by Triton kernels: 1/2 (log 2 pi + logvar + (x - mu)^2 exp(-logvar))."""

import triton
import triton.language as tl

from compvae_fast.kernels.triton.elementary import exp
from compvae_fast.kernels.triton.rows import SumOfTerms

_LOG_2_PI = tl.constexpr(1.8378770664093454836)


@triton.jit
def _value(x):
    difference = x[0] - x[1]
    return 0.5 * (difference * difference * exp(-x[2]) + (x[2] + _LOG_2_PI))


@triton.jit
def _gradient(x):
    difference = x[0] - x[1]
    scaled = difference * exp(-x[2])
    return scaled, -scaled, 0.5 * (1 - difference * scaled)


_functions = SumOfTerms(_value, _gradient)
forward, backward = _functions.forward, _functions.backward
