"""Runs of generation: the wholes of a table, in files that are the same bytes however often the run was cut short.

DIR/manifest.json        what the wholes are made from, the shards, and whether all are there
DIR/shard-NNNNNN.npz     x [R, 200], and the row of the table, the draw and the seed of each whole
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compvae_fast.training import BadInput, Failure, Run
from compvae_fast.training.files import reason, write_atomically
from compvae_fast.training.folder import differences
from compvae_fast.training.interrupt import interruptible
from compvae_fast.training.state import rounding
from compvae_fast.training.threads import at_most

from .jobs import Jobs, batches

try:
    import fcntl
except ImportError:  # not on Windows: there two writers are not kept apart
    fcntl = None  # type: ignore[assignment]

FORMAT = "compvae_fast wholes 1"
MANIFEST = "manifest.json"
_OURS = re.compile(r"manifest\.json|shard-\d{6,}\.npz|\.lock-\d+|\..*\.tmp")


@dataclass(frozen=True)
class Worker:
    """One of the processes of a run, as torchrun numbers them."""

    rank: int = 0
    count: int = 1

    @classmethod
    def of_environment(cls) -> Worker:
        """By RANK and WORLD_SIZE; alone without them."""
        return cls(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


@dataclass(frozen=True)
class Generated:
    """How a worker ended: how many wholes there are of those asked for, and the signal that stopped it, or None."""

    wholes: int
    asked: int
    signal: int | None


@torch.no_grad()
def generate_shards(
    run: Run,
    jobs: Jobs,
    out: Path,
    *,
    per_shard: int = 1024,
    noise: bool = True,
    worker: Worker | None = None,
    progress: Callable[[int], object] | None = None,
) -> Generated:
    """Draw all wholes of a table into the folder ``out``, or those that are not there yet.

    Draw d of a row is the whole that ``generate_wholes`` of its multiset, its seed and ``first=d`` gives: the same
    latents, and the same x to the rounding of the networks' products. Shards are written whole or not at all, by one
    thread each, so that neither a kill nor the number of workers changes a byte of them.

    Args:
        run: from ``load_run``.
        jobs: from ``read_jobs``.
        out: a new or empty folder, or one of the same run.
        per_shard: wholes in a shard.
        noise: whether observation noise is added to the mean of p(x | z, w~).
        worker: which of how many this is; default by RANK and WORLD_SIZE, which torchrun sets. Worker r makes the
            shards r, r + count, ...
        progress: called with the wholes done (or found done) since it was last called.

    Raises BadInput for a folder that cannot serve, Failure where writing fails.
    """
    if per_shard < 1:
        raise BadInput(f"--wholes_per_shard: expected at least 1, got {per_shard}")
    worker = worker or Worker.of_environment()
    plan = _plan(run, jobs, per_shard, noise)
    shards = plan["shards"]
    with _claimed(out, worker), interruptible() as heard, at_most(1):
        _begin(out, plan, worker)
        last = np.cumsum(jobs.draws)
        for number in range(worker.rank, len(shards), worker.count):
            if heard.signal is not None:
                break
            path = out / shards[number]["file"]
            if not path.exists():
                data = _shard(run, jobs, last, number * per_shard, shards[number]["wholes"], noise)
                write_atomically(path, data, owner=str(worker.rank))
            if progress is not None:
                progress(shards[number]["wholes"])
        there = [shard["wholes"] for shard in shards if (out / shard["file"]).exists()]
        if len(there) == len(shards):
            _finish(out, plan, worker)
    return Generated(sum(there), jobs.wholes, heard.signal)


def _shard(run: Run, jobs: Jobs, last: np.ndarray, first: int, wholes: int, noise: bool) -> bytes:
    index = np.arange(first, first + wholes)
    job = np.searchsorted(last, index, side="right")
    draw = index - (last[job] - jobs.draws[job])
    x: np.ndarray | None = None
    for batch in batches(jobs, job, draw):
        made = run.model.generate(**batch.arguments, noise=noise).numpy()
        x = np.empty((wholes, made.shape[1]), made.dtype) if x is None else x
        x[batch.places] = made
    buffer = io.BytesIO()
    np.savez(buffer, x=x, job=job, draw=draw, seed=jobs.seeds[job].astype(np.uint64))  # type: ignore[arg-type]
    return buffer.getvalue()


def _plan(run: Run, jobs: Jobs, per_shard: int, noise: bool) -> dict[str, Any]:
    """The manifest of a run in which all is still to do."""
    digest = hashlib.sha256()
    for name, tensor in sorted(run.model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    identity = {
        "model": {"preset": run.model.config.preset, "step": run.step, "sha256": digest.hexdigest()},
        "jobs": {"rows": len(jobs), "wholes": jobs.wholes, "sha256": jobs.sha256},
        "wholes_per_shard": per_shard,
        "noise": noise,
    }
    shards = [
        {"file": f"shard-{number:06d}.npz", "wholes": min(per_shard, jobs.wholes - first)}
        for number, first in enumerate(range(0, jobs.wholes, per_shard))
    ]
    versions = rounding(run.config)
    return {"format": FORMAT, "complete": False, "identity": identity, "rounding": versions, "shards": shards}


@contextlib.contextmanager
def _claimed(out: Path, worker: Worker) -> Iterator[None]:
    """The folder, made if need be and held against a second worker of the same number."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        others = [path.name for path in out.iterdir() if not _OURS.fullmatch(path.name)]
        if others:
            raise BadInput(f"--out: {out} holds other files, {others[0]} for one; choose a new or empty folder")
        lock = open(out / f".lock-{worker.rank}", "wb")
    except FileExistsError:
        raise BadInput(f"--out: expected a folder, got the file {out}") from None
    except OSError as error:
        raise BadInput(f"--out: {out} cannot be written: {reason(error)}") from error
    with lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadInput(f"--out: another process is generating in {out}") from None
        yield


def _begin(out: Path, plan: dict[str, Any], worker: Worker) -> None:
    """See that the folder is this run's, and clear away what a kill while writing left."""
    for leftover in out.glob(f".*.{worker.rank}.tmp"):
        leftover.unlink(missing_ok=True)
    stored = _stored(out)
    if stored is None:
        return _write(out, plan, worker)
    different = differences(stored["identity"], plan["identity"])
    if different:
        raise BadInput(f"--out: {out} holds the wholes of another run: {'; '.join(different)}")
    apart = differences(stored["rounding"], plan["rounding"])
    if apart:
        warnings.warn(f"the run goes on, but not bit for bit as it would have: {'; '.join(apart)}", stacklevel=3)


def _finish(out: Path, plan: dict[str, Any], worker: Worker) -> None:
    """Write the manifest of a run that is done, with the digest of each shard."""
    stored = _stored(out) or plan
    if stored["complete"]:
        return
    for shard in stored["shards"]:
        with open(out / shard["file"], "rb") as file:
            shard["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    _write(out, {**stored, "complete": True}, worker)
    for leftover in out.glob(".shard-*.tmp"):
        leftover.unlink(missing_ok=True)


def _stored(out: Path) -> dict[str, Any] | None:
    path = out / MANIFEST
    try:
        stored = json.loads(path.read_bytes())
        if stored["format"] != FORMAT:
            raise Failure(f"{path} was written by another version of compvae_fast: {stored['format']}")
        stored["identity"], stored["rounding"], stored["shards"], stored["complete"]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failure(f"{path} cannot be read: {reason(error)}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Failure(f"{path} is damaged or no manifest") from error
    return stored


def _write(out: Path, manifest: dict[str, Any], worker: Worker) -> None:
    write_atomically(out / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode(), owner=str(worker.rank))
