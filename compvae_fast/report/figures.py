"""The pictures that every problem's report has, and what its own are drawn with."""

from __future__ import annotations

import math
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .tables import DISTANCES

TRUE, MODEL, SECOND = "#1b1b1b", "#c2410c", "#1d4ed8"
TERMS = {
    "w": (r"parts, $\{w_i\}$", "#15803d"),
    "z": (r"$z$", SECOND),
    "x": (r"reconstruction, $x$", "#ca8a04"),
    "total": (r"$-$ELBO", TRUE),
}
RIVALS = {
    "floor": "#737373",
    "gaussian": "#7c3aed",
    "saturated": "#15803d",
    "independent": "#15803d",
    "moments": SECOND,
}
_TICKS = (0, *(float(f"{digit}e{power}") for power in range(-2, 4) for digit in (1, 2, 5) if (digit, power) != (1, -2)))
DASHES: dict[str, Any] = {"color": TRUE, "linewidth": 0.9, "linestyle": (0, (4, 2))}


def losses(rows: list[dict[str, Any]]) -> Figure:
    """The losses over the steps, in bits, on a logarithmic scale (linear within one bit of zero)."""
    figure, (axes,) = grid(1, 1, height=3.6)
    taken = [row for row in rows if row["total_bits"] is not None]
    steps = [row["step"] for row in taken]
    for name, (label, colour) in TERMS.items():
        # the sum is often all but x, which is to be seen beneath it
        line = (0, (4, 3)) if name == "total" else "-"
        values = [row[f"{name}_bits"] for row in taken]
        axes.plot(steps, values, color=colour, label=label, linewidth=1.3, linestyle=line)
    if not taken:
        axes.text(0.5, 0.5, "no row of the log yet", transform=axes.transAxes, ha="center", color="#666666")
        axes.set_axis_off()
        return figure
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_xlabel("step")
    axes.set_ylabel("bits per whole")
    axes.grid(True, which="major", color="#e5e5e5")
    axes.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def distances(rows: list[dict[str, Any]]) -> Figure:
    """Energy distances over the number of parts: the model beside what needs no learning."""
    figure, (axes,) = grid(1, 1, height=3.6)
    sizes = [row["k"] for row in rows]
    shown = {name: label for name, label in DISTANCES.items() if name in rows[0]}
    for name, label in shown.items():
        colour, width = (MODEL, 2.2) if name == "model" else (RIVALS[name], 1.2)
        values = [row[name] for row in rows]
        axes.plot(sizes, values, marker="o", markersize=4, label=label, color=colour, linewidth=width)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(k) for k in sizes])
    axes.set_yscale("symlog", linthresh=0.02, linscale=0.5)
    axes.minorticks_off()
    there = [row[name] for row in rows for name in shown if not math.isnan(row[name])]
    ticks = [tick for tick in _TICKS if tick <= max([2, *there])]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylim(bottom=min([-0.02, *there]))
    axes.set_xlabel("parts, K")
    axes.set_ylabel("energy distance")
    axes.grid(True, which="major", color="#e5e5e5")
    axes.legend(frameon=False, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=8)
    return figure


def band(axes: Axes, seen: torch.distributions.Normal, row: int, colour: str) -> None:
    """The mean of one whole and two standard deviations to each side."""
    mean, deviation = seen.mean[row], seen.stddev[row]
    axes.fill_between(
        range(len(mean)), mean - 2 * deviation, mean + 2 * deviation, color=colour, alpha=0.22, linewidth=0
    )
    axes.plot(mean, color=colour, linewidth=1.2)


def grid(rows: int, columns: int, *, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of small panels in the report's style, row by row; ``height`` of a row in inches."""
    figure = Figure(figsize=(8.0, height * rows), dpi=130, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel().tolist()
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=7, color="#a3a3a3")
        panel.margins(x=0.01)
    return figure, axes


def images(rows: int, columns: int) -> tuple[Figure, list[list]]:
    """A figure of panels for images, without ticks."""
    figure = Figure(figsize=(8.0, 8.0 * rows / columns), dpi=130, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for panel in axes.ravel():
        panel.set_xticks([])
        panel.set_yticks([])
        for spine in panel.spines.values():
            spine.set_color("#d6d3d1")
    return figure, axes.tolist()


def show(panel, image: torch.Tensor) -> None:
    """An image [3, H, W]; the first coordinate of a location runs to the right, the second down."""
    panel.imshow(image.clamp(0, 1).permute(1, 2, 0), extent=(-1, 1, 1, -1), interpolation="nearest")


def titled(axes: list[Axes], titles: tuple[str, ...]) -> None:
    """Puts titles above the first panels."""
    for panel, title in zip(axes, titles):
        panel.set_title(title, fontsize=10)


def listed(labels: list[int]) -> str:
    return ", ".join(map(str, labels))
