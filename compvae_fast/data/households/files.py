"""Where users' own records are, as a run of training remembers it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

from .contracts import LABELS
from .reader import Record, read, read_simbench
from .recorded import Recorded

PLACES = ("curves", "contracts", "temperature", "simbench")
_SIMBENCH = ("Load.csv", "LoadProfile.csv")


@dataclass(frozen=True)
class RecordFiles:
    """A record of households to train on.

    Args:
        curves, contracts, temperature: files, as ``households.read`` takes them.
        simbench: instead of these, the folder of a SimBench grid.
        timezone, fill: as ``households.read`` takes them.
        held_out: share of the record's weeks, the last ones, that measure and are never trained on; one at least.
        sha256: pairs (which of the above, digest of what it was when training began); empty before.
    """

    curves: str | None = None
    contracts: str | None = None
    temperature: str | None = None
    simbench: str | None = None
    timezone: str = "Europe/Paris"
    fill: int = 2
    held_out: float = 0.2
    sha256: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if (self.curves is None) == (self.simbench is None):
            raise ValueError("data.curves, data.simbench: expected exactly one of them")
        if self.simbench is not None and (self.contracts or self.temperature):
            raise ValueError("data.contracts, data.temperature: expected none beside data.simbench, which has none")
        if not 0 < self.held_out < 1:
            raise ValueError(f"data.held_out: expected a share of the weeks between 0 and 1, got {self.held_out}")

    def problem(self, num_labels: int, *, hidden_context: bool) -> Recorded:
        """Neighbourhoods of these households for a model of so many labels.

        Raises:
            ValueError: contracts or temperatures that the model needs are missing.
        """
        if num_labels not in (1, LABELS[1]):
            raise ValueError(f"model.num_labels: expected {LABELS[1]}, or 1 for households all alike, got {num_labels}")
        if num_labels > 1 and self.contracts is None:
            raise ValueError(
                f"data.contracts: expected a file, for the model tells {num_labels} contracts apart; a record without "
                "contracts trains with --model.num_labels 1 --recipe.labels [1,1]"
            )
        if self.temperature is None and not hidden_context:
            raise ValueError(
                "data.temperature: expected a file, for the model is told the temperature; a record without trains "
                "with --model.hidden_context true"
            )
        return _recorded(self, (1, num_labels))

    def settled(self, sha256: tuple[tuple[str, str], ...] = ()) -> RecordFiles:
        """The same with absolute paths, and digests of what the files are now.

        Args:
            sha256: digests that they must have, where there are any.

        Raises:
            ValueError: a file that is not there, or is another one than it was.
        """
        places = {name: str(Path(path).absolute()) for name in PLACES if (path := getattr(self, name)) is not None}
        found = {name: _digest(name, Path(path)) for name, path in places.items()}
        for name, before in sha256:
            if found.get(name, before) != before:
                raise ValueError(
                    f"data.{name}: {places[name]} has changed since training began: its SHA-256 was {before[:12]}.., "
                    f"now it is {found[name][:12]}.."
                )
        return dataclasses.replace(self, **places, sha256=tuple(found.items()))  # type: ignore[arg-type]

    def read(self) -> Record:
        """The record, as long as the files are what they were. Raises ValueError, naming the file."""
        return _read(self.settled(self.sha256))


def _digest(name: str, path: Path) -> str:
    digest = hashlib.sha256()
    try:
        for file in [path / part for part in _SIMBENCH] if name == "simbench" else [path]:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    except OSError as error:
        raise ValueError(
            f"data.{name}: {error.filename or path} cannot be read ({error.strerror}); if it has moved, the same "
            "training command with its new place goes on, and makes the run know it"
        ) from error
    return digest.hexdigest()


@functools.lru_cache(maxsize=2)
def _recorded(files: RecordFiles, labels: tuple[int, int]) -> Recorded:
    return Recorded(files, labels)


# the configurations of one process, with digests and without, have the record once
@functools.lru_cache(maxsize=1)
def _read(files: RecordFiles) -> Record:
    if files.simbench is not None:
        return read_simbench(files.simbench, fill=files.fill)
    assert files.curves is not None
    return read(files.curves, files.contracts, files.temperature, timezone=files.timezone, fill=files.fill)
