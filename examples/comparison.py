"""What the examples share: are the results of two pieces of code equal, and how long does each take."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from compvae_fast.bench.timing import interleaved


class Side(NamedTuple):
    """One of the two pieces of code: a step that gives its outputs, and the tensors to take gradients of."""

    step: Callable[[], Tensor | tuple[Tensor, ...]]
    leaves: Sequence[Tensor]

    def run(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Outputs, and the gradients of their sum."""
        outputs = self.step()
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return outputs, torch.autograd.grad(sum(output.sum() for output in outputs), self.leaves)


def arguments(description: str) -> argparse.Namespace:
    """--small: sizes for a quick look; --seconds: how long each side is timed."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="small sizes")
    parser.add_argument("--seconds", type=float, default=2.0, help="for timing each side")
    return parser.parse_args()


def equal(title: str, before: Side, after: Side, tolerance: float = 1e-4) -> None:
    """Print how far outputs and gradients are apart, norms over the norm of what came before; exit where too far."""
    old, new = before.run(), after.run()
    apart = {name: max(map(_apart, *pair)) for name, *pair in zip(("outputs", "gradients"), old, new)}
    print(f"{title}: " + ", ".join(f"{name} differ by {value:.1e}" for name, value in apart.items()))
    if not max(apart.values()) < tolerance:
        sys.exit(f"{title}: expected differences below {tolerance:.0e} of the norm")


def faster(title: str, before: Side, after: Side, seconds: float) -> None:
    """Print the time of a forward and backward pass of each, medians of samples taken in turns."""
    timings = interleaved({"before": before.run, "after": after.run}, seconds=seconds)
    old, new = timings["before"].median, timings["after"].median
    print(f"{title}: {1e3 * old:.2f} ms before, {1e3 * new:.2f} ms after, {old / new:.1f} times faster")


def _apart(old: Tensor, new: Tensor) -> float:
    return float(((new - old).norm() / old.norm().clamp(min=1e-30)).detach())
