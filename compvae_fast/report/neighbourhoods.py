"""The report of a run of the problem `households`: thesis figures 9.13 and 9.14 and table 9.1."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.figure import Figure

from compvae_fast.data import households
from compvae_fast.data.households.problem import Neighbourhoods
from compvae_fast.random import fold
from compvae_fast.training import Run

from .chapter import Chapter, Section
from .figures import SECOND, TRUE, grid
from .household_measures import Cases, grid_of, household_distances, measures_of, town_of
from .households import grid_histograms, household_reconstructions, household_weeks, in_days, temperature_response
from .measures import separation, sizes_of, whole_and_aggregate
from .sections import distances_section, losses_section, separation_section
from .verdict import shortfalls

LEAD = (
    "A whole is the electricity, in kW, of a neighbourhood over a week: 336 half-hourly means of the sum of its "
    f"households, of {len(households.CONTRACTS)} kinds of contract (the labels), under 168 hourly temperatures. "
)
THESIS = {
    "x1": ("X1, the hourly means", "3.8 \u00b1 1.5"),
    "x2": ("the curve, given X1", "4.9 \u00b1 1.6"),
    "both": ("the curve, X1 drawn from the latents", "13.9 \u00b1 5.3"),
    "generated": ("a generated week of the same households", "20 \u00b1 11"),
    "truth": ("another true week of the same households", "not given"),
    "independent": ("a true week of other households", "92 \u00b1 73"),
}
ERROR_COLUMNS = {"measure": "distance from the true week", "here": "here, kW", "thesis": "thesis, kW"}
BITS_COLUMNS = {"measure": "bits with the temperature", "here": "here", "thesis": "thesis"}


def apart(town: Neighbourhoods, sizes: tuple[int, ...], seed: int) -> Figure:
    """True weeks beside the sum of the same contracts' households, each in a week of its own."""
    figure, axes = grid(1, len(sizes), height=2.2)
    for panel, k in zip(axes, sizes):
        asked = town.describe(1, k, k_min=k, k_per_batch=1, seed=fold(seed, k))
        whole, _ = whole_and_aggregate(town, asked, 1, seed)
        alone = town.independent(asked.labels[0], 1, seed=seed)
        hours = torch.arange(whole.shape[1]) / 2
        panel.plot(hours, alone[0], color=SECOND, linewidth=1.0, label="each in a week of its own")
        panel.plot(hours, whole[0], color=TRUE, linewidth=1.2, label="the neighbourhood")
        panel.set_title(f"K = {k}, kW", fontsize=9)
        panel.set_ylim(bottom=0)
    axes[0].legend(frameon=False, fontsize=7, loc="lower left", ncols=2)
    in_days(axes)
    return figure


def chapter(run: Run, *, n: int, multisets: int, importance: int, seed: int) -> Chapter:
    """Everything that the report of a run of neighbourhoods says; arguments as ``measure`` takes them."""
    model, town = run.model, town_of(run.model)
    sizes = sizes_of(town)
    few, some, one = sizes[0], sizes[-2:][0], sizes[(len(sizes) - 1) // 2]
    # in pairs of weeks, half as many tell distances better than n did without
    wholes = max(2, n // 2)
    rows = household_distances(model, n=wholes, multisets=multisets, seed=seed)
    cases = Cases(model, n, few, some, seed)
    errors = measures_of(cases)
    separated = separation(model, rows, n=8, seed=seed)
    trained = f"{run.config.recipe.k_min} to {run.config.recipe.k_max}"
    sections = [
        Section(
            "Generated beside true weeks",
            "Weeks of the same contracts at the same temperature, true and generated. The model was trained on "
            f"{trained} households.",
            household_weeks(model, seed, tuple(sorted({few, some, sizes[-1]}))),
            seeds="Thesis figure 9.13 (d): five weeks of one multiset of 100 households, of one shape and level.",
        ),
        distances_section(
            rows, n=wholes, multisets=multisets, importance=importance, seeds="The thesis gives no energy distances.",
            how=", all in the same weeks, over pairs of different ones (of independent parts a quarter as many)",
        ),
        separation_section(
            apart(town, tuple(sorted({few, some})), seed), separated,
            seeds="Thesis section 9.3 has no such figure. Consumption adds up: the aggregate of the very same "
            "households is the whole. What is missing from households drawn independently is what they have in common.",
        ),
        Section(
            "Reconstruction, scale by scale",
            "X1, the hourly means; the curve given the true X1; the curve given an X1 drawn from the latents. Sums of "
            "absolute errors over the week, divided by K, with their standard deviations.",
            household_reconstructions(model, seed, one),
            ERROR_COLUMNS,
            [{"measure": text, "here": _with_deviation(errors[name]), "thesis": thesis}
             for name, (text, thesis) in THESIS.items()],
            seeds="Thesis section 9.3.3 and figure 9.13, of real households of another country.",
        ),
        Section(
            "What the grid is built for",
            "Peak, peak sustained for eight hours, and flexibility, per household.",
            grid_histograms(grid_of(cases)),
            seeds="Thesis figure 9.14: a small but noticeable bias of the generated curves.",
        ),
        Section(
            "The temperature",
            f"Mean weeks of one neighbourhood at temperatures that are the same all week. {town.at_temperature} "
            "The table is of this run, which sees the temperature or not as it was configured; a lesion study needs a "
            "second run.",
            temperature_response(model, seed, one),
            BITS_COLUMNS,
            [{"measure": name, "here": f"{errors[f'{name}_bits']['mean']:.1f}", "thesis": thesis}
             for name, thesis in (("w", "8 (12 without)"), ("z", "18 (25 without)"))],
            seeds="Thesis table 9.1: 12 + 25 bits without the temperature, 8 + 18 with it.",
        ),
        losses_section(run.rows, seeds="The thesis shows no such figure for households."),
    ]
    numbers: dict[str, Any] = {"rows": rows, "errors": errors, "separation": separated}
    return Chapter(LEAD + town.source, numbers, shortfalls(rows, "households"), sections)


def _with_deviation(found: dict[str, float]) -> str:
    return f"{found['mean']:.1f} \u00b1 {found['deviation']:.1f}"
