"""What arguments must be: the rules of types, dtypes, shapes and values, for the arrays of any library.

Rules of one array library are a `Rules`; torch.compile traces them without breaking the graph. The values of index
arrays are checked by functions of NumPy arrays, which CPU tensors are without a copy.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

COUPLINGS = ("unit", "scaled")
MAX_PARTS, MAX_SETS, MAX_COORDINATES, MAX_COUNT = 2**48, 2**48 - 1, 2**34, 2**53


def one_of(name: str, value, *choices) -> None:
    known = value in choices if isinstance(value, str) else any([value is c for c in choices])
    if not known:
        raise ValueError(f"{name}: expected {' or '.join(map(repr, choices))}, got {value!r}")


def is_flag(name: str, value) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected a bool, got {type(value).__name__}")


def coupling(value) -> None:
    one_of("coupling", value, *COUPLINGS)


def has_shape(name: str, value, shape: tuple, meaning: str) -> None:
    if tuple(value.shape) != tuple(shape):
        raise ValueError(f"{name}: expected shape {list(shape)} ({meaning}), got {list(value.shape)}")


def has_sets(name: str, value) -> None:
    if value.ndim == 0:
        raise ValueError(f"{name}: expected shape [B, ...], got a 0-d {type(value).__name__.lower()}")


def broadcasts(name: str, value, x) -> None:
    """value is of a shape that broadcasts to x."""
    lead = x.ndim - value.ndim
    if lead < 0 or any(size not in (1, wanted) for size, wanted in zip(value.shape, x.shape[lead:])):
        raise ValueError(f"{name}: expected a shape that broadcasts to x {list(x.shape)}, got {list(value.shape)}")


def same_dtype(side: tuple[str, ...], arrays: dict[str, Any]) -> None:
    first = side[0]
    for name in side[1:]:
        if arrays[name].dtype != arrays[first].dtype:
            raise TypeError(f"{name}: expected dtype {arrays[first].dtype} like {first}, got {arrays[name].dtype}")


def seed_number(seed, accepted: str) -> int:
    """An int modulo 2^64 as the two's complement int64 that kernels read."""
    if isinstance(seed, bool):
        raise TypeError(f"seed: expected {accepted}, got bool")
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed: expected {accepted}, got {type(seed).__name__}") from None
    return (number + 2**63) % 2**64 - 2**63


class Rules:
    """The rules of one library's arrays.

    array: their type; described: what they are called; floats, integers, boolean: the dtypes.
    """

    def __init__(self, array: type, described: str, floats: tuple, integers: tuple, boolean):
        self.array, self.described = array, described
        self.floats, self.integers, self.boolean = floats, integers, boolean

    def is_array(self, name: str, value) -> None:
        if not isinstance(value, self.array):
            raise TypeError(f"{name}: expected {self.described}, got {type(value).__name__}")

    def is_float(self, name: str, value) -> None:
        self.is_array(name, value)
        if value.dtype not in self.floats:
            raise TypeError(f"{name}: expected dtype float32, float64, bfloat16 or float16, got {value.dtype}")

    def is_integer(self, name: str, value) -> None:
        self.is_array(name, value)
        if value.dtype not in self.integers:
            raise TypeError(f"{name}: expected dtype int64 or int32, got {value.dtype}")

    def same_device(self, name: str, value, like_name: str, like) -> None:
        if value.device != like.device:
            raise ValueError(f"{name}: expected device {like.device} like {like_name}, got {value.device}")

    def alike(self, arrays: dict[str, Any], *sides: tuple[str, ...]) -> None:
        """Float arrays of one shape and device; those of one side (names) of one dtype."""
        first = next(iter(arrays))
        like = arrays[first]
        self.is_float(first, like)
        device, shape = like.device, like.shape
        for name, value in arrays.items():
            self.is_float(name, value)
            if value.device != device:
                self.same_device(name, value, first, like)
            if value.shape != shape:
                raise ValueError(f"{name}: expected shape {list(shape)} like {first}, got {list(value.shape)}")
        for side in sides:
            same_dtype(side, arrays)

    def sets(self, name: str, like, offsets, lengths, tail: str = ", D") -> int:
        """Checks the layout of an array of parts, each of shape `tail`; gives the number of sets."""
        dims = 2 if tail else 1
        if offsets is not None:
            if lengths is not None:
                raise ValueError("lengths: expected None beside offsets (ragged sets have no padding), got both")
            self.is_integer("offsets", offsets)
            self.same_device("offsets", offsets, name, like)
            if offsets.ndim != 1 or offsets.shape[0] < 1:
                raise ValueError(f"offsets: expected shape [B + 1], got {list(offsets.shape)}")
            if like.ndim != dims:
                raise ValueError(f"{name}: expected shape [N{tail}] with offsets, got {list(like.shape)}")
            return offsets.shape[0] - 1
        if like.ndim != dims + 1:
            raise ValueError(f"{name}: expected shape [B, K{tail}] (or [N{tail}] with offsets), got {list(like.shape)}")
        if lengths is not None:
            self.is_integer("lengths", lengths)
            self.same_device("lengths", lengths, name, like)
            has_shape("lengths", lengths, (like.shape[0],), "[B]")
        return like.shape[0]

    def per_set_index(self, name: str, value, count: int, like) -> None:
        if value is not None:
            self.is_integer(name, value)
            self.same_device(name, value, "the inputs", like)
            has_shape(name, value, (count,), "[B]")

    def tables(self, mu_table, logvar_table) -> None:
        arrays = dict(mu_table=mu_table, logvar_table=logvar_table)
        self.alike(arrays, tuple(arrays))
        if mu_table.ndim != 2:
            raise ValueError(f"mu_table: expected shape [C, D], got {list(mu_table.shape)}")

    def counts(self, counts, mu_table, **others) -> None:
        """counts [B, C] of the labels of a table, beside which there are no others."""
        for name, value in others.items():
            if value is not None:
                raise ValueError(f"{name}: expected None beside counts, got a {type(value).__name__}")
        self.is_integer("counts", counts)
        self.same_device("counts", counts, "mu_table", mu_table)
        if counts.ndim != 2 or counts.shape[1] != mu_table.shape[0]:
            raise ValueError(f"counts: expected shape [B, C = {mu_table.shape[0]}], got {list(counts.shape)}")

    def labels_given(self, labels, offsets) -> None:
        if labels is None and offsets is None:
            raise ValueError(f"labels: expected {self.described}, or None beside counts or offsets, got None")

    def labels(self, labels, mu_table) -> None:
        self.is_integer("labels", labels)
        self.same_device("labels", labels, "mu_table", mu_table)

    def mask(self, mask, mu, offsets, lengths) -> None:
        self.is_array("mask", mask)
        if mask.dtype != self.boolean:
            raise TypeError(f"mask: expected dtype bool, got {mask.dtype}")
        if offsets is not None or lengths is not None:
            raise ValueError(
                "mask: expected None beside offsets or lengths, which say which experts are there; got both")
        self.same_device("mask", mask, "mu", mu)
        has_shape("mask", mask, mu.shape[:2], "[B, K]")

    def observation(self, x, parameters: dict[str, Any]) -> None:
        """x [B, ...] and parameters of shapes that broadcast to it."""
        self.is_float("x", x)
        has_sets("x", x)
        for name, value in parameters.items():
            self.is_float(name, value)
            self.same_device(name, value, "x", x)
            broadcasts(name, value, x)
        same_dtype(tuple(parameters), parameters)


def layout_values(rows: int, slots: int | None, offsets: np.ndarray | None, lengths: np.ndarray | None) -> None:
    """Values of offsets against the N rows of ragged sets, of lengths against the K slots of padded ones."""
    if offsets is not None:
        if offsets[0] != 0 or offsets[-1] != rows:
            raise ValueError(f"offsets: expected to run from 0 to N = {rows}, got {offsets[0]} to {offsets[-1]}")
        down = offsets[1:] < offsets[:-1]
        if down.any():
            b = int(down.argmax())
            raise ValueError(f"offsets: expected non-decreasing values, got {offsets[b]} then {offsets[b + 1]} "
                             f"at set {b}")
    if lengths is not None and lengths.size:
        assert slots is not None
        _within("lengths", lengths, slots, f"[0, K = {slots}]")


def noise_width(width: int) -> None:
    if width > MAX_COORDINATES:
        raise ValueError(f"D: expected at most 2^34 coordinates, got {width}")


def noise_values(sizes_at_most: int, width: int, set_index: np.ndarray | None, part_start: np.ndarray | None) -> None:
    """The ranges that the noise's counter holds."""
    noise_width(width)
    for name, value, limit in (("set_index", set_index, MAX_SETS),
                               ("part_start", part_start, MAX_PARTS - sizes_at_most + 1)):
        if value is not None:
            _within(name, value, limit - 1, f"[0, {limit})")


def label_values(labels: np.ndarray, classes: int, lengths: np.ndarray | None) -> None:
    """Labels within [0, C); those of a padded set's empty slots may be anything."""
    wrong = (labels < 0) | (labels >= classes)
    if lengths is not None:
        wrong &= np.arange(labels.shape[1]) < lengths[:, None]
    if wrong.any():
        position = [int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape)]
        raise IndexError(f"labels: expected values in [0, C = {classes}), got {labels[tuple(position)]} at {position}")


def count_values(counts: np.ndarray) -> None:
    _within("counts", counts, MAX_COUNT, "[0, 2^53]")


def _within(name: str, value: np.ndarray, highest: int, interval: str) -> None:
    if value.size:
        low, high = value.min(), value.max()
        if low < 0 or high > highest:
            raise ValueError(f"{name}: expected values in {interval}, got {low if low < 0 else high}")
