"""The distribution of wholes that are curves: mean, band, draws, and the law of their peak."""

from __future__ import annotations

import numpy as np
from bokeh.models import ColumnDataSource
from bokeh.plotting import figure

from compvae_fast.data import Problem

from .distribution import Distribution
from .figures import MODEL, SAMPLE, TRUE, Histogram, brief, plain_figure
from .multiset import Multiset


class CurveView:
    """Figures of curves.

    Attributes:
        draws: how many wholes the distribution is drawn of.
        roots: what stands on the page, from top to bottom.
    """

    draws = 512

    def __init__(self, problem: Problem) -> None:
        self.curves = ColumnDataSource({name: [] for name in ("t", "mean", "low", "lower", "upper", "high")})
        self.truth = ColumnDataSource({name: [] for name in ("t", "mean", "low", "high")})
        self.samples = ColumnDataSource({"t": [], "x": []})
        self.whole = self._whole(problem.axis)
        self.peaks = Histogram("peak", "peak of a whole, largest |x|")
        self.roots = [self.whole, self.peaks.figure]

    def show(self, multiset: Multiset, seen: Distribution, true: Distribution | None) -> None:
        """The distribution of a multiset's whole, and the true one where there is one."""
        t = np.arange(len(seen.mean))
        low, lower, upper, high = seen.quantiles
        self.curves.data = {"t": t, "mean": seen.mean, "low": low, "lower": lower, "upper": upper, "high": high}
        self.samples.data = {"t": [t] * len(seen.samples), "x": list(seen.samples)}
        self.peaks.show(seen.peaks)
        self.name_of_truth.visible = true is not None
        self.truth.data = {name: [] for name in ("t", "mean", "low", "high")}
        if true is not None:
            self.truth.data = {"t": t, "mean": true.mean, "low": true.quantiles[0], "high": true.quantiles[-1]}

    def numbers(self, seen: Distribution) -> dict[str, str]:
        """What the distribution comes to, by caption."""
        return {
            "mean peak": brief(seen.peaks.mean()),
            "peak, 1 in 20 above": brief(np.quantile(seen.peaks, 0.95)),
            "deviation": brief(seen.deviation),
        }

    def _whole(self, axis: str) -> figure:
        tools = "pan,wheel_zoom,box_zoom,reset,save,hover"
        plot = plain_figure(height=380, name="whole", x_axis_label=axis, tools=tools)
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
        self.name_of_truth = plot.legend.items[-1]
        return plot
