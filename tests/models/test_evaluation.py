import pytest
import torch

from compvae_fast.data import sines
from compvae_fast.models import CompVAE, elbo, iw_bound
from compvae_fast.random import Stream, fold

LABELS = torch.tensor([[3, 3], [8, 1]])


def model_with_known_likelihood(preset):
    """q is not p, but the observation ignores the latents: log p(x) is that of its constant Gaussian."""
    overrides = {"hidden": 8} if preset == "sines-small" else {}
    model = CompVAE.from_preset(preset, w_dim=2, z_dim=1, **overrides)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part in (model.prior_w, model.posterior_w, model.posterior_z, model.prior_z):
            for parameter in part.parameters():
                parameter += 0.2 / parameter.shape[-1] * torch.randn(parameter.shape, generator=generator)
        if preset == "sines-small":
            model.observation.straight.weight.zero_()
            model.posterior_w.log_error.bias.fill_(1.0)
        else:
            model.posterior_w.head.bias.view(3, 2)[2].fill_(-1.0)
    return model


def repeated(sets):
    """One whole and its labels, ``sets`` times: every set draws its own latents."""
    x = sines.wholes(LABELS[:1], seed=1)
    return x.expand(sets, -1), LABELS[:1].expand(sets, -1)


@pytest.mark.parametrize(("preset", "sets", "draws"), [("sines", 128, 2), ("sines-small", 256, 8)])
def test_importance_weights_average_to_the_likelihood(preset, sets, draws):
    """E exp(log_weight) = p(x), within 5 standard errors (a false alarm in 6e-7)."""
    model = model_with_known_likelihood(preset)
    x, labels = repeated(sets)
    with torch.no_grad():
        nothing = torch.zeros_like(model.prior_parts([3, 3], seed=1).sum)
        nothing[0, 0] = 2 if preset == "sines-small" else 0
        known = model.decode(w_sum=nothing).log_prob(x[:1]).sum()
        ratios = torch.cat([(model.log_weight(x, labels, seed=s) - known).exp() for s in range(draws)])
    assert ratios.std() > 0.02
    assert abs(ratios.mean() - 1) < 5 * ratios.std() / len(ratios) ** 0.5


@pytest.mark.parametrize(("preset", "sets", "draws"), [("sines", 128, 2), ("sines-small", 256, 8)])
def test_the_elbo_is_the_mean_log_weight(preset, sets, draws):
    """Closed forms against sampled densities, within 5 standard errors (a false alarm in 6e-7)."""
    model = model_with_known_likelihood(preset)
    x, labels = repeated(sets)
    with torch.no_grad():
        closed = torch.cat([-model.loss(x, labels, seed=s).total for s in range(draws)]).double()
        sampled = torch.cat([model.log_weight(x, labels, seed=s) for s in range(draws)]).double()
    difference = closed - sampled
    assert difference.std() > 0.01
    assert abs(difference.mean()) < 5 * difference.std() / len(difference) ** 0.5


def test_bounds_are_averages_over_the_same_draws():
    model = model_with_known_likelihood("sines-small")
    x = sines.wholes(LABELS, seed=1)
    seeds = [fold(fold(5, Stream.EVALUATION), draw) for draw in range(3)]
    with torch.no_grad():
        losses = torch.stack([model.loss(x, LABELS, seed=s).total for s in seeds])
        torch.testing.assert_close(elbo(model, x, LABELS, samples=3, seed=5), -losses.mean(0))
        weights = torch.stack([model.log_weight(x, LABELS, seed=s) for s in seeds]).double()
        bound = iw_bound(model, x, LABELS, k=3, seed=5).double()
        torch.testing.assert_close(bound, weights.exp().mean(0).log(), rtol=1e-5, atol=1e-5)


def test_the_bound_rises_with_k():
    model = model_with_known_likelihood("sines-small")
    x, labels = repeated(400)
    with torch.no_grad():
        means = [iw_bound(model, x, labels, k=k, seed=5).mean() for k in (1, 4, 32)]
    assert means[0] < means[1] < means[2]


@pytest.mark.parametrize("wrong", [0, -1, 1.5])
def test_a_number_of_draws_is_positive(wrong):
    model = CompVAE.from_preset("sines-small", hidden=4)
    with pytest.raises(ValueError, match="samples"):
        elbo(model, torch.zeros(2, 200), LABELS, samples=wrong, seed=0)
    with pytest.raises(ValueError, match="k: expected"):
        iw_bound(model, torch.zeros(2, 200), LABELS, k=wrong, seed=0)
