"""The aggregations for PyTorch Geometric against its own."""

import pytest
import torch

pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed (pip install compvae-fast[pyg])")

from torch_geometric.nn import MessagePassing  # noqa: E402
from torch_geometric.nn.aggr import SumAggregation  # noqa: E402

from compvae_fast.plugins.pyg import ProductOfExperts, SumMinusSelf  # noqa: E402

PTR = torch.tensor([0, 3, 3, 4, 8])
INDEX = torch.repeat_interleave(PTR.diff())


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(8, 6, dtype=torch.float64, requires_grad=True)


def ways(x):
    """The same sets told by ptr, by a sorted index, and by rows in disorder."""
    order = torch.tensor([5, 0, 3, 7, 1, 4, 2, 6])
    back = order.argsort()
    return {
        "ptr": lambda aggregation: aggregation(x, ptr=PTR),
        "index": lambda aggregation: aggregation(x, INDEX, dim_size=4),
        "disorder": lambda aggregation: aggregation(x[order], INDEX[order], dim_size=4),
    }, back


@pytest.mark.parametrize("way", ("ptr", "index", "disorder"))
def test_sum_minus_self_is_the_sum_less_oneself(x, way):
    calls, back = ways(x)
    out = calls[way](SumMinusSelf())
    out = out[back] if way == "disorder" else out
    torch.testing.assert_close(out, SumAggregation()(x, ptr=PTR)[INDEX] - x)
    torch.testing.assert_close(torch.autograd.grad(out.square().sum(), x)[0],
                               torch.autograd.grad((SumAggregation()(x, ptr=PTR)[INDEX] - x).square().sum(), x)[0])


def test_sum_minus_self_is_message_passing_on_all_edges(x):
    """Messages elu(x_j) along every edge within a set but the loops."""

    class Layer(MessagePassing):
        def forward(self, x, edge_index):
            return self.propagate(edge_index, x=x)

        def message(self, x_j):
            return torch.nn.functional.elu(x_j)

    same = (INDEX[:, None] == INDEX) & ~torch.eye(8, dtype=torch.bool)
    found = SumMinusSelf(pre="elu", post="tanh")(x, ptr=PTR)
    torch.testing.assert_close(found, torch.tanh(Layer(aggr="sum")(x, same.nonzero().T)))


@pytest.mark.parametrize("way", ("ptr", "index", "disorder"))
def test_product_of_experts_is_precision_weighted(x, way):
    calls, _ = ways(x)
    mean, logvar = calls[way](ProductOfExperts()).chunk(2, -1)
    mu, given = x.chunk(2, -1)
    precision = torch.exp(-given)
    total = SumAggregation()(precision, ptr=PTR) + 1
    torch.testing.assert_close(mean, SumAggregation()(precision * mu, ptr=PTR) / total)
    torch.testing.assert_close(logvar, -torch.log(total))


def test_one_set_where_none_is_told(x):
    torch.testing.assert_close(SumMinusSelf(reduce="mean")(x), (x.sum(0) - x) / 7)


def test_refusals(x):
    with pytest.raises(ValueError, match="x: expected means and log-variances side by side, an even width, got 5"):
        ProductOfExperts()(x[:, :5], ptr=PTR)
    with pytest.raises(ValueError, match="two-dimensional"):
        SumMinusSelf()(x[None], ptr=PTR)
    with pytest.raises(ValueError, match="dim_size"):
        SumMinusSelf()(x, ptr=PTR, dim_size=3)


def test_they_say_what_they_are():
    assert repr(SumMinusSelf("elu", "tanh")) == "SumMinusSelf(pre='elu', post='tanh', reduce='sum')"
    assert repr(ProductOfExperts(prior=False)) == "ProductOfExperts(prior=False)"
