"""The rules of arguments for torch tensors: types, dtypes, shapes and devices always; values where they lie on the CPU.

The first kind is traced by torch.compile without breaking the graph; the second runs inside the registered operation.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from compvae_fast import _loading, _rules

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class _Rules(_rules.Rules):
    def is_array(self, name: str, value) -> None:
        is_tensor(name, value)
        if value.layout != torch.strided or value.is_nested:
            kind = "nested" if value.is_nested else str(value.layout)
            raise TypeError(f"{name}: expected a dense tensor, got a {kind} one")


def is_tensor(name: str, value) -> None:
    """A tensor of any layout, nested ones among them."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")


RULES = _Rules(Tensor, "a torch.Tensor", FLOATS, (torch.int64, torch.int32), torch.bool)

one_of, is_flag, coupling, noise_width = _rules.one_of, _rules.is_flag, _rules.coupling, _rules.noise_width
has_sets, has_shape, same_dtype = _rules.has_sets, _rules.has_shape, _rules.same_dtype

_PLAIN = (Tensor, torch.nn.Parameter)


class Plainness(IntEnum):
    """What a look at the tensors of a call tells of them."""

    WRAPPED = 0  # one is more than its own numbers: a subclass, what a transform, maybe ended, made of it, or negated
    PLAIN = 1
    WANTS_GRADIENT = 2  # plain, and one requires a gradient


def plainness(values: tuple) -> Plainness:
    """What tensors among other values are; not for code that is being compiled."""
    native = _loading.load()[0]
    if native is not None:
        return _PLAINNESS[native.plainness(_PLAIN, *values)]
    tensors = [v for v in values if isinstance(v, Tensor)]
    if any([_is_wrapped(t) for t in tensors]):
        return Plainness.WRAPPED
    return Plainness.WANTS_GRADIENT if any([t.requires_grad for t in tensors]) else Plainness.PLAIN


_PLAINNESS = tuple(Plainness)


def _is_wrapped(t: Tensor) -> bool:
    return (type(t) not in _PLAIN or torch._C._functorch.is_functorch_wrapped_tensor(t) or t.is_neg()
            or t.layout != torch.strided)


def plainly_alike(tensors: dict[str, Tensor]) -> bool:
    """Whether these are plain float tensors of one shape, dtype and device, so that `alike` and the like would pass.

    False tells nothing: so it is in code that is being compiled and where there is no native module.
    """
    native = None if torch.compiler.is_compiling() else _loading.load()[0]
    return native is not None and native.alike(_PLAIN, *tensors.values())


def alike(tensors: dict[str, Tensor], *sides: tuple[str, ...]) -> None:
    """Float tensors of one shape and device; those of one side (names) of one dtype."""
    if not plainly_alike(tensors):
        RULES.alike(tensors, *sides)


is_float = RULES.is_float
is_integer = RULES.is_integer
same_device = RULES.same_device
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
        RULES.is_array("seed", seed)
        if seed.dim() != 0:
            raise ValueError(f"seed: expected a 0-d tensor, got shape {list(seed.shape)}")
        if seed.device != device:
            raise ValueError(f"seed: expected device {device} like the inputs, got {seed.device}")
        return seed
    number = _rules.seed_number(seed, "None, an int or a 0-d int64 tensor")
    return torch.scalar_tensor(number, dtype=torch.int64, device=device)


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
