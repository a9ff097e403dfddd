"""Samples of the parts of a set from the correlated Gaussian."""

from __future__ import annotations

from torch import Tensor

from compvae_fast.ops import _checks, _library
from compvae_fast.ops._sets import count_of, layout_check, noise_of_sets, parts_of_sets

# What the kernels leave for the backward pass, rows of [B, D]; csrc/cpu/multiset.h names them.
_STATS = 6


def _describe(values, save):
    mu, _, _, offsets, *_, with_log_prob = values
    sets, width = count_of(mu, offsets), mu.shape[-1]
    return [(mu.shape, mu.dtype), ((sets if with_log_prob else 0,), _library.wide_dtype(mu)),
            ((_STATS, sets, width) if save else (0,), _library.compute_dtype(mu))]


OPERATION = _library.Operation(
    name="correlated_normal_rsample",
    inputs=_library.parts("mu", "logvar", "rho_logits"),
    arguments=_library.SETS + _library.DRAWS + _library.COUPLING + (_library.Argument("with_log_prob", "flag"),),
    outputs=("part", "set"),
    saved=("stats",),
    describe=_describe,
    check_values=layout_check("mu", draws=True),
)


def correlated_normal_rsample(
    mu: Tensor,
    logvar: Tensor,
    rho_logits: Tensor,
    *,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    coupling: str = "scaled",
    seed: int | Tensor | None = None,
    with_log_prob: bool = False,
    set_index: Tensor | None = None,
    part_start: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Draw the parts w_i of each set from the correlated Gaussian.

    With rho_i = exp(nu_i) / (1 + sum_j exp(nu_j)), L = logsumexp(0, nu) and eps ~ N(0, I):

        scaled:  w_i = mu_i + sigma_i eps_i - rho_i sum_j sigma_j eps_j
        unit:    w_i = mu_i + sigma_i (eps_i - rho_i sum_j eps_j)
        log q(w) = -1/2 sum eps^2 - sum log sigma + L - K/2 log 2 pi, summed over coordinates

    Args:
        mu, logvar, rho_logits: means, log-variances and logits nu (-inf allowed), each [B, K, D] or, with offsets,
            [N, D]; float32, float64, bfloat16 or float16, one dtype; or jagged nested tensors.
        offsets: [B + 1] int32 or int64, non-decreasing from 0 to N: ragged sets.
        lengths: [B] int32 or int64 in [0, K]: padded sets.
        coupling: "scaled" (thesis eq. 9.6) or "unit" (paper eq. 6).
        seed: of the noise: None (drawn with torch's default generator), an int, or a 0-d int64 tensor.
        with_log_prob: also return log q(w), computed from the noise.
        set_index: [B] index of each set in the noise, default 0..B-1.
        part_start: [B] index of each set's first part in the noise, default 0.

    Returns:
        w, like mu, zero beyond lengths; with_log_prob=True: (w, log q(w) [B], float64 for float64 mu, else float32).

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Source: Berger & Sebag 2020, eq. 6; Berger's thesis, eq. 9.6, 9.9 and 9.10.

    >>> import torch
    >>> mu, logvar, logits = torch.zeros(3, 2, 4, 8).unbind()
    >>> w, log_q = correlated_normal_rsample(mu, logvar, logits, seed=1, with_log_prob=True)
    >>> w.shape, log_q.shape
    (torch.Size([2, 4, 8]), torch.Size([2]))
    """
    tensors = dict(mu=mu, logvar=logvar, rho_logits=rho_logits)
    tensors, offsets, count, nest = parts_of_sets(tensors, offsets, lengths, tuple(tensors))
    _checks.coupling(coupling)
    _checks.is_flag("with_log_prob", with_log_prob)
    seed = noise_of_sets(tensors["mu"], count, seed, set_index, part_start)
    w, log_q = OPERATION(*tensors.values(), offsets, lengths, seed, set_index, part_start, coupling, with_log_prob)
    return (nest(w), log_q) if with_log_prob else nest(w)
