"""The package's noise by Numba kernels: the values that they draw, at any indices."""

from __future__ import annotations

import numpy as np

from compvae_fast.kernels.numba.calls import adapted
from compvae_fast.kernels.numba.compiling import kernel, plain
from compvae_fast.kernels.numba.memory import read_float32, read_int64, write_float32, write_int64
from compvae_fast.kernels.numba.normals import M0, M1, W0, W1, WORD, fill_block, prepare_block
from compvae_fast.kernels.numba.places import HOISTED, SMALL, next_item
from compvae_fast.kernels.numba.rows import BLOCK
from compvae_fast.kernels.numba.threads import run
from compvae_fast.kernels.numba.vectors import FLOAT32

_PIECE = 4096  # numbers that one thread draws at a time
_HIGH = np.uint64(32)


@plain
def _philox(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10 of words held in uint64."""
    for _ in range(10):
        p0, p1 = M0 * c0, M1 * c2
        c0, c1, c2, c3 = (p1 >> _HIGH) ^ c1 ^ k0, p1 & WORD, (p0 >> _HIGH) ^ c3 ^ k1, p0 & WORD
        k0, k1 = (k0 + W0) & WORD, (k1 + W1) & WORD
    return c0, c1, c2, c3


@plain
def _word(address):
    return np.uint64(read_int64(address))


@kernel
def _philox_at(count, counters, keys, out, queue, memory):
    piece = next_item(queue, -1)
    while piece * _PIECE < count:
        first = piece * _PIECE
        for i in range(first, min(first + _PIECE, count)):
            c, k = counters + 32 * i, keys + 16 * i
            words = _philox(_word(c), _word(c + 8), _word(c + 16), _word(c + 24), _word(k), _word(k + 8))
            for j in range(4):
                write_int64(out + 32 * i + 8 * j, words[j])
        piece = next_item(queue, piece)


@kernel
def _normal_at(kind, seed, count, sets, parts, coordinates, out, queue, memory):
    piece = next_item(queue, -1)
    while piece * _PIECE < count:
        first = piece * _PIECE
        set_, part, origin = -1, -1, -1
        for i in range(first, min(first + _PIECE, count)):
            s, p, c = read_int64(sets + 8 * i), read_int64(parts + 8 * i), read_int64(coordinates + 8 * i)
            start = c // BLOCK * BLOCK
            if s != set_ or start != origin or p != part:
                if s != set_ or start != origin or p >> 32 != part >> 32:
                    prepare_block(seed, s, start, p >> 32, memory + HOISTED)
                fill_block(kind, seed, s, p, memory + HOISTED, memory + SMALL)
                set_, part, origin = s, p, start
            write_float32(out + 4 * i, read_float32(memory + SMALL + 4 * (c - start)))
        piece = next_item(queue, piece)


@kernel
def _uniform_at(seed, count, sets, parts, coordinates, out, queue, memory):
    piece = next_item(queue, -1)
    while piece * _PIECE < count:
        first = piece * _PIECE
        for i in range(first, min(first + _PIECE, count)):
            s, p, c = _word(sets + 8 * i), _word(parts + 8 * i), read_int64(coordinates + 8 * i)
            c3 = (p >> _HIGH) | (s >> _HIGH) << np.uint64(16)
            key = np.uint64(seed)
            words = _philox(np.uint64(c >> 2), p & WORD, s & WORD, c3, key & WORD, key >> _HIGH)
            u = np.float32(np.int64(words[c & 3] >> np.uint64(1))) * np.float32(2.0**-31)
            write_float32(out + 4 * i, u + np.float32(2.0**-32))
        piece = next_item(queue, piece)


def philox(count, counters, keys, out, threads):
    run(_philox_at, _pieces(count), threads, count, counters, keys, out)


def normal(seed, count, sets, parts, coordinates, out, threads):
    run(_normal_at, _pieces(count), threads, FLOAT32, seed, count, sets, parts, coordinates, out)


def uniform(seed, count, sets, parts, coordinates, out, threads):
    run(_uniform_at, _pieces(count), threads, seed, count, sets, parts, coordinates, out)


def _pieces(count: int) -> int:
    return -(-count // _PIECE)


philox4x32_10, normal, uniform = adapted("noise", philox, normal, uniform, names=("philox4x32_10", "normal", "uniform"))
