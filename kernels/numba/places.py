"""The units of work: one block of coordinates of one set, with the memory of the thread that does it."""

from __future__ import annotations

from typing import NamedTuple

from compvae_fast.kernels.numba.compiling import inlined, plain
from compvae_fast.kernels.numba.memory import (
    fetch_add,
    load,
    prefetch,
    read_float64,
    read_int64,
    store,
    write_float64,
)
from compvae_fast.kernels.numba.rows import BLOCK, Tensor, address_of, dtype_of, read_row, write_row
from compvae_fast.kernels.numba.vectors import count_of, size_of, total, zero

CHUNK = 32  # parts handled together

# Working memory of a thread, in bytes from its start. Every row of a block has the same place, whatever its type.
ROW = 8 * BLOCK
_ROWS = CHUNK * ROW
RAW = 0  # one row, for conversions
_VALUE = RAW + ROW  # one row, for the number of a set
HOISTED = _VALUE + ROW  # one row, for what a block's noise has in common
SMALL = HOISTED + ROW  # single rows, as each operation needs
NOISE = SMALL + 64 * ROW  # the rows of a chunk
INPUTS = tuple(NOISE + (1 + i) * _ROWS for i in range(5))  # copies of rows of five inputs
OUTPUTS = tuple(NOISE + (6 + i) * _ROWS for i in range(5))  # and of five outputs
MEMORY = NOISE + 11 * _ROWS


class Sets(NamedTuple):
    """The sets of a call. Dense: offsets and lengths are 0 and every set has `parts` parts. Empty sets are legal."""

    count: int  # B
    parts: int  # K of dense and padded tensors
    width: int  # D
    offsets: int  # address of [B + 1]
    lengths: int  # address of [B]
    set_index: int  # address of [B]; 0: 0..B-1
    part_start: int  # address of [B]; 0: all 0
    seeds: int  # address of [1], or of [B] where seed_stride is 1
    seed_stride: int
    whole_sizes: int  # address of [B], parts of the sets that these are shards of; 0: they are whole


class Place(NamedTuple):
    """One block of coordinates of one set."""

    memory: int  # address of the thread's working memory
    set: int  # index in the batch
    coordinate: int  # the first one
    width: int  # coordinates in the block
    size: int  # parts of the set
    row: int  # row of the set's first part in a ragged tensor


@inlined
def next_item(queue, item):
    """The item of work that a thread does after `item`, at first -1: the next one of its piece, else another piece's
    first. queue: addresses of the number of pieces taken so far and, after it, of the items in a piece."""
    share = read_int64(queue + 8)
    following = item + 1
    return following if following % share != 0 else fetch_add(queue, 1) * share


@inlined
def blocks_of(width):
    return (width + BLOCK - 1) // BLOCK


@inlined
def places_of(sets):
    return sets.count * blocks_of(sets.width)


@inlined
def place_of(sets, set_, coordinate, memory):
    size, row = sets.parts, 0
    if sets.offsets != 0:
        row = read_int64(sets.offsets + 8 * set_)
        size = read_int64(sets.offsets + 8 * set_ + 8) - row
    elif sets.lengths != 0:
        size = read_int64(sets.lengths + 8 * set_)
    return Place(memory, set_, coordinate, min(BLOCK, sets.width - coordinate), size, row)


@inlined
def place_at(sets, index, memory):
    """Place `index` of all, the blocks of a set one after the other."""
    blocks = blocks_of(sets.width)
    return place_of(sets, index // blocks, index % blocks * BLOCK, memory)


@inlined
def index_of(sets, set_):
    """The index of a set in the noise."""
    return read_int64(sets.set_index + 8 * set_) if sets.set_index != 0 else set_


@inlined
def start_of(sets, set_):
    """The index of a set's first part in the noise."""
    return read_int64(sets.part_start + 8 * set_) if sets.part_start != 0 else 0


@inlined
def whole_size_of(sets, place):
    """Parts of the set that a place's is a shard of, or itself."""
    return read_int64(sets.whole_sizes + 8 * place.set) if sets.whole_sizes != 0 else place.size


@inlined
def seed_of(sets, set_):
    return read_int64(sets.seeds + 8 * set_ * sets.seed_stride)


@inlined
def row_at(rows, k):
    """The address of row k of what stage_input and stage_output give."""
    return rows[0] + k * rows[1]


@inlined
def ahead(kind, address):
    """Asks for this column of the next block: a row of one block is too short for the processor to foresee the next."""
    prefetch(address + BLOCK * size_of(kind))


@inlined
def _is_direct(kind, t, place):
    """Whether whole vectors may be read from and written to the tensor's own memory."""
    return place.width == BLOCK and t.dtype == dtype_of(kind) and t.stride_coordinate == 1


@plain
def stage_input(kind, place, t, copies, part, parts):
    """The rows of parts [part, part + parts) as (address of the first, step from one to the next).

    They lie in the tensor's own memory where that serves, else in converted copies, padded with zeros; copies: the
    address of memory for these.
    """
    if _is_direct(kind, t, place):
        return address_of(t, place.set, place.row + part, place.coordinate), t.stride_part * size_of(kind)
    for k in range(parts):
        read_row(kind, t, address_of(t, place.set, place.row + part + k, place.coordinate), place.width,
                 copies + k * ROW, place.memory + RAW)
    return copies, ROW


@plain
def stage_output(kind, place, t, copies, part):
    """Where to write rows of parts from `part` on, as stage_input; finish_output brings copies to where they belong."""
    if t.address == 0:
        return copies, 0  # one row, for what nobody wants
    if _is_direct(kind, t, place):
        return address_of(t, place.set, place.row + part, place.coordinate), t.stride_part * size_of(kind)
    return copies, ROW


@plain
def finish_output(kind, place, t, copies, part, parts):
    if t.address == 0 or _is_direct(kind, t, place):
        return
    for k in range(parts):
        write_row(kind, copies + k * ROW, t, address_of(t, place.set, place.row + part + k, place.coordinate),
                  place.width, place.memory + RAW)


@plain
def zero_padding(kind, sets, place, t):
    """The rows beyond a padded set's length are zero in every output."""
    if sets.lengths == 0 or t.address == 0:
        return
    zeros = place.memory + OUTPUTS[0]
    clear_rows(kind, zeros, 1)
    for k in range(place.size, sets.parts):
        write_row(kind, zeros, t, address_of(t, place.set, k, place.coordinate), place.width, place.memory + RAW)


@plain
def clear_rows(kind, address, count):
    """Zeros in so many rows of working memory."""
    for i in range(0, count * ROW, count_of(kind) * size_of(kind)):
        store(address + i, zero(kind))


@plain
def read_block(kind, place, t, out):
    """A block of a tensor [B, D]; zeros where it is absent."""
    if t.address == 0:
        clear_rows(kind, out, 1)
    else:
        read_row(kind, t, address_of(t, place.set, 0, place.coordinate), place.width, out, place.memory + RAW)


@plain
def write_block(kind, place, t, row):
    if t.address != 0:
        write_row(kind, row, t, address_of(t, place.set, 0, place.coordinate), place.width, place.memory + RAW)


@plain
def value_of(kind, place, t):
    """The number of a set in a tensor [B], as float64; 0 where it is absent."""
    if t.address == 0:
        return 0.0
    row = place.memory + _VALUE
    read_row(kind, t, address_of(t, place.set, 0, 0), 1, row, place.memory + RAW)
    return total(load(kind, row))  # zeros follow it


@inlined
def _stats(kind, sets, place, address):
    """The rows of stats [count, B, D] at one place, as a tensor of parts."""
    return Tensor(address, dtype_of(kind), sets.width, sets.count * sets.width, 1)


@plain
def write_stats(kind, sets, place, address, count, rows):
    """Rows of working memory into stats [count, B, D] of the kind's type; nothing where address is 0."""
    if address != 0:
        t = _stats(kind, sets, place, address)
        for s in range(count):
            write_row(kind, rows + s * ROW, t, address_of(t, place.set, s, place.coordinate), place.width,
                      place.memory + RAW)


@plain
def write_float64_row(sets, place, address, row, numbers):
    """A row of float64 numbers in working memory into row `row` of an array [.., B, D] of them."""
    to = address + 8 * ((row * sets.count + place.set) * sets.width + place.coordinate)
    for i in range(place.width):
        write_float64(to + 8 * i, read_float64(numbers + 8 * i))


@plain
def read_float64_row(sets, place, address, row, numbers):
    """The inverse."""
    start = address + 8 * ((row * sets.count + place.set) * sets.width + place.coordinate)
    for i in range(place.width):
        write_float64(numbers + 8 * i, read_float64(start + 8 * i))


@plain
def read_stats(kind, sets, place, address, count, rows):
    t = _stats(kind, sets, place, address)
    for s in range(count):
        read_row(kind, t, address_of(t, place.set, s, place.coordinate), place.width, rows + s * ROW,
                 place.memory + RAW)
