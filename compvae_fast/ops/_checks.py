"""The rules of arguments for torch tensors: types, dtypes, shapes and devices always; values where they lie on the CPU.

The first kind is traced by torch.compile without breaking the graph; the second runs inside the registered operation.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from compvae_fast import _rules

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
RULES = _rules.Rules(Tensor, "a torch.Tensor", FLOATS, (torch.int64, torch.int32), torch.bool)

MAX_COORDINATES = _rules.MAX_COORDINATES
one_of, is_flag, coupling = _rules.one_of, _rules.is_flag, _rules.coupling
has_sets, has_shape, same_dtype = _rules.has_sets, _rules.has_shape, _rules.same_dtype

is_tensor = RULES.is_array
is_float = RULES.is_float
is_integer = RULES.is_integer
same_device = RULES.same_device
alike = RULES.alike
sets = RULES.sets
per_set_index = RULES.per_set_index
tables = RULES.tables
counts = RULES.counts
labels_given = RULES.labels_given
labels = RULES.labels
mask = RULES.mask
observation = RULES.observation


def seed_tensor(seed, device: torch.device) -> Tensor:
    """The seed as a 0-d int64 tensor (two's complement of the number modulo 2^64); None draws one from torch."""
    if seed is None:
        return torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64, device=device)
    if isinstance(seed, Tensor):
        if seed.dtype != torch.int64:
            raise TypeError(f"seed: expected None, an int or a 0-d int64 tensor, got dtype {seed.dtype}")
        if seed.dim() != 0:
            raise ValueError(f"seed: expected a 0-d tensor, got shape {list(seed.shape)}")
        if seed.device != device:
            raise ValueError(f"seed: expected device {device} like the inputs, got {seed.device}")
        return seed
    number = _rules.seed_number(seed, "None, an int or a 0-d int64 tensor")
    return torch.full((), number, dtype=torch.int64, device=device)


def layout_values(rows: int, slots: int | None, offsets: Tensor | None, lengths: Tensor | None) -> None:
    _rules.layout_values(rows, slots, _values(offsets), _values(lengths))


def noise_values(sizes_at_most: int, width: int, set_index: Tensor | None, part_start: Tensor | None) -> None:
    _rules.noise_values(sizes_at_most, width, _values(set_index), _values(part_start))


def label_values(labels: Tensor, classes: int, lengths: Tensor | None) -> None:
    if labels.device.type == "cpu":
        _rules.label_values(labels.numpy(), classes, _values(lengths))


def count_values(counts: Tensor) -> None:
    if counts.device.type == "cpu":
        _rules.count_values(counts.numpy())


def _values(t: Tensor | None) -> np.ndarray | None:
    """The values of an index tensor where reading them waits for no device."""
    return None if t is None or t.device.type != "cpu" else t.numpy()
