"""Edits of Parts against the same edits of lists of lists."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compvae_fast.models import CompVAE, Parts

MODEL = CompVAE.from_preset("sines-small", w_dim=4, z_dim=2, hidden=4)
SETS = st.lists(st.lists(st.integers(1, 10), min_size=1, max_size=4), min_size=1, max_size=3)


def make(labels, layout):
    """Parts with these labels, each latent telling its set and place; None where the layout cannot hold them."""
    flat = torch.tensor([label for row in labels for label in row], dtype=torch.int64)
    w = torch.tensor([[1.0, 10 * b + i] for b, row in enumerate(labels) for i in range(len(row))])
    sizes = [len(row) for row in labels]
    offsets = torch.tensor([0, *sizes]).cumsum(0)
    z = torch.arange(float(len(labels))).unsqueeze(-1)
    if layout == "ragged":
        return Parts(MODEL, w, flat, offsets=offsets, z=z)
    if layout == "dense":
        if len(set(sizes)) > 1:
            return None
        return Parts(MODEL, w.view(len(sizes), -1, 2), flat.view(len(sizes), -1), z=z)
    padded = torch.full((len(sizes), 6, 2), float("nan"))
    names = torch.full((len(sizes), 6), -1)
    mask = torch.arange(6) < torch.tensor(sizes)[:, None]
    padded[mask], names[mask] = w, flat
    return Parts(MODEL, padded, names, lengths=torch.tensor(sizes), z=z)


def read(parts):
    """[[(label, tag), ...], ...] set by set."""
    ragged = parts.ragged()
    rows = list(zip(ragged.labels.tolist(), ragged.w[:, 1].tolist()))
    bounds = ragged.offsets.tolist()
    return [rows[a:b] for a, b in zip(bounds, bounds[1:])]


@settings(deadline=None)
@given(SETS, st.sampled_from(["dense", "padded", "ragged"]), st.data())
def test_edits_are_those_of_lists(labels, layout, data):
    parts = make(labels, layout)
    if parts is None:
        return
    before = read(parts)
    smallest = min(map(len, labels))
    index = data.draw(st.integers(-smallest, smallest - 1))
    after = read(parts.remove(index))
    assert after == [[p for i, p in enumerate(row) if i != index % len(row)] for row in before]
    chosen = data.draw(st.lists(st.integers(0, smallest - 1), max_size=3))
    assert read(parts.subset(chosen)) == [[p for i, p in enumerate(row) if i in chosen] for row in before]
    doubled = parts.add(dataclasses.replace(parts, w=-parts.w))
    assert read(doubled) == [row + [(label, -tag) for label, tag in row] for row in before]
    torch.testing.assert_close(doubled.sum, torch.zeros_like(doubled.sum))
    expected = torch.tensor([[len(row), sum(tag for _, tag in row)] for row in before])
    torch.testing.assert_close(parts.sum, expected)
    assert read(parts) == before and torch.equal(doubled.z, parts.z)


@pytest.mark.parametrize("layout", ["dense", "padded", "ragged"])
def test_drawn_parts_take_the_place_named(layout):
    model = CompVAE.from_preset("sines-small", w_dim=4, z_dim=2, hidden=4)
    labels = torch.tensor([[1, 2, 3], [4, 5, 6]])
    where = {"padded": {"lengths": torch.tensor([3, 3])}, "ragged": {"offsets": torch.tensor([0, 3, 6])}}
    parts = model.prior_parts(labels.flatten() if layout == "ragged" else labels, **where.get(layout, {}), seed=1)
    new = parts.replace(-2, 9, seed=4)
    flat, changed = parts.ragged(), new.ragged()
    assert changed.labels.tolist() == [1, 9, 3, 4, 9, 6]
    same = [0, 2, 3, 5]
    assert torch.equal(changed.w[same], flat.w[same])
    drawn = model.prior_parts(torch.tensor([[9], [9]]), seed=4).w[:, 0]
    assert torch.equal(changed.w[[1, 4]], drawn)
    more = parts.add([7, 8], seed=4).ragged()
    assert more.labels.tolist() == [1, 2, 3, 7, 8, 4, 5, 6, 7, 8]
    assert torch.equal(more.w[[3, 4, 8, 9]], model.prior_parts(torch.tensor([[7, 8]] * 2), seed=4).w.flatten(0, 1))
    assert parts.add(3, seed=1).counts.tolist() == [4, 4]
    assert parts.add(torch.tensor([[3], [4]]), seed=1).ragged().labels[[3, 7]].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("edit", "error", "words"),
    [
        (lambda p: p.remove(2), IndexError, "index: set 1 has 2 parts, got index 2"),
        (lambda p: p.subset([0, -3]), IndexError, "set 1 has 2 parts, got index -3"),
        (lambda p: p.replace(0, 11), IndexError, r"labels: expected values in 1\.\.10, got 11"),
        (lambda p: p.add([0]), IndexError, "got 0"),
        (lambda p: p.add(torch.ones(3, 1, dtype=torch.int64)), ValueError, r"other: expected labels \[M\] or \[2, M\]"),
        (lambda p: p.add(p.model.prior_parts([1])), ValueError, "other: expected 2 sets of width 2, got 1"),
    ],
)
def test_edits_that_cannot_be_are_named(edit, error, words):
    with pytest.raises(error, match=words):
        edit(make([[1, 2, 3], [4, 5]], "ragged"))
