"""The 1D problem's report: paper figures 4 to 6, thesis figures 9.5 and 9.6."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from compvae_fast.data import sines
from compvae_fast.models import CompVAE
from compvae_fast.random import fold
from compvae_fast.training import Run

from .chapter import Chapter, Section
from .figures import DASHES, MODEL, SECOND, TRUE, band, grid, listed, titled
from .measures import EditCase, measure, measure_edits, separation, whole_and_aggregate
from .sections import distances_section, edits_section, losses_section, separation_section
from .verdict import shortfalls

LEAD = (
    "A whole is K tanh(3/K \u03a3 a cos(2\u03c0 l t/100 + k)), t = 0 .. 199: a saturated sum of K sines with labels l "
    "(their frequencies), amplitudes a ~ N(1, 0.3) and phases k ~ N(0, \u03c0/2)."
)
COMPOSED = (2, 5, 1, 7, 3, 10)
SHOWN_LABELS = (1, 2, 4, 7)
EDITED_SIZES = (2, 4, 8)
APART = (2, 4, 16)
DRAWS = 4
EDITED = 256


@torch.no_grad()
def composition(model: CompVAE, seed: int) -> Figure:
    """Parts drawn from their prior, and the wholes as they come together, one row a part."""
    parts = model.prior_parts(list(COMPOSED), seed=seed)
    figure, axes = grid(len(COMPOSED), 2, height=1.25)
    for row, label in enumerate(COMPOSED):
        alone = model.decode(parts.subset([row]))
        together = model.decode(parts.subset(range(row + 1)))
        for panel, seen, colour in ((axes[2 * row], alone, SECOND), (axes[2 * row + 1], together, MODEL)):
            band(panel, seen, 0, colour)
        axes[2 * row].set_ylabel(f"label {label}", fontsize=9)
        axes[2 * row + 1].set_ylabel(f"K = {row + 1}", fontsize=9)
    titled(axes, ("the part alone", "all parts so far"))
    return figure


@torch.no_grad()
def single_parts(model: CompVAE, seed: int) -> Figure:
    """Several draws of one part, the model's beside true ones, one row a label; the first of two equal periods."""
    figure, axes = grid(len(SHOWN_LABELS), 2, height=1.4)
    for row, label in enumerate(SHOWN_LABELS):
        _beside(
            axes[2 * row : 2 * row + 2], model, torch.tensor([label]), fold(seed, label), f"label {label}", sines.PERIOD
        )
    titled(axes, ("true", "generated"))
    return figure


@torch.no_grad()
def generated(model: CompVAE, sizes: list[int], seed: int) -> Figure:
    """Generated wholes beside true ones of the same labels, one row a number of parts."""
    figure, axes = grid(len(sizes), 2, height=1.4)
    for row, k in enumerate(sizes):
        labels, _ = sines.sample_labels(1, k, k_min=k, k_per_batch=1, seed=fold(seed, k))
        _beside(axes[2 * row : 2 * row + 2], model, labels[0], fold(seed, k), f"K = {k}", sines.LENGTH)
    titled(axes, ("true", "generated"))
    return figure


@torch.no_grad()
def reconstructions(model: CompVAE, sizes: list[int], seed: int) -> Figure:
    """True wholes, and the mean of p(x | z, w~) of their encoding with its band of two deviations."""
    figure, axes = grid((len(sizes) + 1) // 2, 2, height=1.7)
    for panel, k in zip(axes, sizes):
        case = sines.draw(1, k, k_min=k, k_per_batch=1, seed=fold(seed, k))
        seen = model.decode(model.encode(case.x, case.labels, seed=seed))
        band(panel, seen, 0, MODEL)
        panel.plot(case.x[0], **DASHES)
        panel.set_ylabel(f"K = {k}", fontsize=9)
    return figure


@torch.no_grad()
def editing(model: CompVAE, seed: int) -> Figure:
    """Observed wholes with their last part taken away, and with another one put in, beside the truth."""
    figure, axes = grid(len(EDITED_SIZES), 3, height=1.7)
    for row, k in enumerate(EDITED_SIZES):
        case = EditCase.draw(model, 1, k, fold(seed, k))
        labels = case.labels[0].tolist()
        true = (case.whole, case.without_last, case.with_single)
        captions = (f"labels {listed(labels[:-1])}", f"{labels[-2]} removed", f"{labels[-1]} added")
        for panel, seen, x, caption in zip(
            axes[3 * row : 3 * row + 3], (case.decoded, case.removed, case.added), true, captions
        ):
            band(panel, seen, 0, MODEL)
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


def apart(seed: int) -> Figure:
    """True wholes beside the sum of the same parts, each saturated alone (paper figure 2, thesis figure 9.5)."""
    figure, axes = grid(len(APART), 2, height=1.5)
    for row, k in enumerate(APART):
        asked = sines.PROBLEM.describe(2, k, k_min=k, k_per_batch=1, seed=fold(seed, k))
        for column in range(2):
            panel = axes[2 * row + column]
            whole, aggregate = whole_and_aggregate(sines.PROBLEM, asked, 1, fold(seed, column))
            panel.plot(aggregate[0], color=SECOND, linewidth=1.0, label="parts, saturated one by one")
            panel.plot(whole[0], color=TRUE, linewidth=1.2, label="the whole")
        axes[2 * row].set_ylabel(f"K = {k}", fontsize=9)
    axes[0].legend(frameon=False, fontsize=8, ncols=2, loc="lower left", bbox_to_anchor=(0, 1.0))
    return figure


def chapter(run: Run, *, n: int, multisets: int, importance: int, seed: int) -> Chapter:
    """Everything that the report of a run of the 1D problem says; arguments as ``measure`` takes them."""
    model = run.model
    rows = measure(model, n=n, multisets=multisets, importance=importance, seed=seed)
    edits = measure_edits(model, n=EDITED, seed=seed)
    separated = separation(model, rows, seed=seed)
    sizes = [2**i for i in range((2 * run.config.recipe.k_max).bit_length())]
    sections = [
        Section(
            "Generated beside true wholes",
            "Four wholes of the same labels, true and generated, observation noise included. The model was trained on "
            f"at most {run.config.recipe.k_max} parts.",
            generated(model, sizes, seed),
            seeds="Paper section 5.1: a model trained to K = 16 was used up to 30 (results omitted there).",
        ),
        distances_section(
            rows, n=n, multisets=multisets, importance=importance,
            seeds="Paper section 5.1 and figure 4: {w_i} level off at about 100 bits, z falls to about 10. The "
            "paper and the thesis give no distance between generated and true wholes.",
        ),
        separation_section(
            apart(seed), separated, seeds="Paper figure 2, thesis figure 9.5: one example of K = 4, without numbers."
        ),
        Section(
            "Parts become a whole",
            "Each row adds one part: alone on the left, together with all above it on the right. Mean and two standard "
            "deviations of p(x | z, w\u0303).",
            composition(model, seed),
            seeds="Paper figure 6, thesis figure 9.6: the same picture, in which each part added shows in the whole.",
        ),
        Section(
            "What a part may be",
            "Four draws of one part of each label, true and generated: the first of two equal periods.",
            single_parts(model, seed),
            seeds="Paper figure 5: the parts generated for one label vary in amplitude and phase.",
        ),
        Section(
            "Reconstruction",
            "True wholes (dashed), and the mean of their encoding, decoded, with two standard deviations to each side.",
            reconstructions(model, sizes, seed),
        ),
        edits_section(editing(model, seed), edits, n=EDITED),
        losses_section(run.rows, seeds="Paper figure 4: {w_i} rise to about 100 bits, z falls to about 10."),
    ]
    return Chapter(LEAD, {"rows": rows, "edits": edits, "separation": separated}, shortfalls(rows), sections)
