"""Wholes in .npz files: an array x [n, T] and what it was made from."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from compvae_fast.data.sines import LENGTH
from compvae_fast.training import BadInput
from compvae_fast.training.files import reason, write_atomically


def write_wholes(path: Path, arrays: dict[str, Any]) -> None:
    """Write ``arrays`` as one .npz, atomically. Raises Failure with the cause."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def read_wholes(path: Path, *, name: str = "--input") -> tuple[np.ndarray, np.ndarray]:
    """Wholes x [n, 200] float32 and their labels [n, K] int64 from an .npz.

    Labels may be stored as [K], one multiset that all wholes share. Raises BadInput where the file is not
    there, is no .npz, or lacks arrays of these shapes.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files if key in ("x", "labels")}
    except FileNotFoundError:
        raise BadInput(f"{name}: {path} does not exist") from None
    except OSError as error:
        raise BadInput(f"{name}: {path} cannot be read: {reason(error)}") from error
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{name}: {path} is no .npz file, or a damaged one") from error
    if missing := {"x", "labels"} - arrays.keys():
        raise BadInput(f"{name}: expected arrays x and labels in {path}, found no {' and no '.join(sorted(missing))}")
    x, labels = arrays["x"], arrays["labels"]
    if x.ndim != 2 or x.shape[1] != LENGTH or x.dtype.kind != "f":
        raise BadInput(f"{name}: x: expected floats [n, {LENGTH}], got {x.dtype} {list(x.shape)}")
    if not np.isfinite(x).all():
        raise BadInput(f"{name}: x: expected finite values, got NaN or infinite ones")
    if labels.dtype.kind not in "iu" or labels.ndim not in (1, 2) or (labels.ndim == 2 and len(labels) != len(x)):
        raise BadInput(
            f"{name}: labels: expected integers [K] or [{len(x)}, K], got {labels.dtype} {list(labels.shape)}"
        )
    labels = np.broadcast_to(labels, (len(x), labels.shape[-1]))
    return x.astype(np.float32), labels.astype(np.int64)
