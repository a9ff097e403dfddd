import base64
import dataclasses
import io
import json
import math
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from training.tiny import content, trained  # noqa: F401

from compvae_fast.data import dots as dots_data
from compvae_fast.models import CompVAE
from compvae_fast.random import fold
from compvae_fast.report import dots, figures, info_text, learning, write_report
from compvae_fast.report.info import facts, processor_features
from compvae_fast.report.measures import EDIT_SIZES, SIZES
from compvae_fast.report.tables import figure
from compvae_fast.training import BadInput, TrainingConfig, load_run, train
from compvae_fast.training.state import initial_model


@pytest.fixture(scope="module")
def written(trained, tmp_path_factory):  # noqa: F811
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("report") / "run")
    before = content(folder)
    page = write_report(load_run(folder), n=20, multisets=1, importance=1)
    assert content(folder) == before, "a report leaves the run as it is"
    return page


def test_the_page_holds_its_pictures_and_refers_to_nothing_else(written):
    text = written.read_text()
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert len(pictures) == text.count("<img") == 8
    assert "http" not in text and "<script" not in text
    assert 'name="viewport"' in text
    for data in pictures:
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.width > 900 and picture.convert("L").getextrema()[0] < 100
    assert [path.name for path in written.parent.iterdir() if path.suffix == ".png"] == []


def test_the_page_says_what_was_run_and_what_is_wrong(written):
    text = written.read_text()
    assert "12 steps of 4 wholes, seed 0" in text
    assert "What is wrong" in text and "At K = 1 the energy distance" in text
    assert facts()["torch"] in text and facts()["processor"] in text


def test_an_unfinished_run_is_said_to_be_one(trained, tmp_path):  # noqa: F811
    folder = shutil.copytree(trained, tmp_path / "run")
    (folder / "checkpoints" / "step-000000012.safetensors").unlink()
    page = write_report(load_run(folder), n=4, multisets=1, importance=1)
    assert "stopped at step 8 of 12" in page.read_text()


def test_a_single_checkpoint_has_no_report(trained):  # noqa: F811
    path = trained / "checkpoints" / "step-000000012.safetensors"
    with pytest.raises(BadInput, match="expected a run folder, got the file"):
        write_report(load_run(path))


def test_a_run_that_cannot_be_written_is_refused_before_anything_is_measured(trained, monkeypatch):  # noqa: F811
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(BadInput, match="cannot be written, and the report has its place there"):
        write_report(load_run(trained))


def test_the_2d_problem_has_a_report_of_its_own(trained, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setitem(SIZES, "dots", (1, 2, 4))
    monkeypatch.setitem(EDIT_SIZES, "dots", (2,))
    for name, few in {"BOUND_SETS": 2, "EDITED": 2, "SHOWN": (1, 3), "DRAWS": 1}.items():
        monkeypatch.setattr(dots, name, few)
    torch.manual_seed(0)
    model = CompVAE.from_preset("dots-small", hidden=8)
    (tmp_path / "run").mkdir()
    run = dataclasses.replace(load_run(trained), path=tmp_path / "run", model=model)
    text = write_report(run, n=4, multisets=1, importance=1).read_text()
    assert "32 × 32 pixels" in text and text.count("<img") == 6
    assert "may be negative" not in text, "x has a probability, not a density"
    assert "200-300 bits" in text and "whole - aggregate" in text
    rows = json.loads((tmp_path / "run" / "measures.json").read_text())["separation"]
    assert [row["k"] for row in rows] == [1, 2, 4]
    assert rows[0]["apart"] < 1e-6, "a part alone is the whole"
    assert all(row["apart"] > 0.2 for row in rows[1:])


def test_how_a_model_of_the_2d_problem_learned_is_told_by_its_kept_states(tmp_path, monkeypatch):
    config = TrainingConfig.from_preset("dots-small", steps=4, log_every=2, checkpoint_every=2, threads=1, keep_every=2)
    small = dataclasses.replace(config.recipe, batch=2, k_start=2, k_max=2)
    config = dataclasses.replace(config, recipe=small, model=dataclasses.replace(config.model, hidden=8))
    train(config, tmp_path / "run", show=False)
    monkeypatch.setattr(learning, "MEASURED", 8)
    run = load_run(tmp_path / "run")
    (section,) = learning.learning_section(run, 3)
    assert [row["step"] for row in section.rows] == ["0", "2", "4", "true, other intensities"]
    (picture,) = [section.picture]
    assert len(picture.axes) == 3 * 4 and picture.axes[1].get_title() == "step 0"
    first, truth = section.rows[0], section.rows[-1]
    untrained = initial_model(config).eval()
    assert first["colours"] == learning._errors(untrained, 3)["colours"]
    # untrained: nothing is known of the places; another truth has all but the intensities
    assert first["places"] > 0.9 and truth["places"] < 0.5 and truth["colours"] < 0.5
    for row in section.rows[:3]:
        other = learning._errors(learning._states(run)[int(row["step"])], 3)
        assert row["places"] == other["places"]
    assert len({row["places"] for row in section.rows}) == 4
    # by hand, of the last state
    asked = dots_data.PROBLEM.describe(8, 4, k_min=4, k_per_batch=1, seed=fold(3, 8))
    true = dots_data.PROBLEM.wholes(asked.labels, features=asked.features, seed=fold(3, 8))
    made = run.model.generate(asked.labels, features=asked.features, seed=fold(3, 8), noise=False)
    flat = [x - x.mean((2, 3), keepdim=True) for x in (made, true)]
    expected = ((flat[0] - flat[1]).square().sum() / flat[1].square().sum()).sqrt()
    assert section.rows[2]["places"] == pytest.approx(float(expected), rel=1e-4)
    shown = torch.tensor(picture.axes[3].images[0].get_array())
    asked = dots_data.PROBLEM.describe(1, 2, k_min=2, k_per_batch=1, seed=fold(3, 2))
    made = run.model.generate(asked.labels, features=asked.features, seed=3, noise=False)[0]
    torch.testing.assert_close(shown, made.clamp(0, 1).permute(1, 2, 0))
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert learning.learning_section(run, 3) == []


def test_losses_with_skipped_and_negative_rows_are_drawn():
    terms = ("w", "z", "x", "total")
    rows = [{"step": 5, **{f"{name}_bits": None for name in terms}}]
    rows += [{"step": step, **{f"{name}_bits": 100.0 - step * 20 for name in terms}} for step in (10, 15)]
    (axes,) = figures.losses(rows).axes
    assert [len(line.get_xdata()) for line in axes.lines] == [2, 2, 2, 2]


def test_a_run_shorter_than_a_row_of_its_log_says_so():
    rows = [{"step": 5, **{f"{name}_bits": None for name in ("w", "z", "x", "total")}}]
    for given in ([], rows):
        (axes,) = figures.losses(given).axes
        assert [text.get_text() for text in axes.texts] == ["no row of the log yet"] and not axes.axison


def test_distances_are_labelled_as_far_as_they_go():
    rows = [{"k": 1, "model": math.nan, "saturated": math.nan}, {"k": 2, "model": 0.05, "saturated": 84.2}]
    (axes,) = figures.distances(rows).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()][-3:] == ["10", "20", "50"]
    assert axes.get_ylim()[1] > 84.2 and not len(axes.yaxis.get_minorticklocs())
    (axes,) = figures.distances([{"k": 2, "model": 0.05}]).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()][-1] == "2"


def test_nothing_is_below_nothing():
    assert [figure(name, -0.0004) for name in ("z_bits", "model", "floor")] == ["0.0", "0.000", "0.000"]
    assert figure("z_bits", -0.06) == "-0.1" and figure("model", math.nan) == "-"


def test_info_names_versions_processor_and_every_backend():
    from compvae_fast.backends import backends

    text = info_text()
    for value in facts().values():
        assert value in text
    for backend in backends().values():
        (line,) = [line for line in text.splitlines() if line.startswith(f"{backend.name} ")]
        assert ("yes" in line.split()) == backend.available and backend.reason in line


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux lists the processor's features there")
def test_features_are_those_that_the_system_lists():
    assert set(processor_features()) <= set(Path("/proc/cpuinfo").read_text().split())
