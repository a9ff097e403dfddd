"""The parts' prior conditioned on their sum, as a posterior of the "scaled" coupling.

Given w~ the parts of a diagonal prior N(m_i, s_i^2) are known by Matheron's rule. If something tells w~ = y with
standard deviation t, coordinate by coordinate, then with M = sum m_i, V = sum s_i^2

    mu_i = m_i + s_i^2/V * V/(V + t^2) (y - M),   sigma_i = s_i,
    nu_i = log(s_i^2/V) + log(sqrt(1 + V/t^2) - 1),

so that the standard deviation of w~ is sqrt(V) t / sqrt(V + t^2).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .sets import Sets


def sum_of_prior(prior: tuple[Tensor, Tensor], sets: Sets) -> tuple[Tensor, Tensor]:
    """M and log V of each set, [B, D]; prior is (m, log s^2) of the parts, [B, K, D] or [N, D]."""
    m, logvar = prior
    return sets.sum(m), torch.log(sets.sum(logvar.exp()).clamp(min=1e-30))


def conditioned_on_sum(
    prior: tuple[Tensor, Tensor], sets: Sets, log_v: Tensor, known: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """mu, logvar and logits of the parts, like the prior.

    Args:
        prior, sets: as ``sum_of_prior`` takes them, which gives log_v.
        known: log(V / t^2), [B, D], how well the sum is known.
        shift: the mean of w~ less M, which is V / (V + t^2) (y - M), [B, D].
    """
    m, logvar = prior
    logit = torch.log(torch.expm1(0.5 * F.softplus(known)))
    share = logvar - sets.to_parts(log_v)
    mu = m + share.exp() * sets.to_parts(shift)
    return mu, logvar, share + sets.to_parts(logit)
