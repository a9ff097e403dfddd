"""Measured rows as plain text."""

from __future__ import annotations

import math
from typing import Any

DISTANCES = {
    "model": "model",
    "floor": "true, again",
    "gaussian": "Gaussian",
    "saturated": "saturated parts",
    "independent": "independent parts",
    "moments": "two moments",
}
COLUMNS = {
    "k": "K",
    **DISTANCES,
    "amplitude": "amplitude",
    "level": "level",
    "spread": "spread",
    "w_bits": "w, bits",
    "z_bits": "z, bits",
    "x_bits": "x, bits",
    "elbo": "elbo, nats",
    "iw_bound": "iw bound, nats",
}
APART_COLUMNS = {"k": "K", "apart": "whole - aggregate", "saturated": "aggregate, distance",
                "independent": "aggregate, distance", "model": "model, distance"}
EDIT_COLUMNS = {"k": "K", "decoded": "encode-decode", "removed": "a part removed", "added": "a part added"}


def figure(name: str, value: float | str) -> str:
    """A value as its column shows it: distances, ratios and errors to 3 digits after the point, the others to 1.

    What is not a number, as the distance of wholes that do not vary, is a dash.
    """
    if name == "k" or isinstance(value, str):
        return str(value)
    if math.isnan(value):
        return "-"
    return f"{value:z.1f}" if name.endswith("_bits") or name in ("elbo", "iw_bound") else f"{value:z.3f}"


def shown_columns(columns: dict[str, str], rows: list[dict[str, Any]]) -> dict[str, str]:
    """Those of ``columns`` that the rows have."""
    return {name: heading for name, heading in columns.items() if rows and name in rows[0]}


def as_text(rows: list[dict[str, Any]], columns: dict[str, str]) -> str:
    """Rows under a heading, those of ``columns`` that they have, aligned right.

    >>> print(as_text([{"k": 2, "amplitude": 0.98}], {"k": "K", "amplitude": "amplitude"}))
    K  amplitude
    2      0.980
    """
    columns = shown_columns(columns, rows)
    cells = [list(columns.values())]
    cells += [[figure(name, row[name]) for name in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in cells)
