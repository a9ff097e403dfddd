"""The CUDA kernels as the host emulates them: what the tests of every backend do not reach. Whole quads of coordinates,
sets that are cut into slices, several blocks of coordinates, and wrong values of index tensors, which kernels find."""

from __future__ import annotations

import importlib

import emulation
import pytest
import torch

from compvae_fast import backends, cuda, ops

from . import shards
from .conformity import label, variants
from .test_conformity import conforms, dtype_names, prepared

VARIANTS = variants()
EACH = pytest.mark.parametrize("index", range(len(VARIANTS)), ids=[label(v) for v in VARIANTS])
FLOATS = {"float32": (torch.float32,) * 2, "bfloat16": (torch.bfloat16,) * 2, "float16": (torch.float16,) * 2}


@pytest.fixture(scope="module", autouse=True)
def kernels():
    if reason := emulation.why_not():
        pytest.skip(reason)
    with emulation.emulated() as library:
        yield library


@pytest.mark.parametrize("layout", ["dense", "ragged", "padded"])
@pytest.mark.parametrize("dtypes", FLOATS.values(), ids=list(FLOATS))
@EACH
def test_whole_quads(index, dtypes, layout):
    sizes = (33, 33) if layout == "dense" else (33, 0, 1, 5, 2, 64)
    conforms(*prepared(index, sizes, dtypes, width=8), layout, dtypes)


@pytest.mark.parametrize("width", [4, 3])
@pytest.mark.parametrize("extreme", [False, True], ids=["tame", "extreme"])
@EACH
def test_slices_of_several_chunks(index, extreme, width):
    """2100 parts are 33 slices of 64, two chunks each but for the last."""
    dtypes = FLOATS["float32"]
    conforms(*prepared(index, (2100, 3, 1100), dtypes, width=width, extreme=extreme, means=False), "ragged", dtypes)


@EACH
def test_several_blocks_of_coordinates(index):
    dtypes = FLOATS["float32"]
    conforms(*prepared(index, (2, 40), dtypes, width=4 * 128 + 12), "ragged", dtypes)


def raw(name: str, save: bool = False, **arguments):
    """The outputs of the kernels of one operation, past the checks that the public function makes of CPU tensors."""
    operation = importlib.import_module(f"compvae_fast.ops.{name}").OPERATION
    values = [arguments.pop(a.name, None) for a in operation.all_arguments]
    assert not arguments
    return backends.implementation("cuda", name).forward(*values, save)


def parts(*shape):
    torch.manual_seed(0)
    return dict(zip(("mu", "logvar", "rho_logits"), torch.randn(3, *shape).unbind()))


DRAW = dict(seed=torch.tensor(1), coupling="scaled", with_log_prob=True)


@pytest.mark.parametrize("wrong, where, value", [
    (dict(lengths=torch.tensor([2, 4, 1])), 1, 4), (dict(lengths=torch.tensor([2, -1, 1])), 1, -1),
    (dict(set_index=torch.tensor([0, 2**48 - 1, 2])), 1, 2**48 - 1), (dict(set_index=torch.tensor([0, -5, 2])), 1, -5),
    (dict(part_start=torch.tensor([0, 2**48 - 2, 2])), 1, 2**48 - 2),
])
def test_a_wrong_value_makes_its_set_nan_and_the_next_call_raise(wrong, where, value):
    inputs = parts(3, 3, 8)
    (name,) = wrong
    w, log_q, _ = raw("correlated_normal_rsample", **inputs, **DRAW, **wrong)
    assert w[where].isnan().all() and log_q[where].isnan()
    good = [b for b in range(3) if b != where]
    right = {key: t.clone() for key, t in wrong.items()}
    right[name][where] = 1
    with pytest.raises(ValueError, match=rf"^{name}: expected .*, got {value} at place {where}, in an earlier call$"):
        raw("correlated_normal_rsample", **inputs, **DRAW, **right)
    expected, expected_log_q, _ = raw("correlated_normal_rsample", **inputs, **DRAW, **right)
    assert torch.equal(w[good], expected[good]) and torch.equal(log_q[good], expected_log_q[good])


@pytest.mark.parametrize("coupling", ["unit", "scaled"])
def test_a_wrong_value_makes_its_set_of_a_shard_nan(coupling):
    shards.wrong_lengths("cuda", coupling)


@pytest.mark.parametrize("offsets, place, value", [
    ([1, 3, 6, 9], 0, 1), ([0, 3, 6, 8], 3, 8), ([0, 6, 3, 9], 2, 3), ([0, 3, 10, 9], 2, 10), ([0, -1, 6, 9], 1, -1),
    ([0, 3, 2**62, 9], 2, 2**62),
])
def test_wrong_offsets(offsets, place, value):
    """Rows have no owner then: all that has rows becomes NaN; of the others, the sets with wrong ends."""
    inputs, offsets = parts(9, 8), torch.tensor(offsets)
    w, log_q, _ = raw("correlated_normal_rsample", **inputs, **DRAW, offsets=offsets)
    ends = list(zip(offsets.tolist(), offsets.tolist()[1:]))
    wrong = [not 0 <= first <= end <= 9 or (b == 0 and first != 0) or (b == 2 and end != 9)
             for b, (first, end) in enumerate(ends)]
    assert w.isnan().all() and log_q.isnan().tolist() == wrong
    with pytest.raises(ValueError, match=rf"^offsets: expected .*, got {value} at place {place}, in an earlier call$"):
        raw("correlated_normal_rsample", **inputs, **DRAW, offsets=torch.tensor([0, 3, 6, 9]))


@pytest.mark.parametrize("collapse", [False, True])
def test_wrong_labels_are_not_followed(collapse):
    tables = dict(mu_table=torch.randn(4, 8), logvar_table=torch.zeros(4, 8), seed=torch.tensor(1))
    labels = torch.tensor([[0, 1], [3, 4], [2, 2], [-1, 2**60]])
    w, _ = raw("prior_sum", **tables, labels=labels, collapse=collapse)
    assert w.isnan().any(1).tolist() == w.isnan().all(1).tolist() == [False, True, False, True]
    with pytest.raises(IndexError, match=r"^labels: expected values in \[0, C\), got (4|-1|1152921504606846976) at"):
        raw("prior_sum", **tables, labels=labels.clamp(0, 3), collapse=collapse)
    right, _ = raw("prior_sum", **tables, labels=labels.clamp(0, 3), collapse=collapse)
    assert torch.equal(w[::2], right[::2])


def test_wrong_counts():
    tables = dict(mu_table=torch.randn(2, 8), logvar_table=torch.zeros(2, 8), seed=torch.tensor(1), collapse=False)
    w, _ = raw("prior_sum", **tables, counts=torch.tensor([[1, 2**53], [2**53 + 1, 0], [3, -2]]))
    assert w.isnan().all(1).tolist() == [False, True, True]
    with pytest.raises(ValueError, match=r"^counts: expected values in \[0, 2\^53\], got (-2|9007199254740993) at"):
        raw("prior_sum", **tables, counts=torch.tensor([[1, 2]]))


def test_checks_raise_at_once(monkeypatch):
    monkeypatch.setenv("COMPVAE_FAST_CHECKS", "1")
    with pytest.raises(ValueError, match=r"^lengths: expected values in \[0, K\], got 4 at place 0, in this call$"):
        raw("correlated_normal_rsample", **parts(1, 3, 8), **DRAW, lengths=torch.tensor([4]))
    raw("correlated_normal_rsample", **parts(1, 3, 8), **DRAW, lengths=torch.tensor([3]))


def test_scratch_is_bounded_by_sets_and_coordinates():
    """However many parts a set has, and ragged sets too."""
    def size(count, parts, width, offsets=0):
        return cuda.library().scratch_size((count, parts, width, offsets, 0, 0, 0, 0, 0, 0, 1))

    assert size(8, 32, 64) == 8
    assert size(8, 10**9, 64) == size(8, 10**12, 64) <= 8 * 64 * 257 * 13 + 8
    assert size(8, 10**12, 64, 1) <= 8 * 64 * 257 * 13 + 8


def test_noise_is_that_of_the_other_backends():
    from compvae_fast import random, use_backend

    place = torch.arange(2000)
    found = random.normal(-3, place % 7 + 2**40, place // 3 + 2**33, place * 2**20)
    with use_backend("reference"):
        expected = random.normal(-3, place % 7 + 2**40, place // 3 + 2**33, place * 2**20)
    assert ((found - expected).abs() <= 2**-22 * expected.abs().clamp(min=1)).all()
    assert len(ops.__all__) == sum(backends._has("cuda", name) for name in ops.__all__)


@pytest.mark.parametrize("layout", ["dense", "strided", "ragged", "padded"])
@pytest.mark.parametrize("dtypes", [*FLOATS.values(), (torch.float64, torch.float64), (torch.bfloat16, torch.float32)],
                         ids=dtype_names)
@shards.EACH
def test_shards(poisoned_memory, index, dtypes, layout):
    sizes = (33, 33) if layout in ("dense", "strided") else (70, 0, 1, 5, 2)
    conforms(*shards.prepared(index, sizes, dtypes, width=8), layout, dtypes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("count", [1, 9, 2100])
@shards.EACH
def test_shards_of_the_extreme_range(poisoned_memory, index, count, dtype):
    """Which shard has the largest logit changes from coordinate to coordinate; 2100 parts are cut into slices."""
    dtypes = (dtype, dtype)
    conforms(*shards.prepared(index, (count,), dtypes, width=16, extreme=True, means=False), "ragged", dtypes)
