"""The pictures of a run of the suite."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from compvae_fast.bench.contestants import EAGER, PREFIX
from compvae_fast.bench.suite import COPY, MATRIX, Row

SERIES = {"K": "parts, K", "B": "sets, B", "D": "coordinates, D"}
COLOURS = ("#c2410c", "#1d4ed8", "#15803d", "#7c3aed", "#ca8a04", "#0e7490", "#be185d", "#57534e", "#65a30d", "#818cf8",
           "#7f1d1d", "#2dd4bf")
INK, GREY = "#1b1b1b", "#a8a29e"


def colours(rows: list[Row]) -> dict[str, str]:
    """A colour for each operation, the same in every picture."""
    names = dict.fromkeys(row.operation for row in rows if row.operation != MATRIX)
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}


def roofline(rows: list[Row]) -> Figure:
    """Operations a second over operations a byte: ours filled, eager hollow, under a copy's bandwidth and a matrix
    product's rate."""
    figure, (axes,) = _panels(1, height=4.6)
    timed = [(row, row.operations_per_byte, row.gops) for row in rows
             if row.gops and row.operations_per_byte and not row.series]
    copies = [(row.gb_per_s * row.median_ms, row.gb_per_s) for row in rows
              if row.implementation == COPY and row.gb_per_s and row.median_ms]
    peak = next((row.gops for row in rows if row.operation == MATRIX), None)
    if timed and copies and peak:
        _, bandwidth = max(copies)  # of the largest one: small copies stay in the caches
        intensities = [intensity for _, intensity, _ in timed]
        ends = min(intensities) / 2, max(*intensities, peak / bandwidth) * 2
        axes.loglog([ends[0], peak / bandwidth, ends[1]], [ends[0] * bandwidth, peak, peak], color=INK, linewidth=1.4)
        axes.text(1.05 * ends[0], 1.2 * ends[0] * bandwidth, f"copy, {bandwidth:.0f} GB/s", fontsize=8,
                  rotation=math.degrees(math.atan(bandwidth)), rotation_mode="anchor", transform_rotates_text=True)
        axes.annotate(f"matrix product, {peak:.0f} Gop/s", (ends[1], peak), xytext=(-4, 4), textcoords="offset points",
                      ha="right", fontsize=8)
    for name, colour in colours(rows).items():
        for mine, style in ((True, {}), (False, {"markerfacecolor": "none"})):
            points = [(intensity, rate) for row, intensity, rate in timed if row.operation == name
                      and (row.implementation.startswith(PREFIX) if mine else row.implementation == EAGER)]
            if points:
                axes.loglog(*zip(*points), linestyle="", marker="o", markersize=5, color=colour, alpha=0.8,
                            label=name if mine else None, **style)
    axes.set(xscale="log", yscale="log")  # where there is nothing to draw as well
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))  # the others' numbers would lie on each other
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.tick_params(which="minor", labelsize=6)
    axes.set_xlabel("operations a byte that must be moved")
    axes.set_ylabel("Gop/s")
    _legend(axes)
    return figure


def scaling(rows: list[Row]) -> Figure:
    """Time over K, B and D, each with the other two fixed: ours in full lines, eager dotted."""
    figure, panels = _panels(len(SERIES), height=3.6)
    for axes, (series, label) in zip(panels, SERIES.items()):
        for name, colour in colours([row for row in rows if row.series]).items():
            for mine, style in ((True, "-"), (False, ":")):
                points = sorted((getattr(row, series), row.median_ms) for row in rows
                                if row.series == series and row.operation == name and row.median_ms is not None
                                and (row.implementation.startswith(PREFIX) if mine else row.implementation == EAGER))
                if points:
                    axes.loglog(*zip(*points), linestyle=style, marker="o", markersize=3, color=colour, linewidth=1.2,
                                label=name if mine and axes is panels[0] else None)
                    axes.set_xscale("log", base=2)
        axes.set_xlabel(label)
    panels[0].set_ylabel("ms a call, forward")
    known = panels[0].get_legend_handles_labels()
    figure.legend(*known, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _panels(columns: int, *, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(8.4, height), dpi=130, layout="constrained")
    panels = figure.subplots(1, columns, squeeze=False, sharey=True).ravel().tolist()
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True, which="major", color="#e7e5e4", linewidth=0.7)
        axes.tick_params(labelsize=8)
    return figure, panels


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
