"""The package's noise by the compiled kernels: the values that they draw, at any indices."""

from __future__ import annotations

import torch
from torch import Tensor

from compvae_fast import native


def philox4x32_10(counter: Tensor, key: Tensor) -> Tensor:
    """Philox4x32-10 of counter [..., 4] under key [..., 2]; both int64, leading dimensions broadcast."""
    lead = torch.broadcast_shapes(counter.shape[:-1], key.shape[:-1])
    counter, key = (t.expand(*lead, t.shape[-1]).contiguous() for t in (counter, key))
    out = torch.empty_like(counter)
    native.library().philox(out.numel() // 4, counter.data_ptr(), key.data_ptr(), out.data_ptr(),
                            native.threads())
    return out


def normal(seed: Tensor, sets: Tensor, parts: Tensor, coordinates: Tensor) -> Tensor:
    """Standard normals, float32; int64 arguments broadcast."""
    return _drawn(native.library().normal, seed, sets, parts, coordinates)


def uniform(seed: Tensor, sets: Tensor, parts: Tensor, coordinates: Tensor) -> Tensor:
    """The uniform u of each coordinate's own word, float32; int64 arguments broadcast."""
    return _drawn(native.library().uniform, seed, sets, parts, coordinates)


def _drawn(function, seed: Tensor, *indices: Tensor) -> Tensor:
    places = [t.contiguous() for t in torch.broadcast_tensors(*indices)]
    out = torch.empty(places[0].shape, dtype=torch.float32)
    function(int(seed), out.numel(), *(t.data_ptr() for t in places), out.data_ptr(), native.threads())
    return out
