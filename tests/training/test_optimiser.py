import dataclasses

import pytest
import torch

from compvae_fast.models import TrainingRecipe
from compvae_fast.training.errors import BadInput
from compvae_fast.training.optimiser import (
    AveragedWeights,
    make_optimiser,
    optimiser_tensors,
    restore_optimiser,
    set_learning_rate,
)

RECIPE = TrainingRecipe(lr=0.1, betas=(0.5, 0.9), rates=(("0.", 10.0),))


def make_model():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))


def step(model, optimiser, index):
    optimiser.zero_grad()
    x = torch.full((5, 3), 0.1 * (index + 1))
    model(x).square().sum().backward()
    optimiser.step()


@pytest.mark.parametrize("name", ["adam", "adamax"])
def test_state_by_name_goes_on_as_if_never_stopped(name):
    recipe = dataclasses.replace(RECIPE, optimizer=name)
    one = make_model()
    optimiser = make_optimiser(recipe, one)
    for index in range(3):
        step(one, optimiser, index)
    other = make_model()
    other.load_state_dict(one.state_dict())
    second = make_optimiser(recipe, other)
    restore_optimiser(second, other, {k: v.clone() for k, v in optimiser_tensors(optimiser, one).items()})
    for index in range(3, 6):
        step(one, optimiser, index)
        step(other, second, index)
    for a, b in zip(one.parameters(), other.parameters()):
        assert torch.equal(a, b)


def test_adam_is_fused_and_has_the_recipe_s_numbers():
    optimiser = make_optimiser(RECIPE, make_model())
    assert all(group["fused"] for group in optimiser.param_groups)
    assert all(group["betas"] == (0.5, 0.9) for group in optimiser.param_groups)


def test_each_group_has_its_own_factor_on_the_rate():
    model = make_model()
    optimiser = make_optimiser(RECIPE, model)
    set_learning_rate(optimiser, 0.01)
    rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    assert rates[id(model[0].weight)] == pytest.approx(0.1)
    assert rates[id(model[1].weight)] == pytest.approx(0.01)


def test_p_and_q_may_have_momenta_of_their_own():
    model = make_model()
    optimiser = make_optimiser(dataclasses.replace(RECIPE, momenta=(("1.", (0.95, 0.999)),)), model)
    betas = {id(p): group["betas"] for group in optimiser.param_groups for p in group["params"]}
    assert betas[id(model[0].weight)] == (0.5, 0.9) and betas[id(model[1].weight)] == (0.95, 0.999)


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(BadInput, match="'adam' or 'adamax', got 'sgd'"):
        make_optimiser(dataclasses.replace(RECIPE, optimizer="sgd"), make_model())


def test_averages_follow_their_formula():
    model = make_model()
    averages = AveragedWeights(model, decay=0.3)
    expected = model[0].bias.detach().clone().double()
    for count in range(4):
        with torch.no_grad():
            model[0].bias.add_(count + 1.0)
        averages.update(count)
        decay = min(0.3, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * model[0].bias.detach().double()
    assert torch.allclose(averages.tensors()["0.bias"].double(), expected, rtol=1e-6)


def test_without_decay_there_are_no_averages():
    averages = AveragedWeights(make_model(), None)
    averages.update(0)
    assert averages.tensors() == {}
