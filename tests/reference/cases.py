"""The same sets in three forms of memory, and the matrix behind a draw."""

import torch

from compvae_fast.reference import correlated
from compvae_fast.reference.layout import Layout

SIZES = (3, 0, 1, 4)
LAYOUTS = ("dense", "ragged", "padded", "empty")


def layout_arguments(layout: str, slots: int = 5):
    """(leading shape, keyword arguments) of SIZES; dense sets have all slots, empty ones none."""
    if layout == "ragged":
        offsets = torch.tensor([0, *torch.tensor(SIZES).cumsum(0)], dtype=torch.int32)
        return (sum(SIZES),), {"offsets": offsets}
    if layout == "padded":
        return (len(SIZES), slots), {"lengths": torch.tensor(SIZES)}
    return (len(SIZES), slots if layout == "dense" else 0), {}


def random(shape, count, seed=0, requires_grad=False):
    """count standard normal float64 tensors of a shape."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, *shape, dtype=torch.float64, generator=generator)
    return [v.clone().requires_grad_(requires_grad) for v in values]


def ragged_to_padded(x, slots: int = 5, fill: float = 0.0):
    """Ragged rows of SIZES as [B, slots, ...], by a plain loop."""
    out = torch.full((len(SIZES), slots, *x.shape[1:]), fill, dtype=x.dtype)
    start = 0
    for b, size in enumerate(SIZES):
        out[b, :size] = x[start : start + size]
        start += size
    return out


def linear_map(function, coupling, logvar, logits):
    """The matrix of a function of the noise, [..., K], by feeding unit vectors; logvar and logits [K]."""
    parts = len(logvar)
    eps = torch.eye(parts, dtype=torch.float64)[..., None]
    layout = Layout.of(eps)
    spread, weight = (v[None, :, None].expand(parts, parts, 1) for v in (logvar, logits))
    rho = correlated.rho_of(layout, weight)
    return function(layout, coupling, rho, spread, eps)[..., 0].movedim(0, -1)
