"""Which backends there are, why one is missing, and how a call's backend is chosen."""

import json
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch

import compvae_fast
from compvae_fast import _loading, ops
from compvae_fast import backends as module

OPERATION = "posterior_sum_and_kl"
REASON = "the native kernels were not built: no compiler"
OTHER = "_native.cpython-39-x86_64-linux-gnu.so"


@pytest.fixture(autouse=True)
def nothing_asked_for(monkeypatch):
    monkeypatch.delenv("COMPVAE_FAST_BACKEND", raising=False)
    compvae_fast.set_backend(None)
    yield
    compvae_fast.set_backend(None)


@pytest.fixture
def cpu_missing(monkeypatch):
    """As on a machine without a compiler."""
    monkeypatch.setattr(_loading, "reason_missing", lambda: REASON)
    module._reason.cache_clear()
    module._fastest.cache_clear()
    yield
    module._reason.cache_clear()
    module._fastest.cache_clear()


@pytest.fixture
def cpu_there():
    if reason := compvae_fast.backends()["cpu"].reason:
        pytest.skip(f"cpu: {reason}")


def arguments():
    return [torch.zeros(2, 3, 4) for _ in range(5)]


def test_every_backend_is_there_or_says_why():
    found = compvae_fast.backends()
    assert found["reference"] == module.Backend("reference", "any", True, "")
    assert found["cpu"].device == "cpu"
    for name, backend in found.items():
        assert backend.name == name
        assert backend.available == (backend.reason == "")


def test_a_module_built_from_other_sources_is_not_called(monkeypatch):
    found = SimpleNamespace(interface=_loading.INTERFACE - 1)
    monkeypatch.setitem(sys.modules, "compvae_fast._native", found)
    assert _loading.load.__wrapped__()[0] is None
    assert _loading.load.__wrapped__()[1].endswith("build it again")
    found.interface += 1
    assert _loading.load.__wrapped__() == (found, "")


@pytest.fixture
def numba_missing(monkeypatch):
    """As where Numba is not installed."""
    monkeypatch.setitem(sys.modules, "numba", None)
    module._reason.cache_clear()
    module._fastest.cache_clear()
    yield
    module._reason.cache_clear()
    module._fastest.cache_clear()


def test_numba_serves_where_there_is_no_native_module(cpu_missing):
    if reason := compvae_fast.backends()["numba"].reason:
        pytest.skip(f"numba: {reason}")
    assert module.resolve(OPERATION, "cpu") == "numba"


def test_the_reference_serves_where_nothing_else_can(cpu_missing, numba_missing):
    assert compvae_fast.backends()["cpu"] == module.Backend("cpu", "cpu", False, REASON)
    assert compvae_fast.backends()["numba"].reason.startswith("numba cannot be imported: ")
    assert module.resolve(OPERATION, "cpu") == "reference"
    assert ops.posterior_sum_and_kl(*arguments(), seed=0)[1].shape == (2,)


def test_the_native_kernels_are_the_default_where_they_are_there(cpu_there):
    assert module.resolve(OPERATION, "cpu") == "cpu"
    if not torch.cuda.is_available():
        assert module.resolve(OPERATION, "cuda") == "reference"


def test_the_choice_reaches_the_kernels(cpu_there, monkeypatch):
    """A call runs on the backend that was asked for, and its backward pass on the same."""
    served = []
    implementation = module.implementation

    def noted(backend, operation):
        served.append(backend)
        return implementation(backend, operation)

    monkeypatch.setattr(module, "implementation", noted)
    for name in ("reference", "cpu"):
        served.clear()
        inputs = [t.requires_grad_() for t in arguments()]
        with compvae_fast.use_backend(name):
            _, kl = ops.posterior_sum_and_kl(*inputs, seed=0)
        kl.sum().backward()
        assert set(served) == {name} and len(served) >= 2


def test_the_nearest_choice_counts(cpu_there, monkeypatch):
    monkeypatch.setenv("COMPVAE_FAST_BACKEND", "reference")
    assert module.resolve(OPERATION, "cpu") == "reference"
    compvae_fast.set_backend("cpu")
    assert module.resolve(OPERATION, "cpu") == "cpu"
    with compvae_fast.use_backend("reference"):
        assert module.resolve(OPERATION, "cpu") == "reference"
        with compvae_fast.use_backend("cpu"):
            assert module.resolve(OPERATION, "cpu") == "cpu"
        assert module.resolve(OPERATION, "cpu") == "reference"
    assert module.resolve(OPERATION, "cpu") == "cpu"
    compvae_fast.set_backend(None)
    assert module.resolve(OPERATION, "cpu") == "reference"
    monkeypatch.setenv("COMPVAE_FAST_BACKEND", "")
    assert module.resolve(OPERATION, "cpu") == "cpu"


def test_use_backend_ends_with_its_block_after_an_error_too():
    before = module.requested()
    with pytest.raises(ZeroDivisionError), compvae_fast.use_backend("reference"):
        raise ZeroDivisionError
    assert module.requested() == before


def test_use_backend_is_one_threads_own_and_set_backend_everyones():
    seen = []
    with compvae_fast.use_backend("reference"):
        thread = threading.Thread(target=lambda: seen.append(module.requested()))
        thread.start()
        thread.join()
    compvae_fast.set_backend("reference")
    thread = threading.Thread(target=lambda: seen.append(module.requested()))
    thread.start()
    thread.join()
    assert seen == [None, "reference"]


@pytest.mark.parametrize("name", ["gpu", "CPU", "cpu ", 3])
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    for choose, source in ((compvae_fast.set_backend, "set_backend"), (compvae_fast.use_backend, "use_backend")):
        with pytest.raises(ValueError, match=rf"{source}.*expected one of .*reference.*got {name!r}"):
            with choose(name):
                pass
    assert module.requested() is None


def test_an_unknown_name_in_the_environment_is_refused_by_the_call(monkeypatch):
    monkeypatch.setenv("COMPVAE_FAST_BACKEND", "gpu")
    with pytest.raises(ValueError, match="COMPVAE_FAST_BACKEND: expected one of .*got 'gpu'"):
        ops.posterior_sum_and_kl(*arguments(), seed=0)


def test_a_missing_backend_is_refused_with_the_reason(cpu_missing, monkeypatch):
    for choose, source in ((compvae_fast.set_backend, "set_backend"), (compvae_fast.use_backend, "use_backend")):
        with pytest.raises(ValueError, match=f"{source}.*'cpu' is not available: {REASON}"):
            with choose("cpu"):
                pass
    monkeypatch.setenv("COMPVAE_FAST_BACKEND", "cpu")
    with pytest.raises(ValueError, match=f"COMPVAE_FAST_BACKEND: backend 'cpu' is not available: {REASON}"):
        ops.posterior_sum_and_kl(*arguments(), seed=0)


def test_a_backend_that_cannot_serve_the_call_raises(cpu_there):
    with compvae_fast.use_backend("cpu"):
        with pytest.raises(ValueError, match=f"{OPERATION}: backend 'cpu' serves cpu tensors, got cuda tensors"):
            module.resolve(OPERATION, "cuda")
        with pytest.raises(ValueError, match="no_such_operation: backend 'cpu' does not offer this operation"):
            module.resolve("no_such_operation", "cpu")


def test_the_environment_chooses_in_a_new_process():
    """The whole way, and imports of the package in either form give the same callable module."""
    code = (
        "import json, torch, compvae_fast, compvae_fast.backends\n"
        "from compvae_fast import backends\n"
        "x = [torch.zeros(1, 2, 3)] * 5\n"
        "compvae_fast.ops.posterior_sum_and_kl(*x, seed=0)\n"
        "print(json.dumps([backends.requested(), sorted(compvae_fast.backends()) == sorted(backends())]))"
    )
    for name, expected in (("reference", ["reference", True]), ("", [None, True])):
        environment = {**os.environ, "COMPVAE_FAST_BACKEND": name}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"_native_build_failure.txt": f"{REASON}\n"}, REASON),
        ({}, f"no native module was built for {sys.implementation.cache_tag}"),
        (
            {OTHER: ""},
            f"no native module was built for {sys.implementation.cache_tag}; there is {OTHER}",
        ),
    ],
)
def test_why_there_is_no_native_module(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert _loading.why_absent(tmp_path) == expected
