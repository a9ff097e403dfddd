import pytest
from hypothesis import given
from hypothesis import strategies as st

from compvae_fast.generation import parse_counts, parse_labels
from compvae_fast.models import CompVAEConfig
from compvae_fast.training import BadInput

CONFIG = CompVAEConfig()


@given(st.lists(st.integers(1, 10), min_size=1))
def test_labels_read_as_they_are_written(labels):
    assert parse_labels(",".join(map(str, labels)), CONFIG) == labels
    assert parse_labels(" , ".join(map(str, labels)), CONFIG) == labels


@given(st.dictionaries(st.integers(1, 10), st.integers(0, 2**53), min_size=1))
def test_counts_read_as_they_are_written(counts):
    assert parse_counts(",".join(f"{label}:{count}" for label, count in counts.items()), CONFIG) == counts


@pytest.mark.parametrize("text", ["", "1,", ",1", "1;2", "one", "1.5", "1 2", "[1, 2]"])
def test_what_is_no_list_of_labels_is_refused(text):
    with pytest.raises(BadInput, match="--labels: expected labels with commas"):
        parse_labels(text, CONFIG)


@pytest.mark.parametrize("label", [0, 11, -1, 10**30])
def test_a_label_out_of_range_is_named_with_the_range(label):
    with pytest.raises(BadInput, match=rf"--add: expected labels in 1..10, got {label}$"):
        parse_labels(f"1,{label}", CONFIG, name="--add")
    with pytest.raises(BadInput, match=rf"--counts: expected labels in 1..10, got {label}$"):
        parse_counts(f"{label}:1", CONFIG)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "expected label:count"),
        ("1", "expected label:count"),
        ("1:2:3", "expected label:count"),
        ("1:x", "expected label:count"),
        ("1:-1", "0..2\\^53, got -1 of label 1"),
        (f"2:{2**53 + 1}", f"0..2\\^53, got {2**53 + 1} of label 2"),
        ("1:2,1:3", "label 1 comes twice"),
    ],
)
def test_counts_that_cannot_be_are_refused(text, message):
    with pytest.raises(BadInput, match=message):
        parse_counts(text, CONFIG)
