"""Training on several processes: which share of a batch each has, and what they tell each other.

The processes stand in a grid: D rows share out the wholes of a batch, and the S processes of a row share out the parts
of the row's wholes. A batch is drawn by everyone and cut, so that the noise, and with it the losses, are those of one
process, to rounding.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from compvae_fast.data import Batch
from compvae_fast.models import CompVAE
from compvae_fast.models.compvae import Losses
from compvae_fast.nn import Sets

from .errors import BadInput, Failure

_WAIT = timedelta(minutes=10)


class _LossOf(nn.Module):
    """A model whose forward pass is its loss, as DistributedDataParallel wants it."""

    def __init__(self, model: CompVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, labels: Tensor, **options: Any) -> tuple[Tensor, ...]:
        return tuple(self.model.loss(x, labels, **options))


class Processes:
    """One process of those that train together; this one of the only process does nothing.

    Args:
        rank, count: which of how many this is.
    """

    rank, count = 0, 1

    def losses_of(self, model: CompVAE) -> Any:
        """The function of the model's losses whose gradients are those of all processes."""
        return model.loss

    def share(self, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """x, labels, and the further arguments of ``CompVAE.loss``, of this process's share."""
        return batch.x, batch.labels, {
            "offsets": batch.offsets, "features": batch.features, "context": batch.context
        }

    def mean(self, values: Tensor, batch: int) -> Tensor:
        """The mean over the batch of values [terms, B here], float64 [terms]; and a scalar to go backward from."""
        return values.double().mean(1)

    def objective(self, objective: Tensor, batch: int) -> Tensor:
        """What is differentiated of the objective [B here]."""
        return objective.mean()

    def any(self, flag: int) -> int:
        """The largest of the processes' flags."""
        return flag

    def from_first(self, value: Any) -> Any:
        """Process 0's value."""
        return value


ALONE = Processes()


class Grid(Processes):
    """D x S processes joined by torch.distributed."""

    def __init__(self, set_parallel: int) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        if set_parallel < 1 or self.count % set_parallel:
            raise BadInput(
                f"--set_parallel: expected a divisor of the number of processes, {self.count}, got {set_parallel}"
            )
        self.sets, self.rows = set_parallel, self.count // set_parallel
        self.row, self.column = divmod(self.rank, set_parallel)
        self.device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        mesh = init_device_mesh(self.device, (self.rows, self.sets), mesh_dim_names=("wholes", "parts"))
        self.group = mesh.get_group("parts")

    def losses_of(self, model: CompVAE) -> Any:
        wrapped = nn.parallel.DistributedDataParallel(_LossOf(model))
        return lambda *tensors, **options: Losses(*wrapped(*tensors, **options))

    def share(self, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Any]]:
        wholes, labels, offsets = len(batch.x), batch.labels, batch.offsets
        if offsets is None:
            offsets = torch.arange(wholes + 1, device=labels.device) * labels.shape[1]
            labels = labels.flatten()
        first, last = (wholes * row // self.rows for row in (self.row, self.row + 1))
        index = torch.arange(first, last, device=labels.device)
        sizes = offsets.diff()[first:last]
        start, end = (sizes * column // self.sets for column in (self.column, self.column + 1))
        own = end - start
        own_offsets = torch.cat([own.new_zeros(1), own.cumsum(0)])
        within = torch.arange(int(own_offsets[-1]), device=labels.device) - own_offsets[:-1].repeat_interleave(own)
        own_parts = within + (offsets[first:last] + start).repeat_interleave(own)
        own_labels = labels[own_parts]
        described = {
            "features": None if batch.features is None else batch.features.flatten(0, -2)[own_parts],
            "context": None if batch.context is None else batch.context[first:last],
        }
        if self.sets == 1:
            here = Sets.of(own_labels, own_offsets)
            sets = Sets(here.batch, here.counts, own_offsets, owner=here.owner, index=index, all_sets=wholes)
        else:
            from compvae_fast.distributed import ShardedSets

            sets = ShardedSets.of_shard(own_labels, own_offsets, group=self.group, index=index, all_sets=wholes)
        return batch.x[first:last], own_labels, {"sets": sets, **described}

    def mean(self, values: Tensor, batch: int) -> Tensor:
        sums = values.double().sum(1) / (batch * self.sets)
        dist.all_reduce(sums)
        return sums

    def objective(self, objective: Tensor, batch: int) -> Tensor:
        # Each row's processes have the same losses; the mean of the gradients over the grid is taken.
        return objective.sum() * (self.rows / batch)

    def any(self, flag: int) -> int:
        flags = torch.tensor(flag, device=self.device)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return int(flags)

    def from_first(self, value: Any) -> Any:
        held = [value]
        dist.broadcast_object_list(held, src=0)
        return held[0]


@contextlib.contextmanager
def together(set_parallel: int, device: str) -> Iterator[Processes]:
    """The processes that torchrun started (RANK, WORLD_SIZE and where to meet), joined; or this one alone.

    Raises BadInput for a grid that does not fit, Failure where they cannot meet or where one is lost.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        if set_parallel != 1:
            raise BadInput(f"--set_parallel: expected 1 for one process, got {set_parallel}; torchrun starts several")
        yield ALONE
        return
    try:
        if device.startswith("cuda"):
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=_WAIT)
    except (RuntimeError, ValueError, OSError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise Failure(f"the processes of this run cannot meet at {where}: {_first_line(error)}") from error
    try:
        yield Grid(set_parallel)
    except RuntimeError as error:
        if _is_of_wire(error):
            told = "another process of this run has ended, and its own error says why"
            raise Failure(f"{told}: {_first_line(error)}") from error
        raise
    finally:
        dist.destroy_process_group()


def _is_of_wire(error: RuntimeError) -> bool:
    told = str(error).lower()
    return isinstance(error, dist.DistError) or any(word in told for word in ("gloo", "nccl", "connection", "socket"))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
