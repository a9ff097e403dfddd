"""The thesis's networks for aggregated curves: a generator in two scales of 7 residual layers each, an inference
model of 7 residual layers and GraphNN layers that all see the whole (thesis 9.2.3, 9.3.3).

The thesis gives depths and kinds of layers, not widths; the widths are ours. The whole's scale is divided out by K,
which the sum of the parts' known coordinates counts, where the thesis trusts to activations that are linear far out.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from ..data import problem
from ..nn import (
    GaussianHead,
    GaussianTable,
    HierarchicalObservation,
    Pyramid,
    Residual,
    bounded_logvar,
    start_constant,
)
from .compact import OwnLabel, PosteriorZ, label_counts, per_part
from .config import CompVAEConfig
from .given import Given
from .graph_posterior import GraphPosterior
from .neighbourhood import Degrees
from .networks import Networks

DEPTH = 7
CHANNELS = 16
START_NOISE = 0.5


def trunk(inputs: int, hidden: int) -> nn.Sequential:
    """A linear layer and seven residual ones."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ELU(), *(m for _ in range(DEPTH) for m in (Residual(hidden), nn.ELU()))
    )


class Features(nn.Module):
    """pr(x), with c, K and the shares of the labels: [B, T] -> [B, H]."""

    def __init__(self, length: int, context: int, classes: int, hidden: int, degrees: Degrees) -> None:
        super().__init__()
        self.classes, self.degrees = classes, degrees
        self.curve = nn.Sequential(
            nn.Conv1d(1, CHANNELS, 8, stride=4, padding=2),
            nn.ELU(),
            nn.Conv1d(CHANNELS, CHANNELS, 5, padding=2),
            nn.ELU(),
        )
        self.layers = trunk(CHANNELS * length // 4 + context + classes + 1, hidden)

    def forward(self, x: Tensor, given: Given) -> Tensor:
        k = per_part(given.sets.counts)
        shares = label_counts(given.labels, given.sets, self.classes).to(x.dtype) / k
        curve = self.curve((x / k)[:, None]).flatten(1)
        return self.layers(torch.cat([curve, self.degrees(cast(Tensor, given.context)), shares, k.log()], dim=-1))


class PriorZ(nn.Module):
    """p(z | c, w~): shares of the labels, the parts' mean, c -> mu, logvar [B, Z]."""

    def __init__(self, inputs: int, classes: int, z_dim: int, hidden: int, sigma_min: float, degrees: Degrees) -> None:
        super().__init__()
        self.classes, self.degrees = classes, degrees
        self.layers = nn.Sequential(nn.Linear(inputs, hidden), nn.ELU(), GaussianHead(hidden, z_dim, sigma_min))

    def forward(self, w_sum: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        k = w_sum[:, : self.classes].sum(-1, keepdim=True).clamp(min=1)
        return self.layers(torch.cat([w_sum / k, self.degrees(context)], dim=-1))


class PosteriorW(GraphPosterior):
    """q({w_i} | x, c, z, {l_i}): GraphNN layers on the labels' embeddings, (pr(x), c, z) entering each of them."""

    def nodes(self, given: Given, seed: int | Tensor) -> Tensor:
        return self.embedding(given.labels)


class Scale(nn.Module):
    """Mean and log-variance [B, S] of one scale, by seven residual layers and transposed convolutions."""

    def __init__(self, inputs: int, size: int, hidden: int, sigma_min: float, start: float) -> None:
        super().__init__()
        self.sigma_min = sigma_min
        self.trunk = trunk(inputs, hidden)
        last = nn.Conv1d(CHANNELS, 2, 5, padding=2)
        start_constant(last, torch.tensor([start, 2 * math.log(START_NOISE)]))
        self.curve = nn.Sequential(
            nn.Linear(hidden, 2 * CHANNELS * size // 4),
            nn.ELU(),
            nn.Unflatten(1, (2 * CHANNELS, size // 4)),
            nn.ConvTranspose1d(2 * CHANNELS, CHANNELS, 4, stride=2, padding=1),
            nn.ELU(),
            nn.ConvTranspose1d(CHANNELS, CHANNELS, 4, stride=2, padding=1),
            nn.ELU(),
            last,
        )

    def forward(self, read: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = self.curve(self.trunk(read)).unbind(1)
        return mean, bounded_logvar(logvar, self.sigma_min)


class Observation(nn.Module):
    """p(x1 | z, w~, c) p(x2 | x1, z, w~, c): X1 the pairs' means, X2 a correction to the upscaled X1.

    Means are K times, variances too, what the networks say of one household.
    Args (forward): w~ [B, C + D] with the labels' counts first, z [B, Z], c. Returns a HierarchicalObservation.
    """

    def __init__(
        self, length: int, inputs: int, classes: int, hidden: int, floor: float, degrees: Degrees
    ) -> None:
        super().__init__()
        self.classes, self.degrees = classes, degrees
        self.pyramid = Pyramid((length,), 1)
        self.coarse = Scale(inputs, length // 2, hidden, floor, 0.5)
        self.fine = Scale(inputs + length // 2, length // 2, hidden, floor, 0.0)

    def forward(self, w_sum: Tensor, z: Tensor, context: Tensor) -> HierarchicalObservation:
        count = w_sum[:, : self.classes].sum(-1, keepdim=True)
        k = count.clamp(min=1)
        read = torch.cat([w_sum / k, z, self.degrees(context)], dim=-1)
        mean, logvar = self.coarse(read)

        def correction(x1: Tensor) -> tuple[Tensor, Tensor]:
            shift, loud = self.fine(torch.cat([read, x1 / k], dim=-1))
            return (count * shift)[..., None], (loud + k.log())[..., None]

        return HierarchicalObservation(
            self.pyramid, self.pyramid.up(count * mean), [logvar + k.log(), None], [correction]
        )


def build(config: CompVAEConfig) -> Networks:
    """The networks of a configuration of kind "curves", for curves that grow with K under external factors."""
    c, asked = config, problem(config.problem)
    if len(asked.shape) != 1 or asked.shape[0] % 8 or not asked.context or not asked.grows_with_parts:
        raise ValueError(f"network: 'curves' is for curves under external factors, got the problem {c.problem!r}")
    (length,) = asked.shape
    degrees = Degrees(c.hidden_context)
    known = OwnLabel(c.num_labels)
    of_parts = known.width + c.w_dim
    embedding = nn.Embedding(c.num_labels, c.hidden)
    return Networks(
        prior_w=GaussianTable(c.num_labels, c.w_dim, c.sigma_min),
        features=Features(length, asked.context, c.num_labels, c.hidden, degrees),
        posterior_z=PosteriorZ(c.hidden, c.z_dim, c.sigma_min),
        posterior_w=PosteriorW(
            embedding, node=c.hidden, shared=c.hidden + c.z_dim, state=c.hidden, w_dim=c.w_dim, sigma_min=c.sigma_min,
            layers=c.graph_layers, every_layer=True,
        ),
        prior_z=PriorZ(of_parts + asked.context, c.num_labels, c.z_dim, c.hidden, c.sigma_min, degrees),
        observation=Observation(
            length, of_parts + c.z_dim + asked.context, c.num_labels, c.hidden, c.observation_floor, degrees
        ),
        known=known,
    )
