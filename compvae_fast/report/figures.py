"""The report's pictures, one function each."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from compvae_fast.data import sines
from compvae_fast.models import CompVAE
from compvae_fast.random import fold

from .measures import EditCase
from .tables import DISTANCES

TRUE, MODEL, SECOND = "#1b1b1b", "#c2410c", "#1d4ed8"
TERMS = {
    "w": (r"parts, $\{w_i\}$", "#15803d"),
    "z": (r"$z$", SECOND),
    "x": (r"reconstruction, $x$", "#ca8a04"),
    "total": (r"$-$ELBO", TRUE),
}
RIVALS = {"floor": "#737373", "gaussian": "#7c3aed", "saturated": "#15803d", "moments": SECOND}
COMPOSED = (2, 5, 1, 7, 3, 10)
SHOWN_LABELS = (1, 2, 4, 7)
EDITED_SIZES = (2, 4, 8)
DRAWS = 4
DASHES: dict[str, Any] = {"color": TRUE, "linewidth": 0.9, "linestyle": (0, (4, 2))}


def losses(rows: list[dict[str, Any]]) -> Figure:
    """The losses over the steps, in bits, on a logarithmic scale (linear within one bit of zero)."""
    figure, (axes,) = _grid(1, 1, height=3.6)
    taken = [row for row in rows if row["total_bits"] is not None]
    steps = [row["step"] for row in taken]
    for name, (label, colour) in TERMS.items():
        axes.plot(steps, [row[f"{name}_bits"] for row in taken], color=colour, label=label, linewidth=1.3)
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_xlabel("step")
    axes.set_ylabel("bits per whole")
    axes.grid(True, which="major", color="#e5e5e5")
    axes.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def distances(rows: list[dict[str, Any]]) -> Figure:
    """Energy distances over the number of parts: the model beside what needs no learning."""
    figure, (axes,) = _grid(1, 1, height=3.6)
    sizes = [row["k"] for row in rows]
    for name, label in DISTANCES.items():
        colour, width = (MODEL, 2.2) if name == "model" else (RIVALS[name], 1.2)
        values = [row[name] for row in rows]
        axes.plot(sizes, values, marker="o", markersize=4, label=label, color=colour, linewidth=width)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(k) for k in sizes])
    axes.set_yscale("symlog", linthresh=0.02, linscale=0.5)
    ticks = (0, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.set_ylim(bottom=min(-0.02, *(row[name] for row in rows for name in DISTANCES)))
    axes.set_xlabel("parts, K")
    axes.set_ylabel("energy distance")
    axes.grid(True, which="major", color="#e5e5e5")
    axes.legend(frameon=False, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=8)
    return figure


@torch.no_grad()
def composition(model: CompVAE, seed: int) -> Figure:
    """Parts drawn from their prior, and the wholes as they come together, one row a part."""
    parts = model.prior_parts(list(COMPOSED), seed=seed)
    figure, axes = _grid(len(COMPOSED), 2, height=1.25)
    for row, label in enumerate(COMPOSED):
        alone = model.decode(parts.subset([row]))
        together = model.decode(parts.subset(range(row + 1)))
        for panel, seen, colour in ((axes[2 * row], alone, SECOND), (axes[2 * row + 1], together, MODEL)):
            _band(panel, seen, 0, colour)
        axes[2 * row].set_ylabel(f"label {label}", fontsize=9)
        axes[2 * row + 1].set_ylabel(f"K = {row + 1}", fontsize=9)
    _titles(axes, ("the part alone", "all parts so far"))
    return figure


@torch.no_grad()
def single_parts(model: CompVAE, seed: int) -> Figure:
    """Several draws of one part, the model's beside true ones, one row a label; the first of two equal periods."""
    figure, axes = _grid(len(SHOWN_LABELS), 2, height=1.4)
    for row, label in enumerate(SHOWN_LABELS):
        _beside(
            axes[2 * row : 2 * row + 2], model, torch.tensor([label]), fold(seed, label), f"label {label}", sines.PERIOD
        )
    _titles(axes, ("true", "generated"))
    return figure


@torch.no_grad()
def generated(model: CompVAE, sizes: list[int], seed: int) -> Figure:
    """Generated wholes beside true ones of the same labels, one row a number of parts."""
    figure, axes = _grid(len(sizes), 2, height=1.4)
    for row, k in enumerate(sizes):
        labels, _ = sines.sample_labels(1, k, k_min=k, k_per_batch=1, seed=fold(seed, k))
        _beside(axes[2 * row : 2 * row + 2], model, labels[0], fold(seed, k), f"K = {k}", sines.LENGTH)
    _titles(axes, ("true", "generated"))
    return figure


@torch.no_grad()
def reconstructions(model: CompVAE, sizes: list[int], seed: int) -> Figure:
    """True wholes, and the mean of p(x | z, w~) of their encoding with its band of two deviations."""
    figure, axes = _grid((len(sizes) + 1) // 2, 2, height=1.7)
    for panel, k in zip(axes, sizes):
        case = sines.draw(1, k, k_min=k, k_per_batch=1, seed=fold(seed, k))
        seen = model.decode(model.encode(case.x, case.labels, seed=seed))
        _band(panel, seen, 0, MODEL)
        panel.plot(case.x[0], **DASHES)
        panel.set_ylabel(f"K = {k}", fontsize=9)
    return figure


@torch.no_grad()
def editing(model: CompVAE, seed: int) -> Figure:
    """Observed wholes with their last part taken away, and with another one put in, beside the truth."""
    figure, axes = _grid(len(EDITED_SIZES), 3, height=1.7)
    for row, k in enumerate(EDITED_SIZES):
        case = EditCase.draw(model, 1, k, fold(seed, k))
        labels = case.labels[0].tolist()
        true = (case.whole, case.without_last, case.with_single)
        captions = (f"labels {_listed(labels[:-1])}", f"{labels[-2]} removed", f"{labels[-1]} added")
        for panel, seen, x, caption in zip(
            axes[3 * row : 3 * row + 3], (case.decoded, case.removed, case.added), true, captions
        ):
            _band(panel, seen, 0, MODEL)
            panel.plot(x[0], **DASHES)
            panel.set_title(caption, fontsize=8, loc="left")
    return figure


def _beside(axes: list[Axes], model: CompVAE, labels: Tensor, seed: int, caption: str, length: int) -> None:
    """True and generated wholes of one multiset, their first ``length`` values, on one scale."""
    true = sines.wholes(labels.expand(DRAWS, -1), seed=seed)
    made = model.generate(labels, n=DRAWS, seed=seed)
    limit = 1.08 * float(torch.cat([true, made]).abs().max())
    for panel, x, colour in ((axes[0], true, TRUE), (axes[1], made, MODEL)):
        for draw, line in enumerate(x):
            panel.plot(line[:length], color=colour, linewidth=0.9, alpha=1.0 - 0.2 * draw)
        panel.set_ylim(-limit, limit)
    axes[0].set_ylabel(caption, fontsize=9)


def _band(axes: Axes, seen: torch.distributions.Normal, row: int, colour: str) -> None:
    """The mean of one whole and two standard deviations to each side."""
    mean, deviation = seen.mean[row], seen.stddev[row]
    axes.fill_between(
        range(len(mean)), mean - 2 * deviation, mean + 2 * deviation, color=colour, alpha=0.22, linewidth=0
    )
    axes.plot(mean, color=colour, linewidth=1.2)


def _grid(rows: int, columns: int, *, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(8.0, height * rows), dpi=130, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel().tolist()
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=7, color="#a3a3a3")
        panel.margins(x=0.01)
    return figure, axes


def _titles(axes: list[Axes], titles: tuple[str, ...]) -> None:
    for panel, title in zip(axes, titles):
        panel.set_title(title, fontsize=10)


def _listed(labels: list[int]) -> str:
    return ", ".join(map(str, labels))
