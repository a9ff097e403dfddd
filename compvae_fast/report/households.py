"""Pictures of neighbourhoods: reconstructions scale by scale, generated weeks, and the grid's measures."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from compvae_fast.models import CompVAE
from compvae_fast.random import fold

from .figures import DASHES, MODEL, SECOND, TRUE, grid, titled
from .household_measures import Cases

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
NAMES = {"peak": "peak", "sustained": "peak sustained for 8 h", "flexibility": "flexibility"}
DRAWS = 4


@torch.no_grad()
def household_reconstructions(model: CompVAE, seed: int, k: int = 100) -> Figure:
    """X1, X2 given the true X1, and X2 given a drawn X1: means, two deviations and the truth (thesis fig. 9.13 a-c)."""
    cases = Cases(model, 1, k, k, seed)
    seen = cases.reconstructed()
    pyramid = seen.pyramid
    x, x1 = cases.x, pyramid.down(cases.x)
    rough = pyramid.down(seen.draw(fold(seed, 1)))
    spread = pyramid.down(seen.stddev)
    figure, axes = grid(3, 1, height=1.9)
    panels = (
        ("X1, hourly means", x1, pyramid.down(seen.mean), spread),
        ("the curve given the true X1", x, seen.given(x1), None),
        ("the curve given an X1 drawn from the latents", x, seen.given(rough), seen.stddev),
    )
    for panel, (title, true, mean, deviation) in zip(axes, panels):
        hours = torch.arange(true.shape[1]) * (168 / true.shape[1])
        if deviation is not None:
            low, high = mean[0] - 2 * deviation[0], mean[0] + 2 * deviation[0]
            panel.fill_between(hours, low, high, color=MODEL, alpha=0.22, linewidth=0)
        panel.plot(hours, mean[0], color=MODEL, linewidth=1.2)
        panel.plot(hours, true[0], **DASHES)
        panel.set_title(title, fontsize=9, loc="left")
    in_days(axes, "kW")
    return figure


@torch.no_grad()
def household_weeks(model: CompVAE, seed: int, sizes: tuple[int, ...] = (50, 150, 300)) -> Figure:
    """Generated weeks beside true ones of the same contracts and temperature, one row a size (thesis fig. 9.13 d)."""
    figure, axes = grid(len(sizes), 2, height=1.7)
    for row, k in enumerate(sizes):
        cases = Cases(model, 1, k, k, fold(seed, k))
        labels, context = cases.labels.expand(DRAWS, -1), cases.context.expand(DRAWS, -1)
        true = cases.town.wholes(labels, context=context, seed=cases.seed)
        made = model.generate(labels, context=context, seed=cases.seed)
        limit = 1.05 * float(torch.cat([true, made]).max())
        for panel, x, colour in ((axes[2 * row], true, TRUE), (axes[2 * row + 1], made, MODEL)):
            for draw, line in enumerate(x):
                panel.plot(torch.arange(336) / 2, line, color=colour, linewidth=0.8, alpha=1.0 - 0.2 * draw)
            panel.set_ylim(0, limit)
        axes[2 * row].set_ylabel(f"K = {k}, kW", fontsize=9)
    titled(axes, ("true", "generated"))
    in_days(axes)
    return figure


def grid_histograms(found: dict[str, tuple[Tensor, Tensor]]) -> Figure:
    """``grid_measures`` as histograms, true and generated (thesis fig. 9.14)."""
    figure = Figure(figsize=(8.0, 2.4), dpi=130, layout="constrained")
    for panel, (name, (true, made)) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items()):
        low, high = float(torch.cat([true, made]).min()), float(torch.cat([true, made]).max())
        edges = torch.linspace(low, high, 41).tolist()
        panel.hist(true, edges, color=TRUE, alpha=0.45, label="true", density=True)
        panel.hist(made, edges, color=MODEL, alpha=0.45, label="generated", density=True)
        panel.set_xlabel(f"{NAMES[name]}, kW per household", fontsize=8)
        panel.tick_params(labelsize=7)
        panel.set_yticks([])
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.legend(frameon=False, fontsize=7)
    return figure


@torch.no_grad()
def temperature_response(model: CompVAE, seed: int, k: int = 100, degrees: tuple[float, ...] = (-5, 5, 15)) -> Figure:
    """The mean week of one neighbourhood at temperatures that are the same all week, true and generated."""
    cases = Cases(model, 1, k, k, seed)
    figure, axes = grid(1, 2, height=2.4)
    colours = (SECOND, TRUE, MODEL)
    for value, colour in zip(degrees, colours):
        context = torch.full((32, 168), float(value))
        labels = cases.labels.expand(32, -1)
        true = cases.town.wholes(labels, context=context, seed=seed)
        made = model.generate(labels, context=context, seed=seed)
        for panel, x in zip(axes, (true, made)):
            panel.plot(torch.arange(336) / 2, x.mean(0), color=colour, linewidth=1.0, label=f"{value:g} °C")
    axes[0].legend(frameon=False, fontsize=7, ncols=len(degrees), loc="lower center")
    limit = max(panel.get_ylim()[1] for panel in axes)
    for panel in axes:
        panel.set_ylim(-0.15 * limit, limit)
    titled(axes, ("true", "generated"))
    in_days(axes, "kW")
    return figure


def in_days(axes, unit: str = "") -> None:
    """Names the days of an axis in hours."""
    for panel in axes:
        panel.set_xticks([24 * day + 12 for day in range(7)], DAYS)
        if unit:
            panel.set_ylabel(unit, fontsize=9)
