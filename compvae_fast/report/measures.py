"""What a trained model's wholes are worth, beside true ones and beside what needs no learning."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from compvae_fast.data import metrics, sines
from compvae_fast.models import CompVAE, elbo, iw_bound
from compvae_fast.random import Stream, fold
from compvae_fast.training import BadInput

SIZES = (1, 2, 4, 8, 16, 30)
EDIT_SIZES = (2, 4, 8)


@torch.no_grad()
def measure(
    model: CompVAE,
    *,
    sizes: tuple[int, ...] = SIZES,
    n: int = 1000,
    multisets: int = 4,
    importance: int = 64,
    bound_sets: int = 256,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row per number of parts K: distances, amplitude, bits and bounds.

    Args:
        sizes: the K.
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
    least = {"n": (n, 2), "multisets": (multisets, 1), "importance": (importance, 1), "bound_sets": (bound_sets, 1)}
    for name, (given, smallest) in least.items():
        if given < smallest:
            raise BadInput(f"{name}: expected at least {smallest}, got {given}")
    if not sizes or min(sizes) < 1:
        raise BadInput(f"sizes: expected at least one size, each at least 1, got {sizes}")
    rows = []
    for k in sizes:
        at_k = fold(fold(seed, Stream.EVALUATION), k)
        labels, _ = sines.sample_labels(multisets, k, k_min=k, k_per_batch=1, seed=at_k)
        compared = [_compare(model, one, n, fold(at_k, i)) for i, one in enumerate(labels)]
        row: dict[str, Any] = {"k": k}
        row |= {name: sum(c[name] for c in compared) / multisets for name in compared[0]}
        rows.append(row | _bits(model, k, bound_sets, importance, at_k))
    return rows


def _compare(model: CompVAE, labels: Tensor, n: int, seed: int) -> dict[str, float]:
    true, again = (sines.wholes(labels.expand(n, -1), seed=fold(seed, i)) for i in range(2))
    generated = model.generate(labels, n=n, seed=seed)
    rivals = {
        "model": generated,
        "floor": again,
        "gaussian": metrics.gaussian_fit(again, n, seed=seed),
        "saturated": metrics.separately_saturated(labels, n, seed=seed),
        "moments": metrics.two_moment_parts(labels, n, seed=seed),
    }
    distances = {name: float(metrics.energy_distance(x, true)) for name, x in rivals.items()}
    return distances | {"amplitude": float(metrics.amplitude_ratio(generated, true))}


def _bits(model: CompVAE, k: int, sets: int, importance: int, seed: int) -> dict[str, float]:
    batch = sines.draw(sets, k, k_min=k, k_per_batch=1, seed=seed)
    losses = model.loss(batch.x, batch.labels, seed=seed)
    bits = {f"{name}_bits": float(getattr(losses, name).mean()) / math.log(2) for name in ("w", "z", "x")}
    bounds = {
        "elbo": elbo(model, batch.x, batch.labels, samples=importance, seed=seed),
        "iw_bound": iw_bound(model, batch.x, batch.labels, k=importance, seed=seed),
    }
    return bits | {name: float(bound.mean()) for name, bound in bounds.items()}


@torch.no_grad()
def measure_edits(
    model: CompVAE, *, sizes: tuple[int, ...] = EDIT_SIZES, n: int = 256, seed: int = 0
) -> list[dict[str, Any]]:
    """One row per K: errors of encode and decode alone, after taking a part away, and after putting one in.

    Each whole has K parts of different labels and is judged by the truth of the same amplitudes and phases.
    The part put in is encoded from a whole of one part. Errors are root mean squares over the standard
    deviation of the truth.

    Returns rows {"k", "decoded", "removed", "added"}.
    """
    rows = []
    for k in sizes:
        case = EditCase.draw(model, n, k, fold(fold(seed, Stream.EVALUATION), k))
        errors = {name: _error(mean, true) for name, (mean, true) in case.pairs().items()}
        rows.append({"k": k, **errors})
    return rows


def _error(x: Tensor, true: Tensor) -> float:
    return float((x - true).square().mean().sqrt() / true.std())


class EditCase:
    """Observed wholes of K parts, and one part more, each with its own amplitudes and phases."""

    def __init__(self, model: CompVAE, labels: Tensor, seed: int) -> None:
        self.model, self.labels = model, labels
        curves = sines.curves(labels, *sines.amplitudes_and_phases(labels, seed=seed))
        self.whole = sines.combine(curves[:, :-1])
        self.without_last = sines.combine(curves[:, :-2])
        self.single = sines.combine(curves[:, -1:])
        self.with_single = sines.combine(curves)
        parts = model.encode(self.whole, labels[:, :-1], seed=seed)
        single = model.encode(self.single, labels[:, -1:], seed=fold(seed, 1))
        self.decoded = model.decode(parts)
        self.removed = model.decode(parts.remove(-1))
        self.added = model.decode(parts.add(single))

    @classmethod
    def draw(cls, model: CompVAE, n: int, k: int, seed: int) -> EditCase:
        """n wholes of k parts, and one part more, all k + 1 of different labels."""
        first, last = sines.LABELS
        if k + 1 > last - first + 1:
            raise BadInput(f"sizes: expected at most {last - first} parts of different labels and one more, got {k}")
        generator = torch.Generator().manual_seed(seed)
        order = torch.rand(n, last - first + 1, generator=generator).argsort(dim=1)
        return cls(model, order[:, : k + 1] + first, seed)

    def pairs(self) -> dict[str, tuple[Tensor, Tensor]]:
        """What the model makes of each case, and the truth."""
        return {
            "decoded": (self.decoded.mean, self.whole),
            "removed": (self.removed.mean, self.without_last),
            "added": (self.added.mean, self.with_single),
        }
