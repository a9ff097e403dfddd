"""The folder for BackendBench, walked as its backend and its suite walk it."""

import importlib.util
from dataclasses import replace

import pytest
import torch

from compvae_fast import backends, ops
from compvae_fast.plugins import backendbench
from compvae_fast.registry import RECORDS, Shape

SMALL = (Shape.dense(2, 3, 8), Shape((2, 1), 8, "ragged"))


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Test:
    """BackendBench's: every argument is a callable, called anew each time it is asked for."""

    __test__ = False

    def __init__(self, *args, **kwargs):
        self._args, self._kwargs = args, kwargs

    @property
    def args(self):
        return [arg() for arg in self._args]

    @property
    def kwargs(self):
        return {k: v() for k, v in self._kwargs.items()}


def suite(root):
    """(operation, reference, {implementation: kernel}, correctness tests, performance tests) of each folder."""
    for folder in sorted(root.iterdir()):
        name = folder.name
        inputs = load(folder / "gen_input.py")
        reference = getattr(load(folder / f"{name}_reference.py"), f"{name}_reference")
        kernels = {p.parent.name: getattr(load(p), f"{name}_kernel_impl") for p in sorted(folder.glob("*/*.py"))}
        tests = []
        for raw in (inputs.get_correctness_tests(), inputs.get_performance_tests()):
            assert all(len(item) == 2 and isinstance(item[1], dict) for item in raw)
            tests.append([Test(*args, **kwargs) for args, kwargs in raw])
        yield name, reference, kernels, *tests


@pytest.fixture
def root(tmp_path, monkeypatch):
    for name, record in list(RECORDS.items()):
        shapes = SMALL if record.sets else SMALL[:1]
        monkeypatch.setitem(RECORDS, name, replace(record, shapes=shapes, quick=shapes))
    backendbench.write_operations(tmp_path)
    return tmp_path


def test_every_kernel_agrees_with_its_reference(root):
    seen = 0
    for name, reference, kernels, correctness, performance in suite(root):
        assert set(kernels) == set(RECORDS[name].backends())
        assert len(correctness) == len(performance) > 0
        for test in correctness + performance:
            for kernel in kernels.values():
                found, wanted = kernel(*test.args, **test.kwargs), reference(*test.args, **test.kwargs)
                torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
                seen += 1
    assert seen > 2 * len(RECORDS)


def test_kernels_run_on_their_backend(root, monkeypatch):
    name, _, kernels, (test, *_), _ = next(iter(suite(root)))
    chosen = []
    monkeypatch.setattr(ops, name, lambda **_: chosen.append(backends.requested()))
    for backend in kernels:
        load(root / name / backend / f"{name}.py").__dict__[f"{name}_kernel_impl"](**test.kwargs)
    assert chosen == list(kernels) and "reference" in chosen


def test_inputs_are_not_made_anew_for_each_call():
    """Else their price would be timed with the call's."""
    _, kwargs = backendbench.tests("multiset_kl", quick=True)[0]
    test = Test(**kwargs)
    assert test.kwargs["mu_q"] is test.kwargs["mu_q"]
    assert "seed" not in test.kwargs and "seed" in backendbench.tests("prior_sum", quick=True)[0][1]


def test_nothing_of_others_is_overwritten(tmp_path):
    (tmp_path / "prior_sum").mkdir()
    (tmp_path / "prior_sum" / "gen_input.py").write_text("mine")
    with pytest.raises(ValueError, match="folder: expected no other prior_sum/gen_input.py"):
        backendbench.write_operations(tmp_path)
