import pytest
import torch

from compvae_fast.training import BadInput, pace, paced, train
from compvae_fast.training.threads import at_most

from .tiny import tiny_config


@pytest.fixture
def speeds(monkeypatch):
    """Seconds per step by threads, in place of measured ones."""
    known = {}
    monkeypatch.setattr(pace, "seconds_per_step", lambda config: known[config.threads])
    with at_most(None):
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
        yield known


@pytest.mark.parametrize(
    "one, two, minutes, steps, threads",
    [(0.1, 0.06, 1, 1000, 2), (0.06, 0.1, 1, 1000, 1), (1.0, 2.0, 1, 100, 1), (0.001, 0.002, 60, 12_000, 1)],
)
def test_steps_fit_the_time_with_the_faster_threads(tmp_path, speeds, one, two, minutes, steps, threads):
    speeds |= {1: one, 2: two}
    config = paced(tiny_config(recipe={"steps": 12_000}), tmp_path / "run", minutes)
    assert (config.steps, config.threads) == (steps, threads)


def test_a_run_that_is_there_keeps_its_steps_and_threads(tmp_path, speeds):
    train(tiny_config(steps=3, threads=1), tmp_path / "run", show=False)
    config = paced(tiny_config(steps=99, threads=2), tmp_path / "run", 5)
    assert (config.steps, config.threads) == (3, 1)


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(tmp_path, minutes):
    with pytest.raises(BadInput, match="minutes: expected more than 0"):
        paced(tiny_config(), tmp_path / "run", minutes)


def test_speed_is_measured_and_threads_are_put_back():
    before = torch.get_num_threads()
    assert 0 < pace.seconds_per_step(tiny_config(threads=1)) < 10
    assert torch.get_num_threads() == before
