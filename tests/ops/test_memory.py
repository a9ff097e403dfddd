"""Where kernels read and write: within what they are given, and wherever in memory that is; and without the GIL."""

from __future__ import annotations

import contextlib
import math
import mmap
import subprocess
import sys
import threading
import time

import pytest
import torch

import compvae_fast
from compvae_fast import native, ops
from compvae_fast.native import _memory

from .calls import CALLS
from .test_torch import PARTS, SETS, gradients, leaves, same

BAND = 1024  # bytes
BEYOND = 2**31 + 3
every = pytest.mark.parametrize("call", CALLS, ids=str)


class Bands:
    """Memory for tensors between guard bands of ones: NaN in every float dtype."""

    def __init__(self):
        self._held: list[tuple[torch.Tensor, int, int]] = []

    def memory(self, shape, dtype: torch.dtype, missing: int = 0) -> torch.Tensor:
        """A contiguous tensor; the last `missing` bytes of it are called band."""
        shape = torch.Size([shape] if isinstance(shape, int) else shape)
        size = shape.numel() * dtype.itemsize
        whole = torch.full((BAND + size + BAND,), 255, dtype=torch.uint8)
        self._held.append((whole, BAND, BAND + size - min(missing, size)))
        return whole[BAND : BAND + size].view(dtype).reshape(shape)

    def of(self, t: torch.Tensor) -> torch.Tensor:
        """A copy of t between bands."""
        return self.memory(t.shape, t.dtype).copy_(t)

    def intact(self) -> bool:
        return all(bool((whole[:first] == 255).all()) and bool((whole[end:] == 255).all())
                   for whole, first, end in self._held)


@contextlib.contextmanager
def all_memory_from(bands: Bands, missing: int = 0):
    """What kernels are given to write to lies between bands: their adapters allocate it with torch.empty."""
    empty = torch.empty

    def banded(*shape, dtype=torch.float32, device=None, **_):
        if device is not None and torch.device(device).type != "cpu":
            return empty(*shape, dtype=dtype, device=device)
        return bands.memory(shape[0] if len(shape) == 1 else shape, dtype, missing)

    torch.empty = banded
    try:
        yield
    finally:
        torch.empty = empty


def inputs_in(bands: Bands, call, dtype, width: int):
    return [bands.of(x).requires_grad_() for x in call.inputs(SETS, PARTS, width=width, dtype=dtype)]


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_nothing_outside_is_read_or_written(backend, call, dtype):
    for width in (1, 65):
        bands, indices = Bands(), call.indices(SETS, PARTS)
        inputs = inputs_in(bands, call, dtype, width)
        with all_memory_from(bands):
            outputs = call(*inputs, **{name: bands.of(x) for name, x in indices.items()})
            found = *outputs, *gradients(outputs, inputs)
        assert bands.intact()
        plain = leaves(call, width=width, dtype=dtype)
        outputs = call(*plain, **indices)
        same(found, (*outputs, *gradients(outputs, plain)))


@every
def test_what_is_written_outside_is_seen(backend, call):
    """The last element of each output is called band: its being written is found."""
    if backend == "reference":
        pytest.skip("the reference is made of torch's own operations")
    bands = Bands()
    inputs = inputs_in(bands, call, torch.float32, 65)
    with all_memory_from(bands, missing=1):
        call(*inputs, **call.indices(SETS, PARTS))
    assert not bands.intact()


@pytest.fixture(scope="module")
def large():
    """More than 2^31 bfloat16, of which only those that are touched take memory."""
    return torch.frombuffer(mmap.mmap(-1, 2 * (BEYOND + 2**17)), dtype=torch.bfloat16)


def spread(large: torch.Tensor, shape, at: int) -> torch.Tensor:
    """A tensor from element `at` on, its last set (of tables: class) more than 2^31 elements behind the first."""
    rest = [math.prod(shape[i:]) for i in range(2, len(shape) + 1)]
    strides = -(-BEYOND // (shape[0] - 1)), *rest
    view = large.new_tensor([]).set_(large.untyped_storage(), at, shape, strides)  # no view to autograd
    assert view.stride(0) * (shape[0] - 1) > 2**31
    return view


@pytest.fixture(params=["cpu", "numba"])
def kernels(request):
    """The backends of kernels; the reference would take more memory, and torch's operations see to the GIL."""
    if reason := compvae_fast.backends()[request.param].reason:
        pytest.skip(f"{request.param}: {reason}")
    with compvae_fast.use_backend(request.param):
        yield request.param


@every
def test_elements_beyond_32_bits(kernels, large, call, monkeypatch):
    """Inputs and all that is written like them, outputs and gradients."""
    indices, close = call.indices(SETS, PARTS), leaves(call, width=65, dtype=torch.bfloat16)
    rows = iter(range(0, 2**15, close[0][0].numel()))
    far = [spread(large, x.shape, next(rows)).copy_(x.detach()).requires_grad_() for x in close]
    outputs = call(*close, **indices)
    expected = *outputs, *gradients(outputs, close)
    empty, made = torch.empty, []

    def far_away(*shape, dtype=torch.float32, **keywords):
        shape = shape[0] if isinstance(shape[0], (tuple, torch.Size)) else shape
        if dtype != torch.bfloat16 or len(shape) < 2:
            return empty(shape, dtype=dtype, **keywords)
        made.append(spread(large, shape, next(rows)))
        return made[-1].fill_(float("nan"))

    monkeypatch.setattr(torch, "empty", far_away)
    outputs = call(*far, **indices)
    found = *outputs, *gradients(outputs, far)
    monkeypatch.undo()
    same([x.contiguous() for x in found], [x.contiguous() for x in expected])
    assert len(made) >= len(far)


def test_the_interpreter_runs_while_a_kernel_does(kernels):
    """The GIL is released: another thread of Python is not held up for as long as a call takes."""
    inputs = torch.randn(5, 16, 256, 1024).unbind()
    stop, gaps = threading.Event(), []

    def watch():
        last = time.perf_counter()
        while not stop.is_set():
            now = time.perf_counter()
            if now - last > 1e-4:
                gaps.append(now - last)
            last = now

    watcher = threading.Thread(target=watch)
    shares = []
    with torch.no_grad():
        ops.multiset_kl(*inputs)
        watcher.start()
        try:
            for _ in range(20):
                gaps.clear()
                start = time.perf_counter()
                ops.multiset_kl(*inputs)
                lasted = time.perf_counter() - start
                time.sleep(0.01)  # for the other thread to tell
                shares.append(max(gaps, default=0) / lasted)
        finally:
            stop.set()
            watcher.join()
    # On a busy machine either thread may wait for a processor, but not in every call.
    assert min(shares) < 0.5, shares


CPU = torch.device("cpu")


@pytest.fixture
def nothing_kept():
    native.release_memory()
    yield
    native.release_memory()


@pytest.mark.parametrize("shape, dtype", [
    ((3, 5), torch.float64), ((17, 2**20), torch.float32), ((2**12, 33, 2**8), torch.bfloat16)])
def test_large_results_are_apart(nothing_kept, shape, dtype):
    """Each is a whole tensor of its own, and they do not begin at the same line of a page."""
    for _ in range(2):
        results = [native.empty(shape, dtype, CPU) for _ in range(3)]
        for i, t in enumerate(results):
            assert t.shape == shape and t.dtype == dtype and t.is_contiguous() and not t._is_view()
            t.fill_(i)
        assert all(bool((t == i).all()) for i, t in enumerate(results))
        if results[0].nbytes >= _memory.MAPPED:
            assert len({t.data_ptr() % 4096 for t in results}) == 3
            assert all(t.data_ptr() % 64 == 0 for t in results)


def test_memory_is_used_again_only_when_nobody_has_it(nothing_kept):
    first = native.empty((4, 2**21), torch.float32, CPU)
    address, part = first.data_ptr(), first[2].fill_(3).numpy()
    del first
    other = native.empty((4, 2**21), torch.float32, CPU).fill_(1)
    assert other.data_ptr() != address and bool((part == 3).all())
    del part
    again = native.empty((2**21, 4), torch.float32, CPU)
    assert again.data_ptr() == address and bool((other == 1).all())
    del again
    native.release_memory()
    # of another size
    small = native.empty((9, 2**20), torch.float32, CPU)
    kept = small.data_ptr()
    del small
    assert native.empty((19, 2**20), torch.float32, CPU).data_ptr() != kept


def test_no_more_memory_is_kept_than_said(nothing_kept):
    def kept():
        return sum(block.memory.numel() for block in _memory._free)

    results = [native.empty((20 + i, 2**20), torch.bfloat16, CPU) for i in range(6, 15)]
    del results
    assert _memory.KEPT - (80 << 20) < kept() <= _memory.KEPT
    before = kept()
    native.empty((_memory.KEPT,), torch.uint8, CPU)  # with what it is moved by, more than all
    assert kept() == before


def test_taking_memory_leaves_the_order_of_the_rest(nothing_kept):
    """What has not been used for the longest time is given back first, whatever else was looked for."""
    for size in (20, 22, 24, 26):
        native.empty((size, 2**20), torch.bfloat16, CPU)
    before = [id(block) for block in _memory._free]
    taken = native.empty((22, 2**20), torch.bfloat16, CPU)
    assert [id(block) for block in _memory._free] == [before[0], *before[2:]]
    del taken
    assert [id(block) for block in _memory._free] == [before[0], *before[2:], before[1]]


def test_kept_memory_is_given_back_where_there_is_no_other(nothing_kept):
    """Under a limit that 256 MiB of fresh memory would be beyond, but not if what is kept goes first."""
    script = """
import resource, torch
from compvae_fast import native

def result(size):
    return native.empty((size, 2**20), torch.uint8, torch.device("cpu"))

result(200)
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (100 << 20),) * 2)
result(256)
try:
    result(1024)
except RuntimeError as error:
    assert "allocate" in str(error), error
else:
    raise AssertionError("beyond the limit")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_large_results_on_threads(nothing_kept):
    """Memory that goes from thread to thread is never two threads' at once."""
    wrong = []

    def work(i):
        for _ in range(50):
            t = native.empty((8, 2**20 + 2**18 * (i % 2)), torch.float32, CPU)
            t[:, ::4096] = i
            time.sleep(1e-4)
            if not bool((t[:, ::4096] == i).all()):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_large_gradients_of_one_call_after_another(nothing_kept):
    """Results that are kept stay what they are while later calls reuse the memory of those that are not."""
    inputs = [torch.randn(2, 4200, 1024, requires_grad=True) for _ in range(5)]
    found = [torch.autograd.grad(ops.multiset_kl(*inputs).sum() * scale, inputs) for scale in (1, 2, 1)]
    for once, twice, again in zip(*found):
        torch.testing.assert_close(twice, 2 * once)
        assert torch.equal(once, again)
