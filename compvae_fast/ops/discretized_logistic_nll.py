"""The negative log-likelihood of 256 levels under a logistic distribution."""

from __future__ import annotations

from torch import Tensor

from compvae_fast.ops._likelihoods import likelihood, observation

OPERATION = likelihood("discretized_logistic_nll", "log_scale")


def discretized_logistic_nll(x: Tensor, mu: Tensor, log_scale: Tensor) -> Tensor:
    r"""-log P(x) of levels x in {0..255}/255 under a logistic distribution, summed over all dimensions but the first.

    With S the logistic function and s the scale:

        P(x) = S((x + 1/510 - mu)/s) - S((x - 1/510 - mu)/s),   its second term 0 at x = 0, its first 1 at x = 1

    Computed as a sum of logarithms that neither tail can cancel.

    Args:
        x: the observation [B, ...], float32, float64, bfloat16 or float16.
        mu, log_scale: location and log of the scale s, of shapes that broadcast to x; one dtype, maybe another than
            x's.

    Returns:
        nll [B] in nats, float64 for float64 x, else float32.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Source: Kingma et al. 2016, "Improving variational inference with inverse autoregressive flow", appendix;
    Salimans et al. 2017, "PixelCNN++".

    >>> import torch
    >>> x = torch.arange(256)[:, None] / 255
    >>> total = torch.exp(-discretized_logistic_nll(x, torch.tensor(0.4), torch.tensor(-2.0))).sum()
    >>> round(total.item(), 5)
    1.0
    """
    return OPERATION(*observation(x, mu=mu, log_scale=log_scale))[0]
