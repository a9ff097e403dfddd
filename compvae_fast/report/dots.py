"""The 2D problem's report: paper figures 7 and 8, thesis figures 9.9 and 9.10."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from compvae_fast.data import dots
from compvae_fast.models import CompVAE
from compvae_fast.random import fold
from compvae_fast.training import Run

from .chapter import Chapter, Section
from .figures import images, show
from .learning import learning_section
from .measures import EditCase, measure, measure_edits, separation, whole_and_aggregate
from .sections import distances_section, edits_section, losses_section, separation_section
from .verdict import shortfalls

LEAD = (
    "A whole is an image of 32 × 32 pixels that dots share out between them: each pixel p mixes the colours by the "
    "softmax of −a |p − location|². A part has a colour (its label), a location, and an intensity a ~ U(5, 10)."
)
SHOWN = (1, 2, 4, 5, 8, 12)
COMPOSED = (1, 0, 2, 4, 3)
DRAWS = 4
# its posterior is found step by step on the decoder, which takes its time
BOUND_SETS, EDITED = 16, 64


@torch.no_grad()
def composition(model: CompVAE, seed: int) -> Figure:
    """The parts' locations, then true and generated wholes of the parts so far, column by column."""
    labels = torch.tensor(COMPOSED)
    places = dots.PROBLEM.sample_features(labels[None], seed=seed)[0]
    figure, axes = images(2 + DRAWS, len(COMPOSED))
    drawn = [model.prior_parts(labels, features=places, seed=fold(seed, draw)) for draw in range(DRAWS)]
    for column in range(len(COMPOSED)):
        upto = slice(0, column + 1)
        _mark(axes[0][column], labels[column], places[column])
        true = dots.PROBLEM.wholes(labels[None, upto], features=places[None, upto], seed=seed)
        show(axes[1][column], true[0])
        for draw, parts in enumerate(drawn):
            show(axes[2 + draw][column], model.decode(parts.subset(range(column + 1))).mean[0])
    for row, name in enumerate(("part", "true", *["model"] * DRAWS)):
        axes[row][0].set_ylabel(name, fontsize=9)
    return figure


@torch.no_grad()
def generated(model: CompVAE, seed: int) -> Figure:
    """One true and two generated wholes of the same colours and locations, a column a number of parts."""
    figure, axes = images(4, len(SHOWN))
    for column, k in enumerate(SHOWN):
        asked = dots.PROBLEM.describe(1, k, k_min=k, k_per_batch=1, seed=fold(seed, k))
        assert asked.features is not None
        true = dots.PROBLEM.wholes(asked.labels, features=asked.features, seed=seed)
        made = model.generate(asked.labels[0], features=asked.features[0], n=2, seed=seed)
        seen = model.decode(model.encode(true, asked.labels, features=asked.features, seed=seed))
        for row, image in enumerate((true[0], seen.mean[0], made[0], made[1])):
            show(axes[row][column], image)
        axes[0][column].set_title(f"K = {k}", fontsize=9)
    for row, name in enumerate(("true", "encoded", "generated", "generated")):
        axes[row][0].set_ylabel(name, fontsize=9)
    return figure


@torch.no_grad()
def editing(model: CompVAE, seed: int) -> Figure:
    """Wholes, the same less a part, and with a part more: the truth above, the model below."""
    figure, axes = images(4, 6)
    for half, k in enumerate((3, 6)):
        case = EditCase.draw(model, 2, k, fold(seed, k))
        pairs = [(case.whole, case.decoded.mean), (case.without_last, case.removed.mean)]
        pairs.append((case.with_single, case.added.mean))
        for which in range(2):
            for column, (true, seen) in enumerate(pairs):
                show(axes[2 * half][3 * which + column], true[which])
                show(axes[2 * half + 1][3 * which + column], seen[which])
        for column, name in enumerate(("whole", "a part less", "a part more") * 2):
            axes[0][column].set_title(name, fontsize=8)
        axes[2 * half][0].set_ylabel(f"K = {k}, true", fontsize=8)
        axes[2 * half + 1][0].set_ylabel("model", fontsize=8)
    return figure


def apart(seed: int) -> Figure:
    """True wholes above the mean of the same parts made one by one."""
    figure, axes = images(2, len(SHOWN))
    for column, k in enumerate(SHOWN):
        asked = dots.PROBLEM.describe(1, k, k_min=k, k_per_batch=1, seed=fold(seed, k))
        for row, of_row in enumerate(whole_and_aggregate(dots.PROBLEM, asked, 1, seed)):
            show(axes[row][column], of_row[0])
        axes[0][column].set_title(f"K = {k}", fontsize=9)
    axes[0][0].set_ylabel("whole", fontsize=9)
    axes[1][0].set_ylabel("parts, mean", fontsize=9)
    return figure


def chapter(run: Run, *, n: int, multisets: int, importance: int, seed: int) -> Chapter:
    """Everything that the report of a run of the 2D problem says; arguments as ``measure`` takes them."""
    model = run.model
    rows = measure(model, n=n, multisets=multisets, importance=importance, bound_sets=BOUND_SETS, seed=seed)
    edits = measure_edits(model, n=EDITED, seed=seed)
    separated = separation(model, rows, seed=seed)
    sections = [
        Section(
            "Generated beside true wholes",
            "Colours and locations are given; the parts' intensities are drawn. The true whole, its encoding decoded, "
            f"and two generated ones. The model was trained on at most {run.config.recipe.k_max} parts.",
            generated(model, seed),
            seeds="Paper figure 8 shows up to 5 parts; thesis section 9.3.2 trains to 8.",
        ),
        Section(
            "Parts become a whole",
            "Each column adds one part. Above: the part; then the true whole of the parts so far; below: "
            f"{DRAWS} realisations by the model, means of p(x | z, w\u0303).",
            composition(model, seed),
            seeds="Paper figure 8, thesis figure 9.10: wholes reflect their parts, with black and white glitches. "
            "Figure 9.9 is the next.",
        ),
        *learning_section(run, seed),
        distances_section(
            rows, n=n, multisets=multisets, importance=importance,
            seeds="Paper section 5.2 and figure 7: {w_i} near 200-300 bits, z near 40-60. No distances are given.",
        ),
        separation_section(
            apart(seed), separated,
            seeds="Paper section 4.1 asks; for images neither it nor the thesis shows or measures it.",
        ),
        edits_section(editing(model, seed), edits, n=EDITED),
        losses_section(run.rows, density=False, seeds="Paper figure 7: {w_i} near 200-300 bits, z near 40-60."),
    ]
    return Chapter(LEAD, {"rows": rows, "edits": edits, "separation": separated}, shortfalls(rows, "dots"), sections)


def _mark(panel, label: Tensor, place: Tensor) -> None:
    colour = dots.PALETTE[int(label)]
    panel.set_facecolor("#a8a29e")
    edge = "#ffffff" if sum(colour) < 1 else "#000000"
    panel.plot(*place.tolist(), "o", color=colour, markersize=9, markeredgecolor=edge)
    panel.set_xlim(-1, 1)
    panel.set_ylim(1, -1)
    panel.set_aspect("equal")
