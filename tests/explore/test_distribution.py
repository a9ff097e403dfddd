import numpy as np
import torch

from compvae_fast.explore import Distribution, distribution
from compvae_fast.explore.distribution import context_of, nothing
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
    counts, edges = seen.peak_histogram(bins=9)
    assert counts.sum() == 101 and len(edges) == 10 and edges[0] == seen.peaks.min()


def test_a_distribution_is_that_of_generated_wholes():
    made = model()
    multiset = nothing(made).put(1, 2).put(7, 1)
    assert multiset.labels == tuple(range(1, 11))
    seen = distribution(made, multiset, draws=64, seed=5, noise=True)
    x = made.generate(counts=list(multiset.counts), n=64, seed=5).detach()
    np.testing.assert_allclose(seen.mean, x.double().mean(0))
    calm = distribution(made, multiset, draws=64, seed=5)
    assert calm.deviation < seen.deviation


def test_a_million_parts_of_each_label_and_none_at_all_are_distributions():
    made = model()
    for count in (0, 10**6):
        seen = distribution(made, nothing(made).put(3, count).put(9, count), draws=16)
        assert np.isfinite(seen.quantiles).all() and np.isfinite(seen.peaks).all()


def test_neighbourhoods_follow_the_temperature():
    made = CompVAE.from_preset("households-small", hidden=8)
    with torch.no_grad():
        for values in made.parameters():  # whose last layers begin at zero
            values += 0.1 * torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
    multiset = nothing(made).put(1, 50)
    cold, warm = (distribution(made, multiset, draws=16, context=context_of(made, degrees)) for degrees in (-5, 25))
    assert cold.mean.shape == (336,) and not np.allclose(cold.mean, warm.mean)
    assert context_of(model(), 10.0) is None
