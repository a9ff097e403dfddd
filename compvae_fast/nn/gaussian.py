"""Networks' outputs as Gaussians: variances bounded below, and how a head starts."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def bounded_logvar(value: Tensor, sigma_min: float) -> Tensor:
    """Log-variance that is the identity well above, and never falls below, 2 log sigma_min.

        lv = ELU(v - c - 1) + 1 + c,  c = 2 log sigma_min

    Args:
        value: unbounded network output, any shape.
        sigma_min: smallest standard deviation, > 0.

    Source: paper section 3.3 (lower-bounded variances).

    >>> bounded_logvar(torch.tensor([-100.0, 3.0]), 0.1)
    tensor([-4.6052,  3.0000])
    """
    floor = 2 * math.log(sigma_min)
    return F.elu(value - floor - 1) + 1 + floor


def start_constant(layer: nn.Linear | nn.Conv1d | nn.Conv2d, bias: Tensor | float = 0.0) -> None:
    """Zero weights and a given bias: the network starts by giving the same output for all inputs.

    Source: thesis 4.2.4, initialisation of the layers that give distributions.
    """
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias.copy_(torch.as_tensor(bias, dtype=layer.bias.dtype).expand_as(layer.bias))


class GaussianTable(nn.Module):
    """p(w|l): one learned diagonal Gaussian per label.

    Args:
        classes: C, the number of labels.
        features: D.
        sigma_min: smallest standard deviation.
        logvar: initial unbounded log-variances, [C, D] or broadcast to it.

    Returns (forward): mu and logvar of parts with the given labels, counted from 0, [..., D]. Source: paper A.1.1.
    """

    def __init__(self, classes: int, features: int, sigma_min: float, logvar: Tensor | float = 0.0) -> None:
        super().__init__()
        self.sigma_min = sigma_min
        self.mu = nn.Parameter(torch.zeros(classes, features))
        start = torch.as_tensor(logvar, dtype=self.mu.dtype).expand(classes, features)
        self.logvar = nn.Parameter(start.clone())

    def table(self) -> tuple[Tensor, Tensor]:
        """mu and logvar of every label, [C, D]."""
        return self.mu, bounded_logvar(self.logvar, self.sigma_min)

    def forward(self, labels: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mu, logvar = self.table()
        return F.embedding(labels, mu), F.embedding(labels, logvar)


class GaussianHead(nn.Module):
    """Last layer of a network that gives a Gaussian: linear, split in (mu, logvar), bounded below.

    Starts as N(0, 1) for every input. Shapes: [..., N] -> two of [..., M].
    """

    def __init__(self, features: int, out: int, sigma_min: float) -> None:
        super().__init__()
        self.sigma_min = sigma_min
        self.linear = nn.Linear(features, 2 * out)
        start_constant(self.linear)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = self.linear(h).chunk(2, dim=-1)
        return mu, bounded_logvar(logvar, self.sigma_min)
