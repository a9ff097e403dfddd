"""Inference of one part after the other, in the order in which they are given.

    recurrent:    q({w_i}|..) = prod_i q(w_i | x, c, z, l_i, s_i),  s_i the state of a GRU that has seen l_1..l_{i-1}
    running_sum:  q({w_i}|..) = prod_i q(w_i | x, c, z, l_i, sum_{j<i} w_j)

Both are Gaussian with rho = 0 given what came before, which in "running_sum" are the very draws that the operations
make of the same seed. Source: thesis 9.2.1, eqs. 9.4 and 9.5; there as here they are what the correlated q is compared
with.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..nn import GaussianHead, Residual, Sets
from ..random import Stream, fold, normal
from .given import Given

KINDS = ("recurrent", "running_sum")


class PosteriorW(nn.Module):
    """q(w_i | what came before), i = 1..K.

    Args:
        shared: width of (pr(x), c, z); embedded, state: of a label's embedding and of the hidden layers.
        kind: one of ``KINDS``.
    """

    sees_z = True

    def __init__(
        self, shared: int, w_dim: int, labels: int, sigma_min: float, embedded: int, state: int, kind: str
    ) -> None:
        super().__init__()
        self.w_dim, self.state = w_dim, state
        self.embedding = nn.Embedding(labels, embedded)
        self.cell = nn.GRUCell(shared + embedded, state) if kind == "recurrent" else None
        self.first = None if self.cell is not None else nn.Linear(shared + embedded + w_dim, state)
        self.layers = nn.Sequential(
            Residual(state), nn.ELU(), Residual(state), nn.ELU(), GaussianHead(state, w_dim, sigma_min)
        )

    def forward(
        self,
        features: Tensor,
        z: Tensor,
        given: Given,
        prior: tuple[Tensor, Tensor],
        seed: int | Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """mu, logvar and logits (-inf) of q, each [B, K, D] or [N, D]."""
        if type(given.sets) is not Sets:
            raise ValueError(f"inference: one part after the other needs whole sets, got {type(given.sets).__name__}")
        labels, rows = self._rows(given)
        noise = self._noise(given, seed, rows)
        shared = torch.cat([features, z], dim=-1)
        hidden = shared.new_zeros(len(shared), self.state)
        total = shared.new_zeros(len(shared), self.w_dim)
        found = []
        for i in range(labels.shape[1]):
            told = torch.cat([shared, self.embedding(labels[:, i])], dim=-1)
            if self.cell is not None:
                hidden = self.cell(told, hidden)
            elif self.first is not None:
                hidden = F.elu(self.first(torch.cat([told, total], dim=-1)))
            mu, logvar = self.layers(hidden)
            total = total + mu + (0.5 * logvar).exp() * noise[:, i]
            found.append((mu, logvar))
        if not found:
            mu = logvar = shared.new_zeros(*given.labels.shape, self.w_dim)
        else:
            mu, logvar = (torch.stack(values, dim=1) for values in zip(*found))
            if rows is not None:
                mu, logvar = mu[rows], logvar[rows]
        return mu, logvar, torch.full_like(mu, -torch.inf)

    @staticmethod
    def _rows(given: Given) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Labels [B, K], and for ragged sets which entries are parts: (set, place) [N]."""
        if given.sets.offsets is None:
            return given.labels, None
        owner = given.sets.owner
        assert owner is not None
        place = torch.arange(len(owner), device=owner.device) - given.sets.offsets.long()[:-1][owner]
        width = int(given.sets.counts.max()) if given.sets.batch else 0
        labels = given.labels.new_zeros(given.sets.batch, width)
        labels[owner, place] = given.labels
        return labels, (owner, place)

    def _noise(self, given: Given, seed: int | Tensor, rows: tuple[Tensor, Tensor] | None) -> Tensor:
        """The noise that the operations draw the parts with, [B, K, D]."""
        of_set, of_part = given.sets.positions(given.labels.shape[-1])
        coordinates = torch.arange(self.w_dim, device=of_set.device)
        noise = normal(fold(seed, Stream.POSTERIOR_W), of_set, of_part, coordinates)
        if rows is None:
            return noise
        width = int(given.sets.counts.max()) if given.sets.batch else 0
        padded = noise.new_zeros(given.sets.batch, width, self.w_dim)
        padded[rows] = noise
        return padded
