"""Elementary functions of vectors, by polynomials; float32 within about 1 ulp, float64 within a few."""

from __future__ import annotations

import math

from numba import types
from numba.extending import overload

from compvae_fast.kernels.numba.compiling import inlined
from compvae_fast.kernels.numba.vectors import (
    HAS_AVX512,
    bits_float32,
    bits_float64,
    bits_int32,
    bits_int64,
    horner,
    scale_by_power,
    select,
    to_float32,
    to_float64,
    to_int32,
)

_INVERSE_FACTORIAL = tuple(1 / math.factorial(n) for n in range(16))


def _by_lane(name: str, float32, float64):
    """A function of vectors that has one form for each lane type."""

    def function(x):
        raise NotImplementedError(f"{name} is for compiled code")

    @overload(function, jit_options={"forceinline": True, "error_model": "numpy"}, strict=False)
    def _(x):
        return float32 if x.lane == types.float32 else float64

    return function


@inlined
def absolute(x):
    return select(x < 0.0, -x, x)


@inlined
def at_most(x, high):
    """The smaller one; NaN stays."""
    return select(x > high, high, x)


@inlined
def at_least(x, low):
    """The larger one; NaN stays."""
    return select(x < low, low, x)


# Adding 1.5 * 2^(digits of the mantissa) rounds to an integer, which the low bits then hold.
_ROUND32, _ROUND64 = 12582912.0, 6755399441055744.0
_ROUND32_BITS, _ROUND64_BITS = 0x4B400000, 0x4338000000000000


@inlined
def _power32(x, n):
    if HAS_AVX512:
        return scale_by_power(x, n)
    half = n >> 1
    return x * bits_float32((half + 127) << 23) * bits_float32((n - half + 127) << 23)


@inlined
def _power64(x, n):
    if HAS_AVX512:
        return scale_by_power(x, to_int32(n))
    half = n >> 1
    return x * bits_float64((half + 1023) << 52) * bits_float64((n - half + 1023) << 52)


# a minimax polynomial of (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2
_EXP32 = (5.0000001201e-1, 1.6666665459e-1, 4.1665795894e-2, 8.3334519073e-3, 1.3981999507e-3, 1.9875691500e-4)


def _exp32(x):
    x = at_least(at_most(x, 89.0), -104.0)
    shifted = x * 1.44269504 + _ROUND32
    n = shifted - _ROUND32
    r = x - n * 0.693359375
    r = r - n * -2.12194440e-4
    return _power32(horner(r, _EXP32) * (r * r) + r + 1.0, bits_int32(shifted) - _ROUND32_BITS)


_EXP64 = _INVERSE_FACTORIAL[:14]


def _exp64(x):
    x = at_least(at_most(x, 710.0), -746.0)
    shifted = x * 1.4426950408889634 + _ROUND64
    n = shifted - _ROUND64
    r = x - n * 6.93147180369123816490e-01
    r = r - n * 1.90821492927058770002e-10
    return _power64(horner(r, _EXP64), bits_int64(shifted) - _ROUND64_BITS)


exp = _by_lane("exp", _exp32, _exp64)

_TAIL32, _TAIL64 = _INVERSE_FACTORIAL[2:9], _INVERSE_FACTORIAL[2:16]
# (e^x - 1 - x) / x^2 near zero, where the difference itself would cancel
exp_tail = _by_lane("exp_tail", lambda x: horner(x, _TAIL32), lambda x: horner(x, _TAIL64))


@inlined
def expm1(x):
    return select((x < 0.5) & (x > -0.5), exp_tail(x) * (x * x) + x, exp(x) - 1.0)


@inlined
def exp_excess(x, exp_x):
    """e^x - 1 - x, given e^x."""
    return select((x < 0.5) & (x > -0.5), exp_tail(x) * (x * x), exp_x - 1.0 - x)


_LOG32 = (3.3333331174e-1, -2.4999993993e-1, 2.0000714765e-1, -1.6668057665e-1, 1.4249322787e-1, -1.2420140846e-1,
          1.1676998740e-1, -1.1514610310e-1, 7.0376836292e-2)


def _log32(x):
    # from sqrt(1/2) on, so that the mantissa lands in [sqrt(1/2), sqrt 2)
    shifted = bits_int32(x) - 0x3F3504F3
    e = to_float32(shifted >> 23)
    f = bits_float32((shifted & 0x7FFFFF) + 0x3F3504F3) - 1.0
    f2 = f * f
    tail = horner(f, _LOG32) * (f * f2) + e * -2.12194440e-4 - f2 * 0.5
    return f + tail + e * 0.693359375


_LOG64 = tuple(1 / n for n in range(3, 25, 2))


def _log64(x):
    shifted = bits_int64(x) - 0x3FE6A09E667F3BCD
    e = to_float64(to_int32(shifted >> 52))
    m = bits_float64((shifted & 0xFFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD)
    # ln m = 2 atanh(s) = f - s (f - 2 s^2 (1/3 + s^2/5 + ...))
    f = m - 1.0
    s = f / (m + 1.0)
    s2 = s * s
    tail = s * (f - 2.0 * s2 * horner(s2, _LOG64))
    return e * 6.93147180369123816490e-01 + (f - (tail - e * 1.90821492927058770002e-10))


# of finite, normal x > 0
log = _by_lane("log", _log32, _log64)

# sin(pi r) = r (pi_high + pi_low + r^2 (...)), cos(pi r) = 1 + r^2 (...) on |r| <= 1/4
_SIN32 = (-5.16771278004997, 2.550164039877345, -0.5992645293207921, 0.08214588661112822)
_COS32 = (-4.934802200544679, 4.058712126416768, -1.3352627688545893, 0.23533063035889312, -0.025806891390014)


def _cos_sin_pi32(t):
    shifted = t * 2.0 + _ROUND32
    r = t - (shifted - _ROUND32) * 0.5
    r2 = r * r
    quadrant = bits_int32(shifted)
    sin_r = r * 3.14159274 + r * (horner(r2, _SIN32) * r2 + -8.742278e-8)
    cos_r = horner(r2, _COS32) * r2 + 1.0
    odd = (quadrant & 1) != 0
    cosine, sine = select(odd, sin_r, cos_r), select(odd, cos_r, sin_r)
    return (bits_float32(bits_int32(cosine) ^ (((quadrant + 1) & 2) << 30)),
            bits_float32(bits_int32(sine) ^ ((quadrant & 2) << 30)))


_SIN64 = tuple((-1) ** n / math.factorial(2 * n + 1) for n in range(9))
_COS64 = tuple((-1) ** n / math.factorial(2 * n) for n in range(10))


def _cos_sin_pi64(t):
    shifted = t * 2.0 + _ROUND64
    x = (t - (shifted - _ROUND64) * 0.5) * math.pi
    x2 = x * x
    quadrant = bits_int64(shifted)
    sin_r, cos_r = x * horner(x2, _SIN64), horner(x2, _COS64)
    odd = (quadrant & 1) != 0
    cosine, sine = select(odd, sin_r, cos_r), select(odd, cos_r, sin_r)
    return (bits_float64(bits_int64(cosine) ^ (((quadrant + 1) & 2) << 62)),
            bits_float64(bits_int64(sine) ^ ((quadrant & 2) << 62)))


# (cos pi t, sin pi t) for |t| <= 1
cos_sin_pi = _by_lane("cos_sin_pi", _cos_sin_pi32, _cos_sin_pi64)


@inlined
def sigmoid(x):
    e = exp(-absolute(x))
    s = 1.0 / (1.0 + e)
    return select(x < 0.0, e * s, s)


@inlined
def log1p(x):
    """log(1 + x) for x >= 0: the rounding of 1 + x is given back by the second term."""
    one = 1.0 + x
    return select(one == 1.0, x, log(one) + (x - (one - 1.0)) / one)


@inlined
def softplus(x):
    """log(1 + e^x)."""
    return select(x > 0.0, x, 0.0) + log1p(exp(-absolute(x)))


@inlined
def tanh(x):
    y = expm1(-2.0 * absolute(x))
    r = -y / (y + 2.0)
    return select(x < 0.0, -r, r)
