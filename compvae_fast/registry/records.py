"""One record for each operation: what tests, benchmarks and plug-ins need to know of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from compvae_fast import backends, ops
from compvae_fast.patch import noise_like
from compvae_fast.registry import baselines
from compvae_fast.registry.alternatives import Alternative
from compvae_fast.registry.shapes import Sampler, Shape

# Operations that an exponential and a normal stand for: a polynomial with its range reduction; ten rounds of Philox
# for four words, and Box-Muller.
EXPONENTIAL, NORMAL = 10, 35
SEED = 0


@dataclass(frozen=True)
class Work:
    """What one fused pass does for each part and coordinate (for each set and coordinate where it collapses them)."""

    arithmetic: int
    exponentials: int = 0
    normals: int = 0

    @property
    def operations(self) -> int:
        return self.arithmetic + EXPONENTIAL * self.exponentials + NORMAL * self.normals


# What an output may differ by in float32, relative to its norm, by its kind; draws by the noise's own tolerance.
TOLERANCES = {"number": 1e-5, "moment": 1e-5, "sum": 1e-4, "parts": 1e-5, "drawn parts": 1e-4}
GRADIENT_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Record:
    """What the package knows about one operation beside how it is registered with torch.

    operation: its name; sample: its tensor arguments, drawn with a Sampler; sides: its float arguments, those of one
    dtype together; outputs: what each is, "sum" [B, D] summed over the parts, "parts" like the inputs, "number" [B],
    "moment" [B, D]; variants: keyword arguments that tests go through, beside the couplings; options: those that it is
    timed with; shapes and quick: what is timed, in full and in a hurry; sweep: a dense shape around which K, B and D
    are varied, or None; forward and backward: the work; alternatives: what others offer; variant: tells apart two
    records of one operation.
    """

    operation: str
    sample: Callable[[Sampler], Mapping[str, Tensor | None]]
    sides: tuple[tuple[str, ...], ...]
    outputs: tuple[str, ...]
    shapes: tuple[Shape, ...]
    quick: tuple[Shape, ...]
    forward: Work
    backward: Work
    sweep: Shape | None = None
    options: tuple[Mapping[str, Any], ...] = ({},)
    variants: tuple[Mapping[str, Any], ...] = ({},)
    alternatives: tuple[Alternative, ...] = ()
    variant: str = ""

    @property
    def draws(self) -> bool:
        """Whether it takes a seed."""
        return any(argument.kind == "seed" for argument in self.registered.arguments)

    @property
    def coupled(self) -> bool:
        """Whether it takes a coupling."""
        return any(argument.name == "coupling" for argument in self.registered.arguments)

    @property
    def sets(self) -> bool:
        """Whether its parts lie in a layout."""
        return not self.collapsed and any(argument.kind == "offsets" for argument in self.registered.arguments)

    @property
    def tolerances(self) -> tuple[float, ...]:
        """What each output may differ by in float32, relative to its norm."""
        return tuple(TOLERANCES["drawn parts" if kind == "parts" and self.draws else kind] for kind in self.outputs)

    @property
    def collapsed(self) -> bool:
        """Whether parts are told by their number, so that neither memory nor time grows with it."""
        return self.variant == "counts"

    @property
    def name(self) -> str:
        return f"{self.operation}_{self.variant}" if self.variant else self.operation

    @property
    def function(self) -> Callable:
        """The public function."""
        return getattr(ops, self.operation)

    @property
    def baseline(self) -> Callable:
        """The same in plain PyTorch; takes randn= where the operation takes seed=."""
        return getattr(baselines, self.operation)

    @property
    def registered(self):
        """How it is registered with torch: schema, kinds of arguments, saved tensors."""
        return importlib.import_module(f"compvae_fast.ops.{self.operation}").OPERATION

    @property
    def differentiable(self) -> tuple[str, ...]:
        """The names of the differentiable arguments."""
        return tuple(argument.name for argument in self.registered.inputs)

    def backends(self, device: str = "cpu") -> tuple[str, ...]:
        """The backends that serve it on a device type of this machine."""
        return backends.serving(self.operation, device)

    def elements(self, shape: Shape) -> int:
        """What its memory and time are proportional to: parts, or classes where parts are only counted, times D."""
        return shape.sets * shape.classes * shape.width if self.collapsed else shape.elements

    def reduced(self, shape: Shape, elements: int) -> Shape:
        """A shape of this kind of at most about so many elements."""
        return shape if self.elements(shape) <= elements else shape.reduced(elements)

    def arguments(
        self, shape: Shape, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu", seed: int = SEED,
        requires_grad: bool = False, **options,
    ) -> dict[str, Any]:
        """An example: the arguments of the public function by name, without the seed of its noise."""
        drawn: dict[str, Any] = dict(self.sample(Sampler.of(shape, dtype, device, seed)))
        for name in self.differentiable:
            drawn[name].requires_grad_(requires_grad)
        layout = shape.layout_arguments(device) if self.sets else {}
        return drawn | layout | options

    def fused(self, arguments: Mapping[str, Any], seed: int | Tensor = SEED) -> tuple[Tensor, ...]:
        """The outputs of the public function."""
        return _as_tuple(self.function(**arguments, **({"seed": seed} if self.draws else {})))

    def plain(self, arguments: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """The outputs of the baseline, with torch's own noise."""
        return _as_tuple(self.baseline(**arguments))

    def plain_with_noise_of(self, arguments: Mapping[str, Any], seed: int | Tensor = SEED) -> tuple[Tensor, ...]:
        """The outputs of the baseline with the noise that the operation draws for a seed."""
        if not self.draws:
            return self.plain(arguments)
        offsets = arguments.get("offsets")
        return _as_tuple(self.baseline(**arguments, randn=lambda x: noise_like(x, seed, offsets=offsets)))

    def traffic(self, arguments: Mapping[str, Any], outputs: tuple[Tensor, ...]) -> tuple[int, int]:
        """Bytes that must be moved forward (inputs read, outputs written) and backward (inputs and the gradients of
        outputs read, gradients of inputs written): each tensor once, whatever a kernel needs."""
        read = _bytes(value for value in arguments.values() if isinstance(value, Tensor))
        gradients = _bytes(arguments[name] for name in self.differentiable)
        return read + _bytes(outputs), read + _bytes(outputs) + gradients


def _as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _bytes(tensors) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
