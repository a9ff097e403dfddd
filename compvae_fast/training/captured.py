"""Steps of training as CUDA graphs: launched once, replayed from then on with another seed, rate and progress.

What a step does on the device is a function of tensors whose shapes depend on its `Shape` alone, and nothing in it
waits for the device: data are drawn there, a step that is to be skipped changes nothing by arithmetic, and losses are
summed where they are. A shape's first step runs as it is, the second one is captured.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from compvae_fast.data.multisets import labels_at, set_sizes

from .optimiser import set_learning_rate
from .state import TERMS, TrainingState, step_seed


class Shape(NamedTuple):
    """What the shapes of a step's tensors, and the path through the model, depend on.

    slots: K where all sets have as many parts, else the most that one may have; generating: whether the objective has
    the score of generated wholes.
    """

    slots: int
    padded: bool
    generating: bool


class CapturedSteps:
    """The steps of a `TrainingState`, which must have been made for a configuration with ``graphs``.

    Steps, skipped steps and sums are those of `loop.advance`; they are in the state after ``settle``.
    """

    def __init__(self, state: TrainingState) -> None:
        self.state, self.config, self.recipe = state, state.config, state.config.recipe
        self.problem = self.config.problem
        device = next(state.model.parameters()).device
        # The rates are tensors of the optimiser.
        self._seed = torch.zeros((), dtype=torch.int64, device=device)
        self._progress = torch.zeros((), dtype=torch.float64, device=device)
        self._sums = torch.zeros(len(TERMS), dtype=torch.float64, device=device)
        # steps that were taken ever, steps since the last `settle` that were taken, that were not, and those in a row
        self._taken = torch.tensor(float(state.step - state.skipped), dtype=torch.float64, device=device)
        self._summed, self._skipped = torch.zeros(2, dtype=torch.int64, device=device).unbind()
        self._in_a_row = torch.tensor(state.skipped_in_a_row, device=device)
        self._graphs: dict[Shape, torch.cuda.CUDAGraph | None] = {}
        self._on_device = device.type == "cuda"

    def advance(self, shape: Shape | None = None) -> None:
        """One step, of the shape that its number gives unless another one is asked for."""
        state = self.state
        seed, progress = step_seed(self.config, state.step), min(state.step / self.recipe.steps, 1.0)
        shape = shape or self.shape_of(state.step)
        self._seed.fill_((seed + 2**63) % 2**64 - 2**63)
        self._progress.fill_(progress)
        set_learning_rate(state.optimiser, self.recipe.learning_rate(state.step))
        if not self._on_device:
            self.run(shape)
        elif shape not in self._graphs:
            self._launch(shape)
        else:
            self._replay(shape)
        state.step += 1

    def shape_of(self, step: int) -> Shape:
        """The shape of a step, known without the device."""
        recipe, model = self.recipe, self.config.model
        generating = bool(model.generation_weight) and min(step / recipe.steps, 1.0) >= model.generation_from
        largest = recipe.largest_k(step)
        if recipe.k_per_batch != 1:
            return Shape(largest, True, generating)
        sizes = set_sizes(1, largest, seed=step_seed(self.config, step), k_exponent=recipe.k_exponent, k_per_batch=1)
        return Shape(int(sizes), False, generating)

    def settle(self) -> None:
        """Brings what was summed on the device into the state; the one thing here that waits for the device."""
        state = self.state
        sums, counts = self._sums.cpu(), torch.stack([self._summed, self._skipped, self._in_a_row]).tolist()
        state.sums += sums
        state.summed += counts[0]
        state.skipped += counts[1]
        state.skipped_in_a_row = counts[2]
        for counted in (self._sums, self._summed, self._skipped):
            counted.zero_()

    def batch(self, shape: Shape) -> tuple[Tensor, Tensor, Tensor | None]:
        """Wholes [B, ...], labels [B, slots] and lengths [B] or None: those of `loop.draw_batch`."""
        recipe, device = self.recipe, self._seed.device
        sets, slots = torch.arange(recipe.batch, device=device), torch.arange(shape.slots, device=device)
        labels, lengths = labels_at(sets[:, None], slots, labels=recipe.labels, seed=self._seed), None
        if shape.padded:
            lengths = set_sizes(recipe.batch, shape.slots, seed=self._seed, k_exponent=recipe.k_exponent,
                                k_per_batch=recipe.k_per_batch, device=device)
        own = {name: getattr(recipe, name) for name in self.problem.recipe_options}
        x = self.problem.wholes(labels, lengths=lengths, seed=self._seed, within=recipe.labels, **own)
        return x, labels, lengths

    def run(self, shape: Shape) -> None:
        """A whole step as it is captured: from the seed to the averaged weights."""
        state, recipe, model = self.state, self.recipe, self.state.model
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        objective, terms = self.differentiated(shape)
        state.optimiser.zero_grad()
        objective.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip or math.inf)
        reached = terms[TERMS.index("objective")]
        taken = torch.isfinite(reached) & torch.isfinite(norm)
        if recipe.skip_above is not None:
            taken &= reached <= recipe.skip_above
        self.updated(taken, terms)
        for buffer, before in buffers:
            buffer.copy_(torch.where(taken, buffer, before))

    def differentiated(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """The objective to go backward from, and the mean terms, float64 [terms]."""
        state = self.state
        x, labels, lengths = self.batch(shape)
        device = torch.device(self.config.device).type
        with torch.autocast(device, torch.bfloat16, enabled=self.config.precision == "bf16"):
            losses = state.losses(x, labels, lengths=lengths, seed=self._seed, progress=self._progress,
                                  generating=shape.generating)
        terms = torch.stack([getattr(losses, name).detach() for name in TERMS])
        return (state.processes.objective(losses.objective, self.recipe.batch),
                state.processes.mean(terms, self.recipe.batch))

    @torch.no_grad()
    def updated(self, taken: Tensor, terms: Tensor) -> None:
        """Weights, averages and sums after a step that counts where ``taken``; the gradients are there."""
        optimiser = self.state.optimiser
        # What a gradient scaler would leave there: the fused optimiser then leaves weights and its own state alone.
        optimiser.found_inf = (~taken).float()  # type: ignore[attr-defined]
        optimiser.step()
        self.state.averages.update_if(taken, self._taken)
        self._taken += taken
        self._sums += torch.where(taken, terms, 0.0)
        self._summed += taken
        self._skipped += ~taken
        self._in_a_row.copy_(torch.where(taken, 0, self._in_a_row + 1))

    def _launch(self, shape: Shape) -> None:
        """A shape's first step, on a stream of its own as capture wants it: libraries and allocator make ready."""
        stream = torch.cuda.Stream(self._seed.device)
        stream.wait_stream(torch.cuda.current_stream(self._seed.device))
        with torch.cuda.stream(stream):
            self.run(shape)
        torch.cuda.current_stream(self._seed.device).wait_stream(stream)
        self._graphs[shape] = None

    def _replay(self, shape: Shape) -> None:
        graph = self._graphs[shape]
        if graph is None:
            pool = next((other.pool() for other in self._graphs.values() if other is not None), None)
            self.state.optimiser.zero_grad()
            graph = self._graphs[shape] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                self.run(shape)
        graph.replay()
