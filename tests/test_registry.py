"""The records: their baselines and alternatives compute the same as the operations, and their figures are right."""

import pytest
import torch
from reference import explicit

from compvae_fast import ops, use_backend
from compvae_fast.patch import noise_like
from compvae_fast.registry import RECORDS, Shape, matching
from compvae_fast.registry.alternatives import full_covariance

SHAPES = (Shape.dense(3, 4, 8), Shape((3, 0, 1, 4), 8, "ragged"), Shape((3, 0, 1, 4), 8, "padded"))


def cases() -> list:
    return [
        pytest.param(record, shape, options, id=f"{record.name}-{shape.layout}-{options}")
        for record in RECORDS.values()
        for shape in (SHAPES if record.sets else SHAPES[:1])
        for options in record.options
    ]


def gradients(outputs, arguments, names):
    weights = [torch.linspace(0.5, 1.5, o.numel(), dtype=o.dtype).reshape(o.shape) for o in outputs]
    return torch.autograd.grad(outputs, [arguments[name] for name in names], weights)


def test_every_operation_has_a_record():
    assert {record.operation for record in RECORDS.values()} == set(ops.__all__)


@pytest.mark.parametrize("record, shape, options", cases())
def test_baseline_computes_the_operation(record, shape, options):
    arguments = record.arguments(shape, dtype=torch.float64, requires_grad=True, **options)
    with use_backend("reference"):
        true = record.fused(arguments)
        true_gradients = gradients(true, arguments, record.differentiable)
    plain = record.plain_with_noise_of(arguments)
    # The reference draws in float64 what noise_like rounds to float32.
    tolerance = 1e-6 if record.draws else 1e-12
    torch.testing.assert_close(plain, true, rtol=tolerance, atol=tolerance)
    found = gradients(plain, arguments, record.differentiable)
    torch.testing.assert_close(found, true_gradients, rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("record, shape, options", cases())
def test_alternatives_compute_the_operation(record, shape, options):
    arguments = record.arguments(shape, dtype=torch.float64, **options)
    true = record.fused(arguments)
    served = [alternative for alternative in record.alternatives if alternative.serves(shape)]
    for alternative in served:
        outputs = alternative.call(**arguments)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        if alternative.same:
            torch.testing.assert_close(outputs, true, rtol=1e-10, atol=1e-10)
        else:
            assert alternative.note
            if alternative.name != "torch.randn":
                assert [o.shape for o in outputs] == [o.shape for o in true]


@pytest.mark.parametrize("coupling", ("scaled", "unit"))
def test_full_covariance_is_the_distribution(coupling):
    record, shape = RECORDS["correlated_normal_rsample"], Shape.dense(2, 4, 3)
    given = record.arguments(shape, dtype=torch.float64)
    found = full_covariance(given["mu"], given["logvar"], given["rho_logits"], coupling)
    for b in range(2):
        for d in range(3):
            wanted = explicit.normal(coupling, *(given[name][b, :, d] for name in ("mu", "logvar", "rho_logits")))
            torch.testing.assert_close(found.covariance_matrix[b, d], wanted.covariance_matrix)
            torch.testing.assert_close(found.mean[b, d], wanted.mean)


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_record_is_whole(record):
    shape = Shape.dense(2, 3, 8)
    arguments = record.arguments(shape)
    outputs = record.fused(arguments)
    shapes = {"sum": (2, 8), "moment": (2, 8), "number": (2,), "parts": (2, 3, 8)}
    assert [o.shape for o in outputs] == [shapes[kind] for kind in record.outputs][: len(outputs)]
    assert tuple(name for side in record.sides for name in side) == record.differentiable
    assert record.shapes and record.quick
    assert "reference" in record.backends()
    assert set(record.differentiable) <= set(arguments)
    again = record.arguments(shape)
    assert all(torch.equal(v, again[k]) for k, v in arguments.items() if isinstance(v, torch.Tensor))
    other = record.arguments(shape, seed=1)
    assert not torch.equal(arguments[record.differentiable[-1]], other[record.differentiable[-1]])


def test_what_the_registrations_tell():
    told = {name: (r.draws, r.coupled, r.sets) for name, r in RECORDS.items()}
    assert told["posterior_sum_and_kl"] == (True, True, True) and told["multiset_kl"] == (False, True, True)
    assert told["prior_sum"] == (True, False, True) and told["prior_sum_counts"] == (True, False, False)
    assert told["sum_minus_self"] == (False, False, True) and told["gaussian_nll"] == (False, False, False)


def test_traffic_counts_every_tensor_once():
    record = RECORDS["posterior_sum_and_kl"]
    arguments = record.arguments(Shape((2, 3), 8, "ragged"), dtype=torch.bfloat16)
    forward, backward = record.traffic(arguments, record.fused(arguments))
    inputs, offsets, outputs = 5 * (5 * 8) * 2, 3 * 8, 2 * 8 * 4 + 2 * 4
    assert (forward, backward) == (inputs + offsets + outputs, 2 * inputs + offsets + outputs)


def test_noise_like_is_the_noise_of_ragged_and_collapsed_draws():
    offsets = torch.tensor([0, 2, 2, 5])
    x = torch.empty(5, 6)
    padded = noise_like(torch.empty(3, 3, 6), 11)
    ragged = noise_like(x, 11, offsets=offsets)
    assert torch.equal(ragged, torch.cat([padded[0, :2], padded[2, :3]]))
    assert torch.equal(noise_like(torch.empty(3, 6), 11), padded[:, 0])
    with pytest.raises(ValueError, match=r"x: expected shape \[N, D\] with offsets, got \[3, 3, 6\]"):
        noise_like(torch.empty(3, 3, 6), 11, offsets=offsets)


def test_names_of_operations():
    assert matching([]) == tuple(RECORDS.values())
    named = ["multiset_kl", "prior_sum_counts"]
    assert [record.name for record in matching(named)] == named
    with pytest.raises(ValueError, match="operation: expected one of posterior_sum_and_kl, .*, got 'kl'"):
        matching(["kl"])


def test_shapes_refuse_what_is_not_dense():
    with pytest.raises(ValueError, match="sizes: expected equal ones"):
        Shape((1, 2), 8)
    with pytest.raises(ValueError, match="layout: expected one of dense, ragged, padded, got 'sparse'"):
        Shape((1,), 8, "sparse")
