"""Negative log-likelihood of a diagonal Gaussian."""

import math

import torch
from torch import Tensor

from compvae_fast.reference.dtypes import like_wide
from compvae_fast.reference.layout import expand_to, sum_per_row


def gaussian_nll(x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """1/2 sum [log 2 pi + logvar + (x - mu)^2 exp(-logvar)] over all dimensions but the first, [B].

    mu and logvar broadcast to x.
    """
    centre, spread = (expand_to(t.double(), x.shape) for t in (mu, logvar))
    square = (x.double() - centre).square() * torch.exp(-spread)
    return like_wide(sum_per_row(square + spread + math.log(2 * math.pi)) / 2, x)
