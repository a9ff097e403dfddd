"""Tables of what to generate: a multiset, a seed and a number of draws in each row."""

from __future__ import annotations

import csv
import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compvae_fast.data import problem
from compvae_fast.models import CompVAEConfig
from compvae_fast.training import BadInput
from compvae_fast.training.files import reason

from .multisets import MOST, parse_counts, parse_labels

COLUMNS = ("labels", "counts", "seed", "n")


@dataclass(frozen=True)
class Jobs:
    """The rows of a table.

    Args:
        labels: of all rows, one after the other, [N] int64; offsets [J + 1]: where each row's are.
        counts: parts of each label, [J, C] int64, of the rows that have counts.
        counted: [J] bool, which rows have counts in place of labels.
        seeds: [J] int64, the seeds in two's complement.
        draws: [J] int64, wholes of each row.
        sha256: of the table's content.
    """

    labels: np.ndarray
    offsets: np.ndarray
    counts: np.ndarray
    counted: np.ndarray
    seeds: np.ndarray
    draws: np.ndarray
    sha256: str

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def wholes(self) -> int:
        """How many wholes the table asks for."""
        return int(self.draws.sum())

    def sizes(self) -> np.ndarray:
        """Labels of each row, [J]; 0 where it has counts."""
        return np.diff(self.offsets)


def read_jobs(path: Path, config: CompVAEConfig) -> Jobs:
    """The table in a .csv, .parquet or .npz file.

    Columns: ``labels`` ("1,1,5,7", with commas or blanks; in .parquet also lists; in .npz [J, K], or [N] beside
    ``offsets`` [J + 1]) or ``counts`` ("1:1000000,5:3"; or numbers of parts of each label, [J, C]); a row has one of
    the two. ``seed``, 0 to 2^64 - 1, default the number of the row, from 0; ``n``, the draws, default 1.

    Raises BadInput naming the file, the row and the column.
    """
    asked = problem(config.problem)
    if asked.features or asked.context:
        raise BadInput(f"--jobs: expected a run whose parts are told by labels alone, got one of {asked.name!r}")
    readers = {".csv": _csv_rows, ".parquet": _parquet_rows, ".npz": _npz_rows}
    if path.suffix not in readers:
        raise BadInput(f"--jobs: expected a .csv, .parquet or .npz file, got {path}")
    try:
        return _jobs(readers[path.suffix](path), path, config)
    except FileNotFoundError:
        raise BadInput(f"--jobs: {path} does not exist") from None
    except OSError as error:
        raise BadInput(f"--jobs: {path} cannot be read: {reason(error)}") from error


def _jobs(rows: Iterator[dict[str, Any]], path: Path, config: CompVAEConfig) -> Jobs:
    labels: list[np.ndarray] = []
    counts: list[np.ndarray] = []
    seeds: list[int] = []
    draws: list[int] = []
    counted: list[bool] = []
    nothing = np.zeros(0, np.int64), np.zeros(config.num_labels, np.int64)
    for number, row in enumerate(rows):
        where = f"--jobs: {path}, row {number}"
        given = [name for name in ("labels", "counts") if not _is_missing(row.get(name))]
        if len(given) != 1:
            raise BadInput(f"{where}: expected labels or counts, got {' and '.join(given) or 'neither'}")
        counted.append(given == ["counts"])
        labels.append(nothing[0] if counted[-1] else _labels(row["labels"], config, f"{where}: labels"))
        counts.append(_counts(row["counts"], config, f"{where}: counts") if counted[-1] else nothing[1])
        seeds.append(_whole_number(row.get("seed"), number, 0, 2**64 - 1, f"{where}: seed"))
        draws.append(_whole_number(row.get("n"), 1, 1, 2**40, f"{where}: n"))
    if not seeds:
        raise BadInput(f"--jobs: {path} has no rows")
    columns = (
        np.concatenate(labels),
        np.concatenate([[0], np.cumsum([len(row) for row in labels])]).astype(np.int64),
        np.stack(counts),
        np.array(counted),
        np.array(seeds, dtype=np.uint64).astype(np.int64),
        np.array(draws, dtype=np.int64),
    )
    digest = hashlib.sha256()
    for column in columns:
        digest.update(f"{column.dtype} {column.shape}".encode() + np.ascontiguousarray(column).tobytes())
    return Jobs(*columns, digest.hexdigest())


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _labels(value: Any, config: CompVAEConfig, name: str) -> np.ndarray:
    if isinstance(value, str):
        parsed = parse_labels(",".join(value.replace(",", " ").split()), config, name=name)
        return np.array(parsed, dtype=np.int64)
    labels = _integers(value, name)
    first, last = config.first_label, config.first_label + config.num_labels - 1
    wrong = (labels < first) | (labels > last)
    if wrong.any():
        raise BadInput(f"{name}: expected labels in {first}..{last}, got {labels[wrong][0]}")
    return labels


def _counts(value: Any, config: CompVAEConfig, name: str) -> np.ndarray:
    if isinstance(value, str):
        parsed = parse_counts(",".join(value.replace(",", " ").split()), config, name=name)
        every = range(config.first_label, config.first_label + config.num_labels)
        return np.array([parsed.get(label, 0) for label in every], dtype=np.int64)
    counts = _integers(value, name)
    if len(counts) != config.num_labels:
        raise BadInput(f"{name}: expected {config.num_labels} numbers, one for each label, got {len(counts)}")
    if len(counts) and not (counts.min() >= 0 and counts.max() <= MOST):
        raise BadInput(f"{name}: expected values in 0..2^53, got {counts.min()}..{counts.max()}")
    return counts


def _integers(value: Any, name: str) -> np.ndarray:
    array = np.asarray(value)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise BadInput(f"{name}: expected whole numbers, got {array.dtype} {list(array.shape)}")
    return array.astype(np.int64)


def _whole_number(value: Any, default: int, least: int, most: int, name: str) -> int:
    if _is_missing(value):
        return default
    try:
        number = int(value)
        exact = isinstance(value, str) or number == value
    except (ValueError, TypeError, OverflowError):
        exact = False
    if not exact or not least <= number <= most:
        raise BadInput(f"{name}: expected a whole number in {least}..{most}, got {str(value)!r}")
    return number


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.DictReader(file)
        _check_columns(reader.fieldnames or [], path)
        try:
            for number, row in enumerate(reader):
                if None in row or None in row.values():
                    raise BadInput(
                        f"--jobs: {path}, row {number}: expected {len(reader.fieldnames or [])} columns, got "
                        f"{'more' if None in row else 'fewer'}; labels with commas need quotes around them"
                    )
                yield row
        except csv.Error as error:
            raise BadInput(f"--jobs: {path}: no table ({error})") from error


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ModuleNotFoundError:
        raise BadInput("--jobs: a .parquet table needs pip install 'compvae-fast[parquet]'") from None
    with open(path, "rb"):
        pass  # a file that is not there is told apart from one that is no table
    try:
        table = parquet.ParquetFile(path)
        _check_columns(table.schema_arrow.names, path)
        for batch in table.iter_batches():
            yield from batch.to_pylist()
    except ArrowInvalid as error:
        raise BadInput(f"--jobs: {path} is no .parquet file, or a damaged one ({error})") from error


def _npz_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"--jobs: {path} is no .npz file, or a damaged one") from error
    offsets = arrays.pop("offsets", None)
    _check_columns(list(arrays), path)
    if offsets is not None and "labels" in arrays:
        labels = arrays["labels"]
        rises = offsets.ndim == 1 and len(offsets) > 0 and offsets.dtype.kind in "iu" and (np.diff(offsets) >= 0).all()
        if not rises or offsets[0] != 0 or offsets[-1] != len(labels):
            raise BadInput(f"--jobs: {path}: offsets: expected to rise from 0 to {len(labels)}, the number of labels")
        ragged = np.empty(len(offsets) - 1, dtype=object)
        ragged[:] = [labels[start:end] for start, end in zip(offsets, offsets[1:])]
        arrays["labels"] = ragged
    lengths = {name: column.shape[0] if column.ndim else -1 for name, column in arrays.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise BadInput(f"--jobs: {path}: expected columns of one length, got {told}")
    for values in zip(*arrays.values()):
        yield dict(zip(arrays, values))


def _check_columns(names: Any, path: Path) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or not {"labels", "counts"} & set(names):
        found = ", ".join(map(str, names)) or "none"
        raise BadInput(f"--jobs: {path}: expected columns labels or counts, and seed and n, got {found}")


@dataclass(frozen=True)
class Batch:
    """Rows of wholes of one kind: the arguments of ``CompVAE.generate``, and where the wholes go."""

    places: np.ndarray
    arguments: dict[str, Any]


def batches(jobs: Jobs, job: np.ndarray, draw: np.ndarray, most_parts: int = 1 << 22) -> Iterator[Batch]:
    """What to call ``CompVAE.generate`` with for wholes ``draw`` of rows ``job``; it depends on these alone."""
    sizes = jobs.sizes()
    for kind in (False, True):
        places = np.flatnonzero(jobs.counted[job] == kind)
        cuts = np.cumsum(sizes[job[places]]) // most_parts
        for group in np.split(places, np.flatnonzero(np.diff(cuts)) + 1):
            if len(group):
                yield Batch(group, _arguments(jobs, job[group], draw[group], kind))


def _arguments(jobs: Jobs, job: np.ndarray, draw: np.ndarray, counted: bool) -> dict[str, Any]:
    noise = {"seed": torch.from_numpy(jobs.seeds[job]), "set_index": torch.from_numpy(draw)}
    if counted:
        return {"counts": torch.from_numpy(jobs.counts[job]), **noise}
    sizes = jobs.sizes()[job]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    rows = np.arange(offsets[-1]) + np.repeat(jobs.offsets[job] - offsets[:-1], sizes)
    return {"labels": torch.from_numpy(jobs.labels[rows]), "offsets": torch.from_numpy(offsets), **noise}
