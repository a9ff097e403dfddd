"""Elementary functions of float32 and float64 numbers.

What the hardware approximates is used where it is exact enough: exp2 is, but for the rounding of its argument, and the
logarithm near 1 is not. A product that feeds one sum may become one operation with it, or not: the promises hold
either way.
"""

import triton
import triton.language as tl

_LOG2_E = tl.constexpr(1.4426950408889634)
_PI = tl.constexpr(3.14159265358979323846)


@triton.jit
def exp(x):
    """e^x within 2^-22 (1 + |x|/4) of itself."""
    if x.dtype == tl.float64:
        return tl.exp(x)
    else:
        return tl.exp2(x * _LOG2_E)


@triton.jit
def exact_exp(x):
    """e^x within some units in the last place for any x."""
    if x.dtype == tl.float64:
        return tl.exp(x)
    else:
        x = tl.where(x < -126, -126.0, x)  # ours lets a NaN through, unlike maximum
        x = tl.where(x > 126, 126.0, x)
        n = tl.floor(x * _LOG2_E + 0.5)
        rest = (x - n * 0.693359375) - n * -2.12194440e-4
        # (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2
        p = rest * 1.9875691500e-4 + 1.3981999507e-3
        p = p * rest + 8.3334519073e-3
        p = p * rest + 4.1665795894e-2
        p = p * rest + 1.6666665459e-1
        p = p * rest + 5.0000001201e-1
        return (p * (rest * rest) + rest + 1) * tl.exp2(n)


@triton.jit
def exp_tail(x):
    """(e^x - 1 - x) / x^2 for |x| <= 1/2."""
    p = x * (1 / 40320) + 1 / 5040
    if x.dtype == tl.float64:
        q = x * (1 / 1307674368000) + 1 / 87178291200
        q = q * x + 1 / 6227020800
        q = q * x + 1 / 479001600
        q = q * x + 1 / 39916800
        q = q * x + 1 / 3628800
        q = q * x + 1 / 362880
        p = (q * x + 1 / 40320) * x + 1 / 5040
    p = p * x + 1 / 720
    p = p * x + 1 / 120
    p = p * x + 1 / 24
    p = p * x + 1 / 6
    return p * x + 0.5


@triton.jit
def expm1(x):
    """e^x - 1."""
    return tl.where(tl.abs(x) < 0.5, exp_tail(x) * (x * x) + x, exp(x) - 1)


@triton.jit
def exp_excess(x, exp_x):
    """e^x - 1 - x, given e^x."""
    return tl.where(tl.abs(x) < 0.5, exp_tail(x) * (x * x), exp_x - 1 - x)


@triton.jit
def log(x):
    """Natural logarithm of normal numbers x > 0; NaN and +inf as they should be."""
    if x.dtype == tl.float64:
        return tl.log(x)
    else:
        shifted = x.to(tl.int32, bitcast=True) - 0x3F3504F3  # sqrt(1/2): the mantissa lands in [sqrt(1/2), sqrt 2)
        e = (shifted >> 23).to(tl.float32)
        f = ((shifted & 0x7FFFFF) + 0x3F3504F3).to(tl.float32, bitcast=True) - 1.0
        p = f * 7.0376836292e-2 - 1.1514610310e-1
        p = p * f + 1.1676998740e-1
        p = p * f - 1.2420140846e-1
        p = p * f + 1.4249322787e-1
        p = p * f - 1.6668057665e-1
        p = p * f + 2.0000714765e-1
        p = p * f - 2.4999993993e-1
        p = p * f + 3.3333331174e-1
        f2 = f * f
        tail = p * (f * f2) + e * -2.12194440e-4 - f2 * 0.5
        finite = f + tail + e * 0.693359375
        return tl.where(x < float("inf"), finite, x)


@triton.jit
def sqrt(x):
    """Square root of x >= 0, rounded or next to it; of 0 something below 1e-14."""
    if x.dtype == tl.float64:
        return tl.sqrt(x)
    else:
        x = tl.where(x < 1e-30, 1e-30, x)
        inverse = tl.rsqrt(x)
        root = x * inverse
        return (x - root * root) * (0.5 * inverse) + root


@triton.jit
def log1p(x):
    """log(1 + x) for x >= 0: the rounding of 1 + x is given back by the second term."""
    one = 1 + x
    return tl.where(one == 1, x, log(one) + (x - (one - 1)) / one)


@triton.jit
def softplus(x):
    """log(1 + e^x)."""
    return tl.where(x > 0, x, 0.0) + log1p(exp(-tl.abs(x)))


@triton.jit
def sigmoid(x):
    e = exp(-tl.abs(x))
    s = 1 / (1 + e)
    return tl.where(x < 0, e * s, s)


@triton.jit
def tanh(x):
    y = expm1(-2 * tl.abs(x))
    r = -y / (y + 2)
    return tl.where(x < 0, -r, r)


@triton.jit
def sech_squared(x):
    """1 - tanh^2, without the cancellation."""
    e = exp(-2 * tl.abs(x))
    q = 1 / (1 + e)
    return 4 * e * q * q


@triton.jit
def cos_sin_pi(t):
    """cos(pi t) and sin(pi t) for |t| <= 1."""
    # the nearest multiple of 1/2 is taken off, then polynomials on [-1/4, 1/4]; halves are rounded up or down alike
    q = tl.floor(t * 2 + 0.5)
    r = t - q * 0.5
    r2 = r * r
    if t.dtype == tl.float64:
        x = r * _PI
        x2 = x * x
        s = x2 * (1 / 355687428096000) - 1 / 1307674368000
        s = s * x2 + 1 / 6227020800
        s = s * x2 - 1 / 39916800
        s = s * x2 + 1 / 362880
        s = s * x2 - 1 / 5040
        s = s * x2 + 1 / 120
        s = s * x2 - 1 / 6
        sin_r = (s * x2) * x + x
        c = x2 * (-1 / 6402373705728000) + 1 / 20922789888000
        c = c * x2 - 1 / 87178291200
        c = c * x2 + 1 / 479001600
        c = c * x2 - 1 / 3628800
        c = c * x2 + 1 / 40320
        c = c * x2 - 1 / 720
        c = c * x2 + 1 / 24
        c = c * x2 - 0.5
        cos_r = c * x2 + 1.0
    else:
        # sin(pi r) = r (pi_high + pi_low + r^2 (...)), cos(pi r) = 1 + r^2 (...)
        s = r2 * 0.08214588661112822 - 0.5992645293207921
        s = s * r2 + 2.550164039877345
        s = s * r2 - 5.16771278004997
        s = s * r2 - 8.742278e-8
        sin_r = r * 3.14159274 + r * s
        c = r2 * -0.025806891390014 + 0.23533063035889312
        c = c * r2 - 1.3352627688545893
        c = c * r2 + 4.058712126416768
        c = c * r2 - 4.934802200544679
        cos_r = c * r2 + 1.0
    quadrant = q.to(tl.int32)
    odd = (quadrant & 1) != 0
    cosine = tl.where(odd, sin_r, cos_r)
    sine = tl.where(odd, cos_r, sin_r)
    cosine = tl.where(((quadrant + 1) & 2) != 0, -cosine, cosine)
    sine = tl.where((quadrant & 2) != 0, -sine, sine)
    return cosine, sine


@triton.jit
def tree_sum(x, SIZE: tl.constexpr):
    """The sum of x [SIZE], SIZE a power of two, in one order for any layout: its halves, then theirs."""
    for level in tl.static_range(31):
        if (SIZE >> level) > 1:
            left, right = tl.split(tl.trans(tl.reshape(x, [2, (SIZE >> level) // 2])))
            x = left + right
    return tl.sum(x, 0)
