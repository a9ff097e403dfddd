"""Where do inference models put their information? The study of docs/inference.md, its tables and its picture.

    python docs/inference_study.py --steps 1500 --seeds 2 --out docs/images/inference.png
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from compvae_fast.data import metrics, sines
from compvae_fast.models import CompVAE, CompVAEConfig, TrainingRecipe, bits_of_parts, tables
from compvae_fast.models.config import INFERENCES
from compvae_fast.nn import Residual
from compvae_fast.training import TrainingConfig
from compvae_fast.training.loop import advance
from compvae_fast.training.optimiser import make_optimiser
from compvae_fast.training.state import TrainingState

PARTS = 4
LABELS = (1, 5)
HIDDEN = 128
# sines-small without what it knows of composition: no coordinates of a label's own, no flow between w~ and decoder
MODEL = CompVAEConfig(
    preset="inference-study", network="compact", coupling="scaled", w_dim=20, z_dim=4, hidden=HIDDEN, sigma_min=0.01,
    closed_scale=1.0,
)
# q({w_i}|..), which is under study: the paper's table 6 at a sixteenth of its widths
ASKED = dataclasses.replace(MODEL, network="tables", narrow=16)
RECIPE = TrainingRecipe(
    batch=64, lr=1e-3, lr_min=1e-5, betas=(0.9, 0.99), lr_schedule="cosine", warmup=50,
    rates=(("prior_w", 10.0), ("observation.logvar", 10.0)), k_min=PARTS, k_start=PARTS, k_max=PARTS, labels=LABELS,
    clip=10.0,
)
# by name: what of MODEL and of RECIPE is another, and the picture's title
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "rising": ({"w_weight": 0.01, "w_until": 0.8, "z_weight": 0.01, "z_until": 0.8}, {}, "weights rise, K = 4"),
    "full": ({}, {}, "full weights, K = 4"),
    "any K": ({}, {"k_min": 1}, "full weights, K of 1 to 4"),
}
TRUE_SETS, TRUE_DRAWS = 8, 1000


class Read(nn.Sequential):
    """What both posteriors see of a whole: of x / K alone, so that q learns a label when its part comes."""

    def __init__(self) -> None:
        super().__init__(
            nn.Linear(sines.LENGTH, HIDDEN), nn.ELU(), Residual(HIDDEN), nn.ELU(), Residual(HIDDEN), nn.ELU()
        )

    def forward(self, x: Tensor, given: object) -> Tensor:  # type: ignore[override]
        return super().forward(x / PARTS)


def train(inference: str, setting: str, steps: int, seed: int) -> CompVAE:
    """The same model with another q({w_i}|..), trained for as many steps on the same data."""
    of_model, of_recipe, _ = SETTINGS[setting]
    model, recipe = dataclasses.replace(MODEL, **of_model), dataclasses.replace(RECIPE, **of_recipe)
    config = TrainingConfig(model=model, recipe=recipe, steps=steps, seed=seed).settled(horizon=steps, threads=1)
    state = TrainingState(config)
    torch.manual_seed(seed)
    state.model.features = Read()
    state.model.posterior_w = tables.posterior_w(dataclasses.replace(ASKED, inference=inference), HIDDEN)
    state.optimiser = make_optimiser(config.recipe, state.model)
    while state.step < steps:
        advance(state)
    return state.model.eval()


def bits_in_order(model: CompVAE, x: Tensor, labels: Tensor, seed: int) -> Tensor:
    """Bits of each part given those before it, [B, K], whose sum is the loss's w: KL of the chain of q.

        KL_i = KL of i's marginal + 1/2 log(Cov_ii / Var(w_i | w_1..w_{i-1})),  summed over coordinates

    For models in order these are ``bits_of_parts`` themselves.
    """
    _, logvar, logits = model._posterior(x, model._given(labels), seed).w_q
    variance, nu = logvar.double().exp(), logits.double()
    rho = (nu - torch.logsumexp(torch.cat([torch.zeros_like(nu[:, :1]), nu], dim=1), 1, keepdim=True)).exp()
    each = torch.eye(labels.shape[1], dtype=torch.float64) - rho.transpose(1, 2).unsqueeze(-1)
    factor = each * variance.transpose(1, 2).sqrt().unsqueeze(-2)
    covariance = factor @ factor.transpose(-1, -2)
    left = torch.linalg.cholesky(covariance).diagonal(dim1=-2, dim2=-1).square()
    told = 0.5 * (torch.diagonal(covariance, dim1=-2, dim2=-1) / left).log2()
    return bits_of_parts(model, x, labels, seed=seed) + told.sum(1)


@torch.no_grad()
def measured(model: CompVAE) -> dict[str, float | list[float]]:
    """Bits of every position and of the whole, reconstruction, and generated wholes, on wholes never trained on."""
    batch = sines.draw(1000, PARTS, k_min=PARTS, k_per_batch=1, labels=LABELS, seed=99)
    bits = model.loss(batch.x, batch.labels, seed=1).bits()
    seen = model.decode(model.encode(batch.x, batch.labels, seed=1))
    distances, floor = [], []
    for row in range(TRUE_SETS):
        labels = batch.labels[row]
        true, again = (sines.wholes(labels.expand(TRUE_DRAWS, -1), seed=2 * row + half) for half in (0, 1))
        made = model.generate(labels, n=TRUE_DRAWS, seed=row)
        distances.append(float(metrics.energy_distance(made, true)))
        floor.append(float(metrics.energy_distance(again, true)))
    return {
        "positions": bits_of_parts(model, batch.x, batch.labels, seed=1).mean(0).tolist(),
        "in order": bits_in_order(model, batch.x, batch.labels, 1).mean(0).tolist(),
        "w": float(bits.w.mean()),
        "z": float(bits.z.mean()),
        "x": float(bits.x.mean()),
        "total": float(bits.total.mean()),
        "error": float((seen.mean - batch.x).square().mean().sqrt() / batch.x.std()),
        "distance": sum(distances) / TRUE_SETS,
        "floor": sum(floor) / TRUE_SETS,
        "parameters": sum(p.numel() for p in model.posterior_w.parameters()),
    }


def mean_and_spread(values: list[float]) -> tuple[float, float]:
    """Over the seeds: the mean, and half of the range."""
    return sum(values) / len(values), (max(values) - min(values)) / 2


def cell(values: list[float], digits: int) -> str:
    """``mean_and_spread`` in a table; of one seed the value alone."""
    mean, spread = mean_and_spread(values)
    return f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if len(values) > 1 else "")


def table(rows: list[dict]) -> str:
    """One line of Markdown for each setting and inference model, means over the seeds."""
    digits = {"w": 1, "z": 1, "total": 1, "error": 3, "distance": 2}
    names = ["seeds", *(f"part {i + 1}" for i in range(PARTS)), "{w_i}", "z", "total", "error", "distance"]
    lines = ["| setting | q | " + " | ".join(names) + " |", "|---" * (2 + len(names)) + "|"]
    for setting, inference, same in runs(rows):
        cells = [str(len(same)), *(cell(values, 1) for values in positions(same, "in order"))]
        cells += [cell([row[name] for row in same], places) for name, places in digits.items()]
        lines.append(f"| {setting} | {inference} | " + " | ".join(cells) + " |")
        if inference == "graph":
            alone = [cell(values, 1) for values in positions(same, "positions")]
            lines.append(f"| {setting} | graph, each part alone | | " + " | ".join([*alone, *[""] * 5]) + " |")
    return "\n".join(lines)


def runs(rows: list[dict]) -> list[tuple[str, str, list[dict]]]:
    """The rows of each setting and inference model, where there are any."""
    found = []
    for setting in SETTINGS:
        for inference in INFERENCES:
            same = [row for row in rows if (row["setting"], row["inference"]) == (setting, inference)]
            if same:
                found.append((setting, inference, same))
    return found


def positions(rows: list[dict], name: str) -> list[list[float]]:
    """Of each part, the bits of all seeds."""
    return [list(values) for values in zip(*(row[name] for row in rows))]


def picture(rows: list[dict], out: Path) -> None:
    """Bits of each position, one line a model, one panel a setting."""
    figure = Figure(figsize=(9.0, 3.5), dpi=130, layout="constrained")
    panels = dict(zip(SETTINGS, figure.subplots(1, len(SETTINGS), sharey=True)))
    colours = dict(zip(INFERENCES, ("#c2410c", "#15803d", "#1d4ed8", "#7c3aed")))
    place = range(1, PARTS + 1)
    for setting, inference, same in runs(rows):
        lines = [("in order", "-o", inference.replace("_", " "))]
        lines += [("positions", ":o", "graph, each part alone")] if inference == "graph" else []
        for name, style, label in lines:
            mean, spread = zip(*map(mean_and_spread, positions(same, name)))
            panels[setting].errorbar(
                place, mean, spread, fmt=style, color=colours[inference], label=label, markersize=4, capsize=3
            )
    for setting, axes in panels.items():
        axes.set_title(SETTINGS[setting][2], fontsize=10)
        axes.set_xticks(place)
        axes.set_xlabel("position of the part")
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    panels["rising"].set_ylabel("bits, given the parts before")
    panels["rising"].legend(frameon=False)
    figure.savefig(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--models", nargs="+", choices=INFERENCES, default=INFERENCES)
    parser.add_argument("--out", type=Path, required=True, help="the picture; the numbers go beside it, as .json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    numbers = options.out.with_suffix(".json")
    rows = json.loads(numbers.read_text()) if numbers.exists() else []
    for seed in range(options.seeds):
        for setting in SETTINGS:
            for inference in options.models:
                asked = {"setting": setting, "inference": inference, "seed": seed, "steps": options.steps}
                if any(asked.items() <= row.items() for row in rows):
                    continue
                begun = time.process_time()
                model = train(inference, setting, options.steps, seed)
                rows.append({**asked, **measured(model), "seconds": round(time.process_time() - begun)})
                numbers.write_text(json.dumps(rows, indent=1) + "\n")
                print(json.dumps(rows[-1]), flush=True)
    picture(rows, options.out)
    print(table(rows))


if __name__ == "__main__":
    main()
