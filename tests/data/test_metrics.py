import math

import pytest
import torch

from compvae_fast.data import metrics, sines


def test_energy_distance_is_its_double_sum_without_the_diagonal():
    x, y = torch.randn(5, 3), torch.randn(7, 3) + 1

    def mean(pairs):
        pairs = list(pairs)
        return sum(math.dist(a.tolist(), b.tolist()) for a, b in pairs) / len(pairs)

    def within(rows):
        return mean((a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j)

    values = y.flatten().tolist()
    centre = sum(values) / 21
    spread = math.sqrt(sum((v - centre) ** 2 for v in values) / 20)
    expected = (2 * mean((a, b) for a in x for b in y) - within(x) - within(y)) / spread
    assert float(metrics.energy_distance(x, y)) == pytest.approx(expected, rel=1e-5)


def test_energy_distance_of_one_distribution_is_zero_on_average():
    """Mean of 60 within 5 standard errors of 0 (false alarm 6e-7); with the diagonal it would be off by 30."""
    torch.manual_seed(0)
    draws = torch.stack([
        metrics.energy_distance(torch.randn(50, 4), torch.randn(50, 4)) for _ in range(60)
    ])
    assert draws.mean().abs() < 5 * draws.std() / 60**0.5


def test_pairs_that_share_a_cause_are_left_out_without_bias():
    """Rows whose common cause is most of what varies: 200 distances within 5 standard errors of 0 (6e-7).

    With the pairs they would be below by 2 |cause| / n = 0.1, fifty standard errors.
    """
    torch.manual_seed(0)
    found, unpaired = [], []
    for _ in range(200):
        cause = torch.randn(20, 4)
        x, y = (cause + 0.1 * torch.randn(20, 4) for _ in range(2))
        found.append(metrics.energy_distances({"x": x}, y, paired=True)["x"])
        unpaired.append(metrics.energy_distance(torch.randn(20, 4), torch.randn(20, 4)))
    found, unpaired = torch.stack(found), torch.stack(unpaired)
    assert found.mean().abs() < 5 * found.std() / 200**0.5
    assert found.std() < unpaired.std() / 5
    several = metrics.energy_distances({"a": x, "b": x + 1}, y)
    assert several["b"] == metrics.energy_distance(x + 1, y) > several["a"]
    with pytest.raises(ValueError, match="x, y: expected as many rows in pairs, got 20 and 19"):
        metrics.energy_distances({"x": x}, y[1:], paired=True)


def test_energy_distance_of_shifted_normals_is_the_analytic_one():
    """2 E|N(d, 2)| - 2 E|N(0, 2)| in closed form; quantiles in place of draws leave an error of O(1/n)."""
    shift, n = 2.0, 2000
    grid = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    y = (math.sqrt(2) * torch.erfinv(2 * grid - 1)).unsqueeze(-1)

    def folded(mean):
        return 2 / math.sqrt(math.pi) * math.exp(-(mean**2) / 4) + mean * math.erf(mean / 2)

    expected = 2 * folded(shift) - 2 * folded(0.0)
    assert float(metrics.energy_distance(y + shift, y)) == pytest.approx(expected, abs=5e-3)


def test_amplitude_ratio_is_that_of_all_values():
    y = torch.randn(20, 5)
    assert float(metrics.amplitude_ratio(3 * y + 7, y)) == pytest.approx(3.0, rel=1e-5)


def test_gaussian_fit_has_the_mean_and_covariance_of_the_sample():
    """30 entries within 6 deviations: a false alarm in 6e-8."""
    torch.manual_seed(2)
    y = torch.randn(40, 5) @ torch.randn(5, 5) + 3
    drawn = metrics.gaussian_fit(y, 20_000, seed=1).double()
    y = y.double()
    spread = y.var(0)
    assert ((drawn.mean(0) - y.mean(0)).abs() < 6 * (spread / 20_000).sqrt()).all()
    tolerance = 6 * (2 * torch.outer(spread, spread) / 20_000).sqrt()
    assert ((drawn.T.cov() - y.T.cov()).abs() < tolerance).all()


def test_one_part_saturated_alone_is_the_whole_and_many_are_not():
    torch.testing.assert_close(
        sines.PROBLEM.separately(torch.tensor([4]), 50, seed=3),
        sines.wholes(torch.full((50, 1), 4), seed=3),
    )
    labels = torch.tensor([1, 3, 3, 8])
    apart = sines.PROBLEM.separately(labels, 400, seed=3)
    assert metrics.energy_distance(apart, sines.wholes(labels.expand(400, -1), seed=4)) > 0.5


def test_two_moment_parts_have_the_true_moments():
    """Five moments of (a cos k, a sin k) within 5 deviations: a false alarm in 3e-6."""
    a, k = (v.double() for v in sines.amplitudes_and_phases(torch.ones(40_000, 1), seed=8))
    cosine, sine = a * k.cos(), a * k.sin()
    (mean, zero), (deviation_cos, deviation_sin) = sines.part_moments()
    expected = [
        (cosine, mean),
        (sine, zero),
        ((cosine - mean) ** 2, deviation_cos**2),
        (sine**2, deviation_sin**2),
        (cosine * sine, 0.0),
    ]
    for statistic, value in expected:
        assert (statistic.mean() - value).abs() < 5 * statistic.std() / 40_000**0.5


def test_two_moment_parts_become_exact_as_parts_are_added():
    distances = []
    for k in (1, 16):
        labels = sines.sample_labels(1, k, k_min=k, k_per_batch=1, seed=2)[0][0]
        drawn = sines.two_moment_parts(labels, 1000, seed=1)
        distances.append(metrics.energy_distance(drawn, sines.wholes(labels.expand(1000, -1), seed=2)))
    assert 0.03 < distances[0] < 0.12 and distances[1] < 0.03
