"""Describing shards, whose parts belong to sets that are spread over processes, to the native code."""

from __future__ import annotations

import torch
from torch import Tensor

from compvae_fast import native
from compvae_fast.reference.shards import Shard


def sets_of(like: Tensor, shard: Shard) -> native.Sets:
    return native.Sets(like.shape, shard.offsets, shard.lengths, shard.set_index, shard.part_start, shard.seed,
                       shard.counts)


def state_of(rows: int, sets: native.Sets, device: torch.device) -> Tensor:
    """Memory for float64 rows [rows, B, D]."""
    return torch.empty(rows, sets.count, sets.width, dtype=torch.float64, device=device)


def stats_of(stats: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
    """Joint stats in the type that the kernels compute in for these inputs."""
    return stats.to(torch.float64 if native.computes_float64(*inputs) else torch.float32).contiguous()
