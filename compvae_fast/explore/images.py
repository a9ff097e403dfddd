"""The distribution of wholes that are images: mean, deviation of each pixel, draws, and the law of their intensity."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from bokeh.events import Tap
from bokeh.layouts import row
from bokeh.models import BasicTicker, ColorBar, ColumnDataSource, LinearColorMapper, Range1d
from bokeh.plotting import figure

from compvae_fast.data import Problem

from .distribution import SHOWN, Distribution
from .figures import Histogram, brief, plain_figure
from .multiset import Multiset

# pixels to a unit of location
LARGE, SMALL = 106, 36
APART = 2.3
MARGIN = 1.05
# from no deviation to much
SHADES = [f"#{255 - round(0.24 * i):02x}{255 - round(0.74 * i):02x}{255 - i:02x}" for i in range(0, 244, 4)]


class ImageView:
    """Figures of images [3, H, W] over [-1, 1] across and down, parts with a location marked on their mean.

    Args:
        place: called with the location that was clicked on the mean, where parts have one.

    Attributes:
        draws: how many wholes the distribution is drawn of.
        roots: what stands on the page, from top to bottom.
    """

    draws = 128

    def __init__(self, problem: Problem, place: Callable[[float, float], object]) -> None:
        self.problem = problem
        self.mean, self.truth, self.samples, self.spread = (_images() for _ in range(4))
        self.marks = ColumnDataSource({name: [] for name in ("x", "y", "colour", "size", "count")})
        self.shades = LinearColorMapper(palette=SHADES, low=0, high=1)
        whole = _panel("whole", "mean; a click adds a part" if problem.features else "mean", tools="tap,hover")
        _paint(whole, self.mean)
        marks = whole.scatter(
            "x", "y", size="size", fill_color="colour", line_color="#a8a29e", line_width=2, source=self.marks
        )
        marks.nonselection_glyph = marks.selection_glyph = None
        whole.hover.renderers = [marks]
        whole.hover.tooltips = [("parts", "@count{0,0}"), ("at", "@x{0.00}, @y{0.00}")]
        if problem.features:
            whole.on_event(Tap, lambda event: place(event.x, event.y))
        spread = _panel("spread", "deviation of each pixel")
        spread.image(image="image", x="x", y="y", dw="side", dh="side", source=self.spread, color_mapper=self.shades)
        ticks = BasicTicker(desired_num_ticks=3)
        spread.add_layout(ColorBar(color_mapper=self.shades, height=8, padding=0, ticker=ticks), "below")
        self.true = _panel("truth", "truth, mean")
        _paint(self.true, self.truth)
        self.true.visible = False
        drawn = _panel("draws", "draws", scale=SMALL, images=SHOWN)
        _paint(drawn, self.samples)
        self.intensities = Histogram("intensity", "intensity of a whole, mean of all its values")
        self.roots = [row(whole, spread, self.true, spacing=12), row(drawn), self.intensities.figure]

    def show(self, multiset: Multiset, seen: Distribution, true: Distribution | None) -> None:
        """The distribution of a multiset's whole, and the true one where there is one."""
        shape = self.problem.shape
        self.mean.data = _placed([_rgba(seen.mean.reshape(shape))])
        self.samples.data = _placed([_rgba(sample.reshape(shape)) for sample in seen.samples])
        spread = np.sqrt(np.square(seen.spread.reshape(shape)).mean(0))
        self.shades.high = max(float(spread.max()), 1e-3)
        self.spread.data = _placed([spread])
        self.intensities.show(seen.intensities)
        self.true.visible = true is not None
        self.truth.data = _placed([] if true is None else [_rgba(true.mean.reshape(shape))])
        located = [(part, count) for part, count in zip(multiset.parts, multiset.counts) if len(part.features) == 2]
        self.marks.data = {
            "x": [part.features[0] for part, _ in located],
            "y": [part.features[1] for part, _ in located],
            "colour": [self.problem.label_colour(part.label) for part, _ in located],
            "size": [9 + 2 * np.log10(count) for _, count in located],
            "count": [count for _, count in located],
        }

    def numbers(self, seen: Distribution) -> dict[str, str]:
        """What the distribution comes to, by caption."""
        return {
            "mean intensity": brief(seen.intensities.mean()),
            "intensity, 1 in 20 above": brief(np.quantile(seen.intensities, 0.95)),
            "deviation": brief(seen.deviation),
        }


def _images() -> ColumnDataSource:
    return ColumnDataSource({name: [] for name in ("image", "x", "y", "side")})


def _panel(name: str, title: str, *, scale: int = LARGE, images: int = 1, tools: str = "") -> figure:
    """Of images side by side; the second coordinate of a location runs down."""
    right = APART * (images - 1) + MARGIN
    plot = plain_figure(
        name=name, title=title, tools=tools, toolbar_location=None, sizing_mode=None, min_border=0,
        frame_width=round(scale * (right + MARGIN)), frame_height=round(scale * 2 * MARGIN),
        x_range=Range1d(-MARGIN, right), y_range=Range1d(MARGIN, -MARGIN),
    )
    plot.axis.visible = plot.grid.visible = False
    plot.title.text_font_style = "normal"
    return plot


def _paint(plot: figure, source: ColumnDataSource) -> None:
    plot.image_rgba(image="image", x="x", y="y", dw="side", dh="side", source=source)


def _placed(images: list[np.ndarray]) -> dict[str, list]:
    """Images side by side; their outermost pixels' centres lie at -1 and 1."""
    half = [1 / (image.shape[0] - 1) for image in images]
    return {
        "image": images,
        "x": [APART * i - 1 - beyond for i, beyond in enumerate(half)],
        "y": [-1 - beyond for beyond in half],
        "side": [2 + 2 * beyond for beyond in half],
    }


def _rgba(image: np.ndarray) -> np.ndarray:
    """[3, H, W] in [0, 1] as Bokeh takes it: [H, W], four bytes a pixel."""
    pixels = np.full((*image.shape[1:], 4), 255, dtype=np.uint8)
    pixels[..., :3] = np.rint(255 * image.clip(0, 1)).transpose(1, 2, 0)
    return pixels.view(np.uint32).squeeze(-1)
