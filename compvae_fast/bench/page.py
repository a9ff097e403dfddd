"""The page of a run of the suite."""

from __future__ import annotations

import io
from importlib import resources
from itertools import groupby
from pathlib import Path

import jinja2

from compvae_fast.bench import figures
from compvae_fast.bench.contestants import COMPILED, EAGER, PREFIX
from compvae_fast.bench.store import PAGE, Results
from compvae_fast.bench.suite import COPY, MATRIX, Row
from compvae_fast.training.files import write_atomically

PICTURES = {"roofline": figures.roofline, "scaling": figures.scaling}


def write_page(folder: Path, results: Results) -> Path:
    """Write index.html and its pictures into ``folder``; gives the page's path. Raises Failure where that fails."""
    for name, draw in PICTURES.items():
        buffer = io.BytesIO()
        draw(results.rows).savefig(buffer, format="png")
        write_atomically(folder / f"{name}.png", buffer.getvalue())
    page = _template().render(results=results, tables=tables(results.rows), milliseconds=milliseconds, share=share)
    write_atomically(folder / PAGE, page.encode())
    return folder / PAGE


def tables(rows: list[Row]) -> dict[str, list[dict]]:
    """For each operation the lines of its table: one for each of our backends, beside plain PyTorch and the others."""
    found: dict[str, list[dict]] = {}
    measured = [row for row in rows if row.operation != MATRIX and not row.series]
    for _, group in groupby(measured, key=lambda r: (r.operation, r.options, r.shape, r.dtype, r.direction)):
        case = {row.implementation: row for row in group}
        rivals = {name: row for name, row in case.items() if name not in (COPY, EAGER, COMPILED)}
        ours = {name: rivals.pop(name) for name in list(rivals) if name.startswith(PREFIX)}
        for row in ours.values():
            found.setdefault(row.operation, []).append(
                {"row": row, "eager": case.get(EAGER), "compiled": case.get(COMPILED), "others": list(rivals.values())})
    return found


def milliseconds(row: Row | None) -> str:
    """
    >>> milliseconds(None)
    '-'
    """
    if row is None:
        return "-"
    if row.median_ms is None:
        return row.note
    return f"{row.median_ms:.3g}" if row.median_ms < 100 else f"{row.median_ms:.0f}"


def share(value: float | None) -> str:
    """A fraction as a percentage, a dash where there is none."""
    return "-" if value is None else f"{100 * value:.0f} %"


def _template() -> jinja2.Template:
    source = resources.files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source)
