"""One checkpoint: named tensors and a few plain values in a safetensors file that proves itself whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import Failure
from .files import reason, write_atomically

FORMAT = "compvae_fast checkpoint 1"


class DamagedCheckpoint(Failure):
    """The file is no checkpoint, or not the whole of one."""


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on from ``step``: tensors by name, and values that JSON can hold."""

    step: int
    tensors: dict[str, Tensor]
    values: dict[str, Any]


def _digest(tensors: dict[str, Tensor], header: dict[str, Any]) -> str:
    """SHA-256 of the header and of every tensor's name and bytes: safetensors itself checks lengths alone."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` to ``path`` atomically: the same bytes for the same content.

    Raises Failure with the cause, ``path`` untouched.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    header = {"step": checkpoint.step, "values": checkpoint.values}
    header["sha256"] = _digest(tensors, header)
    # One entry: safetensors writes several in no fixed order.
    write_atomically(path, save(tensors, metadata={FORMAT: json.dumps(header)}))


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint at ``path``.

    Raises DamagedCheckpoint, saying why, for a file that cannot be read, is truncated, altered, or no checkpoint.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if FORMAT not in metadata:
                raise DamagedCheckpoint(f"{path} is not a checkpoint of compvae_fast")
            # Copies: what get_tensor gives is mapped from the file and would hold its place on the disk.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
    except SafetensorError as error:
        raise DamagedCheckpoint(f"{path} is truncated or not a checkpoint ({error})") from error
    except OSError as error:
        raise DamagedCheckpoint(f"{path} cannot be read: {reason(error)}") from error
    try:
        header = json.loads(metadata[FORMAT])
        whole = header.pop("sha256") == _digest(tensors, header)
    except (ValueError, KeyError, AttributeError):
        whole = False
    if not whole:
        raise DamagedCheckpoint(f"{path} is damaged: its content does not match its checksum")
    return Checkpoint(header["step"], tensors, header["values"])
