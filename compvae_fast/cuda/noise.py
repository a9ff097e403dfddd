"""The package's noise by CUDA kernels: the values that they draw, at any indices."""

from __future__ import annotations

import torch
from torch import Tensor

from compvae_fast.cuda import Queue, library, queued


@queued
def philox4x32_10(queue: Queue, counter: Tensor, key: Tensor) -> Tensor:
    """Philox4x32-10 of counter [..., 4] under key [..., 2]; both int64, leading dimensions broadcast."""
    lead = torch.broadcast_shapes(counter.shape[:-1], key.shape[:-1])
    counter, key = (t.expand(*lead, t.shape[-1]).contiguous() for t in (counter, key))
    out = torch.empty_like(counter)
    library().philox(queue.launch(), out.numel() // 4, counter.data_ptr(), key.data_ptr(), out.data_ptr())
    return out


def normal(seed: Tensor, sets: Tensor, parts: Tensor, coordinates: Tensor) -> Tensor:
    """Standard normals, float32; int64 arguments broadcast."""
    return _drawn("normal", seed, sets, parts, coordinates)


def uniform(seed: Tensor, sets: Tensor, parts: Tensor, coordinates: Tensor) -> Tensor:
    """The uniform u of each coordinate's own word, float32; int64 arguments broadcast."""
    return _drawn("uniform", seed, sets, parts, coordinates)


def _drawn(name: str, seed: Tensor, *indices: Tensor) -> Tensor:
    device = next((t.device for t in indices if t.dim()), indices[0].device)
    return _on_device(name, seed.to(device), *(t.to(device) for t in indices))


@queued
def _on_device(queue: Queue, name: str, seed: Tensor, *indices: Tensor) -> Tensor:
    places = [t.contiguous() for t in torch.broadcast_tensors(*indices)]
    out = torch.empty(places[0].shape, dtype=torch.float32, device=seed.device)
    getattr(library(), name)(queue.launch(), seed.data_ptr(), out.numel(), *(t.data_ptr() for t in places),
                             out.data_ptr())
    return out
