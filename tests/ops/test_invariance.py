"""What a result does not depend on: threads, the rest of the batch, the gradients asked for, another set's NaN."""

from __future__ import annotations

import pytest
import torch

from compvae_fast import ops

from .conformity import SEED, Case, label, make, variants
from .sets import Sizes

SIZES = (33, 70, 1, 0, 40)
VARIANTS = variants()
PAIR = (torch.float32, torch.float32)


@pytest.fixture(params=range(len(VARIANTS)), ids=[label(v) for v in VARIANTS])
def case(request):
    return make(VARIANTS[request.param], SIZES, PAIR, width=200)


@pytest.fixture
def threads():
    """Sets the number of threads; puts it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def assert_same_bits(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a.nan_to_num(nan=1e30), b.nan_to_num(nan=1e30))


def test_threads(backend, case, threads):
    threads(1)
    outputs, gradients, _ = case.call("ragged")
    for count in (2, 3):
        threads(count)
        again, gradients_again, _ = case.call("ragged")
        assert_same_bits(again, outputs)
        assert_same_bits(gradients_again, gradients)


def test_repeats(backend, case):
    first, second = case.call("padded"), case.call("padded")
    assert_same_bits(first[0] + first[1], second[0] + second[1])


def alone(case: Case, b: int, layout: str):
    """The call on one set of the batch, with its noise."""
    sizes = case.sizes.sizes
    pieces = {name: x.split(sizes)[b] for name, x in case.rows.items()}
    keywords = dict(case.keywords)
    if case.operation.draws:
        keywords["set_index"] = torch.tensor([b])
    single = Case(case.operation, Sizes((sizes[b],)), pieces, keywords)
    upstream = [u.split(sizes)[b] if kind == "parts" else u[b : b + 1]
                for u, kind in zip(case.upstream(), case.operation.outputs)]
    single.upstream = lambda: upstream
    return single.call(layout)


def assert_the_same_alone(case: Case, outputs, gradients, b: int, layout: str):
    sizes = case.sizes.sizes
    ours, our_gradients, _ = alone(case, b, layout)
    theirs = [o.split(sizes)[b] if kind == "parts" else o[b : b + 1]
              for o, kind in zip(outputs, case.operation.outputs)]
    assert_same_bits(ours, theirs)
    assert_same_bits(our_gradients, [g.split(sizes)[b] for g in gradients])


@pytest.mark.parametrize("layout", ["dense", "ragged"])
def test_the_rest_of_the_batch(backend, case, layout):
    outputs, gradients, _ = case.call("ragged")
    for b in range(len(SIZES)):
        assert_the_same_alone(case, outputs, gradients, b, layout)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("variant", VARIANTS, ids=label)
def test_what_is_written_past_the_caches(backend, variant, dtype):
    """Outputs of 8 MiB in float32 are, those of one set are not; a row of either dtype begins at a cache's line."""
    if not backend.startswith("cpu"):
        pytest.skip(f"{backend} writes nothing past the caches")
    case = make(variant, (33, 1, 0, 40) * 8, (dtype, dtype), width=3680)
    outputs, gradients, _ = case.call("ragged")
    for b in (0, 1, 2, 31):
        assert_the_same_alone(case, outputs, gradients, b, "ragged")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_stay_in_their_set(backend, case, value):
    clean, clean_gradients, _ = case.call("ragged")
    for name in case.rows:
        rows = {n: x.clone() for n, x in case.rows.items()}
        rows[name][SIZES[0] + 3, 7] = value
        outputs, gradients, _ = Case(case.operation, case.sizes, rows, case.keywords).call("ragged")
        others = torch.tensor([b for b in range(len(SIZES)) if b != 1])
        parts = torch.isin(case.sizes.owner, others)
        for kind, found, expected in zip(case.operation.outputs, outputs, clean):
            keep = parts if kind == "parts" else others
            assert torch.equal(found[keep], expected[keep])
        for found, expected in zip(gradients, clean_gradients):
            assert torch.equal(found[parts], expected[parts])
        if value != value:
            assert any(o.isnan().any() for o in outputs), f"a NaN in {name} is not seen"


def test_only_some_gradients_are_asked_for(backend, case):
    _, expected, _ = case.call("ragged")
    for wanted, name in enumerate(case.rows):
        inputs = {n: x.clone().requires_grad_(n == name) for n, x in case.rows.items()}
        outputs = case.operation.function(*inputs.values(), **case.sizes.keywords("ragged"), **case.keywords)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        pairs = [(o, u.to(o.dtype)) for o, u in zip(outputs, case.upstream()) if o.requires_grad]
        (found,) = torch.autograd.grad([o for o, _ in pairs], inputs[name], [u for _, u in pairs])
        assert torch.equal(found, expected[wanted])


def test_only_some_outputs_are_used(backend, case):
    """An output that nobody uses brings no gradient, not even NaN."""
    inputs = [x.clone().requires_grad_() for x in case.rows.values()]
    outputs = case.operation.function(*inputs, **case.sizes.keywords("ragged"), **case.keywords)
    if not isinstance(outputs, tuple):
        return
    upstream = [u.to(o.dtype) for u, o in zip(case.upstream(), outputs)]
    alone = [torch.autograd.grad(o, inputs, u, retain_graph=True) for o, u in zip(outputs, upstream)]
    together = torch.autograd.grad(outputs, inputs, upstream)
    for separate, joint in zip(zip(*alone), together):
        torch.testing.assert_close(sum(separate), joint, rtol=1e-4, atol=1e-4 * joint.abs().max().item())


def test_the_gradient_may_have_any_strides(backend, case):
    """An upstream gradient that is expanded, as that of a sum is."""
    inputs = [x.clone().requires_grad_() for x in case.rows.values()]
    outputs = case.operation.function(*inputs, **case.sizes.keywords("ragged"), **case.keywords)
    first = outputs[0] if isinstance(outputs, tuple) else outputs
    found = torch.autograd.grad(first.sum(), inputs, retain_graph=True)
    expected = torch.autograd.grad(first, inputs, torch.ones_like(first).contiguous())
    assert_same_bits(found, expected)


def test_parts_of_a_set_draw_by_their_index(backend):
    """part_start says where in its set a shard begins: each part's noise is its own."""
    mu, logvar, logits = torch.zeros(3, 2, 6, 70).unbind()
    off = logits - torch.inf
    whole = ops.correlated_normal_rsample(mu, logvar, off, seed=SEED)
    start = torch.tensor([2, 2])
    shard = ops.correlated_normal_rsample(mu[:, 2:], logvar[:, 2:], off[:, 2:], seed=SEED, part_start=start)
    assert torch.equal(shard, whole[:, 2:])
