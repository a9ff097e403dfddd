"""The paper's networks for the 1D problem, layer by layer as its tables 1 to 6 have them.

``narrow`` divides every width, for studies on small machines; external factors c, where the problem has them, stand
beside pr(x) and beside w~ (thesis eqs. 9.1, 9.3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..data import problem
from ..nn import (
    GaussianHead,
    GaussianObservation,
    GaussianTable,
    Residual,
    bounded_logvar,
    start_constant,
)
from ..random import Stream, fold, normal
from . import sequential
from .config import CompVAEConfig
from .given import Given
from .graph_posterior import GraphPosterior
from .networks import Networks

STATE = 2048
EMBEDDED = 1024


class Features(nn.Sequential):
    """pr(x), paper table 3: x [B, 200] -> [B, 800]; followed by c, where there is one."""

    def __init__(self, narrow: int = 1) -> None:
        few, some, many = (width // narrow for width in (40, 80, 160))
        super().__init__(
            nn.Unflatten(1, (1, 200)),
            nn.Conv1d(1, few, 10, stride=5),
            nn.ELU(),
            nn.Conv1d(few, few, 7, padding=3),
            nn.ELU(),
            nn.Conv1d(few, some, 6, stride=3),
            nn.ELU(),
            nn.Conv1d(some, some, 7, padding=3),
            nn.ELU(),
            nn.Conv1d(some, many, 4, stride=2),
            nn.ELU(),
            nn.Flatten(),
            Residual(5 * many),
            nn.ELU(),
        )

    def forward(self, x: Tensor, given: Given) -> Tensor:  # type: ignore[override]
        read = super().forward(x)
        return read if given.context is None else torch.cat([read, given.context], dim=-1)


class PosteriorZ(nn.Sequential):
    """q(z|x), paper table 5: features [B, 800] -> mu, logvar [B, Z]."""

    def __init__(self, features: int, z_dim: int, sigma_min: float, narrow: int = 1) -> None:
        hidden = 512 // narrow
        super().__init__(
            nn.Linear(features, hidden),
            nn.ELU(),
            Residual(hidden),
            nn.ELU(),
            Residual(hidden),
            nn.ELU(),
            GaussianHead(hidden, z_dim, sigma_min),
        )


class PriorZ(nn.Sequential):
    """p(z|c,w~), paper table 1: w~ [B, D], and c [B, C] where there is one -> mu, logvar [B, Z]."""

    def __init__(self, w_dim: int, z_dim: int, sigma_min: float, narrow: int = 1, context: int = 0) -> None:
        hidden = 1280 // narrow
        super().__init__(
            nn.Linear(w_dim + context, hidden), nn.ELU(), GaussianHead(hidden, z_dim, sigma_min)
        )

    def forward(self, w_sum: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().forward(w_sum if context is None else torch.cat([w_sum, context], dim=-1))


class PosteriorW(GraphPosterior):
    """q({w_i}|x,z,{l_i}), paper table 6 and eq. 5: three GraphBlocks on (pr(x), z, e(l_i) + eps_i)."""

    def nodes(self, given: Given, seed: int | Tensor) -> Tensor:
        of_set, of_part = given.sets.positions(given.labels.shape[-1])
        coordinates = torch.arange(self.embedding.embedding_dim, device=of_set.device)
        return self.embedding(given.labels) + normal(fold(seed, Stream.NODE), of_set, of_part, coordinates)


class Observation(nn.Module):
    """p(x|z,w~), paper table 2: w~ [B, D] and z [B, Z] -> GaussianObservation [B, 200]."""

    def __init__(self, w_dim: int, z_dim: int, sigma_min: float, narrow: int = 1) -> None:
        super().__init__()
        self.sigma_min = sigma_min
        fewest, few, some, many = (width // narrow for width in (20, 40, 80, 160))
        last = nn.Conv1d(fewest, 2, 7, padding=3)
        start_constant(last)
        self.layers = nn.Sequential(
            nn.Linear(w_dim + z_dim, 5 * many),
            nn.ELU(),
            Residual(5 * many),
            nn.ELU(),
            Residual(5 * many),
            nn.ELU(),
            Residual(5 * many),
            nn.ELU(),
            nn.Unflatten(1, (many, 5)),
            nn.ConvTranspose1d(many, some, 4, stride=2),
            nn.ELU(),
            nn.Conv1d(some, some, 7, padding=3),
            nn.ELU(),
            nn.ConvTranspose1d(some, few, 8, stride=4),
            nn.ELU(),
            nn.Conv1d(few, few, 7, padding=3),
            nn.ELU(),
            nn.ConvTranspose1d(few, fewest, 15, stride=5),
            nn.ELU(),
            last,
        )

    def forward(self, w_sum: Tensor, z: Tensor, context: Tensor | None = None) -> GaussianObservation:
        out = self.layers(torch.cat([w_sum, z], dim=-1))[:, :, 35:235]
        return GaussianObservation(out[:, 0], bounded_logvar(out[:, 1], self.sigma_min))


def build(config: CompVAEConfig) -> Networks:
    """The networks of a configuration of kind "tables"."""
    c, asked = config, problem(config.problem)
    if asked.shape != (200,) or asked.features:
        raise ValueError(f"network: 'tables' is for the 1D problem of the paper, got the problem {c.problem!r}")
    if c.narrow > 20:
        raise ValueError(f"narrow: expected at most 20, the fewest channels of a convolution, got {c.narrow}")
    width = 5 * (160 // c.narrow) + asked.context
    return Networks(
        GaussianTable(c.num_labels, c.w_dim, c.sigma_min),
        Features(c.narrow),
        PosteriorZ(width, c.z_dim, c.sigma_min, c.narrow),
        posterior_w(c, width),
        PriorZ(c.w_dim, c.z_dim, c.sigma_min, c.narrow, asked.context),
        Observation(c.w_dim, c.z_dim, c.sigma_min, c.narrow),
    )


def posterior_w(config: CompVAEConfig, features: int) -> nn.Module:
    """q({w_i}|..) by the name in ``config.inference``; features is the width of (pr(x), c)."""
    c = config
    if c.inference in sequential.KINDS:
        return sequential.PosteriorW(
            features + c.z_dim, c.w_dim, c.num_labels, c.sigma_min, EMBEDDED // c.narrow, STATE // c.narrow, c.inference
        )
    embedding = nn.Embedding(c.num_labels, EMBEDDED // c.narrow)
    return PosteriorW(
        embedding, node=embedding.embedding_dim, shared=features + c.z_dim, state=STATE // c.narrow, w_dim=c.w_dim,
        sigma_min=c.sigma_min, released=c.released, layers=c.graph_layers, every_layer=c.graph_context,
        correlated=c.inference == "graph",
    )
