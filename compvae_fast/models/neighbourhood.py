"""Networks for curves that are sums of households' curves under a common temperature.

Given what is common (c and z) the households of a neighbourhood are independent and their curves add up, so that

    x = sum_i a(l_i; c, z) + sum_d b_d(c, z) w~_d + noise,   Var noise = sum_i v(l_i; c, z),

linear in the number of households of each label and in w~: exact at any K, whatever K it was trained on. The
coefficients a [336, C], b [336, D] and v are networks of time, temperature and z. Beyond some dozens of households the
sum is nearly Gaussian (central limit theorem), which the noise is allowed to be scale by scale
(``HierarchicalObservation``).

So the posterior of w~ given x, z and c needs no network: it is that of a linear model with known noise. The posterior
of the parts follows as in ``compact``: their prior, conditioned on an uncertain sum, coordinate by coordinate, in the
"scaled" coupling. The only thing to be learned is q(z | c, x).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import problem
from ..nn import GaussianHead, GaussianTable, HierarchicalObservation, Pyramid, Residual, start_constant
from .compact import OwnLabel, label_counts, per_part
from .config import CompVAEConfig
from .given import Given
from .networks import Networks

HOURS = 168
TIME_WIDTH = 64
COMMON = 24
FILTERS = 8
MEMORY = 24
START_NOISE = 0.5
START_ERROR = 0.2


class Degrees(nn.Module):
    """Degrees Celsius as numbers of order one; zeros where a model is not to know them (thesis table 9.1)."""

    def __init__(self, hidden: bool) -> None:
        super().__init__()
        self.scale = 0.0 if hidden else 0.125

    def forward(self, context: Tensor) -> Tensor:
        return (context - 12.0) * self.scale


def by_day(context: Tensor) -> Tensor:
    """Mean of every day [B, 7] of hourly values [B, 168]."""
    return context.unflatten(1, (7, 24)).mean(-1)


class Features(nn.Module):
    """What is read in x, K, the shares of the labels and c, [B, H], and behind it x itself: [B, H + T]."""

    def __init__(
        self, length: int, context: int, classes: int, hidden: int, depth: int, degrees: Degrees
    ) -> None:
        super().__init__()
        self.classes, self.degrees = classes, degrees
        self.first = nn.Linear(length + context + classes + 1, hidden)
        self.layers = nn.Sequential(*(m for _ in range(depth) for m in (nn.ELU(), Residual(hidden))), nn.ELU())

    def forward(self, x: Tensor, given: Given) -> Tensor:
        k = per_part(given.sets.counts)
        shares = label_counts(given.labels, given.sets, self.classes).to(x.dtype) / k
        assert given.context is not None
        read = torch.cat([x / k, self.degrees(given.context), shares, k.log() - 4.5], dim=-1)
        return torch.cat([self.layers(self.first(read)), x], dim=-1)


class PosteriorZ(nn.Module):
    """q(z | c, x): features [B, H + T] -> mu, logvar [B, Z]."""

    def __init__(self, hidden: int, z_dim: int, sigma_min: float) -> None:
        super().__init__()
        self.head = GaussianHead(hidden, z_dim, sigma_min)
        # z that starts as its prior's noise is what the decoder learns to ignore: start as a narrow, random code
        nn.init.normal_(self.head.linear.weight[:z_dim], std=hidden**-0.5)
        nn.init.constant_(self.head.linear.bias[z_dim:], 2 * math.log(START_ERROR))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(features[:, : self.head.linear.in_features])


class PriorZ(nn.Module):
    """p(z | c, w~) by the days' temperatures, the shares of the labels and the parts' mean."""

    def __init__(
        self, classes: int, w_dim: int, z_dim: int, hidden: int, sigma_min: float, degrees: Degrees
    ) -> None:
        super().__init__()
        self.classes, self.degrees = classes, degrees
        self.layers = nn.Sequential(
            nn.Linear(7 + classes + w_dim, hidden), nn.ELU(), Residual(hidden), nn.ELU(),
            GaussianHead(hidden, z_dim, sigma_min),
        )

    def forward(self, w_sum: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        k = w_sum[:, : self.classes].sum(-1, keepdim=True).clamp(min=1)
        return self.layers(torch.cat([by_day(self.degrees(context)), w_sum / k], dim=-1))


class Coefficients(nn.Module):
    """a [B, T, C], b [B, T, D] and the log-variances of every label's noise by level, of (z, c).

    Every hour of the week has a state of its own; the temperature of the day before it and functions of (z, the days'
    temperatures), common to the week, are added to that, and pass through the same layers everywhere.

    The posterior of w and the decoder ask for the same z in turn, so the last answer is kept until z, c or a parameter
    is another.
    """

    def __init__(
        self, length: int, classes: int, w_dim: int, z_dim: int, pyramid: Pyramid, residuals: int, degrees: Degrees
    ) -> None:
        super().__init__()
        self.classes, self.w_dim, self.pyramid, self.degrees = classes, w_dim, pyramid, degrees
        self.common = nn.Sequential(nn.Linear(z_dim + 7, 64), nn.ELU(), Residual(64), nn.ELU(), nn.Linear(64, COMMON))
        self.weather = nn.Conv1d(1, FILTERS, MEMORY)
        self.time = nn.Parameter(0.5 * torch.randn(HOURS, TIME_WIDTH))
        self.mix = nn.Linear(FILTERS + COMMON, TIME_WIDTH)
        self.layers = nn.Sequential(*(m for _ in range(residuals) for m in (Residual(TIME_WIDTH), nn.ELU())))
        self.out = nn.Linear(TIME_WIDTH, length // HOURS * (2 * classes + w_dim))
        start_constant(self.out)
        self.mean = nn.Parameter(torch.full((length, classes), 0.5))
        self.of_common = nn.Parameter(torch.zeros(COMMON, length, classes))
        self.factors = nn.Parameter(0.05 * torch.randn(length, w_dim))
        self.noise = nn.ParameterList(
            torch.full((math.prod(shape), classes), 2 * math.log(START_NOISE)) for shape in pyramid.shapes
        )
        self._last: tuple[Any, ...] = (None, None)

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        asked = (z, context, torch.is_grad_enabled(), *(parameter._version for parameter in self.parameters()))
        known, answer = self._last
        if known is None or any(a is not b for a, b in zip(known[:2], asked[:2])) or known[2:] != asked[2:]:
            answer = self._computed(z, context)
            self._last = (asked, answer)
        return answer

    def _computed(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        degrees = self.degrees(context)
        common = self.common(torch.cat([z, by_day(degrees)], dim=-1))
        before = F.pad(degrees[:, None], (MEMORY - 1, 0), mode="replicate")
        felt = self.weather(before).transpose(1, 2)
        weight = self.mix.weight
        state = F.linear(felt, weight[:, :FILTERS], self.mix.bias) + F.linear(common, weight[:, FILTERS:])[:, None]
        out = self.out(self.layers(F.elu(state + self.time)))
        # each hour's state tells of the half hours within it
        out = out.unflatten(2, (-1, 2 * self.classes + self.w_dim)).flatten(1, 2)
        a, b, loud = out.split([self.classes, self.w_dim, self.classes], dim=-1)
        a = a + self.mean + (common @ self.of_common.flatten(1)).view_as(a)
        noise = [table + loud.unflatten(1, (len(table), -1)).mean(2) for table in self.noise]
        return a, b + self.factors, noise


class Observation(nn.Module):
    """p(x | z, w~, c), see the module's text.

    Args (forward): w~ [B, C + D] with the labels' counts first, z [B, Z], c [B, 168].
    Returns a HierarchicalObservation of [B, T].
    """

    def __init__(self, coefficients: Coefficients, floor: float) -> None:
        super().__init__()
        self.coefficients, self.floor = coefficients, floor

    def forward(self, w_sum: Tensor, z: Tensor, context: Tensor) -> HierarchicalObservation:
        a, b, noise = self.coefficients(z, context)
        classes = self.coefficients.classes
        counts, w = w_sum[:, :classes], w_sum[:, classes:]
        mean = torch.einsum("btc,bc->bt", a, counts) + torch.einsum("btd,bd->bt", b, w)
        return HierarchicalObservation(self.coefficients.pyramid, mean, self.logvars(noise, counts))

    def logvars(self, noise: list[Tensor], counts: Tensor) -> list[Tensor]:
        """Log-variances of every level: those of the households add up, floor^2 each at least."""
        least = self.floor**2
        pyramid = self.coefficients.pyramid
        counts = counts.clone()
        counts[:, 0] = torch.where(counts.sum(-1) > 0, counts[:, 0], 1.0)
        total = [((of_label.exp() + least) @ counts[..., None]).squeeze(-1).log() for of_label in noise]
        return [value.unflatten(1, shape) for value, shape in zip(total, pyramid.shapes)]


class PosteriorW(nn.Module):
    """q({w_i} | x, c, z, {l_i}): the prior conditioned on what x tells of w~ in the linear model.

    With G = b in the noise's coordinates (``Pyramid.split``), W its inverse variances and V the prior variances of w~,
    w~ has the posterior precision 1/V + G' W G, whose mean is taken exactly and whose diagonal gives the deviations:
    the best of all Gaussians that are independent over coordinates.
    """

    sees_z = True

    def __init__(self, observation: Observation) -> None:
        super().__init__()
        self._observation = (observation,)

    def forward(
        self, features: Tensor, z: Tensor, given: Given, prior: tuple[Tensor, Tensor], seed: int | Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """mu, logvar and logits of q, each [B, K, D] or [N, D]."""
        (observation,) = self._observation
        of = observation.coefficients
        m, logvar = prior
        sets, pyramid = given.sets, of.pyramid
        counts = label_counts(given.labels, sets, of.classes).to(m.dtype)
        centre, variance = sets.sum(m), sets.sum(logvar.exp()).clamp(min=1e-30)
        a, b, noise = of(z, given.context)
        x = features[:, -pyramid.values :]
        off = x - torch.einsum("btc,bc->bt", a, counts) - torch.einsum("btd,bd->bt", b, centre)
        split = torch.cat([b, off[..., None]], dim=-1).transpose(1, 2)
        levels = torch.cat([level.flatten(2) for level in pyramid.split(split)], dim=-1)
        logvars = torch.cat([level.flatten(1) for level in observation.logvars(noise, counts)], dim=-1)
        # in units of the prior deviation of w~: u = (w~ - centre) / sqrt(V)
        scale = variance.sqrt()
        told = levels * (-0.5 * logvars).exp()[:, None]
        g, y = told[:, :-1] * scale[..., None], told[:, -1:]
        gram = g @ g.transpose(1, 2)
        unit = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        u = torch.linalg.solve(gram + unit, (g @ y.transpose(1, 2)).squeeze(-1))
        shift = scale * u
        known = gram.diagonal(dim1=1, dim2=2).clamp(min=1e-12).log()
        # as in compact.PosteriorW, with V / t^2 the diagonal of the gram matrix
        logit = torch.log(torch.expm1(0.5 * F.softplus(known)))
        share = logvar - sets.to_parts(variance.log())
        mu = m + share.exp() * sets.to_parts(shift)
        return mu, logvar, share + sets.to_parts(logit)


def build(config: CompVAEConfig) -> Networks:
    """The networks of a configuration of kind "neighbourhood", for half-hourly weeks under hourly temperatures."""
    c, asked = config, problem(config.problem)
    if len(asked.shape) != 1 or asked.context != HOURS or asked.shape[0] != 336 or not asked.grows_with_parts:
        raise ValueError(f"network: 'neighbourhood' is for weeks under temperatures, got the problem {c.problem!r}")
    if c.coupling != "scaled":
        raise ValueError(f"coupling: expected 'scaled' for the network 'neighbourhood', got {c.coupling!r}")
    (length,) = asked.shape
    pyramid = Pyramid((length,), c.levels)
    degrees = Degrees(c.hidden_context)
    coefficients = Coefficients(length, c.num_labels, c.w_dim, c.z_dim, pyramid, c.residuals, degrees)
    observation = Observation(coefficients, c.observation_floor)
    return Networks(
        prior_w=GaussianTable(c.num_labels, c.w_dim, c.sigma_min),
        features=Features(length, asked.context, c.num_labels, c.hidden, 3, degrees),
        posterior_z=PosteriorZ(c.hidden, c.z_dim, c.sigma_min),
        posterior_w=PosteriorW(observation),
        prior_z=PriorZ(c.num_labels, c.w_dim, c.z_dim, c.hidden, c.sigma_min, degrees),
        observation=observation,
        known=OwnLabel(c.num_labels),
    )
