import math

import pytest
import torch
from torch.nn import functional as F

from compvae_fast.nn import GaussianHead, GaussianTable, GraphBlock, Residual, bounded_logvar

ORDERS = {
    "paper": {},
    "released-1d": {"released": True},
    "released-2d": {"released": True, "wide": False},
}


def shaken(module):
    """The module in float64 with every parameter random: zeros at the start hide mistakes."""
    generator = torch.Generator().manual_seed(5)
    module = module.double()
    for parameter in module.parameters():
        parameter.data = 0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return module


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)


def test_residual_is_its_formula_and_starts_as_the_identity():
    layer = Residual(6)
    x = torch.randn(3, 6)
    assert torch.equal(layer(x), x)
    layer, x = shaken(layer), random(3, 6)
    hidden = F.elu(x @ layer.fc1.weight.T + layer.fc1.bias)
    torch.testing.assert_close(layer(x), x + hidden @ layer.fc2.weight.T + layer.fc2.bias)


def one_set(block, order, reduce, h, context):
    """GraphBlock of one set [K, N] by its definition, part by part."""
    if context is None:
        in_g = in_f = 0.0
    else:
        in_g, in_f = block.context_g.weight @ context, block.context_f.weight @ context

    def first(x):
        inner = x @ block.g_first.fc1.weight.T + block.g_first.fc1.bias + in_g
        return x + block.g_first.fc2(F.elu(inner))

    def message(x):
        return F.elu(first(x)) if order != "paper" else block.g_second(F.elu(first(x)))

    out = []
    for i in range(len(h)):
        rest = [message(h[j]) for j in range(len(h)) if j != i]
        total = sum(rest, torch.zeros_like(h[i]))
        if reduce == "mean":
            total = total / max(len(rest), 1)
        if order == "paper":
            mixed = block.of_others(torch.tanh(total))
        else:
            mixed = block.of_others(torch.tanh(block.of_sum(total)))
        mixed = block.out(F.elu(block.combine(torch.cat([mixed, h[i]])) + in_f))
        out.append(block.narrow(F.elu(mixed)) if order == "released-1d" else mixed)
    return torch.stack(out)


@pytest.mark.parametrize("with_context", [False, True])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("order", ORDERS)
def test_graph_block_is_its_definition_in_every_layout(order, reduce, with_context):
    block = shaken(GraphBlock(4, 3, context=2 * with_context, reduce=reduce, **ORDERS[order]))
    sizes = [3, 1, 2]
    h = random(sum(sizes), 4)
    context = random(3, 2) if with_context else None
    expected = torch.cat([
        one_set(block, order, reduce, piece, None if context is None else context[b])
        for b, piece in enumerate(h.split(sizes))
    ])
    ragged = block(h, context=context, offsets=torch.tensor([0, 3, 4, 6]))
    torch.testing.assert_close(ragged, expected)
    padded = torch.zeros(3, 3, 4, dtype=torch.float64)
    mask = torch.arange(3) < torch.tensor(sizes)[:, None]
    padded[mask] = h
    out = block(padded, context=context, lengths=torch.tensor(sizes))
    torch.testing.assert_close(out[mask], expected)
    dense = block(h[:3].unsqueeze(0), context=None if context is None else context[:1])
    torch.testing.assert_close(dense[0], expected[:3])


@pytest.mark.parametrize("order", ORDERS)
def test_shared_state_equals_the_concatenated_state(order):
    block = shaken(GraphBlock(5, 3, **ORDERS[order]))
    shared, own, offsets = random(2, 3), random(5, 2), torch.tensor([0, 2, 5])
    whole = torch.cat([shared[[0, 0, 1, 1, 1]], own], -1)
    torch.testing.assert_close(
        block(own, shared=shared, offsets=offsets), block(whole, offsets=offsets)
    )


def test_graph_block_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="reduce.*'max'"):
        GraphBlock(4, 3, reduce="max")
    with pytest.raises(ValueError, match="width 4, got 5"):
        GraphBlock(4, 3)(torch.ones(2, 2, 5))
    with pytest.raises(ValueError, match="context: expected None"):
        GraphBlock(4, 3)(torch.ones(2, 2, 4), context=torch.ones(2, 1))
    with pytest.raises(ValueError, match="context: expected a per-set vector"):
        GraphBlock(4, 3, context=1)(torch.ones(2, 2, 4))


def test_variances_are_bounded_below_smoothly():
    floor = 2 * math.log(0.001)
    v = torch.linspace(-60, 10, 20_001, dtype=torch.float64, requires_grad=True)
    lv = bounded_logvar(v, 0.001)
    (slope,) = torch.autograd.grad(lv.sum(), v)
    assert lv.min() >= floor
    above = v > floor + 1
    torch.testing.assert_close(lv[above], v[above])
    assert (slope >= 0).all() and (slope.diff().abs() < 0.005).all()


def test_learned_gaussians_start_at_the_standard_normal():
    mu, logvar = GaussianHead(5, 3, 0.001)(torch.randn(4, 5))
    assert mu.shape == logvar.shape == (4, 3)
    assert not mu.any() and not logvar.any()
    mu, logvar = GaussianTable(10, 3, 0.001).table()
    assert mu.shape == (10, 3) and not mu.any() and not logvar.any()
