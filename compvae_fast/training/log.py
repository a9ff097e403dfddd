"""Training logs: one JSON object a line, in step with the checkpoints."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .errors import Failure
from .files import reason


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The whole rows of a log; a last line that a kill cut short is left out."""
    return [row for row, _ in _rows_with_ends(path)]


def _rows_with_ends(path: Path) -> list[tuple[dict[str, Any], int]]:
    """Rows and the byte after each."""
    rows, end = [], 0
    if path.exists():
        for line in path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            try:
                row = json.loads(line)
            except ValueError:
                break
            end += len(line)
            rows.append((row, end))
    return rows


class Log:
    """Appends rows to ``path``, after cutting off those past ``step``: they will be written again.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "log.jsonl"
    >>> with Log(path, step=0) as log:
    ...     log.write({"step": 10}); log.write({"step": 20})
    >>> with Log(path, step=10) as log:
    ...     log.write({"step": 15})
    >>> read_rows(path)
    [{'step': 10}, {'step': 15}]
    """

    def __init__(self, path: Path, *, step: int) -> None:
        self.path = path
        kept = [(row, end) for row, end in _rows_with_ends(path) if row["step"] <= step]
        self.last = kept[-1][0] if kept else None
        try:
            self._file = open(path, "ab", buffering=0)
            self._file.truncate(kept[-1][1] if kept else 0)
        except OSError as error:
            raise Failure(f"cannot write {path}: {reason(error)}") from error

    def write(self, row: dict[str, Any]) -> None:
        """Append one row. Raises Failure with the cause."""
        try:
            line = (json.dumps(row) + "\n").encode()
            if self._file.write(line) < len(line):
                raise OSError("the disk took only a part of the row")
        except OSError as error:
            raise Failure(f"cannot write {self.path}: {reason(error)}") from error

    def flush(self) -> None:
        """Flush to the disk, so that no checkpoint outlives the rows before it. Raises Failure with the cause."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise Failure(f"cannot write {self.path}: {reason(error)}") from error

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_) -> None:
        self._file.close()
