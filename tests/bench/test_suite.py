"""The suite: wrong results are told and not timed, what does not fit is told, and rows hold what they say."""

import time
from dataclasses import replace

import pytest
import torch

from compvae_fast import backends
from compvae_fast.bench import suite
from compvae_fast.bench.checks import errors
from compvae_fast.bench.contestants import COMPILED, EAGER, contestants, one_pass
from compvae_fast.bench.suite import COPY, MATRIX, Case, Settings, cases, run
from compvae_fast.registry import RECORDS, Alternative, Shape, matching
from compvae_fast.registry.records import TOLERANCES

OURS = "compvae_fast:reference"
SETTINGS = Settings(("reference",), seconds=1e-4, quick=True, compiled=False)
DENSE = Shape.dense(2, 3, 64)


def rows_of(case, settings=SETTINGS, **changed):
    rows = run([case], replace(settings, **changed))
    return {(row.implementation, row.direction): row for row in rows if row.operation != MATRIX}


def case_of(name, shape=DENSE, **changed):
    record = replace(RECORDS[name], **changed)
    return Case(record, shape, dict(record.options[0]))


@pytest.mark.parametrize("name", RECORDS)
def test_errors_tell_right_from_wrong(name):
    record = RECORDS[name]
    arguments = record.arguments(DENSE, **record.options[0])
    assert max(errors(record, arguments, record.fused).values()) < 1

    def off(a):
        return tuple(o * (1 + 3e-4) for o in record.fused(a))

    found = errors(record, arguments, off)
    assert min(found.values()) > 1

    def detached(a):
        first, *others = record.fused({k: v.detach() if k == record.differentiable[0] else v for k, v in a.items()})
        return first, *others

    assert errors(record, arguments, detached)[f"gradient of {record.differentiable[0]}"] == float("inf")


def test_errors_catch_nan():
    record = RECORDS["multiset_kl"]
    arguments = record.arguments(DENSE)
    found = errors(record, arguments, lambda a: tuple(o * float("nan") for o in record.fused(a)))
    assert found["output 0"] == float("inf")


def test_rows_hold_what_they_say():
    found = rows_of(case_of("multiset_kl"), seconds=0.01)
    assert {name for name, _ in found} == {OURS, EAGER, COPY, "MultivariateNormal"}
    for (name, direction), row in found.items():
        assert 0 < row.q20_ms <= row.median_ms <= row.q80_ms and row.samples >= 3
        inputs, output = 5 * 6 * 64 * 4, 2 * 4
        traffic = {"forward": inputs + output, "full": 3 * inputs + 2 * output}[direction]
        assert row.gb_per_s == pytest.approx(traffic / row.median_ms / 1e6)
        if name == COPY:
            continue
        assert row.copy_share == pytest.approx(found[COPY, direction].median_ms / row.median_ms)
        assert row.times_faster == pytest.approx(found[EAGER, direction].median_ms / row.median_ms)
        work = {"forward": 15 + 30, "full": 15 + 30 + 26 + 30}[direction]
        assert row.gops == pytest.approx(work * 6 * 64 / row.median_ms / 1e6)
        assert row.peak_mb > 0 and row.worst_error < 1 and (row.B, row.K, row.D) == (2, 3, 64)


def test_wrong_results_are_not_timed(monkeypatch):
    monkeypatch.setitem(TOLERANCES, "number", 1e-30)
    found = rows_of(case_of("multiset_kl"))
    row = found[OURS, "forward"]
    assert row.median_ms is None and row.note.startswith("wrong: output 0 is off by")
    assert found[EAGER, "forward"].median_ms is not None


@pytest.mark.skipif(not backends()["cpu"].available, reason=f"the cpu backend: {backends()['cpu'].reason}")
def test_what_does_not_fit_says_so_and_the_rest_goes_on(monkeypatch):
    case = case_of("multiset_kl", Shape.dense(64, 32, 64))
    # What plain PyTorch takes, some 30 MB, is too much, the fused operation's inputs alone are not.
    monkeypatch.setattr(suite, "free_memory", lambda device: 8 * 10**6)
    monkeypatch.setattr(suite, "PROBED", 2**12)
    found = {(r.implementation, r.direction): r for r in run([case], replace(SETTINGS, backends=("cpu", "reference")))}
    assert found["compvae_fast:cpu", "forward"].median_ms is not None
    assert found[EAGER, "forward"].median_ms is None
    assert found[EAGER, "forward"].note.startswith("does not fit: it would take about")


def test_what_takes_long_is_called_once(monkeypatch):
    monkeypatch.setattr(suite, "LONG_CALL", 0.2)
    calls = []


    def sleeps(**arguments):
        calls.append(time.sleep(0.3))
        return torch.zeros(2)

    slow = Alternative("slow", sleeps, lambda shape: True, same=False)
    row = rows_of(case_of("diag_normal_kl", alternatives=(slow,)), passes=("forward",))["slow", "forward"]
    assert row.samples == len(calls) == 1 and row.median_ms > 300 and row.peak_mb is None


def test_another_library_that_fails_is_told():
    def fails(**arguments):
        raise RuntimeError("no such kernel\nand more")

    case = case_of("diag_normal_kl", alternatives=(Alternative("other", fails, lambda shape: True, same=False),))
    found = rows_of(case)
    assert found["other", "forward"].note == "RuntimeError: no such kernel"
    assert found["other", "forward"].median_ms is None
    assert found[OURS, "forward"].median_ms is not None


def test_an_alternative_that_fails_its_check_is_told():
    def fails(**arguments):
        raise RuntimeError("not for this shape")

    found = rows_of(case_of("diag_normal_kl", alternatives=(Alternative("other", fails, lambda shape: True),)))
    assert found["other", "forward"].note == "RuntimeError: not for this shape"
    assert found[OURS, "forward"].median_ms is not None


def test_every_operation_and_option_is_a_case():
    found = cases(tuple(RECORDS.values()), quick=True)
    assert {(c.record.name, str(c.options)) for c in found} == {
        (r.name, str(dict(o))) for r in RECORDS.values() for o in r.options}
    shapes = [c.shape for c in found if c.series == "K" and c.record.name == "multiset_kl"]
    series = [(shape.sets, shape.parts, shape.width) for shape in shapes]
    assert len({k for _, k, _ in series}) == 3 and len({(b, d) for b, _, d in series}) == 1


def test_directions_differ():
    record = RECORDS["product_of_experts"]
    arguments = record.arguments(DENSE)
    outputs = one_pass(record.plain, arguments, record.differentiable, "forward")()
    assert not any(o.requires_grad for o in outputs)
    backward = one_pass(record.plain, arguments, record.differentiable, "backward")
    full = one_pass(record.plain, arguments, record.differentiable, "full")
    for first, second, again in zip(backward(), full(), backward()):
        assert torch.equal(first, second) and torch.equal(first, again)
    with pytest.raises(ValueError, match="pass: expected one of forward, backward, full, got 'sideways'"):
        one_pass(record.plain, arguments, record.differentiable, "sideways")


def test_compiled_baseline_computes_the_same():
    record = RECORDS["gaussian_nll"]
    *_, compiled = contestants(record, DENSE, backends=(), compiled=True, alternatives=False)
    assert compiled.name == COMPILED
    arguments = record.arguments(DENSE)
    torch.testing.assert_close(compiled.run(arguments), record.plain(arguments))


def test_names_of_series_are_columns():
    (case, *_) = cases(matching(["multiset_kl"]), quick=True)
    assert str(case) == "multiset_kl 8x16x256 coupling=scaled"
