"""The sum of parts from the prior: noise by part, collapsed, and by counts."""

import pytest
import torch

from compvae_fast import reference
from compvae_fast.reference import noise

from .cases import LAYOUTS, SIZES, layout_arguments, ragged_to_padded, random

C, D = 6, 5
SEED = torch.tensor(21)
TABLES = random((C, D), 2)
MU, LOGVAR = TABLES


def labels_of(shape):
    return torch.arange(torch.Size(shape).numel()).reshape(shape) * 5 % C


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_part_has_its_own_noise(layout):
    shape, sets = layout_arguments(layout)
    labels = labels_of(shape)
    found = reference.prior_sum(labels, *TABLES, seed=SEED, **sets)
    if layout == "ragged":
        labels = ragged_to_padded(labels)
    sizes = SIZES if layout in ("ragged", "padded") else [labels.shape[1]] * len(labels)
    eps = noise.set_normals64(SEED, (len(labels), max(labels.shape[1], 1), D))
    expected = torch.zeros(len(labels), D, dtype=torch.float64)
    for b, size in enumerate(sizes):
        for k in range(size):
            expected[b] += MU[labels[b, k]] + torch.exp(LOGVAR[labels[b, k]] / 2) * eps[b, k]
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


def test_labels_in_empty_slots_are_not_read():
    labels = labels_of((4, 5))
    spoiled = labels.clone()
    for b, size in enumerate(SIZES):
        spoiled[b, size:] = -(10**9)
    arguments = dict(lengths=torch.tensor(SIZES), seed=SEED)
    for collapse in (False, True):
        found = reference.prior_sum(spoiled, *TABLES, collapse=collapse, **arguments)
        assert torch.equal(found, reference.prior_sum(labels, *TABLES, collapse=collapse, **arguments))


def test_rows_as_parts():
    """labels None: the tables' rows are the parts themselves."""
    offsets = torch.tensor([0, 2, 2, C])
    found = reference.prior_sum(None, *TABLES, offsets=offsets, seed=SEED)
    expected = reference.prior_sum(torch.arange(C), *TABLES, offsets=offsets, seed=SEED)
    assert torch.equal(found, expected)


def test_collapsed_draws_have_the_sum_s_moments():
    labels, lengths = labels_of((4, 5)), torch.tensor(SIZES)
    found = reference.prior_sum(labels, *TABLES, lengths=lengths, seed=SEED, collapse=True)
    eps = noise.set_normals64(SEED, (4, 1, D))[:, 0]
    for b, size in enumerate(SIZES):
        mean, variance = MU[labels[b, :size]].sum(0), LOGVAR[labels[b, :size]].exp().sum(0)
        torch.testing.assert_close(found[b], mean + variance.sqrt() * eps[b], rtol=1e-13, atol=1e-13)
    assert found[1].tolist() == [0.0] * D
    counts = torch.stack([torch.bincount(row[:size], minlength=C) for row, size in zip(labels, SIZES)])
    counted = reference.prior_sum(None, *TABLES, counts=counts, seed=SEED)
    torch.testing.assert_close(found, counted, rtol=1e-13, atol=1e-13)


def test_counts_up_to_two_to_the_53():
    counts = torch.tensor([[2**53 - 1, 0, 1]])
    table = torch.tensor([[1.0], [1e300], [-(2.0**52)]], dtype=torch.float64)
    quiet = torch.full_like(table, -1e4)
    assert reference.prior_sum(None, table, quiet, counts=counts, seed=SEED).item() == 2**52 - 1
    wide = torch.tensor([[0.0], [700.0], [0.0]], dtype=torch.float64)
    found = reference.prior_sum(None, torch.zeros_like(table), wide, counts=counts, seed=SEED)
    expected = 2.0**26.5 * noise.set_normals64(SEED, (1, 1, 1)).item()
    assert found.item() == pytest.approx(expected, rel=1e-14)


def test_a_bad_class_reaches_only_the_sets_that_have_it():
    mu = MU.clone()
    mu[2] = torch.nan
    mu.requires_grad_()
    counts = torch.tensor([[1, 1, 0, 0, 0, 2], [0, 0, 1, 0, 0, 0]])
    found = reference.prior_sum(None, mu, LOGVAR, counts=counts, seed=SEED)
    assert found[0].isfinite().all() and found[1].isnan().all()
    labels = torch.tensor([[0, 1, 5, 5], [2, 0, 0, 0]])
    for collapse in (False, True):
        found = reference.prior_sum(labels, mu, LOGVAR, seed=SEED, collapse=collapse)
        assert found[0].isfinite().all() and found[1].isnan().all()
        (gradient,) = torch.autograd.grad(found[0].sum(), mu)
        assert gradient.sum(1).tolist() == [D, D, 0, 0, 0, 2 * D]


def test_no_variance_at_all():
    mu, logvar = (t.clone().requires_grad_() for t in (MU, torch.full_like(LOGVAR, -torch.inf)))
    counts = torch.tensor([[0] * C, [2] * C])
    for keywords in ({"counts": counts}, {"collapse": True}, {}):
        labels = None if "counts" in keywords else torch.arange(C).expand(2, C)
        found = reference.prior_sum(labels, mu, logvar, seed=SEED, **keywords)
        torch.testing.assert_close(found[1], MU.sum(0) * (2 if labels is None else 1), rtol=1e-14, atol=1e-14)
        gradients = torch.autograd.grad(found.sum(), (mu, logvar))
        assert all(g.isfinite().all() for g in gradients)


def test_shards_add_up():
    labels = labels_of((3, 11))
    whole = reference.prior_sum(labels, *TABLES, seed=SEED)
    pieces = [
        reference.prior_sum(labels[:, a:b], *TABLES, seed=SEED, part_start=torch.full((3,), a))
        for a, b in ((0, 4), (4, 4), (4, 11))
    ]
    torch.testing.assert_close(sum(pieces), whole, rtol=1e-13, atol=1e-13)


def test_narrow_tables_are_summed_in_float64():
    tables = [t.bfloat16() for t in TABLES]
    labels = labels_of((2, 1000))
    found = reference.prior_sum(labels, *tables, seed=SEED)
    expected = reference.prior_sum(labels, *(t.double() for t in tables), seed=SEED)
    assert found.dtype == torch.float32 and torch.equal(found, expected.float())


def test_the_collapsed_distribution_is_that_of_the_parts():
    """Mean and variance of n = 40,000 part-by-part sums against the collapsed moments.

    10 statistics within 5.5 standard deviations: false alarm 4e-7. An error of a factor sqrt(K) = 2 in the standard
    deviation lies hundreds of them away.
    """
    sets = 40_000
    labels = torch.tensor([0, 1, 1, 4]).expand(sets, 4)
    drawn = reference.prior_sum(labels, *TABLES, seed=SEED)
    mean, variance = MU[labels[0]].sum(0), LOGVAR[labels[0]].exp().sum(0)
    assert ((drawn.mean(0) - mean) / (variance / sets).sqrt()).abs().max() < 5.5
    spread = (drawn - mean).square().mean(0) / variance - 1
    assert (spread / (2 / sets) ** 0.5).abs().max() < 5.5
