"""The hierarchical observation against the explicit Gaussian that it is, and the noise's variances."""

import math

import pytest
import torch

from compvae_fast.nn import HierarchicalObservation, NoiseVariance, Pyramid, optimal_logvar

SIZES = [((8,), 1, "linear"), ((12,), 2, "nearest"), ((16,), 3, None), ((4, 8), 2, "bilinear"), ((4, 4), 1, "nearest")]


def observation(size, depth, mode, *, batch=3, channels=(), corrections=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pyramid = Pyramid(size, depth, mode)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    mean = draw(batch, *channels, *size)
    logvars = [draw(batch, *channels, *shape) for shape in pyramid.shapes]
    return HierarchicalObservation(pyramid, mean, logvars, corrections), mean, logvars


@pytest.mark.parametrize(("size", "depth", "mode"), SIZES)
def test_parts_and_whole_are_one_to_one(size, depth, mode):
    pyramid = Pyramid(size, depth, mode)
    x = torch.randn(2, 5, *size, dtype=torch.float64)
    levels = pyramid.split(x)
    assert sum(level[0, 0].numel() for level in levels) == x[0, 0].numel()
    torch.testing.assert_close(pyramid.join(levels), x)
    # a smaller version is the mean of its blocks, at every depth
    for level in range(depth):
        smaller = pyramid.join(levels[: depth - level])
        blocks = x.unfold(-1, 2 ** (level + 1), 2 ** (level + 1)).mean(-1)
        if len(size) == 2:
            blocks = blocks.unfold(-2, 2 ** (level + 1), 2 ** (level + 1)).mean(-1)
        torch.testing.assert_close(smaller, blocks)
    matrix = pyramid.matrix(x)
    flat = torch.cat([level.flatten(2) for level in levels], dim=-1)
    torch.testing.assert_close(flat @ matrix.T, x.flatten(2))
    assert torch.linalg.slogdet(matrix).logabsdet.item() == pytest.approx(pyramid.volume)


@pytest.mark.parametrize(("size", "depth", "mode"), SIZES)
def test_the_likelihood_is_that_of_the_explicit_gaussian(size, depth, mode):
    seen, mean, logvars = observation(size, depth, mode)
    x = torch.randn(3, *size, dtype=torch.float64)
    matrix = seen.pyramid.matrix(mean)
    for row in range(3):
        variance = torch.cat([v[row].flatten() for v in logvars]).exp()
        covariance = matrix @ torch.diag(variance) @ matrix.T
        explicit = torch.distributions.MultivariateNormal(mean[row].flatten(), covariance)
        torch.testing.assert_close(seen.nll(x)[row], -explicit.log_prob(x[row].flatten()))
        torch.testing.assert_close(seen.stddev[row].flatten(), covariance.diagonal().sqrt())
    torch.testing.assert_close(seen.mean, mean)
    torch.testing.assert_close(torch.stack(seen.nll_by_level(x)).sum(0), seen.nll(x))


def test_a_density_with_nonlinear_corrections_integrates_to_one():
    """Two values, one correction that bends: the density over a grid of 40 deviations' width."""
    pyramid = Pyramid((2,), 1)
    bend = [lambda c: (torch.sin(3 * c)[..., None] + 0.3 * c[..., None].square(), 0.4 * torch.cos(c)[..., None])]
    grid = torch.linspace(-14, 14, 1401, dtype=torch.float64)
    x = torch.cartesian_prod(grid, grid)
    logvars = [torch.tensor(-0.5, dtype=torch.float64), None]
    seen = HierarchicalObservation(pyramid, torch.zeros(len(x), 2, dtype=torch.float64), logvars, bend)
    total = (-seen.nll(x)).exp().sum() * (grid[1] - grid[0]) ** 2
    assert total.item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("bent", [False, True])
def test_draws_have_the_densitys_distribution(bent):
    """Means and covariances of 40,000 draws in the noise's own coordinates, 8 means and 36 products within 5
    deviations each: a false alarm in 44 * 6e-7, one in 40,000."""
    pyramid, n = Pyramid((8,), 2), 40_000
    corrections = [lambda c: 0.3 * c[..., None] ** 2, lambda c: torch.cos(c)[..., None]] if bent else None
    seen, _, _ = observation((8,), 2, None, batch=1, corrections=corrections)
    mean, logvars = seen.pyramid.join(seen.means).expand(n, -1), [v.expand(n, *v.shape[1:]) for v in seen.logvars]
    many = HierarchicalObservation(pyramid, mean, logvars, corrections)
    x = many.draw(3)
    smaller = [None, *(pyramid.join(pyramid.split(x)[: level + 1]) for level in range(2))]
    told = [many._at(level, below) for level, below in enumerate(smaller)]
    unit = torch.cat([((v - m) * (-0.5 * s).exp()).flatten(1) for v, (m, s) in zip(pyramid.split(x), told)], 1)
    assert (unit.mean(0).abs() < 5 / math.sqrt(n)).all()
    products = (unit.T @ unit) / n - torch.eye(8, dtype=torch.float64)
    assert (products.abs() < 5 * (1 + torch.eye(8)).sqrt() / math.sqrt(n)).all()
    assert torch.equal(many.draw(3, rows=torch.arange(n))[7:9], x[7:9])


def test_a_whole_given_its_true_smaller_version():
    seen, mean, _ = observation((16,), 2, None)
    x = torch.randn(3, 16, dtype=torch.float64)
    levels = seen.pyramid.split(x)
    rough = seen.given(levels[0])
    torch.testing.assert_close(seen.pyramid.split(rough)[0], levels[0])
    torch.testing.assert_close(seen.pyramid.split(rough)[2], seen.means[2])
    torch.testing.assert_close(seen.given(x), x)
    torch.testing.assert_close(seen.given(seen.pyramid.split(mean)[0]), mean)
    with pytest.raises(ValueError, match=r"coarse: expected sides .* got \[3, 5\]"):
        seen.given(torch.zeros(3, 5, dtype=torch.float64))


def test_gradients_reach_the_mean_the_variances_and_the_corrections():
    pyramid = Pyramid((4, 4), 1)
    weight = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)

    def nll(mean, coarse, fine, weight, x):
        bend = [lambda c: c[..., None].square() * weight]
        return HierarchicalObservation(pyramid, mean, [coarse, fine], bend).nll(x)

    inputs = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in
              ((2, 4, 4), (2, 2, 2), (2, 2, 2, 3))]
    x = torch.randn(2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(nll, (*inputs, weight, x))


def test_colours_are_further_dimensions():
    seen, mean, logvars = observation((4, 4), 1, None, channels=(3,))
    x = torch.randn(3, 3, 4, 4, dtype=torch.float64)
    single = [
        HierarchicalObservation(seen.pyramid, mean[:, c], [v[:, c] for v in logvars]).nll(x[:, c]) for c in range(3)
    ]
    torch.testing.assert_close(seen.nll(x), sum(single))
    assert seen.stddev.shape == seen.draw(1).shape == x.shape


@pytest.mark.parametrize(
    ("size", "depth", "mode", "words"),
    [
        ((6,), 2, None, "depth.*divisible"),
        ((4, 4, 4), 1, None, "size"),
        ((8,), 1, "cubic", "mode: expected one of nearest, linear"),
    ],
)
def test_pyramids_that_cannot_be_are_refused(size, depth, mode, words):
    with pytest.raises(ValueError, match=words):
        Pyramid(size, depth, mode)


def test_what_does_not_fit_a_pyramid_is_refused():
    pyramid = Pyramid((8,), 1)
    with pytest.raises(ValueError, match="logvars: expected 2"):
        HierarchicalObservation(pyramid, torch.zeros(2, 8), [torch.zeros(())])
    with pytest.raises(ValueError, match=r"mean: expected .*8\], got \[2, 6\]"):
        HierarchicalObservation(pyramid, torch.zeros(2, 6), [torch.zeros(())] * 2)
    with pytest.raises(ValueError, match="logvars: expected one for level 1"):
        HierarchicalObservation(pyramid, torch.zeros(2, 8), [torch.zeros(()), None]).draw(0)
    with pytest.raises(ValueError, match=r"x: expected \[B, 8\]"):
        HierarchicalObservation(pyramid, torch.zeros(2, 8), [torch.zeros(())] * 2).nll(torch.zeros(2, 6))


def test_variances_by_kind_and_their_bound():
    latents = torch.randn(5, 3)
    one, each = (NoiseVariance(kind, (4, 2), sigma_min=0.1, start=2.0) for kind in ("global", "dimension"))
    told = NoiseVariance("latent", (4, 2), sigma_min=0.1, start=2.0, latent=3)
    assert one().shape == () and each().shape == (4, 2) and told(latents).shape == (5, 4, 2)
    for variance in (one(), each(), told(latents)):
        torch.testing.assert_close(variance.exp(), torch.tensor(4.0).expand_as(variance))
    with torch.no_grad():
        told.of_latents.weight.normal_()
        each.logvar.fill_(-100.0)
    assert told(latents)[0].var() > 0
    torch.testing.assert_close(each().exp().sqrt(), torch.tensor(0.1).expand(4, 2))
    for kind, latent in (("latent", 0), ("global", 3)):
        with pytest.raises(ValueError, match="latent: expected"):
            NoiseVariance(kind, (4,), sigma_min=0.1, latent=latent)
    with pytest.raises(ValueError, match="latents: expected"):
        told()


def test_the_optimal_variance_is_where_the_likelihood_is_largest():
    errors = torch.randn(50, 6, dtype=torch.float64) * torch.tensor([0.5, 1, 2, 3, 4, 5], dtype=torch.float64)
    for by_dimension in (False, True):
        best = optimal_logvar(errors, sigma_min=0.01, by_dimension=by_dimension)

        def nll(logvar):
            return 0.5 * (errors.square() * (-logvar).exp() + logvar).mean()

        free = best.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(nll(free), free)
        assert gradient.abs().max() < 1e-12
        assert nll(best + 0.1) > nll(best) and nll(best - 0.1) > nll(best)
    assert optimal_logvar(0 * errors, sigma_min=0.3).exp().sqrt().item() == pytest.approx(0.3)
    with pytest.raises(ValueError, match="errors"):
        optimal_logvar(torch.zeros(0, 3), sigma_min=0.1)
