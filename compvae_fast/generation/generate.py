"""Wholes drawn from a trained run."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from compvae_fast.training import BadInput, Run


@torch.no_grad()
def generate_wholes(
    run: Run,
    *,
    labels: list[int] | None = None,
    counts: dict[int, int] | None = None,
    n: int = 1,
    seed: int = 0,
    noise: bool = True,
) -> dict[str, Any]:
    """n wholes of one multiset, drawn from p(x | {l_i}).

    Args:
        run: from ``load_run``.
        labels: the multiset, a label a part; or
        counts: {label: number of parts}, at a cost that does not depend on how many.
        n: draws.
        seed: of the draws, 0 to 2^64 - 1.
        noise: whether observation noise is added to the mean of p(x | z, w~).

    Returns arrays: x [n, 200] float32, labels [K] or counts [C] (of labels first..last), and seed, noise,
    preset and step, by which they can be made again. Raises BadInput naming the argument.
    """
    if (labels is None) == (counts is None):
        raise BadInput("--labels, --counts: expected exactly one of them")
    if n < 1:
        raise BadInput(f"--n: expected at least 1, got {n}")
    if not 0 <= seed < 2**64:
        raise BadInput(f"--seed: expected 0 to 2^64 - 1, got {seed}")
    config = run.model.config
    if labels is not None:
        asked = {"labels": labels}
    else:
        every = range(config.first_label, config.first_label + config.num_labels)
        asked = {"counts": [(counts or {}).get(label, 0) for label in every]}
    x = run.model.generate(**{name: torch.tensor(v) for name, v in asked.items()}, n=n, seed=seed, noise=noise)
    return {
        "x": x.cpu().numpy(),
        **{name: np.array(values, dtype=np.int64) for name, values in asked.items()},
        "seed": np.uint64(seed),
        "noise": np.bool_(noise),
        "preset": np.str_(config.preset),
        "step": np.int64(run.step),
    }
