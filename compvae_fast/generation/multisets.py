"""Multisets of labels as the command line writes them."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from compvae_fast.data import Problem
from compvae_fast.models import CompVAEConfig
from compvae_fast.training import BadInput

MOST = 2**53


def parse_labels(text: str, config: CompVAEConfig, *, name: str = "--labels") -> list[int]:
    """The labels of ``"1,1,5,7"``: one part each.

    Raises BadInput for what is no list of whole numbers, and for a label the model does not have.

    >>> parse_labels("1,1,5,7", CompVAEConfig())
    [1, 1, 5, 7]
    """
    if not re.fullmatch(r"\s*-?\d+\s*(,\s*-?\d+\s*)*", text):
        raise BadInput(f"{name}: expected labels with commas between them, as 1,1,5,7; got {text!r}")
    labels = [int(item) for item in text.split(",")]
    for label in labels:
        _check_label(label, config, name)
    return labels


def parse_features(text: str, parts: int, problem: Problem, *, name: str = "--features") -> np.ndarray:
    """The features of ``"0.1,-0.3;0.5,0.2"``, a part each, in the order of the labels: [K, F] float32.

    Raises BadInput for what does not read so, another number of parts, or of features than the problem's parts have.

    >>> from compvae_fast.data import dots
    >>> parse_features("0.5,-0.25;0.5,0.25", 2, dots.PROBLEM).tolist()[1]
    [0.5, 0.25]
    """
    if not problem.features:
        raise BadInput(f"{name}: expected none, the parts of {problem.name!r} have no features; got {text!r}")
    what = ", ".join(problem.feature_names) or f"{problem.features} numbers"
    try:
        rows = [[float(item) for item in row.split(",")] for row in text.split(";")]
        fits = all(len(row) == problem.features and all(map(math.isfinite, row)) for row in rows)
    except ValueError:
        fits = False
    if not fits:
        raise BadInput(f"{name}: expected {what} for each part, with semicolons between parts; got {text!r}")
    if len(rows) != parts:
        raise BadInput(f"{name}: expected those of {parts} parts, as there are labels; got {len(rows)}")
    return np.array(rows, dtype=np.float32)


def read_context(path: Path, problem: Problem, *, name: str = "--context") -> np.ndarray:
    """External factors [C] float32 from an .npy file. Raises BadInput for another file, shape or problem."""
    if not problem.context:
        raise BadInput(f"{name}: expected none, the wholes of {problem.name!r} have no external factors; got {path}")
    try:
        values = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise BadInput(f"{name}: {path} does not exist") from None
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"{name}: {path} is no .npy file, or a damaged one") from error
    if not isinstance(values, np.ndarray) or values.shape != (problem.context,) or values.dtype.kind not in "fiu":
        raise BadInput(f"{name}: expected {problem.context} numbers in {path}, got shape {list(np.shape(values))}")
    if not np.isfinite(values).all():
        raise BadInput(f"{name}: expected finite values in {path}, got NaN or infinite ones")
    return values.astype(np.float32)


def parse_counts(text: str, config: CompVAEConfig, *, name: str = "--counts") -> dict[int, int]:
    """The counts of ``"1:1000000,5:3"``, a million parts of label 1 and three of label 5.

    Raises BadInput for what does not read so, a label the model does not have or that comes twice, and a
    count below 0 or beyond 2^53.

    >>> parse_counts("1:1000000,5:3", CompVAEConfig())
    {1: 1000000, 5: 3}
    """
    items = text.split(",")
    pairs = [pair for item in items if (pair := re.fullmatch(r"\s*(-?\d+)\s*:\s*(-?\d+)\s*", item))]
    if len(pairs) < len(items):
        raise BadInput(f"{name}: expected label:count with commas between them, as 1:1000000,5:3; got {text!r}")
    counts: dict[int, int] = {}
    for pair in pairs:
        label, count = (int(number) for number in pair.groups())
        _check_label(label, config, name)
        if label in counts:
            raise BadInput(f"{name}: label {label} comes twice in {text!r}")
        if not 0 <= count <= MOST:
            raise BadInput(f"{name}: expected counts in 0..2^53, got {count} of label {label}")
        counts[label] = count
    return counts


def _check_label(label: int, config: CompVAEConfig, name: str) -> None:
    last = config.first_label + config.num_labels - 1
    if not config.first_label <= label <= last:
        raise BadInput(f"{name}: expected labels in {config.first_label}..{last}, got {label}")
