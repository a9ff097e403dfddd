"""What is particular to the backend numba: its vectors and their functions, its threads, its cache, the process it is
in. That its operations are right is for tests/ops to tell, on every backend."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch

import compvae_fast
from compvae_fast import ops

if reason := compvae_fast.backends()["numba"].reason:
    pytest.skip(f"numba: {reason}", allow_module_level=True)

from numba import njit

from compvae_fast.kernels.numba import compiling, elementary, memory, rows, threads, vectors

KINDS = [(vectors.FLOAT32, np.float32), (vectors.FLOAT64, np.float64)]


def python(code: str, *arguments: str, **environment: str) -> str:
    """What a Python process of its own prints."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300,
                          env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout


def over_array(function):
    """A function of vectors as one of arrays whose sizes are multiples of 16."""

    @njit
    def run(kind, count, given, out):
        for i in range(0, count, vectors.count_of(kind)):
            at = i * vectors.size_of(kind)
            memory.store(out + at, function(memory.load(kind, given + at)))

    def apply(kind, x):
        out = np.empty_like(x)
        run(kind, x.size, x.ctypes.data, out.ctypes.data)
        return out

    return apply


@pytest.mark.parametrize("kind, dtype", KINDS)
@pytest.mark.parametrize("name, low, high, exact, ulps", [
    ("exp", -80, 80, mpmath.exp, 1.5),
    ("expm1", -3, 3, mpmath.expm1, 2.5),
    ("log", 1e-9, 5, mpmath.log, 1.5),
    ("log1p", 0, 5, mpmath.log1p, 2.5),
    ("tanh", -4, 4, mpmath.tanh, 4),
    ("sigmoid", -30, 30, lambda x: 1 / (1 + mpmath.exp(-x)), 3),
    ("softplus", -30, 30, lambda x: mpmath.log1p(mpmath.exp(x)), 3),
])
def test_elementary_functions(name, low, high, exact, ulps, kind, dtype):
    x = np.concatenate([np.random.default_rng(1).uniform(low, high, 1996), [low, high, 0.5, 1]]).astype(dtype)
    found = over_array(getattr(elementary, name))(kind, x[: x.size // 16 * 16])
    with mpmath.workdps(40):
        for value, given in zip(found, x):
            truth = exact(mpmath.mpf(float(given)))
            spacing = np.spacing(np.abs(dtype(float(truth))))
            assert abs(mpmath.mpf(float(value)) - truth) <= ulps * float(spacing), (given, value)


@pytest.mark.parametrize("kind, dtype", KINDS)
def test_exp_at_the_ends_of_its_range(kind, dtype):
    tiny, huge = np.log(np.finfo(dtype).smallest_subnormal), np.log(np.finfo(dtype).max)
    x = np.array([np.nan, np.inf, -np.inf, 0, 2 * tiny, 2 * huge, tiny + 1, huge - 1e-4] * 2, dtype)
    found = over_array(elementary.exp)(kind, x)[:8]
    assert np.isnan(found[0])
    assert found[1] == found[5] == np.inf
    assert found[2] == found[4] == 0
    assert found[3] == 1
    with np.errstate(under="ignore"):
        assert 0 < found[6] <= 2 * np.exp(x[6])
    assert found[7] == pytest.approx(np.exp(x[7].astype(np.longdouble)), rel=1e-3 if dtype == np.float32 else 1e-12)


@njit
def _read(kind, dtype, stride, given, count, out, raw):
    t = rows.Tensor(given, dtype, 0, 0, stride)
    for i in range(0, count, rows.BLOCK):
        row, n = out + i * vectors.size_of(kind), min(rows.BLOCK, count - i)
        rows.read_row(kind, t, given + i * 2 * stride, n, row, raw)


@njit
def _write(kind, dtype, stride, given, count, out, raw):
    t = rows.Tensor(out, dtype, 0, 0, stride)
    for i in range(0, count, rows.BLOCK):
        row, n = given + i * vectors.size_of(kind), min(rows.BLOCK, count - i)
        rows.write_row(kind, row, t, out + i * 2 * stride, n, raw)


@pytest.mark.parametrize("kind, dtype", KINDS)
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("code, half", [(2, torch.bfloat16), (3, torch.float16)])
def test_half_numbers(code, half, stride, kind, dtype):
    """Every half is read as it is, and every float32 is rounded as torch rounds it."""
    raw = np.empty(64)
    wide = torch.from_numpy(np.empty(0, dtype)).dtype
    halves = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(half).repeat_interleave(stride)
    found = torch.empty(2**16, dtype=wide)
    _read(kind, code, stride, halves.data_ptr(), 2**16, found.data_ptr(), raw.ctypes.data)
    torch.testing.assert_close(found, halves[::stride].to(wide), rtol=0, atol=0, equal_nan=True)

    bits = torch.randint(-(2**31), 2**31, (2**18,), generator=torch.Generator().manual_seed(1)).to(torch.int32)
    bits[: 2**16] = halves[::stride].float().view(torch.int32) + 0x1000  # ties of float16, near ties of bfloat16
    bits[2**16 : 2**17] = halves[::stride].float().view(torch.int32) + 0x8000  # ties of bfloat16
    given = bits.view(torch.float32).to(wide)[:-27].contiguous()  # the last block is not full
    rounded = torch.empty(given.numel() * stride, dtype=half)
    _write(kind, code, stride, given.data_ptr(), given.numel(), rounded.data_ptr(), raw.ctypes.data)
    torch.testing.assert_close(rounded[::stride], given.float().to(half), rtol=0, atol=0, equal_nan=True)


def arguments(sets=6, parts=40, width=200, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    return [v.to(dtype).requires_grad_() for v in torch.randn(5, sets, parts, width, generator=generator)]


def results(inputs):
    """w~, KL and gradients of one call."""
    with compvae_fast.use_backend("numba"):
        outputs = ops.posterior_sum_and_kl(*inputs, seed=1)
        return *outputs, *torch.autograd.grad(outputs, inputs, [torch.ones_like(o) for o in outputs])


def same(found, expected):
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.fixture
def torch_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_any_number_of_threads_gives_the_same_bits(torch_threads):
    inputs = arguments()
    torch_threads(1)
    expected = results(inputs)
    for count in (2, 3, 16):
        torch_threads(count)
        assert same(results(inputs), expected)


def test_as_many_threads_work_as_torch_would_use(torch_threads, monkeypatch):
    """More threads than a processor has cores only when it is asked for them, and none beyond the work."""
    asked = []

    class Pool:
        def submit(self, *call):
            asked.append(call)
            return threads.ThreadPoolExecutor(1).submit(lambda: None)

    monkeypatch.setattr(threads, "_helpers", Pool)
    for count, width, expected in ((1, 640, 0), (3, 640, 2), (3, 64, 0)):
        torch_threads(count)
        asked.clear()
        with compvae_fast.use_backend("numba"), torch.no_grad():
            ops.posterior_sum_and_kl(*arguments(1, 2, width), seed=1)
        assert len(asked) == expected


def test_calls_at_once_from_several_threads(torch_threads):
    torch_threads(2)
    inputs = arguments()
    expected = results(inputs)
    wrong = []

    def call():
        for _ in range(20):
            if not same(results([v.detach().requires_grad_() for v in inputs]), expected):
                wrong.append(threading.get_ident())

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


PRELUDE = """
import os, re, sys, threading
import torch, compvae_fast
from compvae_fast import ops
torch.set_num_threads(2)
inputs = [v.requires_grad_() for v in torch.randn(5, 4, 20, 256, generator=torch.Generator().manual_seed(1))]
def call():
    with compvae_fast.use_backend("numba"):
        total, kl = ops.posterior_sum_and_kl(*inputs, seed=1)
        return kl, *torch.autograd.grad(total.sum() + kl.sum(), inputs)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_computes_the_same():
    """The parent's threads are not in the child, which computes by itself."""
    code = PRELUDE + """
expected = call()
child = os.fork()
if child == 0:
    same = all(map(torch.equal, call(), expected)) and all(map(torch.equal, call(), expected))
    os._exit(0 if same else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), all(map(torch.equal, call(), expected)))
"""
    assert python(code).split() == ["0", "True"]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc/self/maps on this platform")
def test_no_other_openmp_runtime_and_no_pool_of_numbas():
    code = PRELUDE + """
import numba
def runtimes():
    names = (line.split()[-1] for line in open("/proc/self/maps") if "/" in line)
    pattern = r"lib(gomp|iomp|omp|tbb)[^/]*$|/(omppool|tbbpool|workqueue)[^/]*$"
    return sorted({n for n in names if re.search(pattern, n)})
torch.randn(10**6).exp()
before = runtimes()
call()
layer = numba.config.THREADING_LAYER
try:
    print("started", numba.threading_layer())
except ValueError:
    print("not started", layer == "default", runtimes() == before)
"""
    assert python(code).strip() == "not started True True"


def test_beside_parallel_code_of_the_users_own():
    """Numba's workqueue ends the process where two threads enter it at once; our kernels do not enter it."""
    code = PRELUDE + """
import numba, numpy
@numba.njit(parallel=True)
def own(x):
    total = 0.0
    for i in numba.prange(x.size):
        total += x[i] ** 0.5
    return total
x = numpy.ones(200_000)
own(x), call()
other = threading.Thread(target=lambda: [own(x) for _ in range(200)])
other.start()
while other.is_alive():
    call()
other.join()
print(own(x))
"""
    assert float(python(code, NUMBA_THREADING_LAYER="workqueue")) == 200_000


def test_compiled_kernels_are_kept(tmp_path):
    code = PRELUDE + """
from compvae_fast.kernels.numba import elements, gaussian_nll
with compvae_fast.use_backend("numba"):
    ops.gaussian_nll(*inputs[:3])
stats = elements._sum.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""
    environment = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert python(code, **environment).split() == ["0", "1"]
    assert python(code, **environment).split() == ["1", "0"]


def test_where_compiled_kernels_are_kept(tmp_path, monkeypatch):
    """A folder of its own for each state of the sources; another one, or none, where it cannot be written."""
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setattr(compiling.config, "CACHE_DIR", str(tmp_path))
    first = compiling.cache_folder()
    assert Path(first).parent == tmp_path
    monkeypatch.setattr(compiling, "_fingerprint", lambda: "changed")
    assert Path(compiling.cache_folder()).parent == tmp_path and compiling.cache_folder() != first
    monkeypatch.setattr(compiling.config, "CACHE_DIR", str(file))
    assert compiling.cache_folder() == ""
    monkeypatch.setattr(compiling.config, "CACHE_DIR", "")
    monkeypatch.setattr(compiling, "__file__", str(file / "compiling.py"))  # its __pycache__ cannot be made
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    assert Path(compiling.cache_folder()).is_relative_to(tmp_path / "users" if sys.platform == "linux" else "/")


def test_kernels_work_where_nothing_can_be_kept(tmp_path):
    file = tmp_path / "file"
    file.touch()
    code = """
import torch, compvae_fast
from compvae_fast import ops
with compvae_fast.use_backend("numba"):
    print(ops.gaussian_nll(torch.zeros(2, 3), torch.zeros(3), torch.tensor(0.0)).tolist())
"""
    expected = ops.gaussian_nll(torch.zeros(2, 3), torch.zeros(3), torch.tensor(0.0)).tolist()
    assert python(code, NUMBA_CACHE_DIR=str(file)).strip() == str(expected)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_memory_does_not_grow_with_the_parts():
    """Half inputs are converted in pieces: 64 MB of them need no 128 MB of float32, nor noise as large."""
    code = """
import torch, compvae_fast
from compvae_fast import ops
def peak():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) / 1024
def call(parts):
    inputs = torch.zeros(5, 1, parts, 64, dtype=torch.float16)
    with compvae_fast.use_backend("numba"), torch.no_grad():
        ops.posterior_sum_and_kl(*inputs.unbind(), seed=1)
call(10)
inputs = torch.ones(5, 1, 100_000, 64, dtype=torch.float16)
before = peak()
del inputs
call(100_000)
print(peak() - before)
"""
    assert float(python(code)) < 16


def test_why_numba_cannot_be_used(monkeypatch):
    import numba

    from compvae_fast.kernels import numba as package

    assert package.reason_missing() == ""
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert "NUMBA_DISABLE_JIT" in package.reason_missing()
    monkeypatch.setattr(numba, "version_info", numba.version_info._replace(short=(0, 61)))
    assert "is older than 0.62" in package.reason_missing()
    monkeypatch.setitem(sys.modules, "numba", None)
    assert package.reason_missing().startswith("numba cannot be imported: ")
