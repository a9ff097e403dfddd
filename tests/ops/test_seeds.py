"""Seeds of the drawing operations: numbers, tensors, and torch's own generator."""

from __future__ import annotations

import pytest
import torch

from compvae_fast import ops
from compvae_fast.random import normal

ZEROS, OFF = torch.zeros(2, 3, 5), torch.full((2, 3, 5), -torch.inf)
LABELS, TABLE = torch.zeros(2, 3, dtype=torch.int64), torch.zeros(1, 5)

DRAWS = {
    "correlated_normal_rsample": lambda **k: ops.correlated_normal_rsample(ZEROS, ZEROS, OFF, **k),
    "posterior_sum_and_kl": lambda **k: ops.posterior_sum_and_kl(ZEROS, ZEROS, OFF, ZEROS, ZEROS, **k)[0],
    "posterior_sum_and_log_ratio": lambda **k: ops.posterior_sum_and_log_ratio(ZEROS, ZEROS, OFF, ZEROS, ZEROS, **k)[0],
    "prior_sum": lambda **k: ops.prior_sum(LABELS, TABLE, TABLE, **k),
    "prior_sum-collapse": lambda **k: ops.prior_sum(LABELS, TABLE, TABLE, collapse=True, **k),
}


@pytest.fixture(params=DRAWS)
def draw(request):
    return DRAWS[request.param]


def test_numbers_and_tensors_are_one_seed(backend, draw):
    assert torch.equal(draw(seed=7), draw(seed=torch.tensor(7)))
    assert not torch.equal(draw(seed=7), draw(seed=8))
    assert torch.equal(draw(seed=-1), draw(seed=2**64 - 1))
    assert torch.equal(draw(seed=-1), draw(seed=torch.tensor(-1)))
    assert torch.equal(draw(seed=2**64 + 7), draw(seed=7))
    assert not torch.equal(draw(seed=7), draw(seed=7 + 2**32))


def test_none_follows_torchs_generator(backend, draw):
    torch.manual_seed(3)
    first, second = draw(), draw(seed=None)
    torch.manual_seed(3)
    assert torch.equal(draw(), first) and torch.equal(draw(), second)
    assert not torch.equal(first, second)


def test_the_noise_is_the_packages(backend):
    """Standard normals without couplings: the noise itself, by set, part and coordinate."""
    index = torch.arange(2)[:, None, None], torch.arange(3)[:, None], torch.arange(5)
    torch.testing.assert_close(DRAWS["correlated_normal_rsample"](seed=7), normal(7, *index), rtol=0, atol=2e-6)
    shifted = normal(7, torch.tensor([9, 4])[:, None, None], torch.tensor([100, 0])[:, None, None] + index[1], index[2])
    found = DRAWS["correlated_normal_rsample"](
        seed=7, set_index=torch.tensor([9, 4], dtype=torch.int32), part_start=torch.tensor([100, 0]))
    torch.testing.assert_close(found, shifted, rtol=0, atol=2e-6)
    found = DRAWS["prior_sum"](seed=7, set_index=torch.tensor([9, 4]), part_start=torch.tensor([100, 0]))
    torch.testing.assert_close(found, shifted.sum(1), rtol=0, atol=5e-6)
    found = DRAWS["prior_sum-collapse"](seed=7)
    torch.testing.assert_close(found, 3**0.5 * normal(7, *index)[:, 0], rtol=0, atol=5e-6)


def test_the_set_is_its_place_in_the_batch_by_default(backend, draw):
    start = torch.zeros(2, dtype=torch.int32)
    assert torch.equal(draw(seed=7), draw(seed=7, set_index=torch.arange(2), part_start=start))
