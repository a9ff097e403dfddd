"""The paper's networks for the 1D problem, layer by layer as its tables 1 to 6 have them.

``narrow`` divides every width, for studies on small machines; external factors c, where the problem has them, stand
beside pr(x) and beside w~ (thesis eqs. 9.1, 9.3).
"""

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
from . import sequential
from .config import CompVAEConfig
from .given import Given
from .networks import Networks

FEATURES = 800
STATE = 2048
EMBEDDED = 1024
START_LOGIT = -8.0


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


class PosteriorW(nn.Module):
    """q({w_i}|x,z,{l_i}), paper table 6 and eq. 5: three GraphBlocks on (pr(x), z, e(l_i) + eps_i).

    With ``every_layer`` (thesis eq. 9.14) the nodes begin as e(l_i) + eps_i alone, and (pr(x), c, z) enters f and g of
    each of the ``layers``. ``correlated=False`` leaves the logits out: rho = 0, a diagonal q.

    The last layer has no activation, where the table prints an ELU: that would force log-variances above
    -1. It starts at N(0, 1) with logits near -8, which is p(w|l).
    """

    sees_z = True

    def __init__(
        self,
        features: int,
        w_dim: int,
        z_dim: int,
        labels: int,
        sigma_min: float,
        *,
        released: bool = False,
        narrow: int = 1,
        layers: int = 3,
        every_layer: bool = False,
        correlated: bool = True,
    ) -> None:
        super().__init__()
        self.sigma_min, self.every_layer, self.correlated = sigma_min, every_layer, correlated
        state, embedded, shared = STATE // narrow, EMBEDDED // narrow, features + z_dim
        self.embedding = nn.Embedding(labels, embedded)
        widths = (embedded + (0 if every_layer else shared), *[state] * layers)
        context = shared if every_layer else 0
        self.blocks = nn.ModuleList(
            GraphBlock(n, m, released=released, context=context) for n, m in zip(widths, widths[1:])
        )
        parameters = 3 if correlated else 2
        self.head = nn.Linear(state, parameters * w_dim)
        bias = torch.zeros(parameters, w_dim)
        bias[2:] = START_LOGIT
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
        of_whole = torch.cat([features, z], dim=-1)
        context = of_whole if self.every_layer else None
        shared = None if self.every_layer else of_whole
        for block in self.blocks:
            state = F.elu(block(state, shared=shared, context=context, sets=sets))
            shared = None
        mu, logvar, *logits = self.head(state).chunk(3 if self.correlated else 2, dim=-1)
        nu = logits[0] if logits else torch.full_like(mu, -torch.inf)
        return mu, bounded_logvar(logvar, self.sigma_min), nu


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
    width = FEATURES // c.narrow + asked.context
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
    return PosteriorW(
        features, c.w_dim, c.z_dim, c.num_labels, c.sigma_min, released=c.released, narrow=c.narrow,
        layers=c.graph_layers, every_layer=c.graph_context, correlated=c.inference == "graph",
    )
