from pathlib import Path

import numpy as np
import pytest
import torch
from training.tiny import trained  # noqa: F401

from compvae_fast.data import problem
from compvae_fast.generation import generate_wholes, read_wholes, write_wholes
from compvae_fast.training import BadInput, load_run


@pytest.fixture(scope="module")
def run(trained):  # noqa: F811
    return load_run(trained)


def test_wholes_are_those_of_the_model(run):
    made = generate_wholes(run, labels=[1, 1, 5, 7], n=6, seed=3)
    assert np.array_equal(made["x"], run.model.generate([1, 1, 5, 7], n=6, seed=3).numpy())
    assert made["x"].dtype == np.float32 and made["labels"].tolist() == [1, 1, 5, 7]
    assert (int(made["seed"]), str(made["preset"]), int(made["step"])) == (3, "sines-small", 12)
    quiet = generate_wholes(run, labels=[1, 1, 5, 7], n=6, seed=3, noise=False)["x"]
    assert np.array_equal(quiet, run.model.generate([1, 1, 5, 7], n=6, seed=3, noise=False).numpy())


def test_one_of_many_draws_is_made_alone_and_labels_come_from_files(run, tmp_path):
    many = generate_wholes(run, labels=[1, 1, 5, 7], n=6, seed=3)["x"]
    alone = generate_wholes(run, labels=[1, 1, 5, 7], first=4, seed=3)
    np.testing.assert_allclose(alone["x"][0], many[4], rtol=1e-5, atol=1e-4)
    np.save(tmp_path / "labels.npy", [1, 1, 5, 7])
    seen = []
    of_file = generate_wholes(run, labels_file=tmp_path / "labels.npy", n=6, seed=3, progress=seen.append)
    np.testing.assert_allclose(of_file["x"], many, rtol=1e-5, atol=1e-4)
    assert int(of_file["parts"]) == 4 and seen == [4]


def test_counts_stand_for_as_many_parts(run):
    made = generate_wholes(run, counts={5: 3, 1: 10**9}, n=2, seed=4)
    assert made["counts"].tolist() == [10**9, 0, 0, 0, 3, 0, 0, 0, 0, 0]
    expected = run.model.generate(counts=torch.from_numpy(made["counts"]), n=2, seed=4)
    assert np.array_equal(made["x"], expected.numpy())


@pytest.mark.parametrize(
    "settings, message",
    [
        ({}, "--labels, --counts, --labels_file: expected exactly one"),
        ({"labels": [1], "counts": {1: 1}}, "--labels, --counts, --labels_file: expected exactly one"),
        ({"labels": [1], "n": 0}, "--n: expected at least 1, got 0"),
        ({"labels": [1], "first": -1}, "--first: expected at least 0, got -1"),
        ({"labels_file": Path("none.npy")}, "--labels_file: none.npy does not exist"),
        ({"labels": [1], "seed": -1}, "--seed"),
        ({"labels": [1], "seed": 2**64}, "--seed"),
    ],
)
def test_what_cannot_be_drawn_is_refused(run, settings, message):
    with pytest.raises(BadInput, match=message):
        generate_wholes(run, **settings)


def test_seeds_to_the_largest_are_taken_and_stored(run):
    assert int(generate_wholes(run, labels=[1], seed=2**64 - 1)["seed"]) == 2**64 - 1


def test_stored_wholes_come_back_and_are_the_same_bytes(run, tmp_path):
    made = generate_wholes(run, labels=[2, 9], n=3, seed=1)
    for name in ("a.npz", "b.npz"):
        write_wholes(tmp_path / name, made)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    read = read_wholes(tmp_path / "a.npz", problem("sines"))
    assert np.array_equal(read["x"], made["x"]) and read["labels"].tolist() == [[2, 9]] * 3


X = np.zeros((3, 200), np.float32)


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"x": X}, "found no labels"),
        ({"y": X}, "found no labels and no x"),
        ({"x": X[:, :-1], "labels": [1]}, r"expected floats \[n, 200\], got float32 \[3, 199\]"),
        ({"x": X.astype(int), "labels": [1]}, "expected floats"),
        ({"x": X + np.nan, "labels": [1]}, "finite"),
        ({"x": X, "labels": [[1], [2]]}, r"labels: expected integers \[K\] or \[3, K\], got int64 \[2, 1\]"),
        ({"x": X, "labels": [1.0]}, "labels: expected integers"),
        ({"x": X, "labels": 1}, "labels: expected integers"),
        ({"x": X, "labels": np.array([None])}, "no .npz file, or a damaged one"),
    ],
)
def test_arrays_that_are_no_wholes_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(BadInput, match=message):
        read_wholes(tmp_path / "x.npz", problem("sines"))


def test_files_that_are_no_npz_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", x=X, labels=[1])
    whole = (tmp_path / "x.npz").read_bytes()
    np.save(tmp_path / "y.npy", X)
    alone = (tmp_path / "y.npy").read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:-1], alone):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(BadInput, match="no .npz file, or a damaged one"):
            read_wholes(tmp_path / "x.npz", problem("sines"))
    with pytest.raises(BadInput, match="does not exist"):
        read_wholes(tmp_path / "none.npz", problem("sines"))
    with pytest.raises(BadInput, match="cannot be read"):
        read_wholes(tmp_path, problem("sines"))
