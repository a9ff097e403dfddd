"""Steps that can be captured: the numbers of ordinary ones, and nothing in them that waits for a device."""

import dataclasses

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from compvae_fast.training import BadInput, loop
from compvae_fast.training.captured import CapturedSteps, Shape
from compvae_fast.training.state import TrainingState

from .tiny import tiny_config

# K for each set; one K for each step; two for each step
RECIPES = {"own K": {}, "one K": {"k_per_batch": 1, "k_every": 2, "k_start": 2}, "two K": {"k_per_batch": 2}}
EACH = pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))


def generating(config, begin):
    """The same with the score of generated wholes in its objective from that share of training on."""
    model = dataclasses.replace(config.model, generation_weight=1.0, generation_from=begin, generation_sets=3)
    return dataclasses.replace(config, model=model)


def states(generating_from=0.3, **settings):
    """A state for ordinary steps, and one with its captured steps."""
    config = generating(tiny_config(**settings), generating_from)
    ordinary = TrainingState(config)
    return ordinary, CapturedSteps(TrainingState(dataclasses.replace(config, graphs=True)))


def close(found, expected, message=""):
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-5, msg=message or None)


@EACH
def test_the_numbers_of_ordinary_steps(recipe):
    """From before the score of generated wholes begins until after, with averaged weights."""
    ordinary, captured = states(0.4, recipe={"warmup": 0, "lr": 1e-4, "steps": 8, **recipe})
    for step in range(7):
        loop.advance(ordinary)
        captured.advance()
        if step == 3:
            captured.settle()
    assert not captured.state.summed == ordinary.summed == 7
    captured.settle()
    found = captured.state
    assert (found.step, found.summed, found.skipped, found.skipped_in_a_row) == (7, 7, 0, 0)
    close(found.sums, ordinary.sums)
    moved = False
    for (name, p), q, start in zip(found.model.named_parameters(), ordinary.model.parameters(),
                                   TrainingState(ordinary.config).model.parameters()):
        close(p, q, name)
        moved = moved or not torch.equal(p, start)
    assert moved
    for name, average in ordinary.averages.tensors().items():
        close(found.averages.tensors()[name], average, name)


@EACH
def test_the_data_of_ordinary_steps(recipe):
    ordinary, captured = states(recipe={"batch": 64, **recipe})
    for step in range(3):
        captured._seed.fill_((loop.step_seed(ordinary.config, step) + 2**63) % 2**64 - 2**63)
        expected = loop.draw_batch(ordinary.config, step)
        x, labels, lengths = captured.batch(captured.shape_of(step))
        assert (x - expected.x).abs().max() <= 1e-6 * expected.x.abs().max()
        if expected.offsets is None:
            assert lengths is None and torch.equal(labels, expected.labels)
        else:
            assert torch.equal(lengths, expected.offsets.diff())
            there = torch.arange(labels.shape[1]) < lengths[:, None]
            assert torch.equal(labels[there], expected.labels)


def test_steps_are_skipped_where_ordinary_ones_are():
    reached = []
    watched, _ = states()
    for _ in range(8):
        before = watched.sums.clone()
        loop.advance(watched)
        reached.append((watched.sums - before)[-1].item())
    bound = sorted(reached[:4])[2]
    ordinary, captured = states(recipe={"skip_above": bound, "averaging": 0.9})
    skipped = 0
    for _ in range(8):
        loop.advance(ordinary)
        before = [p.detach().clone() for p in (*captured.state.model.parameters(),
                                               *captured.state.averages.tensors().values())]
        captured.advance()
        captured.settle()
        assert captured.state.skipped == ordinary.skipped and captured.state.summed == ordinary.summed
        assert captured.state.skipped_in_a_row == ordinary.skipped_in_a_row
        if ordinary.skipped > skipped:
            after = (*captured.state.model.parameters(), *captured.state.averages.tensors().values())
            assert all(torch.equal(a, b) for a, b in zip(before, after))
        skipped = ordinary.skipped
    assert 0 < skipped < 8
    close(captured.state.sums, ordinary.sums)
    for p, q in zip(captured.state.model.parameters(), ordinary.model.parameters()):
        close(p, q)


def test_a_step_that_is_not_finite_changes_nothing():
    _, captured = states()
    captured.advance()
    state = captured.state
    state.losses = lambda *a, **k: state.model.loss(*a, **k)._replace(objective=state.model.loss(*a, **k).total / 0)
    before = {name: value.clone() for name, value in state.checkpoint().tensors.items()}
    captured.advance()
    captured.settle()
    after = state.checkpoint().tensors
    assert (state.skipped, state.skipped_in_a_row, state.summed) == (1, 1, 1)
    assert all(torch.equal(before[name], after[name]) for name in before if name != "log.sums")


class NoTransfers(TorchDispatchMode):
    """Refuses what brings host memory to the device, which a graph cannot hold."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if function.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_):
            given = args[1] if function.overloadpacket is torch.ops.aten.copy_ else args[0]
            if out.device.type == "meta" and given.device.type == "cpu":
                raise AssertionError(f"{function} brings {list(given.shape)} from the host")
        return out


@EACH
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_nothing_waits_for_the_device(recipe, precision):
    """On a device without memory: what would read a value there raises."""
    config = generating(tiny_config(recipe=recipe, precision=precision, graphs=True), 0.0)
    state = TrainingState(config)
    state.model = state.model.to("meta")
    state.losses = state.processes.losses_of(state.model)
    captured = CapturedSteps(state)
    with pytest.raises(RuntimeError, match="meta"):
        captured._seed.item()
    with NoTransfers():
        objective, terms = captured.differentiated(captured.shape_of(5))
        objective.backward()
        norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
    assert norm.device.type == terms.device.type == "meta"
    assert all(p.grad is not None for p in state.model.parameters())


def test_the_update_waits_for_nothing():
    class NoReads(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            assert function.overloadpacket not in (
                torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.equal), function
            return function(*args, **(kwargs or {}))

    _, captured = states()
    captured.advance()
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NoReads():
        captured._seed.item()
    with NoReads():
        captured.updated(torch.tensor(True), torch.ones(5, dtype=torch.float64))


def test_a_shape_for_each_k_and_phase():
    _, captured = states(0.5, recipe={"steps": 12, **RECIPES["one K"]})
    shapes = [captured.shape_of(step) for step in range(12)]
    sizes = [loop.draw_batch(captured.config, step).labels.shape[1] for step in range(12)]
    assert shapes == [Shape(size, False, step >= 6) for step, size in enumerate(sizes)] and len(set(sizes)) > 1


@pytest.mark.parametrize("settings, words", [
    ({"graphs": True}, "graphs: expected a CUDA device beside it, got device 'cpu'"),
])
def test_what_cannot_be_captured_is_refused(settings, words):
    with pytest.raises(BadInput, match=words):
        loop.check(tiny_config(**settings))
    with pytest.raises(BadInput, match="graphs: expected the optimizer 'adam', .* got 'adamax'"):
        TrainingState(tiny_config(recipe={"optimizer": "adamax"}, graphs=True))
