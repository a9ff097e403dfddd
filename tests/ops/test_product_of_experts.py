"""product_of_experts on every backend: masks, empty sets, and what its conformity case leaves out."""

from __future__ import annotations

import math

import pytest
import torch

import compvae_fast
from compvae_fast import ops


def experts(*shape, dtype=torch.float32):
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(6)).to(dtype).unbind()


def with_gradients(mu, logvar, **keywords):
    mu, logvar = mu.detach().requires_grad_(), logvar.detach().requires_grad_()
    outputs = ops.product_of_experts(mu, logvar, **keywords)
    upstream = [torch.linspace(-1, 2, o.numel()).reshape(o.shape).to(o.dtype) for o in outputs]
    return [o.detach() for o in outputs], torch.autograd.grad(outputs, (mu, logvar), upstream)


@pytest.mark.parametrize("prior", [True, False])
def test_masks(backend, prior):
    """A mask leaves out experts as if they had never been there, whatever they hold."""
    mu, logvar = experts(5, 40, 67)
    share = torch.tensor([0.0, 0.1, 0.5, 0.9, 1])[:, None]
    mask = torch.rand(5, 40, generator=torch.Generator().manual_seed(0)) < share
    spoilt = [torch.where(mask[..., None], t, math.nan) for t in (mu, logvar)]
    outputs, gradients = with_gradients(*spoilt, mask=mask, prior=prior)
    rows, offsets = [t[mask] for t in (mu, logvar)], torch.tensor([0, *mask.sum(1).cumsum(0)])
    with compvae_fast.use_backend("reference"):
        truth, true_gradients = with_gradients(*(r.double() for r in rows), offsets=offsets, prior=prior)
    for output, expected in zip(outputs, truth):
        torch.testing.assert_close(output, expected.float(), rtol=2e-6, atol=1e-6)
    for gradient, expected in zip(gradients, true_gradients):
        assert not gradient[~mask].any()
        torch.testing.assert_close(gradient[mask], expected.float(), rtol=1e-5, atol=1e-6)


def test_a_mask_of_any_strides(backend):
    mu, logvar = experts(3, 6, 4)
    mask = torch.rand(3, 6, generator=torch.Generator().manual_seed(0)) < 0.5
    expected, _ = with_gradients(mu, logvar, mask=mask)
    found, _ = with_gradients(mu, logvar, mask=mask.T.contiguous().T)
    assert all(torch.equal(a, b) for a, b in zip(found, expected))
    columns, _ = with_gradients(mu, logvar, mask=mask[:1].expand(3, 6))
    assert torch.equal(columns[0][0], expected[0][0])


def test_vmap_over_masks(backend):
    mu, logvar = experts(3, 6, 4)
    masks = torch.rand(5, 3, 6, generator=torch.Generator().manual_seed(0)) < 0.5
    found = torch.vmap(lambda mask: ops.product_of_experts(mu, logvar, mask=mask))(masks)
    for i, mask in enumerate(masks):
        for a, b in zip(found, ops.product_of_experts(mu, logvar, mask=mask)):
            assert torch.equal(a[i], b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_no_experts(backend, dtype):
    """The prior alone, or nothing: (0, 0) or (0, +inf), without gradient."""
    mu, logvar = experts(2, 3, 5, dtype=dtype)
    for keywords in ({"lengths": torch.tensor([0, 0])}, {"mask": torch.zeros(2, 3, dtype=torch.bool)}):
        for prior in (True, False):
            (mean, total), gradients = with_gradients(mu, logvar, **keywords, prior=prior)
            assert mean.dtype == total.dtype == dtype
            assert not mean.any() and torch.equal(total, torch.full_like(total, 0 if prior else math.inf))
            assert all(torch.equal(g, torch.zeros_like(g)) for g in gradients)


def test_experts_of_no_weight(backend):
    """logvar = +inf is an expert without a say; alone it is as none."""
    mu, logvar = torch.tensor([[[2.0], [5.0]]]), torch.tensor([[[math.inf], [1.0]]])
    mean, total = ops.product_of_experts(mu, logvar, prior=False)
    assert (mean.item(), total.item()) == (5.0, 1.0)
    mean, total = ops.product_of_experts(mu[:, :1], logvar[:, :1], prior=False)
    assert (mean.item(), total.item()) == (0.0, math.inf)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 80.0])
@pytest.mark.parametrize("prior", [True, False])
def test_precisions_of_any_size(backend, scale, prior):
    """log-variances up to 80, tiny precisions beside the prior's 1, and one expert above all others."""
    generator = torch.Generator().manual_seed(1)
    mu = torch.randn(2, 70, 33, generator=generator)
    logvar = scale * (2 * torch.rand(2, 70, 33, generator=generator) - 1) + (30 if scale < 1 else 0)
    (mean, total), gradients = with_gradients(mu, logvar, prior=prior)
    with compvae_fast.use_backend("reference"):
        truth, true_gradients = with_gradients(mu.double(), logvar.double(), prior=prior)
    # tiny precisions beside the prior's leave a tiny mean
    size = 1e-10 if prior and scale < 1 else 1
    torch.testing.assert_close(mean.double(), truth[0], rtol=1e-5, atol=2e-6 * size)
    torch.testing.assert_close(total.double(), truth[1], rtol=1e-6, atol=1e-30)
    joint = sum(g.square().sum(1, keepdim=True) for g in true_gradients).sqrt()
    for gradient, expected in zip(gradients, true_gradients):
        norm = (gradient - expected).square().sum(1, keepdim=True).sqrt()
        assert (norm <= 1e-4 * expected.square().sum(1, keepdim=True).sqrt() + 1e-6 * joint + 1e-37).all()


def test_one_expert_far_above_the_others(backend):
    """Its distance from the mean is much smaller than the rounding of either."""
    mu, logvar = torch.tensor([[[1000.0], [1001.0], [998.0]]]), torch.tensor([[[-8.0], [1.0], [2.0]]])
    _, gradients = with_gradients(mu, logvar, prior=False)
    with compvae_fast.use_backend("reference"):
        _, true_gradients = with_gradients(mu.double(), logvar.double(), prior=False)
    for gradient, expected in zip(gradients, true_gradients):
        torch.testing.assert_close(gradient.double(), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("keywords", "error", "message"), [
    ({"mask": torch.ones(2, 3)}, TypeError, "^mask: expected dtype bool, got torch.float32$"),
    ({"mask": [True]}, TypeError, "^mask: expected a torch.Tensor, got list$"),
    ({"mask": torch.ones(2, 4).bool()}, ValueError, r"^mask: expected shape \[2, 3\] \(\[B, K\]\), got \[2, 4\]$"),
    ({"mask": torch.ones(2, 3).bool(), "lengths": torch.tensor([1, 1])}, ValueError, "^mask: expected None beside"),
    ({"prior": 1}, TypeError, "^prior: expected a bool, got int$"),
    ({"lengths": torch.tensor([1, 4])}, ValueError, r"^lengths: expected values in \[0, K = 3\], got 4$"),
], ids=str)
def test_wrong_arguments(backend, keywords, error, message):
    with pytest.raises(error, match=message):
        ops.product_of_experts(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), **keywords)
