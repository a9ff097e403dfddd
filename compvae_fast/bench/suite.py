"""The suite: for each operation of the registry and each shape, first right, then timed beside the others."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from compvae_fast.bench.checks import errors
from compvae_fast.bench.contestants import COMPILED, EAGER, PREFIX, Contestant, contestants, one_pass
from compvae_fast.bench.timing import (
    Timing,
    copy_of,
    free_memory,
    interleaved,
    once,
    peak_memory,
    product_of_matrices,
    synchronizer,
)
from compvae_fast.registry import Record, Shape, geometric

# Elements of the shapes that are checked, and of those whose memory is measured to foretell that of large ones.
CHECKED, PROBED = 2**16, 2**16
# Of the memory that is free, what a call may be expected to take.
MOST_MEMORY = 0.8
# Seconds; what takes longer is called once.
LONG_CALL = 2.0
COPY, MATRIX = "copy", "matrix product"


@dataclass(frozen=True)
class Settings:
    """How to run: backends to time, float dtype, device, seconds for each call, passes, and what else to time."""

    backends: tuple[str, ...]
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    seconds: float = 2.0
    passes: tuple[str, ...] = ("forward", "full")
    quick: bool = False
    compiled: bool = True


@dataclass(frozen=True)
class Row:
    """One contestant on one example and pass.

    Times in milliseconds of one call; gb_per_s: bytes that must be moved, over the median; copy_share: a copy's time
    for as many bytes over the median; floor_share: the larger of that copy and of the arithmetic on data in cache, over
    the median; times_faster: the faster of eager and torch.compile over it; gops: operations of the fused formula a
    second; peak_mb: memory allocated at the peak, outputs included; worst_error: over what is allowed; note: why there
    is no time, or what differs; date: when it was measured. Empty where not measured.
    """

    operation: str
    options: str
    shape: str
    layout: str
    B: int
    K: int
    D: int
    series: str
    dtype: str
    direction: str
    implementation: str
    median_ms: float | None = None
    q20_ms: float | None = None
    q80_ms: float | None = None
    samples: int = 0
    gb_per_s: float | None = None
    copy_share: float | None = None
    floor_share: float | None = None
    times_faster: float | None = None
    gops: float | None = None
    operations_per_byte: float | None = None
    peak_mb: float | None = None
    worst_error: float | None = None
    note: str = ""
    date: str = ""


@dataclass(frozen=True)
class Case:
    """One example: a record, a shape, options, and the series of a scaling plot that it belongs to ("" for none)."""

    record: Record
    shape: Shape
    options: dict[str, Any]
    series: str = ""

    def __str__(self) -> str:
        return " ".join([self.record.name, str(self.shape), *_told(self.options)])


def _told(options: dict[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in options.items()]


def cases_of(record: Record, quick: bool = False) -> list[Case]:
    """Every shape of a record with every option."""
    return [Case(record, shape, dict(options)) for shape in (record.quick if quick else record.shapes)
            for options in record.options]


def cases(records: tuple[Record, ...], quick: bool) -> list[Case]:
    """The examples of the records: every shape with every option, and the scaling series with the first option."""
    found = []
    for record in records:
        found += cases_of(record, quick)
        found += [Case(record, shape, dict(record.options[0]), series)
                  for series, shapes in _series(record.sweep, quick).items() for shape in shapes]
    return found


def _series(around: Shape | None, quick: bool) -> dict[str, list[Shape]]:
    """Shapes that differ in K, in B and in D alone."""
    if around is None:
        return {}
    sets, parts, width = around.sets, around.parts, around.width
    steps = 3 if quick else 6
    top = {"K": 2**10, "B": 2**9, "D": 2**12}
    top = {name: size // 16 for name, size in top.items()} if quick else top
    return {
        "K": [Shape.dense(sets, k, width) for k in geometric(2, top["K"], steps)],
        "B": [Shape.dense(b, parts, width) for b in geometric(1, top["B"], steps)],
        "D": [Shape.dense(sets, parts, d) for d in geometric(32, top["D"], steps)],
    }


def run(cases: list[Case], settings: Settings, tell: Callable[[str], None] = lambda _: None) -> Iterator[Row]:
    """Check and time the cases; rows come as they are measured."""
    yield replace(_matrix_row(settings), date=today())
    in_cache: dict[tuple, float | None] = {}
    for case in cases:
        tell(str(case))
        for row in _run_case(case, settings, in_cache):
            yield replace(row, date=today())


def finished(cases: list[Case], settings: Settings, rows: list[Row]) -> tuple[list[Case], list[Row]]:
    """The cases that an earlier run has measured in every pass by every backend, and its rows of them."""
    def key(row: Row) -> tuple:
        return row.operation, row.options, row.shape, row.series, row.dtype, row.direction

    measured = {(key(row), row.implementation) for row in rows}
    done, held = [], set()
    for case in cases:
        keys = [key(_blank(case, settings, direction)) for direction in _passes(case, settings)]
        wanted = [f"{PREFIX}:{backend}" for backend in _offered(case, settings)] + [COPY]  # whose row is the last one
        if all((k, name) in measured for k in keys for name in wanted):
            done.append(case)
            held.update(keys)
    return done, [row for row in rows if key(row) in held]


def _passes(case: Case, settings: Settings) -> tuple[str, ...]:
    return ("forward",) if case.series else settings.passes


def _offered(case: Case, settings: Settings) -> tuple[str, ...]:
    serving = case.record.backends(settings.device)
    return tuple(backend for backend in settings.backends if backend in serving)


def _run_case(case: Case, settings: Settings, in_cache: dict) -> Iterator[Row]:
    device = torch.device(settings.device)
    sweeping = bool(case.series)
    rivals = list(contestants(case.record, case.shape, backends=_offered(case, settings),
                              compiled=settings.compiled and not sweeping, alternatives=not sweeping))
    wrong = _wrong(case, rivals, settings)
    for direction in _passes(case, settings):
        rows: dict[str, Row] = {}
        fitting, blank = [], _blank(case, settings, direction)
        for rival in rivals:
            worst, complaint = wrong.get(rival.name, (None, ""))
            row = replace(blank, implementation=rival.name, worst_error=worst, note=complaint or rival.note)
            if complaint:
                rows[rival.name] = row
                continue
            too_large = _does_not_fit(case, rival, settings, direction)
            rows[rival.name] = replace(row, note=too_large) if too_large else row
            if not too_large:
                fitting.append(rival)
        if fitting:
            yield from _timed(case, fitting, rows, blank, settings, direction, device, in_cache)
        else:
            yield from rows.values()


def _blank(case: Case, settings: Settings, direction: str) -> Row:
    shape = case.shape
    return Row(case.record.name, " ".join(_told(case.options)), str(shape), shape.layout, shape.sets, shape.parts,
               shape.width, case.series, str(settings.dtype).removeprefix("torch."), direction, "")


def _wrong(case: Case, rivals: list[Contestant], settings: Settings) -> dict[str, tuple[float | None, str]]:
    """(largest error over what is allowed, complaint) of each contestant that is compared with the reference."""
    shape = case.record.reduced(case.shape, CHECKED)
    arguments = _arguments(case, shape, settings)
    found: dict[str, tuple[float | None, str]] = {}
    for rival in rivals:
        if rival.check is None:
            continue
        ours = rival.name.startswith(PREFIX)
        try:
            told = errors(case.record, arguments, rival.check)
        except Exception as error:  # noqa: BLE001 - another library's refusal is a result
            if ours:
                raise
            found[rival.name] = None, _first_line(error)
            continue
        worst = max(told, key=told.__getitem__)
        # Others keep what precision they have; ours must keep what it promises.
        complaint = f"wrong: {worst} is off by {told[worst]:.1f} times what is allowed"
        found[rival.name] = told[worst], complaint if ours and told[worst] > 1 else ""
    return found


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"


def _arguments(case: Case, shape: Shape, settings: Settings) -> dict[str, Any]:
    return case.record.arguments(shape, dtype=settings.dtype, device=settings.device, **case.options)


def _does_not_fit(case: Case, rival: Contestant, settings: Settings, direction: str) -> str:
    """Why a call is not tried: its memory, foretold from that of a small example; empty where it fits."""
    device = torch.device(settings.device)
    free = free_memory(device)
    small = case.record.reduced(case.shape, PROBED)
    scale = case.record.elements(case.shape) / max(1, case.record.elements(small))
    if free is None or scale <= 1:
        return ""
    arguments = _arguments(case, small, settings)
    runner = case.record.plain if rival.name == COMPILED else rival.run  # nothing is compiled for a probe
    peak = peak_memory(one_pass(runner, arguments, case.record.differentiable, direction), device)
    inputs = sum(t.numel() * t.element_size() for t in arguments.values() if isinstance(t, torch.Tensor))
    needed = scale * (peak + inputs)
    if needed <= MOST_MEMORY * free:
        return ""
    return f"does not fit: it would take about {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"


def _timed(case, rivals, rows, blank, settings, direction, device, in_cache) -> Iterator[Row]:
    arguments = _arguments(case, case.shape, settings)
    wait = synchronizer(device)
    calls: dict[str, Callable] = {}
    long: dict[str, Timing] = {}
    for rival in rivals:
        try:
            call = one_pass(rival.run, arguments, case.record.differentiable, direction)
            seconds = once(call, wait)
            if seconds > LONG_CALL and rival.name == COMPILED:  # most of it was the compiler
                seconds = once(call, wait)
        except Exception as error:  # noqa: BLE001 - another library's refusal is a result
            if rival.name.startswith(PREFIX):
                raise
            rows[rival.name] = replace(rows[rival.name], note=_first_line(error))
            continue
        if seconds > LONG_CALL:
            long[rival.name] = Timing.of([seconds])
        else:
            calls[rival.name] = call
    outputs = one_pass(rivals[0].run, arguments, (), "forward")()
    forward, backward = case.record.traffic(arguments, outputs)
    del outputs
    traffic = {"forward": forward, "backward": backward, "full": forward + backward}[direction]
    timings = long | interleaved(calls | {COPY: copy_of(traffic, device)}, seconds=settings.seconds,
                                 at_least=3, synchronize=wait)
    copy = timings.pop(COPY)
    operations = _operations(case.record, case.shape, direction)
    rival_time = min((timings[n].median for n in (EAGER, COMPILED) if n in timings), default=math.nan)
    for name, timing in timings.items():
        mine = name.startswith(PREFIX)
        floor = _floor(case, name, settings, direction, in_cache, copy.median) if mine and not case.series else None
        rows[name] = replace(
            _with_times(rows[name], timing),
            gb_per_s=traffic / timing.median / 1e9,
            copy_share=copy.median / timing.median,
            floor_share=floor / timing.median if floor else None,
            times_faster=rival_time / timing.median if rival_time == rival_time else None,
            gops=operations / timing.median / 1e9,
            operations_per_byte=operations / traffic,
            peak_mb=peak_memory(calls[name], device) / 1e6 if name in calls else None,
        )
    yield from rows.values()
    yield replace(_with_times(blank, copy), implementation=COPY, gb_per_s=traffic / copy.median / 1e9)


def _operations(record: Record, shape: Shape, direction: str) -> int:
    work = {"forward": (record.forward,), "backward": (record.backward,), "full": (record.forward, record.backward)}
    return record.elements(shape) * sum(part.operations for part in work[direction])


def _with_times(row: Row, timing: Timing) -> Row:
    return replace(row, median_ms=1e3 * timing.median, q20_ms=1e3 * timing.q20, q80_ms=1e3 * timing.q80,
                   samples=timing.samples)


def _floor(case: Case, name: str, settings: Settings, direction: str, in_cache: dict, copy: float) -> float | None:
    """The larger of the copy and of the same instructions on data in cache, seconds."""
    key = (case.record.name, name, direction, str(case.options), min(case.shape.parts, 64), case.shape.layout)
    if key not in in_cache:
        in_cache[key] = _seconds_an_element(case, name.removeprefix(f"{PREFIX}:"), settings, direction)
    slope = in_cache[key]
    return None if slope is None else max(copy, slope * case.record.elements(case.shape))


def _seconds_an_element(case: Case, backend: str, settings: Settings, direction: str) -> float | None:
    """The price of one more element on data in cache: the slope between two small shapes, so that the call's own price
    falls out. None on a GPU, where shapes that small do not fill it."""
    device = torch.device(settings.device)
    if device.type != "cpu" or case.record.collapsed:
        return None
    parts = min(case.shape.parts, 64)
    # The inputs and gradients of the larger one, some 40 bytes an element, stay within half a MiB for each thread.
    widths = [64 * max(1, 2**13 // (64 * parts * 4**i)) for i in (0, 1)]
    shapes = [Shape.dense(torch.get_num_threads(), parts, width) for width in widths]
    if shapes[0].elements == shapes[1].elements:
        return None
    calls = {}
    for i, shape in enumerate(shapes):
        (mine,) = contestants(case.record, shape, backends=(backend,), compiled=False, alternatives=False, plain=False)
        calls[str(i)] = one_pass(mine.run, _arguments(case, shape, settings), case.record.differentiable, direction)
    timings = interleaved(calls, seconds=settings.seconds / 4, at_least=20)
    larger, smaller = (timings[name].least for name in ("0", "1"))
    return max(0.0, larger - smaller) / (shapes[0].elements - shapes[1].elements)


def _matrix_row(settings: Settings) -> Row:
    device = torch.device(settings.device)
    call, operations = product_of_matrices(device)
    timing = interleaved({MATRIX: call}, seconds=settings.seconds / 2, synchronize=synchronizer(device))[MATRIX]
    blank = Row(MATRIX, "", "1024x1024", "dense", 0, 0, 0, "", "float32", "forward", "torch.mm")
    return replace(_with_times(blank, timing), gops=operations / timing.median / 1e9)


def today() -> str:
    """The date and time, in UTC."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
