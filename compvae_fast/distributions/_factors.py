"""The correlated Gaussian as mu + M eps, coordinate by coordinate: M, its moments and those of the sum of the parts.

With P = I - rho 1^T and S = diag(sigma), M = S P in the "unit" coupling and P S in the "scaled" one. Everything is in
float64, tensors of parts are [B, K, D] in a Layout's padded form, and what cancels where rho comes near 1 is formed
from 1 - rho, which `rho_of` has to its last digit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from compvae_fast.reference.correlated import Rho, mix, rho_of
from compvae_fast.reference.layout import Layout


@dataclass(frozen=True)
class Factors:
    """What the moments are made of."""

    coupling: str
    layout: Layout
    mu: Tensor  # [B, K, D]
    log_sigma: Tensor  # [B, K, D]
    logits: Tensor  # [B, K, D]
    rho: Rho

    @staticmethod
    def of(loc: Tensor, scale: Tensor, rho_logits: Tensor, coupling: str) -> Factors:
        """From [B, K, D] parameters of any float dtype."""
        layout = Layout.of(loc)
        mu, log_sigma, logits = (layout.padded(x) for x in (loc.double(), scale.double().log(), rho_logits.double()))
        return Factors(coupling, layout, mu, log_sigma, logits, rho_of(layout, logits))

    @property
    def sigma(self) -> Tensor:
        return self.log_sigma.exp()

    def variance(self) -> Tensor:
        """The diagonal of M M^T, [B, K, D]."""
        rho, variance = self.rho, (2 * self.log_sigma).exp()
        if self.coupling == "unit":
            return variance * (rho.complement.square() + (self.layout.count - 1) * rho.value.square())
        everyone = self.layout.expand(self.layout.sum(variance))
        others = self.layout.expand(self.layout.sum(torch.where(rho.top, 0, variance)))
        own = torch.where(rho.top, rho.complement.square(), 1 - 2 * rho.value)
        return own * variance + rho.value.square() * torch.where(rho.top, others, everyone)

    def matrix(self) -> Tensor:
        """M, [B, D, K, K]."""
        if self.coupling == "unit":
            return _columns(self.sigma)[..., None] * subtraction(self.rho)
        return subtraction(self.rho) * _columns(self.sigma)[..., None, :]

    def apply(self, eps: Tensor) -> Tensor:
        """M eps, [B, K, D]."""
        if self.coupling == "unit":
            return self.sigma * mix(self.layout, self.rho, eps)
        return mix(self.layout, self.rho, self.sigma * eps)

    def sum_direction(self) -> tuple[Tensor, Tensor]:
        """The standard deviation of the sum of the parts, [B, D], and the unit vector M^T 1 / |M^T 1|, [B, K, D].

        The sum is 1^T M eps. scaled: M^T 1 = exp(-L) sigma. unit: sigma_k - sum_i sigma_i rho_i, which is
        d_k + sigma_m exp(-L) - sum_i rho_i d_i with d_k = sigma_k - sigma_m and m the part of the largest logit.
        """
        layout, rho = self.layout, self.rho
        # in units of the largest sigma, so that squares neither overflow nor vanish
        peak = torch.where(layout.mask, self.log_sigma.detach(), -torch.inf).amax(1)
        peak = torch.where(peak == -torch.inf, 0, peak)
        logs = self.log_sigma - layout.expand(peak)
        if self.coupling == "unit":
            log_top = layout.sum(torch.where(rho.top, logs, 0))
            excess = torch.exp(layout.expand(log_top)) * torch.expm1(logs - layout.expand(log_top))
            common = torch.exp(log_top - rho.log_total) - layout.sum(rho.value * excess)
            vector, shrink = excess + layout.expand(common), peak
        else:
            vector, shrink = torch.exp(logs), peak - rho.log_total
        square = layout.sum(vector.square())
        positive = square > 0
        norm = torch.where(positive, square, 1).sqrt()
        return torch.where(positive, norm * torch.exp(shrink), 0), vector / layout.expand(norm)

    def sum_mean(self) -> Tensor:
        """[B, D]."""
        return self.layout.sum(self.mu)

    def shares(self) -> Rho:
        """The parts' shares of the sum of variances, pi_i = sigma_i^2 / sum_k sigma_k^2; log_total is its log."""
        layout = self.layout
        logs = torch.where(layout.mask, 2 * self.log_sigma, -torch.inf)
        best = logs.detach().argmax(1, keepdim=True)
        top = torch.zeros_like(logs, dtype=torch.bool).scatter_(1, best, True)
        peak = torch.where(layout.mask, logs, 0).detach().gather(1, best)[:, 0]
        terms = torch.exp(logs - layout.expand(peak))
        others = layout.sum(torch.where(top, 0, terms))
        total = others + layout.sum(torch.where(top, terms, 0))
        total = torch.where(total > 0, total, 1)  # an empty set
        value = terms / layout.expand(total)
        return Rho(value, torch.where(top, layout.expand(others / total), 1 - value), peak + total.log(), top)


def subtraction(rho: Rho) -> Tensor:
    """I - rho 1^T, [B, D, K, K]."""
    value, complement = _columns(rho.value), _columns(rho.complement)
    own = torch.eye(value.shape[-1], dtype=torch.bool, device=value.device)
    return torch.where(own, complement[..., None], -value[..., None])


def _columns(x: Tensor) -> Tensor:
    """[B, K, D] as [B, D, K]."""
    return x.transpose(-1, -2)
