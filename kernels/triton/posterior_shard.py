"""One shard of posterior_sum_and_kl by Triton kernels."""

from __future__ import annotations

from torch import Tensor

from compvae_fast.kernels.triton import posterior_kl, shards
from compvae_fast.kernels.triton.sets import like_wanted, wanted
from compvae_fast.native.shards import stats_of
from compvae_fast.reference.shards import POSTERIOR_STATE, Shard


def forward(inputs: tuple[Tensor, ...], shard: Shard) -> Tensor:
    return shards.sums(inputs, shard, len(POSTERIOR_STATE[shard.coupling]), kl=True, density=False)


def backward(grad_w: Tensor | None, grad_kl: Tensor | None, inputs: tuple[Tensor, ...], shard: Shard, stats: Tensor,
             needs: list[bool]) -> tuple[Tensor, ...]:
    """By the whole sets' kernel, which needs to know no more of other shards than the stats and the sets' sizes."""
    gradients = like_wanted(inputs, needs)
    call = shards.of_shard(inputs[0], shard, spoilt=gradients)
    posterior_kl.backward(call, inputs, grad_w, grad_kl, stats_of(stats, inputs), wanted(gradients, needs),
                          shard.coupling == "unit", True)
    return gradients
