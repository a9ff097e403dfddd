"""The sets of a call as kernels take them: tables of sizes and indices, checked on the device."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from compvae_fast import _rules
from compvae_fast.kernels.triton import errors, is_interpreted
from compvae_fast.kernels.triton.elementary import tree_sum
from compvae_fast.kernels.triton.launch import launch, run_one_each
from compvae_fast.kernels.triton.places import CHUNK, GROUP, MOST, SEGMENT, SEGMENTS, WHOLE, Rows, Sets

_BLOCK = 1024


@triton.jit
def _tables(offsets, lengths, set_index, part_start, rows, slots, count, most_sets, most_parts, sizes, starts, indices,
            part_starts, spoilt, wrong, BLOCK: tl.constexpr):
    """Index tensors as int64 tables; the size of a set with a wrong index is -1, and outputs `spoilt` become NaN."""
    any_bad = tl.full([], 0, tl.int32)
    for base in range(0, count, BLOCK):
        b = base + tl.arange(0, BLOCK).to(tl.int64)
        there = b < count
        bad = b < 0
        size = b * 0 + slots
        if offsets is not None:
            first = tl.load(offsets + b, mask=there, other=0).to(tl.int64)
            last = tl.load(offsets + b + 1, mask=there, other=0).to(tl.int64)
            bad = (first < 0) | (last < first) | (last > rows)
            bad = bad | ((b == 0) & (first != 0)) | ((b == count - 1) & (last != rows))
            size = last - first
            tl.store(starts + b, tl.where(bad, 0, first), mask=there)
            _note(wrong, errors.OFFSETS, bad & there, b, first, last, rows)
        if lengths is not None:
            size = tl.load(lengths + b, mask=there, other=0).to(tl.int64)
            bad = (size < 0) | (size > slots)
            _note(wrong, errors.LENGTHS, bad & there, b, size, size, slots)
        if set_index is not None:
            index = tl.load(set_index + b, mask=there, other=0).to(tl.int64)
            outside = (index < 0) | (index >= most_sets)
            _note(wrong, errors.SET_INDEX, outside & there, b, index, index, most_sets)
            tl.store(indices + b, tl.where(outside, 0, index), mask=there)
            bad = bad | outside
        if part_start is not None:
            start = tl.load(part_start + b, mask=there, other=0).to(tl.int64)
            outside = (start < 0) | (start >= most_parts)
            _note(wrong, errors.PART_START, outside & there, b, start, start, most_parts)
            tl.store(part_starts + b, tl.where(outside, 0, start), mask=there)
            bad = bad | outside
        tl.store(sizes + b, tl.where(bad, -1, size), mask=there)
        if tl.max((bad & there).to(tl.int32), 0) > 0:
            any_bad += 1
    if offsets is not None and spoilt is not None:
        # no set is left that knows the rows of a wrong one
        for i in tl.static_range(len(spoilt)):
            for base in range(0, tl.where(any_bad > 0, spoilt[i][1], 0), BLOCK):
                at = base + tl.arange(0, BLOCK).to(tl.int64)
                tl.store(spoilt[i][0] + at, float("nan"), mask=at < spoilt[i][1])


@triton.jit
def _note(wrong, KIND: tl.constexpr, bad, b, first, second, limit):
    """Notes the values of the first bad set, if there is one."""
    if tl.max(bad.to(tl.int32), 0) > 0:
        which = tl.min(tl.where(bad, b, 9223372036854775807), 0)
        errors.note(wrong, KIND, tl.sum(tl.where(b == which, first, 0), 0), tl.sum(tl.where(b == which, second, 0), 0),
                    limit)


@triton.jit
def _join(numbers, out, groups, GROUPS: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    group = tl.arange(0, GROUPS)
    values = tl.load(numbers + b * groups + group, mask=group < groups, other=0.0)
    tl.store(out + b, tree_sum(values, GROUPS))


def rows(t: Tensor | None) -> Rows:
    """A [B, K, D] or a ragged [N, D] tensor as kernels take it."""
    if t is None:
        return Rows(None, 0, 0, 0)
    return Rows(t, *t.stride()) if t.dim() == 3 else Rows(t, 0, *t.stride())


def per_set(t: Tensor | None) -> Rows:
    """A tensor with one row [B, D] or one number [B] for each set."""
    if t is None:
        return Rows(None, 0, 0, 0)
    return Rows(t, t.stride(0), 0, t.stride(1) if t.dim() == 2 else 0)


class Call:
    """The sets of one call and the launches over them.

    count, parts, width: B, K (or the rows N of ragged sets) and D. spoilt: outputs with a row for each part, which
    become NaN where offsets are wrong. tables: sizes and first rows of ragged sets that are right, in place of indices.
    whole_sizes: parts of the sets that these are shards of.
    """

    def __init__(self, device: torch.device, count: int, parts: int, width: int, offsets: Tensor | None = None,
                 lengths: Tensor | None = None, set_index: Tensor | None = None, part_start: Tensor | None = None,
                 seed: Tensor | None = None, spoilt: tuple[Tensor, ...] = (),
                 tables: tuple[Tensor, Tensor] | None = None, whole_sizes: Tensor | None = None):
        self.interpreted = is_interpreted()
        errors.raise_noted(self.interpreted)
        if width > _rules.MAX_COORDINATES:
            raise ValueError(f"D: expected at most 2^34 coordinates, got {width}")
        self.device, self.count, self.parts, self.width = device, count, parts, width
        self.like = torch.empty(0, device=device)
        self.wrong = errors.record(self.interpreted)
        sizes, starts = tables or (None, None)
        indices = part_starts = None
        if count and not (offsets is None and lengths is None and set_index is None and part_start is None):
            sizes = torch.empty(count, dtype=torch.int64, device=device)
            starts, indices, part_starts = (None if given is None else torch.empty_like(sizes)
                                            for given in (offsets, set_index, part_start))
            self._run_tables(offsets, lengths, set_index, part_start, sizes, starts, indices, part_starts, spoilt)
        segments = None
        # parts of the largest set, as far as is known without asking the device
        self.one_chunk = parts <= CHUNK.value
        self.may_be_long = parts > SEGMENT.value
        self.all_long = self.may_be_long and sizes is None
        if self.may_be_long:
            segments = self._segments(sizes)
            share = triton.cdiv(triton.cdiv(parts, MOST.value), CHUNK.value) * CHUNK.value
            of_a_set = triton.cdiv(parts, max(SEGMENT.value, share))
            # a long set has at most twice as many segments as SEGMENT goes into it
            self.most_segments = 2 * parts // SEGMENT.value if starts is not None else count * of_a_set
        self.sets = Sets(sizes, starts, indices, part_starts, seed, 1 if seed is not None and seed.dim() else 0,
                         segments, whole_sizes, parts, count, width)

    def _run_tables(self, offsets, lengths, set_index, part_start, sizes, starts, indices, part_starts, spoilt):
        arguments = (offsets, lengths, set_index, part_start, self.parts, self.parts, self.count, _rules.MAX_SETS,
                     _rules.MAX_PARTS - self.parts + 1, sizes, starts, indices, part_starts,
                     tuple((t, t.numel()) for t in spoilt if t.numel()) or None, self.wrong)
        contiguous = tuple(a.contiguous() if isinstance(a, Tensor) else a for a in arguments[:4]) + arguments[4:]
        run_one_each(_tables, 1, self.like, *contiguous, BLOCK=_BLOCK)

    def _segments(self, sizes: Tensor | None) -> Tensor:
        """How many segments there are up to the end of each set, of the long sets."""
        if sizes is None:
            sizes = torch.full((self.count,), self.parts, dtype=torch.int64, device=self.device)
        share = (sizes + (MOST.value - 1)) // MOST.value
        share = ((share + (CHUNK.value - 1)) // CHUNK.value * CHUNK.value).clamp(min=SEGMENT.value)
        return torch.where(sizes > SEGMENT.value, (sizes + share - 1) // share, 0).cumsum(0)

    def launch(self, kernel, mode: tl.constexpr, *arguments, **constants) -> None:
        """Runs a kernel on the small sets (WHOLE), on the segments of the long ones, or on the long ones (MERGED)."""
        if not self.width:
            items = 0
        elif mode.value == WHOLE.value:
            items = 0 if self.all_long else self.count
        else:
            items = 0 if not self.may_be_long else self.most_segments if mode.value == SEGMENTS.value else self.count
        launch(kernel, items, self.width, (self.sets, *arguments), self.like, (self.parts,), MODE=mode.value,
               **constants)

    def partial(self, rows_of_a_segment: int) -> Tensor | None:
        """What segments leave, float64 [segments, rows, D]; None where no set is long."""
        if not self.may_be_long:
            return None
        return torch.empty(self.most_segments, rows_of_a_segment, self.width, dtype=torch.float64, device=self.device)

    def kept(self, slots: int, dtype: torch.dtype) -> Tensor:
        """Rows [slots, B, D] that one kernel leaves for the next."""
        return torch.empty(slots, self.count, self.width, dtype=dtype, device=self.device)

    def numbers(self, groups: int | None = None) -> Tensor:
        """What groups of coordinates leave of a number for each set, float64 [B, groups]."""
        groups = -(-self.width // GROUP.value) if groups is None else groups
        return torch.empty(self.count, groups, dtype=torch.float64, device=self.device)

    def join(self, numbers: Tensor, out: Tensor) -> None:
        """out[b] = the sum of set b's numbers."""
        run_one_each(_join, self.count, self.like, numbers, out, numbers.shape[1],
                     GROUPS=triton.next_power_of_2(max(numbers.shape[1], 1)))

    def finish(self) -> None:
        """Waits and raises where wrong values are to be told at once."""
        if errors.checks_at_once():
            if not self.interpreted:
                if torch.cuda.is_current_stream_capturing():
                    return
                torch.cuda.synchronize(self.device)
            errors.raise_noted(self.interpreted)


def of_parts(like: Tensor, offsets: Tensor | None, lengths: Tensor | None, *draws: Tensor | None,
             spoilt: tuple[Tensor, ...] = (), whole_sizes: Tensor | None = None) -> Call:
    """The sets of tensors like `like`; draws: set_index, part_start, seed."""
    set_index, part_start, seed = draws or (None, None, None)
    ragged = offsets is not None
    count = offsets.shape[0] - 1 if offsets is not None else like.shape[0]
    return Call(like.device, count, like.shape[0 if ragged else 1], like.shape[-1], offsets, lengths, set_index,
                part_start, seed, spoilt, whole_sizes=whole_sizes)


def float_type(*tensors: Tensor) -> tl.dtype:
    """What a call computes in: float64 where an input has it."""
    return tl.float64 if any(t.dtype == torch.float64 for t in tensors) else tl.float32


def as_matrix(t: Tensor) -> Tensor:
    """[B, ...] as [B, M]; a copy where the strides leave no other way."""
    return t.reshape(t.shape[0], math.prod(t.shape[1:]))


def outputs_of(operation, values, save: bool) -> list[Tensor]:
    """Memory for what a registered operation returns and saves."""
    device = values[0].device
    described = operation.describe(values, save)
    return [torch.empty(shape, dtype=dtype, device=device) for shape, dtype in described]


def given(t: Tensor, wanted: bool) -> Tensor | None:
    return t if wanted else None


def like_wanted(tensors, needs: list[bool]) -> tuple[Tensor, ...]:
    """Memory for the gradients that are wanted; an empty tensor for each of the others."""
    return tuple(torch.empty(t.shape if need else (0,), dtype=t.dtype, device=t.device)
                 for t, need in zip(tensors, needs))


def wanted(gradients: tuple[Tensor, ...], needs: list[bool]) -> tuple[Tensor | None, ...]:
    return tuple(g if need else None for g, need in zip(gradients, needs))
