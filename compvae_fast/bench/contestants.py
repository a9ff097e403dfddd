"""Who is timed beside whom: the backends, plain PyTorch eager and compiled, and what established libraries offer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from compvae_fast.backends import use_backend
from compvae_fast.registry import SEED, Record, Shape

PASSES = ("forward", "backward", "full")
EAGER, COMPILED, PREFIX = "eager", "torch.compile", "compvae_fast"


@dataclass(frozen=True)
class Contestant:
    """One way to compute a record's operation.

    run: takes the example's arguments, gives the outputs; check: the same for comparing with the reference, or None
    where it gives other numbers; note: what differs.
    """

    name: str
    run: Callable[[Mapping[str, Any]], tuple[Tensor, ...]]
    check: Callable[[Mapping[str, Any]], tuple[Tensor, ...]] | None
    note: str = ""


def contestants(
    record: Record, shape: Shape, *, backends: tuple[str, ...], compiled: bool, alternatives: bool, plain: bool = True
) -> Iterator[Contestant]:
    """The contestants for one shape, ours first: the backends, then plain PyTorch eager and compiled, then others."""
    for backend in backends:
        run = functools.partial(_on_backend, record, backend)
        yield Contestant(f"{PREFIX}:{backend}", run, run)
    if plain:
        yield Contestant(EAGER, record.plain, record.plain_with_noise_of)
    if compiled:
        # What eager mode computes, which is checked; code compiled for earlier shapes would count against its limit.
        torch.compiler.reset()
        yield Contestant(COMPILED, functools.partial(_called, torch.compile(record.baseline, dynamic=False)), None)
    if alternatives:
        for alternative in record.alternatives:
            if alternative.serves(shape):
                run = functools.partial(_called, alternative.call)
                yield Contestant(alternative.name, run, run if alternative.same else None, alternative.note)


def _on_backend(record: Record, backend: str, arguments: Mapping[str, Any]) -> tuple[Tensor, ...]:
    with use_backend(backend):
        return record.fused(arguments, SEED)


def _called(function: Callable, arguments: Mapping[str, Any]) -> tuple[Tensor, ...]:
    outputs = function(**arguments)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def one_pass(run: Callable, arguments: Mapping[str, Any], differentiable: tuple[str, ...], which: str) -> Callable:
    """One pass of a contestant as a call without arguments.

    forward: without recording gradients; full: forward and backward; backward: of one forward pass made beforehand.
    Backward passes start from fixed random gradients of the outputs and end at those of the inputs, freshly allocated.
    """
    if which not in PASSES:
        raise ValueError(f"pass: expected one of {', '.join(PASSES)}, got {which!r}")
    if which == "forward":
        given = {k: v.detach() if isinstance(v, Tensor) else v for k, v in arguments.items()}

        def forward():
            with torch.no_grad():
                return run(given)

        return forward
    given = dict(arguments)
    inputs = [given[name].detach().requires_grad_() for name in differentiable]
    given.update(zip(differentiable, inputs))
    first = run(given)
    generator = torch.Generator(inputs[0].device).manual_seed(SEED)
    upstream = [torch.randn(o.shape, generator=generator, device=o.device).to(o.dtype) for o in first]

    def back(outputs, retain: bool):
        # Some alternatives have outputs that no input reaches.
        ends = [o for o in outputs if o.requires_grad]
        gradients = [g for o, g in zip(outputs, upstream) if o.requires_grad]
        return torch.autograd.grad(ends, inputs, gradients, retain_graph=retain, allow_unused=True)

    return functools.partial(back, first, True) if which == "backward" else lambda: back(run(given), False)
