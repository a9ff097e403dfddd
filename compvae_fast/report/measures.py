"""What a trained model's wholes are worth, beside true ones and beside what needs no learning."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from compvae_fast.data import Description, Problem, metrics
from compvae_fast.models import CompVAE, Parts, elbo, iw_bound
from compvae_fast.random import Stream, fold
from compvae_fast.training.errors import BadInput, check_seed

SIZES = {"sines": (1, 2, 4, 8, 16, 30), "dots": (1, 2, 4, 5, 8, 12), "households": (50, 100, 150, 300)}
# true wholes of K of a record's households differ too little where K is most of them
_SHARES = (0.125, 0.25, 0.5)
# a neighbourhood less a household is no matter of an edit that could be told from noise
EDIT_SIZES = {"sines": (2, 4, 8), "dots": (2, 4, 8), "households": ()}


def sizes_of(problem: Problem) -> tuple[int, ...]:
    """The K that a problem is measured at: those of ``SIZES`` up to half of the parts there are, or shares of these."""
    sizes, most = SIZES[problem.name], problem.most_measured
    if most is None:
        return sizes
    fitting = tuple(k for k in sizes if k <= most / 2)
    return fitting if len(fitting) > 1 else tuple(sorted({max(1, int(share * most)) for share in _SHARES}))


def check_measured(*, seed: int, **numbers: int) -> None:
    """BadInput for numbers with which nothing can be measured, by the names of ``measure``'s arguments."""
    for name, given in numbers.items():
        smallest = 2 if name == "n" else 1
        if given < smallest:
            raise BadInput(f"{name}: expected at least {smallest}, got {given}")
    check_seed("seed", seed)


@torch.no_grad()
def measure(
    model: CompVAE,
    *,
    sizes: tuple[int, ...] | None = None,
    n: int = 1000,
    multisets: int = 4,
    importance: int = 64,
    bound_sets: int = 256,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row per number of parts K: distances, amplitude, bits and bounds.

    Args:
        sizes: the K; None: ``sizes_of`` the problem.
        n: generated wholes, and true ones, per multiset of labels.
        multisets: random multisets per K, over which distances and amplitude are averaged.
        importance: posterior samples of the importance-weighted bound.
        bound_sets: true wholes, each of its own labels, for bits and bounds.
        seed: of all draws.

    Returns rows {"k", "model", "floor", "gaussian", "saturated", "moments", "amplitude", "w_bits",
    "z_bits", "x_bits", "elbo", "iw_bound"}: energy distances to true wholes of the model, of other true
    wholes, of a Gaussian fitted to them, of separately saturated parts, and of parts with two exact
    moments behind the exact tanh; the ratio of standard deviations; mean losses in bits; bounds in nats.
    Raises BadInput for numbers that are too small.
    """
    sizes = sizes_of(model.problem) if sizes is None else sizes
    check_measured(n=n, multisets=multisets, importance=importance, bound_sets=bound_sets, seed=seed)
    if not sizes or min(sizes) < 1:
        raise BadInput(f"sizes: expected at least one size, each at least 1, got {sizes}")
    most = model.problem.most_measured
    if most is not None and max(sizes) > most:
        raise BadInput(f"sizes: expected at most {most}, the parts that there are to measure by, got {max(sizes)}")
    rows = []
    for k in sizes:
        at_k = fold(fold(seed, Stream.EVALUATION), k)
        asked = model.problem.describe(multisets, k, k_min=k, k_per_batch=1, seed=at_k)
        compared = [_compare(model, asked, i, n, fold(at_k, i)) for i in range(multisets)]
        row: dict[str, Any] = {"k": k}
        row |= {name: _mean([c[name] for c in compared]) for name in compared[0]}
        rows.append(row | _bits(model, k, bound_sets, importance, at_k))
    return rows


def _mean(values: list[float]) -> float:
    """The mean of what is finite: wholes that do not vary at all (one dot) have no distance in their own spread."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _compare(model: CompVAE, asked: Description, row: int, n: int, seed: int) -> dict[str, float]:
    """Distances of the multiset in one row of what was asked for."""
    labels = asked.labels[row]
    rows = {"features": asked.features, "context": asked.context}
    given: dict[str, Any] = {name: None if values is None else values[row] for name, values in rows.items()}
    each: dict[str, Any] = {
        name: None if values is None else values.expand(n, *values.shape) for name, values in given.items()
    }
    true, again = (model.problem.wholes(labels.expand(n, -1), **each, seed=fold(seed, i)) for i in range(2))
    generated = model.generate(labels, **given, n=n, seed=seed)
    rivals = {
        "model": generated,
        "floor": again,
        "gaussian": metrics.gaussian_fit(again, n, seed=seed),
        **model.problem.rivals(labels, n, **given, seed=seed),
    }
    # The same whole each time (dots of one colour), but for rounding, has no spread to measure a distance in.
    varies = bool(true.std(dim=0).max() > 1e-6 * true.abs().max())
    found = metrics.energy_distances(rivals, true) if varies else {}
    distances = {name: float(found.get(name, math.nan)) for name in rivals}
    return distances | {"amplitude": float(metrics.amplitude_ratio(generated, true))}


def _bits(model: CompVAE, k: int, sets: int, importance: int, seed: int) -> dict[str, float]:
    batch = model.problem.draw(sets, k, k_min=k, k_per_batch=1, seed=seed)
    given: dict[str, Any] = {"features": batch.features, "context": batch.context}
    losses = model.loss(batch.x, batch.labels, **given, seed=seed)
    bits = {f"{name}_bits": float(getattr(losses, name).mean()) / math.log(2) for name in ("w", "z", "x")}
    bounds = {
        "elbo": elbo(model, batch.x, batch.labels, **given, samples=importance, seed=seed),
        "iw_bound": iw_bound(model, batch.x, batch.labels, **given, k=importance, seed=seed),
    }
    return bits | {name: float(bound.mean()) for name, bound in bounds.items()}


@torch.no_grad()
def measure_edits(
    model: CompVAE, *, sizes: tuple[int, ...] | None = None, n: int = 256, seed: int = 0
) -> list[dict[str, Any]]:
    """One row per K: errors of encode and decode alone, after taking a part away, and after putting one in.

    Each whole has K parts, of different labels where labels alone tell parts apart, and is judged by the truth of parts
    with the same own variation.
    The part put in is encoded from a whole of one part. Errors are root mean squares over the standard
    deviation of the truth.

    Returns rows {"k", "decoded", "removed", "added"}.
    """
    rows = []
    for k in EDIT_SIZES[model.problem.name] if sizes is None else sizes:
        case = EditCase.draw(model, n, k, fold(fold(seed, Stream.EVALUATION), k))
        errors = {name: _error(mean, true) for name, (mean, true) in case.pairs().items()}
        rows.append({"k": k, **errors})
    return rows


def separation(model: CompVAE, rows: list[dict[str, Any]], *, n: int = 64, seed: int = 0) -> list[dict[str, Any]]:
    """How far wholes are from the aggregates of their parts, each a whole of its own; one row per K of ``rows``.

    Args:
        rows: of ``measure``, whose distances are taken over.
        n: wholes of one random multiset.

    Returns rows {"k", "apart", "saturated" or "independent", "model"}: the root mean square difference of wholes and
    aggregates of the very same parts, over the standard deviation of the wholes' values; and energy distances to true
    wholes. Source: paper section 4.1, figure 2.
    """
    found = []
    for row in rows:
        asked = model.problem.describe(1, row["k"], k_min=row["k"], k_per_batch=1, seed=fold(seed, row["k"]))
        whole, aggregate = whole_and_aggregate(model.problem, asked, n, seed)
        kept = {name: row[name] for name in ("k", "saturated", "independent", "model") if name in row}
        found.append(kept | {"apart": _error(aggregate, whole)})
    return found


def whole_and_aggregate(problem: Problem, asked: Description, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n true wholes of the first multiset asked for, and the aggregates of their parts made one by one."""
    first = {"features": asked.features, "context": asked.context}
    given: dict[str, Any] = {name: None if values is None else values[0] for name, values in first.items()}
    each: dict[str, Any] = {
        name: None if values is None else values.expand(n, *values.shape) for name, values in given.items()
    }
    labels = asked.labels[0]
    whole = problem.wholes(labels.expand(n, -1), **each, seed=seed)
    return whole, problem.separately(labels, n, **given, seed=seed)


def _error(x: Tensor, true: Tensor) -> float:
    return float((x - true).square().mean().sqrt() / true.std())


class EditCase:
    """Observed wholes of K parts, and one part more, each with its own variation."""

    def __init__(
        self,
        model: CompVAE,
        labels: Tensor,
        seed: int,
        *,
        features: Tensor | None = None,
        context: Tensor | None = None,
    ) -> None:
        self.model, self.labels, self.features, self.context = model, labels, features, context
        self.seed, k = seed, labels.shape[1] - 1
        self.whole = self._true(0, k)
        self.without_last = self._true(0, k - 1)
        self.single = self._true(k, k + 1)
        self.with_single = self._true(0, k + 1)
        parts = self._encoded(self.whole, 0, k, seed)
        single = self._encoded(self.single, k, k + 1, fold(seed, 1))
        self.decoded = model.decode(parts)
        self.removed = model.decode(parts.remove(-1))
        self.added = model.decode(parts.add(single))

    @classmethod
    def draw(cls, model: CompVAE, n: int, k: int, seed: int) -> EditCase:
        """n wholes of k parts, and one part more; all k + 1 of different labels where parts have no features."""
        problem = model.problem
        asked = problem.describe(n, k + 1, k_min=k + 1, k_per_batch=1, seed=seed)
        labels = asked.labels
        if not problem.features:
            first, last = problem.labels
            if k + 1 > last - first + 1:
                raise BadInput(
                    f"sizes: expected at most {last - first} parts of different labels and one more, got {k}"
                )
            generator = torch.Generator().manual_seed(seed)
            labels = torch.rand(n, last - first + 1, generator=generator).argsort(dim=1)[:, : k + 1] + first
        return cls(model, labels, seed, features=asked.features, context=asked.context)

    def _given(self, first: int, last: int) -> tuple[Tensor, dict[str, Any]]:
        """Labels, features and context of parts first .. last - 1."""
        features = None if self.features is None else self.features[:, first:last]
        return self.labels[:, first:last], {"features": features, "context": self.context}

    def _true(self, first: int, last: int) -> Tensor:
        labels, given = self._given(first, last)
        return self.model.problem.wholes(labels, **given, seed=self.seed, part_start=first)

    def _encoded(self, x: Tensor, first: int, last: int, seed: int) -> Parts:
        labels, given = self._given(first, last)
        return self.model.encode(x, labels, **given, seed=seed)

    def pairs(self) -> dict[str, tuple[Tensor, Tensor]]:
        """What the model makes of each case, and the truth."""
        return {
            "decoded": (self.decoded.mean, self.whole),
            "removed": (self.removed.mean, self.without_last),
            "added": (self.added.mean, self.with_single),
        }
