"""Normals of the package's noise, 64 consecutive coordinates of one part at a time.

The counter words that do not depend on the part (the coordinate, the set) run through the first rounds once for all
parts: five of the twenty multiplications. Lane 4 m + j holds call (LANES / 4) j + m, so that transposes inside groups
of four lanes give consecutive coordinates.
"""

from __future__ import annotations

import numpy as np

from compvae_fast.kernels.numba.compiling import inlined, plain
from compvae_fast.kernels.numba.elementary import cos_sin_pi, log
from compvae_fast.kernels.numba.memory import load, store
from compvae_fast.kernels.numba.places import BLOCK, HOISTED, NOISE, ROW, index_of, seed_of, start_of
from compvae_fast.kernels.numba.vectors import (
    HAS_FMA,
    LANES,
    WORDS,
    bits_int32,
    lane_numbers,
    multiply_words,
    size_of,
    sqrt,
    to_float32,
    to_float64,
    transpose_quads,
)

M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
W0, W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
WORD = np.uint64(0xFFFFFFFF)
_BATCHES = BLOCK // (4 * LANES)
_WORDS = 4 * LANES  # bytes of a vector of words


@inlined
def uniform_of(words):
    return to_float32(bits_int32(words >> 1)) * 2.0**-31 + 2.0**-32


@inlined
def _half_turns_of(words):
    return to_float32(bits_int32(words)) * 2.0**-31


@inlined
def _box_muller(u, t):
    r = sqrt(-2.0 * log(u))
    cosine, sine = cos_sin_pi(t)
    return r * cosine, r * sine


@inlined
def _store_normals(kind, x0, x1, x2, x3, out):
    u0, t0, u1, t1 = uniform_of(x0), _half_turns_of(x1), uniform_of(x2), _half_turns_of(x3)
    if size_of(kind) == 8 or not HAS_FMA:
        # Without fused multiply-adds float32 arithmetic comes too close to the promised 2^-22.
        a, b = _box_muller(to_float64(u0), to_float64(t0))
        c, d = _box_muller(to_float64(u1), to_float64(t1))
        rows = transpose_quads(a, b, c, d)
        for j in range(4):
            if size_of(kind) == 8:
                store(out + j * LANES * 8, rows[j])
            else:
                store(out + j * LANES * 4, to_float32(rows[j]))
    else:
        a, b = _box_muller(u0, t0)
        c, d = _box_muller(u1, t1)
        rows = transpose_quads(a, b, c, d)
        for j in range(4):
            store(out + j * LANES * 4, rows[j])


@plain
def prepare_block(seed, set_, first_coordinate, part_high, hoisted):
    """What the noise of a block has in common over the parts, 256 bytes; first_coordinate: a multiple of 64."""
    seed, set_ = np.uint64(seed), np.uint64(set_)
    k0, k1 = seed & WORD, seed >> np.uint64(32)
    c3 = np.uint64(part_high) | (set_ >> np.uint64(32)) << np.uint64(16)
    product = M1 * (set_ & WORD)
    lanes = lane_numbers(WORDS)
    for b in range(_BATCHES):
        call = (lanes & 3) * (LANES // 4) + (lanes >> 2) + ((first_coordinate >> 2) + b * LANES)
        high, low = multiply_words(call, M0)
        a2, a3 = high ^ c3 ^ k1, low
        high, low = multiply_words(a2, M1)
        b0 = high ^ product ^ (k0 + W0)
        here = hoisted + b * 4 * _WORDS
        store(here, a3 ^ (k1 + W1))
        store(here + _WORDS, low ^ (k0 + W0 + W0))
        high, low = multiply_words(b0, M0)
        store(here + 2 * _WORDS, high ^ (k1 + W1 + W1))
        store(here + 3 * _WORDS, low)


@plain
def fill_block(kind, seed, set_, part, hoisted, out):
    """The 64 normals of a part, given prepare_block's memory for the high bits of that part."""
    seed = np.uint64(seed)
    k0, k1 = seed & WORD, seed >> np.uint64(32)
    set_high = M1 * (np.uint64(set_) & WORD) >> np.uint64(32)
    product = M0 * (set_high ^ (np.uint64(part) & WORD) ^ k0)
    part_high, part_low = product >> np.uint64(32), product & WORD
    for b in range(_BATCHES):
        here = hoisted + b * 4 * _WORDS
        high1, low1 = multiply_words(load(WORDS, here) ^ part_high, M1)
        x0 = high1 ^ load(WORDS, here + _WORDS)
        x1 = low1
        x2 = load(WORDS, here + 2 * _WORDS) ^ part_low
        x3 = load(WORDS, here + 3 * _WORDS)
        key0, key1 = k0 + W0 + W0, k1 + W1 + W1
        for _ in range(7):
            key0 += W0
            key1 += W1
            high0, low0 = multiply_words(x0, M0)
            high1, low1 = multiply_words(x2, M1)
            x0, x1 = high1 ^ x1 ^ key0, low1
            x2, x3 = high0 ^ x3 ^ key1, low0
        _store_normals(kind, x0, x1, x2, x3, out + b * 4 * LANES * size_of(kind))


@plain
def draw_rows(kind, sets, place, part, parts):
    """The normals of parts [part, part + parts) of a place, rows of its memory at NOISE."""
    seed, set_, hoisted = seed_of(sets, place.set), index_of(sets, place.set), place.memory + HOISTED
    first = start_of(sets, place.set) + part
    high = first >> 32
    prepare_block(seed, set_, place.coordinate, high, hoisted)
    for k in range(parts):
        if (first + k) >> 32 != high:
            high = (first + k) >> 32
            prepare_block(seed, set_, place.coordinate, high, hoisted)
        fill_block(kind, seed, set_, first + k, hoisted, place.memory + NOISE + k * ROW)
