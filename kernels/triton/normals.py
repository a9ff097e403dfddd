"""The package's noise in vector code: Philox4x32-10, then Box-Muller; a call's four words are four coordinates.

What does not depend on the part runs through the first rounds once: the words stay scalars, or vectors that the loop
over the parts does not change, for as long as they can.
"""

import triton
import triton.language as tl

from compvae_fast.kernels.triton.elementary import cos_sin_pi, log, sqrt

_M0, _M1 = tl.constexpr(0xD2511F53), tl.constexpr(0xCD9E8D57)
_W0, _W1 = tl.constexpr(0x9E3779B9), tl.constexpr(0xBB67AE85)


@triton.jit
def philox4x32_10(c0, c1, c2, c3, k0, k1):
    """The four words for a counter of four and a key of two words, all uint32."""
    for _ in tl.static_range(10):
        high0, low0 = tl.umulhi(c0, _M0), c0 * _M0
        high1, low1 = tl.umulhi(c2, _M1), c2 * _M1
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + _W0, k1 + _W1
    return c0, c1, c2, c3


@triton.jit
def uniform(word):
    """u in (0, 1] of a word, float32, rounded once."""
    return (word >> 1).to(tl.float32) * 4.656612873077393e-10 + 2.3283064365386963e-10


@triton.jit
def box_muller(radius, angle, T: tl.constexpr):
    """Two words to two normals of type T."""
    u = uniform(radius).to(T)
    t = (angle.to(tl.int32, bitcast=True).to(tl.float32) * 4.656612873077393e-10).to(T)
    r = sqrt(-2 * log(u))
    cosine, sine = cos_sin_pi(t)
    return r * cosine, r * sine


@triton.jit
def counter_words(set_index, part, call):
    """The counter of the call that gives coordinates 4 call .. 4 call + 3; set and part int64, call uint32."""
    high = (part >> 32) | ((set_index >> 32) << 16)
    return call, part.to(tl.uint32), set_index.to(tl.uint32), high.to(tl.uint32)


@triton.jit
def key_words(seed):
    return seed.to(tl.uint32), (seed >> 32).to(tl.uint32)


@triton.jit
def draw(seed, set_index, part, call, T: tl.constexpr):
    """The normals of one part at the coordinates of calls [n]: [4 n] of type T; seed, set_index and part int64."""
    c0, c1, c2, c3 = counter_words(set_index, part, call)
    k0, k1 = key_words(seed)
    x0, x1, x2, x3 = philox4x32_10(c0, c1, c2, c3, k0, k1)
    n0, n1 = box_muller(x0, x1, T)
    n2, n3 = box_muller(x2, x3, T)
    return tl.interleave(tl.interleave(n0, n2), tl.interleave(n1, n3))
