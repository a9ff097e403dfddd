"""Our networks for the 1D problem: homogeneous in K, and a posterior that is exact given the sum.

Given w~ the parts of a diagonal prior are known by Matheron's rule, and the decoder sees w~ alone. The
posterior p({w_i}|x) is therefore the prior conditioned on a sum that x makes uncertain (``nn.conditioned``). The
networks give y and t per set.

Between w~ and the decoder lies a RadialFlow, whose inverse carries what the networks read in x back to y: it can
give p(x) the shape that a sum of Gaussians has not, without reconstructions having to be learned anew.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import problem
from ..nn import (
    GaussianHead,
    GaussianObservation,
    GaussianTable,
    RadialFlow,
    Residual,
    Sets,
    bounded_logvar,
    conditioned_on_sum,
    start_constant,
    sum_of_prior,
)
from .config import CompVAEConfig
from .given import Given
from .networks import Networks

START_ERROR = 0.3
START_OBSERVATION = 0.5


def private_scales(classes: int, features: int, closed: float) -> Tensor:
    """Initial log-variances [C, D] of p(w|l): each label opens a block of coordinates of its own.

    Coordinates beyond C equal blocks are open to all labels; the closed ones have deviation ``closed``.

    >>> private_scales(2, 4, 0.1).exp()
    tensor([[1.0000, 1.0000, 0.0100, 0.0100],
            [0.0100, 0.0100, 1.0000, 1.0000]])
    """
    block = features // classes
    logvar = torch.zeros(classes, features)
    if block:
        owner = torch.arange(features) // block
        others = (owner != torch.arange(classes)[:, None]) & (owner < classes)
        logvar[others] = 2 * math.log(closed)
    return logvar


def per_part(counts: Tensor) -> Tensor:
    """K [B, 1] as a float divisor, 1 for an empty set."""
    return counts.clamp(min=1).float().unsqueeze(-1)


def label_counts(labels: Tensor, sets: Sets, classes: int) -> Tensor:
    """How many parts of each label every set has: [B, C] float32."""
    return sets.sum(F.one_hot(labels, classes).float())


class OwnLabel:
    """Known coordinates: 1 for the part's own label and 0 for the others, so that their sum counts labels."""

    def __init__(self, classes: int) -> None:
        self.width = classes

    def __call__(self, labels: Tensor, features: Tensor | None) -> Tensor:
        return F.one_hot(labels, self.width)


class Features(nn.Module):
    """A description of x / K, log K and the shares of the labels: [B, H]."""

    def __init__(self, length: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.classes = classes
        self.layers = nn.Sequential(
            nn.Linear(length + 1 + classes, hidden),
            nn.ELU(),
            Residual(hidden),
            nn.ELU(),
            Residual(hidden),
            nn.ELU(),
        )

    def forward(self, x: Tensor, given: Given) -> Tensor:
        k = per_part(given.sets.counts)
        shares = label_counts(given.labels, given.sets, self.classes).to(x.dtype) / k
        return self.layers(torch.cat([x / k, k.log(), shares], dim=-1))


class PosteriorZ(GaussianHead):
    """q(z|x): features [B, H] -> mu, logvar [B, Z]."""


class PriorZ(nn.Module):
    """p(z|w~) by the parts' mean: w~ [B, C + D], the labels' counts first -> mu, logvar [B, Z]."""

    def __init__(self, classes: int, w_dim: int, z_dim: int, hidden: int, sigma_min: float) -> None:
        super().__init__()
        self.classes = classes
        self.layers = nn.Sequential(
            nn.Linear(w_dim, hidden), nn.ELU(), GaussianHead(hidden, z_dim, sigma_min)
        )

    def forward(self, w_sum: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        counts, w = w_sum[:, : self.classes], w_sum[:, self.classes :]
        return self.layers(w / counts.sum(-1, keepdim=True).clamp(min=1))


class PosteriorW(nn.Module):
    """q({w_i}|x,{l_i}): the prior conditioned on the sum that x tells, see the module's text."""

    sees_z = False

    def __init__(self, w_dim: int, hidden: int) -> None:
        super().__init__()
        self.undone: tuple[RadialFlow, ...] = ()
        self.mean = nn.Linear(hidden, w_dim)
        self.log_error = nn.Linear(hidden, w_dim)
        start_constant(self.log_error, math.log(START_ERROR))

    def undo(self, flow: RadialFlow | None) -> None:
        """The decoder's flow, to be inverted here; held in a tuple, so that its parameters stay the decoder's."""
        self.undone = () if flow is None else (flow,)

    def forward(
        self,
        features: Tensor,
        z: Tensor,
        given: Given,
        prior: tuple[Tensor, Tensor],
        seed: int | Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """mu, logvar and logits of q, each [B, K, D] or [N, D]."""
        sets = given.sets
        k = per_part(sets.counts)
        told = k * self.mean(features)
        for flow in self.undone:
            told = flow.inverse(told, label_counts(given.labels, sets, flow.labels).to(told.dtype))
        log_t2 = 2 * (self.log_error(features) + k.log())
        centre, log_v = sum_of_prior(prior, sets)
        known = (log_v - log_t2).clamp(min=-40)
        shift = torch.sigmoid(known) * (told - centre)
        return conditioned_on_sum(prior, sets, log_v, known, shift)


class Observation(nn.Module):
    """p(x|z,w~): K tanh(A u + f(u, z)), u = flow(w~) / K, with one deviation of x / K for all.

    Args (forward): w~ [B, C + D] with the labels' counts first, z [B, Z]. Returns a GaussianObservation [B, T].
    """

    def __init__(
        self, length: int, classes: int, w_dim: int, z_dim: int, hidden: int, floor: float, flow: bool
    ) -> None:
        super().__init__()
        self.classes = classes
        self.floor = floor
        self.flow = RadialFlow(classes, w_dim) if flow and w_dim >= classes else None
        self.straight = nn.Linear(w_dim, length)
        last = nn.Linear(hidden, length)
        start_constant(last)
        self.bent = nn.Sequential(
            nn.Linear(w_dim + z_dim, hidden), nn.ELU(), Residual(hidden), nn.ELU(), last
        )
        self.logvar = nn.Parameter(torch.tensor(2 * math.log(START_OBSERVATION)))

    def forward(self, w_sum: Tensor, z: Tensor, context: Tensor | None = None) -> GaussianObservation:
        counts, w = w_sum[:, : self.classes], w_sum[:, self.classes :]
        if self.flow is not None:
            w = self.flow(w, counts)
        count = counts.sum(-1, keepdim=True)
        k = count.clamp(min=1)
        u = w / k
        mu = count * torch.tanh(self.straight(u) + self.bent(torch.cat([u, z], dim=-1)))
        logvar = bounded_logvar(self.logvar, self.floor) + 2 * k.log()
        return GaussianObservation(mu, logvar.expand_as(mu))


def build(config: CompVAEConfig) -> Networks:
    """The networks of a configuration of kind "compact", for wholes that are curves and grow with K."""
    c, asked = config, problem(config.problem)
    if asked.features or asked.context or len(asked.shape) != 1 or not asked.grows_with_parts:
        raise ValueError(f"network: 'compact' is for curves that grow with K, got the problem {c.problem!r}")
    (length,) = asked.shape
    scales = private_scales(c.num_labels, c.w_dim, c.closed_scale)
    prior_w = GaussianTable(c.num_labels, c.w_dim, c.sigma_min, scales)
    features = Features(length, c.num_labels, c.hidden)
    posterior_z = PosteriorZ(c.hidden, c.z_dim, c.sigma_min)
    posterior_w = PosteriorW(c.w_dim, c.hidden)
    prior_z = PriorZ(c.num_labels, c.w_dim, c.z_dim, c.hidden, c.sigma_min)
    observation = Observation(
        length, c.num_labels, c.w_dim, c.z_dim, c.hidden, c.observation_floor, c.radial_flow
    )
    posterior_w.undo(observation.flow)
    return Networks(
        prior_w, features, posterior_z, posterior_w, prior_z, observation, OwnLabel(c.num_labels)
    )
