"""Wholes drawn from a trained run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compvae_fast._rules import MAX_SETS
from compvae_fast.streaming import open_parts
from compvae_fast.training import BadInput, Run
from compvae_fast.training.errors import check_seed
from compvae_fast.training.files import reason


@torch.no_grad()
def generate_wholes(
    run: Run,
    *,
    labels: list[int] | None = None,
    counts: dict[int, int] | None = None,
    labels_file: Path | None = None,
    features: np.ndarray | None = None,
    context: np.ndarray | None = None,
    n: int = 1,
    first: int = 0,
    seed: int = 0,
    noise: bool = True,
    progress: Callable[[int], object] | None = None,
) -> dict[str, Any]:
    """n wholes of one multiset, drawn from p(x | {l_i}).

    Args:
        run: from ``load_run``.
        labels: the multiset, a label a part; or
        counts: {label: number of parts}, at a cost that does not depend on how many; or
        labels_file: a file of labels, any number of them, read as they are needed (``streaming.open_parts``).
        features: of the parts, [K, F], and context: the external factors, [C], where the run's problem has them.
        n: draws.
        first: index of the first draw: of many draws with one seed, any can be made alone.
        seed: of the draws, 0 to 2^64 - 1.
        noise: whether observation noise is added to the mean of p(x | z, w~).
        progress: called with the number of labels read since it was last called, where they are in a file.

    Returns arrays: x [n, ...] float32, labels [K] or counts [C] (of labels first..last) or parts, the number of labels
    in the file; and seed, first, noise, preset and step, by which they can be made again. Raises BadInput naming the
    argument.
    """
    if sum(given is not None for given in (labels, counts, labels_file)) != 1:
        raise BadInput("--labels, --counts, --labels_file: expected exactly one of them")
    if n < 1:
        raise BadInput(f"--n: expected at least 1, got {n}")
    if first < 0:
        raise BadInput(f"--first: expected at least 0, got {first}")
    if first + n > MAX_SETS:
        raise BadInput(f"--first, --n: expected draws below {MAX_SETS} = 2^48 - 1, got {first} and {n} from there")
    check_seed("--seed", seed)
    config = run.model.config
    draws: dict[str, Any] = {"n": n, "seed": seed, "noise": noise, "set_index": torch.arange(first, first + n)}
    if labels_file is not None:
        if features is not None:
            raise BadInput("--features: expected none beside --labels_file, whose rows are a label and its features")
        draws["context"] = None if context is None else torch.from_numpy(context)
        x, asked = _of_file(run, labels_file, progress, draws)
    else:
        every = range(config.first_label, config.first_label + config.num_labels)
        multiset = {"labels": labels} if counts is None else {"counts": [counts.get(label, 0) for label in every]}
        asked = {name: np.array(values, dtype=np.int64) for name, values in multiset.items()}
        described = {"features": features, "context": context}
        asked |= {name: values.astype(np.float32) for name, values in described.items() if values is not None}
        draws |= {name: torch.from_numpy(values) for name, values in asked.items()}
        try:
            x = run.model.generate(**draws)
        except ValueError as error:
            raise BadInput(str(error)) from error
    return {
        "x": x.cpu().numpy(),
        **asked,
        "seed": np.uint64(seed),
        "first": np.int64(first),
        "noise": np.bool_(noise),
        "preset": np.str_(config.preset),
        "step": np.int64(run.step),
    }


def _of_file(run: Run, path: Path, progress, draws: dict[str, Any]) -> tuple[torch.Tensor, dict[str, np.ndarray]]:
    """Wholes of the labels in a file, and how many those are."""
    done = 0

    def advance(parts: int) -> None:
        nonlocal done
        done += parts
        if progress is not None:
            progress(parts)

    try:
        x = run.model.generate(open_parts(path), progress=advance, **draws)
    except FileNotFoundError:
        raise BadInput(f"--labels_file: {path} does not exist") from None
    except OSError as error:
        raise BadInput(f"--labels_file: {path} cannot be read: {reason(error)}") from error
    except (ValueError, TypeError, IndexError) as error:
        raise BadInput(f"--labels_file: {error}") from error
    return x, {"parts": np.array(done)}
