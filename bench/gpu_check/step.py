"""Times a step of training: captured, launched kernel by kernel, and of the same model in plain PyTorch, beside what it
cannot do without: its matrix products alone, and its optimiser's traffic at the speed of a copy."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import inspect
import json
import statistics
import time
from collections import Counter
from pathlib import Path
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from compvae_fast import ops
from compvae_fast.nn import drawing
from compvae_fast.registry import baselines
from compvae_fast.training import TrainingConfig
from compvae_fast.training.captured import CapturedSteps, Shape
from compvae_fast.training.loop import advance, products
from compvae_fast.training.state import TrainingState
from gpu_check import measure

PARTS = 16
# What Adam reads and writes of a parameter: weight and two moments both ways, and the gradient.
OPTIMISER_BYTES = 28
_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm"}


class Products(TorchDispatchMode):
    """Counts the matrix products of what runs inside, by name, shapes and dtypes."""

    def __init__(self):
        super().__init__()
        self.found: Counter = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in _PRODUCTS:
            tensors = [a for a in args if isinstance(a, torch.Tensor)]
            self.found[name, tuple((tuple(t.shape), tuple(t.stride()), t.dtype) for t in tensors)] += 1
        return function(*args, **(kwargs or {}))


def seconds(call, device: torch.device, budget: float) -> float:
    """The median time of a call."""
    if device.type == "cuda":
        return statistics.median(measure.seconds(call, budget))
    times, until = [], time.monotonic() + budget
    while len(times) < 3 or time.monotonic() < until:
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def seconds_of_products(found: Counter, device: torch.device, budget: float) -> float:
    """The time of so many products alone, on random matrices of their shapes and strides."""
    total = 0.0
    for (name, described), count in found.items():
        tensors = []
        for shape, stride, dtype in described:
            reach = 1 + sum((size - 1) * step for size, step in zip(shape, stride))
            tensors.append(torch.randn(reach, device=device).to(dtype).as_strided(shape, stride))
        alone = functools.partial(getattr(torch, name), *tensors)
        total += count * seconds(alone, device, budget / max(len(found), 1))
    return total


def _plain(function):
    """A baseline that takes the operation's arguments; its noise is torch's own."""
    known = set(inspect.signature(function).parameters)
    return lambda *args, **given: function(*args, **{name: v for name, v in given.items() if name in known})


@contextlib.contextmanager
def plain_operations():
    """The model's operations and noise as one writes them in PyTorch."""
    with contextlib.ExitStack() as patched:
        for name in ops.__all__:
            patched.enter_context(mock.patch.object(ops, name, _plain(getattr(baselines, name))))
        patched.enter_context(mock.patch.object(
            drawing, "row_normals", lambda seed, rows, width: torch.randn(len(rows), width, device=rows.device)))
        yield


def plain_step(state: TrainingState, shape: Shape, compiled: bool):
    """A step of the same model without this package's operations, on data that are there already."""
    x, labels, lengths = CapturedSteps(state).batch(shape)
    loss = torch.compile(state.model.loss) if compiled else state.model.loss
    device = torch.device(state.config.device).type

    def step():
        state.optimiser.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=state.config.precision == "bf16"):
            objective = loss(x, labels, lengths=lengths, seed=1, generating=shape.generating).objective.mean()
        objective.backward()
        state.optimiser.step()

    return step


def measured(config: TrainingConfig, copied: float, budget: float, compiled: bool = True, parts: int = PARTS) -> dict:
    """Seconds of each kind of step at a batch of the recipe's, all sets of so many parts; and of what it needs."""
    device, shape = torch.device(config.device), Shape(parts, False, False)
    fixed = dataclasses.replace(config.recipe, k_start=parts, k_max=parts, k_per_batch=1, k_exponent=200.0)
    config = dataclasses.replace(config, recipe=fixed)
    found = {}
    with products(config):
        captured = CapturedSteps(TrainingState(dataclasses.replace(config, graphs=True)))
        captured.advance(shape)
        captured.advance(shape)
        with Products() as counted:
            captured.differentiated(shape)[0].backward()
        found["captured"] = seconds(lambda: captured.advance(shape), device, budget)
        found["products"] = seconds_of_products(counted.found, device, budget)
        parameters = sum(p.numel() for p in captured.state.model.parameters())
        found["optimiser"] = OPTIMISER_BYTES * parameters / copied
        launched = TrainingState(config)
        found["launched"] = seconds(lambda: advance(launched), device, budget)
    eager = dataclasses.replace(config, precision="tf32") if device.type == "cuda" else config
    for name, settings, fused in (("plain eager", eager, False), ("plain compiled", config, True))[: 1 + compiled]:
        with products(settings), plain_operations():
            step = plain_step(TrainingState(settings), shape, fused)
            found[name] = seconds(step, device, budget)
    return found


def table(found: dict, config: TrainingConfig) -> str:
    floor = found["products"] + found["optimiser"]
    what = f"{config.model.preset}, batch {config.recipe.batch}, K = {PARTS}, {config.precision}"
    lines = [f"A step of {what}; plain eager in TF32 on CUDA devices.", "",
             "| what | ms | over products and optimiser |", "|---|---|---|"]
    for name, value in found.items():
        lines.append(f"| {name} | {value * 1e3:.3f} | {value / floor:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for step.json and step.md")
    parser.add_argument("--preset", default="sines")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    config = TrainingConfig.from_preset(options.preset, device="cuda", precision="bf16")
    found = measured(config, measure.copy_bandwidth(0.5), 2.0)
    (options.out / "step.json").write_text(json.dumps({"device": torch.cuda.get_device_name(), **found}, indent=1))
    (options.out / "step.md").write_text(table(found, config))
    print(table(found, config))


if __name__ == "__main__":
    main()
