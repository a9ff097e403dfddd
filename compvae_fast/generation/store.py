"""Wholes in .npz files: an array x [n, ...] and what it was made from."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from compvae_fast.data import Problem
from compvae_fast.training import BadInput
from compvae_fast.training.files import reason, write_atomically


def write_wholes(path: Path, arrays: dict[str, Any]) -> None:
    """Write ``arrays`` as one .npz, atomically. Raises Failure with the cause."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def read_wholes(path: Path, problem: Problem, *, name: str = "--input") -> dict[str, np.ndarray]:
    """Wholes x [n, ...] float32 and their labels [n, K] int64 from an .npz; features and context where there are any.

    Labels may be stored as [K], one multiset that all wholes share, features [K, F] and context [C] likewise. Raises
    BadInput where the file is not there, is no .npz, or lacks arrays of these shapes.
    """
    floats = {"features": problem.features, "context": problem.context}
    wanted = ["x", "labels", *(key for key, width in floats.items() if width)]
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files if key in wanted}
    except FileNotFoundError:
        raise BadInput(f"{name}: {path} does not exist") from None
    except OSError as error:
        raise BadInput(f"{name}: {path} cannot be read: {reason(error)}") from error
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{name}: {path} is no .npz file, or a damaged one") from error
    if missing := set(wanted) - arrays.keys():
        raise BadInput(
            f"{name}: expected arrays {' and '.join(wanted)} in {path}, found no {' and no '.join(sorted(missing))}"
        )
    x, labels = arrays["x"], arrays["labels"]
    if x.ndim < 1 or x.shape[1:] != problem.shape or x.dtype.kind != "f":
        expected = ", ".join(map(str, ("n", *problem.shape)))
        raise BadInput(f"{name}: x: expected floats [{expected}], got {x.dtype} {list(x.shape)}")
    if labels.dtype.kind not in "iu" or labels.ndim not in (1, 2) or (labels.ndim == 2 and len(labels) != len(x)):
        raise BadInput(
            f"{name}: labels: expected integers [K] or [{len(x)}, K], got {labels.dtype} {list(labels.shape)}"
        )
    labels = np.broadcast_to(labels, (len(x), labels.shape[-1]))
    found = {"x": x.astype(np.float32), "labels": labels.astype(np.int64)}
    for key, width in floats.items():
        if width:
            shape = (*labels.shape, width) if key == "features" else (len(x), width)
            values = arrays[key]
            if values.dtype.kind != "f" or values.shape not in (shape, shape[1:]):
                raise BadInput(f"{name}: {key}: expected floats {list(shape)}, got {values.dtype} {list(values.shape)}")
            found[key] = np.broadcast_to(values, shape).astype(np.float32)
    for key in ("x", *floats):
        if key in found and not np.isfinite(found[key]).all():
            raise BadInput(f"{name}: {key}: expected finite values, got NaN or infinite ones")
    return found
