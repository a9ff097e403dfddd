"""Sets of parts for the conformity tests: made once as ragged rows, then laid out in every form of memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LAYOUTS = ("dense", "strided", "ragged", "padded", "nested")


@dataclass(frozen=True)
class Sizes:
    """How many parts each set has."""

    sizes: tuple[int, ...]

    @property
    def rows(self) -> int:
        return sum(self.sizes)

    @property
    def offsets(self) -> Tensor:
        return torch.tensor([0, *torch.tensor(self.sizes, dtype=torch.int64).cumsum(0).tolist()])

    @property
    def owner(self) -> Tensor:
        """[N], the set of each row."""
        return torch.repeat_interleave(torch.tensor(self.sizes))

    def total(self, x: Tensor) -> Tensor:
        """[B, ...], the sum of ragged rows over each set."""
        return x.new_zeros(len(self.sizes), *x.shape[1:]).index_add(0, self.owner, x)

    def fits(self, layout: str) -> bool:
        return layout not in ("dense", "strided") or len(set(self.sizes)) == 1

    def keywords(self, layout: str) -> dict[str, Tensor]:
        if layout == "ragged":
            return {"offsets": self.offsets.to(torch.int32)}
        return {"lengths": torch.tensor(self.sizes)} if layout == "padded" else {}

    def laid_out(self, x: Tensor, layout: str) -> Tensor:
        """Ragged rows [N, ...] in another layout; what lies in empty slots is NaN, or an impossible label."""
        if layout == "ragged":
            return x
        if layout == "nested":
            return torch.nested.nested_tensor_from_jagged(x, self.offsets)
        count, slots = len(self.sizes), max(self.sizes) + (2 if layout == "padded" else 0)
        fill = float("nan") if x.is_floating_point() else -1
        padded = x.new_full((count, slots, *x.shape[1:]), fill)
        for b, rows in enumerate(x.split(self.sizes)):
            padded[b, : len(rows)] = rows
        return strided(padded) if layout == "strided" else padded

    def rows_of(self, x: Tensor, layout: str) -> Tensor:
        """The inverse of laid_out."""
        if layout == "ragged":
            return x
        if layout == "nested":
            return x.values()
        return torch.cat([x[b, :size] for b, size in enumerate(self.sizes)])

    def padding_of(self, x: Tensor, layout: str) -> Tensor:
        """What lies in a padded tensor's empty slots."""
        if layout != "padded":
            return torch.zeros(0)
        return torch.cat([x[b, size:].flatten() for b, size in enumerate(self.sizes)])


def strided(x: Tensor) -> Tensor:
    """The same numbers with the dimensions stored in another order and holes between the last one's."""
    order = [*range(1, x.dim() - 1), 0, x.dim() - 1] if x.dim() > 1 else [0]
    memory = x.new_full((*(x.shape[d] for d in order[:-1]), 2 * x.shape[-1] + 1), 0)
    view = memory.permute(*(order.index(d) for d in range(x.dim())))[..., 1::2]
    view.copy_(x)
    return view
