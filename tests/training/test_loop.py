import json
import math
import signal

import pytest
import torch

from compvae_fast.backends import use_backend
from compvae_fast.models import CompVAE
from compvae_fast.training import BadInput, Failure, load_run, loop, train
from compvae_fast.training.log import read_rows
from compvae_fast.training.state import TrainingState, initial_model, rounding

from .tiny import content, tiny_config, trained  # noqa: F401


def after(steps):
    """A ``stop`` that says so after that many steps."""
    count = iter(range(10**6))
    return lambda: next(count) + 1 >= steps


@pytest.mark.parametrize("stops", [(1,), (4,), (7,), (3, 2, 5)])
def test_a_stopped_run_ends_in_the_bytes_of_an_uninterrupted_one(tmp_path, trained, stops):  # noqa: F811
    folder = tmp_path / "run"
    for steps in stops:
        train(tiny_config(), folder, show=False, stop=after(steps))
    ended = train(tiny_config(), folder, show=False)
    assert ended == loop.Trained(step=12, skipped=0, signal=None)
    stopped, whole = content(folder), content(trained)
    last = "checkpoints/step-000000012.safetensors"
    assert stopped[last] == whole[last]
    assert stopped["log.jsonl"] == whole["log.jsonl"]


def test_paper_recipe_with_one_k_per_step_resumes_too(tmp_path):
    paper = {"optimizer": "adamax", "k_per_batch": 1, "lr_schedule": "halving", "averaging": None}
    for name, stop in (("whole", lambda: False), ("stopped", after(5))):
        train(tiny_config(recipe=paper), tmp_path / name, show=False, stop=stop)
    train(tiny_config(recipe=paper), tmp_path / "stopped", show=False)
    last = "checkpoints/step-000000012.safetensors"
    assert content(tmp_path / "stopped")[last] == content(tmp_path / "whole")[last]


def test_log_rows_are_the_means_of_their_steps_losses(tmp_path, monkeypatch):
    seen = []
    original = CompVAE.loss

    def spied(self, *arguments, **settings):
        losses = original(self, *arguments, **settings)
        seen.append([term.detach().mean().item() for term in losses])
        return losses

    monkeypatch.setattr(CompVAE, "loss", spied)
    train(tiny_config(steps=10), tmp_path / "run", show=False, stop=after(7))
    train(tiny_config(steps=10), tmp_path / "run", show=False)
    rows = read_rows(tmp_path / "run" / "log.jsonl")
    assert [row["step"] for row in rows] == [5, 10]
    for row, steps in zip(rows, (seen[:5], seen[5:])):
        means = [sum(column) / 5 for column in zip(*steps)]
        for name, mean in zip(("w", "z", "x", "total", "objective"), means):
            assert row[f"{name}_nats"] == pytest.approx(mean, rel=1e-6)
            assert row[f"{name}_bits"] == pytest.approx(mean / math.log(2), rel=1e-6)
        assert row["total_nats"] == pytest.approx(row["w_nats"] + row["z_nats"] + row["x_nats"], rel=1e-5)


def test_timing_has_a_row_for_each_row_of_the_log(trained):  # noqa: F811
    rows = [json.loads(line) for line in (trained / "timing.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [5, 10]
    assert 0 < rows[0]["seconds"] < rows[1]["seconds"]


def test_a_longer_run_goes_on_with_the_schedules_it_was_begun_with(tmp_path):
    train(tiny_config(steps=8), tmp_path / "two", show=False)
    train(tiny_config(steps=12), tmp_path / "two", show=False)
    train(tiny_config(steps=12, horizon=8), tmp_path / "one", show=False)
    assert content(tmp_path / "two") == content(tmp_path / "one")
    assert load_run(tmp_path / "two").config.recipe.steps == 8


def test_going_on_with_another_backend_is_said_to_round_otherwise(tmp_path, recwarn):
    train(tiny_config(), tmp_path / "run", show=False, stop=after(2))
    train(tiny_config(), tmp_path / "run", show=False, stop=after(2))
    assert not recwarn.list
    there = rounding(tiny_config())["backend"]
    if there == "reference":
        pytest.skip("reference is the only backend here")
    with use_backend("reference"):
        with pytest.warns(UserWarning, match=f"not bit for bit.*backend {there} there, reference here"):
            train(tiny_config(), tmp_path / "run", show=False)


def test_seeds_give_different_weights_data_and_noise(tmp_path):
    models = [initial_model(tiny_config(seed=seed)) for seed in (0, 0, 1)]
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in models]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    batches = [loop.draw_batch(tiny_config(seed=seed), step).x for seed, step in ((0, 3), (0, 3), (0, 4), (1, 3))]
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2]) and not torch.equal(batches[0], batches[3])


def test_torch_s_own_generator_is_neither_read_nor_moved(tmp_path):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    train(tiny_config(steps=2), tmp_path / "one", show=False)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    train(tiny_config(steps=2), tmp_path / "two", show=False)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def spoil(monkeypatch, steps, factor):
    """Multiply the objective of these calls of ``loss``, and move a buffer in every call."""
    original, count = CompVAE.loss, iter(range(10**6))

    def spoiled(self, *arguments, **settings):
        losses = original(self, *arguments, **settings)
        self.calls += 1
        if next(count) in steps:
            return losses._replace(objective=losses.objective * factor)
        return losses

    monkeypatch.setattr(CompVAE, "loss", spoiled)


@pytest.mark.parametrize("factor, bound", [(math.nan, None), (math.inf, None), (1e6, 1e5)])
def test_a_bad_step_is_skipped_and_counted_and_leaves_nothing_behind(monkeypatch, factor, bound):
    spoil(monkeypatch, {1}, factor)
    state = TrainingState(tiny_config(recipe={"skip_above": bound}))
    state.model.register_buffer("calls", torch.zeros(()))
    loop.advance(state)
    before = {name: tensor.clone() for name, tensor in state.checkpoint().tensors.items()}
    loop.advance(state)
    after = state.checkpoint()
    assert (state.step, state.skipped, state.skipped_in_a_row, state.summed) == (2, 1, 1, 1)
    assert all(torch.equal(after.tensors[name], tensor) for name, tensor in before.items())
    loop.advance(state)
    assert (state.skipped, state.skipped_in_a_row, state.summed) == (1, 0, 2)
    assert not torch.equal(state.checkpoint().tensors["average.prior_w.mu"], before["average.prior_w.mu"])


def test_a_step_with_a_gradient_that_is_not_finite_is_skipped(monkeypatch):
    state = TrainingState(tiny_config())
    state.model.prior_w.mu.register_hook(lambda gradient: gradient * math.nan)
    before = [parameter.detach().clone() for parameter in state.model.parameters()]
    loop.advance(state)
    assert state.skipped == 1
    assert all(torch.equal(a, b) for a, b in zip(before, state.model.parameters()))


def test_gradients_are_clipped_at_the_recipe_s_bound():
    state = TrainingState(tiny_config(recipe={"clip": 1e-3}))
    loop.advance(state)
    norm = torch.stack([p.grad.norm() for p in state.model.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-2)


def test_a_run_that_only_skips_stops_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SKIPPED_IN_A_ROW", 3)
    with pytest.raises(Failure, match="diverged: the last 3 steps were all skipped"):
        train(tiny_config(recipe={"skip_above": -1e9}), tmp_path / "run", show=False)
    row_free = load_run(tmp_path / "run")
    assert (row_free.step, row_free.skipped) == (3, 3)


def test_a_signal_saves_and_returns_and_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)

    def interrupt():
        signal.raise_signal(signal.SIGINT)
        return False

    ended = train(tiny_config(), tmp_path / "run", show=False, stop=interrupt)
    assert (ended.step, ended.signal) == (2, signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert load_run(tmp_path / "run").step == 2


def test_handlers_are_put_back_after_a_run_without_signals(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train(tiny_config(steps=1), tmp_path / "run", show=False)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_each_step_taken_counts_in_the_averages(monkeypatch):
    spoil(monkeypatch, {1}, math.nan)
    state = TrainingState(tiny_config(recipe={"averaging": 0.5}))
    state.model.register_buffer("calls", torch.zeros(()))
    expected = state.model.prior_w.mu.detach().clone()
    for update in (0, None, 1, 2):
        loop.advance(state)
        if update is not None:
            decay = min(0.5, (1 + update) / (10 + update))
            expected = decay * expected + (1 - decay) * state.model.prior_w.mu.detach()
        assert torch.allclose(state.averages.tensors()["prior_w.mu"], expected, rtol=1e-5, atol=1e-8)


def test_loaded_weights_are_the_averages_and_buffers(tmp_path):
    config = tiny_config(steps=6)
    train(config, tmp_path / "run", show=False)
    state = TrainingState(config.settled(horizon=6, threads=1))
    for _ in range(6):
        loop.advance(state)
    loaded = dict(load_run(tmp_path / "run").model.named_parameters())
    for name, average in state.averages.tensors().items():
        assert torch.allclose(loaded[name], average, rtol=1e-5, atol=1e-6)
    moved = [not torch.allclose(loaded[name], p) for name, p in state.model.named_parameters()]
    assert any(moved)
    assert not any(p.requires_grad for p in loaded.values())


@pytest.mark.parametrize(
    "recipe, message",
    [
        ({"lr_schedule": "stairs"}, "lr_schedule"),
        ({"optimizer": "sgd"}, "recipe.optimizer"),
        ({"k_per_batch": 3}, "k_per_batch"),
        ({"labels": (5, 2)}, r"recipe.labels: expected a range within 1\.\.10, got \(5, 2\)"),
        ({"labels": (1, 11)}, r"recipe.labels: expected a range within 1\.\.10, got \(1, 11\)"),
        ({"lr": -1.0}, "recipe.lr: expected more than 0, got -1.0"),
        ({"warmup": -3}, "recipe.warmup: expected at least 0, got -3"),
        ({"k_every": 0}, "recipe.k_every: expected at least 1, got 0"),
        ({"betas": (0.5, 1.0)}, r"recipe.betas: expected two values in \[0, 1\)"),
        ({"momenta": (("prior", (2.0, 0.9)),)}, "recipe.momenta: expected pairs"),
        ({"clip": 0.0}, "recipe.clip: expected more than 0, or null, got 0.0"),
        ({"averaging": 1.0}, r"recipe.averaging: expected a value in \[0, 1\), or null"),
    ],
)
def test_a_recipe_that_cannot_train_is_refused_before_anything_is_written(tmp_path, recipe, message):
    with pytest.raises(BadInput, match=message):
        train(tiny_config(recipe=recipe), tmp_path / "run", show=False)
    assert not (tmp_path / "run").exists()


def test_bf16_networks_keep_float32_weights_and_nearly_the_same_losses(tmp_path):
    for name, precision, stop in (("full", "float32", lambda: False), ("half", "bf16", lambda: False),
                                  ("stopped", "bf16", after(5))):
        train(tiny_config(precision=precision), tmp_path / name, show=False, stop=stop)
    train(tiny_config(precision="bf16"), tmp_path / "stopped", show=False)
    last = "checkpoints/step-000000012.safetensors"
    assert content(tmp_path / "stopped")[last] == content(tmp_path / "half")[last]
    full, half = (read_rows(tmp_path / name / "log.jsonl") for name in ("full", "half"))
    totals = [[row["total_nats"] for row in rows] for rows in (full, half)]
    assert totals[0] != totals[1]
    assert totals[1] == pytest.approx(totals[0], rel=0.02)
    weights = load_run(tmp_path / "half").model.state_dict().values()
    assert not any(w.dtype == torch.bfloat16 for w in weights)


@pytest.mark.parametrize("precision, message", [
    ("half", "precision: expected one of float32, tf32, bf16, got 'half'"),
    ("tf32", "precision: tf32 is of CUDA devices, got device 'cpu'"),
])
def test_precisions_that_cannot_serve(tmp_path, precision, message):
    with pytest.raises(BadInput, match=message):
        train(tiny_config(precision=precision), tmp_path / "run", show=False)
    assert not (tmp_path / "run").exists()


def test_matrix_products_are_as_precise_as_the_run_says(monkeypatch):
    seen = {}
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    for precision in ("float32", "tf32"):
        with loop.products(tiny_config(precision=precision)):
            seen[precision] = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    assert seen == {"float32": ("highest", False), "tf32": ("high", True)}
    assert torch.backends.cudnn.allow_tf32
