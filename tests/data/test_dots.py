import itertools
import math

import pytest
import torch

from compvae_fast.data import dots, problem

LABELS = torch.tensor([[0, 3, 1], [4, 2, 2]])
LENGTHS = torch.tensor([3, 2])
PROBLEM = problem("dots")
COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "black": (0, 0, 0), "white": (1, 1, 1)}


def located(labels, **options):
    return PROBLEM.sample_features(labels, seed=3, **options)


def pixel(labels, locations, intensity, row, column):
    """One pixel by the formula, in Python's floats."""
    x, y = 2 * column / 31 - 1, 2 * row / 31 - 1
    weights = [math.exp(-a * ((x - u) ** 2 + (y - v) ** 2)) for (u, v), a in zip(locations, intensity)]
    mixed = [0.0] * 3
    for label, weight in zip(labels, weights):
        for channel, value in enumerate(COLOURS[dots.COLOURS[label]]):
            mixed[channel] += weight / sum(weights) * value
    return [min(max(value ** (1 / 2.4), 0.0), 1.0) for value in mixed]


def test_images_are_the_formula_pixel_by_pixel():
    locations = located(LABELS)
    intensity = dots.intensities(LABELS, seed=8)
    x = PROBLEM.wholes(LABELS, lengths=LENGTHS, features=locations, seed=8)
    assert x.shape == (2, 3, 32, 32) and x.dtype == torch.float32
    for image, labels, places, own, k in zip(x, LABELS, locations, intensity, LENGTHS.tolist()):
        for row, column in itertools.product(range(0, 32, 3), range(32)):
            expected = pixel(labels[:k].tolist(), places[:k].tolist(), own[:k].tolist(), row, column)
            assert image[:, row, column].tolist() == pytest.approx(expected, abs=2e-5)


def test_the_first_coordinate_runs_along_the_width():
    labels = torch.tensor([[0, 2]])
    locations = torch.tensor([[[-0.8, 0.0], [0.8, 0.0]]])
    (image,) = PROBLEM.wholes(labels, features=locations, seed=1)
    assert (image[0, :, 0] > 0.99).all() and (image[2, :, -1] > 0.99).all()


def test_a_whole_is_the_same_in_every_layout_and_alone():
    locations = located(LABELS)
    padded = PROBLEM.wholes(LABELS, lengths=LENGTHS, features=locations, seed=8)
    mask = torch.arange(3) < LENGTHS[:, None]
    ragged = {"offsets": torch.tensor([0, 3, 5]), "features": locations[mask]}
    torch.testing.assert_close(PROBLEM.wholes(LABELS[mask], **ragged, seed=8), padded)
    alone = PROBLEM.wholes(LABELS[1:, :2], features=locations[1:, :2], seed=8, set_start=1)
    torch.testing.assert_close(alone, padded[1:])
    assert torch.equal(located(LABELS[1:], set_start=1), locations[1:])
    last = dots.intensities(LABELS[:, 2:], seed=8, part_start=2)
    assert torch.equal(last, dots.intensities(LABELS, seed=8)[:, 2:])
    # nothing in the padding matters
    locations[1, 2] = torch.nan
    assert torch.equal(PROBLEM.wholes(LABELS, lengths=LENGTHS, features=locations, seed=8), padded)


def test_locations_and_intensities_are_uniform_and_do_not_depend_on_each_other():
    """Six statistics within 5 deviations each: a false alarm in 4e-6."""
    asked = PROBLEM.describe(5_000, 4, k_min=4, k_per_batch=1, seed=2)
    places = asked.features.double() / 0.9
    own = (dots.intensities(asked.labels, seed=2).double() - 7.5) / 2.5
    assert places.abs().max() <= 1 and own.abs().max() <= 1
    across, down, a = places[..., 0], places[..., 1], own
    n = a.numel()
    for values in (across, down, a):
        assert values.mean().abs() < 5 * (1 / 3 / n) ** 0.5
    for one, other in itertools.combinations((across, down, a), 2):
        assert (one * other).mean().abs() < 5 * (1 / 9 / n) ** 0.5


def test_a_dot_alone_colours_everything_and_none_leave_black():
    for label, name in enumerate(dots.COLOURS):
        (image,) = PROBLEM.wholes(torch.tensor([[label]]), features=torch.zeros(1, 1, 2), seed=0)
        assert torch.equal(image, torch.tensor(COLOURS[name]).float()[:, None, None].expand(3, 32, 32))
    empty = PROBLEM.wholes(
        torch.tensor([4]), offsets=torch.tensor([0, 0, 1]), features=torch.zeros(1, 2), seed=0
    )
    assert not empty[0].any() and (empty[1] == 1).all()
    nothing = PROBLEM.wholes(torch.zeros(2, 0, dtype=torch.int64), features=torch.zeros(2, 0, 2), seed=0)
    assert nothing.shape == (2, 3, 32, 32) and not nothing.any()


def test_separate_parts_are_averaged():
    labels = torch.tensor([0, 4])
    apart = PROBLEM.separately(labels, 3, features=torch.zeros(2, 2), seed=1)
    assert torch.equal(apart, torch.tensor([1.0, 0.5, 0.5])[:, None, None].expand(3, 3, 32, 32))


def test_a_batch_has_locations_for_every_part():
    batch = PROBLEM.draw(6, 5, seed=4)
    assert batch.x.shape == (6, 3, 32, 32) and batch.context is None
    assert batch.features.shape == (len(batch.labels), 2) and batch.labels.max() <= 4
    again = PROBLEM.wholes(batch.labels, offsets=batch.offsets, features=batch.features, seed=4)
    assert torch.equal(again, batch.x)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "features: expected 2 numbers for each part in the problem 'dots', got None"),
        ({"features": torch.zeros(2, 3, 2), "context": torch.zeros(2, 1)}, "context: expected None .* got"),
    ],
)
def test_what_is_missing_or_too_much_is_named(options, words):
    with pytest.raises(ValueError, match=words):
        PROBLEM.wholes(LABELS, seed=0, **options)
