import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compvae_fast.nn import Sets
from compvae_fast.nn.sets import linear_of_both

SIZES = st.lists(st.integers(0, 4), min_size=1, max_size=5)


def offsets_of(sizes):
    return torch.tensor([0, *sizes]).cumsum(0)


@given(SIZES)
def test_ragged_layout_matches_a_loop_over_the_sets(sizes):
    values = torch.arange(2.0 * sum(sizes)).view(-1, 2) ** 2
    sets = Sets.of(values[:, 0], offsets=offsets_of(sizes))
    pieces = values.split(sizes)
    assert torch.equal(sets.sum(values), torch.stack([p.sum(0) for p in pieces]))
    assert sets.counts.tolist() == sizes
    of_set, of_part = sets.positions(len(values))
    assert of_set.flatten().tolist() == [b for b, k in enumerate(sizes) for _ in range(k)]
    assert of_part.flatten().tolist() == [i for k in sizes for i in range(k)]
    per_set = torch.arange(float(len(sizes))).unsqueeze(-1)
    assert sets.to_parts(per_set).flatten().tolist() == of_set.flatten().tolist()


@given(SIZES)
def test_padding_never_enters_a_sum(sizes):
    values = torch.full((len(sizes), 5, 3), float("nan"))
    for row, k in enumerate(sizes):
        values[row, :k] = row + 1.0
    sets = Sets.of(values[..., 0], lengths=torch.tensor(sizes))
    assert sets.sum(values)[:, 0].tolist() == [(row + 1.0) * k for row, k in enumerate(sizes)]


def test_padding_gets_no_gradient_even_where_it_is_nan():
    values = torch.ones(2, 3, 1)
    values[1, 2] = float("nan")
    values.requires_grad_()
    Sets.of(values[..., 0], lengths=torch.tensor([3, 2])).sum(values).sum().backward()
    assert values.grad.flatten().tolist() == [1, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("layout", ["dense", "ragged"])
def test_linear_of_both_is_the_linear_layer_of_the_concatenation(layout):
    layer = torch.nn.Linear(7, 5).double()
    shared = torch.randn(2, 3, dtype=torch.float64)
    if layout == "dense":
        own = torch.randn(2, 4, 4, dtype=torch.float64)
        sets, rows = Sets.of(own[..., 0]), shared[:, None].expand(2, 4, 3)
    else:
        own = torch.randn(5, 4, dtype=torch.float64)
        sets = Sets.of(own[:, 0], offsets=torch.tensor([0, 2, 5]))
        rows = shared[[0, 0, 1, 1, 1]]
    expected = layer(torch.cat([rows, own], -1))
    torch.testing.assert_close(linear_of_both(layer.weight, layer.bias, own, shared, sets), expected)


@pytest.mark.parametrize(
    ("labels", "where", "error", "words"),
    [
        (torch.ones(2, 3), {"offsets": torch.tensor([0, 2]), "lengths": torch.tensor([1, 1])}, ValueError, "both"),
        (torch.ones(3), {}, ValueError, r"labels.*\[3\]"),
        (torch.ones(2, 3), {"offsets": torch.tensor([0, 6])}, ValueError, "labels"),
        (torch.ones(3), {"offsets": torch.tensor([0, 2])}, ValueError, "offsets.*rise from 0 to 3"),
        (torch.ones(3), {"offsets": torch.tensor([0, 4, 3])}, ValueError, "offsets"),
        (torch.ones(3), {"offsets": torch.tensor([0.0, 3.0])}, TypeError, "offsets.*float32"),
        (torch.ones(2, 3), {"lengths": torch.tensor([1, 4])}, ValueError, r"lengths.*0\.\.3"),
        (torch.ones(2, 3), {"lengths": torch.tensor([1])}, ValueError, r"lengths.*\[2\].*\[1\]"),
    ],
)
def test_layouts_that_do_not_fit_are_refused(labels, where, error, words):
    with pytest.raises(error, match=words):
        Sets.of(labels, **where)
