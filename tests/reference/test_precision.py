"""The float64 reference judges the other backends: 1e-8 of the tolerances promised for float32 inputs is its own.

The judge here is the plain definition with explicit matrices in 130 digits, its gradients by central differences.
"""

import math

import numpy as np
import pytest
import torch

from compvae_fast import reference
from compvae_fast.reference import noise

from .explicit import COUPLINGS, Digits

HEADROOM = 1e-8
SEED = torch.tensor(1)
OFF = -math.inf

LOGITS = {
    "lone, sure": [80.0],
    "lone, 10": [10.0],
    "lone, near 0": [1e-9],
    "lone, low": [-80.0],
    "lone, off": [OFF],
    "one of three": [80.0, -80.0, -80.0],
    "one of six": [10.0, 0.0, -1.0, 0.5, -2.0, -3.0],
    "tie": [80.0, 80.0, -5.0],
    "tie at 0": [0.0] * 4,
    "near tie": [80.0, 80.0 - 1e-6, 79.0],
    "all low": [-80.0, -80.0, -79.0],
    "all off": [OFF] * 3,
    "some off": [OFF, 5.0, OFF, 2.0],
    "spread": [80.0, 40.0, 0.0, -40.0, -80.0],
}


class Case:
    """One coordinate of one set, for us and for the judge, its noise included."""

    def __init__(self, coupling, logits, wild):
        generator = torch.Generator().manual_seed(1)
        self.coupling, self.parts = coupling, len(logits)
        mu_q, shift, logvar_q, logvar_p = torch.randn(4, self.parts, dtype=torch.float64, generator=generator)
        steps = torch.arange(self.parts, dtype=torch.float64)
        if wild:  # scales of all sizes, variance ratios from 1e6 for the first part down to 1e-6
            logvar_q = 4 * logvar_q
            logvar_p = logvar_q - math.log(1e6) * torch.cos(2 * steps)
        else:  # scales that are hardly apart
            logvar_q = -0.7 - 1e-9 * steps
        mu_p = mu_q + shift * torch.exp(logvar_p / 2)
        given = [mu_q, logvar_q, torch.tensor(logits, dtype=torch.float64), mu_p, logvar_p]
        self.tensors = [v[None, :, None].clone().requires_grad_() for v in given]
        self.judge = Digits(coupling)
        self.mp = self.judge.mp
        self.numbers = [self.judge.numbers(v.tolist()) for v in given]
        eps = noise.set_normals64(SEED, (1, self.parts, 1))
        self.eps = self.judge.numbers(eps.flatten().tolist())
        self.keywords = {"coupling": coupling}
        self.draw = {"coupling": coupling, "seed": SEED}

    def without_means(self):
        return [torch.zeros_like(self.tensors[0]), *self.tensors[1:]]

    def holds(self, found, expected, scale):
        """found within HEADROOM * scale of expected."""
        error = abs(self.mp.mpf(found.item()) - expected)
        assert error <= HEADROOM * scale, f"error {float(error):.2e}, allowed {float(HEADROOM * scale):.2e}"

    def relative(self, found, expected):
        self.holds(found, expected, 1e-5 * max(1, abs(expected)))

    def gradient(self, found, function, *constants):
        """Each input's gradient to 1e-4 of its own norm plus 1e-6 of the joint norm, times HEADROOM."""
        mp = self.mp
        gradients = torch.autograd.grad(found.sum(), self.tensors, retain_graph=True, allow_unused=True)
        expected = self.judge.gradient(function, self.numbers, constants)
        joint = mp.norm([v for row in expected for v in row])
        for index, (gradient, row) in enumerate(zip(gradients, expected)):
            values = [0.0] * self.parts if gradient is None else gradient.flatten().tolist()
            error = mp.norm([mp.mpf(a) - b for a, b in zip(values, row)])
            allowed = HEADROOM * (1e-4 * mp.norm(row) + 1e-6 * joint)
            assert error <= allowed, f"input {index}: error {float(error):.2e}, allowed {float(allowed):.2e}"


@pytest.fixture(params=COUPLINGS)
def coupling(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["tame", "wild"])
def wild(request):
    return request.param


@pytest.fixture(params=LOGITS)
def case(request, coupling, wild):
    return Case(coupling, LOGITS[request.param], wild)


def test_kl(case):
    found = reference.multiset_kl(*case.tensors, **case.keywords)
    case.relative(found, case.judge.kl(*case.numbers))
    case.gradient(found, case.judge.kl)


def test_noise_of_the_sum(case):
    found, _ = reference.posterior_sum_and_kl(*case.without_means(), **case.draw)
    zeros = [case.mp.mpf(0)] * case.parts

    def judge(mu_q, logvar_q, logits, mu_p, logvar_p):
        return case.judge.sum(zeros, logvar_q, logits, case.eps)

    deviation = case.mp.sqrt(case.judge.sum_variance(case.numbers[1], case.numbers[2]))
    case.holds(found, judge(*case.numbers), 1e-4 * deviation)
    case.gradient(found, judge)


def test_noise_of_the_parts(case):
    found = reference.correlated_normal_rsample(*case.without_means()[:3], **case.draw).flatten()
    zeros = [case.mp.mpf(0)] * case.parts
    logvar, logits = case.numbers[1:3]
    expected = case.judge.sample(zeros, logvar, logits, case.eps)
    for value, truth, variance in zip(found, expected, case.judge.part_variances(logvar, logits)):
        case.holds(value, truth, 1e-4 * case.mp.sqrt(variance))
    weights = torch.arange(1.0, case.parts + 1, dtype=torch.float64).cos()
    numbers = case.judge.numbers(weights.tolist())

    def judge(mu_q, logvar_q, logits, mu_p, logvar_p):
        return sum(a * b for a, b in zip(numbers, case.judge.sample(zeros, logvar_q, logits, case.eps)))

    case.gradient(found * weights, judge)


@pytest.mark.parametrize("path", [False, True], ids=["full", "path"])
def test_log_ratio(case, path):
    _, found = reference.posterior_sum_and_log_ratio(*case.tensors, path=path, **case.draw)
    case.relative(found, case.judge.log_ratio(*case.numbers, case.eps))
    case.gradient(found, case.judge.path_ratio(case.numbers[:3]) if path else case.judge.log_ratio, case.eps)


def test_log_prob(case):
    w = torch.arange(1.0, case.parts + 1, dtype=torch.float64).sin()
    found = reference.correlated_normal_log_prob(w[None, :, None], *case.tensors[:3], **case.keywords)
    numbers = case.judge.numbers(w.tolist())

    def judge(mu_q, logvar_q, logits, mu_p, logvar_p):
        return case.judge.log_prob(numbers, mu_q, logvar_q, logits)

    case.relative(found, judge(*case.numbers))
    case.gradient(found, judge)


@pytest.mark.parametrize("peak", [0.0, 20.0, 80.0])
def test_a_million_parts(coupling, peak):
    """Against the plain formulas in 64-bit mantissas, the part with the largest logit apart."""
    parts = 10**6
    generator = torch.Generator().manual_seed(2)
    logvar, logits, mu, logvar_p = torch.randn(4, parts, dtype=torch.float64, generator=generator)
    logits[123] = peak
    shaped = [v[None, :, None].clone().requires_grad_() for v in (torch.zeros_like(mu), logvar, logits, mu, logvar_p)]
    total, kl = reference.posterior_sum_and_kl(*shaped, coupling=coupling, seed=SEED)
    gradients = torch.autograd.grad(total.sum(), shaped[1:3])

    v, n, m, vp = (x.numpy().astype(np.longdouble) for x in (logvar, logits, mu, logvar_p))
    eps = noise.set_normals64(SEED, (1, parts, 1)).flatten().numpy().astype(np.longdouble)
    sigma, weights = np.exp(v / 2), np.exp(n)
    total_weight = 1 + weights.sum()
    rho, left = weights / total_weight, 1 / total_weight
    top = int(np.argmax(n))
    others = np.arange(parts) != top
    complement = 1 - rho
    complement[top] = (1 + weights[others].sum()) / total_weight
    if coupling == "scaled":
        draw, deviation = left * (sigma * eps).sum(), left * np.sqrt((sigma**2).sum())
        by_logvar, by_logits = left * sigma * eps / 2, -draw * rho
        variance = complement**2 * sigma**2 + rho**2 * ((sigma**2).sum() - sigma**2)
        variance[top] = complement[top] ** 2 * sigma[top] ** 2 + rho[top] ** 2 * (sigma[others] ** 2).sum()
    else:
        shift = sigma - sigma[top]
        common = sigma[top] * left - (rho * shift).sum()
        draw, deviation = (shift * eps).sum() + common * eps.sum(), np.sqrt(((shift + common) ** 2).sum())
        by_logvar = sigma / 2 * (eps - rho * eps.sum())
        mean_shift = (rho * shift).sum()
        by_logits = -eps.sum() * rho * (shift - mean_shift) - sigma[top] * left * rho * eps.sum()
        variance = sigma**2 * (complement**2 + (parts - 1) * rho**2)
    expected_kl = ((vp - v + (m**2 + variance) / np.exp(vp) - 1).sum()) / 2 + np.log(total_weight)
    assert abs(total.item() - draw) <= HEADROOM * 1e-4 * deviation
    assert abs(kl.item() - expected_kl) <= HEADROOM * 1e-5 * expected_kl
    joint = np.sqrt((by_logvar**2).sum() + (by_logits**2).sum())
    for found, truth in zip(gradients, (by_logvar, by_logits)):
        error = np.sqrt(((found.flatten().numpy() - truth) ** 2).sum())
        assert error <= HEADROOM * (1e-4 * np.sqrt((truth**2).sum()) + 1e-6 * joint)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_inputs_are_computed_in_float64(coupling, dtype):
    """Narrow inputs give the float64 result of the same numbers, rounded once."""
    generator = torch.Generator().manual_seed(5)
    narrow = [v.to(dtype) for v in 3 * torch.randn(5, 2, 6, 3, generator=generator)]
    wide = [v.double() for v in narrow]
    for path in (False, True):
        found = reference.posterior_sum_and_log_ratio(*narrow, coupling=coupling, seed=SEED, path=path)
        expected = reference.posterior_sum_and_log_ratio(*wide, coupling=coupling, seed=SEED, path=path)
        assert all(torch.equal(a, b.to(torch.float32)) for a, b in zip(found, expected))
    found = reference.posterior_sum_and_kl(*narrow, coupling=coupling, seed=SEED)
    expected = reference.posterior_sum_and_kl(*wide, coupling=coupling, seed=SEED)
    assert all(torch.equal(a, b.to(torch.float32)) for a, b in zip(found, expected))
    w, log_q = reference.correlated_normal_rsample(*narrow[:3], coupling=coupling, seed=SEED, with_log_prob=True)
    w64, log_q64 = reference.correlated_normal_rsample(*wide[:3], coupling=coupling, seed=SEED, with_log_prob=True)
    assert torch.equal(w, w64.to(dtype)) and torch.equal(log_q, log_q64.to(torch.float32))
    found = reference.correlated_normal_log_prob(*narrow[:4], coupling=coupling)
    assert torch.equal(found, reference.correlated_normal_log_prob(*wide[:4], coupling=coupling).to(torch.float32))
    found = reference.sum_minus_self(narrow[0], pre="elu", post="tanh")
    assert torch.equal(found, reference.sum_minus_self(wide[0], pre="elu", post="tanh").to(dtype))
