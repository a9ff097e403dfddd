"""Slips of the source documents: each printed formula disagrees with the explicit covariance, and ours does not."""

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from compvae_fast import reference
from compvae_fast.reference import correlated

from . import explicit
from .cases import linear_map

K = 4
LOGVAR = torch.tensor([0.3, -0.9, 1.1, -0.2], dtype=torch.float64)
EQUAL = torch.full((K,), 0.4, dtype=torch.float64)
LOGITS = torch.tensor([0.5, -0.7, 0.1, 1.3], dtype=torch.float64)
RHO = explicit.rho(LOGITS)


def covariance(coupling, logvar, logits):
    return explicit.normal(coupling, logvar, logvar, logits).covariance_matrix


def our_covariance(coupling, logvar, logits):
    a = linear_map(correlated.part_noise, coupling, logvar, logits)
    return a @ a.T


def off_by_a_percent(printed, truth):
    return bool(((printed - truth).abs() > 0.01 * truth.abs()).any())


@pytest.mark.parametrize("logvar", [LOGVAR, EQUAL], ids=["unequal", "equal"])
def test_paper_equation_7_lost_the_square(logvar):
    """Printed: Var(w~) = (sum sigma^2) (1 - sum rho)."""
    truth = covariance("unit", logvar, LOGITS).sum()
    left = 1 - RHO.sum()
    assert off_by_a_percent(logvar.exp().sum() * left, truth)
    squared = logvar.exp().sum() * left.square()
    if logvar is EQUAL:
        torch.testing.assert_close(squared, truth)
    else:
        assert off_by_a_percent(squared, truth)  # even squared it holds for equal scales only
    ours = linear_map(correlated.sum_noise, "unit", logvar, LOGITS).square().sum()
    torch.testing.assert_close(ours, truth)


def test_paper_equation_9_lost_a_half_and_a_constant():
    """Printed: the trace term without its 1/2, and no -K/2."""
    mu_q, mu_p, logvar_p = torch.tensor(
        [[0.2, 1.0, -0.4, 0.0], [0.1, -0.3, 0.6, 0.9], [0.5, 0.0, -0.6, 1.0]], dtype=torch.float64
    )
    trace = (1 - 2 * RHO + K * RHO.square()) * torch.exp(LOGVAR - logvar_p)
    others = (logvar_p - LOGVAR + (mu_q - mu_p).square() * torch.exp(-logvar_p)).sum() / 2
    log_left = torch.log(1 - RHO.sum())
    truth = kl_divergence(
        explicit.normal("unit", mu_q, LOGVAR, LOGITS), MultivariateNormal(mu_p, torch.diag(torch.exp(logvar_p)))
    )
    assert off_by_a_percent(others + trace.sum() - log_left, truth)
    torch.testing.assert_close(others + trace.sum() / 2 - K / 2 - log_left, truth)
    columns = (v[None, :, None] for v in (mu_q, LOGVAR, LOGITS, mu_p, logvar_p))
    torch.testing.assert_close(reference.multiset_kl(*columns, coupling="unit")[0], truth)


def test_thesis_equation_9_7_mixed_up_an_index():
    """Printed: Var(W_i) = (1 - rho_i)^2 sigma_i^2 + sum_{j != i} rho_j^2 sigma_j^2, where rho_i^2 is meant."""
    truth = covariance("scaled", LOGVAR, LOGITS).diag()
    variance = LOGVAR.exp()
    own = (1 - RHO).square() * variance
    weighted = RHO.square() * variance
    assert off_by_a_percent(own + weighted.sum() - weighted, truth)
    torch.testing.assert_close(own + RHO.square() * (variance.sum() - variance), truth)
    torch.testing.assert_close(our_covariance("scaled", LOGVAR, LOGITS).diag(), truth)


def test_thesis_text_under_9_8_wrote_one_over_n():
    """Printed, for rho = 1/N: Var(W_i) = (1 - 2/N) sigma_i^2 + 1/N sum sigma^2, where 1/N^2 is meant."""
    logits = torch.full((K,), 40.0, dtype=torch.float64)  # rho = 1/N to 1e-18
    a = explicit.matrix("scaled", LOGVAR, logits)  # of rank K - 1 to rounding: MultivariateNormal may refuse it
    truth = (a @ a.mT).diag()
    variance = LOGVAR.exp()
    assert off_by_a_percent((1 - 2 / K) * variance + variance.sum() / K, truth)
    torch.testing.assert_close((1 - 2 / K) * variance + variance.sum() / K**2, truth)
    torch.testing.assert_close(our_covariance("scaled", LOGVAR, logits).diag(), truth)
