"""Sizes of example inputs, and tensors drawn for them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

LAYOUTS = ("dense", "ragged", "padded")


@dataclass(frozen=True)
class Shape:
    """The sizes of one input.

    sizes: parts K_b of each of B sets; width: coordinates D; layout: dense [B, K, D], all sizes equal; ragged [N, D]
    with offsets; padded [B, max K_b, D] with lengths; classes: C, labels of the parts where there are any.
    """

    sizes: tuple[int, ...]
    width: int
    layout: str = "dense"
    classes: int = 10

    def __post_init__(self):
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout: expected one of {', '.join(LAYOUTS)}, got {self.layout!r}")
        if self.layout == "dense" and len(set(self.sizes)) > 1:
            raise ValueError(f"sizes: expected equal ones in a dense layout, got {sorted(set(self.sizes))}")

    @staticmethod
    def dense(sets: int, parts: int, width: int) -> Shape:
        """B sets of K parts each."""
        return Shape((parts,) * sets, width)

    @property
    def sets(self) -> int:
        """B."""
        return len(self.sizes)

    @property
    def parts(self) -> int:
        """The largest K."""
        return max(self.sizes, default=0)

    @property
    def elements(self) -> int:
        """Parts of all sets times coordinates."""
        return sum(self.sizes) * self.width

    @property
    def leading(self) -> tuple[int, ...]:
        """(B, K), or (N,) of a ragged layout."""
        return (sum(self.sizes),) if self.layout == "ragged" else (self.sets, self.parts)

    def layout_arguments(self, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """The keyword argument that tells the layout: offsets [B + 1], lengths [B], or none."""
        if self.layout == "ragged":
            ends = torch.tensor((0, *self.sizes)).cumsum(0)
            return {"offsets": ends.to(device)}
        return {"lengths": torch.tensor(self.sizes, device=device)} if self.layout == "padded" else {}

    def reduced(self, elements: int) -> Shape:
        """A shape of this kind with at most about so many elements: first fewer coordinates, then sets, then parts.

        >>> str(Shape.dense(64, 16, 1024).reduced(2**16)), str(Shape.dense(1, 10**6, 1024).reduced(2**20))
        ('64x16x64', '1x16384x64')
        """
        shape = self
        if shape.elements > elements:
            shape = replace(shape, width=min(shape.width, max(64, elements // max(1, sum(shape.sizes)))))
        if shape.elements > elements:
            shape = replace(shape, sizes=shape.sizes[: max(1, shape.sets * elements // shape.elements)])
        if shape.elements > elements:
            most = max(1, elements // (shape.width * shape.sets))
            shape = replace(shape, sizes=tuple(min(size, most) for size in shape.sizes))
        return shape

    def __str__(self) -> str:
        if self.layout == "dense":
            return f"{self.sets}x{self.parts}x{self.width}"
        return f"{self.sets}x({min(self.sizes)}..{self.parts})x{self.width} {self.layout}"


@dataclass(frozen=True)
class Sampler:
    """Draws the tensors of an example with one generator, so that a seed gives one example."""

    shape: Shape
    dtype: torch.dtype
    device: torch.device
    generator: torch.Generator

    @staticmethod
    def of(shape: Shape, dtype: torch.dtype, device: torch.device | str, seed: int) -> Sampler:
        device = torch.device(device)
        return Sampler(shape, dtype, device, torch.Generator(device).manual_seed(seed))

    def normal(self, mean: float = 0.0, deviation: float = 1.0, size: tuple[int, ...] | None = None) -> Tensor:
        """N(mean, deviation^2), of the shape of the parts unless told."""
        size = (*self.shape.leading, self.shape.width) if size is None else size
        drawn = torch.randn(size, generator=self.generator, device=self.device)
        return drawn.mul_(deviation).add_(mean).to(self.dtype)

    def integers(self, below: int, size: tuple[int, ...]) -> Tensor:
        """Uniform on 0 .. below - 1, int64."""
        return torch.randint(below, size, generator=self.generator, device=self.device)

    def levels(self) -> Tensor:
        """Uniform on {0 .. 255} / 255, of the shape of the parts."""
        return (self.integers(256, (*self.shape.leading, self.shape.width)) / 255).to(self.dtype)

    def counts(self) -> Tensor:
        """[B, C] int64: the parts of each set spread over the classes as evenly as may be."""
        classes = self.shape.classes
        rows = [[size // classes + (c < size % classes) for c in range(classes)] for size in self.shape.sizes]
        return torch.tensor(rows, device=self.device)


def geometric(first: int, last: int, steps: int) -> tuple[int, ...]:
    """Whole numbers from first to last, evenly spaced on a logarithmic scale.

    >>> geometric(1, 64, 7)
    (1, 2, 4, 8, 16, 32, 64)
    """
    ratio = math.log(last / first) / (steps - 1)
    return tuple(round(first * math.exp(ratio * step)) for step in range(steps))
