"""What a problem's report is made of; the page puts it together and knows no problem."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Section:
    """A heading, and what stands under it.

    Args:
        title: the heading.
        text: what is seen there, and how it was made.
        picture: a figure, or None.
        columns: of a table, {name: heading}; rows: its rows.
        seeds: what the paper and the thesis have at this place.
    """

    title: str
    text: str
    picture: Figure | None = None
    columns: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    seeds: str = ""


@dataclass(frozen=True)
class Chapter:
    """A run's report.

    Args:
        lead: what a whole of this problem is.
        numbers: what was measured, for ``measures.json``.
        shortfalls: a sentence for each target that was missed.
        sections: in their order.
    """

    lead: str
    numbers: dict[str, Any]
    shortfalls: list[str]
    sections: list[Section]
