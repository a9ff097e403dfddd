"""Where do inference models put their information? The study of docs/inference.md, its table and its picture.

    python docs/inference_study.py --steps 1500 --out docs/images/inference.png
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

import torch
from matplotlib.figure import Figure

from compvae_fast.data import metrics, sines
from compvae_fast.models import CompVAEConfig, TrainingRecipe, bits_of_parts
from compvae_fast.models.config import INFERENCES
from compvae_fast.training import TrainingConfig
from compvae_fast.training.loop import advance
from compvae_fast.training.state import TrainingState

PARTS = 4
LABELS = (1, 5)
MODEL = CompVAEConfig(
    preset="inference-study", coupling="scaled", narrow=10, w_dim=32, z_dim=8, w_weight=0.01, w_until=0.5,
    z_weight=0.05, z_until=0.5,
)
RECIPE = TrainingRecipe(
    batch=64, lr=2e-3, lr_min=1e-5, betas=(0.9, 0.99), lr_schedule="cosine", warmup=50, k_start=PARTS, k_max=PARTS,
    k_per_batch=None, labels=LABELS, clip=10.0,
)


def train(inference: str, steps: int, seed: int) -> TrainingState:
    """The same model with another q({w_i}|..), trained for as many steps on the same data."""
    model = dataclasses.replace(MODEL, inference=inference)
    config = TrainingConfig(model=model, recipe=RECIPE, steps=steps, seed=seed).settled(horizon=steps, threads=1)
    state = TrainingState(config)
    while state.step < steps:
        advance(state)
    return state


@torch.no_grad()
def measured(state: TrainingState) -> dict[str, float | list[float]]:
    """Bits of every position and of the whole, reconstruction, and generated wholes, on wholes of PARTS parts."""
    model = state.model.eval()
    batch = sines.draw(1000, PARTS, k_min=PARTS, k_per_batch=1, labels=LABELS, seed=99)
    bits = model.loss(batch.x, batch.labels, seed=1).bits()
    seen = model.decode(model.encode(batch.x, batch.labels, seed=1))
    distances = []
    for row in range(4):
        labels = batch.labels[row]
        true = sines.wholes(labels.expand(1000, -1), seed=row)
        distances.append(float(metrics.energy_distance(model.generate(labels, n=1000, seed=row), true)))
    return {
        "positions": bits_of_parts(model, batch.x, batch.labels, seed=1).mean(0).tolist(),
        "w": float(bits.w.mean()),
        "z": float(bits.z.mean()),
        "x": float(bits.x.mean()),
        "error": float((seen.mean - batch.x).square().mean().sqrt() / batch.x.std()),
        "distance": sum(distances) / len(distances),
        "parameters": sum(p.numel() for p in model.posterior_w.parameters()),
    }


def picture(rows: dict[str, dict], out: Path) -> None:
    """Bits of each position, one line a model."""
    figure = Figure(figsize=(6.4, 3.4), dpi=130, layout="constrained")
    axes = figure.subplots()
    for (name, row), marker in zip(rows.items(), "os^D"):
        axes.plot(range(1, PARTS + 1), row["positions"], marker=marker, label=name.replace("_", " "))
    axes.set_xticks(range(1, PARTS + 1))
    axes.set_xlabel("position of the part")
    axes.set_ylabel("bits of the part alone")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="the picture; the numbers go beside it, as .json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    for name in INFERENCES:
        begun = time.perf_counter()
        rows[name] = measured(train(name, options.steps, options.seed))
        print(name, json.dumps(rows[name]), f"{time.perf_counter() - begun:.0f} s", flush=True)
    picture(rows, options.out)
    options.out.with_suffix(".json").write_text(json.dumps({"steps": options.steps, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
