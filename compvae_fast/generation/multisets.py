"""Multisets of labels as the command line writes them."""

from __future__ import annotations

import re

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
