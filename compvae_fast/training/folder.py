"""Run folders: what lies where in them, and whose they are.

RUN/config.json                              what the run was told
RUN/log.jsonl                                the losses, one row per interval: the same bytes for the same command
RUN/timing.jsonl                             seconds of training at the same steps
RUN/checkpoints/step-NNNNNNNNN.safetensors   the last two states, and earlier ones as `keep_every` says
"""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from compvae_fast.data.households import RecordFiles
from compvae_fast.data.households.files import PLACES
from compvae_fast.models import CompVAEConfig, TrainingRecipe

from .checkpoint import Checkpoint, DamagedCheckpoint, read_checkpoint, write_checkpoint
from .config import DECISIVE, TrainingConfig
from .errors import BadInput, Failure
from .files import reason, temporary_name, write_json

try:
    import fcntl
except ImportError:  # not on Windows: there two writers are not kept apart
    fcntl = None  # type: ignore[assignment]

KEPT = 2
_PLACES = {f"data.{name}" for name in PLACES}
_NAME = re.compile(r"step-(\d{9})\.safetensors")


@dataclass(frozen=True)
class RunFolder:
    """The places of one run."""

    path: Path

    @property
    def config_path(self) -> Path:
        return self.path / "config.json"

    @property
    def log_path(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def timing_path(self) -> Path:
        return self.path / "timing.jsonl"

    @property
    def lock_path(self) -> Path:
        return self.path / ".lock"

    @property
    def checkpoints_path(self) -> Path:
        return self.path / "checkpoints"

    def checkpoint_paths(self) -> list[Path]:
        """The checkpoints by their names, newest first."""
        if not self.checkpoints_path.is_dir():
            return []
        return sorted((p for p in self.checkpoints_path.iterdir() if _NAME.fullmatch(p.name)), reverse=True)

    def save(self, checkpoint: Checkpoint, keep_every: int | None = None) -> None:
        """Write a checkpoint, then let go of all but the last ``KEPT`` and those of every ``keep_every`` steps."""
        write_checkpoint(self.checkpoints_path / f"step-{checkpoint.step:09d}.safetensors", checkpoint)
        for path in self.checkpoint_paths()[KEPT:]:
            if keep_every is None or step_of(path) % keep_every:
                path.unlink(missing_ok=True)

    def latest(self, identity: dict[str, Any]) -> tuple[Checkpoint | None, list[Path]]:
        """The newest whole checkpoint of this run, and the newer ones that are none.

        Says so in a warning for each of these. Raises Failure where there are checkpoints and none is whole.
        """
        unusable, causes = [], []
        for path in self.checkpoint_paths():
            try:
                checkpoint = read_checkpoint(path)
                if not _same(checkpoint.values["identity"], identity):
                    raise DamagedCheckpoint(f"{path} belongs to another run")
            except DamagedCheckpoint as error:
                unusable.append(path)
                causes.append(str(error))
                continue
            for cause in causes:
                warnings.warn(f"{cause}; going back to the one of step {checkpoint.step}", stacklevel=2)
            return checkpoint, unusable
        if causes:
            raise Failure(f"{self.path} has no whole checkpoint: {'; '.join(causes)}")
        return None, []


def step_of(path: Path) -> int:
    """The step that a checkpoint's name tells."""
    named = _NAME.fullmatch(path.name)
    assert named is not None
    return int(named[1])


def read_config(folder: RunFolder) -> dict[str, Any]:
    """What config.json says. Raises BadInput where there is none, Failure where it is damaged."""
    if not folder.path.is_dir():
        raise BadInput(f"run: expected a folder made by training, got {folder.path}, which does not exist")
    try:
        stored = json.loads(folder.config_path.read_bytes())
        stored["identity"], stored["steps"]
    except FileNotFoundError:
        raise BadInput(f"run: {folder.path} is no run folder: it has no config.json") from None
    except OSError as error:
        raise Failure(f"{folder.config_path} cannot be read: {reason(error)}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Failure(f"{folder.config_path} is damaged or no run's") from error
    return stored


def config_of(identity: dict[str, Any], steps: int) -> TrainingConfig:
    """The configuration an identity was made from."""
    others = {name: identity[name] for name in DECISIVE}
    try:
        model = CompVAEConfig.from_dict(_with_tuples(identity["model"]))
        training = TrainingRecipe(**_with_tuples(identity["recipe"]))
        data = RecordFiles(**_with_tuples(identity["data"])) if "data" in identity else None
    except (TypeError, ValueError) as error:
        raise Failure(f"the run was made by another version of compvae_fast: {error}") from error
    return TrainingConfig(model=model, recipe=training, steps=steps, data=data, **others)


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    """JSON's lists as the tuples they were."""

    def frozen(value):
        return tuple(frozen(item) for item in value) if isinstance(value, list) else value

    return {name: frozen(value) for name, value in values.items()}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return not differences(one, other)


def differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """What differs between two identities, in words; tuples and lists are the same.

    A setting that an older version did not have yet has its default there.
    """
    defaults = {"model": CompVAEConfig().to_dict(), "recipe": TrainingRecipe().to_dict()}
    default, there, here = (_flat(json.loads(json.dumps(values))) for values in (defaults, there, here))
    there, here = ({**{name: default[name] for name in other if name in default}, **own}
                   for own, other in ((there, here), (here, there)))
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    if there.get("data.sha256") == here.get("data.sha256"):
        # the same files may lie elsewhere
        names = [name for name in names if name not in _PLACES]
    return [f"{name} is {there.get(name)!r} there and {here.get(name)!r} here" for name in names]


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[RunFolder]:
    """The folder at ``path``, made if need be and held against a second writer.

    Raises BadInput where it is no folder, cannot be written, holds something else, or is being trained in.
    """
    folder = RunFolder(path)
    ours = {p.name for p in (folder.config_path, folder.lock_path, temporary_name(folder.config_path))}
    try:
        path.mkdir(parents=True, exist_ok=True)
        found = {p.name for p in path.iterdir()}
        if found and folder.config_path.name not in found and not found <= ours:
            raise BadInput(f"--out: {path} holds other files; choose a new or empty folder")
        lock = open(folder.lock_path, "wb")
    except FileExistsError:
        raise BadInput(f"--out: expected a folder, got the file {path}") from None
    except OSError as error:
        raise BadInput(f"--out: {path} cannot be written: {reason(error)}") from error
    with lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadInput(f"--out: another process is training in {path}") from None
        yield folder


def settle(folder: RunFolder, config: TrainingConfig) -> TrainingConfig:
    """The configuration to go on with: what the first command left open stays what it turned out to be then.

    Raises BadInput, naming what differs, for another run's folder.
    """
    if folder.config_path.exists():
        there = read_config(folder)["identity"]
        known = _with_tuples(there["data"])["sha256"] if "data" in there else ()
        settled = config.settled(horizon=there["horizon"], threads=there["threads"], sha256=known)
        different = differences(there, settled.identity())
        if different:
            more = f"; and {len(different) - 3} more" if len(different) > 3 else ""
            raise BadInput(f"--out: {folder.path} holds another run: {'; '.join(different[:3])}{more}")
        return settled
    return config.settled(horizon=config.steps, threads=torch.get_num_threads())


def begin(folder: RunFolder, config: TrainingConfig) -> None:
    """Write down whose the claimed folder is, and clear away what a kill while saving left."""
    write_json(folder.config_path, {"identity": config.identity(), "steps": config.steps})
    folder.checkpoints_path.mkdir(exist_ok=True)
    for leftover in folder.checkpoints_path.glob(".*.tmp"):
        leftover.unlink()
