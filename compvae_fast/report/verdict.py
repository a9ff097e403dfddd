"""What the numbers say, in sentences: what is wrong where a target is missed."""

from __future__ import annotations

from typing import Any

from .tables import DISTANCES

DISTANCE_TARGETS = {1: 0.15, 2: 0.15, 4: 0.08, 8: 0.08, 16: 0.08, 30: 0.15}
AMPLITUDE_TOLERANCE = 0.05
BITS_RATIO = 3.0
BEATABLE = 0.02


def shortfalls(rows: list[dict[str, Any]]) -> list[str]:
    """A sentence for each target that the rows of ``measure`` miss; none where all are met.

    Targets: an energy distance of at most 0.15 at K = 1, 2 and 30 and 0.08 at 4 to 16; less than that of
    each rival without learning that is more than 0.02 above the distance of true wholes from one another;
    the standard deviation within 5 %; three times as many bits in the parts as in z.

    >>> shortfalls([{"k": 4, "model": 0.05, "floor": 0.0, "gaussian": 0.01, "saturated": 0.9, "moments": 0.0,
    ...              "amplitude": 0.91, "w_bits": 30.0, "z_bits": 2.0}])
    ['At K = 4 generated wholes have 0.91 times the standard deviation of true ones (target: within 5 %).']
    """
    return [sentence for row in rows for sentence in _of_row(row)]


def _of_row(row: dict[str, Any]) -> list[str]:
    found = []
    where, distance, amplitude = f"At K = {row['k']}", row["model"], row["amplitude"]
    target = DISTANCE_TARGETS.get(row["k"])
    if target is not None and not distance <= target:
        found.append(f"{where} the energy distance to true wholes is {distance:.3f} (target: at most {target}).")
    ahead = [
        f"{DISTANCES[name]} ({row[name]:.3f})"
        for name in ("gaussian", "saturated", "moments")
        if row[name] > row["floor"] + BEATABLE and not distance < row[name]
    ]
    if ahead:
        found.append(
            f"{where} what needs no learning is closer to true wholes than the model ({distance:.3f}): "
            f"{', '.join(ahead)}."
        )
    if not abs(amplitude - 1) <= AMPLITUDE_TOLERANCE:
        found.append(
            f"{where} generated wholes have {amplitude:.2f} times the standard deviation of true ones "
            "(target: within 5 %)."
        )
    if not row["w_bits"] >= BITS_RATIO * row["z_bits"]:
        found.append(f"{where} the parts hold {row['w_bits']:.1f} bits and z {row['z_bits']:.1f} (target: 3 to 1).")
    return found
