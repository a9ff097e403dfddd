"""Shards of sets whose parts are spread over processes: where their parts lie, and what they add to the joint sums.

A shard's state is rows [B, D]: numbers of m, the shard's part with the largest logit, then sums over its other parts,
relative to ref = max(0, nu_m), with e_i = exp(nu_i - ref), d_i = sigma_i - sigma_m, R_i = sigma_i^2 / s_i^2. Of the
states of all shards `compvae_fast.distributed` makes the stats of the whole sets, the rows that the operations'
kernels leave for their backward passes (csrc/common/stats.h says what each row is).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from compvae_fast.reference.layout import Layout
from compvae_fast.reference.noise import set_normals64

_OF_M = ("logit", "logvar_q", "logvar_p", "difference", "normal")
# others: e; base: R - 1 - log R + (mu - m)^2 / s^2; trace: e R; squares: e^2 R (unit), e^2 / s^2 (scaled);
# noise: eps (unit), sigma eps (scaled); means: mu, of all parts; spread: d eps (unit), sigma^2 (scaled); shift: e d.
POSTERIOR_STATE = {
    "unit": (*_OF_M, "others", "base", "trace", "squares", "noise", "spread", "shift", "means"),
    "scaled": (*_OF_M, "others", "base", "trace", "squares", "spread", "noise", "means"),
}
# densities: eps^2 + log sigma^2, of all parts
PARTS_STATE = ("logit", "logvar_q", "normal", "others", "noise", "densities")

POSTERIOR_STATS = {
    "unit": ("logit", "inverse_z", "one_minus_rho_m", "noise", "noise_others", "noise_factor", "logvar_m", "h",
             "h_others", "factor_m"),
    "scaled": ("logit", "inverse_z", "one_minus_rho_m", "noise", "noise_factor", "h", "h_others", "v", "v_others", "q",
               "q_others"),
}
PARTS_STATS = ("logit", "inverse_z", "one_minus_rho_m", "noise", "noise_others", "rest_of_rho")


class Shard(NamedTuple):
    """Where a shard's parts lie, in memory and in the noise; counts [B]: parts of the whole sets."""

    offsets: Tensor | None
    lengths: Tensor | None
    coupling: str
    seed: Tensor
    set_index: Tensor | None
    part_start: Tensor | None
    counts: Tensor


class Parts(NamedTuple):
    """A shard's tensors in float64, [B, K, D], with its noise and the part m of each set."""

    layout: Layout
    tensors: list[Tensor]
    eps: Tensor
    top: Tensor  # [B, K, D] bool
    m: Tensor  # [B, 1, D] index

    @staticmethod
    def of(tensors: tuple[Tensor, ...], logits: Tensor, shard: Shard) -> Parts:
        layout = Layout.of(tensors[0], shard.offsets, shard.lengths)
        padded = [layout.padded(x.double()) for x in tensors]
        eps = set_normals64(shard.seed, (*padded[0].shape,), shard.set_index, shard.part_start)
        m = torch.where(layout.mask, layout.padded(logits.double()), -torch.inf).argmax(1, keepdim=True)
        top = torch.zeros_like(padded[0], dtype=torch.bool).scatter(1, m, True) & layout.mask
        return Parts(layout, padded, eps, top, m)

    def of_m(self, x: Tensor) -> Tensor:
        """m's number, 0 where there is no part."""
        return torch.where(self.layout.mask.any(1), x.gather(1, self.m)[:, 0], 0)

    def others(self, x: Tensor) -> Tensor:
        """The sum over all parts but m."""
        return self.layout.sum(torch.where(self.top, 0, x))


def named(names: tuple[str, ...], rows: Tensor) -> dict[str, Tensor]:
    """Rows [R, ...] by their names."""
    return dict(zip(names, rows))
