"""The product of Gaussian experts, against explicit precisions."""

import math

import pytest
import torch

from compvae_fast import reference

from .cases import LAYOUTS, SIZES, layout_arguments, ragged_to_padded, random


def plain(mu, logvar, present, prior):
    """mu, logvar [B, K, D], present [B, K] bool."""
    precision = torch.exp(-logvar) * present[..., None]
    total = precision.sum(1) + (1 if prior else 0)
    mean = torch.where(total > 0, (precision * mu).sum(1) / total, 0)
    return mean, -torch.log(total)


@pytest.mark.parametrize("prior", [False, True])
@pytest.mark.parametrize("layout", [*LAYOUTS, "mask"])
def test_against_precisions(layout, prior):
    shape, sets = layout_arguments("dense" if layout == "mask" else layout)
    mu, logvar = random((*shape, 3), 2)
    if layout == "mask":
        present = torch.tensor([[1, 0, 1, 1, 0], [0] * 5, [0, 0, 0, 1, 0], [1] * 5]).bool()
        sets = {"mask": present}
    elif layout in ("ragged", "padded"):
        present = torch.arange(5) < torch.tensor(SIZES)[:, None]
    else:
        present = torch.ones(shape, dtype=torch.bool)
    found = reference.product_of_experts(mu, logvar, prior=prior, **sets)
    if layout == "ragged":
        mu, logvar = ragged_to_padded(mu), ragged_to_padded(logvar)
    expected = plain(mu, logvar, present, prior)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    if layout != "dense":
        assert found[0][1].tolist() == [0.0] * 3
        assert found[1][1].tolist() == [0.0 if prior else math.inf] * 3


def test_extreme_variances():
    """Precisions of exp(+-800) overflow on their own; ratios do not. A log-variance of +inf is no expert at all."""
    mu = torch.tensor([[3.0, 5.0], [3.0, 5.0], [3.0, 5.0]], dtype=torch.float64)[..., None]
    logvar = torch.tensor([[-800.0, -800.0], [800.0, 800.0 + math.log(3)], [math.inf, 2.0]], dtype=torch.float64)
    mean, log_variance = reference.product_of_experts(mu, logvar[..., None], prior=False)
    torch.testing.assert_close(mean.flatten(), torch.tensor([4.0, 3.5, 5.0], dtype=torch.float64))
    expected = torch.tensor([-800 - math.log(2), 800 - math.log(4 / 3), 2.0], dtype=torch.float64)
    torch.testing.assert_close(log_variance.flatten(), expected)
    mean, log_variance = reference.product_of_experts(mu, logvar[..., None])
    torch.testing.assert_close(mean[:2].flatten(), torch.tensor([4.0, 0.0], dtype=torch.float64))
    assert log_variance[1] == 0


def test_experts_without_precision_are_no_experts():
    mu = torch.tensor([3.0, 5.0], dtype=torch.float64)[None, :, None].requires_grad_()
    logvar = torch.full((1, 2, 1), math.inf, dtype=torch.float64, requires_grad=True)
    for prior, expected in ((False, math.inf), (True, 0.0)):
        mean, log_variance = reference.product_of_experts(mu, logvar, prior=prior)
        assert mean.item() == 0 and log_variance.item() == expected
        gradients = torch.autograd.grad(mean.sum() + log_variance.sum(), (mu, logvar))
        assert all(not g.any() for g in gradients)


def test_small_precisions_keep_their_digits_beside_the_prior():
    logvar = torch.full((1, 3, 1), 60.0, dtype=torch.float64)
    _, log_variance = reference.product_of_experts(torch.zeros_like(logvar), logvar)
    assert log_variance.item() == pytest.approx(-3 * math.exp(-60), rel=1e-14, abs=0)


def test_no_expert_has_no_gradient():
    mu, logvar = random((2, 2, 1), 2, requires_grad=True)
    for prior in (False, True):
        out = reference.product_of_experts(mu, logvar, lengths=torch.tensor([0, 2]), prior=prior)
        gradients = torch.autograd.grad(out[0].sum() + out[1].sum(), (mu, logvar))
        for gradient in gradients:
            assert gradient[0].tolist() == [[0.0], [0.0]] and gradient[1].isfinite().all()


@pytest.mark.parametrize("extreme", [-800.0, 800.0])
def test_extreme_variances_beside_empty_slots(extreme):
    mu, logvar = torch.tensor([3.0, math.nan]), torch.tensor([extreme, math.nan])
    leaves = [v.double()[None, :, None].requires_grad_() for v in (mu, logvar)]
    mean, log_variance = reference.product_of_experts(*leaves, lengths=torch.tensor([1]), prior=False)
    assert mean.item() == 3 and log_variance.item() == extreme
    gradients = torch.autograd.grad(mean.sum() + log_variance.sum(), leaves)
    assert [g.flatten().tolist() for g in gradients] == [[1, 0], [1, 0]]


def test_types():
    mu, logvar = (v.bfloat16() for v in random((2, 3, 4), 2))
    mean, log_variance = reference.product_of_experts(mu, logvar)
    wide = reference.product_of_experts(mu.double(), logvar.double())
    assert torch.equal(mean, wide[0].bfloat16()) and torch.equal(log_variance, wide[1].bfloat16())
