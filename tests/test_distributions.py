"""CorrelatedNormal against explicit covariances, in float64 and in 130 digits, and as a citizen of torch.distributions.

The noise of a draw is known (`compvae_fast.random.normal`), so that draws are tested number by number.
"""

import itertools
import math

import pytest
import torch
from reference.explicit import COUPLINGS, Digits, normal
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    Laplace,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    biject_to,
    kl_divergence,
)

from compvae_fast import ops, random
from compvae_fast.distributions import CorrelatedNormal

SETS, PARTS, WIDTH = 2, 4, 3
LOGITS = ([80.0], [10.0, -3.0], [80.0, 79.5, -80.0], [-math.inf, 3.0, -math.inf], [-80.0] * 3, [40.0, 0.0, -40.0, 10.0])


def made(coupling, shape=(SETS, PARTS, WIDTH), seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    loc, log_scale, logits = torch.randn(3, *shape, generator=generator, dtype=torch.float64).to(dtype)
    return CorrelatedNormal(loc, (log_scale / 2).exp(), logits, coupling)


def explicit(q) -> MultivariateNormal:
    """One MultivariateNormal of K dimensions for each set and coordinate."""
    return normal(q.coupling, q.loc.mT, 2 * q.scale.log().mT, q.rho_logits.mT)


def close(found, expected, tolerance=1e-12):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture(params=COUPLINGS)
def coupling(request):
    return request.param


@pytest.fixture(autouse=True)
def validation_by_default(monkeypatch):
    """torch's own default: torch.compile, at its first use in a process, turns it off for good."""
    monkeypatch.setattr(Distribution, "_validate_args", __debug__)


class TestMoments:
    def test_mean_variance_and_covariance(self, coupling):
        q = made(coupling)
        judge = explicit(q)
        close(q.mean, judge.mean.mT)
        close(q.mode, judge.mean.mT)
        close(q.covariance, judge.covariance_matrix)
        close(q.variance, judge.variance.mT)
        close(q.stddev, judge.stddev.mT)

    def test_entropy(self, coupling):
        q = made(coupling)
        close(q.entropy(), explicit(q).entropy().sum(-1))

    def test_log_prob(self, coupling):
        q = made(coupling)
        w = torch.randn(5, SETS, PARTS, WIDTH, dtype=torch.float64)
        close(q.log_prob(w), explicit(q).log_prob(w.mT).sum(-1))

    def test_sum_distribution(self, coupling):
        q = made(coupling)
        total = q.sum_distribution()
        assert isinstance(total, Independent) and isinstance(total.base_dist, Normal)
        assert (total.batch_shape, total.event_shape) == ((SETS,), (WIDTH,))
        close(total.mean, q.loc.sum(1))
        close(total.variance, explicit(q).covariance_matrix.sum((-1, -2)))

    @pytest.mark.parametrize("logits", LOGITS, ids=str)
    def test_in_130_digits(self, coupling, logits):
        generator = torch.Generator().manual_seed(len(logits))
        log_scale = 3 * torch.randn(len(logits), generator=generator, dtype=torch.float64)
        scale = log_scale.exp()
        q = CorrelatedNormal(torch.zeros(1, len(logits), 1, dtype=torch.float64), scale[None, :, None],
                             torch.tensor(logits, dtype=torch.float64)[None, :, None], coupling)
        judge = Digits(coupling)
        numbers = judge.numbers((2 * scale.log()).tolist()), judge.numbers(logits)
        deviation = judge.mp.sqrt(judge.sum_variance(*numbers))
        assert abs(q.sum_distribution().base_dist.scale.item() / deviation - 1) < 1e-10
        for found, expected in zip(q.variance.flatten().tolist(), judge.part_variances(*numbers)):
            assert abs(found / expected - 1) < 1e-10
        a = judge.matrix(*numbers)
        expected = judge.mp.log(abs(judge.mp.det(a))) + len(logits) * (1 + judge.mp.log(2 * judge.mp.pi)) / 2
        assert abs(q.entropy().item() - expected) < 1e-10


class TestDraws:
    def test_sample_s_of_set_b_draws_set_s_times_b_plus_b(self, coupling):
        q = made(coupling, dtype=torch.float32)
        w = q.rsample((2, 3), seed=11)
        assert w.shape == (2, 3, SETS, PARTS, WIDTH)
        for s in range(6):
            expected = ops.correlated_normal_rsample(
                q.loc, 2 * q.scale.log(), q.rho_logits, coupling=coupling, seed=11,
                set_index=s * SETS + torch.arange(SETS))
            assert torch.equal(w.flatten(0, 1)[s], expected)

    def test_the_noise_comes_back(self, coupling):
        q = made(coupling)
        w = q.rsample((3,), seed=5)
        eps = random.normal(5, torch.arange(3 * SETS)[:, None, None], torch.arange(PARTS)[:, None], torch.arange(WIDTH))
        root = torch.linalg.cholesky(explicit(q).covariance_matrix)
        # whitened by another root of the covariance, eps has the same norm
        white = torch.linalg.solve_triangular(root, (w - q.loc).mT[..., None], upper=False)[..., 0]
        close(white.square().sum(-1), eps.double().reshape(w.shape).square().sum(-2), 1e-5)

    def test_log_prob_of_the_draw(self, coupling):
        q = made(coupling)
        w, density = q.rsample_and_log_prob((3,), seed=5)
        assert torch.equal(w, q.rsample((3,), seed=5))
        close(density, q.log_prob(w), 1e-10)

    def test_expanding_is_drawing_more(self, coupling):
        q = made(coupling)
        assert torch.equal(q.expand((5, SETS)).rsample(seed=3), q.rsample((5,), seed=3))

    def test_torch_rules_where_no_seed_is_given(self, coupling):
        q = made(coupling)
        torch.manual_seed(1)
        first = q.sample((2,))
        assert not torch.equal(first, q.sample((2,)))
        torch.manual_seed(1)
        assert torch.equal(first, q.sample((2,)))

    def test_gradients(self, coupling):
        q = made(coupling, (1, 3, 2))
        inputs = [t.clone().requires_grad_() for t in (q.loc, q.scale, q.rho_logits)]

        def values(loc, scale, logits):
            new = CorrelatedNormal(loc, scale, logits, coupling)
            w, density = new.rsample_and_log_prob((2,), seed=1)
            return (w, density, new.log_prob(w), new.entropy(), new.variance, new.covariance,
                    new.sum_distribution().stddev)

        assert torch.autograd.gradcheck(values, inputs)
        assert not q.expand((1,)).sample().requires_grad


class TestPartsGivenSum:
    def test_conditional_of_the_explicit_gaussian(self, coupling):
        q = made(coupling)
        w_sum = torch.randn(SETS, WIDTH, dtype=torch.float64)
        given = q.parts_given_sum(w_sum)
        covariance = explicit(q).covariance_matrix
        with_sum = covariance.sum(-1)
        variance = with_sum.sum(-1)
        gain = with_sum / variance[..., None]
        close(given.mean.mT, q.loc.mT + gain * (w_sum - q.loc.sum(1))[..., None], 1e-10)
        conditional = covariance - with_sum[..., None] * gain[..., None, :]
        close(given.covariance, conditional, 1e-10)
        close(given.variance.mT, conditional.diagonal(dim1=-2, dim2=-1), 1e-10)

    def test_draw_is_the_prior_s_corrected_to_its_sum(self, coupling):
        q = made(coupling)
        w_sum = torch.randn(SETS, WIDTH, dtype=torch.float64)
        w, given = q.rsample((3,), seed=2), q.parts_given_sum(w_sum).rsample((3,), seed=2)
        close(given.sum(-2), w_sum.expand(3, -1, -1), 1e-12)
        # Matheron's rule, with the gain of the explicit covariance
        covariance = explicit(q).covariance_matrix
        gain = covariance.sum(-1) / covariance.sum((-1, -2))[..., None]
        matheron = w + gain.mT * (w_sum - w.sum(-2))[..., None, :]
        close(given, matheron, 1e-6)

    @pytest.mark.parametrize("logits", LOGITS, ids=str)
    def test_sum_and_plane_where_the_sum_is_nearly_certain(self, coupling, logits):
        shape = (1, len(logits), 1)
        generator = torch.Generator().manual_seed(0)
        scale = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5
        nu = torch.tensor(logits, dtype=torch.float64).reshape(shape)
        q = CorrelatedNormal(torch.zeros(shape, dtype=torch.float64), scale, nu, coupling)
        given = q.parts_given_sum(q.rsample(seed=4).sum(1) * 0)
        w = given.rsample(seed=1)
        assert torch.isfinite(w).all()
        assert w.sum().abs() <= 1e-12 * max(1, w.abs().sum())
        if coupling == "scaled":  # the logits move the mean alone
            variance = scale.square()
            plane = torch.diag_embed(variance.flatten()) - variance[0] * variance[0].mT / variance.sum()
            close(given.covariance[0, 0], plane, 1e-12)

    @pytest.mark.parametrize("logit", [0.0, 30.0, 80.0])
    def test_lone_part_is_the_sum(self, coupling, logit):
        q = made(coupling, (2, 1, 3))
        q = CorrelatedNormal(q.loc * 0, q.scale, torch.full_like(q.loc, logit), coupling)
        w_sum = torch.randn(2, 3, dtype=torch.float64)
        given = q.parts_given_sum(w_sum)
        close(given.rsample((4,), seed=1), w_sum[:, None].expand(4, -1, -1, -1))
        close(given.variance, torch.zeros(2, 1, 3, dtype=torch.float64))

    def test_gradients(self, coupling):
        q = made(coupling, (1, 3, 2))
        inputs = [t.clone().requires_grad_() for t in (q.loc, q.scale, q.rho_logits, q.loc.sum(1) + 1)]

        def values(loc, scale, logits, w_sum):
            given = CorrelatedNormal(loc, scale, logits, coupling).parts_given_sum(w_sum)
            return given.rsample((2,), seed=1), given.mean, given.covariance

        assert torch.autograd.gradcheck(values, inputs)

    def test_batches(self, coupling):
        q = made(coupling, (3, 2))
        given = q.parts_given_sum(torch.zeros(5, 2, dtype=torch.float64))
        assert (given.batch_shape, given.event_shape) == ((5,), (3, 2))
        assert given.sample((7,)).shape == (7, 5, 3, 2)
        wider = given.expand((4, 5))
        assert wider.mean.shape == (4, 5, 3, 2)
        assert torch.equal(wider.sample(seed=1), given.sample((4,), seed=1))

    def test_has_no_density(self, coupling):
        given = made(coupling).parts_given_sum(torch.zeros(SETS, WIDTH, dtype=torch.float64))
        with pytest.raises(NotImplementedError):
            given.log_prob(given.mean)

    @pytest.mark.parametrize("w_sum, error, message", [
        ([0.0], TypeError, "w_sum: expected a torch.Tensor"),
        (torch.zeros(SETS, WIDTH, dtype=torch.int64), TypeError, "w_sum: expected dtype"),
        (torch.zeros(SETS, WIDTH + 1), ValueError, r"w_sum: expected shape \[..., D = 3\]"),
        (torch.zeros(SETS + 1, WIDTH), ValueError, "w_sum: expected a shape that broadcasts"),
    ])
    def test_refusals(self, w_sum, error, message):
        with pytest.raises(error, match=message):
            made("scaled").parts_given_sum(w_sum)


class TestKL:
    def test_to_independent_parts(self, coupling):
        q = made(coupling)
        p = Independent(Normal(*made(coupling, seed=1).loc.new_tensor([0.3, 2.0])).expand(q.loc.shape), 2)
        judge = MultivariateNormal(p.mean.mT, torch.diag_embed(p.variance.mT))
        close(kl_divergence(q, p), kl_divergence(explicit(q), judge).sum(-1), 1e-9)
        close(kl_divergence(p, q), kl_divergence(judge, explicit(q)).sum(-1), 1e-9)

    @pytest.mark.parametrize("other", COUPLINGS)
    def test_to_another(self, coupling, other):
        q, p = made(coupling), made(other, seed=1)
        close(kl_divergence(q, p), kl_divergence(explicit(q), explicit(p)).sum(-1), 1e-9)

    @pytest.mark.parametrize("logits", LOGITS, ids=str)
    def test_to_itself(self, coupling, logits):
        shape = (1, len(logits), 1)
        nu = torch.tensor(logits, dtype=torch.float64).reshape(shape)
        equal = CorrelatedNormal(nu.new_ones(shape), nu.new_full(shape, 0.3), nu, coupling)
        assert kl_divergence(equal, equal).abs() < 1e-12

    @pytest.mark.parametrize("pair", list(itertools.product(COUPLINGS, COUPLINGS)), ids="-".join)
    @pytest.mark.parametrize("nu_q, nu_p, bits", [
        ([30.0, -3.0, 1.0], [25.0, 3.0, -40.0], 9), ([-math.inf, 5.0, 2.0], [0.0, 20.0, 19.0], 9), ([80.0], [60.0], 9),
        ([80.0, 79.0, 1.0], [-math.inf] * 3, 9), ([-80.0] * 3, [2.0, 40.0, -1.0], 9), ([34.0], [-math.inf], 60),
        ([34.0, -10.0], [-math.inf, 1.0], 60),
    ])
    def test_in_130_digits(self, pair, nu_q, nu_p, bits):
        """Scales are powers of two, so that both sides are given the same."""
        generator = torch.Generator().manual_seed(3)
        parts = len(nu_q)
        q, p = (CorrelatedNormal((torch.randint(-8, 8, (1, parts, 1), generator=generator) / 8.0).double(),
                                 2.0 ** torch.randint(-bits, bits, (1, parts, 1), generator=generator).double(),
                                 torch.tensor(nu, dtype=torch.float64)[None, :, None], c)
                for nu, c in zip((nu_q, nu_p), pair))
        judges = [Digits(c) for c in pair]
        mp = judges[0].mp
        a_q, a_p = (judge.matrix([2 * mp.log(mp.mpf(s)) for s in d.scale.flatten().tolist()],
                                 judge.numbers(d.rho_logits.flatten().tolist())) for judge, d in zip(judges, (q, p)))
        inverse = mp.inverse(a_p)
        g, shift = inverse * a_q, inverse * mp.matrix((q.loc - p.loc).flatten().tolist())
        expected = (sum(x**2 for x in g) + sum(x**2 for x in shift) - parts) / 2
        expected += mp.log(abs(mp.det(a_p))) - mp.log(abs(mp.det(a_q)))
        assert abs(kl_divergence(q, p).item() / expected - 1) < 1e-9

    def test_gradients(self, coupling):
        q, p = made(coupling, (1, 3, 2)), made(coupling, (1, 3, 2), seed=1)
        inputs = [t.clone().requires_grad_() for d in (q, p) for t in (d.loc, d.scale, d.rho_logits)]

        def values(*tensors):
            q, p = CorrelatedNormal(*tensors[:3], coupling), CorrelatedNormal(*tensors[3:], coupling)
            independent = Independent(Normal(p.loc, p.scale), 2)
            return kl_divergence(q, p), kl_divergence(q, independent), kl_divergence(independent, q)

        assert torch.autograd.gradcheck(values, inputs)

    def test_batches_broadcast(self, coupling):
        q, p = made(coupling), made(coupling, (PARTS, WIDTH), seed=1)
        independent = Independent(Normal(p.loc, p.scale), 2)
        for other in (p, independent):
            close(kl_divergence(q, other)[1], kl_divergence(made(coupling).expand((SETS,)), other.expand((SETS,)))[1])

    def test_refusals(self, coupling):
        q = made(coupling)
        for p in (Independent(Normal(q.loc, q.scale), 1), Independent(Laplace(q.loc, q.scale), 2)):
            with pytest.raises(NotImplementedError, match=r"expected Independent\(Normal, 2\)"):
                kl_divergence(q, p)
        with pytest.raises(ValueError, match=r"expected one event shape, got \[4, 3\] and \[2, 3\]"):
            kl_divergence(q, made(coupling, (SETS, 2, WIDTH)))


class TestFloat32Extremes:
    @pytest.mark.parametrize("unit", [1e-38, 1e-30, 1e30, 1e37])
    def test_every_quantity_scales(self, coupling, unit):
        """In units of 1e-38 or 1e37, whose squares are no float32 numbers, nothing but the units changes."""
        q, p = made(coupling, dtype=torch.float32), made(coupling, seed=1, dtype=torch.float32)
        shift = q.event_shape.numel() * math.log(unit)
        large, large_p = (CorrelatedNormal(d.loc * unit, d.scale * unit, d.rho_logits, coupling) for d in (q, p))
        w, density = q.rsample_and_log_prob((2,), seed=1)
        wide, wide_density = large.rsample_and_log_prob((2,), seed=1)
        close(wide / unit, w, 2e-5)
        close(wide_density + shift, density, 1e-4)
        close(large.log_prob(wide) + shift, q.log_prob(w), 2e-4)
        close(large.entropy() - shift, q.entropy(), 1e-4)
        close(large.sum_distribution().base_dist.scale / unit, q.sum_distribution().base_dist.scale, 1e-5)
        close(large.parts_given_sum(wide[0].sum(1)).mean / unit, q.parts_given_sum(w[0].sum(1)).mean, 1e-3)
        close(kl_divergence(large, large_p), kl_divergence(q, p), 1e-5)
        flat, flat_large = (Independent(Normal(d.loc, d.scale), 2) for d in (p, large_p))
        close(kl_divergence(large, flat_large), kl_divergence(q, flat), 1e-5)


    def test_sum_in_float64(self, coupling):
        q = made(coupling)
        for unit in (1e-200, 1e200):
            large = CorrelatedNormal(q.loc, q.scale * unit, q.rho_logits, coupling)
            close(large.sum_distribution().base_dist.scale / unit, q.sum_distribution().base_dist.scale)


class TestCitizenship:
    def test_shapes(self, coupling):
        lone = made(coupling, (PARTS, WIDTH))
        assert (lone.batch_shape, lone.event_shape) == ((), (PARTS, WIDTH))
        assert lone.log_prob(lone.sample((2,))).shape == (2,)
        assert lone.sum_distribution().batch_shape == ()
        grid = made(coupling, (2, 3, PARTS, WIDTH))
        assert grid.batch_shape == (2, 3)
        assert grid.covariance.shape == (2, 3, WIDTH, PARTS, PARTS)
        close(grid.entropy()[1, 2], CorrelatedNormal(grid.loc[1, 2], grid.scale[1, 2], grid.rho_logits[1, 2],
                                                     coupling).entropy())

    def test_parameters_broadcast(self, coupling):
        q = made(coupling)
        broad = CorrelatedNormal(q.loc, q.scale[:1, :1], q.rho_logits[0], coupling)
        full = CorrelatedNormal(q.loc, q.scale[:1, :1].expand_as(q.loc), q.rho_logits[:1].expand_as(q.loc), coupling)
        assert broad.scale.shape == q.loc.shape
        assert torch.equal(broad.rsample(seed=1), full.rsample(seed=1))

    def test_expand(self, coupling):
        q = made(coupling, (1, PARTS, WIDTH))
        wide = q.expand(torch.Size([5]))
        assert (wide.batch_shape, wide.coupling) == ((5,), coupling)
        close(wide.log_prob(q.loc), q.log_prob(q.loc).expand(5))
        unchecked = CorrelatedNormal(q.loc, q.scale, q.rho_logits, coupling, validate_args=False).expand((5,))
        assert (wide._validate_args, unchecked._validate_args) == (True, False)

    def test_mixture(self, coupling):
        q = made(coupling, (SETS, 3, PARTS, WIDTH))
        mixture = MixtureSameFamily(Categorical(torch.ones(SETS, 3)), q)
        w = mixture.sample((2,))
        expected = torch.logsumexp(q.log_prob(w[:, :, None]), -1) - math.log(3)
        close(mixture.log_prob(w), expected, 1e-6)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half(self, coupling, dtype):
        q = made(coupling, dtype=dtype)
        same = CorrelatedNormal(q.loc.float(), q.scale.float(), q.rho_logits.float(), coupling)
        assert torch.equal(q.rsample(seed=1), same.rsample(seed=1).to(dtype))
        w = q.rsample(seed=1)
        assert q.log_prob(w).dtype == q.entropy().dtype == kl_divergence(q, q).dtype == torch.float32
        close(q.log_prob(w), same.log_prob(w.float()), 1e-6)

    def test_empty_sets(self, coupling):
        empty = torch.zeros(2, 0, 3)
        q = CorrelatedNormal(empty, empty, empty, coupling)
        for zero in (q.entropy(), q.log_prob(q.sample()), kl_divergence(q, q), q.sum_distribution().mean):
            assert (zero == 0).all()
        w_sum = torch.zeros(2, 3, requires_grad=True)
        q.parts_given_sum(w_sum).rsample((2,)).sum().backward()
        assert (w_sum.grad == 0).all()

    def test_transform_of_logits_is_the_identity(self):
        logits = torch.tensor([[-math.inf, 0.0]])
        assert torch.equal(biject_to(CorrelatedNormal.arg_constraints["rho_logits"])(logits), logits)

    @pytest.mark.parametrize("name, value", [
        ("loc", math.nan), ("scale", 0.0), ("scale", -1.0), ("scale", math.nan), ("rho_logits", math.inf),
        ("rho_logits", math.nan)])
    def test_values_are_checked(self, name, value):
        q = made("scaled")
        parameters = {n: getattr(q, n).clone() for n in q.arg_constraints}
        parameters[name][1, 2, 0] = value
        with pytest.raises(ValueError, match=f"parameter {name}"):
            CorrelatedNormal(**parameters)
        CorrelatedNormal(**parameters, validate_args=False)

    def test_minus_infinity_is_a_logit(self):
        zero = torch.zeros(1, 2, 1)
        w = CorrelatedNormal(zero, zero + 1, zero - math.inf).rsample(seed=1)
        close(w, random.normal(1, torch.tensor(0), torch.arange(2), torch.tensor(0)).reshape(1, 2, 1), 1e-6)

    def test_points_are_checked(self):
        q = made("scaled")
        for wrong in (torch.zeros(SETS, PARTS, WIDTH + 1), torch.full_like(q.loc, math.nan)):
            with pytest.raises(ValueError):
                q.log_prob(wrong)

    @pytest.mark.parametrize("change, error, message", [
        (dict(loc=1.0), TypeError, "loc: expected a torch.Tensor, got float"),
        (dict(scale=torch.ones(1, 2, 3, dtype=torch.float64)), TypeError, "scale: expected dtype torch.float32"),
        (dict(rho_logits=torch.ones(1, 2, 3, dtype=torch.int64)), TypeError, "rho_logits: expected dtype"),
        (dict(scale=torch.ones(5, 3)), ValueError, r"expected shapes that broadcast, got \[1, 2, 3\], \[5, 3\]"),
        (dict(loc=torch.zeros(3), scale=torch.ones(3), rho_logits=torch.zeros(3)), ValueError,
         r"expected shape \[..., K, D\], got \[3\]"),
        (dict(coupling="half"), ValueError, "coupling: expected 'unit' or 'scaled', got 'half'"),
    ])
    def test_refusals(self, change, error, message):
        arguments = dict(loc=torch.zeros(1, 2, 3), scale=torch.ones(1, 2, 3), rho_logits=torch.zeros(1, 2, 3))
        with pytest.raises(error, match=message):
            CorrelatedNormal(**{**arguments, **change})

    def test_seeds_are_checked(self):
        with pytest.raises(TypeError, match="seed: expected"):
            made("scaled").rsample(seed=1.5)
