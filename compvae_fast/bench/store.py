"""The files of a run of the suite: rows as JSON and CSV, and the page that shows them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from compvae_fast.bench.suite import Row
from compvae_fast.training.errors import BadInput
from compvae_fast.training.files import reason, write_atomically, write_json

ROWS, TABLE, PAGE = "rows.json", "rows.csv", "index.html"
# What each line of the table repeats, so that lines of several machines may be put together.
MACHINE = ("processor", "threads", "GPU", "compvae_fast", "torch", "Python")


@dataclass(frozen=True)
class Results:
    """Rows of one run, the machine and the software that they were measured with, and when its last row was."""

    facts: dict[str, str]
    date: str
    rows: list[Row]


def new_folder(path: Path, *, overwrite: bool) -> Path:
    """``path`` as the folder of a run, made where it is not there.

    BadInput where it holds another run, or anything else of which a page of results might take the place, or cannot be.
    """
    holds_run = (path / ROWS).exists()
    if holds_run and not overwrite:
        raise BadInput(f"--out: {path} holds a run already; choose another folder, or pass --resume or --overwrite")
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not holds_run and any(path.iterdir()):
            raise BadInput(f"--out: {path} holds other files; choose a new or empty folder")
    except OSError as error:
        raise BadInput(f"--out: cannot make the folder {path}: {reason(error)}") from error
    return path


def write(folder: Path, results: Results) -> None:
    """Write rows.json and rows.csv into ``folder``; raises Failure where that fails."""
    write_json(folder / ROWS, asdict(results))
    write_atomically(folder / TABLE, as_csv(results).encode())


def read(folder: Path) -> Results:
    """The rows of a run; BadInput where ``folder`` holds none."""
    try:
        held = json.loads((folder / ROWS).read_text())
        return Results(held["facts"], held["date"], [Row(**row) for row in held["rows"]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder}: expected a folder with a {ROWS} of compvae_fast bench, got {error}") from error


def as_csv(results: Results) -> str:
    """One line a row, with the machine."""
    names = [field.name for field in fields(Row)]
    known = {name: results.facts[name] for name in MACHINE}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names + list(known))
    for row in results.rows:
        values = asdict(row)
        cells = [f"{v:.6g}" if isinstance(v, float) else "" if v is None else v for v in (values[n] for n in names)]
        writer.writerow(cells + list(known.values()))
    return text.getvalue()
