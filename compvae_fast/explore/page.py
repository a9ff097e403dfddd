"""The page: widgets that change the multiset, and figures of its whole that follow."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from html import escape
from importlib import resources

import jinja2
import numpy as np
import torch
from bokeh.document import Document
from bokeh.layouts import column, row
from bokeh.models import Button, Column, ColumnDataSource, Div, NumeralTickFormatter, Slider, Spinner, Toggle
from bokeh.plotting import figure

from compvae_fast.data import sines
from compvae_fast.data.households import CONTRACTS
from compvae_fast.training import Run

from .distribution import DRAWS, SHOWN, Distribution, context_of, distribution, nothing
from .multiset import MOST, Multiset

TRUE, MODEL, SAMPLE = "#1b1b1b", "#c2410c", "#57534e"
TRUE_UP_TO = 1000
BEGIN_WITH = {"sines": {1: 2, 5: 1, 7: 1}, "households": {label: 8 for label in range(1, 14)}}
DEGREES = 8
AXES = {"sines": "t", "households": "half hours from Monday, 0:00; kW"}
_BUTTONS = """
.bk-btn { border: 1px solid #d6d3d1; background: #fff; border-radius: 6px; font: inherit; color: #292524;
          padding: 0 .3rem; height: 30px; width: 100%; }
.bk-btn.bk-active { background: #ffedd5; border-color: #c2410c; }
.bk-btn:hover { background: #fff7ed; border-color: #c2410c; }
"""
_INPUTS = """
input.bk-input { border-radius: 6px; height: 30px; text-align: right; font: inherit;
                 font-variant-numeric: tabular-nums; }
"""
_LABELS = ".bk-clearfix { font-size: 13px; line-height: 30px; white-space: nowrap; }"
_NUMBERS = """
.numbers { display: flex; flex-wrap: wrap; gap: .4rem 2rem; padding: .3rem 0 .2rem; }
span { display: flex; flex-direction: column; font-variant-numeric: tabular-nums; }
b { font-size: 1.25rem; font-weight: 600; } small { font-size: .8rem; color: #57534e; }
i { font-style: normal; font-weight: 400; font-size: .8rem; color: #57534e; }
"""


class Page:
    """One visitor's page: what is on it, and what has been put together."""

    def __init__(self, document: Document, run: Run) -> None:
        self.document, self.run = document, run
        config = run.model.config
        self.multiset = nothing(run.model)
        for label, count in BEGIN_WITH[run.model.problem.name].items():
            self.multiset = self.multiset.put(label, count)
        self.seed = 0
        self.generator = np.random.default_rng(0)
        self._waits = self._writes = False
        self.curves = ColumnDataSource({name: [] for name in ("t", "mean", "low", "lower", "upper", "high")})
        self.truth = ColumnDataSource({name: [] for name in ("t", "mean", "low", "high")})
        self.samples = ColumnDataSource({"t": [], "x": []})
        self.peaks = ColumnDataSource({"left": [], "right": [], "draws": []})
        self._name_width = 64 if run.model.problem.name == "sines" else 116
        self.spinners = {label: self._spinner(label) for label in self.multiset.labels}
        self.numbers = Div(name="numbers", sizing_mode="stretch_width", stylesheets=[_NUMBERS])
        self.noise = Toggle(label="observation noise", width=128, stylesheets=[_BUTTONS])
        self.beside = Toggle(label="the truth beside it", width=128, stylesheets=[_BUTTONS])
        self.temperature = Slider(
            start=-15, end=35, value=DEGREES, step=1, title="temperature all week, \u00b0C", width=350,
            visible=run.model.problem.context > 0,
        )
        self.temperature.on_change("value", lambda attr, old, new: self.follow())
        self.beside.visible = run.model.problem.name == "sines"  # another truth takes seconds to simulate
        for toggle in (self.noise, self.beside):
            toggle.on_change("active", lambda attr, old, new: self.follow())
        document.title = f"CompVAE: {config.preset}"
        document.template = _template()
        document.template_variables.update(run=run, draws=DRAWS, shown=SHOWN)
        for root in (self._controls(), self.numbers, self._whole(), self._peak()):
            document.add_root(root)
        self.draw()

    def change(self, multiset: Multiset) -> None:
        """Show another multiset."""
        self.multiset = multiset
        self._writes = True
        for label, spinner in self.spinners.items():
            spinner.value = multiset.count(label)
        self._writes = False
        self.follow()

    def follow(self) -> None:
        """Draw once all that has just been asked for is in: fast typing costs one drawing, not many."""
        if not self._waits:
            self._waits = True
            self.document.add_next_tick_callback(self.draw)

    def draw(self) -> None:
        """Bring the figures and numbers up to date."""
        self._waits = False
        begun = time.perf_counter()
        seen = distribution(
            self.run.model, self.multiset, seed=self.seed, noise=self.noise.active,
            context=context_of(self.run.model, self.temperature.value),
        )
        t = np.arange(len(seen.mean))
        low, lower, upper, high = seen.quantiles
        self.curves.data = {"t": t, "mean": seen.mean, "low": low, "lower": lower, "upper": upper, "high": high}
        self.samples.data = {"t": [t] * len(seen.samples), "x": list(seen.samples)}
        counts, edges = seen.peak_histogram()
        self.peaks.data = {"left": edges[:-1], "right": edges[1:], "draws": counts}
        true = self._true()
        self.truth_s_name.visible = true is not None
        self.truth.data = {name: [] for name in ("t", "mean", "low", "high")}
        if true is not None:
            self.truth.data = {"t": t, "mean": true.mean, "low": true.quantiles[0], "high": true.quantiles[-1]}
        self.numbers.text = self._numbers(seen, true, time.perf_counter() - begun)

    def _true(self) -> Distribution | None:
        if not self.beside.active or not 0 < self.multiset.total <= TRUE_UP_TO:
            return None
        labels = np.repeat(self.multiset.labels, self.multiset.counts)
        return Distribution.of(sines.wholes(torch.from_numpy(labels).expand(DRAWS, -1), seed=self.seed))

    def _numbers(self, seen: Distribution, true: Distribution | None, seconds: float) -> str:
        cells = {
            "parts, K": f"{self.multiset.total:,}",
            "mean peak": _brief(seen.peaks.mean()),
            "peak, 1 in 20 above": _brief(np.quantile(seen.peaks, 0.95)),
            "deviation": _brief(seen.deviation),
            "made in": f"{1000 * seconds:.0f} ms",
        }
        if true is not None:
            cells["mean peak"] += f" <i>true {_brief(true.peaks.mean())}</i>"
            cells["deviation"] += f" <i>true {_brief(true.deviation)}</i>"
        elif self.beside.active and self.multiset.total > TRUE_UP_TO:
            cells["truth"] = f"drawn up to {TRUE_UP_TO:,} parts"
        shown = "".join(f"<span><b>{value}</b><small>{name}</small></span>" for name, value in cells.items())
        return f'<div class="numbers">{shown}</div>'

    def _spinner(self, label: int) -> Spinner:
        spinner = Spinner(
            value=self.multiset.count(label), low=0, high=MOST, step=1, mode="int", width=100, stylesheets=[_INPUTS],
            name=f"count-{label}",
        )
        spinner.on_change("value", partial(self._typed, label))
        return spinner

    def _typed(self, label: int, _name: str, _old, new) -> None:
        if not self._writes:
            self.change(self.multiset.put(label, new or 0))

    def _controls(self) -> Column:
        rows = []
        for label, spinner in self.spinners.items():
            steps = {
                "−": lambda label=label: self.multiset.add(label, -1),
                "+": lambda label=label: self.multiset.add(label),
                "×10": lambda label=label: self.multiset.put(label, 10 * self.multiset.count(label)),
            }
            less, more, times = (self._button(text, step, f"{text}{label}", 44) for text, step in steps.items())
            name = Div(text=_name(self.run, label), width=self._name_width, stylesheets=[_LABELS])
            rows.append(row(name, less, spinner, more, times))
        every = {
            "repeat all": lambda: self.multiset.repeated(2),
            "halve all": lambda: self.multiset.halved(),
            "8 random": lambda: self.multiset.drawn(8, self.generator),
            "clear": lambda: self.multiset.cleared(),
        }
        buttons = [self._button(text, step, text, 79) for text, step in every.items()]
        again = Button(label="new draws", width=78, stylesheets=[_BUTTONS], name="new draws")
        again.on_click(self._again)
        return column(self.temperature, *rows, row(*buttons), row(again, self.noise, self.beside), name="controls")

    def _button(self, text: str, step: Callable[[], Multiset], name: str, width: int) -> Button:
        button = Button(label=text, width=width, stylesheets=[_BUTTONS], name=name)
        button.on_click(lambda: self.change(step()))
        return button

    def _again(self) -> None:
        self.seed += 1
        self.follow()

    def _whole(self) -> figure:
        axis = AXES[self.run.model.problem.name]
        tools = "pan,wheel_zoom,box_zoom,reset,save,hover"
        plot = _figure(height=380, name="whole", x_axis_label=axis, tools=tools)
        plot.hover.tooltips = [("t", "@t"), ("mean", "@mean{0,0.00}"), ("9 in 10", "@low{0,0.00} to @high{0,0.00}")]
        plot.hover.mode = "vline"
        common = {"x": "t", "source": self.curves}
        plot.varea(y1="low", y2="high", fill_color=MODEL, fill_alpha=0.13, legend_label="9 in 10", **common)
        plot.varea(y1="lower", y2="upper", fill_color=MODEL, fill_alpha=0.2, legend_label="half", **common)
        plot.multi_line("t", "x", source=self.samples, line_color=SAMPLE, line_alpha=0.4, legend_label="draws")
        mean = plot.line(y="mean", line_color=MODEL, line_width=2.5, legend_label="mean", **common)
        plot.hover.renderers = [mean]
        for name in ("mean", "low", "high"):
            plot.line("t", name, source=self.truth, line_color=TRUE, line_dash="dashed", legend_label="truth")
        plot.legend.orientation = "horizontal"
        plot.legend.click_policy = "hide"
        plot.legend.border_line_color = None
        plot.legend.location = "left"
        plot.legend.padding = 0
        plot.add_layout(plot.legend[0], "above")
        plot.x_range.range_padding = 0
        self.truth_s_name = plot.legend.items[-1]
        return plot

    def _peak(self) -> figure:
        plot = _figure(height=210, name="peak", x_axis_label="peak of a whole, largest |x|", tools="save")
        plot.quad(
            left="left", right="right", top="draws", bottom=0, source=self.peaks, fill_color=MODEL, fill_alpha=0.55,
            line_color="#ffffff",
        )
        plot.y_range.start = 0
        return plot


def _figure(**options) -> figure:
    plot = figure(sizing_mode="stretch_width", **options)
    plot.toolbar.logo = None
    plot.outline_line_color = None
    plot.axis.ticker.desired_num_ticks = 7
    plot.grid.grid_line_color = "#eeeeee"
    plot.axis.formatter = NumeralTickFormatter(format="0.[00]a")
    plot.axis.axis_line_color = plot.axis.major_tick_line_color = plot.axis.minor_tick_line_color = "#a8a29e"
    plot.axis.axis_label_text_font_style = "normal"
    return plot


def _name(run: Run, label: int) -> str:
    """What a label is called beside its count."""
    if run.model.problem.name == "households" and run.model.config.num_labels > 1:
        return escape(str(CONTRACTS[label - 1].name))
    return f"label {label}"


def _brief(value: float) -> str:
    """Four digits, or as many as stand before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _template() -> jinja2.Template:
    # Bokeh's own templates, which this one extends, hand it markup that must stay as it is.
    source = resources.files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")
    return jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined).from_string(source)
