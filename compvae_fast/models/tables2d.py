"""The paper's networks for the 2D problem, layer by layer as its tables 7 to 12 have them.

The tables' slips are corrected: table 9 begins with sum w and then z, its last convolutions are Conv2d(32, 24) and
Conv2d(24, 4) without an activation behind, and its output is 32 x 32, one variance per pixel for the three colours.
``narrow`` divides the widths, for small machines.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..data import problem
from ..nn import (
    GaussianHead,
    GaussianObservation,
    LogisticObservation,
    Residual,
    bounded_logvar,
    start_constant,
)
from ..nn import Observation as Observed
from .config import CompVAEConfig
from .given import Given
from .graph_posterior import GraphPosterior
from .networks import Networks

FEATURES = 1024
STATE = 2048
EMBEDDED = 32


class PriorW(nn.Module):
    """p(w_i|l_i), paper table 7: colour and location -> mu, logvar [..., D]."""

    def __init__(self, colours: int, w_dim: int, sigma_min: float, narrow: int) -> None:
        super().__init__()
        embedded, hidden = EMBEDDED // narrow, 1024 // narrow
        self.location = nn.Sequential(nn.Linear(2, embedded), nn.ELU())
        self.embedding = nn.Embedding(colours, embedded)
        self.layers = nn.Sequential(
            nn.Linear(2 * embedded, hidden), nn.ELU(), GaussianHead(hidden, w_dim, sigma_min)
        )

    def forward(self, labels: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.layers(torch.cat([self.location(features), self.embedding(labels)], dim=-1))


class Features(nn.Sequential):
    """pr(x), paper table 10: x [B, 3, 32, 32] -> [B, 1024]."""

    def __init__(self, narrow: int) -> None:
        first, second, third, last = (width // narrow for width in (16, 32, 48, 64))
        super().__init__(
            nn.Conv2d(3, first, 5, padding=2),
            nn.ELU(),
            nn.Conv2d(first, second, 4, stride=2, padding=1),
            nn.ELU(),
            nn.Conv2d(second, second, 5, padding=2),
            nn.ELU(),
            nn.Conv2d(second, third, 4, stride=2, padding=1),
            nn.ELU(),
            nn.Conv2d(third, last, 4, stride=2, padding=1),
            nn.ELU(),
            nn.Flatten(),
            Residual(16 * last),
            nn.ELU(),
        )

    def forward(self, x: Tensor, given: Given) -> Tensor:  # type: ignore[override]
        return super().forward(x)


class PosteriorZ(nn.Sequential):
    """q(z|x), paper table 11: features [B, 1024] -> mu, logvar [B, Z]."""

    def __init__(self, features: int, z_dim: int, sigma_min: float) -> None:
        super().__init__(Residual(features), nn.ELU(), GaussianHead(features, z_dim, sigma_min))


class PriorZ(nn.Sequential):
    """p(z|w~), paper table 8: w~ [B, D] -> mu, logvar [B, Z]."""

    def __init__(self, w_dim: int, z_dim: int, sigma_min: float, narrow: int) -> None:
        hidden = 1024 // narrow
        super().__init__(
            nn.Linear(w_dim, hidden), nn.ELU(), Residual(hidden), nn.ELU(), GaussianHead(hidden, z_dim, sigma_min)
        )

    def forward(self, w_sum: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().forward(w_sum)


class PosteriorW(GraphPosterior):
    """q({w_i}|x,z,{l_i}), paper table 12: three GraphBlocks on (pr(x), z, location, e(colour))."""

    def __init__(self, embedding: nn.Embedding, **options) -> None:
        width = embedding.embedding_dim
        super().__init__(embedding, node=2 * width, **options)
        self.location = nn.Sequential(nn.Linear(2, width), nn.ELU())

    def nodes(self, given: Given, seed: int | Tensor) -> Tensor:
        return torch.cat([self.location(given.features), self.embedding(given.labels)], dim=-1)


class Observation(nn.Module):
    """p(x|z,w~), paper table 9: w~ [B, D] and z [B, Z] -> an observation [B, 3, 32, 32], by ``kind``.

    "gaussian", as the paper; or "logistic", the discretized logistic of thesis 9.3.2, with one scale per pixel.
    """

    def __init__(self, w_dim: int, z_dim: int, sigma_min: float, narrow: int, kind: str) -> None:
        super().__init__()
        self.sigma_min, self.kind = sigma_min, kind
        second, third, fourth = (width // narrow for width in (64, 32, 24))
        self.of_w = Residual(w_dim)
        self.of_z = nn.Linear(z_dim, w_dim)
        last = nn.Conv2d(fourth, 4, 5, padding=2)
        start_constant(last)
        self.layers = nn.Sequential(
            nn.ELU(),
            Residual(w_dim),
            nn.Tanh(),
            Residual(w_dim),
            nn.ELU(),
            nn.Unflatten(1, (w_dim // 16, 4, 4)),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(w_dim // 16, second, 5, padding=2),
            nn.ELU(),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(second, third, 5, padding=2),
            nn.ELU(),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(third, fourth, 5, padding=2),
            nn.ELU(),
            last,
        )

    def forward(self, w_sum: Tensor, z: Tensor, context: Tensor | None = None) -> Observed:
        mu, spread = self.layers(self.of_w(w_sum) + self.of_z(z)).split([3, 1], dim=1)
        logvar = bounded_logvar(spread, self.sigma_min)
        if self.kind == "logistic":
            return LogisticObservation(mu, 0.5 * logvar)
        return GaussianObservation(mu, logvar)


def build(config: CompVAEConfig) -> Networks:
    """The networks of a configuration of kind "tables2d"."""
    c, asked = config, problem(config.problem)
    if asked.shape != (3, 32, 32) or asked.features != 2 or asked.context:
        raise ValueError(f"network: 'tables2d' is for the 2D problem of the paper, got the problem {c.problem!r}")
    if c.inference not in ("graph", "diagonal"):
        raise ValueError(f"inference: expected 'graph' or 'diagonal' for 'tables2d', got {c.inference!r}")
    if c.narrow > 16:
        raise ValueError(f"narrow: expected at most 16, the fewest channels of a convolution, got {c.narrow}")
    if c.w_dim % 16:
        raise ValueError(f"w_dim: expected a multiple of 16, the places of the decoder's first map, got {c.w_dim}")
    width = 16 * (64 // c.narrow)
    return Networks(
        PriorW(c.num_labels, c.w_dim, c.sigma_min, c.narrow),
        Features(c.narrow),
        PosteriorZ(width, c.z_dim, c.sigma_min),
        PosteriorW(
            nn.Embedding(c.num_labels, EMBEDDED // c.narrow), shared=width + c.z_dim, state=STATE // c.narrow,
            w_dim=c.w_dim, sigma_min=c.sigma_min, released=c.released, wide=False, layers=c.graph_layers,
            every_layer=c.graph_context, correlated=c.inference == "graph",
        ),
        PriorZ(c.w_dim, c.z_dim, c.sigma_min, c.narrow),
        Observation(c.w_dim, c.z_dim, c.sigma_min, c.narrow, c.observation),
    )
