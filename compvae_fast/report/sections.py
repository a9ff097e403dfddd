"""Sections that the problems' reports have in common."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from . import figures
from .chapter import Section
from .tables import APART_COLUMNS, COLUMNS, EDIT_COLUMNS, shown_columns


def losses_section(rows: list[dict[str, Any]], *, density: bool = True, seeds: str) -> Section:
    """The losses over the steps; density: whether x has one, rather than a probability."""
    of_x = " The bits of x are those of a density and may be negative." if density else ""
    text = (
        f"Bits per whole: KL of the parts, KL of z, reconstruction, and their sum.{of_x} The scale is logarithmic "
        "beyond one bit and linear below."
    )
    return Section("Losses over time", text, figures.losses(rows), seeds=seeds)


def distances_section(
    rows: list[dict[str, Any]], *, n: int, multisets: int, importance: int, seeds: str, how: str = ""
) -> Section:
    """Energy distances, amplitude and bounds; ``how`` says what is particular to a problem's distances."""
    moments = ", and parts with two exact moments behind the exact tanh" if rows and "moments" in rows[0] else ""
    draws = "1 random multiset" if multisets == 1 else f"{multisets} random multisets"
    text = (
        f"Energy distances of {n} wholes to {n} true ones of the same description, U-statistics over the standard "
        f"deviation of true values, mean of {draws}{how}: of the model; of true wholes once more "
        "(the floor); and of what needs no learning: a Gaussian fitted to true wholes, parts made one by one and put "
        f"together afterwards{moments}. Amplitude: the ratio of standard deviations; level and spread: of means, and "
        "of deviations between wholes. Bits: the mean losses. Bounds on the log-likelihood: ELBO, and the "
        f"importance-weighted one with {importance} samples. The scale is logarithmic beyond 0.02 and linear below."
    )
    return Section("In numbers", text, figures.distances(rows), shown_columns(COLUMNS, rows), rows, seeds)


def edits_section(picture: Figure, rows: list[dict[str, Any]], *, n: int) -> Section:
    """Observed wholes with a part taken away or put in."""
    text = (
        "An observed whole, encoded; the same with one part taken away; the same with a part put in that was encoded "
        "from another whole; beside the truth, made with the same variation of each part. Numbers: root mean square "
        f"errors over the standard deviation of the truth, {n} wholes."
    )
    return Section("Editing observed wholes", text, picture, EDIT_COLUMNS, rows)


def separation_section(picture: Figure, rows: list[dict[str, Any]], *, seeds: str) -> Section:
    """The paper's own question, section 4.1."""
    text = (
        "How far is a whole from the aggregate of its parts made one by one, each as a whole of its own? Rows: whole "
        "and aggregate of the very same parts, as a root mean square difference over the whole's standard deviation; "
        "the energy distance between the two distributions; and the model's, which is to know the difference."
    )
    columns = shown_columns(APART_COLUMNS, rows)
    return Section("A whole is not the sum of its parts", text, picture, columns, rows, seeds)
