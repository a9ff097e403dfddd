"""Helpers for code that moves over to compvae_fast: the noise of a draw as a tensor, and one-line replacements."""

from __future__ import annotations

import types

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compvae_fast import ops, random

__all__ = ["graph_blocks", "noise_like", "sum_and_loss"]


def noise_like(x: Tensor, seed: int | Tensor, *, offsets: Tensor | None = None) -> Tensor:
    """The noise that every drawing operation of `compvae_fast.ops` uses for a seed, as a tensor.

    In place of torch.randn_like(x) in plain PyTorch code, it makes that code's draw and the fused one the same numbers
    (to rounding), so that a replacement can be checked.

    Args:
        x: the tensor whose shape, dtype and device the noise takes: [B, K, D]; with offsets [N, D]; or [B, D], the
            noise of each set's part 0, as collapsed draws use it.
        seed: an int or a 0-d int64 tensor.
        offsets: [B + 1] int32 or int64: ragged sets.

    Returns:
        Standard normals like x.

    Raises:
        ValueError: x of another number of dimensions.

    Source: Salmon et al. 2011; `compvae_fast.random.normal`.

    >>> from compvae_fast.ops import correlated_normal_rsample
    >>> mu, logvar, alone = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), torch.full((2, 3, 4), -torch.inf)
    >>> w = correlated_normal_rsample(mu, logvar, alone, seed=7)
    >>> torch.allclose(w, mu + noise_like(mu, seed=7))
    True
    """
    if offsets is not None and x.dim() == 2:
        sets = torch.repeat_interleave(offsets.diff(), output_size=x.shape[0])
        parts = torch.arange(x.shape[0], device=x.device) - offsets[sets]
    elif offsets is None and x.dim() in (2, 3):
        sets = torch.arange(x.shape[0], device=x.device)
        parts = torch.zeros_like(sets)
        if x.dim() == 3:
            sets, parts = sets[:, None], torch.arange(x.shape[1], device=x.device)
    else:
        wanted = "[B, K, D] or [B, D]" if offsets is None else "[N, D] with offsets"
        raise ValueError(f"x: expected shape {wanted}, got {list(x.shape)}")
    coordinates = torch.arange(x.shape[-1], device=x.device)
    return random.normal(seed, sets[..., None], parts[..., None], coordinates).to(x.dtype)


def sum_and_loss(
    mu_q: Tensor,
    logvar_q: Tensor,
    rho_logits: Tensor,
    mu_p: Tensor,
    logvar_p: Tensor,
    *,
    coupling: str = "unit",
    seed: int | Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The draw of w~ and the mean loss of the parts: one line for what the paper's released code writes out.

        rho by a softmax of the logits and one more, 0;  w_i = mu_i + sigma_i (eps_i - rho_i sum_j eps_j)
        w~ = sum_i w_i,  loss = KL(q || p) / B

    Args:
        mu_q, logvar_q, rho_logits, mu_p, logvar_p, coupling, seed: as `ops.posterior_sum_and_kl` takes them, [B, K, D].

    Returns:
        (w~ [B, D], loss [], in nats).

    Source: Berger & Sebag 2020, eq. 6 and appendix C.

    >>> mu, logvar, logits = torch.zeros(3, 2, 4, 8).unbind()
    >>> w_sum, loss = sum_and_loss(mu, logvar, logits, mu, logvar, seed=1)
    >>> w_sum.shape, loss.shape
    (torch.Size([2, 8]), torch.Size([]))
    """
    w_sum, kl = ops.posterior_sum_and_kl(mu_q, logvar_q, rho_logits, mu_p, logvar_p, coupling=coupling, seed=seed)
    return w_sum, kl.mean()


def graph_blocks(model: nn.Module) -> int:
    """Let the graph blocks of a model in the style of the paper's released code sum by `ops.sum_minus_self`.

    A graph block is a submodule of a class named GraphBlock with g_1, g_2, g_3, f_1, f_2 and, in the released 1D code,
    f_3:

        others_i = g_3(tanh(g_2(sum_{j != i} elu(g_1(h_j)))));  f_1 of (h_i, others_i), elu, f_2, and f_3 behind elu

    Its forward method is replaced by one that computes the same; parameters stay.

    Args:
        model: holds the blocks; changed in place.

    Returns:
        How many blocks it found.

    Raises:
        ValueError: it found none.
    """
    blocks = [module for module in model.modules() if _is_graph_block(module)]
    if not blocks:
        raise ValueError("model: expected submodules of a class GraphBlock with g_1, g_2, g_3, f_1 and f_2, found none")
    for block in blocks:
        block.forward = types.MethodType(_forward, block)
    return len(blocks)


def _is_graph_block(module: nn.Module) -> bool:
    layers = ("g_1", "g_2", "g_3", "f_1", "f_2")
    return type(module).__name__ == "GraphBlock" and all(hasattr(module, layer) for layer in layers)


def _forward(self, h: Tensor) -> Tensor:
    """h [B, K, N] to [B, K, M]."""
    others = ops.sum_minus_self(self.g_1(h), pre="elu")
    others = self.g_3(torch.tanh(self.g_2(others)))
    h = self.f_2(F.elu(self.f_1(torch.cat([h, others], -1))))
    return self.f_3(F.elu(h)) if hasattr(self, "f_3") else h
