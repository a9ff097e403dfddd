"""Negative log-likelihood of 256 levels under a logistic distribution."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from compvae_fast.reference.dtypes import like_wide
from compvae_fast.reference.layout import expand_to, sum_per_row

_HALF_BIN = 1 / 510


def discretized_logistic_nll(x: Tensor, mu: Tensor, log_scale: Tensor) -> Tensor:
    """-sum log P(bin of x) over all dimensions but the first, [B]; x in {0..255}/255, mu and log_scale broadcast to x.

    The bin is x +- 1/510, open below at x = 0 and above at x = 1. With a = (x + 1/510 - mu)/s and
    b = (x - 1/510 - mu)/s, P = S(a) - S(b) = S(a) S(-b) (1 - exp(b - a)), S the logistic function: a sum of logs that
    neither tail can cancel.
    """
    point = x.double()
    centre, log_scale = (expand_to(t.double(), x.shape) for t in (mu, log_scale))
    rate = torch.exp(-log_scale)
    below_upper = logsigmoid((point + _HALF_BIN - centre) * rate)
    above_lower = logsigmoid((centre - point + _HALF_BIN) * rate)
    width = torch.log(-torch.expm1(-2 * _HALF_BIN * rate))
    lowest, highest = point < _HALF_BIN, point > 1 - _HALF_BIN
    log_mass = torch.where(highest, 0, below_upper) + torch.where(lowest, 0, above_lower)
    return like_wide(-sum_per_row(log_mass + torch.where(lowest | highest, 0, width)), x)
