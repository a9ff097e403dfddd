"""Rows of tensors as contiguous runs of the compute type, whatever their dtype and strides."""

from __future__ import annotations

from typing import NamedTuple

from compvae_fast.kernels.numba.compiling import inlined, plain
from compvae_fast.kernels.numba.memory import (
    load,
    load_float32,
    load_float64,
    load_uint16,
    read_float64,
    read_uint16,
    read_uint32,
    store,
    write_float64,
    write_uint16,
    write_uint32,
)
from compvae_fast.kernels.numba.vectors import (
    bits_float32,
    bits_int32,
    bits_uint32,
    count_of,
    select,
    size_of,
    to_float32,
    to_float64,
    to_kind,
    to_uint16,
    to_uint32,
)

BLOCK = 64  # coordinates handled together


class Tensor(NamedTuple):
    """A tensor [B, K, D] (dense, padded), [N, D] (ragged: stride_set is 0) or [B, D] (stride_part is 0).

    dtype counts float32, float64, bfloat16, float16 from 0; strides count elements. address 0: an optional input that
    is absent, an output that nobody wants.
    """

    address: int
    dtype: int
    stride_set: int
    stride_part: int
    stride_coordinate: int


ABSENT = Tensor(0, 0, 0, 0, 1)
_FLOAT32, _FLOAT64, _BFLOAT16 = 0, 1, 2


def tensor(description: tuple[int, int, int, int, int] | None) -> Tensor:
    """What the adapters say of a torch tensor, as the kernels take it."""
    return ABSENT if description is None else Tensor(*description)


@inlined
def _element_size(dtype):
    return 8 if dtype == _FLOAT64 else 4 if dtype == _FLOAT32 else 2


@inlined
def dtype_of(kind):
    return _FLOAT64 if size_of(kind) == 8 else _FLOAT32


@inlined
def address_of(t, set_, part, coordinate):
    elements = set_ * t.stride_set + part * t.stride_part + coordinate * t.stride_coordinate
    return t.address + elements * _element_size(t.dtype)


@inlined
def _from_bfloat(b):
    return bits_float32(to_uint32(b) << 16)


@inlined
def _to_bfloat(x):
    u = bits_uint32(x)
    rounded = (u + 0x7FFF + ((u >> 16) & 1)) >> 16
    return to_uint16(select((u & 0x7FFFFFFF) > 0x7F800000, (u >> 16) | 0x40, rounded))


@inlined
def _from_half(h):
    h = to_uint32(h)
    exponent, mantissa, sign = (h >> 10) & 31, h & 1023, (h & 0x8000) << 16
    infinite, normal = sign | 0x7F800000 | (mantissa << 13), sign | ((exponent + 112) << 23) | (mantissa << 13)
    tiny = bits_uint32(to_float32(bits_int32(mantissa)) * 2.0**-24) | sign
    return bits_float32(select(exponent == 31, infinite, select(exponent == 0, tiny, normal)))


@inlined
def _to_half(x):
    u = bits_uint32(x)
    sign, size = (u >> 16) & 0x8000, u & 0x7FFFFFFF
    # subnormal: adding 0.5 rounds at 2^-24
    tiny = bits_uint32(bits_float32(size) + 0.5) - 0x3F000000
    half = (size + 0xFFF + ((size >> 13) & 1) - 0x38000000) >> 13
    half = select(size < 0x38800000, tiny, select(size >= 0x477FF000, 0x7C00, half))
    return to_uint16(sign | select(size > 0x7F800000, 0x7E00, half))


@plain
def copy_block(kind, address, out):
    """A whole block of a kind's numbers."""
    for i in range(0, BLOCK * size_of(kind), count_of(kind) * size_of(kind)):
        store(out + i, load(kind, address + i))


@plain
def _collect(data, size, stride, n, out):
    """n elements at a stride, one after the other; zeros after them, to the full block."""
    for i in range(n):
        if size == 2:
            write_uint16(out + 2 * i, read_uint16(data + 2 * i * stride))
        elif size == 4:
            write_uint32(out + 4 * i, read_uint32(data + 4 * i * stride))
        else:
            write_float64(out + 8 * i, read_float64(data + 8 * i * stride))
    for i in range(n * size // 2, BLOCK * size // 2):
        write_uint16(out + 2 * i, 0)


@plain
def _spread(data, size, stride, n, out):
    """The inverse of _collect."""
    for i in range(n):
        if size == 2:
            write_uint16(out + 2 * i * stride, read_uint16(data + 2 * i))
        elif size == 4:
            write_uint32(out + 4 * i * stride, read_uint32(data + 4 * i))
        else:
            write_float64(out + 8 * i * stride, read_float64(data + 8 * i))


@plain
def read_row(kind, t, address, n, out, raw):
    """n coordinates of a tensor as a row of a kind's numbers, with zeros to the full block; raw: memory for a row."""
    size = _element_size(t.dtype)
    if t.dtype == dtype_of(kind):
        if n == BLOCK and t.stride_coordinate == 1:
            copy_block(kind, address, out)
        else:
            _collect(address, size, t.stride_coordinate, n, out)
        return
    if n < BLOCK or t.stride_coordinate != 1:
        _collect(address, size, t.stride_coordinate, n, raw)
        address = raw
    for i in range(0, BLOCK, count_of(kind)):
        given, to = address + i * size, out + i * size_of(kind)
        if t.dtype == _FLOAT32:
            store(to, to_kind(kind, load_float32(kind, given)))
        elif t.dtype == _FLOAT64:
            store(to, to_kind(kind, load_float64(kind, given)))
        elif t.dtype == _BFLOAT16:
            store(to, to_kind(kind, _from_bfloat(load_uint16(kind, given))))
        else:
            store(to, to_kind(kind, _from_half(load_uint16(kind, given))))


@plain
def write_row(kind, row, t, address, n, raw):
    """The inverse of read_row, each number rounded once."""
    size = _element_size(t.dtype)
    is_direct = n == BLOCK and t.stride_coordinate == 1
    if t.dtype == dtype_of(kind):
        if is_direct:
            copy_block(kind, row, address)
        else:
            _spread(row, size, t.stride_coordinate, n, address)
        return
    out = address if is_direct else raw
    for i in range(0, BLOCK, count_of(kind)):
        given, to = load(kind, row + i * size_of(kind)), out + i * size
        if t.dtype == _FLOAT32:
            store(to, to_float32(given))
        elif t.dtype == _FLOAT64:
            store(to, to_float64(given))
        elif t.dtype == _BFLOAT16:
            store(to, _to_bfloat(to_float32(given)))
        else:
            store(to, _to_half(to_float32(given)))
    if not is_direct:
        _spread(raw, size, t.stride_coordinate, n, address)
