import math

import pytest
import torch

from compvae_fast.nn import GaussianObservation, LogisticObservation, Saturation

MU = torch.tensor([[[0.1, 0.9], [0.5, -0.3]], [[0.4, 0.42], [1.2, 0.77]]])


def test_a_gaussian_observation_is_torchs_normal():
    logvar = torch.tensor([[[-1.0], [0.3]], [[0.0], [-2.0]]])
    observed = GaussianObservation(MU, logvar)
    normal = observed.distribution()
    x = torch.rand(2, 2, 2)
    torch.testing.assert_close(observed.nll(x), -normal.log_prob(x).flatten(1).sum(1))
    assert torch.equal(observed.mean, normal.mean) and torch.equal(observed.stddev, normal.stddev)


@pytest.mark.parametrize("make", [GaussianObservation, LogisticObservation])
def test_draws_are_functions_of_seed_and_row(make):
    observed = make(MU, torch.full_like(MU, -1.0))
    drawn = observed.draw(3, torch.tensor([5, 2]))
    alone = make(MU[1:], torch.full_like(MU[1:], -1.0)).draw(torch.tensor([3]), torch.tensor([2]))
    torch.testing.assert_close(alone, drawn[1:])
    assert not torch.equal(observed.draw(4, torch.tensor([5, 2])), drawn)
    assert torch.equal(observed.draw(3), observed.draw(3, torch.arange(2)))


@pytest.mark.parametrize(("mu", "log_scale"), [(0.5, -3.0), (0.02, -2.0), (1.1, -2.5), (-0.4, -4.0)])
def test_logistic_probabilities_moments_and_draws_belong_together(mu, log_scale):
    """Probabilities of the 256 values add up to 1, their moments are mean and stddev, and 20,000 draws have them
    within 5 errors (a false alarm in 1e-6 a case)."""
    at = torch.full((256, 1), mu, dtype=torch.float64), torch.full((256, 1), log_scale, dtype=torch.float64)
    values = torch.arange(256, dtype=torch.float64).unsqueeze(1) / 255
    chance = (-LogisticObservation(*at).nll(values)).exp()
    assert float(chance.sum()) == pytest.approx(1, abs=1e-9)
    mean = float((chance * values[:, 0]).sum())
    deviation = math.sqrt(float((chance * values[:, 0] ** 2).sum()) - mean**2)
    one = LogisticObservation(at[0][:1], at[1][:1])
    assert float(one.mean) == pytest.approx(mean, abs=1e-9)
    assert float(one.stddev) == pytest.approx(deviation, abs=1e-7)
    many = LogisticObservation(torch.full((20_000, 1), mu), torch.tensor(log_scale))
    drawn = many.draw(7)
    assert torch.equal((drawn * 255).round() / 255, drawn)
    torch.testing.assert_close(many.nll(drawn + 0.4 / 255), many.nll(drawn))
    drawn = drawn.double()
    assert abs(float(drawn.mean()) - mean) < 5 * deviation / 20_000**0.5 + 1e-7
    fourth = float((chance * (values[:, 0] - mean) ** 4).sum())
    error = math.sqrt(max(fourth - deviation**4, 0) / 20_000)
    assert abs(float(((drawn - mean) ** 2).mean()) - deviation**2) < 5 * error + 1e-7


def test_saturation_is_its_formula_with_gamma_learned_from_one():
    chi = Saturation()
    w = torch.tensor([0.0, 2.0, -4.0])
    assert chi(w).tolist() == pytest.approx([0.0, 2 / 3, -0.8])
    with torch.no_grad():
        chi.log_gamma += math.log(3.0)
    assert chi(w).tolist() == pytest.approx([0.0, 2 / 7, -4 / 13])
    chi(w).sum().backward()
    assert chi.log_gamma.grad != 0
