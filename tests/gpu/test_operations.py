"""Every operation on a CUDA device against the float64 reference on the CPU, and what only a device can show."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from ops import shards
from ops.conformity import DTYPES, label, variants
from ops.test_conformity import conforms, dtype_names, prepared

from compvae_fast import ops, random, use_backend

pytestmark = pytest.mark.gpu
VARIANTS = variants()
EACH = pytest.mark.parametrize("index", range(len(VARIANTS)), ids=[label(v) for v in VARIANTS])
FLOATS = (torch.float32, torch.float32)


def in_time(backend: str, dtypes, layout: str, width: int = 67) -> None:
    """Triton compiles a kernel for every dtype, layout and kind of width, a third of a second and more each: it has all
    layouts in float32 and all dtypes in one layout. The others are for its interpreter, in tests/kernels."""
    wanted = (layout, width) in (("dense", 64), ("strided", 67), ("ragged", 67), ("padded", 64))
    if backend == "triton" and not (wanted if dtypes == FLOATS else (layout, width) == ("ragged", 67)):
        pytest.skip("triton: it would compile for minutes")


def on_device(index, sizes, dtypes, layout, **keywords):
    case, *expected = prepared(index, sizes, dtypes, **keywords)
    conforms(dataclasses.replace(case, device="cuda"), *expected, layout, dtypes)


@pytest.mark.parametrize("layout", ["dense", "strided", "ragged", "padded"])
@pytest.mark.parametrize("width", [64, 67])
@pytest.mark.parametrize("dtypes", [*((d, d) for d in DTYPES), (torch.bfloat16, torch.float32)], ids=dtype_names)
@EACH
def test_every_layout_and_dtype(gpu_backend, index, dtypes, width, layout):
    in_time(gpu_backend, dtypes, layout, width)
    sizes = (33, 33) if layout in ("dense", "strided") else (33, 0, 1, 5, 2, 64)
    on_device(index, sizes, dtypes, layout, width=width)


@pytest.mark.parametrize("count", [1, 16, 32, 33, 100, 2100, 100_000])
@EACH
def test_the_extreme_range(gpu_backend, index, count):
    on_device(index, (count,), FLOATS, "dense", width=8, extreme=True, means=False)


@pytest.mark.parametrize("layout", ["dense", "ragged", "padded"])
@pytest.mark.parametrize("dtypes", [*((d, d) for d in DTYPES), (torch.bfloat16, torch.float32)], ids=dtype_names)
@shards.EACH
def test_shards(gpu_backend, index, dtypes, layout):
    in_time(gpu_backend, dtypes, layout)
    sizes = (33, 33) if layout == "dense" else (3000, 0, 1, 5, 2, 64)
    case, *expected = shards.prepared(index, sizes, dtypes, width=64)
    conforms(dataclasses.replace(case, device="cuda"), *expected, layout, dtypes)


@pytest.mark.parametrize("count", [1, 33, 100_000])
@shards.EACH
def test_shards_of_the_extreme_range(gpu_backend, index, count):
    case, *expected = shards.prepared(index, (count,), FLOATS, width=8, extreme=True, means=False)
    conforms(dataclasses.replace(case, device="cuda"), *expected, "ragged", FLOATS)


def posterior(*shape, dtype=torch.float32, requires_grad=False):
    generator = torch.Generator("cuda").manual_seed(0)
    return [torch.randn(shape, generator=generator, device="cuda").to(dtype).requires_grad_(requires_grad)
            for _ in range(5)]


def test_noise_is_that_of_the_cpu():
    place = torch.arange(100_000)
    indices = place % 7 + 2**40, place // 3 + 2**33, place * 2**17
    with use_backend("reference"):
        normals, uniforms = random.normal(-3, *indices), random.uniform(-3, *indices)
    with use_backend("cuda"):
        on_gpu = [random.normal(-3, *(i.cuda() for i in indices)).cpu(),
                  random.uniform(-3, *(i.cuda() for i in indices)).cpu()]
    assert torch.equal(on_gpu[1], uniforms)
    assert ((on_gpu[0] - normals).abs() <= 2**-22 * normals.abs().clamp(min=1)).all()


@pytest.mark.parametrize("coupling", ["scaled", "unit"])
def test_a_captured_graph_draws_afresh(gpu_backend, coupling):
    inputs, seed = posterior(8, 16, 64), torch.tensor(1, device="cuda")
    eager = {}
    for number in (1, 2):
        seed.fill_(number)
        eager[number] = [x.clone() for x in ops.posterior_sum_and_kl(*inputs, seed=seed, coupling=coupling)]
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = ops.posterior_sum_and_kl(*inputs, seed=seed, coupling=coupling)
    for number in (2, 1):
        seed.fill_(number)
        graph.replay()
        torch.cuda.synchronize()
        assert all(torch.equal(a, b) for a, b in zip(captured, eager[number]))


def test_a_training_step_waits_for_nothing(gpu_backend):
    inputs, labels = posterior(8, 16, 64, requires_grad=True), torch.randint(0, 5, (8, 16), device="cuda")
    tables = [torch.randn(5, 64, device="cuda", requires_grad=True) for _ in range(2)]

    def step():
        w_sum, kl = ops.posterior_sum_and_kl(*inputs)
        prior = ops.prior_sum(labels, *tables) + ops.prior_sum(labels, *tables, collapse=True)
        (w_sum.square().sum() + kl.sum() + prior.sum()).backward()

    step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("shape", [(64, 16, 256), (2, 4096, 64)], ids=str)
def test_a_thousand_repeats_are_the_same_bits_while_other_kernels_load_the_memory(gpu_backend, shape):
    inputs, upstream = posterior(*shape, requires_grad=True), torch.randn(shape[0], shape[2], device="cuda")
    load, other = torch.randn(1 << 26, device="cuda"), torch.cuda.Stream()

    def once():
        w_sum, kl = ops.posterior_sum_and_kl(*inputs, seed=3)
        return w_sum, kl, *torch.autograd.grad((w_sum * upstream).sum() + kl.sum(), inputs)

    first, differs = once(), torch.zeros((), dtype=torch.bool, device="cuda")
    for repeat in range(1000):
        if repeat % 10 == 0:
            with torch.cuda.stream(other):
                load.mul_(1.0000001)
        for a, b in zip(once(), first):
            differs |= (a != b).any()
    assert not differs


def test_streams_and_devices_are_the_callers(gpu_backend):
    inputs, stream = posterior(4, 5, 64), torch.cuda.Stream()
    expected = ops.posterior_sum_and_kl(*inputs, seed=1)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        late = [x.clone() for x in inputs]
        found = ops.posterior_sum_and_kl(*late, seed=1)
    stream.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


def test_beyond_32_bits(gpu_backend):
    """Elements beyond 2^31: gradients of all of them are written, the last as the first."""
    if torch.cuda.mem_get_info()[0] < 60 << 30:
        pytest.skip("needs 60 GiB of free GPU memory")
    h = torch.zeros(1 << 18, 2, 4200, dtype=torch.bfloat16, device="cuda")
    h[-1, 1] = 3
    out = ops.sum_minus_self(h)
    assert (out[-1, 0] == 3).all() and not out[-1, 1].any() and not out[:-1].any()


def test_wrong_values_are_reported_by_the_next_call(gpu_backend):
    inputs = posterior(3, 4, 64)
    w_sum, _ = ops.posterior_sum_and_kl(*inputs, seed=1, lengths=torch.tensor([4, 5, 1], device="cuda"))
    torch.cuda.synchronize()
    assert w_sum.isnan().all(1).tolist() == [False, True, False]
    with pytest.raises(ValueError, match="^lengths: expected"):
        ops.posterior_sum_and_kl(*inputs, seed=1)
    ops.posterior_sum_and_kl(*inputs, seed=1)


def test_compiled_whole(gpu_backend):
    inputs = posterior(8, 16, 64, requires_grad=True)
    compiled = torch.compile(lambda *x: ops.posterior_sum_and_kl(*x, seed=1), fullgraph=True)
    for a, b in zip(compiled(*inputs), ops.posterior_sum_and_kl(*inputs, seed=1)):
        assert torch.equal(a, b)
