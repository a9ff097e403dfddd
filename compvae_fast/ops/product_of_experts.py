"""The normalised product of the Gaussian experts of a set."""

from __future__ import annotations

from torch import Tensor

from compvae_fast.ops import _checks, _library
from compvae_fast.ops._sets import count_of, layout_check, parts_of_sets

# What the kernels leave for the backward pass, rows of [B, D]; csrc/cpu/product_of_experts.cpp names them.
_STATS = 4


def _describe(values, save):
    mu, _, offsets, *_ = values
    sets, width = count_of(mu, offsets), mu.shape[-1]
    return [((sets, width), mu.dtype), ((sets, width), mu.dtype),
            ((_STATS, sets, width) if save else (0,), _library.compute_dtype(mu))]


OPERATION = _library.Operation(
    name="product_of_experts",
    inputs=_library.parts("mu", "logvar"),
    arguments=_library.SETS + (_library.Argument("mask", "optional_set"), _library.Argument("prior", "flag")),
    outputs=("set", "set"),
    saved=("stats",),
    describe=_describe,
    check_values=layout_check("mu"),
)


def product_of_experts(
    mu: Tensor,
    logvar: Tensor,
    *,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
    prior: bool = True,
) -> tuple[Tensor, Tensor]:
    r"""The product of the Gaussian experts of each set, normalised: again a Gaussian.

    With precisions t_i = exp(-logvar_i) and T = prior + sum_i t_i:

        mu = sum_i t_i mu_i / T,   logvar = -log T

    Args:
        mu, logvar: the experts' means and log-variances, each [B, K, D] or, with offsets, [N, D]; float32, float64,
            bfloat16 or float16, one dtype; or jagged nested tensors.
        offsets: [B + 1] int32 or int64, non-decreasing from 0 to N: ragged sets.
        lengths: [B] int32 or int64 in [0, K]: padded sets.
        mask: [B, K] bool, which experts are there; without offsets and lengths.
        prior: multiply N(0, 1) in.

    Returns:
        (mu [B, D], logvar [B, D]), of the dtype of the inputs. A set without experts gives (0, 0), or (0, +inf) with
        prior=False.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Source: Vedantam et al. 2018, "Generative models of visually grounded imagination", section 2; Hinton 2002.

    >>> import torch
    >>> mu, logvar = product_of_experts(torch.tensor([[[1.0], [3.0]]]), torch.zeros(1, 2, 1), prior=False)
    >>> mu.item(), logvar.exp().item()
    (2.0, 0.5)
    """
    tensors = dict(mu=mu, logvar=logvar)
    tensors, offsets, _, _ = parts_of_sets(tensors, offsets, lengths, tuple(tensors))
    if mask is not None:
        _checks.mask(mask, tensors["mu"], offsets, lengths)
    _checks.is_flag("prior", prior)
    mean, total = OPERATION(*tensors.values(), offsets, lengths, mask, prior)
    return mean, total
