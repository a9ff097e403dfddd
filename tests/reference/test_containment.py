"""What a set holds stays in that set: layouts, padding, NaN, empty sets, and bits that no neighbour changes."""

import math

import pytest
import torch

from compvae_fast import reference

from .cases import SIZES, layout_arguments, ragged_to_padded, random
from .explicit import COUPLINGS

SEED = torch.tensor(3)
D = 3

OPERATIONS = {
    "correlated_normal_rsample": (3, {"seed": SEED, "with_log_prob": True}),
    "correlated_normal_log_prob": (4, {}),
    "multiset_kl": (5, {}),
    "posterior_sum_and_kl": (5, {"seed": SEED}),
    "posterior_sum_and_log_ratio": (5, {"seed": SEED}),
    "path": (5, {"seed": SEED, "path": True}),
    "sum_minus_self": (1, {"pre": "elu", "post": "tanh", "reduce": "mean"}),
    "product_of_experts": (2, {"prior": False}),
}


UNCOUPLED = ("sum_minus_self", "product_of_experts")
PAIRS = [(name, coupling) for name in OPERATIONS for coupling in ((None,) if name in UNCOUPLED else COUPLINGS)]
every_operation = pytest.mark.parametrize(("operation", "coupling"), PAIRS)
every_correlated = pytest.mark.parametrize(("operation", "coupling"), [p for p in PAIRS if p[1]])


def run(operation, coupling, arguments, **keywords):
    """Outputs, and the gradients of a fixed weighting of their finite entries."""
    name = "posterior_sum_and_log_ratio" if operation == "path" else operation
    keywords = OPERATIONS[operation][1] | keywords | ({"coupling": coupling} if coupling else {})
    leaves = [a.detach().clone().requires_grad_() for a in arguments]
    outputs = getattr(reference, name)(*leaves, **keywords)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    gradients = torch.autograd.grad([o[o.isfinite()].cos().sum() for o in outputs], leaves)
    return [o.detach() for o in outputs], list(gradients)


def by_set(values, per_part):
    return [ragged_to_padded(v) if v.shape[0] == sum(SIZES) and per_part else v for v in values]


@every_operation
def test_ragged_and_padded_sets_agree(operation, coupling):
    shape, ragged = layout_arguments("ragged")
    _, padded = layout_arguments("padded")
    arguments = random((*shape, D), OPERATIONS[operation][0])
    outputs, gradients = run(operation, coupling, arguments, **ragged)
    spoiled = [ragged_to_padded(a, fill=math.nan) for a in arguments]
    outputs_padded, gradients_padded = run(operation, coupling, spoiled, **padded)
    for a, b in zip(by_set(outputs + gradients, True), outputs_padded + gradients_padded):
        assert torch.equal(a, b)


@every_operation
def test_a_set_alone_has_the_same_bits(operation, coupling):
    """Neither longer neighbours nor their number change a set's results."""
    shape, padded = layout_arguments("padded", slots=300)
    lengths = torch.tensor([3, 300, 1, 290])
    arguments = random((*shape, D), OPERATIONS[operation][0])
    together = run(operation, coupling, arguments, lengths=lengths)
    for b, size in enumerate(lengths.tolist()):
        draws = {"set_index": torch.tensor([b])} if "seed" in OPERATIONS[operation][1] else {}
        alone = run(operation, coupling, [a[b : b + 1, :size] for a in arguments], **draws)
        for whole, single in zip(together, alone):
            for x, y in zip(whole, single):
                x = x[b : b + 1, :size] if x.dim() == 3 else x[b : b + 1]
                assert torch.equal(x, y)


@every_operation
def test_threads_do_not_change_bits(operation, coupling):
    """One coordinate of one long set, which torch would sum in pieces, one for each thread."""
    arguments = random((1, 70_001, 1), OPERATIONS[operation][0])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = run(operation, coupling, arguments)
        torch.set_num_threads(3)
        three = run(operation, coupling, arguments)
    finally:
        torch.set_num_threads(before)
    for a, b in zip(one[0] + one[1], three[0] + three[1]):
        assert torch.equal(a, b)


@every_operation
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_stay_in_their_set(operation, coupling, bad):
    shape, sets = layout_arguments("padded")
    clean = random((*shape, D), OPERATIONS[operation][0])
    for place in range(len(clean)):
        spoiled = [c.clone() for c in clean]
        spoiled[place][0, 1, 0] = bad
        expected, found = (run(operation, coupling, a, **sets) for a in (clean, spoiled))
        for a, b in zip(expected[0] + expected[1], found[0] + found[1]):
            assert torch.equal(a[1:], b[1:])
        for a, b in zip(expected[0], found[0]):
            if a.dim() > 1:  # and in its coordinate, where the result has coordinates
                assert torch.equal(a[0, ..., 1:], b[0, ..., 1:])
        if math.isnan(bad):
            assert any(o[0].isnan().any() for o in found[0])


@every_operation
def test_empty_sets(operation, coupling):
    for shape in ((2, 0, D), (0, 3, D), (2, 3, 0)):
        arguments = random(shape, OPERATIONS[operation][0])
        outputs, gradients = run(operation, coupling, arguments)
        for value in outputs:
            empty_product = operation == "product_of_experts" and value is outputs[1] and shape[1] == 0
            assert torch.equal(value, torch.full_like(value, math.inf if empty_product else 0))
        assert [g.shape for g in gradients] == [torch.Size(shape)] * len(arguments)
    offsets = torch.zeros(3, dtype=torch.int64)
    outputs, _ = run(operation, coupling, random((0, D), OPERATIONS[operation][0]), offsets=offsets)
    if operation not in ("sum_minus_self", "correlated_normal_rsample"):
        assert outputs[0].shape[0] == 2
    outputs, _ = run(operation, coupling, random((0, D), OPERATIONS[operation][0]), offsets=offsets[:1])
    assert outputs[0].shape[0] == 0


@every_correlated
def test_logits_of_minus_infinity_have_finite_gradients(operation, coupling):
    arguments = random((2, 3, D), OPERATIONS[operation][0])
    logits = arguments[3 if operation == "correlated_normal_log_prob" else 2]
    logits[0, 1] = -math.inf
    logits[1] = -math.inf
    outputs, gradients = run(operation, coupling, arguments)
    assert all(v.isfinite().all() for v in outputs + gradients)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_shards_of_a_draw_agree(coupling):
    """Uncoupled parts drawn in two shards, by part_start, are the parts drawn at once."""
    mu, logvar, _ = random((2, 7, D), 3)
    off = torch.full_like(mu, -math.inf)
    index = torch.tensor([4, 2])
    keywords = {"coupling": coupling, "seed": SEED, "set_index": index}
    whole = reference.correlated_normal_rsample(mu, logvar, off, **keywords)
    pieces = [
        reference.correlated_normal_rsample(
            mu[:, a:b], logvar[:, a:b], off[:, a:b], part_start=torch.full((2,), a), **keywords
        )
        for a, b in ((0, 3), (3, 7))
    ]
    assert torch.equal(whole, torch.cat(pieces, 1))
