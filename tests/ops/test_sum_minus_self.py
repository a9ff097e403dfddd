"""What the sum over the others keeps where one part is far above them: there total minus self would lose it all."""

import pytest
import torch

from compvae_fast import ops


@pytest.mark.parametrize("where", [0, 3, -1])
@pytest.mark.parametrize("parts", [5, 300])
@pytest.mark.parametrize("dtype, size", [(torch.float32, 1e14), (torch.float64, 1e25)], ids=["float32", "float64"])
def test_one_part_far_above_the_others(backend, dtype, size, parts, where):
    """And far below them, in every other coordinate; of the values, and of the upstream gradient."""
    h = torch.randn(1, parts, 6, dtype=dtype, generator=torch.Generator().manual_seed(0))
    h[0, where, ::2], h[0, where, 1::2] = size, -size
    h.requires_grad_()
    out = ops.sum_minus_self(h)
    (grad,) = torch.autograd.grad(out, h, h.detach())
    rest = h.detach()[0].double().clone()
    rest[where] = 0
    found = torch.stack([out.detach()[0, where], grad[0, where]]).double()
    expected, allowed = rest.sum(0), 1e-5 * rest.abs().sum(0)
    assert ((found - expected).abs() <= allowed).all()
    others = torch.arange(parts) != torch.arange(parts)[where]
    assert torch.allclose(out[0, others].double(), h[0, where].double().expand(parts - 1, -1), rtol=1e-5)
