"""The package's noise as public functions: pure functions of (seed, set, part, coordinate).

Philox4x32-10 is keyed by the seed, (seed mod 2^32, seed >> 32), and counts

    c0 = coordinate >> 2,  c1 = part mod 2^32,  c2 = set mod 2^32,  c3 = (part >> 32) | (set >> 32) << 16.

Its words x0..x3 give the normals of coordinates 4 c0 .. 4 c0 + 3 by Box-Muller:

    r(x0) cos pi t(x1),  r(x0) sin pi t(x1),  r(x2) cos pi t(x3),  r(x2) sin pi t(x3)
    u = fl(x >> 1) 2^-31 + 2^-32,  r(x) = sqrt(-2 ln u),  t(x) = fl(x as int32) 2^-31,  fl: nearest float32.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import operator
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import overload

import torch
from torch import Tensor

from compvae_fast import backends
from compvae_fast.reference import noise as _reference

__all__ = ["Stream", "fold", "normal", "philox4x32_10", "uniform"]

_LIMITS = {"sets": 2**48 - 1, "parts": 2**48, "coordinates": 2**34}


class Stream(IntEnum):
    """Every use the package makes of a seed; ``fold(seed, Stream.X)`` keeps their noises apart."""

    POSTERIOR_W = 1
    PRIOR_W = 2
    POSTERIOR_Z = 3
    PRIOR_Z = 4
    NODE = 5
    DATA = 6
    LABELS = 7
    OBSERVATION = 8
    STEP = 9
    INITIALISATION = 10
    EVALUATION = 11
    PARTS_OF_SUM = 12


def _implementation(device: torch.device) -> ModuleType | SimpleNamespace:
    """What serves philox4x32_10, normal, uniform and fold on this device."""
    if torch.compiler.is_compiling():
        return _IN_GRAPHS
    if _is_traced():
        return _reference
    return backends.implementation(backends.resolve("noise", device.type), "noise")


def _is_traced() -> bool:
    return torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None


# In compiled code a draw is one operation: of its integer arithmetic the compiler would make minutes of work.
_library = torch.library.Library("compvae_fast", "FRAGMENT")


def _define(name: str, *arguments: str, dtype: torch.dtype):
    """An operation on integer tensors that broadcast; gives it."""

    def run(*tensors: Tensor) -> Tensor:
        if name != "fold":
            return getattr(_implementation(tensors[-1].device), name)(*tensors)
        if any(t.dim() or t.device.type != "cpu" for t in tensors):
            return _reference.fold(*tensors)
        return torch.tensor(_as_int64(_reference.fold(*map(int, tensors))))

    def fake(*tensors: Tensor) -> Tensor:
        return torch.empty(torch.broadcast_shapes(*(t.shape for t in tensors)), dtype=dtype, device=tensors[-1].device)

    def mapped(info, in_dims, *tensors: Tensor):
        """The mapped dimension comes first, then as many as the widest tensor has; the reference broadcasts them."""
        width = max(t.dim() - (d is not None) for t, d in zip(tensors, in_dims))
        fronts = (t if d is None else t.movedim(d, 0) for t, d in zip(tensors, in_dims))
        aligned = [t if d is None else t[(slice(None), *[None] * (width - t.dim() + 1))]
                   for t, d in zip(fronts, in_dims)]
        drawn = getattr(_reference, name)(*aligned)
        return (drawn, 0) if drawn.dim() > width else (drawn.expand(info.batch_size, *drawn.shape), 0)

    _library.define(f"{name}({', '.join('Tensor ' + a for a in arguments)}) -> Tensor")
    _library.impl(name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"compvae_fast::{name}", fake, lib=_library)
    torch.library.register_vmap(f"compvae_fast::{name}", mapped, lib=_library)
    return getattr(torch.ops.compvae_fast, name).default


_INDICES = ("sets", "parts", "coordinates")
_IN_GRAPHS = SimpleNamespace(
    philox4x32_10=_reference.philox4x32_10,
    normal=_define("normal", "seed", *_INDICES, dtype=torch.float32),
    uniform=_define("uniform", "seed", *_INDICES, dtype=torch.float32),
    fold=_define("fold", "seed", "stream", dtype=torch.int64),
)


def _integers(name: str, value: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected an integer tensor, got {type(value).__name__}")
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{name}: expected an integer tensor, got dtype {value.dtype}")
    if value.layout != torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, got a {value.layout} one")
    return value.to(torch.int64).resolve_neg()  # kernels read the memory


def _word_columns(name: str, value: Tensor, columns: int) -> Tensor:
    value = _integers(name, value)
    if value.dim() == 0 or value.shape[-1] != columns:
        raise ValueError(f"{name}: expected shape [..., {columns}], got {list(value.shape)}")
    if value.device.type == "cpu" and not _is_traced() and value.numel():
        low, high = value.min().item(), value.max().item()
        if low < 0 or high > _reference.WORD:
            raise ValueError(f"{name}: expected words in [0, 2^32), got values in [{low}, {high}]")
    return value


def _index(name: str, value) -> Tensor:
    """An index tensor, checked where that costs no synchronisation; see _outside for the rest."""
    value = torch.tensor(value) if isinstance(value, int) else value
    value = _integers(name, value)
    if value.device.type == "cpu" and not _is_traced() and value.numel():
        low, high = value.numpy().min(), value.numpy().max()
        if low < 0 or high >= _LIMITS[name]:
            raise IndexError(f"{name}: expected values in [0, {_LIMITS[name]}), got values in [{low}, {high}]")
    return value


def _outside(name: str, value: Tensor) -> Tensor:
    return (value < 0) | (value >= _LIMITS[name])


def _as_int64(number: int) -> int:
    """The two's complement int64 of a number modulo 2^64."""
    return (number + 2**63) % 2**64 - 2**63


def _scalar(name: str, value) -> int | Tensor:
    if isinstance(value, Tensor):
        if value.dtype != torch.int64 or value.dim() != 0:
            raise TypeError(
                f"{name}: expected an int or a 0-d int64 tensor, got dtype {value.dtype}, shape {list(value.shape)}"
            )
        return value
    if isinstance(value, int):  # what torch.compile follows, where it loses itself in an enumeration's __index__
        return int(value)
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an int or a 0-d int64 tensor, got {type(value).__name__}") from None


def _draw(function: str, seed, sets, parts, coordinates) -> Tensor:
    indices = {"sets": sets, "parts": parts, "coordinates": coordinates}
    indices = {name: _index(name, value) for name, value in indices.items()}
    seed = _scalar("seed", seed)
    devices = {value.device for value in (*indices.values(), seed) if isinstance(value, Tensor) and value.dim()}
    if len(devices) > 1:
        raise ValueError(f"sets, parts, coordinates: expected one device, got {sorted(map(str, devices))}")
    device = devices.pop() if devices else indices["sets"].device
    if not isinstance(seed, Tensor):
        seed = torch.tensor(_as_int64(seed), device=device)
    try:
        torch.broadcast_tensors(*indices.values())
    except RuntimeError:
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in indices.items())
        raise ValueError(f"sets, parts, coordinates: expected shapes that broadcast, got {shapes}") from None
    drawn = getattr(_implementation(device), function)(seed, *indices.values())
    if device.type != "cpu" or _is_traced():
        for name, value in indices.items():
            drawn = torch.where(_outside(name, value), torch.nan, drawn)
    return drawn


def philox4x32_10(counter: Tensor, key: Tensor) -> Tensor:
    """Philox4x32-10, a bijection of 128-bit counters for each 64-bit key.

    Arguments: ``counter`` [..., 4] and ``key`` [..., 2], integer tensors of unsigned 32-bit words; leading
    dimensions broadcast. Returns int64 [..., 4], each word in [0, 2^32). Raises TypeError (dtype) and
    ValueError (shape, or a value that is no word). Source: Salmon et al. 2011; known answers of Random123.

    >>> words = philox4x32_10(torch.zeros(4, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
    >>> [f"{word:08x}" for word in words.tolist()]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    counter = _word_columns("counter", counter, 4)
    key = _word_columns("key", key, 2)
    try:
        torch.broadcast_shapes(counter.shape[:-1], key.shape[:-1])
    except RuntimeError:
        raise ValueError(
            "counter, key: expected leading dimensions that broadcast, "
            f"got {list(counter.shape)} and {list(key.shape)}"
        ) from None
    return _implementation(counter.device).philox4x32_10(counter, key)


def normal(seed: int | Tensor, sets: Tensor, parts: Tensor, coordinates: Tensor) -> Tensor:
    """Standard normals, noise(seed, set, part, coordinate): r cos pi t or r sin pi t of the coordinate's two words.

    Arguments: ``seed`` int (modulo 2^64) or 0-d int64 tensor (two's complement); ``sets`` in [0, 2^48 - 1),
    ``parts`` in [0, 2^48) and ``coordinates`` in [0, 2^34), integer tensors or ints that broadcast.
    Returns float32 of the broadcast shape. Raises TypeError (types), ValueError (shapes, devices) and IndexError
    (ranges, where checking does not wait for a device; elsewhere an index out of range gives NaN).

    >>> whole = normal(7, torch.tensor(0), torch.arange(5)[:, None], torch.arange(8))
    >>> part = normal(7, torch.tensor(0), torch.tensor(3), torch.arange(8))
    >>> bool((whole[3] == part).all())
    True
    """
    return _draw("normal", seed, sets, parts, coordinates)


def uniform(seed: int | Tensor, sets: Tensor, parts: Tensor, coordinates: Tensor) -> Tensor:
    """Uniforms u = fl(x >> 1) 2^-31 + 2^-32 in [2^-32, 1], x the Philox word of that very coordinate.

    Coordinate 4 c + j takes word x_j of call c, so ``uniform`` and ``normal`` of one seed are dependent: fold the
    seed to draw both. The sum is rounded to float32 (to nearest), so 1 itself occurs, and 0 does not.
    Arguments, returns and errors as ``normal``.

    >>> u = uniform(0, torch.tensor(0), torch.arange(1000), torch.tensor(3))
    >>> bool((u > 0).all() and (u <= 1).all())
    True
    """
    return _draw("uniform", seed, sets, parts, coordinates)


@overload
def fold(seed: int, stream: int) -> int: ...
@overload
def fold(seed: int | Tensor, stream: int | Tensor) -> int | Tensor: ...
def fold(seed: int | Tensor, stream: int | Tensor) -> int | Tensor:
    """A new seed for one use of a seed: words 0 and 1 at counter (stream low, stream high, 2^32-1, 2^32-1).

    Set indices stay below 2^48 - 1, so no noise of ``seed`` itself shares these counters.
    Arguments: ``seed`` and ``stream``, ints (modulo 2^64) or 0-d int64 tensors. Returns an int in [0, 2^64) where
    both are ints, else a 0-d int64 tensor in two's complement. Raises TypeError.

    >>> fold(1, Stream.DATA) == int(fold(torch.tensor(1), Stream.DATA)) % 2**64
    True
    """
    seed, stream = _scalar("seed", seed), _scalar("stream", stream)
    if isinstance(seed, int) and _is_traced():  # a number that varies from call to call would be followed symbolically
        seed = torch.full((), seed if -(2**63) <= seed < 2**63 else _as_int64(seed), dtype=torch.int64)
    if isinstance(seed, Tensor) and torch.compiler.is_compiling():
        stream = stream if isinstance(stream, Tensor) else torch.full((), stream, dtype=torch.int64, device=seed.device)
        return _IN_GRAPHS.fold(seed, stream)
    return _reference.fold(seed, stream)
