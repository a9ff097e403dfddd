"""Times a step of training beside what it cannot do without, all in one run: its matrix products and convolutions
alone, and its optimiser's traffic at the speed of a copy; and beside a step of the same model in plain PyTorch.

    python bench/training_step.py --preset sines-small --batch 64 --out build/step
"""

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
from collections.abc import Callable, Iterator, Mapping
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

PARTS = 16
# What Adam reads and writes of a parameter: weight and two moments both ways, and the gradient.
OPTIMISER_BYTES = 28
_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward"}


@dataclasses.dataclass(frozen=True)
class Described:
    """A tensor without its numbers."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def tensor(self, device: torch.device) -> torch.Tensor:
        """One of random numbers like it."""
        reach = 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride))
        return torch.randn(reach, device=device).to(self.dtype).as_strided(self.shape, self.stride)


class Products(TorchDispatchMode):
    """Counts the matrix products and convolutions of what runs inside, by operation and arguments."""

    def __init__(self):
        super().__init__()
        self.found: Counter = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in _PRODUCTS:
            self.found[function, tuple(_described(a) for a in args)] += 1
        return function(*args, **(kwargs or {}))


def _described(argument):
    if isinstance(argument, torch.Tensor):
        return Described(tuple(argument.shape), argument.stride(), argument.dtype)
    return tuple(argument) if isinstance(argument, (list, tuple)) else argument


def products_alone(found: Counter, device: torch.device) -> Callable[[], None]:
    """A call that does so many products and nothing else, on random tensors of their shapes and strides."""
    calls = []
    for (function, arguments), count in found.items():
        given = [a.tensor(device) if isinstance(a, Described) else list(a) if isinstance(a, tuple) else a
                 for a in arguments]
        calls += [functools.partial(function, *given)] * count

    def run():
        for call in calls:
            call()

    return run


def medians(calls: Mapping[str, Callable[[], object]], device: torch.device, budget: float) -> dict[str, float]:
    """The median time of each call, seconds, the calls in turns for `budget` seconds in all, three times at least."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    until = time.monotonic() + budget
    while time.monotonic() < until or len(next(iter(times.values()))) < 3:
        for name, call in calls.items():
            _wait(device)
            begun = time.perf_counter()
            call()
            _wait(device)
            times[name].append(time.perf_counter() - begun)
    return {name: statistics.median(samples) for name, samples in times.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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


def bare_step(state: TrainingState, shape: Shape, compiled: bool = False):
    """Losses, backward and the optimiser on data that are there already: no clipping, averages or log."""
    x, labels, lengths = CapturedSteps(state).batch(shape)
    loss = torch.compile(state.model.loss) if compiled else state.model.loss
    device = torch.device(state.config.device).type

    def step():
        with products(state.config):
            state.optimiser.zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=state.config.precision == "bf16"):
                objective = loss(x, labels, lengths=lengths, seed=1, generating=shape.generating).objective.mean()
            objective.backward()
            state.optimiser.step()

    return step


def measured(
    config: TrainingConfig, budget: float, compiled: bool = True, parts: int = PARTS, copied: int = 1 << 28
) -> Iterator[dict[str, float]]:
    """Seconds of each kind of step, all sets of so many parts, and of what it needs; `copied` bytes for the copy. Given
    as they come, more each time, `budget` seconds after one another: what is compiled comes last.

    launched: as training takes it; bare: `bare_step` of this package, and plain: of PyTorch alone; compiled: the losses
    and their gradients by torch.compile.
    """
    device, shape = torch.device(config.device), Shape(parts, False, False)
    fixed = dataclasses.replace(config.recipe, k_start=parts, k_max=parts, k_per_batch=1, k_exponent=200.0)
    config = dataclasses.replace(config, recipe=fixed)
    captured = CapturedSteps(TrainingState(dataclasses.replace(config, graphs=True)))
    launched = TrainingState(config)
    # eager PyTorch as one runs it on a GPU: its products in TF32, no autocast
    plain = TrainingState(dataclasses.replace(config, precision="tf32") if device.type == "cuda" else config)
    source = torch.ones(copied // 4, device=device)
    target = torch.empty_like(source)
    with Products() as counted, products(config):
        captured.differentiated(shape)[0].backward()
    calls: dict[str, Callable[[], object]] = {
        "launched": functools.partial(advance, launched),
        "bare": bare_step(TrainingState(config), shape),
        "products": products_alone(counted.found, device),
    }
    if device.type == "cuda":
        calls["captured"] = functools.partial(captured.advance, shape)
    with products(config):
        found = medians(calls, device, budget)
        parameters = sum(p.numel() for p in plain.model.parameters())
        # apart from the others, whose caches it would empty
        copy = medians({"copy": functools.partial(target.copy_, source)}, device, budget / 10)["copy"]
        found["optimiser"] = OPTIMISER_BYTES * parameters / (2 * copied) * copy
    yield found
    beside_products = {"plain eager": bare_step(plain, shape)}
    if compiled and device.type == "cpu":  # on others steps are captured
        beside_products["bare compiled"] = bare_step(TrainingState(config), shape, compiled=True)
    if compiled:
        beside_products["plain compiled"] = bare_step(TrainingState(config), shape, compiled=True)
    for name, step in beside_products.items():
        operations = plain_operations() if name.startswith("plain") else contextlib.nullcontext()
        with products(config), operations:
            beside = medians({name: step, "again": calls["products"]}, device, budget)
        # the machine may have become faster or slower meanwhile
        found[name] = beside[name] * found["products"] / beside["again"]
        yield found


def table(found: dict, config: TrainingConfig) -> str:
    floor = found["products"] + found["optimiser"]
    what = f"{config.model.preset}, batch {config.recipe.batch}, K = {PARTS}, {config.precision}"
    lines = [f"A step of {what}.", "", "| what | ms | over products and optimiser |", "|---|---|---|"]
    for name, value in found.items():
        lines.append(f"| {name} | {value * 1e3:.3f} | {value / floor:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for step.json and step.md")
    parser.add_argument("--preset", default="sines")
    parser.add_argument("--batch", type=int, help="sets in a step; the preset's unless given")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=["float32", "tf32", "bf16"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=10.0, help="of measurement, for each part of the table")
    parser.add_argument("--compiled", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    config = TrainingConfig.from_preset(options.preset, device=options.device, precision=options.precision)
    if options.batch:
        config = dataclasses.replace(config, recipe=dataclasses.replace(config.recipe, batch=options.batch))
    device = torch.cuda.get_device_name() if options.device == "cuda" else f"cpu, {options.threads} threads"
    for found in measured(config, options.seconds, options.compiled):
        (options.out / "step.json").write_text(json.dumps({"device": device, **found}, indent=1))
        (options.out / "step.md").write_text(table(found, config))
    print((options.out / "step.md").read_text())


if __name__ == "__main__":
    main()
