"""The draw of the whole's latent and its KL divergence, in one pass over the posterior."""

from __future__ import annotations

from torch import Tensor

from compvae_fast.ops import _checks, _library
from compvae_fast.ops._sets import POSTERIOR, PRIOR, count_of, layout_check, noise_of_sets, parts_of_sets

# What the kernels leave for the backward pass, rows of [B, D]; csrc/cpu/multiset.h names them.
_STATS = {"unit": 10, "scaled": 11}


def _describe(values, save):
    mu_q, _, _, _, logvar_p, offsets, *_, coupling = values
    sets, width = count_of(mu_q, offsets), mu_q.shape[-1]
    wide = _library.wide_dtype(mu_q)
    return [((sets, width), wide), ((sets,), wide),
            ((_STATS[coupling], sets, width) if save else (0,), _library.compute_dtype(mu_q, logvar_p))]


OPERATION = _library.Operation(
    name="posterior_sum_and_kl",
    inputs=_library.parts(*POSTERIOR, *PRIOR),
    arguments=_library.SETS + _library.DRAWS + _library.COUPLING,
    outputs=("set", "set"),
    saved=("stats",),
    describe=_describe,
    check_values=layout_check("mu_q", draws=True),
)


def posterior_sum_and_kl(
    mu_q: Tensor,
    logvar_q: Tensor,
    rho_logits: Tensor,
    mu_p: Tensor,
    logvar_p: Tensor,
    *,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    coupling: str = "scaled",
    seed: int | Tensor | None = None,
    set_index: Tensor | None = None,
    part_start: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Draw w~ = sum_i w_i from the correlated posterior and compute KL(q || p), in one pass; w is never made.

    With rho_i = exp(nu_i) / (1 + sum_j exp(nu_j)), L = logsumexp(0, nu) and eps ~ N(0, I):

        scaled:  w~ = sum mu + exp(-L) sum_j sigma_j eps_j
        unit:    w~ = sum mu + sum sigma eps - (sum sigma rho) sum_j eps_j

    and the closed-form KL of `multiset_kl`.

    Args:
        mu_q, logvar_q, rho_logits: posterior means, log-variances and logits nu (-inf allowed), each [B, K, D] or,
            with offsets, [N, D]; float32, float64, bfloat16 or float16, one dtype; or jagged nested tensors.
        mu_p, logvar_p: the prior's means and log-variances, of the same shape; one dtype, maybe another.
        offsets: [B + 1] int32 or int64, non-decreasing from 0 to N: ragged sets.
        lengths: [B] int32 or int64 in [0, K]: padded sets.
        coupling: "scaled" (thesis eq. 9.6) or "unit" (paper eq. 6).
        seed: of the noise: None (drawn with torch's default generator), an int, or a 0-d int64 tensor.
        set_index: [B] index of each set in the noise, default 0..B-1.
        part_start: [B] index of each set's first part in the noise, default 0.

    Returns:
        (w~ [B, D], kl [B] in nats), float64 for float64 mu_q, else float32. An empty set gives zeros.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Source: Berger & Sebag 2020, eq. 6 and appendix C; Berger's thesis, eq. 9.6 to 9.8 (slips corrected).

    >>> import torch
    >>> mu, logvar, logits = torch.zeros(3, 2, 4, 8).unbind()
    >>> w_sum, kl = posterior_sum_and_kl(mu, logvar, logits, mu, logvar, seed=1)
    >>> w_sum.shape, kl.shape
    (torch.Size([2, 8]), torch.Size([2]))
    """
    tensors = dict(mu_q=mu_q, logvar_q=logvar_q, rho_logits=rho_logits, mu_p=mu_p, logvar_p=logvar_p)
    tensors, offsets, count, _ = parts_of_sets(tensors, offsets, lengths, POSTERIOR, PRIOR)
    _checks.coupling(coupling)
    seed = noise_of_sets(tensors["mu_q"], count, seed, set_index, part_start)
    w_sum, kl = OPERATION(*tensors.values(), offsets, lengths, seed, set_index, part_start, coupling)
    return w_sum, kl
