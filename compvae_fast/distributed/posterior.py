"""The draw of the whole's latent and its KL divergence, of sets whose parts are spread over processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from compvae_fast.distributed.joint import finished_posterior, joined
from compvae_fast.distributed.shards import Door, as_in_memory, kernels_of, opened
from compvae_fast.ops._sets import POSTERIOR, PRIOR
from compvae_fast.ops.posterior_sum_and_kl import OPERATION
from compvae_fast.reference.shards import POSTERIOR_STATE


def posterior_sum_and_kl(
    mu_q: Tensor,
    logvar_q: Tensor,
    rho_logits: Tensor,
    mu_p: Tensor,
    logvar_p: Tensor,
    *,
    group: Any = None,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    coupling: str = "scaled",
    seed: int | Tensor | None = None,
    set_index: Tensor | None = None,
    part_start: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`compvae_fast.ops.posterior_sum_and_kl` of sets whose parts are spread over the ranks of a group.

    Each rank passes its own parts of every set, in the order of the ranks; any number of them, none too. What goes over
    the wire are each rank's sums, 13 rows of [B, D] in float64; backward nothing.

    Args:
        mu_q, logvar_q, rho_logits, mu_p, logvar_p: this rank's parts, each [B, K_r, D] or, with offsets, [N_r, D]; or
            DTensors sharded along the set dimension of a one-dimensional mesh, which then is the group.
        group: a process group, default that of all processes.
        offsets, lengths: of this rank's parts.
        coupling, seed, set_index, part_start: those of the whole sets, the same on all ranks; part_start [B] is the
            index of the whole set's first part. seed=None takes rank 0's.

    Returns:
        (w~ [B, D], kl [B]) of the whole sets, the same on all ranks. Their upstream gradients must be the same on all
        ranks, too, as they are where each computes the same loss; `sum_gradients` is for where they are not.

    Raises:
        TypeError, ValueError: on every rank, where one is given what it cannot use or ranks disagree.
    """
    tensors = dict(mu_q=mu_q, logvar_q=logvar_q, rho_logits=rho_logits, mu_p=mu_p, logvar_p=logvar_p)
    door = opened("posterior_sum_and_kl", tensors, (POSTERIOR, PRIOR), group, offsets, lengths, coupling, seed,
                  set_index, part_start)
    w_sum, kl = _PosteriorSum.apply(*door.tensors.values(), door)
    return door.replicated(w_sum), door.replicated(kl)


class _PosteriorSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, mu_q, logvar_q, rho_logits, mu_p, logvar_p, door: Door):
        inputs = (mu_q, logvar_q, rho_logits, mu_p, logvar_p)
        kernels, coupling = kernels_of(OPERATION, "posterior_shard", inputs, door.shard), door.shard.coupling
        state = kernels.forward(inputs, door.shard)
        state = joined(door.wire, POSTERIOR_STATE[coupling], state, door.sizes, coupling)
        w_sum, kl, stats = finished_posterior(state, door.counts, coupling)
        ctx.save_for_backward(*inputs, stats.float() if all(x.dtype != torch.float64 for x in inputs) else stats)
        ctx.shard, ctx.kernels = door.shard, kernels
        wide = torch.float64 if mu_q.dtype == torch.float64 else torch.float32
        return w_sum.to(wide), kl.to(wide)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_w, grad_kl):
        *inputs, stats = ctx.saved_tensors
        needs = list(ctx.needs_input_grad[:5])
        gradients = ctx.kernels.backward(*as_in_memory(grad_w, grad_kl), tuple(inputs), ctx.shard, stats, needs)
        return *(gradient if need else None for gradient, need in zip(gradients, needs)), None
