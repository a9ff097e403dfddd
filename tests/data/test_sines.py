import math

import pytest
import torch

from compvae_fast.data import sines


def by_the_formula(labels, amplitudes, phases):
    """x(t) of one set, term by term in Python floats."""
    count = len(labels)
    out = []
    for t in range(200):
        total = sum(a * math.cos(2 * math.pi * f * t / 100 + k) for f, a, k in zip(labels, amplitudes, phases))
        out.append(count * math.tanh(3.0 / count * total) if count else 0.0)
    return torch.tensor(out)


@pytest.mark.parametrize("layout", ["dense", "padded", "ragged"])
def test_wholes_are_the_formula_of_their_parts(layout):
    sizes = [4, 4, 4] if layout == "dense" else [4, 0, 2]
    labels = torch.tensor([[1, 1, 5, 10], [2, 3, 3, 3], [7, 9, 4, 4]])
    where = {}
    if layout == "padded":
        labels[1:, 2:] = 99
        labels[1] = -1
        where = {"lengths": torch.tensor(sizes)}
    if layout == "ragged":
        labels = torch.cat([row[:k] for row, k in zip(labels, sizes)])
        where = {"offsets": torch.tensor([0, 4, 4, 6])}
    x = sines.wholes(labels, **where, seed=3)
    a, k = sines.amplitudes_and_phases(labels, **where, seed=3)
    combined = sines.combine(sines.curves(labels, a, k), **where)
    rows = range(len(sizes))
    for row, size in zip(rows, sizes):
        part = slice(sum(sizes[:row]), sum(sizes[:row]) + size) if layout == "ragged" else (row, slice(size))
        expected = by_the_formula(labels[part].tolist(), a[part].tolist(), k[part].tolist())
        torch.testing.assert_close(x[row], expected, atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(combined[row], expected, atol=2e-6, rtol=1e-5)


def test_every_part_is_its_own_whatever_the_batch_and_the_layout():
    labels = torch.tensor([[1, 5, 5], [2, 2, 9], [3, 1, 7], [4, 4, 4]])
    whole = sines.wholes(labels, seed=11)
    assert torch.equal(sines.wholes(labels[1:3], seed=11, set_start=1), whole[1:3])
    ragged = sines.wholes(labels.flatten(), offsets=torch.arange(0, 13, 3), seed=11)
    assert torch.equal(ragged, whole)
    a, k = sines.amplitudes_and_phases(labels, seed=11)
    a_one, k_one = sines.amplitudes_and_phases(labels[2:3, :2], seed=11, set_start=2)
    assert torch.equal(a_one, a[2:3, :2]) and torch.equal(k_one, k[2:3, :2])


def test_labels_drawn_in_shards_are_those_drawn_at_once():
    labels, offsets = sines.sample_labels(50, 9, seed=4)
    parts = [sines.sample_labels(n, 9, seed=4, set_start=s) for s, n in ((0, 13), (13, 37))]
    assert torch.equal(torch.cat([p[0] for p in parts]), labels)
    assert torch.equal(torch.cat([p[1].diff() for p in parts]), offsets.diff())


@pytest.mark.parametrize(("exponent", "k_min"), [(0.0, 1), (-0.5, 1), (0.0, 3)])
def test_sizes_and_labels_have_their_distribution(exponent, k_min):
    """Each of at most 26 frequencies within 5 deviations: a false alarm in 26 * 6e-7, one in 60,000."""
    batch = 40_000
    labels, offsets = sines.sample_labels(batch, 16, seed=5, k_min=k_min, k_exponent=exponent)
    counts = offsets.diff()
    weights = torch.arange(k_min, 17, dtype=torch.float64) ** exponent
    observed = {"K": (counts - k_min, weights / weights.sum()), "label": (labels - 1, torch.full((10,), 0.1))}
    for values, chance in observed.values():
        frequency = torch.bincount(values, minlength=len(chance)) / len(values)
        deviation = (chance * (1 - chance) / len(values)).sqrt()
        assert len(frequency) == len(chance)
        assert ((frequency - chance).abs() < 5 * deviation).all()


def test_amplitudes_and_phases_have_their_moments_and_do_not_depend_on_each_other():
    """Five statistics within 5 deviations each: a false alarm in 3e-6."""
    labels, _ = sines.sample_labels(5_000, 8, k_min=8, k_per_batch=1, seed=6)
    a, k = (v.double().flatten() for v in sines.amplitudes_and_phases(labels, seed=6))
    n = len(a)
    u, v = (a - 1) / 0.3, k / (math.pi / 2)
    for statistic, deviation in [(u, 1), (v, 1), (u * u - 1, 2**0.5), (v * v - 1, 2**0.5), (u * v, 1)]:
        assert statistic.mean().abs() < 5 * deviation / n**0.5
    assert torch.equal(sines.amplitudes_and_phases(labels, seed=6, phase_deviation=0.8)[0].flatten().double(), a)


def test_one_k_per_step_or_some_groups_of_equal_k():
    ks = set()
    for seed in range(60):
        batch = sines.draw(6, 3, seed=seed, k_per_batch=1)
        assert batch.offsets is None and batch.labels.shape[0] == 6 and batch.x.shape == (6, 200)
        ks.add(batch.labels.shape[1])
    assert ks == {1, 2, 3}
    batch = sines.draw(32, 16, seed=1, k_per_batch=4)
    groups = batch.offsets.diff().view(4, 8)
    assert (groups == groups[:, :1]).all() and len(set(groups[:, 0].tolist())) > 1


def test_released_labels_stop_at_nine():
    labels, _ = sines.sample_labels(2_000, 4, seed=1, labels=(1, 9))
    assert sorted(set(labels.tolist())) == list(range(1, 10))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k_max": 0}, "k_min, k_max.*got 1 and 0"),
        ({"k_min": 5}, "k_min, k_max.*got 5 and 4"),
        ({"labels": (3, 2)}, "labels"),
        ({"k_per_batch": 3}, "k_per_batch.*divisor.*8.*got 3"),
    ],
)
def test_empty_ranges_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        sines.sample_labels(8, **{"k_max": 4, "seed": 0, **changes})
