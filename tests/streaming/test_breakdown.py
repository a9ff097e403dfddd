"""The parts of a whole drawn from counts: one joint draw, however it is asked for."""

import math

import pytest
import torch

from compvae_fast import ops
from compvae_fast.streaming import PartsOfSum

COUNTS = torch.tensor([3, 0, 6, 2])
MU, LOGVAR = torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()


def broken_down(counts=COUNTS, seed=1, w_sum=None, **settings):
    if w_sum is None:
        w_sum = ops.prior_sum(None, MU, LOGVAR, counts=counts[None], seed=9)[0]
    return PartsOfSum(counts, MU, LOGVAR, w_sum, seed=seed, **settings), w_sum


def test_parts_agree_with_the_whole_with_slices_and_with_each_other():
    parts, w_sum = broken_down()
    every = parts[:]
    torch.testing.assert_close(every.sum(0), w_sum, rtol=1e-13, atol=1e-13)
    assert len(parts) == 11 and torch.equal(torch.stack([parts[i] for i in range(-11, 0)]), every)
    for start, stop in ((0, 11), (2, 4), (5, 5), (3, 10)):
        assert torch.equal(parts[start:stop], every[start:stop])
        torch.testing.assert_close(parts.sum(start, stop), every[start:stop].sum(0), rtol=1e-12, atol=1e-12)
    assert parts.labels(0, 11).tolist() == [0] * 3 + [2] * 6 + [3] * 2


def test_seeds_and_sets_draw_apart():
    draws = [broken_down()[0], broken_down(seed=torch.tensor(2))[0], broken_down(set_index=1)[0]]
    assert torch.equal(draws[0][:], broken_down(seed=torch.tensor(1))[0][:])
    assert len({parts[4].sum().item() for parts in draws}) == 3


def test_the_parts_are_independent_given_their_sum():
    """Mean and covariance of the 11 parts at w~ = 3, from 4000 coordinates alike, against Matheron's closed form.

    Each entry is within 6 standard errors: false alarm below 1e-6 for all 132 together. A split with the noise of
    another variance (n_left + n_right for n_left n_right / n, say) is off by tens.
    """
    draws, labels = 4000, torch.repeat_interleave(torch.arange(4), COUNTS)
    tables = (table[:, :1].expand(-1, draws) for table in (MU, LOGVAR))
    found = PartsOfSum(COUNTS, *tables, torch.full((draws,), 3.0), seed=1)[:].T
    mu, variance = MU[labels, 0], LOGVAR[labels, 0].exp()
    share = variance / variance.sum()
    mean = mu + share * (3.0 - mu.sum())
    covariance = torch.diag(variance) - share[:, None] * variance
    error = (found.mean(0) - mean) / (covariance.diagonal() / draws).sqrt()
    assert error.abs().max() < 6
    spread = (covariance.square() + torch.outer(covariance.diagonal(), covariance.diagonal())) / draws
    assert ((found.T.cov() - covariance).abs() / spread.sqrt()).max() < 6


def test_ten_to_the_fifteen_parts_are_as_good_as_ten():
    counts = torch.tensor([2**49, 0, 5, 10**14])
    parts, w_sum = broken_down(counts)
    some = parts[2**49 - 3 : 2**49 + 8]
    assert torch.isfinite(some).all() and torch.equal(some[2], parts[2**49 - 1])
    standard = (some - MU[parts.labels(2**49 - 3, 2**49 + 8)]) / (LOGVAR / 2).exp()[parts.labels(2**49 - 3, 2**49 + 8)]
    assert standard.abs().max() < 6 and standard.std() > 0.5
    whole = parts.sum(0, 17) + parts.sum(17, 2**49) + parts.sum(2**49, len(parts))
    torch.testing.assert_close(whole, w_sum, rtol=1e-14, atol=math.sqrt(len(parts)) * 1e-9)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"counts: expected integers \[4\], got torch.int64 \[1, 4\]"):
        broken_down(COUNTS[None], w_sum=torch.zeros(5))
    with pytest.raises(ValueError, match=r"w_sum: expected shape \[5\], got \[4\]"):
        broken_down(w_sum=torch.zeros(4))
    with pytest.raises(IndexError, match="expected one of 11 parts, got 11"):
        broken_down()[0][11]
    with pytest.raises(IndexError, match=r"expected a range within 0\.\.11, got 3\.\.12"):
        broken_down()[0].sum(3, 12)
