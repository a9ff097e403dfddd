import math

import pytest
import torch
from training.tiny import trained  # noqa: F401

from compvae_fast.data import sines
from compvae_fast.data.problem import Description
from compvae_fast.models import CompVAE
from compvae_fast.report.measures import EditCase, _compare, measure, measure_edits
from compvae_fast.training import BadInput, load_run


@pytest.fixture(scope="module")
def model(trained):  # noqa: F811
    return load_run(trained).model


class Oracle:
    """A model whose wholes are true ones times ``factor``; its losses and bounds are a real model's."""

    def __init__(self, model, factor=1.0):
        self.factor, self.loss, self.log_weight = factor, model.loss, model.log_weight
        self.problem = model.problem

    def generate(self, labels, *, n, seed, features=None, context=None):
        return self.factor * sines.wholes(labels.expand(n, -1), seed=seed + 1)


SETTINGS = {"sizes": (1, 4), "n": 200, "multisets": 3, "importance": 2, "bound_sets": 16}


def test_true_wholes_measure_as_true_ones_and_rivals_as_they_are_known_to(model):
    """Over 40 seeds: model and floor within 0.22 of 0 at K = 1 and 0.07 at K = 4, amplitude within 0.02 of 1,
    saturated within 0.1 of 0 and above 0.86, Gaussian above 0.39, moments below 0.08."""
    one, four = measure(Oracle(model), **SETTINGS)
    for row, near in ((one, 0.3), (four, 0.12)):
        assert abs(row["model"]) < near and abs(row["floor"]) < near
        assert row["amplitude"] == pytest.approx(1, abs=0.05)
    assert abs(one["saturated"]) < 0.3, "a single part saturates alone"
    assert four["saturated"] > 0.6 and one["gaussian"] > 0.3
    assert four["moments"] < 0.15


def test_amplitude_is_that_of_the_generated(model):
    rows = measure(Oracle(model, 0.8), **SETTINGS)
    assert all(row["amplitude"] == pytest.approx(0.8, abs=0.05) for row in rows)


def test_bits_and_bounds_are_the_model_s_on_true_wholes(model):
    (row,) = measure(model, **{**SETTINGS, "sizes": (2,)}, seed=5)
    total = math.log(2) * (row["w_bits"] + row["z_bits"] + row["x_bits"])
    assert row["elbo"] == pytest.approx(-total, abs=0.05 * abs(total))
    assert row["iw_bound"] >= row["elbo"]


def test_measures_are_a_function_of_the_seed(model):
    assert measure(model, **SETTINGS, seed=1) == measure(model, **SETTINGS, seed=1)
    assert measure(model, **SETTINGS, seed=1) != measure(model, **SETTINGS, seed=2)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"n": 1}, "n: expected at least 2, got 1"),
        ({"multisets": 0}, "multisets: expected at least 1, got 0"),
        ({"importance": 0}, "importance: expected at least 1, got 0"),
        ({"seed": -1}, r"seed: expected 0 to 2\^64 - 1, got -1"),
        ({"sizes": (0,)}, r"sizes: expected .* each at least 1, got \(0,\)"),
        ({"sizes": ()}, r"sizes: expected at least one size"),
    ],
)
def test_numbers_too_small_are_refused(model, settings, words):
    with pytest.raises(BadInput, match=words):
        measure(model, **settings)


def test_the_truth_of_an_edit_has_the_same_amplitudes_and_phases(model):
    case = EditCase.draw(model, 5, 3, 7)
    assert all(len(set(row)) == 4 for row in case.labels.tolist())
    amplitudes, phases = sines.amplitudes_and_phases(case.labels, seed=7)
    curves = sines.curves(case.labels, amplitudes, phases)
    for x, parts in (
        (case.whole, [0, 1, 2]),
        (case.without_last, [0, 1]),
        (case.with_single, [0, 1, 2, 3]),
        (case.single, [3]),
    ):
        k = len(parts)
        assert torch.allclose(x, k * torch.tanh(3 / k * curves[:, parts].sum(1)), atol=1e-5)


def test_edits_are_judged_against_their_own_truth(model):
    case = EditCase.draw(model, 5, 3, 7)
    case.decoded, case.removed, case.added = (
        torch.distributions.Normal(x, 1.0) for x in (case.whole, case.without_last, case.with_single)
    )
    assert all(torch.equal(mean, true) for mean, true in case.pairs().values())
    (row,) = measure_edits(model, sizes=(3,), n=8)
    assert set(row) == {"k", "decoded", "removed", "added"} and all(row[name] > 0 for name in row)
    with pytest.raises(BadInput, match="different labels"):
        measure_edits(model, sizes=(10,))


def test_wholes_that_do_not_vary_have_no_distance():
    """Dots of one colour make the same image whatever their intensities."""
    model = CompVAE.from_preset("dots-small")
    same = Description(torch.tensor([[2, 2]]), None, torch.tensor([[[0.1, 0.2], [-0.5, 0.3]]]))
    found = _compare(model, same, 0, 8, seed=0)
    assert math.isnan(found["model"]) and math.isnan(found["floor"]) and math.isfinite(found["amplitude"])
    different = _compare(model, same._replace(labels=torch.tensor([[2, 1]])), 0, 8, seed=0)
    assert math.isfinite(different["model"])
