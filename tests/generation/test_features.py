"""The commands on a problem whose parts have features."""

import math
import re

import numpy as np
import pytest
import torch

from compvae_fast.cli import main
from compvae_fast.data import Problem, dots, sines
from compvae_fast.generation import parse_features, read_context
from compvae_fast.report.measures import _mean
from compvae_fast.training import BadInput, load_run

TINY = ["--recipe.batch=2", "--recipe.k_start=2", "--recipe.k_max=2", "--model.hidden=4", "--model.w_dim=20",
        "--threads=1", "--log_every=1"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("jsonargparse", reason="the command line needs jsonargparse")
    path = tmp_path_factory.mktemp("dots") / "run"
    assert main(["train", "dots-small", "--steps=2", *TINY, "--out", str(path)]) == 0
    return path


def refused(capsys, *arguments):
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = end.code
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 2 and line.startswith("compvae_fast: error: ")
    return line


def test_wholes_are_generated_and_edited_with_their_features(folder, tmp_path):
    made, edited = tmp_path / "made.npz", tmp_path / "edited.npz"
    where = ["--features", "0.1,-0.3;0.5,0.2"]
    assert main(["generate", str(folder), "--labels", "0,3", *where, "--n", "2", "--out", str(made)]) == 0
    with np.load(made) as stored:
        assert stored["x"].shape == (2, 3, 32, 32) and stored["features"].tolist()[1] == pytest.approx([0.5, 0.2])
    change = ["--remove", "0", "--add", "4", "--add_features=-0.5,0.25"]
    assert main(["edit", str(folder), "--input", str(made), *change, "--out", str(edited)]) == 0
    with np.load(edited) as stored:
        assert stored["labels"].tolist() == [[3, 4]] * 2
        assert stored["features"][1].tolist() == [pytest.approx([0.5, 0.2]), [-0.5, 0.25]]
        assert stored["x"].shape == stored["scale"].shape == (2, 3, 32, 32)


def test_a_file_of_labels_and_locations_is_one_multiset(folder, tmp_path):
    rows = tmp_path / "parts.csv"
    rows.write_text("0,0.1,-0.3\n3,0.5,0.2\n")
    out = tmp_path / "made.npz"
    assert main(["generate", str(folder), "--labels_file", str(rows), "--seed", "4", "--out", str(out)]) == 0
    features = np.array([[0.1, -0.3], [0.5, 0.2]], np.float32)
    beside = load_run(folder).model.generate([0, 3], features=torch.from_numpy(features), seed=4)
    with np.load(out) as stored:
        assert stored["parts"] == 2
        np.testing.assert_allclose(stored["x"], beside.numpy(), atol=1 / 255 + 1e-6)


def test_evaluate_measures_dots_and_leaves_out_what_does_not_vary(folder, capsys):
    settings = ["--n", "20", "--multisets", "2", "--importance", "1", "--sizes", "[1,3]"]
    assert main(["evaluate", str(folder), *settings]) == 0
    heading, one, three = capsys.readouterr().out.splitlines()[:3]
    assert "saturated parts" in heading and "two moments" not in heading
    assert [one.split()[0], three.split()[0]] == ["1", "3"]
    assert _mean([math.nan, 1.0, 3.0, math.inf]) == 2.0 and math.isnan(_mean([math.nan]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--labels", "0,3"], "features: expected 2 numbers for each part"),
        (["--labels", "0,3", "--features", "0.1,0.2"], "--features: expected those of 2 parts.*got 1"),
        (["--labels", "0", "--features", "0.1"], "--features: expected location across, location down for each part"),
        (["--labels", "0", "--features", "a,b"], "--features: expected location"),
        (["--counts", "0:4"], "counts: expected labels beside the features"),
        (["--labels", "0", "--features", "0,0", "--context", "c.npy"], "--context: expected none"),
        (["--jobs", "jobs.csv"], "--jobs: expected a run whose parts are told by labels alone"),
    ],
)
def test_what_is_missing_or_wrong_is_one_line(folder, tmp_path, capsys, arguments, words):
    assert re.search(words, refused(capsys, "generate", folder, *arguments, "--out", tmp_path / "x.npz"))
    assert not (tmp_path / "x.npz").exists()


class Weather(Problem):
    name = "weather"
    context = 2


def test_contexts_are_read_and_refused_by_what_is_wrong(tmp_path):
    path = tmp_path / "c.npy"
    np.save(path, np.array([1, 2]))
    assert read_context(path, Weather()).tolist() == [1.0, 2.0]
    for values, words in ((np.zeros(3), "expected 2 numbers"), (np.array([1.0, np.nan]), "finite")):
        np.save(path, values)
        with pytest.raises(BadInput, match=words):
            read_context(path, Weather())
    path.write_bytes(b"text")
    for broken, words in ((path, "no .npy file"), (tmp_path / "none.npy", "does not exist")):
        with pytest.raises(BadInput, match=words):
            read_context(broken, Weather())
    with pytest.raises(BadInput, match="expected none, the parts of 'sines' have no features"):
        parse_features("1,2", 1, sines.PROBLEM)
    assert parse_features("1,2", 1, dots.PROBLEM).dtype == np.float32
