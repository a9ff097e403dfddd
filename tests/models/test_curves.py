"""The thesis's networks for aggregated curves: their layers, and that they can be trained and drawn from."""

import pytest
import torch

from compvae_fast.models import CompVAE, preset_config
from compvae_fast.nn import GraphBlock, HierarchicalObservation, Residual

SMALL = {"hidden": 16, "w_dim": 6, "z_dim": 3, "graph_layers": 2}


def count(module, kind):
    return sum(isinstance(part, kind) for part in module.modules())


def test_the_preset_has_the_thesis_s_layers():
    """Thesis 9.3.3: 14 residual layers generate, 5 GraphNN layers and 7 residual ones infer; 50 to 150 households."""
    with torch.device("meta"):
        model = CompVAE.from_preset("households")
    assert count(model.observation, Residual) == 14
    assert count(model.features, Residual) == 7
    blocks = [part for part in model.posterior_w.modules() if isinstance(part, GraphBlock)]
    assert len(blocks) == 5
    # what is known of the whole enters f and g of each of them (eq. 9.14)
    assert all(block.context_f.in_features == block.context_g.in_features == 512 + 64 for block in blocks)
    assert preset_config("households").levels == 0


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = CompVAE.from_preset("households", **SMALL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def given(batch=3, parts=9):
    generator = torch.Generator().manual_seed(1)
    return {
        "labels": torch.randint(1, 14, (batch, parts), generator=generator),
        "context": 10 + 5 * torch.randn(batch, 168, generator=generator),
    }


def test_losses_reach_every_parameter(model):
    x = 5 + torch.rand(3, 336)
    losses = model.loss(x, **given(), seed=1)
    assert losses.total.isfinite().all()
    losses.objective.mean().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_the_correction_reads_the_curve_of_the_smaller_scale(model):
    w_sum = torch.cat([torch.randint(1, 9, (2, 13)).float(), torch.randn(2, 6)], 1)
    seen = model.observation(w_sum, torch.randn(2, 3), given(2)["context"])
    assert isinstance(seen, HierarchicalObservation) and seen.pyramid.sizes == [(168,), (336,)]
    one, other = torch.rand(2, 168), torch.rand(2, 168) * 50
    up = seen.pyramid.up
    assert not torch.allclose(seen.given(one) - up(one), seen.given(other) - up(other), atol=1e-3)
    drawn = seen.draw(0)
    assert drawn.shape == (2, 336) and drawn.isfinite().all() and seen.stddev.isfinite().all()


def test_generation_follows_the_temperature_unless_it_is_hidden():
    for hidden in (False, True):
        torch.manual_seed(0)
        model = CompVAE.from_preset("households", **SMALL, hidden_context=hidden)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        asked = given()
        one = model.generate(asked["labels"], context=asked["context"], seed=1)
        other = model.generate(asked["labels"], context=asked["context"] - 9, seed=1)
        assert torch.equal(one, other) == hidden


def test_another_problem_is_refused():
    with pytest.raises(ValueError, match="network: 'curves' is for curves under external factors, got.*'sines'"):
        CompVAE.from_preset("households", problem="sines")
