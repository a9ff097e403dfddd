"""The sum over the others, against plain loops and exact arithmetic."""

import math

import pytest
import torch

from compvae_fast import reference

from .cases import LAYOUTS, SIZES, layout_arguments, ragged_to_padded, random


def plain(h, sizes, pre, post, reduce):
    """A loop over sets and parts, with correctly rounded sums; h [B, K, D], the result 0 beyond the sizes."""
    out = torch.zeros_like(h)
    for b, size in enumerate(sizes):
        for i in range(size):
            for d in range(h.shape[2]):
                others = [h[b, j, d].item() for j in range(size) if j != i]
                if pre == "elu":
                    others = [v if v > 0 else math.expm1(v) for v in others]
                total = math.fsum(others)
                if reduce == "mean" and size > 1:
                    total /= size - 1
                out[b, i, d] = math.tanh(total) if post == "tanh" else total
    return out


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("post", [None, "tanh"])
@pytest.mark.parametrize("pre", [None, "elu"])
def test_against_loops(pre, post, reduce, layout):
    shape, sets = layout_arguments(layout)
    h = random((*shape, 3), 1)[0]
    found = reference.sum_minus_self(h, pre=pre, post=post, reduce=reduce, **sets)
    sizes = SIZES if layout in ("ragged", "padded") else [h.shape[1]] * len(h)
    if layout == "ragged":
        h, found = ragged_to_padded(h), ragged_to_padded(found)
    torch.testing.assert_close(found, plain(h, sizes, pre, post, reduce), rtol=1e-12, atol=1e-14)


def test_a_huge_part_does_not_spoil_its_own_sum():
    """Total minus self would lose everything."""
    h = torch.tensor([1e300, 1.0, 2.0, -1e-3], dtype=torch.float64)[None, :, None]
    assert reference.sum_minus_self(h)[0, 0, 0].item() == math.fsum([1.0, 2.0, -1e-3])


def test_nan_and_infinity_do_not_reach_their_own_output():
    h = torch.tensor([[1.0, math.nan, 2.0], [math.inf, 1.0, 2.0]], dtype=torch.float64)[..., None].requires_grad_()
    out = reference.sum_minus_self(h)[..., 0]
    assert out[0, 1] == 3 and out[0, 0].isnan() and out[0, 2].isnan()
    assert out[1].tolist() == [3, math.inf, math.inf]
    (gradient,) = torch.autograd.grad(out[0, 1], h)
    assert gradient[..., 0].tolist() == [[1, 0, 1], [0, 0, 0]]


def test_a_long_set_with_a_wide_range():
    """K = 100,000 float32 parts over 16 decades, correctly rounded sums, to 1e-5 of the sum of magnitudes and less."""
    generator = torch.Generator().manual_seed(0)
    parts = 100_000
    h = torch.randn(1, parts, 1, generator=generator) * 10 ** (16 * torch.rand(1, parts, 1, generator=generator) - 8)
    found = reference.sum_minus_self(h)[0, :, 0]
    values = h[0, :, 0].tolist()
    for i in (0, 1, 77, parts // 2, parts - 1, int(h.abs().argmax())):
        others = values[:i] + values[i + 1 :]
        allowed = 1e-12 * math.fsum(map(abs, others))
        expected = math.fsum(others)
        assert abs(found[i].item() - expected) <= allowed + 2**-24 * abs(expected)


def test_extreme_inputs_of_elu_and_tanh():
    h = torch.tensor([-math.inf, -1e30, 1e30, -1e-30], dtype=torch.float64)[None, :, None].requires_grad_()
    out = reference.sum_minus_self(h, pre="elu", post="tanh")
    assert out.flatten().tolist() == [1, 1, math.tanh(-2 - 1e-30), 1]
    (gradient,) = torch.autograd.grad(out.sum(), h)
    assert gradient.isfinite().all()
