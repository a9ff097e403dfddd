"""The named models, and how each of them is trained."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from .config import CompVAEConfig


@dataclass(frozen=True)
class TrainingRecipe:
    """How a preset is trained; read by the trainer, never by the model.

    Args:
        batch: sets per step.
        steps: steps of a full run; a schedule that ends ("cosine") ends here.
        optimizer: "adam" or "adamax".
        lr, betas, eps: of the optimiser.
        lr_schedule: "halving" (lr / 2 every ``lr_halve_every`` steps, never below ``lr_min``),
            "cosine" (from ``lr`` down to ``lr_min`` over ``steps``) or "constant".
        warmup: first steps over which the rate rises linearly from 0.
        rates: pairs (prefix of a parameter's name, factor on ``lr``); the first match holds.
        momenta: pairs (prefix of a parameter's name, betas in place of ``betas``); the first match holds. With
            ``rates`` this gives p and q optimisers of their own (thesis 4.2.4): p's names begin with "prior_" and
            "observation".
        k_start, k_max, k_every: the largest K is ``k_start`` at first and grows by 1 every
            ``k_every`` steps to ``k_max``.
        k_min: the smallest K.
        k_exponent: P(K) is proportional to K ** k_exponent on k_min..k; 0 is uniform.
        k_per_batch: None lets every set draw its own K; an int G cuts the batch into G groups of
            equal K (the paper: 1, the released code: 4).
        labels: smallest and largest label drawn.
        phase_deviation: standard deviation of the parts' phases, radians.
        clip: bound on the joint norm of the gradients, or None.
        skip_above: a step whose mean objective (nats) exceeds this is skipped and counted, or None.
        averaging: decay of the averaged weights per step, or None.

    Source: paper section 4.3; the authors' released code for ``sines-released``.
    """

    batch: int = 256
    steps: int = 500_000
    optimizer: str = "adam"
    lr: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.9)
    eps: float = 1e-8
    lr_schedule: str = "halving"
    lr_halve_every: int = 20_000
    lr_min: float = 1e-6
    warmup: int = 0
    rates: tuple[tuple[str, float], ...] = ()
    momenta: tuple[tuple[str, tuple[float, float]], ...] = ()
    k_start: int = 2
    k_max: int = 16
    k_every: int = 3_000
    k_min: int = 1
    k_exponent: float = 0.0
    k_per_batch: int | None = 1
    labels: tuple[int, int] = (1, 10)
    phase_deviation: float = math.pi / 2
    clip: float | None = None
    skip_above: float | None = None
    averaging: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain, JSON-serialisable values."""
        return dataclasses.asdict(self)

    def largest_k(self, step: int) -> int:
        """The largest number of parts drawn at ``step`` (counted from 0)."""
        return min(self.k_max, self.k_start + step // self.k_every)

    def learning_rate(self, step: int) -> float:
        """The learning rate of ``step`` (counted from 0), before ``rates``."""
        rate = self.lr
        if self.lr_schedule == "halving":
            rate = max(self.lr * 0.5 ** (step // self.lr_halve_every), self.lr_min)
        elif self.lr_schedule == "cosine":
            share = min(step / max(self.steps, 1), 1.0)
            rate = self.lr_min + (self.lr - self.lr_min) * 0.5 * (1 + math.cos(math.pi * share))
        elif self.lr_schedule != "constant":
            raise ValueError(
                f"lr_schedule: expected 'halving', 'cosine' or 'constant', got {self.lr_schedule!r}"
            )
        return rate * min((step + 1) / (self.warmup + 1), 1.0)

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Optimiser groups {"params", "factor", "betas"}: a group's rate is ``learning_rate * factor``."""
        groups: dict[tuple[float, tuple[float, float]], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            factor = _first_match(name, self.rates, 1.0)
            betas = tuple(_first_match(name, self.momenta, self.betas))
            groups.setdefault((factor, betas), []).append(parameter)
        return [
            {"params": params, "factor": factor, "betas": betas}
            for (factor, betas), params in groups.items()
        ]


def _first_match(name: str, pairs: Sequence[tuple[str, Any]], default: Any) -> Any:
    return next((value for prefix, value in pairs if name.startswith(prefix)), default)


_RELEASED = TrainingRecipe(
    optimizer="adamax", k_per_batch=4, k_every=2_500, labels=(1, 9), phase_deviation=0.8
)

_PRESETS: dict[str, tuple[CompVAEConfig, TrainingRecipe]] = {
    "sines": (CompVAEConfig(preset="sines"), TrainingRecipe()),
    "sines-released": (CompVAEConfig(preset="sines-released", released=True), _RELEASED),
    "sines-small": (
        CompVAEConfig(
            preset="sines-small",
            network="compact",
            coupling="scaled",
            w_dim=20,
            z_dim=2,
            hidden=256,
            radial_flow=True,
            generation_weight=32.0,
            generation_from=0.3,
        ),
        TrainingRecipe(
            batch=256,
            steps=8_000,
            lr=1e-3,
            betas=(0.9, 0.99),
            lr_schedule="cosine",
            warmup=100,
            rates=(("prior_w", 10.0), ("observation.logvar", 10.0), ("observation.flow", 10.0)),
            k_start=16,
            k_exponent=-0.5,
            k_per_batch=None,
            clip=1.0,
            averaging=0.999,
        ),
    ),
    "dots": (
        CompVAEConfig(
            preset="dots",
            problem="dots",
            network="tables2d",
            w_dim=2048,
            z_dim=1024,
            first_label=0,
            num_labels=5,
            sigma_min=0.005,
        ),
        TrainingRecipe(k_max=8, labels=(0, 4)),
    ),
    "dots-small": (
        CompVAEConfig(
            preset="dots-small",
            problem="dots",
            network="slots",
            coupling="scaled",
            w_dim=320,
            z_dim=2,
            hidden=64,
            first_label=0,
            num_labels=5,
            sigma_min=0.005,
            observation_floor=0.002,
        ),
        TrainingRecipe(
            batch=32,
            steps=3_000,
            lr=1e-2,
            lr_min=1e-4,
            rates=(("observation.palette", 5.0), ("observation.log_scale", 3.0)),
            betas=(0.9, 0.99),
            lr_schedule="cosine",
            warmup=50,
            k_start=8,
            k_max=8,
            k_per_batch=None,
            labels=(0, 4),
            clip=1.0,
            averaging=0.99,
        ),
    ),
    "households": (
        CompVAEConfig(
            preset="households",
            problem="households",
            network="curves",
            coupling="scaled",
            w_dim=256,
            z_dim=64,
            hidden=512,
            num_labels=13,
            observation_floor=0.02,
            graph_layers=5,
        ),
        TrainingRecipe(
            batch=128, steps=200_000, k_min=50, k_start=150, k_max=150, k_per_batch=None, labels=(1, 13), clip=300.0
        ),
    ),
    "households-small": (
        CompVAEConfig(
            preset="households-small",
            problem="households",
            network="neighbourhood",
            coupling="scaled",
            w_dim=16,
            z_dim=8,
            hidden=256,
            num_labels=13,
            observation_floor=0.02,
            levels=3,
            w_weight=10.0,
            w_until=0.15,
            z_weight=0.0,
            z_until=0.35,
        ),
        TrainingRecipe(
            batch=32,
            steps=3_000,
            lr=2e-3,
            betas=(0.9, 0.99),
            lr_schedule="cosine",
            warmup=100,
            k_min=50,
            k_start=150,
            k_max=150,
            k_per_batch=None,
            labels=(1, 13),
            clip=300.0,
            averaging=0.999,
        ),
    ),
}

# The network and recipe of "sines-small" at a size for GPUs: what to set beside the paper's "sines".
_model, _recipe = _PRESETS["sines-small"]
_PRESETS["sines-compact"] = (
    dataclasses.replace(_model, preset="sines-compact", w_dim=40, hidden=1024),
    dataclasses.replace(_recipe, steps=100_000),
)


def presets() -> tuple[str, ...]:
    """Names of the presets, for ``CompVAE.from_preset`` and the command line.

    >>> "sines" in presets()
    True
    """
    return tuple(_PRESETS)


def _entry(name: str) -> tuple[CompVAEConfig, TrainingRecipe]:
    try:
        return _PRESETS[name]
    except (KeyError, TypeError):
        raise ValueError(f"preset: expected one of {', '.join(_PRESETS)}; got {name!r}") from None


def preset_config(name: str) -> CompVAEConfig:
    """The model configuration of a preset; ValueError lists the known ones."""
    return _entry(name)[0]


def recipe(name: str) -> TrainingRecipe:
    """The training recipe of a preset; ValueError lists the known ones."""
    return _entry(name)[1]
