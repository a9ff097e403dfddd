"""The model that comes out of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compvae_fast.models import CompVAE

from .checkpoint import read_checkpoint
from .config import TrainingConfig
from .errors import BadInput
from .folder import RunFolder, config_of, read_config
from .log import read_rows
from .state import averaged_model


@dataclass(frozen=True)
class Run:
    """A trained model out of its folder: averaged weights, ready for use.

    Args:
        path: the run folder, or the checkpoint file.
        model: with its averaged weights, gradients off.
        config: what the run was told.
        step: steps it has made.
        skipped: steps that were skipped among them.
        rows: its log.
    """

    path: Path
    model: CompVAE
    config: TrainingConfig
    step: int
    skipped: int
    rows: list[dict[str, Any]]


def load_run(path: str | Path) -> Run:
    """The model of a run folder's newest whole checkpoint, or of one checkpoint file.

    Raises BadInput where ``path`` is no run or has no checkpoint yet, Failure where its files are damaged;
    a damaged newest checkpoint is passed over with a warning.
    """
    path = Path(path)
    if path.is_file():
        checkpoint = read_checkpoint(path)
        config, rows = config_of(checkpoint.values["identity"], checkpoint.step), []
    else:
        folder = RunFolder(path)
        stored = read_config(folder)
        newest, _ = folder.latest(stored["identity"])
        if newest is None:
            raise BadInput(f"run: {path} has no checkpoint yet; train it first")
        checkpoint = newest
        config = config_of(stored["identity"], stored["steps"])
        rows = [row for row in read_rows(folder.log_path) if row["step"] <= checkpoint.step]
    model = averaged_model(config, checkpoint)
    return Run(path, model, config, checkpoint.step, checkpoint.values["skipped"], rows)
