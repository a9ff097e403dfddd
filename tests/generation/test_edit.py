import numpy as np
import pytest
import torch
from training.tiny import trained  # noqa: F401

from compvae_fast.data import sines
from compvae_fast.generation import edit_wholes
from compvae_fast.training import BadInput, load_run

LABELS = np.array([[2, 5, 2, 9], [9, 2, 2, 5]])


@pytest.fixture(scope="module")
def run(trained):  # noqa: F811
    return load_run(trained)


@pytest.fixture(scope="module")
def x():
    return sines.wholes(torch.from_numpy(LABELS), seed=1).numpy()


def test_an_edit_is_encode_subset_add_and_decode(run, x):
    edited = edit_wholes(run, x, LABELS, remove=[5], add=[7, 7], seed=3)
    assert edited["labels"].tolist() == [[2, 2, 9, 7, 7], [9, 2, 2, 7, 7]]
    with torch.no_grad():
        reordered = torch.tensor([[2, 2, 9, 5], [9, 2, 2, 5]])
        parts = run.model.encode(torch.from_numpy(x), reordered, seed=3)
        after = run.model.decode(parts.subset([0, 1, 2]).add([7, 7], seed=3))
        assert np.array_equal(edited["x"], after.mean.numpy())
        assert np.array_equal(edited["scale"], after.stddev.numpy())
        assert np.array_equal(edited["reconstruction"], run.model.decode(parts).mean.numpy())


def test_the_first_part_of_a_label_goes_and_a_label_listed_twice_goes_twice(run, x):
    assert edit_wholes(run, x, LABELS, remove=[2], add=[])["labels"].tolist() == [[5, 2, 9], [9, 2, 5]]
    assert edit_wholes(run, x, LABELS, remove=[2, 2], add=[])["labels"].tolist() == [[5, 9], [9, 5]]


def test_all_parts_may_go(run, x):
    edited = edit_wholes(run, x, LABELS, remove=[2, 2, 5, 9], add=[])
    assert edited["labels"].shape == (2, 0) and edited["x"].shape == (2, 200)


def test_what_is_given_is_not_changed(run, x):
    before, labels = x.copy(), LABELS.copy()
    edit_wholes(run, x, labels, remove=[5], add=[1])
    assert np.array_equal(x, before) and np.array_equal(labels, LABELS)


def test_a_part_that_is_not_there_is_named_with_its_whole(run, x):
    labels = LABELS.copy()
    labels[1, 3] = 6
    with pytest.raises(BadInput, match=r"whole 1 has no part of label 5 left; its labels are \[9, 2, 2, 6\]"):
        edit_wholes(run, x, labels, remove=[5], add=[])
    with pytest.raises(BadInput, match="whole 0 has no part of label 5 left"):
        edit_wholes(run, x, LABELS, remove=[5, 5], add=[])


def test_labels_out_of_range_in_the_input_are_named(run, x):
    with pytest.raises(BadInput, match="1..10, got 11"):
        edit_wholes(run, x, LABELS + 2, remove=[], add=[1])
