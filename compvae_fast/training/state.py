"""All that changes while a model trains, and its way into a checkpoint and back."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

import compvae_fast
from compvae_fast import backends
from compvae_fast.models import CompVAE
from compvae_fast.random import Stream, fold

from .checkpoint import Checkpoint, DamagedCheckpoint
from .config import TrainingConfig
from .optimiser import AveragedWeights, make_optimiser, optimiser_tensors, restore_optimiser
from .processes import ALONE, Processes

TERMS = ("w", "z", "x", "total", "objective")


def rounding(config: TrainingConfig, processes: int = 1) -> dict[str, str]:
    """What the last bits of the numbers depend on beside the configuration."""
    device = torch.device(config.device).type
    return {
        "compvae_fast": compvae_fast.__version__,
        "torch": torch.__version__,
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "backend": backends.resolve("posterior_sum_and_kl", device),
        "processes": str(processes),
        "steps": "captured" if config.graphs else "launched",
    }


def step_seed(config: TrainingConfig, step: int) -> int:
    """The seed that all noise of a step is drawn from."""
    return fold(fold(config.seed, Stream.STEP), step)


def initial_model(config: TrainingConfig) -> CompVAE:
    """The model at step 0: weights drawn from the run's seed, torch's own generator left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold(config.seed, Stream.INITIALISATION))
        model = CompVAE.from_config(config.model)
    model.problem = config.problem
    return model.to(config.device)


class TrainingState:
    """A model in training at ``step``: weights, optimiser, averages, counters and the log row being summed.

    The learning rate and the noise are functions of (recipe, seed, step): they need no state. Of several processes
    each has a state of its own, with the same content.
    """

    def __init__(self, config: TrainingConfig, processes: Processes = ALONE) -> None:
        self.config = config
        self.processes = processes
        self.model = initial_model(config)
        self.parameters = list(self.model.parameters())  # to look for them takes longer than the optimiser's kernel
        self.losses = processes.losses_of(self.model)
        self.optimiser = make_optimiser(config.recipe, self.model, capturable=config.graphs)
        self.averages = AveragedWeights(self.model, config.recipe.averaging)
        self.step = 0
        self.skipped = 0
        self.skipped_in_a_row = 0
        self.sums = torch.zeros(len(TERMS), dtype=torch.float64)
        self.summed = 0

    def checkpoint(self) -> Checkpoint:
        """Everything ``restore`` needs."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.averages.tensors().items()}
        optimiser = optimiser_tensors(self.optimiser, self.model)
        tensors |= {f"optimiser.{name}": tensor for name, tensor in optimiser.items()}
        tensors["log.sums"] = self.sums
        values = {
            "identity": self.config.identity(),
            "rounding": rounding(self.config, self.processes.count),
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "summed": self.summed,
        }
        return Checkpoint(self.step, tensors, values)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from ``checkpoint``. Raises DamagedCheckpoint where its tensors do not fit the model."""
        try:
            self.model.load_state_dict(with_prefix(checkpoint.tensors, "model."))
            self.averages.restore(with_prefix(checkpoint.tensors, "average."))
            restored = with_prefix(checkpoint.tensors, "optimiser.")
            restore_optimiser(self.optimiser, self.model, self._placed(restored))
            self.sums = checkpoint.tensors["log.sums"]
        except (KeyError, RuntimeError) as error:
            raise DamagedCheckpoint(
                f"the checkpoint of step {checkpoint.step} does not fit the model: {error}"
            ) from error
        self.step = checkpoint.step
        self.skipped = checkpoint.values["skipped"]
        self.skipped_in_a_row = checkpoint.values["skipped_in_a_row"]
        self.summed = checkpoint.values["summed"]

    def _placed(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self.config.device) for name, tensor in tensors.items()}


def averaged_model(config: TrainingConfig, checkpoint: Checkpoint) -> CompVAE:
    """The model with its averaged weights (or its weights, where the recipe averages none), on the CPU."""
    model = initial_model(dataclasses.replace(config, device="cpu"))
    weights = with_prefix(checkpoint.tensors, "model.") | with_prefix(checkpoint.tensors, "average.")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise DamagedCheckpoint(f"the checkpoint of step {checkpoint.step} does not fit the model: {error}") from error
    return model.eval().requires_grad_(False)


def with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
