import math

import pytest
import torch
from torch.autograd import gradcheck

from compvae_fast.nn import RadialFlow

COUNTS = torch.tensor([[0.0, 1, 2], [7, 0, 3], [1, 1, 0], [0, 0, 0]], dtype=torch.float64)


def shaken(labels=3, features=7):
    """A flow with every parameter random, in float64; one coordinate lies beyond the labels' blocks."""
    generator = torch.Generator().manual_seed(5)
    flow = RadialFlow(labels, features).double()
    for parameter in flow.parameters():
        parameter.data = 0.8 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return flow


def values(rows=4, features=7):
    return 2 * torch.randn(rows, features, generator=torch.Generator().manual_seed(6), dtype=torch.float64)


def test_it_starts_as_the_identity():
    v, counts = values().float(), COUNTS.float()
    flow = RadialFlow(3, 7)
    torch.testing.assert_close(flow(v, counts), v)
    torch.testing.assert_close(flow.inverse(v, counts), v)


def test_it_is_its_formula_block_by_block():
    flow, v = shaken(), values()
    out = flow(v, COUNTS)
    for row in range(4):
        for label in range(3):
            n, block = float(COUNTS[row, label]), slice(2 * label, 2 * label + 2)
            if n == 0:
                assert torch.equal(out[row, block], v[row, block]), "a label with no part is left as it is"
                continue
            reach = math.exp(flow.log_reach[label].detach())
            stretch, scale = float(flow.log_stretch[label]) / n, float(flow.log_scale[label]) / n
            centre = n * flow.centre[label].detach()
            e = v[row, block] - centre
            factor = 1 + reach * (math.exp(stretch) - 1) / (reach + math.dist(e, (0, 0)))
            torch.testing.assert_close(out[row, block], centre + math.exp(scale) * e * factor)
    assert torch.equal(out[:, 6:], v[:, 6:]), "what belongs to no label is left as it is"


@pytest.mark.parametrize("features", [3, 7, 30])
def test_the_inverse_undoes_it_both_ways(features):
    flow, v = shaken(features=features), values(features=features)
    torch.testing.assert_close(flow.inverse(flow(v, COUNTS), COUNTS), v)
    torch.testing.assert_close(flow(flow.inverse(v, COUNTS), COUNTS), v)


def test_gradients_are_right_at_the_centre_too():
    flow, v = shaken(), values().requires_grad_()
    assert gradcheck(flow, (v, COUNTS))
    assert gradcheck(flow.inverse, (v, COUNTS))
    centre = (COUNTS.unsqueeze(-1) * flow.centre).flatten(1)
    at_centre = torch.cat([centre, values()[:, 6:]], 1).detach().requires_grad_()
    for f in (flow, flow.inverse):
        flow.zero_grad()
        f(at_centre, COUNTS).sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in [*flow.parameters(), at_centre])


def test_float32_keeps_its_digits_over_many_sizes():
    """Lengths from 1e-6 to 1e6: there and back within a few roundings of what the flow holds apart."""
    flow = RadialFlow(1, 2)
    with torch.no_grad():
        flow.log_stretch.fill_(1.2)
    for size in (1e-6, 1e-3, 1.0, 1e3, 1e6):
        v = size * torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
        counts = torch.ones(50, 1)
        back = flow.inverse(flow(v, counts), counts)
        torch.testing.assert_close(back, v, rtol=1e-5, atol=1e-6 * size)
