"""The network "neighbourhood": linear in its parts, with the posterior of a linear model."""

import math

import pytest
import torch

from compvae_fast.models import CompVAE, CompVAEConfig
from compvae_fast.models.compact import label_counts
from compvae_fast.models.given import Given

SMALL = {
    "problem": "households", "network": "neighbourhood", "coupling": "scaled", "num_labels": 13, "w_dim": 5, "z_dim": 3,
    "hidden": 16, "levels": 2, "observation_floor": 0.02,
}


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = CompVAE(CompVAEConfig(**SMALL))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture
def wholes():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(1, 14, (3, 40), generator=generator)
    return {
        "x": 20 + 5 * torch.randn(3, 336, generator=generator),
        "labels": labels,
        "context": 12 + 5 * torch.randn(3, 168, generator=generator),
    }


def test_the_posterior_is_that_of_the_linear_model(model, wholes):
    """Sum of q's means: the conditional mean of w~ in the joint Gaussian of (w~, x), written out in float64."""
    model.double()
    x, context = wholes["x"].double(), wholes["context"].double()
    given = Given.of(model.problem, 1, 13, wholes["labels"], context=context)
    z = torch.randn(3, 3, dtype=torch.float64)
    prior = model.prior_w(given.labels, None)
    mu, logvar, logits = model.posterior_w(model.features(x, given), z, given, prior, 0)
    a, b, noise = model.observation.coefficients(z, context)
    counts = label_counts(given.labels, given.sets, 13).double()
    matrix = model.observation.coefficients.pyramid.matrix(x)
    logvars = model.observation.logvars(noise, counts)
    for row in range(3):
        variance = torch.cat([v[row].flatten() for v in logvars]).exp()
        covariance = matrix @ torch.diag(variance) @ matrix.T
        v = torch.diag(prior[1][row].exp().sum(0))
        centre = prior[0][row].sum(0)
        off = x[row] - a[row] @ counts[row] - b[row] @ centre
        gain = v @ b[row].T @ torch.linalg.inv(b[row] @ v @ b[row].T + covariance)
        torch.testing.assert_close(mu[row].sum(0), centre + gain @ off)
        precision = torch.linalg.inv(v) + b[row].T @ torch.linalg.inv(covariance) @ b[row]
        left = torch.logsumexp(torch.cat([torch.zeros(1, 5), logits[row]]), 0)
        torch.testing.assert_close((-2 * left).exp() * logvar[row].exp().sum(0), 1 / precision.diagonal())


def test_wholes_are_linear_in_the_parts(model, wholes):
    w_sum = torch.cat([torch.randint(0, 9, (2, 13)).float(), torch.randn(2, 5)], dim=1)
    z, context = torch.randn(2, 3), wholes["context"][:2]
    one, seven = model.observation(w_sum, z, context), model.observation(7 * w_sum, z, context)
    torch.testing.assert_close(seven.mean, 7 * one.mean, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(seven.stddev, 7**0.5 * one.stddev, rtol=1e-4, atol=1e-3)
    empty = model.observation(0 * w_sum, z, context)
    assert (empty.mean == 0).all() and empty.stddev.isfinite().all()


def test_every_household_adds_the_floor_to_the_noise(model):
    floor, counts = SMALL["observation_floor"], torch.tensor([[3.0, *[0.0] * 11, 4.0], [0.0] * 13])
    silent = [torch.full((1, math.prod(shape), 13), -80.0) for shape in model.observation.coefficients.pyramid.shapes]
    for level in model.observation.logvars(silent, counts):
        torch.testing.assert_close(level.exp()[0], torch.full_like(level[0], 7 * floor**2))
        torch.testing.assert_close(level.exp()[1], torch.full_like(level[1], floor**2))


def test_a_half_hour_answers_to_the_day_before_it_alone(model):
    """Beside the days' means, which all hours hear of and which are silenced here."""
    of, context, hour = model.observation.coefficients, torch.zeros(1, 168), 100
    with torch.no_grad():
        of.mix.weight[:, 8:] = 0.0
        of.of_common.zero_()
        warm = context.clone()
        warm[0, hour] = 30.0
        z = torch.zeros(1, 3)
        changed = (of(z, warm)[0] != of(z, context)[0]).any(-1)[0].nonzero().squeeze(1)
    assert changed.tolist() == list(range(2 * hour, 2 * (hour + 24)))


def test_features_are_of_a_household(model, wholes):
    """Twice the neighbourhood, twice the curve: the same, but for K itself."""
    x, labels, context = wholes["x"], wholes["labels"], wholes["context"]
    with torch.no_grad():
        model.features.first.weight[:, -1] = 0.0
        once = model.features(x, Given.of(model.problem, 1, 13, labels, context=context))
        twice = model.features(2 * x, Given.of(model.problem, 1, 13, torch.cat([labels, labels], 1), context=context))
    torch.testing.assert_close(twice[:, :16], once[:, :16])


def test_kept_coefficients_are_of_the_same_question(model, wholes):
    of = model.observation.coefficients
    z, context = torch.randn(3, 3), wholes["context"]
    first = of(z, context)
    assert of(z, context) is first
    assert of(z.clone(), context) is not first
    with torch.no_grad():
        assert not of(z, context)[0].requires_grad
        of.mean.add_(1.0)
    torch.testing.assert_close(of(z, context)[0], first[0] + 1)


def test_every_parameter_has_a_gradient_and_a_missing_temperature_is_named(model, wholes):
    losses = model.loss(wholes["x"], wholes["labels"], context=wholes["context"], seed=1)
    assert losses.total.shape == (3,) and losses.total.isfinite().all()
    losses.objective.mean().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []
    with pytest.raises(ValueError, match="context: expected 168 numbers"):
        model.loss(wholes["x"], wholes["labels"], seed=1)
    generated = model.generate([2, 2, 9], context=wholes["context"][0], n=4, seed=1)
    assert generated.shape == (4, 336)
    by_counts = model.generate(counts=[0] * 12 + [10**6], context=wholes["context"][0], seed=1)
    assert by_counts.isfinite().all()


def test_encoding_and_decoding_with_a_part_more_and_less(model, wholes):
    parts = model.encode(wholes["x"], wholes["labels"], context=wholes["context"], seed=2)
    seen = model.decode(parts)
    assert seen.mean.shape == (3, 336)
    rough = seen.given(seen.pyramid.split(wholes["x"])[0])
    assert rough.shape == (3, 336)
    assert model.decode(parts.remove(-1)).mean.shape == (3, 336)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"coupling": "unit"}, "coupling: expected 'scaled'"), ({"problem": "sines"}, "network: .*'sines'")],
)
def test_what_the_network_is_not_for_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        CompVAE(CompVAEConfig(**{**SMALL, **changes}))
