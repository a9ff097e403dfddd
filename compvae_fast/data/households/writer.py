"""The simulated town as files such as users have, to see what ``read`` takes and to try commands on."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .causes import HALF_HOURS, HOURS
from .contracts import CONTRACTS
from .simulator import year

_FIRST = datetime.datetime(2018, 1, 1)


def write(folder: str | Path, households: int, *, seed: int, weeks: int = 52) -> None:
    """``year`` as curves.csv, contracts.csv and temperature.csv, which ``read`` gives back, but for rounding to 0.1 W.

        row of curves.csv: household, begin of the half hour, mean watts

    Args:
        folder: made if need be. households, weeks: how many, from week 0 on. seed: of the town.

    Clocks are those of UTC (``read(.., timezone="UTC")``): a simulated week has 336 half hours, whatever the season.
    Raises OSError where the files cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(folder, 2, seed=1, weeks=1)
    ...     print((Path(folder) / "contracts.csv").read_text().splitlines()[0])
    household,contract,kva,group
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    watts, labels, temperature = year(households, seed=seed, count=weeks)
    names = [f"home-{number:04d}" for number in range(households)]
    half_hours = _times(weeks * HALF_HOURS, minutes=30)
    rows = ([name, time, f"{value:.1f}"] for name, line in zip(names, watts.flatten(1).tolist())
            for time, value in zip(half_hours, line))
    _write(folder / "curves.csv", ["household", "timestamp", "watts"], rows)
    kinds = [CONTRACTS[label - 1] for label in labels.tolist()]
    contracts = ([name, of.kind, of.kva, of.group] for name, of in zip(names, kinds))
    _write(folder / "contracts.csv", ["household", "contract", "kva", "group"], contracts)
    degrees = ([time, f"{value:.2f}"] for time, value in zip(_times(weeks * HOURS, minutes=60), temperature.flatten()))
    _write(folder / "temperature.csv", ["timestamp", "celsius"], degrees)


def _times(count: int, *, minutes: int) -> list[str]:
    return [(_FIRST + i * datetime.timedelta(minutes=minutes)).isoformat() for i in range(count)]


def _write(path: Path, header: list[str], rows: Iterable[list[Any]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
