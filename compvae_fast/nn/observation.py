"""p(x | z, w~) as an object: its likelihood, its moments and draws from it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import ops
from .drawing import gaussian_rows, row_normals


class Observation:
    """The distribution of wholes given their latents; what a model's ``observation`` network returns."""

    @property
    def mean(self) -> Tensor:
        """[B, ...], like x."""
        raise NotImplementedError

    @property
    def stddev(self) -> Tensor:
        """[B, ...], like x."""
        raise NotImplementedError

    def nll(self, x: Tensor) -> Tensor:
        """-log p(x | z, w~) of wholes [B, ...], summed over all but the first dimension: [B], nats."""
        raise NotImplementedError

    def draw(self, seed: int | Tensor, rows: Tensor | None = None) -> Tensor:
        """One whole of each row, [B, ...].

        Args:
            seed: one seed, or seeds [B].
            rows: [B] int64, each row's index in the noise; default 0, 1, ...
        """
        raise NotImplementedError

    def distribution(self) -> Any:
        """What ``CompVAE.decode`` gives: torch's distribution where there is one, else this object."""
        return self


class GaussianObservation(Observation):
    """Independent Gaussians.

    Args:
        mu: [B, ...], like x.
        logvar: like mu, or broadcast to it (one variance per pixel for its colours).

    Source: paper section 3.1.
    """

    def __init__(self, mu: Tensor, logvar: Tensor) -> None:
        self.mu, self.logvar = mu, logvar

    @property
    def mean(self) -> Tensor:
        return self.mu

    @property
    def stddev(self) -> Tensor:
        return (0.5 * self.logvar).exp().expand_as(self.mu)

    def nll(self, x: Tensor) -> Tensor:
        return ops.gaussian_nll(x, self.mu, self.logvar)

    def draw(self, seed: int | Tensor, rows: Tensor | None = None) -> Tensor:
        return gaussian_rows(self.mu, self.logvar, seed, rows)

    def distribution(self) -> torch.distributions.Normal:
        return torch.distributions.Normal(self.mu, self.stddev)


class LogisticObservation(Observation):
    """Discretized logistics: values in {0..255}/255 are the bins of a logistic distribution.

        P(x) = F(x + 1/510) - F(x - 1/510), F(v) = sigmoid((v - mu) exp(-log_scale)), tails open at 0 and 1

    Other values have the probability of the bin they lie in.

    Args:
        mu: [B, ...], like x.
        log_scale: like mu, or broadcast to it.

    ``mean`` and ``stddev`` are those of the bins. Source: Salimans et al., "PixelCNN++", 2017; thesis 5.2.2.

    >>> sharp = LogisticObservation(torch.full((1, 2), 0.5), torch.tensor(-9.0))
    >>> (sharp.draw(0) * 255).tolist()
    [[128.0, 127.0]]
    """

    def __init__(self, mu: Tensor, log_scale: Tensor) -> None:
        self.mu, self.log_scale = mu, log_scale

    # With S(v) = 1 - F(v) at the 255 edges between bins, the value m / 255 has moments
    # E m = sum_j S(edge_j) and E m^2 = sum_j (2 j + 1) S(edge_j), j = 0..254.
    def _moments(self) -> tuple[Tensor, Tensor]:
        rate = (-self.log_scale).exp()
        first, second = torch.zeros_like(self.mu), torch.zeros_like(self.mu)
        for j in range(255):
            above = torch.sigmoid((self.mu - (j + 0.5) / 255) * rate)
            first = first + above
            second = second + (2 * j + 1) * above
        return first / 255, second / 255**2

    @property
    def mean(self) -> Tensor:
        return self._moments()[0]

    @property
    def stddev(self) -> Tensor:
        first, second = self._moments()
        return (second - first.square()).clamp(min=0).sqrt()

    def nll(self, x: Tensor) -> Tensor:
        return ops.discretized_logistic_nll((x * 255).round() / 255, self.mu, self.log_scale)

    def draw(self, seed: int | Tensor, rows: Tensor | None = None) -> Tensor:
        """One whole of each row, by the inverse of the logistic distribution function at Phi of a normal."""
        if rows is None:
            rows = torch.arange(len(self.mu), device=self.mu.device)
        noise = row_normals(seed, rows, math.prod(self.mu.shape[1:])).view_as(self.mu)
        logistic = torch.special.log_ndtr(noise) - torch.special.log_ndtr(-noise)
        value = self.mu + self.log_scale.exp() * logistic
        return (value * 255).round().clamp(0, 255) / 255
