"""The report of a run of neighbourhoods: what it says is what was measured, at the sizes that it names."""

import dataclasses
import json
import re

import pytest
import torch
from training.tiny import trained  # noqa: F401

from compvae_fast.models import CompVAE
from compvae_fast.report import household_measures as measures
from compvae_fast.report import neighbourhoods, write_report
from compvae_fast.report.measures import SIZES, sizes_of
from compvae_fast.training import load_run


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):  # noqa: F811
    torch.manual_seed(0)
    model = CompVAE.from_preset("households-small", hidden=16, w_dim=4, z_dim=2).eval().requires_grad_(False)
    return dataclasses.replace(load_run(trained), path=tmp_path_factory.mktemp("run"), model=model)


def test_the_report_holds_what_the_measures_find(run, monkeypatch):
    monkeypatch.setitem(SIZES, "households", (3, 5, 6, 9))
    text = write_report(run, n=12, multisets=1, importance=1, seed=4).read_text()
    told = json.loads((run.path / "measures.json").read_text())
    assert [row["k"] for row in told["rows"]] == [row["k"] for row in told["separation"]] == [3, 5, 6, 9]
    assert all(row["apart"] < 1e-6 for row in told["separation"]), "households add up"
    expected = measures.household_distances(run.model, sizes=(3, 5, 6, 9), n=6, multisets=1, seed=4)
    assert told["rows"] == expected
    # 3 to 6 households, and never the largest size, which training does not see
    errors = measures.household_measures(run.model, n=12, k_min=3, k_max=6, seed=4)
    assert told["errors"] == errors
    assert text.count("<img") == 7 and "The town is simulated." in text
    for name in ("x1", "truth"):
        assert f"{errors[name]['mean']:.1f} \u00b1 {errors[name]['deviation']:.1f}" in text
    assert "Energy distances of 6 wholes to 6 true ones" in text and "3.8 \u00b1 1.5" in text
    assert re.search(r"What is wrong.*At K = 3 the energy distance", text, re.DOTALL)


def test_true_weeks_beside_weeks_apart_are_of_the_same_contracts(run):
    town = measures.town_of(run.model)
    figure = neighbourhoods.apart(town, (40, 80), 1)
    assert [axes.get_title() for axes in figure.axes] == ["K = 40, kW", "K = 80, kW"]
    for axes in figure.axes:
        alone, whole = (torch.tensor(line.get_ydata()) for line in axes.lines)
        assert len(whole) == 336 and 0.4 < float(alone.mean() / whole.mean()) < 2.5
        assert not torch.equal(alone, whole)
    assert float(figure.axes[1].lines[1].get_ydata().mean()) > 1.4 * float(figure.axes[0].lines[1].get_ydata().mean())


def test_sizes_of_few_households_are_shares_of_them():
    class Few:
        name = "households"

    expected = {None: SIZES["households"], 300: (50, 100, 150), 120: (15, 30, 60), 9: (1, 2, 4), 1: (1,)}
    for most, sizes in expected.items():
        Few.most_measured = most
        assert sizes_of(Few()) == sizes
