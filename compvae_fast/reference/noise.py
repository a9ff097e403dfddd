"""The package's noise in plain PyTorch: Philox4x32-10 counters, then Box-Muller.

Every number is a pure function of (seed, set, part, coordinate). Unsigned 32-bit words are held in int64;
the arithmetic is exact, so words and uniforms are the same bits on every device.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import math

import torch
from torch import Tensor

WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def _multiply(constant, word):
    """High and low 32-bit words of constant * word; int64 holds no 64-bit product, so word is split in halves."""
    if isinstance(word, int):
        return constant * word >> 32, constant * word & WORD
    low = constant * (word & 0xFFFF)
    middle = constant * (word >> 16) + (low >> 16)
    return middle >> 16, (middle & 0xFFFF) << 16 | (low & 0xFFFF)


def philox_words(counter, key):
    """The four words of Philox4x32-10 for a counter of four words and a key of two, ints or int64 tensors alike."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(_MULTIPLIERS[0], c0)
        high1, low1 = _multiply(_MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _KEY_STEPS[0]) & WORD, (k1 + _KEY_STEPS[1]) & WORD
    return c0, c1, c2, c3


def split(number):
    """Low and high 32-bit words of a 64-bit number, an int or an int64 tensor in two's complement."""
    return number & WORD, (number >> 32) & WORD


def philox4x32_10(counter: Tensor, key: Tensor) -> Tensor:
    """Philox4x32-10 of counter [..., 4] under key [..., 2]; both int64, leading dimensions broadcast."""
    words = philox_words(counter.unbind(-1), key.unbind(-1))
    return torch.stack(torch.broadcast_tensors(*words), -1)


def fold(seed, stream):
    """Words 0 and 1 at counter (stream low, stream high, 2^32-1, 2^32-1): an unsigned int, or an int64 tensor."""
    low, high, _, _ = philox_words((*split(stream), WORD, WORD), split(seed))
    return low | high << 32


def _call_words(seed, sets, parts, calls):
    """The four words of one call, which serves coordinates 4 * calls .. 4 * calls + 3."""
    counter = (calls, parts & WORD, sets & WORD, parts >> 32 | (sets >> 32) << 16)
    return philox_words(counter, split(seed))


def _unit(word: Tensor) -> Tensor:
    """u in (0, 1], float32: fl(word >> 1) 2^-31 + 2^-32, whose last addition rounds once."""
    return (word >> 1).to(torch.float32) * 2.0**-31 + 2.0**-32


def _radius(word: Tensor) -> Tensor:
    return torch.sqrt(-2.0 * torch.log(_unit(word).double()))


def _angle(word: Tensor) -> Tensor:
    """pi t, t = fl(word as a signed 32-bit integer) 2^-31 in [-1, 1], rounded to float32 before pi enters."""
    signed = word - ((word >> 31) << 32)
    return (signed.to(torch.float32) * 2.0**-31).double() * math.pi


def _select(values, index: Tensor) -> Tensor:
    """values[index], elementwise, for a tuple of four tensors and index in 0..3."""
    even = torch.where(index < 2, values[0], values[2])
    odd = torch.where(index < 2, values[1], values[3])
    return torch.where(index % 2 == 0, even, odd)


def uniform(seed: Tensor, sets: Tensor, parts: Tensor, coordinates: Tensor) -> Tensor:
    """The uniform u of each coordinate's own word, float32; int64 arguments broadcast."""
    words = _call_words(seed, sets, parts, coordinates >> 2)
    return _unit(_select(words, coordinates & 3))


def normal64(seed: Tensor, sets: Tensor, parts: Tensor, coordinates: Tensor) -> Tensor:
    """Standard normals in float64 before they are rounded; int64 arguments broadcast."""
    words = _call_words(seed, sets, parts, coordinates >> 2)
    lane = coordinates & 3
    radius = _radius(torch.where(lane < 2, words[0], words[2]))
    angle = _angle(torch.where(lane < 2, words[1], words[3]))
    return radius * torch.where(lane % 2 == 0, torch.cos(angle), torch.sin(angle))


def normal(seed: Tensor, sets: Tensor, parts: Tensor, coordinates: Tensor) -> Tensor:
    """Standard normals, float32; int64 arguments broadcast."""
    return normal64(seed, sets, parts, coordinates).to(torch.float32)


def normal_rows64(seed: Tensor, sets: Tensor, parts: Tensor, dimension: int) -> Tensor:
    """normal64 at coordinates 0 .. dimension-1, as a new last axis, with one Philox call for four of them."""
    calls = torch.arange((dimension + 3) // 4, device=sets.device)
    words = _call_words(seed[..., None], sets[..., None], parts[..., None], calls)
    pairs = []
    for radius_word, angle_word in (words[:2], words[2:]):
        radius, angle = _radius(radius_word), _angle(angle_word)
        pairs += [radius * torch.cos(angle), radius * torch.sin(angle)]
    return torch.stack(pairs, -1).flatten(-2)[..., :dimension]


def set_normals64(
    seed: Tensor, shape: tuple[int, ...], set_index: Tensor | None = None, part_start: Tensor | None = None
) -> Tensor:
    """The noise of B sets of K slots, float64 of shape (B, K, D).

    seed is 0-d or [B]; set_index [B] defaults to 0..B-1, part_start [B] to 0; integers.
    """
    sets, slots, dimension = shape
    if set_index is None:
        set_index = torch.arange(sets, device=seed.device)
    parts = torch.arange(slots, device=seed.device)
    if part_start is not None:
        parts = part_start[:, None] + parts
    return normal_rows64(seed[..., None], set_index.to(torch.int64)[:, None], parts, dimension)
