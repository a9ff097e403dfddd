"""Tables of users' files as columns, and complaints that name the row and the column."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np


class Table:
    """Columns of one file by name.

    Args:
        path: of the file, for messages.
        columns: name -> list of texts (CSV) or of values (Parquet), all of one length.
        first_row: number of the first row as the user counts them: 2 behind a CSV header, 1 in Parquet.
    """

    def __init__(self, path: Path, columns: dict[str, list[Any]], first_row: int) -> None:
        self.path, self.columns, self.first_row = path, columns, first_row
        self.rows = len(next(iter(columns.values()))) if columns else 0

    @classmethod
    def read(cls, path: str | Path, *, delimiter: str = ",") -> Table:
        """A .parquet file (pyarrow must be there), or else a CSV file with a header.

        Raises:
            ValueError: no header, a column twice, or a row of another length.
            OSError: the file cannot be read.
        """
        path = Path(path)
        if path.suffix.lower() in (".parquet", ".pq"):
            try:
                from pyarrow import parquet
            except ImportError:
                raise ImportError(f"{path}: Parquet files need pyarrow: pip install 'compvae-fast[parquet]'") from None
            return cls(path, parquet.read_table(path).to_pydict(), 1)
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, delimiter=delimiter)
            header = [name.strip() for name in next(lines, [])]
            if not header or len(set(header)) < len(header):
                raise ValueError(f"{path}: expected a header with every column once, got {header}")
            rows = []
            for number, row in enumerate(lines, start=2):
                if row and len(row) != len(header):
                    raise ValueError(f"{path}, row {number}: expected {len(header)} values, got {len(row)}")
                rows.append(row or [""] * len(header))
        while rows and not any(rows[-1]):
            rows.pop()
        return cls(path, {name: [row[i].strip() for row in rows] for i, name in enumerate(header)}, 2)

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self.columns:
            raise ValueError(f"{self.path}: expected a column {name!r}, got {', '.join(self.columns) or 'none'}")
        return self.columns[name]

    def wrong(self, index: int, column: str, expected: str) -> ValueError:
        """What to raise about one value."""
        return ValueError(
            f"{self.path}, row {index + self.first_row}, column {column!r}: expected {expected}, "
            f"got {self.columns[column][index]!r}"
        )

    def numbers(self, name: str, *, least: float | None = None) -> np.ndarray:
        """The column as float64; a text, a NaN, an infinity or a value below ``least`` is refused."""
        values = np.empty(self.rows)
        for index, text in enumerate(self[name]):
            try:
                values[index] = float(text)
            except (TypeError, ValueError):
                raise self.wrong(index, name, "a number") from None
        bad = ~np.isfinite(values) if least is None else ~(np.isfinite(values) & (values >= least))
        if bad.any():
            floor = "" if least is None else f" of at least {least:g}"
            raise self.wrong(int(bad.argmax()), name, f"a finite number{floor}")
        return values
