"""Clocks and scales of the suite."""

import os

import pytest
import torch

from compvae_fast import backends
from compvae_fast.bench import timing
from compvae_fast.registry import RECORDS, Shape

CPU = torch.device("cpu")


class Clock:
    """A clock that stands still but for the calls that it hands out."""

    def __init__(self, monkeypatch):
        self.now, self.order = 0.0, []
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

    def call(self, name, *durations):
        durations = list(durations)

        def call():
            self.order.append(name)
            self.now += durations.pop(0) if len(durations) > 1 else durations[0]

        return call


def test_quantiles():
    found = timing.Timing.of([float(i) for i in range(11)])
    assert (found.q20, found.median, found.q80, found.least, found.samples) == (2.0, 5.0, 8.0, 0.0, 11)
    assert timing.Timing.of([4.0]) == timing.Timing(4.0, 4.0, 4.0, 4.0, 1)


def test_calls_take_turns_and_keep_to_their_time(monkeypatch):
    clock = Clock(monkeypatch)
    found = timing.interleaved({"short": clock.call("short", 0.001), "long": clock.call("long", 0.2)},
                               seconds=0.1, at_least=3)
    assert found["short"].median == pytest.approx(0.001) and found["long"].median == pytest.approx(0.2)
    assert found["long"].samples == 3 and 100 <= found["short"].samples <= 101
    timed = clock.order[2:]  # behind an estimate of each
    assert timed[:6] in (["short", "long", "long", "short", "short", "long"], ["short", "long"] * 3)


def test_short_calls_are_timed_in_batches(monkeypatch):
    clock = Clock(monkeypatch)
    found = timing.interleaved({"tiny": clock.call("tiny", 1e-6)}, seconds=1e-2, at_least=5)
    assert found["tiny"].median == pytest.approx(1e-6)
    assert len(clock.order) - 2 == 200 * found["tiny"].samples


def test_what_slows_the_machine_slows_all(monkeypatch):
    """Two equal calls on a machine that slows down tenfold half-way have equal medians."""
    clock = Clock(monkeypatch)

    def call():
        clock.now += 0.001 if clock.now < 0.1 else 0.01

    found = timing.interleaved({"a": call, "b": call}, seconds=0.2)
    assert found["a"].median == pytest.approx(found["b"].median)


def test_peak_memory_counts_what_lives_at_once():
    x = torch.ones(10**6)

    def call():
        y = x * 2
        z = y + x
        del y
        return z.exp()

    assert 8 * 10**6 <= timing.peak_memory(call, CPU) < 8.01 * 10**6


@pytest.mark.skipif(not backends()["cpu"].available, reason=f"the cpu backend: {backends()['cpu'].reason}")
def test_fused_draw_takes_less_memory_than_its_inputs_and_eager_more():
    record, shape = RECORDS["posterior_sum_and_kl"], Shape.dense(2, 64, 256)
    arguments = record.arguments(shape)
    inputs, _ = record.traffic(arguments, ())
    assert timing.peak_memory(lambda: record.fused(arguments), CPU) < inputs / 20
    assert timing.peak_memory(lambda: record.plain(arguments), CPU) > inputs


def test_peak_memory_keeps_stderr(capfd):
    timing.peak_memory(lambda: torch.ones(3), CPU)
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def test_copy_moves_as_many_bytes_as_told():
    assert timing.peak_memory(lambda: timing.copy_of(2 * 10**6, CPU), CPU) == 2 * 10**6


def test_free_memory_is_some_of_the_machine():
    free = timing.free_memory(CPU)
    assert free is None or 0 < free <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
