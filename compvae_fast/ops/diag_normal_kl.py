"""The KL divergence between diagonal Gaussians."""

from __future__ import annotations

from torch import Tensor

from compvae_fast.ops import _checks, _library

_SIDES = ("mu_q", "logvar_q"), ("mu_p", "logvar_p")

OPERATION = _library.Operation(
    name="diag_normal_kl",
    inputs=tuple(_library.Argument(name, "set") for side in _SIDES for name in side),
    arguments=(),
    outputs=("set",),
    saved=(),
    describe=lambda values, save: [((values[0].shape[0],), _library.wide_dtype(values[0]))],
)


def diag_normal_kl(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    r"""KL(N(mu, sigma^2) || N(m, s^2)) of diagonal Gaussians, summed over all dimensions but the first.

        1/2 sum [sigma^2/s^2 - 1 - log(sigma^2/s^2) + (mu - m)^2/s^2]

    Args:
        mu_q, logvar_q: means and log-variances [B, ...]; float32, float64, bfloat16 or float16, one dtype.
        mu_p, logvar_p: the prior's, of the same shape; one dtype, maybe another.

    Returns:
        kl [B] in nats, float64 for float64 mu_q, else float32.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Source: Kingma & Welling 2014, "Auto-encoding variational Bayes", appendix B.

    >>> import torch
    >>> zero, one = torch.zeros(1, 3), torch.ones(1, 3)
    >>> diag_normal_kl(one, zero, zero, zero)
    tensor([1.5000])
    """
    tensors = dict(mu_q=mu_q, logvar_q=logvar_q, mu_p=mu_p, logvar_p=logvar_p)
    _checks.alike(tensors, *_SIDES)
    _checks.has_sets("mu_q", mu_q)
    return OPERATION(*tensors.values())[0]
