"""Draws and densities of parts that are spread over processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from compvae_fast.distributed.joint import centred, finished_density, finished_parts, joined, joined_density
from compvae_fast.distributed.shards import Door, as_in_memory, kernels_of, opened
from compvae_fast.ops.correlated_normal_log_prob import OPERATION as DENSITY
from compvae_fast.ops.correlated_normal_rsample import OPERATION as SAMPLE
from compvae_fast.reference.shards import PARTS_STATE


def correlated_normal_rsample(
    mu: Tensor,
    logvar: Tensor,
    rho_logits: Tensor,
    *,
    group: Any = None,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    coupling: str = "scaled",
    seed: int | Tensor | None = None,
    with_log_prob: bool = False,
    set_index: Tensor | None = None,
    part_start: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """`compvae_fast.ops.correlated_normal_rsample` of sets whose parts are spread over the ranks of a group.

    What goes over the wire are each rank's sums, 5 or 6 rows of [B, D] in float64 forward and 3 backward.

    Args:
        mu, logvar, rho_logits: this rank's parts, each [B, K_r, D] or, with offsets, [N_r, D]; or DTensors sharded
            along the set dimension of a one-dimensional mesh, which then is the group.
        group: a process group, default that of all processes.
        offsets, lengths: of this rank's parts.
        coupling, seed, with_log_prob, set_index, part_start: those of the whole sets, the same on all ranks.
            seed=None takes rank 0's.

    Returns:
        w, this rank's parts; with_log_prob=True: (w, log q(w) [B] of the whole sets, the same on all ranks).

    Raises:
        TypeError, ValueError: on every rank, where one is given what it cannot use or ranks disagree.
    """
    tensors = dict(mu=mu, logvar=logvar, rho_logits=rho_logits)
    door = opened("correlated_normal_rsample", tensors, (tuple(tensors),), group, offsets, lengths, coupling, seed,
                  set_index, part_start, flags={"with_log_prob": int(bool(with_log_prob))})
    w, log_q = _Sample.apply(*door.tensors.values(), door, with_log_prob)
    return (door.sharded(w), door.replicated(log_q)) if with_log_prob else door.sharded(w)


def correlated_normal_log_prob(
    w: Tensor,
    mu: Tensor,
    logvar: Tensor,
    rho_logits: Tensor,
    *,
    group: Any = None,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    coupling: str = "scaled",
) -> Tensor:
    """`compvae_fast.ops.correlated_normal_log_prob` of sets whose parts are spread over the ranks of a group.

    What goes over the wire are each rank's sums, 5 rows of [B, D] in float64; backward nothing.

    Args:
        w, mu, logvar, rho_logits: this rank's parts, each [B, K_r, D] or, with offsets, [N_r, D]; or DTensors sharded
            along the set dimension of a one-dimensional mesh, which then is the group.
        group: a process group, default that of all processes.
        offsets, lengths: of this rank's parts.
        coupling: the same on all ranks.

    Returns:
        [B], of the whole sets, the same on all ranks.

    Raises:
        TypeError, ValueError: on every rank, where one is given what it cannot use or ranks disagree.
    """
    tensors = dict(w=w, mu=mu, logvar=logvar, rho_logits=rho_logits)
    door = opened("correlated_normal_log_prob", tensors, (tuple(tensors),), group, offsets, lengths, coupling)
    return door.replicated(_Density.apply(*door.tensors.values(), door))


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(ctx, mu, logvar, rho_logits, door: Door, with_log_prob: bool):
        inputs, shard = (mu, logvar, rho_logits), door.shard
        kernels = kernels_of(SAMPLE, "correlated_normal_rsample_shard", inputs, shard)
        state = kernels.sums(inputs, shard, with_log_prob)
        stats, log_q = finished_parts(joined(door.wire, PARTS_STATE[: len(state)], state, door.sizes, shard.coupling),
                                      door.counts, shard.coupling)
        ctx.save_for_backward(*inputs, stats if mu.dtype == torch.float64 else stats.float())
        ctx.door, ctx.kernels = door, kernels
        return kernels.sample(inputs, shard, stats), None if log_q is None else log_q.to(_wide(mu))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_w, grad_log_q):
        *inputs, stats = ctx.saved_tensors
        grad_w, grad_log_q = as_in_memory(grad_w, grad_log_q)
        door, needs = ctx.door, list(ctx.needs_input_grad[:3])
        centre = centred(door.wire, ctx.kernels.centre(grad_w, tuple(inputs), door.shard, stats))
        gradients = ctx.kernels.backward(grad_w, grad_log_q, tuple(inputs), door.shard, stats, centre, needs)
        return *(gradient if need else None for gradient, need in zip(gradients, needs)), None, None


class _Density(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w, mu, logvar, rho_logits, door: Door):
        inputs, shard = (w, mu, logvar, rho_logits), door.shard
        kernels = kernels_of(DENSITY, "correlated_normal_log_prob_shard", inputs, shard)
        stats, log_total = joined_density(door.wire.gathered(kernels.sums(inputs, shard)))
        sums = door.wire.sum(kernels.squares(inputs, shard, stats))
        density, stats = finished_density(stats, log_total, sums, door.counts)
        ctx.save_for_backward(*inputs, stats)
        ctx.shard, ctx.kernels = shard, kernels
        return density.to(_wide(w))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        *inputs, stats = ctx.saved_tensors
        needs = list(ctx.needs_input_grad[:4])
        gradients = ctx.kernels.backward(*as_in_memory(gradient), tuple(inputs), ctx.shard, stats, needs)
        return *(gradient if need else None for gradient, need in zip(gradients, needs)), None


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
