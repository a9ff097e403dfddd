"""The package's noise by Triton kernels: the values that they draw, at any indices."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from compvae_fast.kernels.triton.launch import run_one_each
from compvae_fast.kernels.triton.normals import box_muller, counter_words, key_words
from compvae_fast.kernels.triton.normals import philox4x32_10 as _philox
from compvae_fast.kernels.triton.normals import uniform as _uniform

_BLOCK = 256


@triton.jit
def _words(counter, key, out, count, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = i < count
    x0, x1, x2, x3 = _philox(
        tl.load(counter + 4 * i, mask=there, other=0).to(tl.uint32),
        tl.load(counter + 4 * i + 1, mask=there, other=0).to(tl.uint32),
        tl.load(counter + 4 * i + 2, mask=there, other=0).to(tl.uint32),
        tl.load(counter + 4 * i + 3, mask=there, other=0).to(tl.uint32),
        tl.load(key + 2 * i, mask=there, other=0).to(tl.uint32),
        tl.load(key + 2 * i + 1, mask=there, other=0).to(tl.uint32))
    tl.store(out + 4 * i, x0.to(tl.int64), mask=there)
    tl.store(out + 4 * i + 1, x1.to(tl.int64), mask=there)
    tl.store(out + 4 * i + 2, x2.to(tl.int64), mask=there)
    tl.store(out + 4 * i + 3, x3.to(tl.int64), mask=there)


@triton.jit
def _drawn(seed, sets, parts, coordinates, out, count, NORMAL: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = i < count
    coordinate = tl.load(coordinates + i, mask=there, other=0)
    c0, c1, c2, c3 = counter_words(tl.load(sets + i, mask=there, other=0), tl.load(parts + i, mask=there, other=0),
                                   (coordinate >> 2).to(tl.uint32))
    k0, k1 = key_words(tl.load(seed))
    x0, x1, x2, x3 = _philox(c0, c1, c2, c3, k0, k1)
    lane = coordinate & 3
    if NORMAL:
        n0, n1 = box_muller(tl.where(lane < 2, x0, x2), tl.where(lane < 2, x1, x3), tl.float32)
        value = tl.where((lane & 1) == 0, n0, n1)
    else:
        value = _uniform(tl.where(lane < 2, tl.where(lane == 0, x0, x1), tl.where(lane == 2, x2, x3)))
    tl.store(out + i, value, mask=there)


def philox4x32_10(counter: Tensor, key: Tensor) -> Tensor:
    """Philox4x32-10 of counter [..., 4] under key [..., 2]; both int64, leading dimensions broadcast."""
    lead = torch.broadcast_shapes(counter.shape[:-1], key.shape[:-1])
    counter, key = (t.expand(*lead, t.shape[-1]).contiguous() for t in (counter, key))
    out = torch.empty_like(counter)
    count = out.numel() // 4
    run_one_each(_words, triton.cdiv(count, _BLOCK), out, counter, key, out, count, BLOCK=_BLOCK)
    return out


def normal(seed: Tensor, sets: Tensor, parts: Tensor, coordinates: Tensor) -> Tensor:
    """Standard normals, float32; int64 arguments broadcast."""
    return _draw(True, seed, sets, parts, coordinates)


def uniform(seed: Tensor, sets: Tensor, parts: Tensor, coordinates: Tensor) -> Tensor:
    """The uniform u of each coordinate's own word, float32; int64 arguments broadcast."""
    return _draw(False, seed, sets, parts, coordinates)


def _draw(normal: bool, seed: Tensor, *indices: Tensor) -> Tensor:
    given = next((t.device for t in indices if t.dim()), indices[0].device)
    places = [t.to(given).contiguous() for t in torch.broadcast_tensors(*indices)]
    out = torch.empty(places[0].shape, dtype=torch.float32, device=given)
    run_one_each(_drawn, triton.cdiv(out.numel(), _BLOCK), out, seed.to(given), *places, out, out.numel(),
                 NORMAL=normal, BLOCK=_BLOCK)
    return out
