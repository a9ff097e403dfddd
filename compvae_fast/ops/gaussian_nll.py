"""The negative log-likelihood of a diagonal Gaussian."""

from __future__ import annotations

from torch import Tensor

from compvae_fast.ops._likelihoods import likelihood, observation

OPERATION = likelihood("gaussian_nll", "logvar")


def gaussian_nll(x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    r"""-log N(x; mu, sigma^2) of a diagonal Gaussian, summed over all dimensions but the first.

        1/2 sum [log 2 pi + log sigma^2 + (x - mu)^2/sigma^2]

    Args:
        x: the observation [B, ...], float32, float64, bfloat16 or float16.
        mu, logvar: mean and log-variance, of shapes that broadcast to x; one dtype, maybe another than x's.

    Returns:
        nll [B] in nats, float64 for float64 x, else float32.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Source: the density of the normal distribution; Berger's thesis, chapter 6, on observation models.

    >>> import torch
    >>> gaussian_nll(torch.zeros(2, 3), torch.zeros(3), torch.tensor(0.0))
    tensor([2.7568, 2.7568])
    """
    return OPERATION(*observation(x, mu=mu, logvar=logvar))[0]
