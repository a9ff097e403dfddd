"""For each part of a set, the sum over the others."""

import torch
from torch import Tensor

from compvae_fast.reference.dtypes import like
from compvae_fast.reference.layout import Layout


def sum_minus_self(
    h: Tensor,
    *,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    pre: str | None = None,
    post: str | None = None,
    reduce: str = "sum",
) -> Tensor:
    """post(sum_{j != i} pre(h_j)), like h; reduce="mean" divides by K - 1, and a lone part gives post(0).

    Sums before and after i are added, so that h_i never enters its own output, whatever its size (paper appendix A).
    """
    layout = Layout.of(h, offsets, lengths)
    x = layout.padded(h.double())
    if pre == "elu":
        x = torch.where(x > 0, x, torch.expm1(x.clamp(max=0)))
    out = _sums_before(x) + _sums_before(x.flip(1)).flip(1)
    if reduce == "mean":
        out = out / (layout.count - 1).clamp(min=1)
    if post == "tanh":
        out = torch.tanh(out)
    return like(layout.unpadded(out), h)


def _sums_before(x: Tensor) -> Tensor:
    """sum_{j < i} x_j along dimension 1."""
    return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1].cumsum(1)], 1)
