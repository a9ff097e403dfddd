"""gaussian_nll by Numba kernels: 1/2 (log 2 pi + logvar + (x - mu)^2 exp(-logvar)) of x, mu and logvar."""

import math

from compvae_fast.kernels.numba.compiling import inlined
from compvae_fast.kernels.numba.elementary import exp
from compvae_fast.kernels.numba.elements import sum_of_terms

_LOG_2_PI = math.log(2 * math.pi)


@inlined
def _value(x, mu, logvar, _):
    difference = x - mu
    return 0.5 * (difference * difference * exp(-logvar) + (logvar + _LOG_2_PI))


@inlined
def _gradient(x, mu, logvar, _):
    difference = x - mu
    scaled = difference * exp(-logvar)
    return scaled, -scaled, 0.5 * (1.0 - difference * scaled), scaled


forward, backward = sum_of_terms("gaussian_nll", _value, _gradient)
