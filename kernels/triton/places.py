"""Where the parts of a call lie, in kernels: a program works on a block of coordinates of a set, or of a segment of it.

A set of more than SEGMENT parts is cut into at most MOST segments, at places that its size alone decides. Programs then
work on segments (SEGMENTS), and on what these left for the whole set (MERGED); smaller sets are done at once (WHOLE).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

CHUNK = tl.constexpr(32)  # parts that are summed in float32
SEGMENT = tl.constexpr(256)  # parts that one program works on, if it can be
MOST = tl.constexpr(64)  # segments of a set
GROUP, GROUP_LEVELS = tl.constexpr(128), tl.constexpr(7)  # coordinates whose numbers are added up by one program

WHOLE, SEGMENTS, MERGED = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)


class Rows(NamedTuple):
    """A tensor [B, K, D], [N, D] (stride `set` 0), [B, D] or [B]; its strides in elements. data None: it is absent."""

    data: Any
    set: Any
    part: Any
    coordinate: Any


class Sets(NamedTuple):
    """The sets of a call; the tables hold int64 and may be None.

    sizes [B], -1 where an index was wrong, else `parts` each; starts [B], the first rows of ragged sets; indices [B] of
    the noise, else 0..B-1; part_starts [B], else 0; seed [1] or, with seed_stride 1, [B]; segments [B], how many there
    are up to the end of each set, of sets with more than SEGMENT parts; whole_sizes [B], parts of the sets that these
    are shards of, else they are whole; counts of sets B and coordinates D.
    """

    sizes: Any
    starts: Any
    indices: Any
    part_starts: Any
    seed: Any
    seed_stride: Any
    segments: Any
    whole_sizes: Any
    parts: Any
    count: Any
    width: Any


class Place(NamedTuple):
    """What one program works on.

    here: whether there is work at all; set; item: number of the segment; size of the set, -1 where an index was wrong;
    first and end of the parts; row of part 0; column: the first coordinate; block: its number.
    """

    here: Any
    set: Any
    item: Any
    size: Any
    first: Any
    end: Any
    row: Any
    column: Any
    block: Any


@triton.jit
def segment_length(size):
    share = (size + (MOST - 1)) // MOST
    share = (share + (CHUNK - 1)) // CHUNK * CHUNK
    return tl.maximum(share, SEGMENT)


@triton.jit
def place_of(sets, MODE: tl.constexpr, BLOCK: tl.constexpr):
    program = tl.program_id(0).to(tl.int64)
    blocks = (sets.width + (BLOCK - 1)) // BLOCK
    block = program % blocks
    item = program // blocks
    here = item < sets.count
    b = item
    if MODE == SEGMENTS:
        # the set whose segments reach beyond this one
        here = item < tl.load(sets.segments + (sets.count - 1))
        low = item * 0
        high = low + sets.count - 1
        while low < high:
            middle = (low + high) // 2
            beyond = tl.load(sets.segments + middle) > item
            high = tl.where(beyond, middle, high)
            low = tl.where(beyond, low, middle + 1)
        b = low
    size = b * 0 + sets.parts
    row = b * 0
    if sets.sizes is not None:
        size = tl.load(sets.sizes + b)
    if sets.starts is not None:
        row = tl.load(sets.starts + b)
    first = b * 0
    end = tl.maximum(size, 0)
    if MODE == SEGMENTS:
        length = segment_length(end)
        first = (item - first_segment(sets, b)) * length
        end = tl.minimum(first + length, end)
    elif MODE == MERGED:
        here = size > SEGMENT
    elif sets.segments is not None:
        here = size <= SEGMENT
    return Place(here, b, item, size, first, end, row, block * BLOCK, block)


@triton.jit
def whole_size(sets, place):
    """Parts of the whole set."""
    if sets.whole_sizes is None:
        return place.size
    else:
        return tl.load(sets.whole_sizes + place.set)


@triton.jit
def with_set(place, b):
    """The place's coordinates of another set."""
    return Place(place.here, b, place.item, place.size, place.first, place.end, place.row, place.column, place.block)


@triton.jit
def first_segment(sets, b):
    """The number of set b's first segment."""
    return tl.load(sets.segments + b - 1, mask=b > 0, other=0)


@triton.jit
def columns(sets, place, BLOCK: tl.constexpr):
    """Which of the block's coordinates there are."""
    return place.column + tl.arange(0, BLOCK) < sets.width


@triton.jit
def within(there, part, end, BLOCK: tl.constexpr):
    """`there`, and nowhere from part `end` on."""
    # compared lane by lane: the interpreter does not mix vectors and scalars of truth values
    return there & (tl.zeros([BLOCK], tl.int64) + part < end)


@triton.jit
def calls(place, BLOCK: tl.constexpr):
    """The noise's calls that give the block's coordinates, uint32."""
    return (place.column >> 2).to(tl.uint32) + tl.arange(0, BLOCK // 4).to(tl.uint32)


@triton.jit
def _row_at(t, place, part, BLOCK: tl.constexpr):
    row = t.data + place.set * t.set + (place.row + part) * t.part + place.column * t.coordinate
    return row + tl.arange(0, BLOCK).to(tl.int64) * t.coordinate


@triton.jit
def load_row(t, place, part, there, T: tl.constexpr, BLOCK: tl.constexpr):
    """A part's row of a tensor of parts; 0 where it is not there."""
    return tl.load(_row_at(t, place, part, BLOCK), mask=there, other=0.0).to(T)


@triton.jit
def _store(at, values, there):
    """Halves are rounded from float32, which every version of Triton can do."""
    if values.dtype == tl.float64 and at.dtype.element_ty != tl.float64:
        values = values.to(tl.float32)
    tl.store(at, values, mask=there)


@triton.jit
def store_row(t, place, part, there, values, BLOCK: tl.constexpr):
    """Writes a part's row; nothing where the tensor is absent."""
    if t.data is not None:
        _store(_row_at(t, place, part, BLOCK), values, there)


@triton.jit
def _vector_at(t, set_number, column, BLOCK: tl.constexpr):
    row = t.data + set_number * t.set + column * t.coordinate
    return row + tl.arange(0, BLOCK).to(tl.int64) * t.coordinate


@triton.jit
def load_vector(t, place, there, T: tl.constexpr, BLOCK: tl.constexpr):
    """The set's row of a tensor [B, D]; zeros where it is absent."""
    if t.data is None:
        return tl.zeros([BLOCK], T)
    else:
        return tl.load(_vector_at(t, place.set, place.column, BLOCK), mask=there, other=0.0).to(T)


@triton.jit
def store_vector(t, place, there, values, BLOCK: tl.constexpr):
    """Writes the set's row of a tensor [B, D], NaN where its indices were wrong; nothing where it is absent."""
    if t.data is not None:
        _store(_vector_at(t, place.set, place.column, BLOCK), tl.where(place.size < 0, float("nan"), values), there)


@triton.jit
def load_number(t, place, T: tl.constexpr):
    """The set's number of a tensor [B]; 0 where it is absent."""
    if t.data is None:
        return tl.full([], 0, T)
    else:
        return tl.load(t.data + place.set * t.set).to(T)


@triton.jit
def store_groups(numbers, sets, place, row, values, BLOCK: tl.constexpr):
    """Adds up values [BLOCK] in groups of GROUP coordinates and writes these to a row of numbers [rows, groups]."""
    groups = (sets.width + (GROUP - 1)) // GROUP
    for level in tl.static_range(GROUP_LEVELS):
        left, right = tl.split(tl.reshape(values, [(BLOCK >> level) // 2, 2]))
        values = left + right
    group = place.column // GROUP + tl.arange(0, BLOCK // GROUP)
    values = tl.where(place.size < 0, float("nan"), values)
    tl.store(numbers + row * groups + group, values, mask=group < groups)


@triton.jit
def slot_at(stats, sets, place, slot: tl.constexpr, BLOCK: tl.constexpr):
    """A row of stats [slots, B, D]."""
    return stats + (slot * sets.count + place.set) * sets.width + place.column + tl.arange(0, BLOCK)


@triton.jit
def finish_padding(t, sets, place, there, BLOCK: tl.constexpr):
    """Rows of a padded tensor beyond the set's length, which its last segment writes: zeros, and NaN in all of them
    where its indices were wrong."""
    if t.data is not None and sets.sizes is not None and sets.starts is None:
        value = tl.where(place.size < 0, float("nan"), 0.0)
        nothing = tl.zeros([BLOCK], tl.float32) + value
        for part in range(tl.where(place.end < place.size, sets.parts, place.end), sets.parts):
            store_row(t, place, part, there, nothing, BLOCK)


@triton.jit
def set_of_noise(sets, place):
    """Seed, index of the set and of its first part in the noise, int64."""
    seed = tl.load(sets.seed + place.set * sets.seed_stride)
    index = place.set
    start = place.set * 0
    if sets.indices is not None:
        index = tl.load(sets.indices + place.set)
    if sets.part_starts is not None:
        start = tl.load(sets.part_starts + place.set)
    return seed, index, start
