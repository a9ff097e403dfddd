"""p(x | z, w~) scale by scale, and the variance of observation noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .drawing import row_normals
from .gaussian import bounded_logvar
from .observation import Observation
from .pyramid import Pyramid

Correction = Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]


class HierarchicalObservation(Observation):
    """A small, smooth version of x, then corrections to its upscaled versions, each with noise of its own.

        x_0 = m_0 + s_0 eps_0
        x_i = up(x_{i-1}) + Q e_i,  e_i = m_i + f_i(x_{i-1}) + s_i(x_{i-1}) eps_i,  i = 1..N

    m_0, m_1, .. are those of the mean curve (``Pyramid.split``), so that without f the mean of x is that curve, and
    what x_0 has beyond its mean is carried up smoothly: noise of all scales instead of independent values.

    What ``nll`` gives is the density of x itself. x_{i-1} is a function of x_i, its blocks' means, and a correction
    e_i has only the values that these leave open, so (x_0, e_1, .., e_N) are as many numbers as x, and
    log p(x) = sum of Gaussian log-densities - log |det| of that bijection. (The thesis gives x_i a Gaussian in all its
    values beside that of x_{i-1}: a density of pairs, most of which belong to no curve.)

    Args:
        pyramid: how x is taken apart.
        mean: [B, *, *size], the mean curve.
        logvars: of x_0, e_1, .., e_N, broadcast to [B, *, *shape] of ``pyramid.shapes``; None where f_i gives it.
        corrections: f_1, .., f_N, each from x_{i-1} [B, *, *side] to the shape of e_i, or to that and the
            log-variance of e_i; or None for zeros.

    Source: thesis eqs. 6.3 and 6.4, section 9.3.3.

    >>> seen = HierarchicalObservation(Pyramid((4,), 1), torch.zeros(2, 4), [torch.zeros(()), torch.zeros(())])
    >>> seen.nll(torch.zeros(2, 4)).shape, seen.draw(0).shape
    (torch.Size([2]), torch.Size([2, 4]))
    """

    def __init__(
        self,
        pyramid: Pyramid,
        mean: Tensor,
        logvars: Sequence[Tensor | None],
        corrections: Sequence[Correction] | None = None,
    ) -> None:
        depth = pyramid.depth
        for name, given, count in (("logvars", logvars, depth + 1), ("corrections", corrections, depth)):
            if given is not None and len(given) != count:
                raise ValueError(f"{name}: expected {count} for depth {depth}, got {len(given)}")
        if mean.shape[-len(pyramid.size) :] != pyramid.size:
            raise ValueError(f"mean: expected [B, .., {', '.join(map(str, pyramid.size))}], got {list(mean.shape)}")
        self.pyramid, self.corrections = pyramid, corrections
        self.means = pyramid.split(mean)
        self.logvars = [None if v is None else v.expand_as(level) for v, level in zip(logvars, self.means)]

    @property
    def mean(self) -> Tensor:
        """The whole without noise: the mean, but where corrections f are nonlinear."""
        return self._path(None)[0]

    @property
    def stddev(self) -> Tensor:
        """Deviations of the single values; where there are corrections, those around the whole without noise."""
        dims = len(self.pyramid.size)
        first, *others = self._path(None)[1]
        variance = torch.cat([first.flatten(-dims), *(v.flatten(-dims - 1) for v in others)], -1).exp()
        marginal = variance @ self.pyramid.matrix(variance).square().T
        return marginal.sqrt().unflatten(-1, self.pyramid.size)

    def nll(self, x: Tensor) -> Tensor:
        """-log p(x | z, w~) of wholes [B, ...] like the mean: [B], nats."""
        return torch.stack(self.nll_by_level(x)).sum(0)

    def nll_by_level(self, x: Tensor) -> list[Tensor]:
        """``nll`` as a sum: -log p(x_0), -log p(x_1 | x_0), .., the change of variables counted in each."""
        if x.shape[1:] != self._shape():
            raise ValueError(f"x: expected [B, {', '.join(map(str, self._shape()))}], got {list(x.shape)}")
        total = []
        below = None
        for level, value in enumerate(self.pyramid.split(x)):
            mu, logvar = self._at(level, below)
            terms = 0.5 * ((value - mu).square() * (-logvar).exp() + logvar + math.log(2 * math.pi))
            here = terms.flatten(1).sum(1)
            if below is not None:
                # the block's means take sqrt(2^dims) of the volume
                here = here + 0.5 * len(self.pyramid.size) * math.log(2) * below[0].numel()
            total.append(here)
            below = value if below is None else self.pyramid.up(below) + self.pyramid.fine(value)
        return total

    def draw(self, seed: int | Tensor, rows: Tensor | None = None) -> Tensor:
        first = self.means[0]
        if rows is None:
            rows = torch.arange(len(first), device=first.device)
        sizes = [level[0].numel() for level in self.means]
        noise = row_normals(seed, rows, sum(sizes)).split(sizes, dim=1)
        return self._path([n.view_as(level) for n, level in zip(noise, self.means)])[0]

    def given(self, coarse: Tensor) -> Tensor:
        """The mean of x whose smaller version x_i is ``coarse`` [B, *, *side] of any level i (thesis fig. 9.13 b)."""
        side = coarse.shape[-len(self.pyramid.size) :]
        if side not in self.pyramid.sizes:
            raise ValueError(f"coarse: expected sides of {self.pyramid.sizes}, got {list(coarse.shape)}")
        x = coarse
        for level in range(self.pyramid.sizes.index(side) + 1, self.pyramid.depth + 1):
            x = self.pyramid.up(x) + self.pyramid.fine(self._at(level, x)[0])
        return x

    def _path(self, noise: Sequence[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
        """The whole of standard normals for every level, or of none, and the log-variances on the way."""
        x: Tensor | None = None
        logvars = []
        for level in range(self.pyramid.depth + 1):
            value, logvar = self._at(level, x)
            if noise is not None:
                value = value + (0.5 * logvar).exp() * noise[level]
            x = value if x is None else self.pyramid.up(x) + self.pyramid.fine(value)
            logvars.append(logvar)
        assert x is not None
        return x, logvars

    def _at(self, level: int, below: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of x_0, or of e_i given x_{i-1}."""
        mu, logvar = self.means[level], self.logvars[level]
        if self.corrections is not None and below is not None:
            answer = self.corrections[level - 1](below)
            shift, logvar = answer if isinstance(answer, tuple) else (answer, logvar)
            mu = mu + shift
        if logvar is None:
            raise ValueError(f"logvars: expected one for level {level}, whose correction gives none")
        return mu, logvar

    def _shape(self) -> tuple[int, ...]:
        lead = self.means[0].shape[1 : self.means[0].dim() - len(self.pyramid.size)]
        return (*lead, *self.pyramid.size)


class NoiseVariance(nn.Module):
    """A learned log-variance, bounded below: one for all values, one for each, or one that the latents tell.

    Args:
        kind: "global", "dimension" or "latent".
        shape: of a whole, without the batch.
        sigma_min: smallest standard deviation.
        start: initial standard deviation, of the order of the data's own (thesis 7.3: noise that falls anneals).
        latent: width of what a "latent" variance is a (linear) function of.

    Returns (forward): log-variances that broadcast to [B, *shape]. Source: thesis 7.1, 7.2 and eq. 7.4.
    """

    def __init__(
        self, kind: str, shape: tuple[int, ...], *, sigma_min: float, start: float = 1.0, latent: int = 0
    ) -> None:
        super().__init__()
        if kind not in ("global", "dimension", "latent"):
            raise ValueError(f"kind: expected 'global', 'dimension' or 'latent', got {kind!r}")
        if (kind == "latent") != (latent > 0):
            raise ValueError(f"latent: expected a width for kind 'latent' alone, got {latent} for {kind!r}")
        self.shape, self.sigma_min = tuple(shape), sigma_min
        own = () if kind == "global" else self.shape
        self.logvar = nn.Parameter(torch.full(own, 2 * math.log(start)))
        self.of_latents = nn.Linear(latent, math.prod(shape), bias=False) if latent else None
        if self.of_latents is not None:
            nn.init.zeros_(self.of_latents.weight)

    def forward(self, latents: Tensor | None = None) -> Tensor:
        value = self.logvar
        if self.of_latents is not None:
            if latents is None:
                raise ValueError("latents: expected [B, latent] for a variance of kind 'latent', got None")
            value = value + self.of_latents(latents).unflatten(1, self.shape)
        return bounded_logvar(value, self.sigma_min)


def optimal_logvar(errors: Tensor, *, sigma_min: float, by_dimension: bool = False) -> Tensor:
    """The log-variance under which Gaussian errors are most likely: that of their mean square.

        sigma^2 = mean of squared errors, never below sigma_min^2

    Args:
        errors: [B, ...], x minus its predicted mean.
        sigma_min: smallest standard deviation.
        by_dimension: one variance for each value instead of one for all.

    Returns:
        0-d, or [...] with ``by_dimension``; differentiable. Source: thesis eq. 7.3.

    >>> optimal_logvar(torch.tensor([[3.0], [4.0]]), sigma_min=0.1).exp()
    tensor(12.5000)
    """
    if errors.dim() < 2 or not len(errors):
        raise ValueError(f"errors: expected [B, ...] of at least one row, got {list(errors.shape)}")
    square = errors.square().mean(0)
    square = square if by_dimension else square.mean()
    return F.threshold(square, sigma_min**2, sigma_min**2).log()
