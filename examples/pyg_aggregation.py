"""PyTorch Geometric: a layer over all other nodes of a graph, and a posterior of the whole graph, by `ptr`.

    python examples/pyg_aggregation.py
"""

from __future__ import annotations

import torch
from comparison import Side, arguments, equal, faster
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Batch, Data
from torch_geometric.nn.aggr import SumAggregation

from compvae_fast.plugins.pyg import ProductOfExperts, SumMinusSelf


class Before(nn.Module):
    """Node states that see the sum over all other nodes of their graph, then one Gaussian for each graph."""

    def __init__(self, width: int):
        super().__init__()
        self.message, self.update = nn.Linear(width, width), nn.Linear(2 * width, 2 * width)
        self.aggr = SumAggregation()

    def forward(self, batch: Batch) -> Tensor:
        experts = self.experts(batch.x, self.others(self.message(batch.x), batch))
        return self.posterior(experts, batch)

    def experts(self, x: Tensor, others: Tensor) -> Tensor:
        """Means and log-variances, those bounded, side by side."""
        mu, logvar = self.update(torch.cat([x, others], -1)).chunk(2, -1)
        return torch.cat([mu, torch.tanh(logvar)], -1)

    def others(self, messages: Tensor, batch: Batch) -> Tensor:
        messages = F.elu(messages)
        return torch.tanh(self.aggr(messages, ptr=batch.ptr)[batch.batch] - messages)

    def posterior(self, experts: Tensor, batch: Batch) -> Tensor:
        mu, logvar = experts.chunk(2, -1)
        precision = torch.exp(-logvar)
        total = self.aggr(precision, ptr=batch.ptr) + 1
        return torch.cat([self.aggr(precision * mu, ptr=batch.ptr) / total, -torch.log(total)], -1)


class After(Before):
    def __init__(self, width: int):
        super().__init__(width)
        self.aggr_others = SumMinusSelf(pre="elu", post="tanh")
        self.aggr_experts = ProductOfExperts()

    def others(self, messages: Tensor, batch: Batch) -> Tensor:
        return self.aggr_others(messages, ptr=batch.ptr)

    def posterior(self, experts: Tensor, batch: Batch) -> Tensor:
        return self.aggr_experts(experts, ptr=batch.ptr)


def main() -> None:
    given = arguments(__doc__)
    graphs, width = (5, 16) if given.small else (256, 512)
    torch.manual_seed(0)
    batch = Batch.from_data_list([Data(x=torch.randn(int(n), width)) for n in torch.randint(1, 33, (graphs,))])
    before, after = Before(width), After(width)
    after.load_state_dict(before.state_dict())
    sides = [Side(lambda model=model: model(batch), list(model.parameters())) for model in (before, after)]
    equal("posteriors and gradients of all weights", *sides)
    faster("a step, linear layers included", *sides, given.seconds)
    messages = torch.randn(batch.num_nodes, width, requires_grad=True)
    faster("the sum over the others alone", Side(lambda: before.others(messages, batch), [messages]),
           Side(lambda: after.others(messages, batch), [messages]), given.seconds)
    experts = torch.randn(batch.num_nodes, 2 * width, requires_grad=True)
    faster("the product of experts alone", Side(lambda: before.posterior(experts, batch), [experts]),
           Side(lambda: after.posterior(experts, batch), [experts]), given.seconds)


if __name__ == "__main__":
    main()
