"""Aggregations for PyTorch Geometric; needs torch_geometric (pip install compvae-fast[pyg]).

Sets are told as PyG tells them: by ptr [B + 1], or by index [N], the set of each row, in any order. With neither, all
rows are one set.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compvae_fast import ops

try:
    from torch_geometric.nn.aggr import Aggregation
except ImportError as error:
    message = f"compvae_fast.plugins.pyg needs PyTorch Geometric (pip install compvae-fast[pyg]): {error}"
    raise ImportError(message) from error

__all__ = ["ProductOfExperts", "SumMinusSelf"]


class SumMinusSelf(Aggregation):
    r"""For each node, an aggregate of the other nodes of its set: out_i = post(sum_{j != i} pre(x_j)).

    What a message-passing layer computes on the fully connected graph of each set, without its K^2 edges.
    `compvae_fast.ops.sum_minus_self` has the formula and the arguments.

    Args:
        pre: None or "elu".
        post: None or "tanh".
        reduce: "sum" or "mean".

    Shapes: x [N, F] to [N, F].

    >>> SumMinusSelf()(torch.tensor([[1.0], [2.0], [4.0]]), ptr=torch.tensor([0, 2, 3])).flatten()
    tensor([2., 1., 0.])
    """

    def __init__(self, pre: str | None = None, post: str | None = None, reduce: str = "sum") -> None:
        super().__init__()
        self.pre, self.post, self.reduction = pre, post, reduce

    def forward(self, x: Tensor, index: Tensor | None = None, ptr: Tensor | None = None, dim_size: int | None = None,
                dim: int = -2) -> Tensor:
        self.assert_two_dimensional_input(x, dim)
        order, offsets = _sets(index, ptr, dim_size)
        rows = x if order is None else x[order]
        out = ops.sum_minus_self(rows, offsets=offsets, pre=self.pre, post=self.post, reduce=self.reduction)
        return out if order is None else out[order.argsort()]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(pre={self.pre!r}, post={self.post!r}, reduce={self.reduction!r})"


class ProductOfExperts(Aggregation):
    r"""The normalised product of the Gaussians of each set's nodes: again a Gaussian.

    `compvae_fast.ops.product_of_experts` has the formula. Means and log-variances lie side by side in the last
    dimension, in the input and in the output.

    Args:
        prior: multiply N(0, 1) in.

    Shapes: x [N, 2 F] to [B, 2 F].

    >>> ProductOfExperts(prior=False)(torch.tensor([[1.0, 0.0], [3.0, 0.0]]), ptr=torch.tensor([0, 2]))
    tensor([[ 2.0000, -0.6931]])
    """

    def __init__(self, prior: bool = True) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, x: Tensor, index: Tensor | None = None, ptr: Tensor | None = None, dim_size: int | None = None,
                dim: int = -2) -> Tensor:
        self.assert_two_dimensional_input(x, dim)
        if x.shape[-1] % 2:
            raise ValueError(f"x: expected means and log-variances side by side, an even width, got {x.shape[-1]}")
        order, offsets = _sets(index, ptr, dim_size)
        mu, logvar = (x if order is None else x[order]).chunk(2, -1)
        return torch.cat(ops.product_of_experts(mu, logvar, offsets=offsets, prior=self.prior), -1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(prior={self.prior})"


def _sets(index: Tensor | None, ptr: Tensor | None, dim_size: int | None) -> tuple[Tensor | None, Tensor]:
    """The rows' order by set, None where they are in order, and offsets [B + 1]."""
    if ptr is not None:
        return None, ptr
    if index is None or dim_size is None:
        raise ValueError("index, ptr: expected one of them, got None")
    order = None
    if bool((index[:-1] > index[1:]).any()):
        order = index.argsort(stable=True)
        index = index[order]
    return order, torch.searchsorted(index.contiguous(), torch.arange(dim_size + 1, device=index.device))
