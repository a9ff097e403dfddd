"""Losses by torch.compile in training."""

import contextlib
import dataclasses
from types import SimpleNamespace

import pytest
import torch
from torch._dynamo.utils import counters

from compvae_fast.training import BadInput, loop, train
from compvae_fast.training.compiled import check_compiler
from compvae_fast.training.state import TrainingState

from .tiny import tiny_config

# From K = 2 to 7 in ten steps.
RECIPE = {"steps": 10, "k_min": 2, "k_start": 3, "k_max": 7, "k_every": 2, "warmup": 0, "lr": 1e-4}


@pytest.fixture
def without_code(monkeypatch):
    """Graphs that torch.compile has found, run as they are: to make code of them takes a minute."""
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: compile(function, backend="eager"))


def compare(steps, recipe, **model):
    """Compiled steps have the numbers of ordinary ones; how many graphs there were."""
    config = tiny_config(recipe={**RECIPE, **recipe})
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, **model))
    ordinary, compiled = TrainingState(config), TrainingState(dataclasses.replace(config, compile=True))
    torch._dynamo.reset()
    counters.clear()
    for _ in range(steps):
        loop.advance(ordinary)
        loop.advance(compiled)
    assert ordinary.summed == compiled.summed == steps and not counters["graph_break"]
    torch.testing.assert_close(compiled.sums, ordinary.sums, rtol=1e-5, atol=1e-4)
    for (name, found), expected in zip(compiled.model.named_parameters(), ordinary.model.parameters()):
        # a rounding may turn the sign of what is next to no gradient, and Adam takes signs
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5, msg=name)
    return counters["stats"]["unique_graphs"]


def test_one_graph_serves_any_k(without_code):
    assert compare(5, {"k_per_batch": 1}, generation_weight=0.0) == 1


def test_sets_of_different_k_and_the_score_of_generated_wholes(without_code):
    """Which begins at step 6, and makes the second graph."""
    assert compare(8, {}, generation_weight=1.0, generation_from=0.6, generation_sets=3) == 2


def test_compiled_code_has_the_numbers_of_ordinary_steps():
    try:
        check_compiler()
    except BadInput as error:
        pytest.skip(str(error))
    assert compare(3, {"k_per_batch": 1}, generation_weight=0.0, radial_flow=False) == 1


def test_a_run_may_go_on_compiled(monkeypatch, tmp_path):
    monkeypatch.setattr(torch, "compile", lambda function: function)
    config = tiny_config()
    train(config, tmp_path / "run", show=False, stop=lambda: True)
    with pytest.warns(UserWarning, match="not bit for bit .* steps launched there, compiled here"):
        ended = train(dataclasses.replace(config, compile=True), tmp_path / "run", show=False)
    assert ended.step == 12


def test_refusals(monkeypatch, tmp_path):
    with pytest.raises(BadInput, match="compile: expected it or graphs, got both"):
        loop.check(tiny_config(compile=True, graphs=True))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(BadInput, match="compile: expected the device 'cpu' beside it, got 'cuda'"):
        loop.check(tiny_config(compile=True, device="cuda"))

    def fails(*_):
        raise RuntimeError("no compiler\nat all")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "compile", lambda function: fails)
        with pytest.raises(BadInput, match="^compile: expected torch.compile to work here, got: no compiler$"):
            train(tiny_config(compile=True), tmp_path / "run", show=False)
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(loop, "check", lambda config: None)
    monkeypatch.setattr(loop, "together", lambda *_: contextlib.nullcontext(SimpleNamespace(count=2)))
    with pytest.raises(BadInput, match="compile: expected one process, got 2"):
        train(tiny_config(compile=True), tmp_path / "run", show=False)
