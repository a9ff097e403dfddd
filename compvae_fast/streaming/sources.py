"""Where the parts of a long multiset come from: arrays, mapped files, text files, iterables."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

READ = 1 << 20  # bytes of text at a time


def is_stream(labels: Any) -> bool:
    """Whether these are labels to be read piece by piece: an array, a path, an iterator, any iterable but a sequence.

    >>> import torch
    >>> is_stream(iter([1, 2])), is_stream([1, 2]), is_stream(torch.tensor([1, 2]))
    (True, False, False)
    """
    if isinstance(labels, (np.ndarray, os.PathLike)):
        return True
    return isinstance(labels, Iterable) and not isinstance(labels, (Tensor, list, tuple, str, bytes))


class TextParts:
    """The rows of a text file, one part each: a whole number, or the numbers of its features with commas between."""

    def __init__(self, path: Path):
        self.path = path
        with open(path, "rb") as file:
            first = file.readline()
            file.seek(0)
            last, rows = b"\n", 0
            while piece := file.read(READ):
                rows += piece.count(b"\n")
                last = piece[-1:]
        self._rows = rows + (last != b"\n")
        self._features = b"," in first or b"." in first

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[np.ndarray]:
        done = 0
        with open(self.path, encoding="utf-8", errors="replace") as file:
            while lines := file.readlines(READ):
                yield self._parsed(lines, done)
                done += len(lines)

    def _parsed(self, lines: list[str], done: int) -> np.ndarray:
        parse: Any = _features if self._features else int
        wanted = "numbers with commas between them" if self._features else "a whole number"
        rows: list[Any] = []
        for number, line in enumerate(lines, done):
            try:
                row = parse(line)
                if self._features and rows and len(row) != len(rows[0]):
                    raise ValueError
            except ValueError:
                raise ValueError(f"{self.path}: row {number}: expected {wanted}, got {line.strip()!r}") from None
            rows.append(row)
        return np.array(rows, dtype=np.float32 if self._features else np.int64)


def _features(line: str) -> list[float]:
    return [float(item) for item in line.split(",")]


def open_parts(path: str | os.PathLike) -> np.ndarray | TextParts:
    """The parts in a file, read as they are needed.

    Args:
        path: ``.npy`` with integers [K] (labels) or floats [K, F] (features of each part), which is mapped into memory;
            or ``.txt`` or ``.csv`` with a part in each row.

    Raises:
        ValueError: for another kind of file, for an .npy that is damaged, truncated or of another shape, and, when the
            rows are read, for a bad row of text, saying which.
        OSError: where it cannot be read.
    """
    path = Path(path)
    if path.suffix in (".txt", ".csv"):
        return TextParts(path)
    if path.suffix != ".npy":
        raise ValueError(f"{path}: expected a file of the kind .npy, .txt or .csv, got {path.suffix or 'no ending'!r}")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: damaged, truncated or no .npy file ({error})") from error
    if (array.ndim, array.dtype.kind) not in ((1, "i"), (1, "u"), (2, "f")):
        raise ValueError(f"{path}: expected integers [K] or floats [K, F], got {array.dtype} {list(array.shape)}")
    return array


def opened(source: Any) -> Any:
    """The source, its file opened where it is a path."""
    return open_parts(source) if isinstance(source, (str, os.PathLike)) else source


def length_of(source: Any) -> int | None:
    """How many parts a source says it has; None where it does not know."""
    counts_parts = isinstance(source, (np.ndarray, Tensor, TextParts))
    return len(source) if counts_parts else None


def blocks(source: Any, size: int) -> Iterator[Tensor]:
    """The parts of a source as tensors of ``size`` rows, the last one shorter.

    Items of an iterable may be single parts, or arrays or tensors of any number of them.
    """
    if isinstance(source, (np.ndarray, Tensor)):
        for first in range(0, len(source), size):
            yield _tensor(source[first : first + size])
        return
    items = iter(source)
    first_item = next(items, None)
    if first_item is None:
        return
    items = itertools.chain([first_item], items)
    pieces = items if _rows_of(first_item) else iter(lambda: list(itertools.islice(items, size)), [])
    held: list[Tensor] = []
    rows = 0
    for piece in pieces:
        held.append(_tensor(piece))
        rows += len(held[-1])
        if rows >= size:
            together = torch.cat(held)
            whole = rows - rows % size
            yield from together[:whole].split(size)
            held, rows = [together[whole:].clone()], rows - whole
    if rows:
        yield torch.cat(held)


def _rows_of(item: Any) -> bool:
    """Whether an item holds rows of its own."""
    return isinstance(item, (np.ndarray, Tensor, list, tuple)) and np.ndim(item) > 0


def _tensor(rows: Any) -> Tensor:
    """Labels as int64, features as they are."""
    if isinstance(rows, Tensor):
        tensor = rows
    else:
        array = np.asarray(rows)
        if array.dtype.kind not in "iuf" or array.dtype == np.uint64:
            raise TypeError(f"parts: expected whole numbers or floats, got {array.dtype}")
        # a copy in memory of its own: mapped files are read here, and may be read-only
        return torch.from_numpy(np.array(array, dtype=np.int64 if array.dtype.kind in "iu" else array.dtype))
    if tensor.dtype == torch.bool or tensor.is_complex():
        raise TypeError(f"parts: expected whole numbers or floats, got {tensor.dtype}")
    return tensor if tensor.is_floating_point() else tensor.to(torch.int64)
