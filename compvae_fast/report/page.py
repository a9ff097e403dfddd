"""The report of a run: one page, pictures included, beside the run."""

from __future__ import annotations

import base64
import datetime
import importlib
import io
import os
from importlib import resources
from pathlib import Path

import jinja2
from matplotlib.figure import Figure

from compvae_fast.training import Run
from compvae_fast.training.errors import BadInput
from compvae_fast.training.files import write_atomically, write_json

from .info import facts
from .measures import check_measured
from .tables import figure

_MODULES = {"sines": "sines", "dots": "dots", "households": "neighbourhoods"}


def write_report(run: Run, *, n: int = 1000, multisets: int = 4, importance: int = 16, seed: int = 0) -> Path:
    """Write RUN/index.html, which holds its pictures, and the numbers (RUN/measures.json); returns the page's path.

    Args:
        run: from ``load_run``.
        n, multisets, importance: as ``measure`` takes them.
        seed: of numbers and pictures.

    Raises BadInput for numbers that are too small and for a single checkpoint, which has no folder of its own, Failure
    where writing fails.
    """
    check_measured(n=n, multisets=multisets, importance=importance, seed=seed)
    if not run.path.is_dir():
        raise BadInput(f"run: expected a run folder, got the file {run.path}")
    if not os.access(run.path, os.W_OK):
        raise BadInput(f"run: {run.path} cannot be written, and the report has its place there")
    of_problem = importlib.import_module(f".{_MODULES[run.model.problem.name]}", __package__)
    chapter = of_problem.chapter(run, n=n, multisets=multisets, importance=importance, seed=seed)
    write_json(run.path / "measures.json", {"step": run.step, **chapter.numbers})
    page = _template().render(
        run=run,
        config=run.config,
        chapter=chapter,
        embedded=_embedded,
        figure=figure,
        facts=facts(),
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    path = run.path / "index.html"
    write_atomically(path, page.encode())
    return path


def _embedded(picture: Figure) -> str:
    """A picture as a URL that is its own content, so that the page is one file."""
    buffer = io.BytesIO()
    picture.savefig(buffer, format="png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _template() -> jinja2.Template:
    source = resources.files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source)
