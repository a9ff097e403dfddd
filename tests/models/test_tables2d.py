"""Preset `dots` against the paper's tables 7 to 12: every layer's shape and order."""

import pytest
import torch

from compvae_fast.data import problem
from compvae_fast.models import CompVAE
from compvae_fast.nn import LogisticObservation
from models.looks import described, shaken

PROBLEM = problem("dots")
SMALL = {"narrow": 8, "w_dim": 32, "z_dim": 5}


@pytest.fixture(scope="module")
def model():
    with torch.device("meta"):
        return CompVAE.from_preset("dots")


def test_table_7_prior_of_the_parts(model):
    prior = model.prior_w
    assert described(prior.location) == ["Linear(2, 32)", "ELU"]
    assert prior.embedding.weight.shape == (5, 32)
    assert described(prior.layers) == ["Linear(64, 1024)", "ELU", "Linear(1024, 4096)"]


def test_table_8_prior_of_z(model):
    assert described(model.prior_z) == [
        "Linear(2048, 1024)", "ELU", "Residual(1024)", "ELU", "Linear(1024, 2048)"
    ]  # fmt: skip


def test_table_9_observation(model):
    decoder = model.observation
    assert described([decoder.of_w, decoder.of_z]) == ["Residual(2048)", "Linear(1024, 2048)"]
    assert described(decoder.layers) == [
        "ELU", "Residual(2048)", "Tanh", "Residual(2048)", "ELU", "Reshape",
        "bilinear x2", "Conv2d(128, 64, ks=5, s=1, p=2)", "ELU",
        "bilinear x2", "Conv2d(64, 32, ks=5, s=1, p=2)", "ELU",
        "bilinear x2", "Conv2d(32, 24, ks=5, s=1, p=2)", "ELU",
        "Conv2d(24, 4, ks=5, s=1, p=2)",
    ]  # fmt: skip


def test_table_10_features(model):
    assert described(model.features) == [
        "Conv2d(3, 16, ks=5, s=1, p=2)", "ELU",
        "Conv2d(16, 32, ks=4, s=2, p=1)", "ELU",
        "Conv2d(32, 32, ks=5, s=1, p=2)", "ELU",
        "Conv2d(32, 48, ks=4, s=2, p=1)", "ELU",
        "Conv2d(48, 64, ks=4, s=2, p=1)", "ELU",
        "Reshape", "Residual(1024)", "ELU",
    ]  # fmt: skip


def test_table_11_posterior_of_z(model):
    assert described(model.posterior_z) == ["Residual(1024)", "ELU", "Linear(1024, 2048)"]


def test_table_12_posterior_of_the_parts(model):
    q = model.posterior_w
    assert described(q.location) == ["Linear(2, 32)", "ELU"] and q.embedding.weight.shape == (5, 32)
    assert [block.g_first.fc1.in_features for block in q.blocks] == [2112, 2048, 2048]
    assert [block.out.fc1.in_features for block in q.blocks] == [2048] * 3
    assert described([q.head]) == ["Linear(2048, 6144)"]


def test_numbers_of_parameters(model):
    """Counted from the tables by hand: n m + m a linear layer, twice n (n + 1) a residual one, k k n m + m a filter."""

    def linear(n, m):
        return n * m + m

    def residual(n):
        return 2 * linear(n, n)

    def filters(n, m, k):
        return k * k * n * m + m

    def block(n, m):
        return 3 * residual(n) + linear(2 * n, m) + residual(m)

    expected = {
        "prior_w": linear(2, 32) + 5 * 32 + linear(64, 1024) + linear(1024, 4096),
        "prior_z": linear(2048, 1024) + residual(1024) + linear(1024, 2048),
        "observation": 3 * residual(2048) + linear(1024, 2048) + filters(128, 64, 5) + filters(64, 32, 5)
        + filters(32, 24, 5) + filters(24, 4, 5),
        "features": filters(3, 16, 5) + filters(16, 32, 4) + filters(32, 32, 5) + filters(32, 48, 4)
        + filters(48, 64, 4) + residual(1024),
        "posterior_z": residual(1024) + linear(1024, 2048),
        "posterior_w": linear(2, 32) + 5 * 32 + block(2112, 2048) + 2 * block(2048, 2048) + linear(2048, 6144),
    }
    counted = {name: sum(p.numel() for p in getattr(model, name).parameters()) for name in expected}
    assert counted == expected
    assert sum(counted.values()) == sum(p.numel() for p in model.parameters())


def test_the_untrained_posterior_is_the_prior():
    model = CompVAE.from_preset("dots", narrow=8, w_dim=32, z_dim=5)
    batch = PROBLEM.draw(3, 4, seed=1)
    losses = model.loss(batch.x, batch.labels, offsets=batch.offsets, features=batch.features, seed=3)
    assert (losses.w.abs() < 0.05).all() and (losses.z.abs() < 1e-5).all()


@pytest.mark.parametrize(
    "overrides",
    [{}, {"observation": "logistic", "aggregation": "saturating", "graph_layers": 5, "graph_context": True},
     {"released": True}, {"inference": "diagonal"}],
)  # fmt: skip
def test_every_parameter_learns_in_every_layout(overrides):
    model = shaken("dots", **SMALL, **overrides)
    batch = PROBLEM.draw(4, 3, k_min=3, k_per_batch=1, seed=1)
    x = (batch.x * 255).round() / 255
    dense = model.loss(x, batch.labels, features=batch.features, seed=3)
    ragged = model.loss(
        x, batch.labels.flatten(), offsets=torch.arange(5) * 3, features=batch.features.flatten(0, 1), seed=3
    )
    for one, other in zip(dense, ragged):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-2)
    dense.total.mean().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent
    seen = model.decode(model.encode(x, batch.labels, features=batch.features, seed=1))
    logistic = overrides.get("observation") == "logistic"
    assert isinstance(seen, LogisticObservation if logistic else torch.distributions.Normal)
    assert seen.mean.shape == seen.stddev.shape == x.shape


def test_the_saturating_aggregation_is_between_the_sum_and_the_networks():
    model = shaken("dots", **SMALL, aggregation="saturating")
    w_sum, z = torch.randn(2, 32), torch.randn(2, 5)
    with torch.no_grad():
        model.aggregation.log_gamma.fill_(0.7)
        gamma = model.aggregation.log_gamma.exp()
        expected = model.observation(w_sum / (1 + gamma * w_sum.abs()), z).mean
        torch.testing.assert_close(model.decode(w_sum=w_sum, z=z).mean, expected)
    moved = model.prior_parts([1, 2], features=torch.zeros(2, 2), seed=0)
    assert torch.equal(moved.sum, moved.w.sum(1)), "parts are added as they are, so that they can be edited"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"problem": "sines"}, "'tables2d' is for the 2D problem"),
        ({"inference": "recurrent"}, "inference: expected 'graph' or 'diagonal'"),
        ({"w_dim": 40}, "w_dim: expected a multiple of 16"),
        ({"narrow": 17}, "narrow: expected at most 16"),
        ({"observation": "laplace"}, "observation: expected 'gaussian' or 'logistic', got 'laplace'"),
    ],
)
def test_what_does_not_fit_is_named(overrides, words):
    with pytest.raises(ValueError, match=words):
        CompVAE.from_preset("dots", **{"narrow": 8, "w_dim": 32, "z_dim": 5, **overrides})
