"""What a model makes of a multiset: its wholes in a few curves and numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from compvae_fast.models import CompVAE

from .multiset import Multiset

DRAWS = 512
SHOWN = 8
LEVELS = (0.05, 0.25, 0.75, 0.95)


@dataclass(frozen=True)
class Distribution:
    """The distribution of a whole, from draws of it.

    Args:
        mean: [T].
        quantiles: [4, T], the levels ``LEVELS`` at each place by itself.
        samples: [``SHOWN``, T], the first draws.
        peaks: [draws], the largest |x| of each draw.
        deviation: the standard deviation of all values about their mean at that place.
    """

    mean: np.ndarray
    quantiles: np.ndarray
    samples: np.ndarray
    peaks: np.ndarray
    deviation: float

    @classmethod
    def of(cls, x: Tensor) -> Distribution:
        """Of draws x [n, T], n >= 2."""
        x = x.double()
        levels = torch.tensor(LEVELS, dtype=x.dtype)
        return cls(
            x.mean(0).numpy(),
            x.quantile(levels, dim=0).numpy(),
            x[:SHOWN].numpy(),
            x.abs().amax(1).numpy(),
            float(x.var(0).mean().sqrt()),
        )

    def peak_histogram(self, bins: int = 30) -> tuple[np.ndarray, np.ndarray]:
        """How many draws have their peak in each of ``bins`` equal bins, and the bins' edges."""
        return np.histogram(self.peaks, bins=bins)


def nothing(model: CompVAE) -> Multiset:
    """Of each label that the model has, no part."""
    config = model.config
    return Multiset.empty(range(config.first_label, config.first_label + config.num_labels))


def context_of(model: CompVAE, degrees: float) -> Tensor | None:
    """The external factors of a week of one temperature, \u00b0C; None where wholes have none."""
    return torch.full((model.problem.context,), float(degrees)) if model.problem.context else None


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
    """The distribution of the whole of a multiset's parts, at a cost that does not depend on how many they are.

    Args:
        model: whose labels the multiset has.
        draws: wholes drawn.
        seed: of the draws: the same one makes wholes that change little when the multiset does.
        noise: whether observation noise is added to the mean of p(x | z, w~).
        context: external factors [C], where wholes have them.
    """
    x = model.generate(counts=list(multiset.counts), n=draws, seed=seed, noise=noise, context=context)
    return Distribution.of(x.flatten(1).cpu())
