import json
import math

import pytest
import torch

from compvae_fast.models import CompVAE, CompVAEConfig, TrainingRecipe, presets, recipe


def test_configurations_survive_json():
    for name in presets():
        with torch.device("meta"):
            model = CompVAE.from_preset(name)
        stored = json.loads(json.dumps(model.config.to_dict()))
        assert stored["preset"] == name
        assert CompVAEConfig.from_dict(stored) == model.config
        json.dumps(recipe(name).to_dict())


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="preset: expected one of sines, .*sines-small, .*; got 'sine'"):
        CompVAE.from_preset("sine")
    with pytest.raises(ValueError, match="preset"):
        recipe("dot")
    with pytest.raises(ValueError, match="config: unknown widht; known are.*hidden"):
        CompVAE.from_preset("sines-small", widht=3)
    with pytest.raises(ValueError, match="w_dim: expected a positive integer, got 0"):
        CompVAE.from_preset("sines-small", w_dim=0)
    with pytest.raises(ValueError, match="sigma_min: expected more than 0, got 0.0"):
        CompVAE.from_preset("sines-small", sigma_min=0.0)
    with pytest.raises(ValueError, match="generation_weight: expected at least 0, got -1.0"):
        CompVAE.from_preset("sines-small", generation_weight=-1.0)
    with pytest.raises(ValueError, match=r"w_until: expected a share of training in \[0, 1\], got 1.5"):
        CompVAE.from_preset("sines-small", w_until=1.5)
    with pytest.raises(ValueError, match="coupling.*'unti'"):
        CompVAE.from_preset("sines", coupling="unti")


def test_the_papers_recipe():
    """Paper 4.3: batch 256, Adam(1e-4, 0.5, 0.9), halved every 20,000 steps to 1e-6, K from 2 to 16."""
    paper = recipe("sines")
    assert (paper.batch, paper.optimizer, paper.betas, paper.steps) == (256, "adam", (0.5, 0.9), 500_000)
    rates = [paper.learning_rate(s) for s in (0, 19_999, 20_000, 45_000, 499_999)]
    assert rates == pytest.approx([1e-4, 1e-4, 5e-5, 2.5e-5, 1e-6])
    assert [paper.largest_k(s) for s in (0, 2_999, 3_000, 41_999, 42_000, 500_000)] == [2, 2, 3, 15, 16, 16]
    assert (paper.k_per_batch, paper.k_exponent, paper.labels) == (1, 0.0, (1, 10))
    assert paper.phase_deviation == math.pi / 2


def test_the_released_codes_recipe():
    released = recipe("sines-released")
    assert (released.optimizer, released.k_per_batch, released.labels) == ("adamax", 4, (1, 9))
    assert released.phase_deviation == 0.8
    assert [released.largest_k(s) for s in (2_499, 2_500)] == [2, 3]


def test_cosine_rates_warm_up_and_end_at_the_lowest():
    cosine = TrainingRecipe(lr=1.0, lr_min=0.1, steps=100, lr_schedule="cosine", warmup=9)
    assert cosine.learning_rate(0) == pytest.approx(0.1)
    assert cosine.learning_rate(50) == pytest.approx(0.55)
    assert cosine.learning_rate(100) == cosine.learning_rate(1000) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="lr_schedule.*'linear'"):
        TrainingRecipe(lr_schedule="linear").learning_rate(0)


def test_every_parameter_is_in_one_group_with_its_factor_and_betas():
    model = CompVAE.from_preset("sines-small", hidden=8)
    chosen = TrainingRecipe(
        rates=(("prior_w.mu", 5.0), ("prior_w", 2.0)), momenta=(("prior_", (0.9, 0.999)),)
    )
    groups = chosen.parameter_groups(model)
    by_parameter = {id(p): (g["factor"], g["betas"]) for g in groups for p in g["params"]}
    expected = {"prior_w.mu": (5.0, (0.9, 0.999)), "prior_w.logvar": (2.0, (0.9, 0.999))}
    for name, parameter in model.named_parameters():
        default = (1.0, (0.9, 0.999) if name.startswith("prior_z") else (0.5, 0.9))
        assert by_parameter[id(parameter)] == expected.get(name, default)
    assert sum(len(g["params"]) for g in groups) == len(by_parameter) == len(list(model.parameters()))
