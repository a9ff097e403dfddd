import copy
import math

import pytest
import torch

from compvae_fast import ops
from compvae_fast.data import sines
from compvae_fast.models import CompVAE
from compvae_fast.random import Stream, fold
from models.looks import shaken

LABELS = torch.tensor([[1, 1, 5], [10, 3, 7], [2, 9, 9]])
LENGTHS = torch.tensor([3, 1, 2])


def small(preset, **overrides):
    w_dim = 24 if preset == "sines-small" else 6
    return shaken(preset, by=0.3, w_dim=w_dim, z_dim=3, **overrides)


@pytest.fixture(scope="module", params=["sines", "sines-small"])
def model(request):
    return small(request.param, **({"hidden": 16} if request.param == "sines-small" else {}))


def layouts():
    """The same three sets, padded and ragged."""
    mask = torch.arange(3) < LENGTHS[:, None]
    padded = torch.where(mask, LABELS, -7)
    return {
        "padded": (padded, {"lengths": LENGTHS}),
        "ragged": (LABELS[mask], {"offsets": torch.tensor([0, 3, 4, 6])}),
    }


def test_losses_agree_in_every_layout(model):
    x = sines.wholes(LABELS, lengths=LENGTHS, seed=1)
    padded, ragged = (
        model.loss(x, labels, **where, seed=3) for labels, where in layouts().values()
    )
    for one, other in zip(padded, ragged):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    dense = model.loss(x[:1], LABELS[:1], seed=3)
    for one, other in zip(dense, ragged):
        torch.testing.assert_close(one, other[:1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", ["dense", "padded", "ragged"])
def test_the_loss_is_one_graph_for_torch_compile(layout):
    """With what it says of labels and layouts that do not fit."""
    model = small("sines-small", hidden=16)
    x = sines.wholes(LABELS, lengths=LENGTHS, seed=1)
    labels, where = {"dense": (LABELS, {}), **layouts()}[layout]
    compiled = torch.compile(model.loss, fullgraph=True, backend="eager")
    found, expected = (loss(x, labels, **where, seed=3).total for loss in (compiled, model.loss))
    torch.testing.assert_close(found, expected)
    wrong = labels.clone()
    wrong.view(-1)[0] = 11
    with pytest.raises(IndexError, match=r"^labels: expected values in 1\.\.10, got 11$"):
        compiled(x, wrong, **where, seed=3)
    for name, values in where.items():
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            compiled(x, labels, **{name: values.flip(0) + 2}, seed=3)


@pytest.mark.parametrize("transposed", [False, True])
def test_what_looks_at_values_is_sound_in_compiled_code(transposed):
    """Its results lie in memory as compiled code is told, whatever lies how before."""
    labels, mask = LABELS.T.contiguous().T if transposed else LABELS, torch.ones(LABELS.shape, dtype=torch.bool)
    operations = torch.ops.compvae_fast
    for operation, arguments in (
        (operations.checked_from_zero, (labels, None, 1, 10)),
        (operations.checked_from_zero, (labels, mask, 1, 10)),
        (operations.checked_from_zero, (labels, mask.T.contiguous().T, 1, 10)),
        (operations.counts_of_lengths, (torch.tensor([[3, 9], [2, 9]])[:, 0], 4)),
        (operations.counts_of_offsets, (torch.tensor([[0, 9], [2, 9], [5, 9]])[:, 0], 5)),
    ):
        torch.library.opcheck(operation.default, arguments)


def test_terms_add_up_and_bits_are_nats_over_log_2(model):
    x = sines.wholes(LABELS, seed=1)
    losses = model.loss(x, LABELS, seed=3)
    assert all(term.shape == (3,) for term in losses)
    torch.testing.assert_close(losses.total, losses.w + losses.z + losses.x)
    torch.testing.assert_close(losses.objective, losses.total)
    torch.testing.assert_close(losses.bits().total * math.log(2), losses.total)


def test_the_models_schedule_moves_the_objective_alone():
    model = small("sines-small", hidden=16, w_weight=0.2, w_until=0.5, z_weight=3.0, z_until=1.0)
    x = sines.wholes(LABELS, seed=1)
    for progress, w, z in ((0.0, 0.2, 3.0), (0.25, 0.6, 2.5), (0.5, 1.0, 2.0), (1.0, 1.0, 1.0)):
        at = model.loss(x, LABELS, seed=3, progress=progress)
        torch.testing.assert_close(at.total, at.w + at.z + at.x)
        torch.testing.assert_close(at.objective, w * at.w + z * at.z + at.x)


def test_path_gradients_are_those_of_the_closed_forms_on_average():
    """Gradient of one head over 1,000 sets against the closed forms', each entry within 6 errors (1e-7)."""
    x = sines.wholes(LABELS[:1], seed=1).expand(1000, -1)
    labels = LABELS[:1].expand(1000, -1)
    gradients, losses = [], []
    for path in (False, True):
        model = small("sines-small", hidden=8, path_gradients=path)
        bias = model.posterior_w.mean.bias
        loss = model.loss(x, labels, seed=3)
        losses.append(loss)
        rows = [torch.autograd.grad(part.mean(), bias, retain_graph=True)[0] for part in loss.objective.split(50)]
        gradients.append(torch.stack(rows))
    for name in ("w", "z", "x", "total"):
        torch.testing.assert_close(getattr(losses[0], name), getattr(losses[1], name))
    assert not torch.equal(losses[0].objective, losses[1].objective)
    difference = gradients[0] - gradients[1]
    assert (difference.std(0) > 0).all()
    assert (difference.mean(0).abs() < 6 * difference.std(0) / len(difference) ** 0.5).all()


def test_the_seed_decides_and_torchs_generator_decides_the_seed(model):
    x = sines.wholes(LABELS, seed=1)
    assert torch.equal(model.loss(x, LABELS, seed=3).x, model.loss(x, LABELS, seed=3).x)
    assert not torch.equal(model.loss(x, LABELS, seed=3).x, model.loss(x, LABELS, seed=4).x)
    tensor_seed = torch.tensor(3)
    assert torch.equal(model.loss(x, LABELS, seed=3).x, model.loss(x, LABELS, seed=tensor_seed).x)
    drawn = []
    for _ in range(2):
        torch.manual_seed(9)
        drawn.append((model.loss(x, LABELS).x, model.generate([1, 2])))
    assert torch.equal(drawn[0][0], drawn[1][0]) and torch.equal(drawn[0][1], drawn[1][1])


def test_energy_score_is_its_formula(model):
    """Two wholes per set, drawn apart, against the true one."""
    x = sines.wholes(LABELS, lengths=LENGTHS, seed=1)
    padded, ragged = (model.energy_score(x, labels, **where, seed=3) for labels, where in layouts().values())
    torch.testing.assert_close(padded, ragged, rtol=1e-4, atol=1e-4)
    score = model.energy_score(x[:1], LABELS[:1], seed=3).detach()
    mu, logvar = model.prior_w.table()
    given = model._given(LABELS[:1])
    wholes = []
    for draw in range(2):
        own = fold(fold(3, Stream.PRIOR_W), draw)
        w_sum = model._with_known(ops.prior_sum(given.labels, mu, logvar, seed=own), given)
        wholes.append(model._generated(w_sum, None, own)[0])
    apart = [math.dist(one.tolist(), other.tolist()) for one, other in ((wholes[0], x[0]), (wholes[1], x[0]), wholes)]
    assert float(score) == pytest.approx((apart[0] + apart[1] - apart[2]) / 6, rel=1e-4)


def test_generation_enters_the_objective_in_training_alone():
    model = small("sines-small", hidden=16, generation_weight=2.0, generation_sets=2, generation_from=0.25)
    x = sines.wholes(LABELS, seed=1)
    losses = model.loss(x, LABELS, seed=3)
    torch.testing.assert_close(losses.objective, losses.total)
    model.train()
    trained = model.loss(x, LABELS, seed=3)
    assert torch.equal(trained.total, losses.total)
    early = model.loss(x, LABELS, seed=3, progress=0.2)
    assert torch.equal(early.objective, early.total)
    score = model.energy_score(x, LABELS, seed=3)
    expected = 2.0 * 3 / 2 * score * torch.tensor([1.0, 1.0, 0.0])
    torch.testing.assert_close(trained.objective - trained.total, expected, rtol=1e-3, atol=1e-3)
    (gradient,) = torch.autograd.grad(score.sum(), model.prior_w.logvar)
    assert gradient[LABELS.flatten() - 1].abs().sum(-1).min() > 0


def test_encode_draws_the_parts_whose_sum_the_loss_decodes(model):
    x = sines.wholes(LABELS, seed=1)
    parts = model.encode(x, LABELS, seed=3)
    loss_x = -model.decode(parts).log_prob(x).sum(-1)
    torch.testing.assert_close(loss_x, model.loss(x, LABELS, seed=3).x, rtol=1e-3, atol=1e-3)
    again = model.decode(w_sum=parts.sum, z=parts.z)
    assert torch.equal(again.mean, model.decode(parts).mean)


def test_every_parameter_learns(model):
    x = sines.wholes(LABELS, seed=1)
    model.zero_grad()
    model.loss(x, LABELS, seed=3).total.mean().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    model.zero_grad()
    assert not silent


def test_the_untrained_posterior_is_the_prior():
    """At N(0, 1) and logits of -8 the parts carry about rho nats a coordinate, hence next to none."""
    model = CompVAE.from_preset("sines", w_dim=8, z_dim=4)
    losses = model.loss(sines.wholes(LABELS, seed=1), LABELS, seed=3)
    assert (losses.w.abs() < 0.01).all() and (losses.z.abs() < 1e-6).all()


def test_the_conditioned_posterior_is_the_exact_one():
    """Compact q(w): the prior N(m, diag s^2) conditioned on w~ + N(0, t^2) = y, coordinate by coordinate."""
    model = small("sines-small", hidden=16).double()
    posterior = model.posterior_w
    labels = LABELS - 1
    given = model._given(LABELS)
    assert torch.equal(given.labels, labels)
    m, logvar = model.prior_w(labels)
    features = torch.randn(3, 16, dtype=torch.float64)
    mu, logvar_q, logits = posterior(features, None, given, (m, logvar), 0)
    counts = given.sets.sum(torch.eye(10, dtype=torch.float64)[labels])
    told = model.observation.flow.inverse(3 * posterior.mean(features), counts)
    error = (3 * posterior.log_error(features).exp()).square()
    ones = torch.ones(3, 3, dtype=torch.float64)
    for b in range(3):
        for d in range(m.shape[-1]):
            prior = logvar[b, :, d].exp().diag()
            gain = prior.sum(1) / (prior.sum() + error[b, d])
            mean = m[b, :, d] + gain * (told[b, d] - m[b, :, d].sum())
            covariance = prior - torch.outer(gain, prior.sum(0))
            nu = logits[b, :, d]
            rho = nu.exp() / (1 + nu.exp().sum())
            factor = (torch.eye(3, dtype=torch.float64) - rho[:, None] * ones) * (logvar_q[b, :, d] / 2).exp()
            torch.testing.assert_close(mu[b, :, d], mean)
            torch.testing.assert_close(factor @ factor.T, covariance)


def test_the_flow_moves_what_is_generated_and_not_what_is_reconstructed():
    """Where x tells w~ exactly, encoding undoes the flow that decoding applies, whatever its parameters."""
    model = small("sines-small", hidden=16)
    x = sines.wholes(LABELS, seed=1)
    made = []
    with torch.no_grad():
        model.posterior_w.log_error.weight.zero_()
        model.posterior_w.log_error.bias.fill_(-13.0)
        for shift in (0.0, 0.4):
            for parameter in model.observation.flow.parameters():
                parameter += shift
            made.append((model.decode(model.encode(x, LABELS, seed=3)).mean, model.generate(LABELS, seed=3)))
    (one, generated), (other, moved) = made
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    assert (generated - moved).abs().max() > 0.1


def test_generated_wholes_do_not_depend_on_how_many_are_drawn(model):
    many = model.generate([1, 1, 5], n=5, seed=3)
    assert many.shape == (5, 200)
    torch.testing.assert_close(model.generate([1, 1, 5], n=2, seed=3), many[:2], rtol=1e-4, atol=1e-4)
    batch = torch.tensor([[1, 1, 5]] * 5)
    assert torch.equal(model.generate(batch, seed=3), many)
    quiet = model.generate([1, 1, 5], n=5, seed=3, noise=False)
    assert not torch.equal(quiet, many)


def test_generation_by_labels_is_decoding_parts_of_the_prior(model):
    """Same seed, same latents; z at its prior's mean in decode, drawn in generate: compare through w~."""
    parts = model.prior_parts(torch.tensor([[4, 4, 2]]), seed=8)
    mu, logvar = model.prior_w.table()
    w_sum = ops.prior_sum(torch.tensor([[3, 3, 1]]), mu, logvar, seed=fold(8, Stream.PRIOR_W))
    torch.testing.assert_close(parts.sum[:, -w_sum.shape[1] :], w_sum, rtol=1e-4, atol=1e-5)


def test_counts_and_labels_name_the_same_wholes(model):
    """With the parts' deviations next to nothing the two ways agree: K and the means are right."""
    quiet = copy.deepcopy(model)
    with torch.no_grad():
        quiet.prior_w.logvar.fill_(-100.0)
        for name, parameter in quiet.prior_z.named_parameters():
            if name.endswith("linear.bias"):
                parameter.fill_(-100.0)
            elif name.endswith("linear.weight"):
                parameter.zero_()
    by_labels = quiet.generate([2, 2, 2, 9], seed=1, noise=False)
    by_counts = quiet.generate(counts=[0, 3, 0, 0, 0, 0, 0, 0, 1, 0], seed=2, noise=False)
    torch.testing.assert_close(by_labels, by_counts, rtol=0.05, atol=0.05)
    repeated = quiet.generate([9, 2], counts=[1, 3], seed=3, noise=False)
    torch.testing.assert_close(by_labels, repeated, rtol=0.05, atol=0.05)
    both = quiet.generate(counts=torch.tensor([[0, 3, 0, 0, 0, 0, 0, 0, 1, 0], [1] + [0] * 9]), seed=2)
    assert both.shape == (2, 200)


def test_an_empty_set_is_a_whole_of_no_parts():
    model = small("sines-small", hidden=16)
    losses = model.loss(torch.zeros(2, 200), torch.tensor([4]), offsets=torch.tensor([0, 0, 1]), seed=1)
    assert torch.isfinite(losses.total).all() and losses.w[0] == 0
    nothing = model.generate(counts=[0] * 10, seed=1, noise=False)
    assert not nothing.any()


def test_large_wholes_grow_with_k_alone():
    """u = w~/K and 1/K decide the shape: ten times very many parts give ten times the whole."""
    model = small("sines-small", hidden=16)
    w_sum = 1e7 * torch.cat([torch.tensor([[3.0] + 9 * [0.0]]), torch.randn(1, 24)], -1)
    once, tenfold = (model.decode(w_sum=f * w_sum) for f in (1, 10))
    torch.testing.assert_close(tenfold.mean, 10 * once.mean, rtol=1e-4, atol=10.0)
    torch.testing.assert_close(tenfold.stddev, 10 * once.stddev)


X = torch.zeros(3, 200)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m: m.loss(X, LABELS + 1), IndexError, r"labels: expected values in 1\.\.10, got 11"),
        (lambda m: m.encode(X, LABELS - 1), IndexError, r"1\.\.10, got 0"),
        (lambda m: m.generate([1, 12]), IndexError, r"1\.\.10, got 12"),
        (lambda m: m.loss(X, LABELS.float()), TypeError, "labels.*float32"),
        (lambda m: m.loss(X[:, :9], LABELS), ValueError, r"x: expected \[3, 200\], got \[3, 9\]"),
        (lambda m: m.loss(X[:2], LABELS), ValueError, r"x: expected \[3, 200\], got \[2, 200\]"),
        (lambda m: m.generate(), ValueError, "labels, counts: expected one of them"),
        (lambda m: m.generate([1], counts=[1] * 10), ValueError, r"counts: expected \[1\]"),
        (lambda m: m.generate(LABELS, counts=[1] * 10), ValueError, r"counts: expected \[K\] beside labels \[K\]"),
        (lambda m: m.generate([1, 2], counts=[1, -1]), ValueError, r"counts.*-1"),
        (lambda m: m.generate([1], n=0), ValueError, "n: expected a positive integer, got 0"),
        (lambda m: m.generate(LABELS, n=2), ValueError, "n: expected 1 beside a batch"),
        (lambda m: m.generate(counts=[-1] + [0] * 9), ValueError, r"counts.*-1"),
        (lambda m: m.generate(counts=[2**53 + 1] + [0] * 9), ValueError, "counts"),
        (lambda m: m.generate(counts=[1, 2]), ValueError, r"counts: expected \[10\]"),
        (lambda m: m.generate(counts=[0.5] * 10), TypeError, "counts.*float32"),
        (lambda m: m.generate("1,5"), TypeError, "labels: expected a tensor or whole numbers, got str"),
        (lambda m: m.generate(counts={}), TypeError, "counts: expected a tensor or whole numbers, got dict"),
        (lambda m: m.loss(X, [[1], [2], [3]]), TypeError, "labels: expected a torch.Tensor, got list"),
        (lambda m: m.decode(), ValueError, "exactly one"),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call(CompVAE.from_preset("sines-small", hidden=8))


def test_the_empty_multiset_may_be_an_empty_list():
    model = CompVAE.from_preset("sines-small", hidden=8)
    empty = torch.zeros(1, 0, dtype=torch.int64)
    assert torch.equal(model.generate([], seed=1), model.generate(empty, seed=1))
