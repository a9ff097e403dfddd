"""The Triton kernels in Triton's interpreter, on CPU tensors: the conformity matrix of the operations on small shapes,
and what tests/ops asks of every backend.

The interpreter takes some tens of milliseconds for a part, so each test has a handful of them; where sets of many
chunks and segments are meant, these are made short.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

import compvae_fast
from compvae_fast import ops, random
from compvae_fast.backends import implementation
from tests.kernels import interpreter
from tests.ops import (
    conformity,
    judge,
    shards,
    test_conformity,
    test_elementwise,
    test_prior_sum,
    test_product_of_experts,
)
from tests.ops.conformity import DTYPES, OPERATIONS, Case, label, make
from tests.ops.sets import LAYOUTS, Sizes

REASON = compvae_fast.backends()["triton"].reason
if not REASON and compvae_fast.backends()["triton"].device != "cpu":
    REASON = "the kernels are not interpreted here; TRITON_INTERPRET=1 asks for that"
pytestmark = pytest.mark.skipif(bool(REASON), reason=f"triton: {REASON}")

VARIANTS = conformity.variants()
LABELS = [label(v) for v in VARIANTS]
ALL = pytest.mark.parametrize("index", range(len(VARIANTS)), ids=LABELS)
COUPLED = [i for i, (name, _) in enumerate(VARIANTS) if OPERATIONS[name].coupled]
FLOAT32 = (torch.float32, torch.float32)
RAGGED = (2, 0, 1)


@pytest.fixture(autouse=True)
def _interpreted(poisoned_memory):
    interpreter.improve()
    with compvae_fast.use_backend("triton"), np.errstate(all="ignore"):
        yield


def conforms(variant, sizes, dtypes, layout, width=20, **keywords):
    case = make(variant, sizes, dtypes, width, **keywords)
    test_conformity.conforms(case, *case.expected(), layout, dtypes)


@pytest.mark.parametrize("layout", LAYOUTS)
@ALL
def test_every_layout(index, layout):
    sizes = RAGGED if layout in ("ragged", "padded", "nested") else (2,)
    conforms(VARIANTS[index], sizes, FLOAT32, layout, width=130 if layout == "dense" else 20)  # 130: two blocks


def _pairs():
    for index, variant in enumerate(VARIANTS):
        two = len(OPERATIONS[variant[0]].sides) == 2
        for dtypes in (*((d, d) for d in DTYPES[1:]), *(test_conformity.MIXED if two else ())):
            yield pytest.param(index, dtypes, id=f"{label(variant)}-{test_conformity.dtype_names(dtypes)}")


@pytest.mark.parametrize(("index", "dtypes"), list(_pairs()))
def test_every_dtype(index, dtypes):
    conforms(VARIANTS[index], (2,), dtypes, "ragged", width=9)


@pytest.fixture
def short_segments(monkeypatch):
    """Sets of more than 4 parts are cut into at most 3 segments, and these into chunks of 2."""
    import triton.language as tl

    from compvae_fast.kernels.triton import multiset, places, sets, sum_minus_self
    from compvae_fast.kernels.triton import prior_sum as prior

    for module in (places, multiset, sets, sum_minus_self, prior):
        for name, value in (("CHUNK", 2), ("SEGMENT", 4), ("MOST", 3)):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, tl.constexpr(value))


@ALL
def test_the_extreme_range(index):
    """|nu| to 80, sigma^2/s^2 from 1e-6 to 1e6, in one chunk; a part alone is where most would cancel."""
    for count in (1, 3):
        conforms(VARIANTS[index], (count,), FLOAT32, "dense", width=128, extreme=True, means=False)


@ALL
def test_the_extreme_range_of_long_sets(short_segments, index):
    conforms(VARIANTS[index], (7,), FLOAT32, "dense", width=128, extreme=True, means=False)


@pytest.mark.parametrize("index", COUPLED, ids=[LABELS[i] for i in COUPLED])
def test_scales_that_are_nearly_equal(short_segments, index):
    conforms(VARIANTS[index], (3,), FLOAT32, "dense", width=128, extreme=True, means=False, scales=1e-3)


@ALL
def test_long_sets(short_segments, index):
    """One of the sets is cut into segments, whose sums are joined."""
    conforms(VARIANTS[index], (7, 0, 3), FLOAT32, "padded", width=6)


@ALL
def test_a_set_of_its_own_has_the_same_bits_cut_or_not(short_segments, index):
    """A set of one chunk has the same bits alone, where nothing can be long, and among long ones."""
    case = make(VARIANTS[index], (2, 5), FLOAT32, 6)
    outputs, gradients, _ = case.call("ragged")
    alone = Case(case.operation, Sizes((2,)), {name: x[:2] for name, x in case.rows.items()}, case.keywords)
    upstream = [u[:2] if kind == "parts" else u[:1] for u, kind in zip(case.upstream(), case.operation.outputs)]
    alone.upstream = lambda: upstream
    ours, our_gradients, _ = alone.call("dense")
    for kind, found, expected in zip(case.operation.outputs, ours, outputs):
        assert torch.equal(found, expected[:2] if kind == "parts" else expected[:1])
    for found, expected in zip(our_gradients, gradients):
        assert torch.equal(found, expected[:2])


def shards_conform(index, sizes, dtypes, layout, **keywords):
    test_conformity.conforms(*shards.prepared(index, sizes, dtypes, **keywords), layout, dtypes)


@pytest.mark.parametrize("layout", ["dense", "ragged", "padded"])
@shards.EACH
def test_shards(index, layout):
    sizes = (2, 2) if layout == "dense" else (4, 0, 1)
    shards_conform(index, sizes, FLOAT32, layout, width=6)


@pytest.mark.parametrize("dtypes", [(torch.float64,) * 2, (torch.float16,) * 2, test_conformity.MIXED[0]],
                         ids=test_conformity.dtype_names)
@shards.EACH
def test_shards_of_every_dtype(index, dtypes):
    shards_conform(index, (2, 1), dtypes, "ragged", width=6)


@pytest.mark.parametrize("count", [1, 9])
@shards.EACH
def test_shards_of_the_extreme_range(index, count):
    """Which shard has the largest logit changes from coordinate to coordinate."""
    shards_conform(index, (count,), FLOAT32, "dense", width=128, extreme=True, means=False)


@shards.EACH
def test_long_shards(short_segments, index):
    """A shard is cut into segments, among one that is not and one without parts."""
    shards_conform(index, (13, 1), FLOAT32, "padded", width=6)


@pytest.mark.parametrize("coupling", ["unit", "scaled"])
def test_a_wrong_value_makes_its_set_of_a_shard_nan(coupling):
    shards.wrong_lengths("triton", coupling)


@pytest.mark.parametrize("index", [i for i, (name, _) in enumerate(VARIANTS) if OPERATIONS[name].draws],
                         ids=[LABELS[i] for i, (name, _) in enumerate(VARIANTS) if OPERATIONS[name].draws])
def test_the_indices_of_the_noise(index):
    case = make(VARIANTS[index], (1, 2), FLOAT32, 6)
    case.keywords = {**case.keywords, "seed": -(2**40) - 3, "set_index": torch.tensor([2, 2**47 + 2**33 + 1]),
                     "part_start": torch.tensor([3, 2**32 - 2])}
    test_conformity.conforms(case, *case.expected(), "ragged", FLOAT32)


def test_the_words_are_philox():
    """Published known answers of Philox4x32-10."""
    counter = torch.tensor([[0] * 4, [0xFFFFFFFF] * 4, [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]])
    key = torch.tensor([[0] * 2, [0xFFFFFFFF] * 2, [0xA4093822, 0x299F31D0]])
    expected = ["6627e8d5 e169c58d bc57ac4c 9b00dbd8", "408f276d 41c83b0e a20bc7c6 6d5451fd",
                "d16cfe09 94fdcceb 5001e420 24126ea1"]
    words = random.philox4x32_10(counter, key)
    assert [" ".join(f"{w:08x}" for w in row) for row in words.tolist()] == expected


def test_noise_at_any_indices():
    """The uniforms are the reference's to the bit, the normals within twice the promised 2^-22: see test_the_noise."""
    sets = torch.tensor([0, 7, 2**47 + 2**33 + 1])[:, None, None]
    parts = torch.tensor([0, 2**32 - 1, 2**40 + 5])[:, None]
    where = sets, parts, torch.tensor([0, 1, 2, 3, 2**33 + 6])
    uniform, normal = random.uniform(-3, *where), random.normal(-3, *where)
    with compvae_fast.use_backend("reference"):
        assert torch.equal(uniform, random.uniform(-3, *where))
        expected = random.normal(-3, *where)
    assert ((normal - expected).abs() <= 2.0**-21 * expected.abs().clamp(min=1)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_noise(dtype):
    """Independent standard normals come out as they were drawn.

    The interpreter rounds each operation, where a device fuses products and sums: twice the promised 2^-22.
    """
    parts, width = 2, 3000
    zero = torch.zeros(1, parts, width, dtype=dtype)
    found = ops.correlated_normal_rsample(zero, zero, zero - torch.inf, seed=9, set_index=torch.tensor([5]))
    with compvae_fast.use_backend("reference"):
        expected = ops.correlated_normal_rsample(*(t.double() for t in (zero, zero, zero - torch.inf)), seed=9,
                                                 set_index=torch.tensor([5]))
    allowed = (2.0**-21 if dtype == torch.float32 else 1e-14) * expected.abs().clamp(min=1)
    judge.holds("noise", (found.double() - expected).abs(), allowed)


@ALL
def test_nan_stays_in_its_set(index):
    case = make(VARIANTS[index], (1, 2), FLOAT32, 6)
    clean, clean_gradients, _ = case.call("ragged")
    name = list(case.rows)[index % len(case.rows)]
    case.rows = {n: x.clone() for n, x in case.rows.items()}
    case.rows[name][1, 1] = math.nan
    outputs, gradients, _ = case.call("ragged")
    for found, expected in (*zip(outputs, clean), *zip(gradients, clean_gradients)):
        assert torch.equal(found[:1], expected[:1])
    assert any(o.isnan().any() for o in outputs), f"a NaN in {name} is not seen"


@pytest.mark.parametrize("values", [(math.inf, 1.0), (math.inf, -math.inf), (math.nan, math.inf)], ids=str)
def test_sums_over_others_that_are_not_finite(values):
    h = torch.tensor([*values, 2.0, 1e8])[None, :, None].requires_grad_()
    found = ops.sum_minus_self(h)
    with compvae_fast.use_backend("reference"):
        expected = ops.sum_minus_self(h)
    torch.testing.assert_close(found, expected, equal_nan=True)


@ALL
def test_only_some_gradients_and_expanded_ones(index):
    case = make(VARIANTS[index], (2,), FLOAT32, 6)
    inputs = [x.clone()[None].requires_grad_() for x in case.rows.values()]
    outputs = case.operation.function(*inputs, **case.keywords)
    first = outputs[0] if isinstance(outputs, tuple) else outputs
    expected = torch.autograd.grad(first, inputs, torch.ones_like(first).contiguous(), retain_graph=True)
    found = torch.autograd.grad(first.sum(), inputs, retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(found, expected))
    wanted = index % len(inputs)
    alone = [x.detach().requires_grad_(i == wanted) for i, x in enumerate(inputs)]
    outputs = case.operation.function(*alone, **case.keywords)
    first = outputs[0] if isinstance(outputs, tuple) else outputs
    assert torch.equal(torch.autograd.grad(first.sum(), alone[wanted])[0], expected[wanted])


@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (2, 2, 0)], ids=str)
@ALL
def test_nothing_at_all(index, shape):
    name, keywords = VARIANTS[index]
    operation = OPERATIONS[name]
    inputs = [torch.randn(shape, requires_grad=True) for _ in operation.arguments]
    outputs = operation.function(*inputs, **keywords)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    gradients = torch.autograd.grad([o.sum() for o in outputs], inputs)
    prior_less = name == "product_of_experts" and not keywords.get("prior", True)
    for output in outputs[: 1 if prior_less else None]:
        assert not output.any()
    assert all(g.shape == shape and not g.any() for g in gradients)


@pytest.mark.parametrize(("form", "dtype"), [*itertools.product(test_prior_sum.FORMS, (torch.float32, torch.float64)),
                                             ("labels", torch.bfloat16), ("counts", torch.float16)], ids=str)
def test_sums_from_the_prior(form, dtype):
    _prior_sum_conforms(form, dtype, Sizes((2, 0, 1)))


@pytest.mark.parametrize("form", test_prior_sum.FORMS)
def test_long_sums_from_the_prior(short_segments, form):
    _prior_sum_conforms(form, torch.float32, Sizes((1, 0, 7)))


def _prior_sum_conforms(form: str, dtype, sizes: Sizes):
    classes = sizes.rows if form == "rows" else 5
    mu, logvar = test_prior_sum.tables(classes, dtype)
    if form == "rows":
        mu, logvar = mu.nan_to_num(0.5), logvar.nan_to_num(0.5)
    layouts = ("ragged", "padded") if form in ("labels", "collapse") else ("ragged",)
    for layout in layouts:
        labels, keywords = test_prior_sum.arguments(form, classes, layout, sizes)
        found, gradients = test_prior_sum.call(mu, logvar, labels, keywords)
        with compvae_fast.use_backend("reference"):
            truth, true_gradients = test_prior_sum.call(mu.double(), logvar.double(), labels, keywords)
        close = judge.close
        close("w~", found, truth, 1e-5 * truth.abs().clamp(min=1))
        for gradient, expected in zip(gradients, true_gradients):
            close("gradient", gradient, expected, 1e-5 * expected.abs().clamp(min=1))


@pytest.mark.parametrize("count", [10, 2**53])
def test_counts_of_any_size(count):
    test_prior_sum.test_counts_of_any_size("triton", count)


ELEMENTWISE = pytest.mark.parametrize("name", test_elementwise.SIDES)


@ELEMENTWISE
@pytest.mark.parametrize("dtypes", test_elementwise.PAIRS, ids=str)
def test_elementwise_dtypes(name, dtypes):
    test_elementwise.test_every_shape_and_dtype("triton", name, (3, 2, 37), dtypes)


@ELEMENTWISE
@pytest.mark.parametrize("shape", test_elementwise.SHAPES, ids=str)
def test_elementwise_shapes(name, shape):
    test_elementwise.test_every_shape_and_dtype("triton", name, shape, FLOAT32)


@ELEMENTWISE
def test_elementwise_strides(name):
    test_elementwise.test_any_strides("triton", name)


@ELEMENTWISE
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_elementwise_extremes(name, dtype):
    """A row of its own for each element would take a program of its own: they are judged by their gradients."""
    values, truth, gradients = test_elementwise.prepared(name, (2, 300), (dtype, dtype), True)
    found, found_gradients = test_elementwise.call(name, values)
    judge.close(name, found, truth, 1e-5 * truth.abs().clamp(min=300))
    joint = sum(g.square() for g in gradients).sqrt()
    for x, expected in zip(found_gradients, gradients):
        judge.close(f"gradient of {name}", x, expected, 1e-4 * expected.abs() + 1e-6 * joint)


@pytest.mark.parametrize("apart", [0.0, 1e-6, 1e-3])
def test_a_posterior_next_to_its_prior(apart):
    test_elementwise.test_a_posterior_next_to_its_prior("triton", apart)


@pytest.mark.parametrize("log_scale", [-6.0, 3.0])
def test_a_level_next_to_its_location(log_scale):
    test_elementwise.test_a_level_next_to_its_location("triton", log_scale)


@pytest.mark.parametrize("prior", [True, False])
def test_masks(prior):
    """A mask leaves out experts as if they had never been there, whatever they hold."""
    mu, logvar = test_product_of_experts.experts(3, 4, 6)
    mask = torch.tensor([[True, False, True, True], [False] * 4, [False, False, True, False]])
    spoilt = [torch.where(mask[..., None], t, math.nan) for t in (mu, logvar)]
    found, gradients = test_product_of_experts.with_gradients(*spoilt, mask=mask, prior=prior)
    with compvae_fast.use_backend("reference"):
        truth, expected = test_product_of_experts.with_gradients(mu.double(), logvar.double(), mask=mask, prior=prior)
    for a, b in zip((*found, *gradients), (*truth, *expected)):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-6)


def test_experts_of_no_weight_and_of_all():
    test_product_of_experts.test_experts_of_no_weight("triton")
    test_product_of_experts.test_one_expert_far_above_the_others("triton")


# What kernels note of wrong index values. The public functions look at the values of CPU tensors themselves, so the
# kernels are called beneath them.

ZERO = torch.zeros(2, 3, 4)
SEED = torch.tensor(0)
TABLES = torch.zeros(3, 4), torch.zeros(3, 4)
WRONG = [
    ("multiset_kl", (*[ZERO[0]] * 5, torch.tensor([0, 2, 1]), None, "unit"), ValueError,
     "^offsets: expected non-decreasing values from 0 to N = 3, got 2 then 1", [False, True]),
    ("multiset_kl", (*[ZERO[0]] * 5, torch.tensor([1, 2, 3]), None, "unit"), ValueError,
     "^offsets: expected non-decreasing values from 0 to N = 3, got 1 then 2", [True, False]),
    ("multiset_kl", (*[ZERO[0]] * 5, torch.tensor([0, 1, 2]), None, "unit"), ValueError,
     "^offsets: expected non-decreasing values from 0 to N = 3, got 1 then 2", [False, True]),
    ("multiset_kl", (*[ZERO] * 5, None, torch.tensor([3, 4]), "unit"), ValueError,
     r"^lengths: expected values in \[0, K = 3\], got 4", [False, True]),
    ("posterior_sum_and_kl", (*[ZERO] * 5, None, None, SEED, torch.tensor([-1, 0]), None, "unit"), ValueError,
     r"^set_index: expected values in \[0, 281474976710655\), got -1", [True, False]),
    ("posterior_sum_and_kl", (*[ZERO] * 5, None, None, SEED, None, torch.tensor([0, 2**48 - 2]), "unit"), ValueError,
     r"^part_start: expected values in \[0, 281474976710654\), got 281474976710654", [False, True]),
    ("prior_sum", (*TABLES, torch.tensor([[0, 1], [3, 1]]), None, None, None, SEED, None, None, False), IndexError,
     r"^labels: expected values in \[0, C = 3\), got 3", [False, True]),
    ("prior_sum", (*TABLES, torch.tensor([[-1], [1]]), None, None, None, SEED, None, None, True), IndexError,
     r"^labels: expected values in \[0, C = 3\), got -1", [True, False]),
    ("prior_sum", (*TABLES, None, torch.tensor([[1, 0, 2], [0, -7, 0]]), None, None, SEED, None, None, True),
     ValueError, r"^counts: expected values in \[0, 2\^53\], got -7", [False, True]),
]


@pytest.mark.parametrize(("name", "arguments", "error", "message", "bad"), WRONG, ids=[w[3][:12] for w in WRONG])
def test_wrong_values_become_nan_and_are_told_later(name, arguments, error, message, bad):
    module = implementation("triton", name)
    first = module.forward(*arguments, False)[0]
    found = first.reshape(2, -1)
    assert found[torch.tensor(bad)].isnan().all() and not found[~torch.tensor(bad)].isnan().any()
    with pytest.raises(error, match=message):
        module.forward(*arguments, False)
    # the call that raised did nothing else
    assert ops.multiset_kl(*[ZERO] * 5).isfinite().all()


def test_wrong_values_are_told_at_once_where_that_is_asked_for(monkeypatch):
    monkeypatch.setenv("COMPVAE_FAST_CHECKS", "1")
    name, arguments, error, message, _ = WRONG[0]
    with pytest.raises(error, match=message):
        implementation("triton", name).forward(*arguments, False)
    assert ops.multiset_kl(*[ZERO] * 5).isfinite().all()


def test_a_wrong_index_of_a_ragged_set_makes_its_rows_nan():
    draw = (torch.tensor([0, 2, 5]), None, SEED, torch.tensor([0, -1]), None, "unit", False)
    arguments = (*[torch.zeros(5, 4)] * 3, *draw)
    w, _, stats = implementation("triton", "correlated_normal_rsample").forward(*arguments, True)
    assert w[:2].isfinite().all() and w[2:].isnan().all()
    with pytest.raises(ValueError, match="^set_index: "):
        ops.multiset_kl(*[ZERO] * 5)
    gradients = implementation("triton", "correlated_normal_rsample").backward(w, None, *arguments, stats, [True] * 3)
    assert all(g[:2].isfinite().all() and g[2:].isnan().all() for g in gradients)
    with pytest.raises(ValueError, match="^set_index: "):
        ops.multiset_kl(*[ZERO] * 5)


@pytest.mark.parametrize("kind", ["offsets", "lengths"])
def test_wrong_sizes_leave_nothing_unwritten(kind):
    """Every row of an output is a number, zero or NaN: NaN where no right set has it."""
    module = implementation("triton", "sum_minus_self")
    if kind == "offsets":
        h = torch.ones(5, 4)
        (out,) = module.forward(h, torch.tensor([0, 2, 9, 5]), None, "", "", "sum", False)
        assert (out[:2] == 1).all() and out[2:].isnan().all()
    else:
        (out,) = module.forward(torch.ones(2, 3, 4), None, torch.tensor([-1, 2]), "", "", "sum", False)
        assert out[0].isnan().all() and (out[1] == torch.tensor([1.0, 1, 0])[:, None]).all()
    with pytest.raises(ValueError, match=f"^{kind}: "):
        ops.multiset_kl(*[ZERO] * 5)


def test_it_serves_cpu_tensors_by_name_alone():
    from compvae_fast import backends

    found = compvae_fast.backends()["triton"]
    assert (found.device, found.available) == ("cpu", True) and "interpreted" in found.note
    assert backends.resolve("multiset_kl", "cpu") == "triton"
    assert "triton" not in backends.serving("multiset_kl", "cpu")


class TestTuning:
    """The choice of blocks and warps, on a device that only counts."""

    @pytest.fixture(autouse=True)
    def device(self, monkeypatch, tmp_path):
        from compvae_fast.kernels.triton import launch

        self.launch, self.timed, self.capturing = launch, [], False
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(launch, "_found", {})
        launch._read_file.cache_clear()
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "device")
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: self.capturing)

        def time(kernel, items, width, arguments, like, constants, choice):
            self.timed.append(choice)
            return abs(choice.block - 500) + choice.warps

        monkeypatch.setattr(launch, "_time", time)
        yield
        launch._read_file.cache_clear()

    def choose(self, width=1024, **constants):
        return self.launch._choice(self.launch.submit, 3, width, (ZERO,), ZERO, (16,), {"MODE": 0, **constants})

    def test_it_is_measured_once_and_kept_on_disk(self):
        best = self.choose()
        assert best == self.launch.Choice(512, 4) and len(self.timed) == len(self.launch.CHOICES)
        assert self.choose() == best
        self.launch._found.clear()
        self.launch._read_file.cache_clear()
        assert self.choose() == best and len(self.timed) == len(self.launch.CHOICES)
        assert [f.name for f in self.launch.cache_file().parent.iterdir()] == [self.launch.cache_file().name]

    def test_nothing_is_measured_under_capture(self):
        self.capturing = True
        assert self.choose() == self.launch.CHOICES[0] and not self.timed
        self.capturing = False
        assert self.choose() == self.launch.Choice(512, 4)

    def test_nothing_is_measured_where_it_is_switched_off(self, monkeypatch):
        monkeypatch.setenv("COMPVAE_FAST_TUNING", "0")
        assert self.choose() == self.launch.CHOICES[0] and not self.timed

    def test_blocks_are_no_wider_than_the_coordinates_need(self):
        assert self.choose(width=100).block == 128 and not self.timed
        assert self.choose(width=200).block == 256
        assert {c.block for c in self.timed} == {128, 256}

    def test_float64_may_have_fewer_coordinates_to_a_thread(self):
        import triton.language as tl

        self.choose(T=tl.float64)
        assert {c.block // c.warps for c in self.timed} == {64, 128}
        self.timed.clear()
        self.choose(T=tl.float32)
        assert {c.block // c.warps for c in self.timed} == {128}
