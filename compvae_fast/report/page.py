"""The report of a run: one page and its pictures, beside the run."""

from __future__ import annotations

import datetime
import io
from importlib import resources
from pathlib import Path

import jinja2

from compvae_fast.training import Run
from compvae_fast.training.errors import BadInput
from compvae_fast.training.files import write_atomically, write_json

from . import figures
from .info import facts
from .measures import measure, measure_edits
from .tables import COLUMNS, EDIT_COLUMNS, figure
from .verdict import shortfalls


def write_report(run: Run, *, n: int = 1000, multisets: int = 4, importance: int = 16, seed: int = 0) -> Path:
    """Write RUN/index.html, its PNGs and the numbers (RUN/measures.json); returns the page's path.

    Args:
        run: from ``load_run``.
        n, multisets, importance: as ``measure`` takes them.
        seed: of numbers and pictures.

    Raises BadInput for a single checkpoint, which has no folder of its own, Failure where writing fails.
    """
    if not run.path.is_dir():
        raise BadInput(f"run: expected a run folder, got the file {run.path}")
    rows = measure(run.model, n=n, multisets=multisets, importance=importance, seed=seed)
    edits = measure_edits(run.model, seed=seed)
    write_json(run.path / "measures.json", {"step": run.step, "rows": rows, "edits": edits})
    sizes = [2**i for i in range((2 * run.config.recipe.k_max).bit_length())]
    pictures = {
        "losses": figures.losses(run.rows),
        "distances": figures.distances(rows),
        "generated": figures.generated(run.model, sizes, seed),
        "composition": figures.composition(run.model, seed),
        "parts": figures.single_parts(run.model, seed),
        "reconstructions": figures.reconstructions(run.model, sizes, seed),
        "editing": figures.editing(run.model, seed),
    }
    for name, picture in pictures.items():
        buffer = io.BytesIO()
        picture.savefig(buffer, format="png")
        write_atomically(run.path / f"{name}.png", buffer.getvalue())
    page = _template().render(
        run=run,
        config=run.config,
        n=n,
        multisets=multisets,
        importance=importance,
        rows=rows,
        columns=COLUMNS,
        edits=edits,
        edit_columns=EDIT_COLUMNS,
        figure=figure,
        shortfalls=shortfalls(rows),
        facts=facts(),
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    path = run.path / "index.html"
    write_atomically(path, page.encode())
    return path


def _template() -> jinja2.Template:
    source = resources.files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source)
