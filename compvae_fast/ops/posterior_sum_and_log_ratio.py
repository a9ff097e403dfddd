"""The draw of the whole's latent and log p(w) - log q(w) there, in one pass over the posterior."""

from __future__ import annotations

from torch import Tensor

from compvae_fast.ops import _checks, _library
from compvae_fast.ops._sets import POSTERIOR, PRIOR, count_of, layout_check, noise_of_sets, parts_of_sets

# What the kernels leave for the backward pass, rows of [B, D].
_STATS = 7


def _describe(values, save):
    mu_q, _, _, _, logvar_p, offsets, *_ = values
    sets, width = count_of(mu_q, offsets), mu_q.shape[-1]
    wide = _library.wide_dtype(mu_q)
    return [((sets, width), wide), ((sets,), wide),
            ((_STATS, sets, width) if save else (0,), _library.compute_dtype(mu_q, logvar_p))]


OPERATION = _library.Operation(
    name="posterior_sum_and_log_ratio",
    inputs=_library.parts(*POSTERIOR, *PRIOR),
    arguments=_library.SETS + _library.DRAWS + _library.COUPLING + (_library.Argument("path", "flag"),),
    outputs=("set", "set"),
    saved=("stats",),
    describe=_describe,
    check_values=layout_check("mu_q", draws=True),
)


def posterior_sum_and_log_ratio(
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
    path: bool = False,
    set_index: Tensor | None = None,
    part_start: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Draw w~ = sum_i w_i from the correlated posterior, with log p(w) - log q(w) at that draw; w is never made.

    With the draw of `posterior_sum_and_kl` (the same noise for the same seed):

        log p(w) - log q(w) = sum_i [log N(w_i; m_i, s_i^2) + eps_i^2/2 + log sigma_i] - L + K/2 log 2 pi

    Its mean over the noise is -KL(q || p).

    Args:
        mu_q, logvar_q, rho_logits: posterior means, log-variances and logits nu (-inf allowed), each [B, K, D] or,
            with offsets, [N, D]; float32, float64, bfloat16 or float16, one dtype; or jagged nested tensors.
        mu_p, logvar_p: the prior's means and log-variances, of the same shape; one dtype, maybe another.
        offsets: [B + 1] int32 or int64, non-decreasing from 0 to N: ragged sets.
        lengths: [B] int32 or int64 in [0, K]: padded sets.
        coupling: "scaled" (thesis eq. 9.6) or "unit" (paper eq. 6).
        seed: of the noise: None (drawn with torch's default generator), an int, or a 0-d int64 tensor.
        path: leave the score of q out of the gradient: the posterior's parameters then act through w alone. The
            expected gradient is the same, and its variance goes to 0 as q comes to p.
        set_index: [B] index of each set in the noise, default 0..B-1.
        part_start: [B] index of each set's first part in the noise, default 0.

    Returns:
        (w~ [B, D], log p(w) - log q(w) [B] in nats), float64 for float64 mu_q, else float32. An empty set gives zeros.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Source: Berger & Sebag 2020, eq. 6; Berger's thesis, eq. 4.4 (path derivative) and 9.6 to 9.10.

    >>> import torch
    >>> mu, logvar, logits = torch.zeros(3, 2, 4, 8).unbind()
    >>> w_sum, log_ratio = posterior_sum_and_log_ratio(mu, logvar, logits, mu, logvar, seed=1)
    >>> w_sum.shape, log_ratio.shape
    (torch.Size([2, 8]), torch.Size([2]))
    """
    tensors = dict(mu_q=mu_q, logvar_q=logvar_q, rho_logits=rho_logits, mu_p=mu_p, logvar_p=logvar_p)
    tensors, offsets, count, _ = parts_of_sets(tensors, offsets, lengths, POSTERIOR, PRIOR)
    _checks.coupling(coupling)
    _checks.is_flag("path", path)
    seed = noise_of_sets(tensors["mu_q"], count, seed, set_index, part_start)
    w_sum, log_ratio = OPERATION(*tensors.values(), offsets, lengths, seed, set_index, part_start, coupling, path)
    return w_sum, log_ratio
