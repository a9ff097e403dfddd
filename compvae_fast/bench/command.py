"""What `compvae_fast bench` does."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch

from compvae_fast import backends
from compvae_fast.bench import page, store
from compvae_fast.bench.suite import Case, Row, Settings, cases, finished, run, today
from compvae_fast.registry import RECORDS, Record, matching
from compvae_fast.report.info import facts
from compvae_fast.training.errors import BadInput, Failure

DTYPES = ("float32", "float64", "bfloat16", "float16")


def bench(
    operations: list[str], *, chosen: list[str], dtype: str, seconds: float, quick: bool, out: str,
    tell: Callable[[str], None], overwrite: bool = False, resume: bool = False,
) -> Path:
    """Run the suite and write its rows and its page into the folder ``out``; gives the page's path.

    Args:
        operations: names, none for all.
        chosen: backends, all of one device; none for the fastest that is here.
        dtype: of the float inputs.
        seconds: for each call that is timed.
        quick: small shapes, and without torch.compile, whose compilation takes longer than all the rest.
        out: the folder.
        tell: takes one line for each example that is begun.
        overwrite, resume: whether the run that the folder holds may be replaced, or is gone on with: what it has
            measured, on this machine with this software, is kept.

    Raises BadInput for a name that is not there, Failure where a file cannot be written or where results of a backend
    were wrong. Stopped by Ctrl-C, it leaves the rows it has.
    """
    try:
        records = matching(operations)
    except ValueError as error:
        raise BadInput(str(error)) from error
    if dtype not in DTYPES:
        raise BadInput(f"--dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    if not (math.isfinite(seconds) and seconds > 0):
        raise BadInput(f"--seconds: expected a positive number, got {seconds}")
    device, used = _backends(records, chosen)
    if overwrite and resume:
        raise BadInput("--resume: expected without --overwrite, got both")
    folder = store.new_folder(Path(out), overwrite=overwrite or resume)
    settings = Settings(used, getattr(torch, dtype), device, seconds, quick=quick, compiled=not quick)
    rows: list[Row] = []
    wanted = cases(records, quick)
    if resume and (folder / store.ROWS).exists():
        wanted, rows = _left(wanted, settings, folder)
    try:
        rows.extend(run(wanted, settings, tell))
    except KeyboardInterrupt:
        tell(f"stopped; {folder} keeps what was measured, and the same command with --resume goes on")
        raise
    finally:
        results = store.Results(facts(), today(), rows)
        store.write(folder, results)
        path = page.write_page(folder, results)
    wrong = [row for row in rows if row.note.startswith("wrong")]
    if wrong:
        raise Failure(f"{len(wrong)} results are wrong and were not timed, the first: {wrong[0].operation} "
                      f"{wrong[0].shape} by {wrong[0].implementation}: {wrong[0].note}")
    return path


def _left(wanted: list[Case], settings: Settings, folder: Path) -> tuple[list[Case], list[Row]]:
    """The cases that the folder's run has not finished, and its rows of those that it has, of other cases too."""
    held, here = store.read(folder), facts()
    for name, value in here.items():
        if held.facts.get(name) != value:
            raise BadInput(f"--resume: {folder} was measured with {name} {held.facts.get(name)}, here it is {value}")
    done, rows = finished(cases(tuple(RECORDS.values()), settings.quick), settings, held.rows)
    return [case for case in wanted if case not in done], rows


def _backends(records: tuple[Record, ...], chosen: list[str]) -> tuple[str, tuple[str, ...]]:
    """The device and the backends to time on it."""
    known = backends.backends()
    for name in chosen:
        if name not in known:
            raise BadInput(f"--backend: expected one of {', '.join(known)}, got {name!r}")
        if not known[name].available:
            raise BadInput(f"--backend: {name} is not available: {known[name].reason}")
    devices = {known[name].device for name in chosen} - {"any"}
    if len(devices) > 1:
        raise BadInput(f"--backend: expected backends of one device, got {' and '.join(chosen)}")
    device = devices.pop() if devices else "cpu"
    if not chosen:
        chosen = list(dict.fromkeys(backends.resolve(record.operation, device) for record in records))
    return device, tuple(chosen)
