"""The KL divergence of the correlated posterior to the prior of independent parts."""

from __future__ import annotations

from torch import Tensor

from compvae_fast.ops import _checks, _library
from compvae_fast.ops._sets import POSTERIOR, PRIOR, count_of, layout_check, parts_of_sets

# What the kernels leave for the backward pass, rows of [B, D]; csrc/cpu/multiset.h names them.
_STATS = {"unit": 6, "scaled": 9}


def _describe(values, save):
    mu_q, _, _, _, logvar_p, offsets, _, coupling = values
    sets = count_of(mu_q, offsets)
    return [((sets,), _library.wide_dtype(mu_q)),
            ((_STATS[coupling], sets, mu_q.shape[-1]) if save else (0,), _library.compute_dtype(mu_q, logvar_p))]


OPERATION = _library.Operation(
    name="multiset_kl",
    inputs=_library.parts(*POSTERIOR, *PRIOR),
    arguments=_library.SETS + _library.COUPLING,
    outputs=("set",),
    saved=("stats",),
    describe=_describe,
    check_values=layout_check("mu_q"),
)


def multiset_kl(
    mu_q: Tensor,
    logvar_q: Tensor,
    rho_logits: Tensor,
    mu_p: Tensor,
    logvar_p: Tensor,
    *,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    coupling: str = "scaled",
) -> Tensor:
    r"""KL(q || p) of the correlated posterior to independent N(m_i, s_i^2), summed over parts and coordinates.

    With rho_i = exp(nu_i) / (1 + sum_j exp(nu_j)) and L = logsumexp(0, nu):

        scaled:  1/2 sum_i [log(s_i^2/sigma_i^2)
                            + ((mu_i - m_i)^2 + (1 - 2 rho_i) sigma_i^2 + rho_i^2 sum_k sigma_k^2) / s_i^2 - 1] + L
        unit:    1/2 sum_i [log(s_i^2/sigma_i^2) + (mu_i - m_i)^2 / s_i^2
                            + (1 - 2 rho_i + K rho_i^2) sigma_i^2 / s_i^2 - 1] + L

    Args:
        mu_q, logvar_q, rho_logits: posterior means, log-variances and logits nu (-inf allowed), each [B, K, D] or,
            with offsets, [N, D]; float32, float64, bfloat16 or float16, one dtype; or jagged nested tensors.
        mu_p, logvar_p: the prior's means and log-variances, of the same shape; one dtype, maybe another.
        offsets: [B + 1] int32 or int64, non-decreasing from 0 to N: ragged sets.
        lengths: [B] int32 or int64 in [0, K]: padded sets.
        coupling: "scaled" (thesis eq. 9.6) or "unit" (paper eq. 6).

    Returns:
        kl [B] in nats, float64 for float64 mu_q, else float32. An empty set gives 0.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Source: Berger & Sebag 2020, eq. 9, and Berger's thesis, eq. 9.8, with their slips corrected.

    >>> import torch
    >>> mu, logvar = torch.zeros(2, 1, 2, 3).unbind()
    >>> multiset_kl(mu, logvar, mu - torch.inf, mu, logvar)
    tensor([0.])
    """
    tensors = dict(mu_q=mu_q, logvar_q=logvar_q, rho_logits=rho_logits, mu_p=mu_p, logvar_p=logvar_p)
    tensors, offsets, _, _ = parts_of_sets(tensors, offsets, lengths, POSTERIOR, PRIOR)
    _checks.coupling(coupling)
    return OPERATION(*tensors.values(), offsets, lengths, coupling)[0]
