"""What goes between the processes of a group: collectives that are counted, and what must agree before them."""

from __future__ import annotations

import contextlib
import contextvars
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

_FIELDS = 14


@dataclass
class Traffic:
    """What this process sent within `traffic()`: bytes that it handed to collectives, and how many there were."""

    bytes: int = 0
    calls: int = 0
    by_name: dict[str, int] = field(default_factory=dict)


_traffic: contextvars.ContextVar[tuple[Traffic, ...]] = contextvars.ContextVar("compvae_fast_traffic", default=())


@contextlib.contextmanager
def traffic() -> Iterator[Traffic]:
    """Counts what this process hands to collectives inside the block, its backward passes on this thread included."""
    counted = Traffic()
    token = _traffic.set((*_traffic.get(), counted))
    try:
        yield counted
    finally:
        _traffic.reset(token)


class Wire:
    """The collectives of one process group; None is the default group."""

    def __init__(self, group: dist.ProcessGroup | None = None):
        if not dist.is_available() or not dist.is_initialized():
            raise RuntimeError(
                "compvae_fast.distributed needs torch.distributed: call torch.distributed.init_process_group first"
            )
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        if self.rank < 0:
            raise ValueError("group: expected a process group that this process belongs to")

    def sum(self, values: Tensor) -> Tensor:
        return self._reduced(values, dist.ReduceOp.SUM, "sum")

    def largest(self, values: Tensor) -> Tensor:
        return self._reduced(values, dist.ReduceOp.MAX, "largest")

    def smallest(self, values: Tensor) -> Tensor:
        return self._reduced(values, dist.ReduceOp.MIN, "smallest")

    def gathered(self, values: Tensor) -> Tensor:
        """[size, ...], the values of each rank, of one shape."""
        values = values.contiguous()
        _count("gathered", values)
        out = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(out, values, group=self.group)
        return torch.stack(out)

    def _reduced(self, values: Tensor, how, name: str) -> Tensor:
        values = values.clone(memory_format=torch.contiguous_format)
        _count(name, values)
        dist.all_reduce(values, how, group=self.group)
        return values

    def agree(self, operation: str, device: torch.device, problem: Exception | None, told: list[int], **numbers: int
              ) -> list[list[int]]:
        """What each rank has to tell; raises on every rank where one has a problem of its own, or where the numbers are
        not the same on all."""
        assert len(numbers) + len(told) <= _FIELDS
        code = zlib.crc32(operation.encode())
        own = [0 if problem is None else 1, code, *numbers.values()]
        own += [0] * (2 + _FIELDS - len(told) - len(own)) + told
        every = self.gathered(torch.tensor(own, dtype=torch.int64, device=device)).tolist()
        if problem is not None:
            raise problem
        for rank, row in enumerate(every):
            if row[0]:
                raise RuntimeError(f"{operation}: rank {rank} refused its arguments; its own error says why")
            if row[1] != every[0][1]:
                raise RuntimeError(f"{operation}: rank {rank} called another operation than rank 0")
        for rank, row in enumerate(every):
            for name, here, there in zip(numbers, row[2:], every[0][2:]):
                if here != there:
                    raise ValueError(f"{operation}: {name}: expected the same on all ranks, got {there} on rank 0 and "
                                     f"{here} on rank {rank}")
        return [row[-len(told):] for row in every]


def _count(name: str, values: Tensor) -> None:
    for counted in _traffic.get():
        size = values.numel() * values.element_size()
        counted.bytes += size
        counted.calls += 1
        counted.by_name[name] = counted.by_name.get(name, 0) + size
