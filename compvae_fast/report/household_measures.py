"""What a model of neighbourhoods is worth, by the thesis's measures (section 9.3.3) and by energy distances."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from compvae_fast.data import metrics
from compvae_fast.data.households.metrics import distance, flexibility, peak, sustained_peak
from compvae_fast.data.households.problem import Neighbourhoods
from compvae_fast.models import CompVAE
from compvae_fast.nn import HierarchicalObservation
from compvae_fast.random import Stream, fold
from compvae_fast.training import BadInput

from .measures import sizes_of

GRID = {"peak": peak, "sustained": sustained_peak, "flexibility": flexibility}


def town_of(model: CompVAE) -> Neighbourhoods:
    """What true weeks a model of neighbourhoods is measured by. Raises BadInput for another model."""
    if not isinstance(model.problem, Neighbourhoods):
        raise BadInput(f"model: expected one of the problem 'households', got {model.problem.name!r}")
    return model.problem


@torch.no_grad()
def household_distances(
    model: CompVAE, *, sizes: tuple[int, ...] | None = None, n: int = 1000, multisets: int = 2, seed: int = 0
) -> list[dict[str, Any]]:
    """One row per number of households: energy distances to true weeks of the same contracts.

    The week is part of what varies: every whole has its own, drawn from those after the training's, and generated
    wholes are told its temperature alone. All that is compared has the same weeks, whose chance is then in none of the
    distances, and distances are over pairs of different weeks (``data.metrics.energy_distances``).

    Args:
        sizes: the K; None: ``sizes_of`` the problem. n: generated wholes, and true ones, per multiset of labels.
        multisets: random ones per K, the smaller the beginnings of the larger.

    Returns rows {"k", "model", "floor", "gaussian", "independent", "amplitude", "level", "spread"}: distances to true
    wholes of the model, of other true wholes, of a Gaussian fitted to those, and of households without common causes
    (far away, so that a quarter as many do); the ratios, generated to true, of the deviation of all values, of the
    mean, and of the deviation between wholes.
    """
    town = town_of(model)
    sizes = tuple(sorted(sizes_of(town) if sizes is None else sizes))
    sums: dict[int, dict[str, float]] = {k: {} for k in sizes}
    for i in range(multisets):
        own = fold(fold(seed, Stream.EVALUATION), i)
        labels = town.sample_labels(1, sizes[-1], k_min=sizes[-1], k_per_batch=1, seed=own)[0][0]
        context = town.sample_context(n, seed=own)
        assert context is not None
        true, again = (town.nested(labels, sizes, context=context, seed=fold(own, j)) for j in range(2))
        for k in sizes:
            made = model.generate(labels[:k].expand(n, -1), context=context, seed=fold(own, k))
            compared = {"model": made, "floor": again[k], "gaussian": metrics.gaussian_fit(again[k], n, seed=own)}
            found = {name: float(v) for name, v in metrics.energy_distances(compared, true[k], paired=True).items()}
            alone = town.independent(labels[:k], max(2, n // 4), seed=fold(own, k))
            found["independent"] = float(metrics.energy_distance(alone, true[k]))
            found["amplitude"] = float(metrics.amplitude_ratio(made, true[k]))
            found["level"] = float(made.mean() / true[k].mean())
            found["spread"] = float(made.std(0).mean() / true[k].std(0).mean())
            sums[k] = {name: sums[k].get(name, 0.0) + value for name, value in found.items()}
    return [{"k": k, **{name: value / multisets for name, value in sums[k].items()}} for k in sizes]


class Cases:
    """True wholes with their description, K uniform, of weeks after the training's; everything per household in kW."""

    def __init__(self, model: CompVAE, n: int, k_min: int, k_max: int, seed: int) -> None:
        self.model, self.town = model, town_of(model)
        self.seed = fold(seed, Stream.EVALUATION)
        asked = self.town.describe(n, k_max, k_min=k_min, seed=self.seed)
        assert asked.offsets is not None and asked.context is not None
        self.labels, self.offsets, self.context = asked.labels, asked.offsets, asked.context
        self.counts = self.offsets.diff()
        self.x = self._true(self.seed)

    def _true(self, seed: int) -> Tensor:
        return self.town.wholes(self.labels, offsets=self.offsets, context=self.context, seed=seed)

    def reconstructed(self) -> HierarchicalObservation:
        """p(x | z, w~) of an encoding of the wholes."""
        where = {"offsets": self.offsets, "context": self.context}
        seen = self.model.decode(self.model.encode(self.x, self.labels, **where, seed=self.seed))
        if not isinstance(seen, HierarchicalObservation) or not seen.pyramid.depth:
            raise BadInput("model: expected a hierarchical observation, of at least one level")
        return seen

    def generated(self) -> Tensor:
        """Wholes of the same contracts and temperatures."""
        return self.model.generate(
            self.labels, offsets=self.offsets, context=self.context, seed=fold(self.seed, 1)
        )


@torch.no_grad()
def household_measures(
    model: CompVAE, *, n: int = 500, k_min: int = 50, k_max: int = 150, seed: int = 0
) -> dict[str, dict[str, float]]:
    """The thesis's figures: errors summed over the week per household, kW, and bits.

    Returns {name: {"mean", "deviation"}}, over n wholes of weeks after the training's:

        x1           |X1 - its mean given the latents|, X1 the curve of hourly means (168 values)
        x2           |x - its mean given the latents and the true X1|
        both         |x - its mean given the latents and an X1 drawn from them|
        generated    |x - a generated whole of the same contracts and temperature|
        truth        |x - another true whole of the same contracts and temperature|
        independent  |x/K - y/K| of true wholes of other contracts, households and weeks
        w_bits, z_bits, x_bits   the losses

    Source: thesis 9.3.3 and table 9.1.
    """
    return measures_of(Cases(model, n, k_min, k_max, seed))


@torch.no_grad()
def measures_of(cases: Cases) -> dict[str, dict[str, float]]:
    """``household_measures`` of cases that are there."""
    x, counts = cases.x, cases.counts
    seen = cases.reconstructed()
    pyramid = seen.pyramid
    x1, drawn1 = pyramid.down(x), pyramid.down(seen.draw(fold(cases.seed, 2)))
    per_household = x / counts[:, None]
    found = {
        "x1": distance(x1, pyramid.down(seen.mean), counts),
        "x2": distance(x, seen.given(x1), counts),
        "both": distance(x, seen.given(drawn1), counts),
        "generated": distance(x, cases.generated(), counts),
        "truth": distance(x, cases._true(fold(cases.seed, 3)), counts),
        "independent": distance(per_household, per_household.roll(1, 0), torch.ones_like(counts)),
    }
    losses = cases.model.loss(
        x, cases.labels, offsets=cases.offsets, context=cases.context, seed=cases.seed
    )
    found |= {f"{name}_bits": getattr(losses, name) / math.log(2) for name in ("w", "z", "x")}
    return {name: {"mean": float(v.mean()), "deviation": float(v.std())} for name, v in found.items()}


@torch.no_grad()
def grid_measures(
    model: CompVAE, *, n: int = 2000, k_min: int = 50, k_max: int = 150, seed: int = 0
) -> dict[str, tuple[Tensor, Tensor]]:
    """Peak, peak sustained for 8 hours, and flexibility, each per household: (true [n], generated [n]), kW.

    Source: thesis 9.3.3 and figure 9.14.
    """
    return grid_of(Cases(model, n, k_min, k_max, seed))


@torch.no_grad()
def grid_of(cases: Cases) -> dict[str, tuple[Tensor, Tensor]]:
    """``grid_measures`` of cases that are there."""
    made = cases.generated()
    return {name: (of(cases.x) / cases.counts, of(made) / cases.counts) for name, of in GRID.items()}
