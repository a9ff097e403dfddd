import numpy as np
import torch

from compvae_fast.data import Description, dots, problem, sines
from compvae_fast.explore import Distribution, Multiset, Part, distribution, true_distribution
from compvae_fast.explore.distribution import context_of, multiset_of, nothing
from compvae_fast.models import CompVAE


def model():
    return CompVAE.from_preset("sines-small", hidden=8)


def test_curves_and_numbers_are_those_of_the_draws():
    x = torch.randn(101, 7, generator=torch.Generator().manual_seed(0))
    seen = Distribution.of(x)
    values = x.double().numpy()
    np.testing.assert_allclose(seen.mean, values.mean(0))
    np.testing.assert_allclose(seen.quantiles, np.quantile(values, (0.05, 0.25, 0.75, 0.95), axis=0))
    np.testing.assert_allclose(seen.peaks, np.abs(values).max(1))
    np.testing.assert_allclose(seen.deviation, np.sqrt(values.var(0, ddof=1).mean()))
    np.testing.assert_allclose(seen.intensities, values.mean(1))
    np.testing.assert_allclose(seen.spread, values.std(0, ddof=1))
    assert np.array_equal(Distribution.of(x.unflatten(1, (7, 1))).samples, seen.samples)


def test_a_distribution_is_that_of_generated_wholes():
    made = model()
    multiset = nothing(made).put(Part(1), 2).put(Part(7), 1)
    assert multiset.labels == tuple(range(1, 11))
    seen = distribution(made, multiset, draws=64, seed=5, noise=True)
    x = made.generate(counts=list(multiset.counts), n=64, seed=5).detach()
    np.testing.assert_allclose(seen.mean, x.double().mean(0))
    calm = distribution(made, multiset, draws=64, seed=5)
    assert calm.deviation < seen.deviation


def test_a_million_parts_of_each_label_and_none_at_all_are_distributions():
    made = model()
    for count in (0, 10**6):
        seen = distribution(made, nothing(made).put(Part(3), count).put(Part(9), count), draws=16)
        assert np.isfinite(seen.quantiles).all() and np.isfinite(seen.peaks).all()


def test_neighbourhoods_follow_the_temperature():
    made = CompVAE.from_preset("households-small", hidden=8)
    with torch.no_grad():
        for values in made.parameters():  # whose last layers begin at zero
            values += 0.1 * torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
    multiset = nothing(made).put(Part(1), 50)
    cold, warm = (distribution(made, multiset, draws=16, context=context_of(made, degrees)) for degrees in (-5, 25))
    assert cold.mean.shape == (336,) and not np.allclose(cold.mean, warm.mean)
    assert context_of(model(), 10.0) is None


def test_dots_are_drawn_of_their_places_however_many_they_are():
    made = CompVAE.from_preset("dots-small", hidden=8)
    red, blue = Part(0, (-0.5, 0.3)), Part(2, (0.6, 0.1))
    multiset = nothing(made).put(red, 2).put(blue, 1)
    assert nothing(made).parts == ()
    seen = distribution(made, multiset, draws=16, seed=5, noise=True)
    with torch.no_grad():
        x = made.generate([0, 2], counts=[2, 1], features=torch.tensor([red.features, blue.features]), n=16, seed=5)
    np.testing.assert_allclose(seen.mean, x.double().flatten(1).mean(0), atol=1e-6)
    for many in (nothing(made), multiset.repeated(10**6)):
        assert np.isfinite(distribution(made, many, draws=16).quantiles).all()


def test_the_truth_is_that_of_parts_one_by_one():
    red, blue = Part(0, (-0.5, 0.3)), Part(2, (0.6, 0.1))
    seen = true_distribution(dots.PROBLEM, Multiset((red, blue), (2, 1)), draws=16, seed=5)
    places = torch.tensor([red.features, red.features, blue.features]).expand(16, -1, -1)
    x = dots.PROBLEM.wholes(torch.tensor([0, 0, 2]).expand(16, -1), features=places, seed=5)
    np.testing.assert_allclose(seen.mean, x.double().flatten(1).mean(0), atol=1e-6)
    curves = true_distribution(sines.PROBLEM, Multiset((Part(1), Part(4), Part(7)), (2, 0, 1)), draws=16, seed=5)
    x = sines.wholes(torch.tensor([1, 1, 7]).expand(16, -1), seed=5)
    np.testing.assert_allclose(curves.mean, x.double().mean(0), atol=1e-6)


def test_every_problem_has_an_example_and_names_for_its_labels():
    for preset, parts in (("sines-small", 4), ("households-small", 104), ("dots-small", 4)):
        made = CompVAE.from_preset(preset, hidden=8)
        asked = made.problem.example()
        assert multiset_of(made, asked).total == asked.labels.numel() == parts
        names = [made.problem.label_name(label) for label in range(made.problem.labels[0], made.problem.labels[1] + 1)]
        assert len(set(names)) == made.config.num_labels
    alike = CompVAE.from_preset("households-small", hidden=8, num_labels=1)
    assert multiset_of(alike, alike.problem.example()).counts == (8,)
    assert problem("households").label_name(1) == "base 3 kVA" and problem("sines").label_name(3) == "label 3"
    assert [problem("dots").label_colour(label) for label in (1, 4)] == ["#00ff00", "#ffffff"]
    assert problem("sines").label_colour(1) is None
    one = Description(torch.tensor([[1, 1]]), None, torch.tensor([[[0.251, 0.0], [0.249, 0.0]]]))
    assert multiset_of(CompVAE.from_preset("dots-small", hidden=8), one).counts == (2,), "places to two digits"
