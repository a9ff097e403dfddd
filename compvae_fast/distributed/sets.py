"""The layout of sets whose parts are spread over processes, for networks that ask the layout for their sums."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from compvae_fast import ops
from compvae_fast.distributed.posterior import posterior_sum_and_kl
from compvae_fast.distributed.sums import sum_gradients, sum_minus_self, total
from compvae_fast.distributed.wire import Wire
from compvae_fast.nn.sets import Sets


@dataclass(frozen=True)
class ShardedSets(Sets):
    """Ragged shards of sets, as ``compvae_fast.nn.Sets`` describes whole ones; ``counts`` are those of the whole sets.

    What is differentiated is the sum of the ranks' losses: gradients that come back from a sum over a set are summed
    over the ranks, and weights get on each rank what passes through it. Where all ranks compute the same loss, the
    mean over the ranks of a weight's gradients, which DistributedDataParallel takes, is the gradient of that loss.

    Made by ``ShardedSets.of_shard``.
    """

    group: Any = None
    start: Tensor | None = None

    @classmethod
    def of_shard(
        cls,
        labels: Tensor,
        offsets: Tensor,
        *,
        group: Any = None,
        index: Tensor | None = None,
        all_sets: int | None = None,
    ) -> ShardedSets:
        """The layout of this rank's labels [N_r] with offsets [B + 1]; ranks hold the parts in their order.

        Args:
            labels, offsets: of this rank's parts.
            group: a process group, default that of all processes.
            index, all_sets: as ``Sets`` has them.
        """
        here = Sets.of(labels, offsets)
        wire = Wire(group)
        every = wire.gathered(here.counts)
        return cls(here.batch, every.sum(0), offsets=offsets, owner=here.owner, index=index, all_sets=all_sets,
                   group=group, start=every[: wire.rank].sum(0))

    def sum(self, values: Tensor) -> Tensor:
        """Sum over each whole set's parts, [N_r, D] -> [B, D], the same on all ranks."""
        return sum_gradients(total(super().sum(values), self.group), self.group)

    def positions(self, parts: int) -> tuple[Tensor, Tensor]:
        """(set, index within the whole set) of each part here."""
        of_set, of_part = super().positions(parts)
        assert self.owner is not None and self.start is not None
        return of_set, of_part + self.start[self.owner].unsqueeze(-1)

    def operation(self, name: str) -> Callable[..., Any]:
        """The operation over the group.

        Raises:
            ValueError: for one that is not offered there.
        """
        offered: dict[str, Callable[..., Any]] = {
            "posterior_sum_and_kl": self._posterior_sum_and_kl,
            "prior_sum": self._prior_sum,
            "sum_minus_self": functools.partial(sum_minus_self, group=self.group),
        }
        if name not in offered:
            raise ValueError(f"{name}: not offered for sets whose parts are spread over processes")
        return offered[name]

    def _posterior_sum_and_kl(self, *inputs: Tensor, **options: Any) -> tuple[Tensor, ...]:
        outputs = posterior_sum_and_kl(*inputs, group=self.group, **options)
        return tuple(sum_gradients(output, self.group) for output in outputs)

    def _prior_sum(self, labels: Tensor, mu: Tensor, logvar: Tensor, **options: Any) -> Tensor:
        own = ops.prior_sum(labels, mu, logvar, part_start=self.start, **options)
        return sum_gradients(total(own.to(torch.float64), self.group), self.group).to(own.dtype)
