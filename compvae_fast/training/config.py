"""What a run of training is told, as plain values."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from compvae_fast.data import Problem, problem
from compvae_fast.data.households import RecordFiles
from compvae_fast.models import CompVAEConfig, TrainingRecipe, preset_config, recipe

from .errors import BadInput, check_seed

PRECISIONS = ("float32", "tf32", "bf16")
# Where a process cannot start as many threads as it is asked for, OpenMP ends it.
MOST_THREADS = 1024
# What of a configuration's own settings the numbers depend on.
DECISIVE = ("horizon", "seed", "log_every", "threads", "device", "precision")


@dataclass(frozen=True)
class TrainingConfig:
    """One run of training.

    Args:
        model: what the network is built from.
        recipe: batch, optimiser, rates and schedules.
        steps: steps at which to stop, counted from the beginning of the run.
        horizon: steps at which the schedules end, in place of ``recipe.steps``; None is ``steps``.
        seed: of everything that is drawn: weights, data and noise; 0 to 2^64 - 1.
        log_every: steps a row of the log stands for.
        checkpoint_every: steps from one checkpoint to the next.
        keep_every: steps from one checkpoint that is kept to the next, a multiple of checkpoint_every; None keeps the
            last two alone.
        threads: CPU threads, which rounding depends on; None leaves torch's choice.
        device: cpu or cuda, as torch names them.
        precision: of matrix products and convolutions: "float32"; "tf32" (on CUDA devices that have it); or "bf16", in
            which networks run under autocast, with weights, tables, sums over sets and losses in float32.
        graphs: whole steps as CUDA graphs, one for each K, or for each largest K where sets differ in size.
        data: users' own records in place of the simulated town, of the problem "households".
    """

    model: CompVAEConfig
    recipe: TrainingRecipe
    steps: int
    horizon: int | None = None
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int = 500
    keep_every: int | None = None
    threads: int | None = None
    device: str = "cpu"
    precision: str = "float32"
    graphs: bool = False
    data: RecordFiles | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("horizon", "threads", "keep_every"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise BadInput(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.threads is not None and self.threads > MOST_THREADS:
            raise BadInput(f"threads: expected at most {MOST_THREADS}, got {self.threads}")
        if self.keep_every is not None and self.keep_every % self.checkpoint_every:
            raise BadInput(f"keep_every: expected a multiple of {self.checkpoint_every}, got {self.keep_every}")
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise BadInput(f"device: expected cpu or cuda, got {self.device!r}")
        if self.precision not in PRECISIONS:
            raise BadInput(f"precision: expected one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        check_seed("seed", self.seed)
        try:
            _ = self.problem
        except ValueError as error:
            raise BadInput(str(error)) from error

    @property
    def problem(self) -> Problem:
        """What wholes are: the model's problem by its name, or its like made of ``data``, which is not read yet."""
        if self.data is None:
            return problem(self.model.problem)
        if self.model.problem != "households":
            raise ValueError(f"data: expected none for the problem {self.model.problem!r}")
        return self.data.problem(self.model.num_labels, hidden_context=self.model.hidden_context)

    @classmethod
    def from_preset(cls, preset: str, **settings: Any) -> TrainingConfig:
        """The preset's own model and recipe, and its steps where ``settings`` name none.

        >>> TrainingConfig.from_preset("sines-small", steps=100, seed=1).steps
        100
        """
        return cls(
            **{"model": preset_config(preset), "recipe": recipe(preset), "steps": recipe(preset).steps, **settings}
        )

    def settled(
        self, *, horizon: int, threads: int, sha256: tuple[tuple[str, str], ...] = ()
    ) -> TrainingConfig:
        """The same with what was left open filled in, and the recipe's schedules ending where they shall.

        Raises BadInput where the files of ``data`` are not there, or have not these digests.
        """
        horizon = self.horizon or horizon
        schedule = dataclasses.replace(self.recipe, steps=horizon)
        try:
            data = None if self.data is None else self.data.settled(sha256)
        except ValueError as error:
            raise BadInput(str(error)) from error
        return dataclasses.replace(self, recipe=schedule, horizon=horizon, threads=self.threads or threads, data=data)

    def identity(self) -> dict[str, Any]:
        """All that the numbers depend on: two runs of one identity agree bit for bit as far as both go."""
        return {
            "preset": self.model.preset,
            "model": self.model.to_dict(),
            "recipe": self.recipe.to_dict(),
            **({} if self.data is None else {"data": dataclasses.asdict(self.data)}),
            **{name: getattr(self, name) for name in DECISIVE},
        }
