"""The closed forms of the correlated Gaussian against explicit K x K covariances."""

import math

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from compvae_fast import reference
from compvae_fast.reference import correlated, noise

from . import explicit
from .cases import linear_map

B, K, D = 3, 5, 4
SEED = torch.tensor(11)


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    mu, logvar, logits, mu_p, logvar_p = torch.randn(5, B, K, D, dtype=torch.float64, generator=generator)
    return mu, logvar, 2 * logits, mu_p, logvar_p


def by_coordinate(x):
    """[B, K, D] as [B, D, K]: one multivariate normal over the parts for each coordinate."""
    return x.transpose(1, 2)


@pytest.mark.parametrize("coupling", explicit.COUPLINGS)
@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_the_sampling_matrix_is_the_explicit_one(coupling, parts):
    generator = torch.Generator().manual_seed(parts)
    logvar, logits = 2 * torch.randn(2, parts, dtype=torch.float64, generator=generator)
    a = explicit.matrix(coupling, logvar, logits)
    torch.testing.assert_close(linear_map(correlated.part_noise, coupling, logvar, logits), a, rtol=1e-12, atol=1e-14)
    total = linear_map(correlated.sum_noise, coupling, logvar, logits)
    torch.testing.assert_close(total, a.sum(0), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("coupling", explicit.COUPLINGS)
def test_covariance_formulas(coupling):
    """The entries written out, against the product of the sampling matrix with its transpose."""
    generator = torch.Generator().manual_seed(3)
    logvar, logits = torch.randn(2, K, dtype=torch.float64, generator=generator)
    a = linear_map(correlated.part_noise, coupling, logvar, logits)
    sigma, rho = torch.exp(logvar / 2), explicit.rho(logits)
    eye = torch.eye(K, dtype=torch.float64)
    ri, rj = rho[:, None], rho[None]
    if coupling == "unit":
        written = sigma[:, None] * sigma * (eye - ri - rj + K * ri * rj)
    else:
        variance = sigma.square()
        written = eye * variance - rj * variance[:, None] - ri * variance + ri * rj * variance.sum()
    torch.testing.assert_close(a @ a.T, written, rtol=1e-12, atol=1e-14)
    half_log_det = torch.logdet(a @ a.T) / 2
    total = torch.logsumexp(torch.cat([logits, torch.zeros(1, dtype=torch.float64)]), 0)
    torch.testing.assert_close(half_log_det, torch.log(sigma).sum() - total, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("coupling", explicit.COUPLINGS)
def test_variance_of_the_sum(coupling):
    generator = torch.Generator().manual_seed(4)
    logvar, logits = torch.randn(2, K, dtype=torch.float64, generator=generator)
    sigma, rho = torch.exp(logvar / 2), explicit.rho(logits)
    variance = linear_map(correlated.sum_noise, coupling, logvar, logits).square().sum()
    if coupling == "scaled":
        expected = (1 - rho.sum()).square() * sigma.square().sum()
    else:
        expected = (sigma - (sigma * rho).sum()).square().sum()
    torch.testing.assert_close(variance, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(variance, explicit.normal(coupling, logvar, logvar, logits).covariance_matrix.sum())


@pytest.mark.parametrize("coupling", explicit.COUPLINGS)
def test_log_prob(coupling, inputs):
    mu, logvar, logits, w, _ = inputs
    judge = explicit.normal(coupling, *map(by_coordinate, (mu, logvar, logits)))
    found = reference.correlated_normal_log_prob(w, mu, logvar, logits, coupling=coupling)
    torch.testing.assert_close(found, judge.log_prob(by_coordinate(w)).sum(-1), rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("coupling", explicit.COUPLINGS)
def test_rsample_inverts_and_knows_its_density(coupling, inputs):
    mu, logvar, logits, _, _ = inputs
    w, log_q = reference.correlated_normal_rsample(
        mu, logvar, logits, coupling=coupling, seed=SEED, with_log_prob=True
    )
    eps = noise.set_normals64(SEED, (B, K, D))
    a = explicit.matrix(coupling, by_coordinate(logvar), by_coordinate(logits))
    expected = mu + (a @ by_coordinate(eps)[..., None])[..., 0].transpose(1, 2)
    torch.testing.assert_close(w, expected, rtol=1e-12, atol=1e-13)
    judge = explicit.normal(coupling, *map(by_coordinate, (mu, logvar, logits)))
    torch.testing.assert_close(log_q, judge.log_prob(by_coordinate(w)).sum(-1), rtol=1e-10, atol=1e-9)
    found = reference.correlated_normal_log_prob(w, mu, logvar, logits, coupling=coupling)
    torch.testing.assert_close(found, log_q, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("coupling", explicit.COUPLINGS)
def test_kl(coupling, inputs):
    judge = explicit.normal(coupling, *map(by_coordinate, inputs[:3]))
    mu_p, logvar_p = map(by_coordinate, inputs[3:])
    prior = MultivariateNormal(mu_p, torch.diag_embed(torch.exp(logvar_p)))
    expected = kl_divergence(judge, prior).sum(-1)
    found = reference.multiset_kl(*inputs, coupling=coupling)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-9)
    _, passed = reference.posterior_sum_and_kl(*inputs, coupling=coupling, seed=SEED)
    assert torch.equal(found, passed)


@pytest.mark.parametrize("coupling", explicit.COUPLINGS)
def test_sum_and_log_ratio(coupling, inputs):
    w, log_q = reference.correlated_normal_rsample(
        *inputs[:3], coupling=coupling, seed=SEED, with_log_prob=True
    )
    log_p = Independent(Normal(inputs[3], torch.exp(inputs[4] / 2)), 2).log_prob(w)
    for path in (False, True):
        total, ratio = reference.posterior_sum_and_log_ratio(*inputs, coupling=coupling, seed=SEED, path=path)
        torch.testing.assert_close(total, w.sum(1), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(ratio, log_p - log_q, rtol=1e-12, atol=1e-11)
    total, _ = reference.posterior_sum_and_kl(*inputs, coupling=coupling, seed=SEED)
    torch.testing.assert_close(total, w.sum(1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("coupling", explicit.COUPLINGS)
def test_path_gradient_has_no_score(coupling, inputs):
    """Against autograd through the sample with q's own parameters detached inside its density."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    _, ratio = reference.posterior_sum_and_log_ratio(*leaves, coupling=coupling, seed=SEED, path=True)
    found = torch.autograd.grad(ratio.sum(), leaves)
    w = reference.correlated_normal_rsample(*leaves[:3], coupling=coupling, seed=SEED)
    log_p = Independent(Normal(leaves[3], torch.exp(leaves[4] / 2)), 2).log_prob(w)
    log_q = reference.correlated_normal_log_prob(w, *inputs[:3], coupling=coupling)
    expected = torch.autograd.grad((log_p - log_q).sum(), leaves)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("coupling", explicit.COUPLINGS)
def test_kl_of_the_prior_to_itself_is_zero(coupling, inputs):
    mu, logvar = inputs[:2]
    uncoupled = torch.full_like(mu, -math.inf)
    kl = reference.multiset_kl(mu, logvar, uncoupled, mu, logvar, coupling=coupling)
    assert kl.abs().max() < 1e-13


@pytest.mark.parametrize("coupling", explicit.COUPLINGS)
def test_empirical_covariance(coupling):
    """Second moments of n = 200,000 draws of 3 parts against the explicit matrix.

    Each entry's error in its own standard deviations, sqrt((S_ii S_jj + S_ij^2)/n), must stay below 5.5: false alarm
    below 6 entries * 4e-8 = 2.4e-7. The other coupling's matrix lies, in some entry, so far off that it would pass
    with probability below 1e-6 (asserted: 5.5 + 5 of the same standard deviations).
    """
    sets, copies = 50_000, 4
    logvar = torch.tensor([0.5, -1.0, 1.0], dtype=torch.float64)
    logits = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
    spread, weight = (v[:, None].expand(sets, 3, copies) for v in (logvar, logits))
    w = reference.correlated_normal_rsample(torch.zeros_like(spread), spread, weight, coupling=coupling, seed=SEED)
    draws = w.transpose(1, 2).reshape(-1, 3)
    found = draws.T @ draws / len(draws)
    other = next(c for c in explicit.COUPLINGS if c != coupling)
    a, b = (explicit.matrix(c, logvar, logits) for c in (coupling, other))
    truth, wrong = a @ a.T, b @ b.T
    deviation = torch.sqrt((truth.diag()[:, None] * truth.diag() + truth.square()) / len(draws))
    assert ((found - truth) / deviation).abs().max() < 5.5
    assert ((wrong - truth) / deviation).abs().max() > 5.5 + 5
