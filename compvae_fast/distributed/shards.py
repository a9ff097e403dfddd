"""The door of the operations over sharded sets: what a rank was given, checked there and against the other ranks."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from compvae_fast import backends
from compvae_fast.distributed.wire import Wire
from compvae_fast.ops import _checks
from compvae_fast.ops._library import Operation, shapes_of
from compvae_fast.ops._sets import parts_of_sets
from compvae_fast.reference.shards import Shard

_CODES = {dtype: code for code, dtype in enumerate(_checks.FLOATS)}


@dataclass(frozen=True)
class Door:
    """This rank's part of a call.

    Args:
        tensors: this rank's parts, plain tensors.
        wire: the group.
        sizes: [ranks, B] int64, parts of each set on each rank.
        shard: where the parts here lie in memory and in the noise.
        mesh: of the DTensors that were given, or None.
    """

    tensors: dict[str, Tensor]
    wire: Wire
    sizes: Tensor
    shard: Shard
    mesh: Any = None

    @property
    def own(self) -> Tensor:
        """[B], parts of each set here."""
        return self.sizes[self.wire.rank]

    @property
    def counts(self) -> Tensor:
        """[B], parts of each whole set."""
        return self.shard.counts

    def replicated(self, values: Tensor) -> Tensor:
        """A result that all ranks hold, as a DTensor where DTensors were given."""
        return _distributed(values, self.mesh, None)

    def sharded(self, values: Tensor) -> Tensor:
        """A result with a row for each part here, likewise."""
        if self.mesh is None:
            return values
        return _distributed(values, self.mesh, int(self.counts.max()) if len(self.counts) else 0)


def opened(
    operation: str,
    tensors: dict[str, Any],
    sides: tuple[tuple[str, ...], ...],
    group: Any,
    offsets: Tensor | None,
    lengths: Tensor | None,
    coupling: str = "scaled",
    seed: int | Tensor | None = 0,
    set_index: Tensor | None = None,
    part_start: Tensor | None = None,
    earlier: Exception | None = None,
    flags: dict[str, int] | None = None,
) -> Door:
    """Checks the arguments of an operation here and between ranks.

    ``flags`` are further numbers that all ranks must agree on, ``earlier`` a fault that was found before.
    """
    tensors, group, mesh = _local(tensors, group, offsets, lengths)
    wire = Wire(group)
    device = next((t.device for t in tensors.values() if isinstance(t, Tensor)), torch.device("cpu"))
    problem = earlier
    numbers: dict[str, int] = {}
    drawn = torch.zeros((), dtype=torch.int64, device=device)
    own = torch.zeros(0, dtype=torch.int64, device=device)
    try:
        if problem is not None:
            raise problem
        _checks.coupling(coupling)
        tensors, _, count, _ = parts_of_sets(tensors, offsets, lengths, *sides)
        tensors = dict(zip(tensors, as_in_memory(*tensors.values())))
        offsets, lengths, set_index, part_start = as_in_memory(offsets, lengths, set_index, part_start)
        first = next(iter(tensors.values()))
        own = _sizes(first, offsets, lengths)
        _check_layout(first, offsets, lengths)
        _checks.per_set_index("set_index", set_index, count, first)
        _checks.per_set_index("part_start", part_start, count, first)
        drawn = _checks.seed_tensor(seed, device)
        numbers = {
            "number of sets": count, "D": first.shape[-1],
            "dtype": sum(_CODES[t.dtype] * 4**i for i, t in enumerate(tensors.values())),
            "coupling": int(coupling == "scaled"), "seed": 0 if seed is None else int(drawn),
            "set_index": _digest(set_index), "part_start": _digest(part_start), **(flags or {}),
        }
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        problem = error
    # Where all sets of a rank have one size, that number tells all of them; else a second collective does.
    alike = offsets is None and lengths is None
    told = [int(alike), int(own[0]) if alike and len(own) else 0, int(drawn) if seed is None else 0]
    every = wire.agree(operation, device, problem, told, **numbers)
    if all(row[0] for row in every):
        sizes = torch.tensor([row[1] for row in every], device=device)[:, None].expand(-1, len(own))
    else:
        sizes = wire.gathered(own)
    if seed is None:
        drawn = torch.tensor(every[0][2], device=device)
    starts = sizes[: wire.rank].sum(0)
    if part_start is not None:
        starts = starts + part_start
    shard = Shard(offsets, lengths, coupling, drawn, set_index, starts, sizes.sum(0))
    return Door(tensors, wire, sizes, shard, mesh)


def as_in_memory(*tensors: Any) -> tuple:
    """Tensors whose memory, which kernels read, holds their numbers and not the negatives; anything else as it is."""
    return tuple(t.resolve_neg() if isinstance(t, Tensor) else t for t in tensors)


def kernels_of(operation: Operation, of_shards: str, inputs: tuple[Tensor, ...], shard: Shard) -> ModuleType:
    """The module ``of_shards`` of the backend that would serve the operation on whole sets like this shard."""
    device = inputs[0].device.type
    shapes = shapes_of(operation, (*inputs, shard.offsets)) if device == "cuda" else ""
    return backends.implementation(backends.resolve(operation.name, device, shapes), of_shards)


def _sizes(like: Tensor, offsets: Tensor | None, lengths: Tensor | None) -> Tensor:
    if offsets is not None:
        return offsets.to(torch.int64).diff()
    if lengths is not None:
        return lengths.to(torch.int64)
    return torch.full((like.shape[0],), like.shape[1], dtype=torch.int64, device=like.device)


def _check_layout(like: Tensor, offsets: Tensor | None, lengths: Tensor | None) -> None:
    if offsets is not None or lengths is not None:
        _checks.layout_values(like.shape[0], None if offsets is not None else like.shape[1], offsets, lengths)


def _digest(index: Tensor | None) -> int:
    """A number that index tensors which differ hardly share."""
    if index is None:
        return -1
    weights = torch.arange(1, len(index) + 1, device=index.device) * 0x9E3779B97F4A7C1 | 1
    return int(((index.to(torch.int64) + 1) * weights).sum()) & (2**62 - 1)


def _local(tensors: dict[str, Any], group: Any, offsets: Any, lengths: Any):
    """The local tensors, the group and the mesh of DTensors; others as they are."""
    if not any(_is_dtensor(t) for t in tensors.values()):
        return tensors, group, None
    from torch.distributed.tensor import Shard as Sharded

    mesh = None
    for name, t in tensors.items():
        if not _is_dtensor(t):
            raise TypeError(f"{name}: expected a DTensor like the others, got {type(t).__name__}")
        mesh = t.device_mesh if mesh is None else mesh
        if t.device_mesh != mesh or mesh.ndim != 1:
            raise ValueError(f"{name}: expected one mesh of one dimension for all, got {t.device_mesh}")
        if t.dim() != 3 or tuple(t.placements) != (Sharded(1),):
            raise ValueError(f"{name}: expected [B, K, D] with placements [Shard(1)], got {list(t.shape)} with "
                             f"{list(t.placements)}")
    if group is not None or offsets is not None or lengths is not None:
        raise ValueError("group, offsets, lengths: expected None beside DTensors, which are dense and bring their mesh")
    return {name: t.to_local() for name, t in tensors.items()}, mesh.get_group(), mesh  # type: ignore[union-attr]


def _is_dtensor(t: Any) -> bool:
    return isinstance(t, Tensor) and type(t).__name__ == "DTensor"


def _distributed(values: Tensor, mesh: Any, parts: int | None) -> Tensor:
    """A DTensor of the mesh: replicated, or sharded along dimension 1 of ``parts`` in all."""
    if mesh is None:
        return values
    from torch.distributed.tensor import DTensor, Replicate
    from torch.distributed.tensor import Shard as Sharded

    if parts is None:
        return DTensor.from_local(values, mesh, [Replicate()], run_check=False)
    shape = torch.Size((values.shape[0], parts, *values.shape[2:]))
    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(values, mesh, [Sharded(1)], run_check=False, shape=shape, stride=stride)
