"""Likelihoods of observations and the diagonal KL, against torch.distributions and many digits."""

import math

import mpmath
import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from compvae_fast import reference

from .cases import random

SHAPE = (3, 2, 4)
LEVELS = torch.arange(256, dtype=torch.float64) / 255


def test_diag_normal_kl():
    mu_q, logvar_q, mu_p, logvar_p = random(SHAPE, 4)
    q, p = (Independent(Normal(m, torch.exp(v / 2)), 2) for m, v in ((mu_q, logvar_q), (mu_p, logvar_p)))
    found = reference.diag_normal_kl(mu_q, logvar_q, mu_p, logvar_p)
    torch.testing.assert_close(found, kl_divergence(q, p), rtol=1e-12, atol=1e-13)
    assert reference.diag_normal_kl(mu_q, logvar_q, mu_q, logvar_q).tolist() == [0.0] * 3
    assert reference.diag_normal_kl(*random((3,), 4)).shape == (3,)
    assert reference.diag_normal_kl(*random((0, 5), 4)).shape == (0,)
    assert reference.diag_normal_kl(*random((2, 0), 4)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("shapes", [(SHAPE, SHAPE), ((), (1, 2, 1)), ((4,), (3, 1, 1))], ids=str)
def test_gaussian_nll(shapes):
    x = random(SHAPE, 1)[0]
    mu, logvar = (random(s, 1, 5 + i)[0] for i, s in enumerate(shapes))
    full = Normal(mu.expand(SHAPE), torch.exp(logvar / 2).expand(SHAPE))
    expected = -Independent(full, 2).log_prob(x)
    torch.testing.assert_close(reference.gaussian_nll(x, mu, logvar), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("log_scale", [-7.0, -3.0, 0.0, 4.0])
def test_the_levels_share_all_the_mass(log_scale):
    nll = reference.discretized_logistic_nll(
        LEVELS[:, None], torch.tensor(0.3), torch.tensor(log_scale)
    )
    assert torch.exp(-nll).sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("log_scale", [-7.0, -5.0, -1.0, 3.0, 20.0])
@pytest.mark.parametrize("mu", [-3.0, 0.0, 100 / 255, 0.4, 1.0, 7.0])
def test_bins_far_out_and_narrow(mu, log_scale):
    """Against differences of the distribution function in many digits."""
    levels = (0, 1, 2, 99, 100, 101, 253, 254, 255)
    x = torch.tensor(levels, dtype=torch.float64)[:, None] / 255
    parameters = (torch.tensor(v, dtype=torch.float64) for v in (mu, log_scale))
    found = reference.discretized_logistic_nll(x, *parameters)
    with mpmath.workdps(4000):  # the mass is 1e-3330 at the least
        scale = mpmath.exp(log_scale)
        for level, value, nll in zip(levels, x.flatten().tolist(), found.tolist()):
            up, down = (
                1 / (1 + mpmath.exp(-(mpmath.mpf(value) + sign * mpmath.mpf(1) / 510 - mpmath.mpf(mu)) / scale))
                for sign in (1, -1)
            )
            mass = up - (0 if level == 0 else down) if level < 255 else 1 - down
            assert nll == pytest.approx(float(-mpmath.log(mass)), rel=1e-9, abs=1e-12)


def test_gradients_stay_finite_far_out():
    x = torch.tensor([0.0, 0.2, 1.0], dtype=torch.float64)[:, None].requires_grad_()
    for mu in (-50.0, 50.0):
        for log_scale in (-7.0, 10.0):
            parameters = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (mu, log_scale)]
            nll = reference.discretized_logistic_nll(x, *parameters)
            assert nll.isfinite().all()
            gradients = torch.autograd.grad(nll.sum(), (x, *parameters))
            assert all(g.isfinite().all() for g in gradients)


def test_types():
    x, mu, spread = (v.bfloat16() for v in random(SHAPE, 3))
    x = (x.sigmoid() * 255).round() / 255
    for function in (reference.gaussian_nll, reference.discretized_logistic_nll):
        found = function(x, mu, spread)
        assert found.dtype == torch.float32
        assert torch.equal(found, function(x.double(), mu.double(), spread.double()).float())
    found = reference.diag_normal_kl(x, mu, spread.float(), mu.float())
    assert torch.equal(found, reference.diag_normal_kl(x.double(), mu.double(), spread.double(), mu.double()).float())
    assert math.isfinite(found.sum())
