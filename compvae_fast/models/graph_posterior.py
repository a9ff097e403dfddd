"""q({w_i}|x,c,z,{l_i}) by GraphBlocks on the parts of a whole."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..nn import GraphBlock, bounded_logvar, start_constant
from .given import Given

START_LOGIT = -8.0


class GraphPosterior(nn.Module):
    """GraphBlocks on (pr(x), c, z, n_i), n_i what ``nodes`` of a subclass tells of a part; then one linear layer.

    It starts at N(0, 1) with logits near -8. The last layer has no activation, where the papers' tables print an ELU:
    that would force log-variances above -1.

    Args:
        embedding: of the labels, for ``nodes``.
        node, shared: widths of n_i, and of (pr(x), c, z).
        state: of the blocks' outputs.
        released, wide: the order of the layers, as ``nn.GraphBlock`` takes them.
        layers: how many blocks.
        every_layer: (pr(x), c, z) enters f and g of each block and not the nodes (thesis eq. 9.14).
        correlated: False leaves the logits out: rho = 0, a diagonal q.

    Source: paper eq. 5, thesis 9.2.3.
    """

    sees_z = True

    def __init__(
        self,
        embedding: nn.Embedding,
        *,
        node: int,
        shared: int,
        state: int,
        w_dim: int,
        sigma_min: float,
        released: bool = False,
        wide: bool = True,
        layers: int = 3,
        every_layer: bool = False,
        correlated: bool = True,
    ) -> None:
        super().__init__()
        self.sigma_min, self.every_layer, self.correlated = sigma_min, every_layer, correlated
        self.embedding = embedding
        widths = (node + (0 if every_layer else shared), *[state] * layers)
        context = shared if every_layer else 0
        self.blocks = nn.ModuleList(
            GraphBlock(n, m, released=released, wide=wide, context=context) for n, m in zip(widths, widths[1:])
        )
        parameters = 3 if correlated else 2
        self.head = nn.Linear(state, parameters * w_dim)
        bias = torch.zeros(parameters, w_dim)
        bias[2:] = START_LOGIT
        start_constant(self.head, bias.flatten())

    def nodes(self, given: Given, seed: int | Tensor) -> Tensor:
        """What is known of each part, [B, K, node] or [N, node]."""
        raise NotImplementedError

    def forward(
        self,
        features: Tensor,
        z: Tensor,
        given: Given,
        prior: tuple[Tensor, Tensor],
        seed: int | Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """mu, logvar and logits of q, each [B, K, D] or [N, D]."""
        state = self.nodes(given, seed)
        of_whole = torch.cat([features, z], dim=-1)
        context = of_whole if self.every_layer else None
        shared = None if self.every_layer else of_whole
        for block in self.blocks:
            state = F.elu(block(state, shared=shared, context=context, sets=given.sets))
            shared = None
        mu, logvar, *logits = self.head(state).chunk(3 if self.correlated else 2, dim=-1)
        nu = logits[0] if logits else torch.full_like(mu, -torch.inf)
        return mu, bounded_logvar(logvar, self.sigma_min), nu
