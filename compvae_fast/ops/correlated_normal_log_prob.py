"""The log-density of the correlated Gaussian over the parts of a set."""

from __future__ import annotations

import torch
from torch import Tensor

from compvae_fast.ops import _checks, _library
from compvae_fast.ops._sets import count_of, layout_check, parts_of_sets

# What the kernels leave for the backward pass, rows of [B, D].
_STATS = 4


def _describe(values, save):
    _, mu, _, _, offsets, *_ = values
    sets = count_of(mu, offsets)
    return [((sets,), _library.wide_dtype(mu)), ((_STATS, sets, mu.shape[-1]) if save else (0,), torch.float64)]


OPERATION = _library.Operation(
    name="correlated_normal_log_prob",
    inputs=_library.parts("w", "mu", "logvar", "rho_logits"),
    arguments=_library.SETS + _library.COUPLING,
    outputs=("set",),
    saved=("stats",),
    describe=_describe,
    check_values=layout_check("mu"),
)


def correlated_normal_log_prob(
    w: Tensor,
    mu: Tensor,
    logvar: Tensor,
    rho_logits: Tensor,
    *,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    coupling: str = "scaled",
) -> Tensor:
    r"""The log-density of the correlated Gaussian at w, summed over parts and coordinates.

    With L = logsumexp(0, nu):

        log q(w) = -1/2 sum eps^2 - sum log sigma + L - K/2 log 2 pi
        scaled:  eps_i = (w_i - mu_i + exp(nu_i) sum_j (w_j - mu_j)) / sigma_i
        unit:    eps_i = u_i + exp(nu_i) sum_j u_j,  u = (w - mu) / sigma

    The rounding of w grows by up to exp(L), so the computation is in float64 whatever the dtype of the inputs; the
    log-density of a sample is better had from `correlated_normal_rsample`.

    Args:
        w, mu, logvar, rho_logits: the point, means, log-variances and logits nu (-inf allowed), each [B, K, D] or,
            with offsets, [N, D]; float32, float64, bfloat16 or float16, one dtype; or jagged nested tensors.
        offsets: [B + 1] int32 or int64, non-decreasing from 0 to N: ragged sets.
        lengths: [B] int32 or int64 in [0, K]: padded sets.
        coupling: "scaled" (thesis eq. 9.6) or "unit" (paper eq. 6).

    Returns:
        log q(w) [B] in nats, float64 for float64 mu, else float32. An empty set gives 0.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Source: Berger's thesis, eq. 9.9 and 9.10.

    >>> import torch
    >>> w, mu, logvar, logits = torch.zeros(4, 1, 2, 3).unbind()
    >>> correlated_normal_log_prob(w, mu, logvar, logits - torch.inf)  # six standard normals at 0
    tensor([-5.5136])
    """
    tensors = dict(w=w, mu=mu, logvar=logvar, rho_logits=rho_logits)
    tensors, offsets, _, _ = parts_of_sets(tensors, offsets, lengths, tuple(tensors))
    _checks.coupling(coupling)
    return OPERATION(*tensors.values(), offsets, lengths, coupling)[0]
