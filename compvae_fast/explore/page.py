"""The page: widgets that change the multiset, and figures of its whole that follow."""

from __future__ import annotations

import time
from importlib import resources

import jinja2
from bokeh.document import Document
from bokeh.layouts import column, row
from bokeh.models import Button, Column, Div, Slider, Toggle

from compvae_fast.training import Run

from .controls import BUTTONS, Controls
from .curves import CurveView
from .distribution import Distribution, context_of, distribution, true_distribution
from .images import ImageView

DEGREES = 8
_NUMBERS = """
.numbers { display: flex; flex-wrap: wrap; gap: .4rem 2rem; padding: .3rem 0 .2rem; }
span { display: flex; flex-direction: column; font-variant-numeric: tabular-nums; }
b { font-size: 1.25rem; font-weight: 600; } small { font-size: .8rem; color: #57534e; }
i { font-style: normal; font-weight: 400; font-size: .8rem; color: #57534e; }
"""


class Page:
    """One visitor's page: what is on it, and what has been put together."""

    def __init__(self, document: Document, run: Run) -> None:
        self.document, self.run, self.problem = document, run, run.model.problem
        self.seed = 0
        self._waits = False
        self.controls = Controls(run.model, self.follow)
        curves = len(self.problem.shape) == 1
        self.view = CurveView(self.problem) if curves else ImageView(self.problem, self.controls.place)
        self.numbers = Div(name="numbers", sizing_mode="stretch_width", stylesheets=[_NUMBERS])
        self.noise = Toggle(label="observation noise", width=128, stylesheets=[BUTTONS])
        self.beside = Toggle(label="the truth beside it", width=128, stylesheets=[BUTTONS])
        self.beside.visible = self.problem.true_up_to > 0
        self.temperature = Slider(
            start=-15, end=35, value=DEGREES, step=1, title="temperature all week, \u00b0C", width=350,
            visible=self.problem.context > 0,
        )
        self.temperature.on_change("value", lambda attr, old, new: self.follow())
        for toggle in (self.noise, self.beside):
            toggle.on_change("active", lambda attr, old, new: self.follow())
        document.title = f"CompVAE: {run.model.config.preset}"
        document.template = _template()
        document.template_variables.update(run=run, draws=self.view.draws)
        shown = column(self.numbers, *self.view.roots, name="shown", sizing_mode="stretch_width")
        for root in (self._left(), shown):
            document.add_root(root)
        self.draw()

    def follow(self) -> None:
        """Draw once all that has just been asked for is in: fast typing costs one drawing, not many."""
        if not self._waits:
            self._waits = True
            self.document.add_next_tick_callback(self.draw)

    def draw(self) -> None:
        """Bring the figures and numbers up to date."""
        self._waits = False
        begun = time.perf_counter()
        context = context_of(self.run.model, self.temperature.value)
        multiset, draws, noise = self.controls.multiset, self.view.draws, bool(self.noise.active)
        seen = distribution(self.run.model, multiset, draws=draws, seed=self.seed, noise=noise, context=context)
        true = None
        if self.beside.active and 0 < multiset.total <= self.problem.true_up_to:
            true = true_distribution(self.problem, multiset, draws=draws, seed=self.seed, context=context)
        self.view.show(multiset, seen, true)
        self.numbers.text = self._numbers(seen, true, time.perf_counter() - begun)

    def _numbers(self, seen: Distribution, true: Distribution | None, seconds: float) -> str:
        total, most = self.controls.multiset.total, self.problem.true_up_to
        cells = {"parts, K": f"{total:,}", **self.view.numbers(seen), "made in": f"{1000 * seconds:.0f} ms"}
        if true is not None:
            for name, value in self.view.numbers(true).items():
                cells[name] += f" <i>true {value}</i>"
        elif self.beside.active and total > most:
            cells["truth"] = f"drawn up to {most:,} parts"
        shown = "".join(f"<span><b>{value}</b><small>{name}</small></span>" for name, value in cells.items())
        return f'<div class="numbers">{shown}</div>'

    def _left(self) -> Column:
        again = Button(label="new draws", width=78, stylesheets=[BUTTONS], name="new draws")
        again.on_click(self._again)
        return column(self.temperature, self.controls.root, row(again, self.noise, self.beside), name="controls")

    def _again(self) -> None:
        self.seed += 1
        self.follow()


def _template() -> jinja2.Template:
    # Bokeh's own templates, which this one extends, hand it markup that must stay as it is.
    source = resources.files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")
    return jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined).from_string(source)
