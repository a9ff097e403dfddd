"""The paper's networks for the 1D problem, layer by layer as its tables 1 to 6 have them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import problem
from ..nn import (
    GaussianHead,
    GaussianObservation,
    GaussianTable,
    GraphBlock,
    Residual,
    bounded_logvar,
    start_constant,
)
from ..random import Stream, fold, normal
from .config import CompVAEConfig
from .given import Given
from .networks import Networks

FEATURES = 800
STATE = 2048
START_LOGIT = -8.0


class Features(nn.Sequential):
    """pr(x), paper table 3: x [B, 200] -> [B, 800]."""

    def __init__(self) -> None:
        super().__init__(
            nn.Unflatten(1, (1, 200)),
            nn.Conv1d(1, 40, 10, stride=5),
            nn.ELU(),
            nn.Conv1d(40, 40, 7, padding=3),
            nn.ELU(),
            nn.Conv1d(40, 80, 6, stride=3),
            nn.ELU(),
            nn.Conv1d(80, 80, 7, padding=3),
            nn.ELU(),
            nn.Conv1d(80, 160, 4, stride=2),
            nn.ELU(),
            nn.Flatten(),
            Residual(FEATURES),
            nn.ELU(),
        )

    def forward(self, x: Tensor, given: Given) -> Tensor:  # type: ignore[override]
        return super().forward(x)


class PosteriorZ(nn.Sequential):
    """q(z|x), paper table 5: features [B, 800] -> mu, logvar [B, Z]."""

    def __init__(self, z_dim: int, sigma_min: float) -> None:
        super().__init__(
            nn.Linear(FEATURES, 512),
            nn.ELU(),
            Residual(512),
            nn.ELU(),
            Residual(512),
            nn.ELU(),
            GaussianHead(512, z_dim, sigma_min),
        )


class PriorZ(nn.Sequential):
    """p(z|w~), paper table 1: w~ [B, D] -> mu, logvar [B, Z]."""

    def __init__(self, w_dim: int, z_dim: int, sigma_min: float) -> None:
        super().__init__(
            nn.Linear(w_dim, 1280), nn.ELU(), GaussianHead(1280, z_dim, sigma_min)
        )

    def forward(self, w_sum: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().forward(w_sum)


class PosteriorW(nn.Module):
    """q({w_i}|x,z,{l_i}), paper table 6 and eq. 5: three GraphBlocks on (pr(x), z, e(l_i) + eps_i).

    The last layer has no activation, where the table prints an ELU: that would force log-variances above
    -1. It starts at N(0, 1) with logits near -8, which is p(w|l).
    """

    sees_z = True

    def __init__(self, w_dim: int, z_dim: int, labels: int, sigma_min: float, released: bool) -> None:
        super().__init__()
        self.sigma_min = sigma_min
        self.embedding = nn.Embedding(labels, 1024)
        widths = (FEATURES + z_dim + 1024, STATE, STATE, STATE)
        self.blocks = nn.ModuleList(
            GraphBlock(n, m, released=released) for n, m in zip(widths, widths[1:])
        )
        self.head = nn.Linear(STATE, 3 * w_dim)
        bias = torch.zeros(3, w_dim)
        bias[2] = START_LOGIT
        start_constant(self.head, bias.flatten())

    def forward(
        self,
        features: Tensor,
        z: Tensor,
        given: Given,
        prior: tuple[Tensor, Tensor],
        seed: int | Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """mu, logvar and logits of q, each [B, K, D] or [N, D]."""
        labels, sets = given.labels, given.sets
        of_set, of_part = sets.positions(labels.shape[-1])
        coordinates = torch.arange(self.embedding.embedding_dim, device=z.device)
        noise = normal(fold(seed, Stream.NODE), of_set, of_part, coordinates)
        state = self.embedding(labels) + noise
        shared: Tensor | None = torch.cat([features, z], dim=-1)
        for block in self.blocks:
            state = F.elu(block(state, shared=shared, sets=sets))
            shared = None
        mu, logvar, logits = self.head(state).chunk(3, dim=-1)
        return mu, bounded_logvar(logvar, self.sigma_min), logits


class Observation(nn.Module):
    """p(x|z,w~), paper table 2: w~ [B, D] and z [B, Z] -> GaussianObservation [B, 200]."""

    def __init__(self, w_dim: int, z_dim: int, sigma_min: float) -> None:
        super().__init__()
        self.sigma_min = sigma_min
        last = nn.Conv1d(20, 2, 7, padding=3)
        start_constant(last)
        self.layers = nn.Sequential(
            nn.Linear(w_dim + z_dim, FEATURES),
            nn.ELU(),
            Residual(FEATURES),
            nn.ELU(),
            Residual(FEATURES),
            nn.ELU(),
            Residual(FEATURES),
            nn.ELU(),
            nn.Unflatten(1, (160, 5)),
            nn.ConvTranspose1d(160, 80, 4, stride=2),
            nn.ELU(),
            nn.Conv1d(80, 80, 7, padding=3),
            nn.ELU(),
            nn.ConvTranspose1d(80, 40, 8, stride=4),
            nn.ELU(),
            nn.Conv1d(40, 40, 7, padding=3),
            nn.ELU(),
            nn.ConvTranspose1d(40, 20, 15, stride=5),
            nn.ELU(),
            last,
        )

    def forward(self, w_sum: Tensor, z: Tensor, context: Tensor | None = None) -> GaussianObservation:
        out = self.layers(torch.cat([w_sum, z], dim=-1))[:, :, 35:235]
        return GaussianObservation(out[:, 0], bounded_logvar(out[:, 1], self.sigma_min))


def build(config: CompVAEConfig) -> Networks:
    """The networks of a configuration of kind "tables"."""
    c = config
    if problem(c.problem).shape != (200,):
        raise ValueError(f"network: 'tables' is for the 1D problem of the paper, got the problem {c.problem!r}")
    return Networks(
        GaussianTable(c.num_labels, c.w_dim, c.sigma_min),
        Features(),
        PosteriorZ(c.z_dim, c.sigma_min),
        PosteriorW(c.w_dim, c.z_dim, c.num_labels, c.sigma_min, c.released),
        PriorZ(c.w_dim, c.z_dim, c.sigma_min),
        Observation(c.w_dim, c.z_dim, c.sigma_min),
    )
