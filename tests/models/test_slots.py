"""Preset `dots-small`: the decoder against the true images, the posterior against the mode, features through edits."""

import math

import numpy as np
import pytest
import torch

from compvae_fast.data import dots, problem
from compvae_fast.models import CompVAE
from compvae_fast.models.slots import Occupied
from compvae_fast.nn import LogisticObservation

PROBLEM = problem("dots")
LABELS = torch.tensor([[0, 3, 1], [4, 2, 2]])
LENGTHS = torch.tensor([3, 2])
# no two of a colour in one of 8 x 8 cells
PLACES = torch.tensor([[[-0.5, 0.3], [0.6, 0.1], [0.0, -0.7]], [[0.2, 0.2], [-0.4, -0.4], [0.8, 0.85]]])


def true_decoder(model):
    """The generator's own law: intensity exp(1.9 + 0.2 u), which the true ones can be written as."""
    decoder = model.observation
    with torch.no_grad():
        decoder.palette.copy_(40 * torch.tensor(dots.PALETTE) - 20)
        decoder.power.fill_(0.0)
        decoder.tone.fill_(-math.log(dots.GAMMA))
        decoder.strength.start.fill_(1.9)
        decoder.strength.log_slope.fill_(math.log(0.2))
        decoder.strength.log_heights.fill_(-30.0)
        decoder.log_scale.fill_(-5.5)
    return decoder


@pytest.fixture
def model():
    torch.manual_seed(1)
    return CompVAE.from_preset("dots-small", hidden=8)


def shaken(model):
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def latents(labels, seed, **where):
    """The u that the true intensities stand for."""
    return (dots.intensities(labels, seed=seed, **where).log() - 1.9) / 0.2


def parts_of(model, u):
    """Parts with these latents, nothing in the slots that are not theirs."""
    parts = model.prior_parts(LABELS, lengths=LENGTHS, features=PLACES, seed=0)
    own = model._known.own(LABELS, PLACES)
    parts.w[..., model._known.width :] = own * u.unsqueeze(-1)
    return parts


def test_the_decoder_can_be_the_true_renderer(model):
    true_decoder(model)
    x = PROBLEM.wholes(LABELS, lengths=LENGTHS, features=PLACES, seed=5)
    seen = model.decode(parts_of(model, latents(LABELS, 5)), z=torch.zeros(2, 2))
    assert isinstance(seen, LogisticObservation)
    torch.testing.assert_close(seen.mu, x, atol=4e-3, rtol=0)  # tone of DARKEST: 1e-6 ** (1 / 2.4) = 0.003


def test_parts_of_one_slot_are_one_part_of_more_weight(model):
    decoder = true_decoder(model)
    labels, places = torch.tensor([[1, 1, 0]]), torch.tensor([[[0.05, 0.05], [0.07, 0.05], [-0.6, 0.1]]])
    parts = model.prior_parts(labels, features=places, seed=3)
    width = model._known.width
    own = model._known.own(labels, places)[0]
    assert torch.equal(own[0], own[1])
    u = (own * parts.w[0, :, width:]).sum(-1)
    at = Occupied.of(parts.sum[:, :width], parts.sum[:, width:])
    order = at.n[0].argsort(descending=True)
    assert at.n[0, order].tolist() == [2, 1]
    torch.testing.assert_close(at.across[0, order], torch.tensor([0.06, -0.6]))
    merged = (parts.sum[0, width:] * own[0]).sum() / 2
    torch.testing.assert_close(at.latent[0, order], torch.stack([merged, u[2]]), atol=0.02, rtol=0)
    shares, _ = decoder.shares(at, torch.zeros(1, 2))
    assert torch.allclose(shares.sum(1), torch.ones(1, 1024))


def test_slopes_are_the_derivative_of_the_mean(model):
    decoder = shaken(model).observation.double()
    w_sum = parts_of(model.double(), torch.randn(2, 3, dtype=torch.float64)).sum.double()
    at = Occupied.of(w_sum[:, : model._known.width], w_sum[:, model._known.width :])
    z = torch.randn(2, 2, dtype=torch.float64)
    mean, slopes = decoder.with_slopes(at, z)
    for m in range(at.slot.shape[1]):
        ahead, behind = (at.latent.clone() for _ in range(2))
        ahead[:, m] += 1e-5
        behind[:, m] -= 1e-5
        moved = [decoder.with_slopes(at._replace(latent=latent), z)[0] for latent in (ahead, behind)]
        torch.testing.assert_close(slopes[:, m], (moved[0] - moved[1]) / 2e-5, atol=1e-6, rtol=1e-5)


def test_the_posterior_finds_the_intensities(model):
    """Latents within 5 of the posterior's own deviations (six of them: a false alarm in 3e-6), and far closer than the
    prior's 1."""
    true_decoder(model)
    x = PROBLEM.wholes(LABELS, lengths=LENGTHS, features=PLACES, seed=5)
    given = model._given(LABELS, None, LENGTHS, PLACES)
    with torch.no_grad():
        q = model._posterior(x, given, 4)
        own = model._known.own(given.labels, given.features).bool() & given.sets.mask.unsqueeze(-1)
        mu, logvar, logits = (values[own] for values in q.w_q)
    u = latents(LABELS, 5)[given.sets.mask]
    # one part to a slot: its deviation is s (1 - rho)
    deviation = (0.5 * logvar).exp() * torch.sigmoid(-logits)
    assert deviation.max() < 0.2
    assert ((mu - u).abs() < 5 * deviation + 0.02).all()


def test_losses_agree_in_every_layout_and_every_parameter_learns(model):
    shaken(model)
    x = PROBLEM.wholes(LABELS, lengths=LENGTHS, features=PLACES, seed=5)
    mask = torch.arange(3) < LENGTHS[:, None]
    nan = torch.where(mask.unsqueeze(-1), PLACES, torch.nan)
    padded = model.loss(x, LABELS, lengths=LENGTHS, features=nan, seed=3)
    ragged = model.loss(x, LABELS[mask], offsets=torch.tensor([0, 3, 5]), features=PLACES[mask], seed=3)
    for one, other in zip(padded, ragged):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-2)
    padded.total.mean().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


def test_an_empty_set_is_black(model):
    true_decoder(model)
    x = torch.zeros(2, 3, 32, 32)
    losses = model.loss(x, torch.tensor([3]), offsets=torch.tensor([0, 0, 1]), features=torch.zeros(1, 2), seed=1)
    assert torch.isfinite(losses.total).all() and losses.w[0] == 0
    nothing = model.generate(torch.zeros(2, 0, dtype=torch.int64), features=torch.zeros(2, 0, 2), seed=1, noise=False)
    assert nothing.max() < 5e-3  # DARKEST ** (1 / 2.4)


def test_edits_carry_the_features(model):
    shaken(model)
    parts = model.prior_parts(LABELS, features=PLACES, seed=1)
    added = parts.add([3, 0], features=torch.tensor([[0.1, 0.2], [0.3, 0.4]]), seed=2)
    assert added.features.shape == (2, 5, 2) and added.features[1, 4].tolist() == pytest.approx([0.3, 0.4])
    assert torch.equal(added.remove(1).features[:, 1], PLACES[:, 2])
    assert torch.equal(added.subset([0, 4]).features[:, 0], PLACES[:, 0])
    replaced = parts.replace(1, 4, features=torch.tensor([-0.5, 0.5]), seed=3)
    assert replaced.features[0].tolist() == [pytest.approx(v) for v in ([-0.5, 0.3], [-0.5, 0.5], [0.0, -0.7])]
    # what a part's own coordinates say follows
    own = model._known(replaced.labels, replaced.features)
    assert torch.equal(replaced.w[..., : own.shape[-1]], own)
    padded = model.prior_parts(LABELS, lengths=LENGTHS, features=PLACES, seed=1)
    joined = padded.add(padded)
    assert joined.features.shape == (10, 2) and torch.equal(joined.features[3:6], PLACES[0])
    assert torch.equal(joined.remove(0).features[:2], PLACES[0, 1:])


def test_a_stream_of_labels_and_locations_draws_what_labels_in_memory_draw(model):
    shaken(model)
    with torch.no_grad():
        one = model.generate([0, 3, 1], features=PLACES[0], n=3, seed=4)
        rows = np.concatenate([LABELS[0].numpy()[:, None].astype(np.float32), PLACES[0].numpy()], axis=1)
        for stream in (rows, iter(rows[:, None])):
            torch.testing.assert_close(model.generate(stream, n=3, seed=4), one, atol=1e-4, rtol=0)
        batch = model.generate(LABELS[:1].expand(3, -1), features=PLACES[:1].expand(3, -1, -1), seed=4)
        assert torch.equal(batch, one)


def test_repeated_parts_draw_what_the_same_parts_one_by_one_draw(model):
    """In distribution: latents of n parts in a slot are N(0, n), whose mean the decoder reads beside log n."""
    true_decoder(model).requires_grad_(False)
    places = PLACES[0, :2]
    listed = model.generate([0] * 40 + [3] * 2, features=places[[0] * 40 + [1] * 2], n=400, seed=1, noise=False)
    counted = model.generate([0, 3], counts=[40, 2], features=places, n=400, seed=2, noise=False)
    once = model.generate([0, 3], features=places, n=400, seed=2, noise=False)
    off = (counted.mean(0) - listed.mean(0)).abs().max()
    assert off < 0.02 < 0.1 < (once.mean(0) - listed.mean(0)).abs().max()
    torch.testing.assert_close(counted.std(0), listed.std(0), atol=0.02, rtol=0)
    assert (once.std(0) - listed.std(0)).abs().max() > 0.05
    many = model.generate([0, 3], counts=[10**6, 10**6], features=places, n=2, seed=2)
    assert many.isfinite().all() and many.std() > 0.1


def test_generated_wholes_are_scored_in_their_own_units(model):
    """Far off by one number in each value: by that times the root of their number, and no division by K."""
    shaken(model).requires_grad_(False)
    x = PROBLEM.wholes(LABELS, features=PLACES, seed=5)
    score = model.energy_score(x, LABELS, features=PLACES, seed=3)
    assert score.shape == (2,) and torch.isfinite(score).all()
    three = model.energy_score(x[:1], LABELS[:1], features=PLACES[:1], seed=3)
    torch.testing.assert_close(three, score[:1], rtol=1e-3, atol=1e-3)
    far = model.energy_score(x[:1] + 100, LABELS[:1], features=PLACES[:1], seed=3)
    assert float(far) == pytest.approx(100 * 3072**0.5, rel=0.02)


X = torch.zeros(2, 3, 32, 32)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m: m.loss(X, LABELS), ValueError, "features: expected 2 numbers for each part.*got None"),
        (lambda m: m.loss(X, LABELS, features=PLACES[:, :2]), ValueError, r"features: expected \[2, 3, 2\], got"),
        (lambda m: m.loss(X, LABELS, features=PLACES.long()), TypeError, "features.*int64"),
        (lambda m: m.encode(X, LABELS, features=PLACES, context=PLACES), ValueError, "context: expected None"),
        (lambda m: m.generate(counts=[1] * 5), ValueError, "counts: expected labels beside the features"),
        (lambda m: m.generate([0, 1]), ValueError, "features"),
        (lambda m: m.generate([0, 1], counts=[2, 3]), ValueError, "features: expected 2 numbers for each part"),
        (lambda m: m.generate(iter([0, 1])), ValueError, "features: expected floats"),
        (lambda m: m.generate(np.array([[0.5, 0.0, 0.0]])), ValueError, "a whole one first"),
        (lambda m: m.prior_parts(LABELS, features=PLACES).add([1]), ValueError, "features"),
        (lambda m: m.prior_parts(LABELS, features=PLACES).replace(0, 1), ValueError, "features"),
        (lambda m: CompVAE.from_preset("dots-small", w_dim=300), ValueError, "w_dim: expected 5 times a square"),
        (lambda m: CompVAE.from_preset("dots-small", problem="sines"), ValueError, "'slots' is for images"),
        (lambda m: CompVAE.from_preset("sines-small", problem="dots"), ValueError, "'compact' is for curves"),
        (lambda m: CompVAE.from_preset("sines", problem="dot"), ValueError, "problem: expected one of sines, dots"),
    ],
)
def test_bad_input_is_named(model, call, error, words):
    with pytest.raises(error, match=words):
        call(model)
