"""Other posteriors than the paper's: diagonal, recurrent, by the running sum; and context in every GraphBlock."""

import importlib.util
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from compvae_fast.data import problem, sines
from compvae_fast.models import CompVAE, bits_of_parts
from compvae_fast.random import Stream, fold, normal
from models.looks import shaken

LABELS = torch.tensor([[1, 1, 5], [10, 3, 7], [2, 9, 9]])
LENGTHS = torch.tensor([3, 1, 2])
SMALL = {"narrow": 20, "w_dim": 5, "z_dim": 3}
OTHERS = ("diagonal", "recurrent", "running_sum")


@pytest.fixture(scope="module", params=OTHERS)
def model(request):
    return shaken("sines", **SMALL, inference=request.param)


def test_losses_agree_in_every_layout_and_every_parameter_learns(model):
    x = sines.wholes(LABELS, lengths=LENGTHS, seed=1)
    mask = torch.arange(3) < LENGTHS[:, None]
    padded = model.loss(x, torch.where(mask, LABELS, -7), lengths=LENGTHS, seed=3)
    ragged = model.loss(x, LABELS[mask], offsets=torch.tensor([0, 3, 4, 6]), seed=3)
    for one, other in zip(padded, ragged):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)
    model.zero_grad()
    ragged.total.mean().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


def test_bits_of_parts_add_up_where_nothing_is_correlated(model):
    x = sines.wholes(LABELS, lengths=LENGTHS, seed=1)
    with torch.no_grad():
        bits = bits_of_parts(model, x, LABELS, lengths=LENGTHS, seed=3)
        loss = model.loss(x, LABELS, lengths=LENGTHS, seed=3)
    assert bits.shape == (3, 3) and bits[1, 1:].tolist() == [0, 0]
    torch.testing.assert_close(bits.sum(1), loss.bits().w, rtol=1e-4, atol=1e-4)


def test_the_running_sum_is_that_of_the_parts_that_are_drawn():
    """What the network of the second and third part is given beside the rest."""
    model = shaken("sines", **SMALL, inference="running_sum")
    x = sines.wholes(LABELS, seed=1)
    heard = []
    model.posterior_w.first.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0][:, -5:]))
    with torch.no_grad():
        w = model.encode(x, LABELS, seed=3).w
    assert not heard[0].any()
    torch.testing.assert_close(heard[1], w[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(heard[2], w[:, 0] + w[:, 1], rtol=1e-4, atol=1e-5)


def test_what_comes_later_does_not_matter_in_order_and_all_matter_in_a_graph():
    x = sines.wholes(LABELS, seed=1)
    changed = LABELS.clone()
    changed[:, 2] = 4
    for inference, sees in (("recurrent", False), ("running_sum", False), ("diagonal", True), ("graph", True)):
        model = shaken("sines", **SMALL, inference=inference)
        with torch.no_grad():
            one, other = (model._posterior(x, model._given(labels), 3).w_q[0] for labels in (LABELS, changed))
        assert torch.equal(one[:, :2], other[:, :2]) != sees
        assert not torch.equal(one[:, 2], other[:, 2])


def test_marginal_bits_of_the_graph_are_those_of_its_covariance():
    """Against an explicit 3 x 3 covariance in each coordinate, in both couplings."""
    x = sines.wholes(LABELS, seed=1)
    for coupling in ("unit", "scaled"):
        model = shaken("sines", **SMALL, coupling=coupling).double()
        with torch.no_grad():
            bits = bits_of_parts(model, x.double(), LABELS, seed=3)
            q = model._posterior(x.double(), model._given(LABELS), 3)
        mu, logvar, nu = q.w_q
        nats = torch.zeros(3, 3, dtype=torch.float64)
        for b in range(3):
            for d in range(5):
                rho = nu[b, :, d].exp() / (1 + nu[b, :, d].exp().sum())
                scale = (logvar[b, :, d] / 2).exp()
                mixing = torch.eye(3, dtype=torch.float64) - rho[:, None]
                factor = scale[:, None] * mixing if coupling == "unit" else mixing * scale
                variance = (factor @ factor.T).diagonal()
                prior = q.w_p[1][b, :, d].exp()
                apart = (mu[b, :, d] - q.w_p[0][b, :, d]).square()
                nats[b] += 0.5 * ((variance + apart) / prior - 1 + prior.log() - variance.log())
        torch.testing.assert_close(bits, nats / math.log(2))


def test_the_study_measures_the_chain_of_a_correlated_q():
    """Bits of each part given those before it add up to the loss's, whatever q; the first's are its marginal's."""
    spec = importlib.util.spec_from_file_location("study", Path(__file__).parents[2] / "docs/inference_study.py")
    study = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(study)
    x = sines.wholes(LABELS, seed=1)
    model = shaken("sines", **SMALL, coupling="scaled")
    with torch.no_grad():
        model.posterior_w.head.bias[-5:] += 9  # from logits near -8
        chain, alone = study.bits_in_order(model, x, LABELS, 3), bits_of_parts(model, x, LABELS, seed=3)
        loss = model.loss(x, LABELS, seed=3).bits().w
    torch.testing.assert_close(chain.sum(1), loss.double(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(chain[:, 0], alone[:, 0].double())
    assert (chain[:, 2] > 1.01 * alone[:, 2]).all()


def test_noise_in_order_is_the_operations_own():
    model = shaken("sines", **SMALL, inference="running_sum")
    given = model._given(LABELS)
    noise = model.posterior_w._noise(given, 3, None)
    coordinates = torch.arange(5)
    expected = normal(fold(3, Stream.POSTERIOR_W), torch.tensor(1), torch.tensor(2), coordinates)
    assert torch.equal(noise[1, 2], expected)


class Weather(sines.Sines):
    """The 1D problem with two external factors that do nothing."""

    name = "weather"
    context = 2

    def wholes(self, labels, *, features=None, context=None, **options):
        self.check(features, context)
        return sines.wholes(labels, **options)

    def sample_context(self, batch, *, seed, set_start=0, device=None):
        return normal(seed, torch.arange(batch)[:, None], torch.tensor(0), torch.arange(2))


@pytest.fixture
def weather(monkeypatch):
    package = "compvae_fast.data"
    monkeypatch.setitem(importlib.import_module(f"{package}.problem")._MODULES, "weather", "weather")
    monkeypatch.setitem(sys.modules, f"{package}.weather", SimpleNamespace(PROBLEM=Weather()))
    return problem("weather")


@pytest.mark.parametrize("inference", ["graph", "running_sum"])
def test_external_factors_reach_every_conditional(weather, inference):
    model = shaken("sines", **SMALL, problem="weather", inference=inference, graph_context=True, graph_layers=5)
    batch = weather.draw(4, 3, seed=1)
    given = {"offsets": batch.offsets, "context": batch.context}
    other = {"offsets": batch.offsets, "context": batch.context + 1}
    with torch.no_grad():
        one, two = (model._posterior(batch.x, model._given(batch.labels, **c), 3) for c in (given, other))
        assert not torch.equal(one.z_q[0], two.z_q[0]) and not torch.equal(one.w_q[0], two.w_q[0])
        w_sum = torch.ones(4, 5)
        z = [model.prior_z(w_sum, c["context"])[0] for c in (given, other)]
        assert not torch.equal(*z)
        wholes = [model.generate([1, 2], n=2, context=torch.tensor(c), seed=1) for c in ([0.0, 1.0], [1.0, 1.0])]
        assert not torch.equal(*wholes)
        parts = model.encode(batch.x, batch.labels, **given, seed=1)
        # an edit keeps the whole's external factors
        torch.testing.assert_close(
            model.decode(parts.add(3, seed=1)).mean,
            model.decode(w_sum=parts.add(3, seed=1).sum, z=parts.z, context=batch.context).mean,
        )
    with pytest.raises(ValueError, match="context: expected 2 numbers for each whole.*got None"):
        model.generate([1, 2])
    with pytest.raises(ValueError, match=r"context: expected \[4, 2\], got \[3, 2\]"):
        model.loss(batch.x, batch.labels, offsets=batch.offsets, context=batch.context[:3])


def test_context_in_every_layer_is_in_every_layer():
    model = shaken("sines", **SMALL, graph_context=True, graph_layers=5)
    assert len(model.posterior_w.blocks) == 5
    assert all(block.context_f is not None and block.context_g is not None for block in model.posterior_w.blocks)
    x = sines.wholes(LABELS, seed=1)
    assert torch.isfinite(model.loss(x, LABELS, seed=1).total).all()


def test_choices_that_do_not_exist_are_named():
    with pytest.raises(ValueError, match="inference: expected one of graph, .*running_sum, got 'rnn'"):
        CompVAE.from_preset("sines", inference="rnn")
    with pytest.raises(ValueError, match="inference, graph_context: expected 'graph' and False"):
        CompVAE.from_preset("sines-small", inference="diagonal")
