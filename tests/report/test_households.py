"""Measures of neighbourhoods on wholes whose answers are known, and their pictures."""

import math

import pytest
import torch
from matplotlib.figure import Figure

from compvae_fast.data.households.metrics import distance, flexibility, peak, sustained_peak
from compvae_fast.data.households.problem import Households
from compvae_fast.models import CompVAE, preset_config
from compvae_fast.random import fold
from compvae_fast.report import household_measures as measures
from compvae_fast.report import households as pictures
from compvae_fast.training import BadInput


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return CompVAE.from_preset("households-small", hidden=16, w_dim=4, z_dim=2)


def test_grid_measures_by_their_definition():
    x = torch.rand(3, 336, generator=torch.Generator().manual_seed(0)) * 50
    assert torch.equal(peak(x), x.max(1).values)
    for row, level in zip(x, sustained_peak(x)):
        # reached for 8 hours in total, and nothing above it is
        assert (row >= level).sum() == 16 and level in row
    by_hand = [sum(abs(float(v) - float(row.mean())) for v in row) for row in x]
    torch.testing.assert_close(flexibility(x), torch.tensor(by_hand), rtol=1e-4, atol=0)
    counts = torch.tensor([50, 100, 150])
    torch.testing.assert_close(distance(x, x + 2, counts), 336 * 2 / counts)
    with pytest.raises(ValueError, match="hours: expected 0.5 to 168, got 0"):
        sustained_peak(x, hours=0)


def test_distances_of_truth_and_of_households_without_common_causes(model):
    """60 wholes of 100 households: chance moves distances by 0.2, the missing common causes by 3."""
    (row,) = measures.household_distances(model, sizes=(100,), n=60, multisets=1, seed=1)
    assert abs(row["floor"]) < 0.5 and row["independent"] > 2 and row["model"] > 0.5
    assert {"k", "gaussian", "amplitude", "level", "spread"} < set(row)


def test_errors_of_reconstruction_are_those_of_the_definition(model):
    found = measures.household_measures(model, n=6, k_min=4, k_max=8, seed=2)
    cases = measures.Cases(model, 6, 4, 8, 2)
    assert cases.counts.min() >= 4 and cases.counts.max() <= 8
    with torch.no_grad():
        seen = cases.reconstructed()
    x1 = cases.x.view(6, 168, 2).mean(2)
    error = (x1 - seen.mean.view(6, 168, 2).mean(2)).abs().sum(1) / cases.counts
    assert found["x1"]["mean"] == pytest.approx(float(error.mean()), rel=1e-4)
    with torch.no_grad():
        rough = seen.draw(fold(cases.seed, 2)).view(6, 168, 2).mean(2)
        both = (cases.x - seen.given(rough)).abs().sum(1) / cases.counts
    assert found["both"]["mean"] == pytest.approx(float(both.mean()), rel=1e-4)
    apart = (cases.x / cases.counts[:, None] - (cases.x / cases.counts[:, None]).roll(1, 0)).abs().sum(1)
    assert found["independent"]["mean"] == pytest.approx(float(apart.mean()), rel=1e-4)
    with torch.no_grad():
        losses = model.loss(
            cases.x, cases.labels, offsets=cases.offsets, context=cases.context, seed=cases.seed
        )
    assert found["z_bits"]["mean"] == pytest.approx(float(losses.z.mean()) / math.log(2), rel=1e-4)
    # the true hourly means leave less open than drawn ones
    assert found["x2"]["mean"] < found["both"]["mean"]
    assert found["truth"]["mean"] < found["independent"]["mean"]
    assert found["w_bits"]["deviation"] >= 0


def test_grid_measures_are_of_a_household_true_ones_first(model):
    found = measures.grid_measures(model, n=6, k_min=4, k_max=8, seed=2)
    cases = measures.Cases(model, 6, 4, 8, 2)
    with torch.no_grad():
        made = cases.generated()
    for name, of in (("peak", peak), ("sustained", sustained_peak), ("flexibility", flexibility)):
        true, generated = found[name]
        torch.testing.assert_close(true, of(cases.x) / cases.counts)
        torch.testing.assert_close(generated, of(made) / cases.counts)


class Exact:
    """A model whose wholes are true ones, of the temperatures that it is told, changed as asked."""

    def __init__(self, change=lambda x: x):
        self.problem, self.change = Households(weeks=60, per_week=5), change

    def generate(self, labels, *, context, seed):
        return self.change(self.problem.wholes(labels, context=context, seed=seed + 1))


def test_a_model_that_tells_the_truth_is_measured_as_true():
    """40 weeks of -5 to 25 degrees: a model told another week's temperature is 0.5 away, chance moves this by 0.05."""
    (row,) = measures.household_distances(Exact(), sizes=(20,), n=40, multisets=2, seed=1)
    assert abs(row["model"]) < 0.2 and 1e-6 < abs(row["floor"]) < 0.2, "the same wholes would have 0, others nearly"
    for name in ("amplitude", "level", "spread"):
        assert row[name] == pytest.approx(1, abs=0.1)
    wide = Exact(lambda x: x.mean(0) + 2 * (x - x.mean(0)))
    (row,) = measures.household_distances(wide, sizes=(20,), n=40, multisets=1, seed=1)
    assert row["spread"] == pytest.approx(2, rel=0.1) and row["level"] == pytest.approx(1, abs=0.1)
    assert row["amplitude"] < 0.97 * row["spread"], "the week's own shape is not wider"
    (large,) = measures.household_distances(Exact(lambda x: 2 * x), sizes=(20,), n=40, multisets=1, seed=1)
    assert large["level"] == pytest.approx(2, rel=0.1) and large["spread"] == pytest.approx(2, rel=0.2)
    assert large["model"] > 1 and large["amplitude"] == pytest.approx(2, rel=0.15)


def test_another_problem_or_a_flat_observation_is_refused():
    with pytest.raises(BadInput, match="model: expected one of the problem 'households', got 'sines'"):
        measures.household_measures(CompVAE.from_preset("sines-small"))
    flat = CompVAE.from_config({**preset_config("households-small").to_dict(), "levels": 0, "hidden": 16})
    with pytest.raises(BadInput, match="hierarchical observation"):
        measures.household_measures(flat, n=2, k_min=2, k_max=3)


def test_pictures(model):
    drawn = [
        pictures.household_reconstructions(model, 0, k=5),
        pictures.household_weeks(model, 0, sizes=(3, 5)),
        pictures.temperature_response(model, 0, k=3),
        pictures.grid_histograms(measures.grid_measures(model, n=8, k_min=3, k_max=6)),
    ]
    assert [len(figure.axes) for figure in drawn] == [3, 4, 2, 3]
    assert all(isinstance(figure, Figure) for figure in drawn)
