"""Measures of neighbourhoods on wholes whose answers are known, and their pictures."""

import pytest
import torch
from matplotlib.figure import Figure

from compvae_fast.data.households.metrics import distance, flexibility, peak, sustained_peak
from compvae_fast.models import CompVAE, preset_config
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
    # the true hourly means leave less open than drawn ones
    assert found["x2"]["mean"] < found["both"]["mean"]
    assert found["truth"]["mean"] < found["independent"]["mean"]
    assert found["w_bits"]["deviation"] >= 0


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
