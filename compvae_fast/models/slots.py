"""Our networks for the 2D problem: a place in w for every colour and region, and a posterior found on the decoder.

What made the 1D model compose (docs/composing.md) is carried over:

- Coordinates of one's own: the image is cut into G x G cells, and each colour has one coordinate in each cell, a slot.
  A part is open in its own slot alone. How many parts a slot has, and the sum of their locations, travel in w~ as
  known coordinates; w~ itself holds the sum of what the parts' labels do not tell.
- A decoder that is exact on such sums: the slots share the image out by a softmax, a ratio of two sums over the parts.
  Of a slot with n parts it sees their number, mean location and mean latent, which is all there is as long as parts
  of one colour do not meet in one cell.
- A posterior that is exact given the sum: what x tells about the sums is found on the decoder itself, by damped
  Gauss-Newton steps towards the mode; the parts follow as ``nn.conditioned`` says.

Learned are the colours, the fall-off with the distance (its power and its stretch along each direction), the strength
that a latent gives a part, the tone curve from shares to pixel values, and the noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import problem
from ..data.dots import REACH
from ..nn import (
    GaussianHead,
    LogisticObservation,
    bounded_logvar,
    conditioned_on_sum,
    sum_of_prior,
)
from .config import CompVAEConfig
from .given import Given
from .networks import Networks

START_STRENGTH = 4.0
START_SLOPE = 0.1
START_BEND = 0.02
START_POWER = 0.75
START_SCALE = 0.1
DARKEST = 1e-6
STEPS = 20
SMALLEST_STEP = 1e-3
START_DAMPING = 0.01
LARGEST_STEP = 1.5


class Slots:
    """Known coordinates [..., 3 S] of a part: 1, and its location, in its own slot, in three blocks.

    Args:
        colours: how many labels there are; grid: G, cells along each side; S = colours G^2.
    """

    def __init__(self, colours: int, grid: int) -> None:
        self.grid, self.slots = grid, colours * grid**2
        self.width = 3 * self.slots

    def own(self, labels: Tensor, locations: Tensor) -> Tensor:
        """1 in the slot of each part, 0 elsewhere: [..., S]."""
        cell = ((locations / REACH + 1) * (self.grid / 2)).long().clamp(0, self.grid - 1)
        return F.one_hot((labels * self.grid + cell[..., 1]) * self.grid + cell[..., 0], self.slots)

    def __call__(self, labels: Tensor, features: Tensor | None) -> Tensor:
        assert features is not None
        own = self.own(labels, features).to(features.dtype)
        return torch.cat([own, own * features[..., :1], own * features[..., 1:]], dim=-1)


class Occupied(NamedTuple):
    """The slots that have parts, M at most in a set; [B, M] each.

    slot is their index, there whether a row has such a slot, n the parts in it (1 where none), across and down their
    mean location, latent the mean of their w.
    """

    slot: Tensor
    there: Tensor
    n: Tensor
    across: Tensor
    down: Tensor
    latent: Tensor

    @classmethod
    def of(cls, known: Tensor, w: Tensor) -> Occupied:
        """Of the sums of the known coordinates [B, 3 S] and of w [B, S]."""
        counts, across, down = known.split(w.shape[1], dim=1)
        most = int((counts > 0).sum(1).max()) if len(counts) else 0
        found = counts.topk(most, dim=1)
        n = found.values.clamp(min=1)
        means = (values.gather(1, found.indices) / n for values in (across, down, w))
        return cls(found.indices, found.values > 0, n, *means)


class PriorW(nn.Module):
    """p(w_i|l_i): N(0, 1) in the part's own slot, 0 +- ``closed`` in the others.

    What a latent means is the decoder's ``Strength`` to learn, so that a mean and a scale here would be one too many.
    """

    def __init__(self, slots: Slots, closed: float) -> None:
        super().__init__()
        self.slots, self.closed = slots, 2 * math.log(closed)

    def forward(self, labels: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        own = self.slots.own(labels, features).to(features.dtype)
        return torch.zeros_like(own), (1 - own) * self.closed


class Strength(nn.Module):
    """How fast a part's share falls, of its latent u: exp(b + c u + sum_k a_k tanh(d_k u + e_k)), and its derivative.

    c, a and d are positive, kept as logarithms: it rises with u, so that no two latents look alike.
    """

    def __init__(self, bends: int = 8) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.tensor(math.log(START_STRENGTH)))
        self.log_slope = nn.Parameter(torch.tensor(math.log(START_SLOPE)))
        self.log_heights = nn.Parameter(torch.full((bends,), math.log(START_BEND)))
        self.log_rates = nn.Parameter(torch.zeros(bends))
        self.shifts = nn.Parameter(torch.linspace(-2, 2, bends))

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        slope, heights, rates = (log.exp() for log in (self.log_slope, self.log_heights, self.log_rates))
        bent = torch.tanh(u.unsqueeze(-1) * rates + self.shifts)
        value = (self.start + slope * u + bent @ heights).exp()
        return value, value * (slope + (1 - bent.square()) @ (heights * rates))


class Observation(nn.Module):
    """p(x|z,w~): shares of the slots, their colours mixed, a tone curve; discretized logistics of one learned scale.

        share(p) = softmax(log n - strength(u + g z) r(p)),  r = (|R (p - location)|^2)^power,
        mean(p) = (sum share(p) colour)^tone

    Args (forward): w~ [B, 3 S + S], the known coordinates first, z [B, Z].
    """

    def __init__(self, slots: Slots, colours: int, z_dim: int, side: int, floor: float) -> None:
        super().__init__()
        self.slots, self.side, self.floor = slots, side, floor
        self.palette = nn.Parameter(torch.randn(colours, 3))
        self.stretch = nn.Parameter(torch.eye(2))
        self.power = nn.Parameter(torch.tensor(math.log(START_POWER)))
        self.strength = Strength()
        self.tone = nn.Parameter(torch.zeros(3))
        self.of_z = nn.Linear(z_dim, 1, bias=False)
        nn.init.zeros_(self.of_z.weight)
        self.log_scale = nn.Parameter(torch.tensor(math.log(START_SCALE)))
        self.pixels: Tensor
        self.register_buffer("pixels", torch.linspace(-1, 1, side), persistent=False)

    def forward(self, w_sum: Tensor, z: Tensor, context: Tensor | None = None) -> LogisticObservation:
        occupied = Occupied.of(w_sum[:, : self.slots.width], w_sum[:, self.slots.width :])
        mean = self.mean(self.shares(occupied, z)[0], occupied)
        return LogisticObservation(mean.unflatten(-1, (self.side, self.side)), self.scale())

    def scale(self) -> Tensor:
        """log of the logistic's scale."""
        return 0.5 * bounded_logvar(2 * self.log_scale, self.floor)

    def shares(self, at: Occupied, z: Tensor) -> tuple[Tensor, Tensor]:
        """Each slot's share in each pixel and its derivative's factor d log share / d u, both [B, M, P]."""
        across = self.pixels - at.across.unsqueeze(-1)
        down = self.pixels - at.down.unsqueeze(-1)
        (a, b), (c, d) = self.stretch
        one = (a * across).unsqueeze(-2) + (b * down).unsqueeze(-1)
        other = (c * across).unsqueeze(-2) + (d * down).unsqueeze(-1)
        distance = (one.square() + other.square() + DARKEST).pow(self.power.exp()).flatten(2)
        strength, slope = self.strength(at.latent + self.of_z(z))
        log_shares = at.n.log().unsqueeze(-1) - strength.unsqueeze(-1) * distance
        log_shares = log_shares.masked_fill(~at.there.unsqueeze(-1), -torch.inf)
        return torch.softmax(log_shares, dim=1).nan_to_num(0.0), -slope.unsqueeze(-1) * distance

    def mixed(self, shares: Tensor, at: Occupied) -> tuple[Tensor, Tensor]:
        """The slots' colours [B, M, 3], and what they mix to, [B, 3, P], above 0."""
        colours = torch.sigmoid(self.palette)[at.slot // self.slots.grid**2]
        return colours, torch.einsum("bmp,bmc->bcp", shares, colours) + DARKEST

    def mean(self, shares: Tensor, at: Occupied) -> Tensor:
        """The mean image [B, 3, P]."""
        return self.mixed(shares, at)[1].pow(self.tone.exp().unsqueeze(-1))

    def with_slopes(self, at: Occupied, z: Tensor) -> tuple[Tensor, Tensor]:
        """The mean image [B, 3 P], and its derivative by the latents, [B, M, 3 P]."""
        shares, factor = self.shares(at, z)
        colours, mixed = self.mixed(shares, at)
        tone = self.tone.exp().unsqueeze(-1)
        mean = mixed.pow(tone)
        moved = (shares * factor).unsqueeze(2) * (colours.unsqueeze(-1) + DARKEST - mixed.unsqueeze(1))
        return mean.flatten(1), (moved * (tone * mean / mixed).unsqueeze(1)).flatten(2)


class Read(NamedTuple):
    """What the posteriors see of a whole: a description [B, H], and x [B, 3 P]."""

    hidden: Tensor
    x: Tensor


class Features(nn.Module):
    """A description of x by 4 x 4 means, log K and the shares of the colours; and x itself."""

    def __init__(self, colours: int, hidden: int) -> None:
        super().__init__()
        self.colours = colours
        self.layers = nn.Sequential(nn.Linear(3 * 16 + 1 + colours, hidden), nn.ELU())

    def forward(self, x: Tensor, given: Given) -> Read:
        k = given.sets.counts.clamp(min=1).to(x.dtype).unsqueeze(-1)
        shares = given.sets.sum(F.one_hot(given.labels, self.colours).to(x.dtype)) / k
        seen = F.adaptive_avg_pool2d(x, 4).flatten(1)
        return Read(self.layers(torch.cat([seen, k.log(), shares], dim=-1)), x.flatten(1))


class PosteriorZ(nn.Module):
    """q(z|x)."""

    def __init__(self, hidden: int, z_dim: int, sigma_min: float) -> None:
        super().__init__()
        self.head = GaussianHead(hidden, z_dim, sigma_min)

    def forward(self, read: Read) -> tuple[Tensor, Tensor]:
        return self.head(read.hidden)


class PosteriorW(nn.Module):
    """q({w_i}|x,z,{l_i}): the mode of the slots' sums by damped Gauss-Newton steps on the decoder, with its curvature.

    The last step carries the gradient to the decoder; those before it are constants, as is the curvature: at the mode
    they do not matter (Bolte, Pauwels, Vaiter, "One-step differentiation of iterative algorithms", 2023).
    """

    sees_z = True

    def __init__(self, slots: Slots, decoder: Observation) -> None:
        super().__init__()
        self.slots = slots
        self.decoder = (decoder,)  # in a tuple, so that its parameters stay the decoder's
        self.log_error = nn.Parameter(torch.zeros(()))

    def forward(
        self,
        read: Read,
        z: Tensor,
        given: Given,
        prior: tuple[Tensor, Tensor],
        seed: int | Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """mu, logvar and logits of q, each [B, K, S] or [N, S]."""
        sets = given.sets
        centre, log_v = sum_of_prior(prior, sets)
        at = Occupied.of(sets.sum(self.slots(given.labels, given.features)), centre)
        log_t2, moved = self._found(read.x, at, z, log_v.gather(1, at.slot) - 2 * at.n.log())
        # from the slots that have parts to all, from means to sums
        none = torch.full_like(centre, torch.inf)
        log_t2 = none.scatter(1, at.slot, torch.where(at.there, log_t2 + 2 * at.n.log(), torch.inf))
        shift = torch.zeros_like(centre).scatter(1, at.slot, torch.where(at.there, moved * at.n, 0.0))
        known = (log_v - log_t2 - 2 * self.log_error).clamp(-40, 60)
        return conditioned_on_sum(prior, sets, log_v, known, shift)

    def _found(self, x: Tensor, at: Occupied, z: Tensor, log_v: Tensor) -> tuple[Tensor, Tensor]:
        """log t^2, the error with which x alone tells the latents, and how far their mode lies from the prior's mean.

        log_v is the prior's log-variance of the mean latents [B, M].
        """
        precision = (-log_v).exp()
        start = at.latent
        noise = math.pi**2 / 3 * (2 * self.decoder[0].scale()).exp() + 1 / (12 * 255**2)

        def looked(latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """What is minimised [B], its gradient [B, M] with the sign turned, its curvature less the prior's."""
            mean, slopes = self.decoder[0].with_slopes(at._replace(latent=latent), z)
            left, beyond = x - mean, latent - start
            cost = left.square().sum(1) / noise + (precision * beyond.square()).sum(1)
            pull = torch.einsum("bmp,bp->bm", slopes, left) / noise - precision * beyond
            return cost, pull, slopes.detach() @ slopes.detach().transpose(1, 2) / noise.detach()

        with torch.no_grad():
            latent = _descended(looked, start.detach(), precision)
        _, pull, curvature = looked(latent)
        told = torch.diagonal(curvature, dim1=1, dim2=2).clamp(min=1e-30)
        return -told.log(), latent + _step(pull, curvature, precision.detach()) - start


def _step(pull: Tensor, curvature: Tensor, precision: Tensor, damping: Tensor | float = 0.0) -> Tensor:
    """A damped Gauss-Newton step [B, M], of no more than LARGEST_STEP in each latent."""
    along = torch.diagonal(curvature, dim1=1, dim2=2) * damping + precision
    found = torch.linalg.solve(curvature + torch.diag_embed(along), pull.unsqueeze(-1)).squeeze(-1)
    return found.clamp(-LARGEST_STEP, LARGEST_STEP)


def _descended(looked: Callable[[Tensor], tuple[Tensor, ...]], latent: Tensor, precision: Tensor) -> Tensor:
    """The minimum, by Levenberg and Marquardt: a step that does not go down is taken back and damped.

    It ends after STEPS, or where no step that goes down is larger than SMALLEST_STEP.
    """
    cost, pull, curvature = looked(latent)
    damping = latent.new_full((len(latent), 1), START_DAMPING)
    for _ in range(STEPS):
        step = _step(pull, curvature, precision, damping)
        tried = latent + step
        reached = looked(tried)
        lower = reached[0] < cost
        cost = torch.where(lower, reached[0], cost)
        latent = torch.where(lower[:, None], tried, latent)
        pull = torch.where(lower[:, None], reached[1], pull)
        curvature = torch.where(lower[:, None, None], reached[2], curvature)
        damping = torch.where(lower[:, None], damping / 4, damping * 8)
        if not (step.abs() > SMALLEST_STEP).any():
            break
    return latent


class PriorZ(nn.Module):
    """p(z|w~), of the shares of the colours and the mean latent of each."""

    def __init__(self, slots: Slots, colours: int, hidden: int, z_dim: int, sigma_min: float) -> None:
        super().__init__()
        self.slots, self.colours = slots, colours
        self.layers = nn.Sequential(
            nn.Linear(2 * colours, hidden), nn.ELU(), GaussianHead(hidden, z_dim, sigma_min)
        )

    def forward(self, w_sum: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        blocks = w_sum.unflatten(1, (4, self.colours, -1)).sum(-1)
        k = blocks[:, 0].sum(-1, keepdim=True).clamp(min=1)
        return self.layers(torch.cat([blocks[:, 0] / k, blocks[:, 3] / k], dim=-1))


def build(config: CompVAEConfig) -> Networks:
    """The networks of a configuration of kind "slots"; w_dim is the number of slots, colours G^2."""
    c = config
    asked = problem(c.problem)
    if asked.features != 2 or len(asked.shape) != 3:
        raise ValueError(f"network: 'slots' is for images of parts with locations, got the problem {c.problem!r}")
    grid = math.isqrt(c.w_dim // c.num_labels)
    if c.num_labels * grid**2 != c.w_dim or grid < 1:
        raise ValueError(f"w_dim: expected {c.num_labels} times a square, one slot per colour and cell; got {c.w_dim}")
    slots = Slots(c.num_labels, grid)
    observation = Observation(slots, c.num_labels, c.z_dim, asked.shape[-1], c.observation_floor)
    return Networks(
        PriorW(slots, c.closed_scale),
        Features(c.num_labels, c.hidden),
        PosteriorZ(c.hidden, c.z_dim, c.sigma_min),
        PosteriorW(slots, observation),
        PriorZ(slots, c.num_labels, c.hidden, c.z_dim, c.sigma_min),
        observation,
        slots,
    )
