"""What a model makes of a multiset: its wholes in a few curves, images and numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from compvae_fast.data import Description, Problem
from compvae_fast.models import CompVAE

from .multiset import Multiset, Part

DRAWS = 512
SHOWN = 8
LEVELS = (0.05, 0.25, 0.75, 0.95)


@dataclass(frozen=True)
class Distribution:
    """The distribution of a whole of T values, from draws of it.

    Args:
        mean: [T].
        spread: [T], the standard deviation of each value.
        quantiles: [4, T], the levels ``LEVELS`` of each value by itself.
        samples: [``SHOWN``, T], the first draws.
        peaks: [draws], the largest |x| of each draw.
        intensities: [draws], the mean of all values of each draw.
        deviation: the standard deviation of all values about their mean at that place.
    """

    mean: np.ndarray
    spread: np.ndarray
    quantiles: np.ndarray
    samples: np.ndarray
    peaks: np.ndarray
    intensities: np.ndarray
    deviation: float

    @classmethod
    def of(cls, x: Tensor) -> Distribution:
        """Of draws x [n, ...], n >= 2."""
        x = x.flatten(1).double().cpu()
        variance = x.var(0)
        levels = torch.tensor(LEVELS, dtype=x.dtype)
        return cls(
            x.mean(0).numpy(),
            variance.sqrt().numpy(),
            x.quantile(levels, dim=0).numpy(),
            x[:SHOWN].numpy(),
            x.abs().amax(1).numpy(),
            x.mean(1).numpy(),
            float(variance.mean().sqrt()),
        )


def nothing(model: CompVAE) -> Multiset:
    """Of each label that the model has, no part; no part at all where parts have features."""
    config = model.config
    labels = range(config.first_label, config.first_label + config.num_labels)
    return Multiset.empty(() if model.problem.features else labels)


def multiset_of(model: CompVAE, asked: Description) -> Multiset:
    """The parts of the first multiset described whose labels the model has."""
    found = nothing(model)
    known = range(model.config.first_label, model.config.first_label + model.config.num_labels)
    features = [()] * asked.labels.shape[1] if asked.features is None else asked.features[0].tolist()
    for label, own in zip(asked.labels[0].tolist(), features):
        if label in known:
            found = found.add(Part(label, tuple(round(value, 2) for value in own)))
    return found


def context_of(model: CompVAE, degrees: float) -> Tensor | None:
    """The external factors of a week of one temperature, \u00b0C; None where wholes have none."""
    return torch.full((model.problem.context,), float(degrees)) if model.problem.context else None


def _described(problem: Problem, multiset: Multiset) -> tuple[Tensor, Tensor, Tensor | None]:
    """Labels [R], counts [R] and features [R, F] of the different parts."""
    labels, counts = (torch.tensor(values, dtype=torch.int64) for values in (multiset.labels, multiset.counts))
    if not problem.features:
        return labels, counts, None
    rows = torch.tensor([part.features for part in multiset.parts], dtype=torch.float32)
    return labels, counts, rows.view(-1, problem.features)


@torch.no_grad()
def distribution(
    model: CompVAE,
    multiset: Multiset,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    noise: bool = False,
    context: Tensor | None = None,
) -> Distribution:
    """The distribution of the whole of a multiset's parts, at a cost that does not depend on how often each is there.

    Args:
        model: whose labels the multiset has.
        draws: wholes drawn.
        seed: of the draws: the same one makes wholes that change little when the multiset does.
        noise: whether observation noise is added to the mean of p(x | z, w~).
        context: external factors [C], where wholes have them.
    """
    labels, counts, features = _described(model.problem, multiset)
    x = model.generate(labels, counts=counts, features=features, n=draws, seed=seed, noise=noise, context=context)
    return Distribution.of(x)


def true_distribution(
    problem: Problem, multiset: Multiset, *, draws: int = DRAWS, seed: int = 0, context: Tensor | None = None
) -> Distribution:
    """The distribution of true wholes, at a cost proportional to K; arguments as above."""
    labels, counts, features = _described(problem, multiset)
    every = labels.repeat_interleave(counts).expand(draws, -1)
    if features is not None:
        features = features.repeat_interleave(counts, dim=0).expand(draws, -1, -1)
    context = None if context is None else context.expand(draws, -1)
    return Distribution.of(problem.wholes(every, features=features, context=context, seed=seed))
