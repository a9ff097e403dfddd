"""What the page's figures have in common."""

from __future__ import annotations

import numpy as np
from bokeh.models import ColumnDataSource, NumeralTickFormatter
from bokeh.plotting import figure

TRUE, MODEL, SAMPLE = "#1b1b1b", "#c2410c", "#57534e"


def plain_figure(**options) -> figure:
    """A figure without frame, logo and heavy lines."""
    plot = figure(**{"sizing_mode": "stretch_width", **options})
    plot.toolbar.logo = None
    plot.outline_line_color = None
    plot.axis.ticker.desired_num_ticks = 7
    plot.grid.grid_line_color = "#eeeeee"
    plot.axis.formatter = NumeralTickFormatter(format="0.[00]a")
    plot.axis.axis_line_color = plot.axis.major_tick_line_color = plot.axis.minor_tick_line_color = "#a8a29e"
    plot.axis.axis_label_text_font_style = "normal"
    return plot


class Histogram:
    """How many draws have a number in each of equal bins."""

    def __init__(self, name: str, what: str) -> None:
        self.source = ColumnDataSource({"left": [], "right": [], "draws": []})
        self.figure = plain_figure(height=210, name=name, x_axis_label=what, tools="save")
        self.figure.quad(
            left="left", right="right", top="draws", bottom=0, source=self.source, fill_color=MODEL, fill_alpha=0.55,
            line_color="#ffffff",
        )
        self.figure.y_range.start = 0

    def show(self, values: np.ndarray) -> None:
        """Of these draws."""
        counts, edges = np.histogram(values, bins=min(len(values) // 8, 30))
        self.source.data = {"left": edges[:-1], "right": edges[1:], "draws": counts}


def brief(value: float) -> str:
    """Four digits, or as many as stand before the point.

    >>> brief(0.123456), brief(1234567.8)
    ('0.1235', '1,234,568')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
