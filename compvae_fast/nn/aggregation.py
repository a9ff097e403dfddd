"""What becomes of the sum of the parts before the networks read it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Saturation(nn.Module):
    """chi(w~) = w~ / (1 + gamma |w~|), elementwise, gamma >= 0 learned from 1.

    For wholes that do not grow with the number of parts. Shapes: [..., D] -> [..., D]. gamma is kept as its
    logarithm. Source: thesis eqs. 9.16, 9.17.

    >>> Saturation()(torch.tensor([0.0, 1.0, -3.0])).tolist()
    [0.0, 0.5, -0.75]
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_gamma = nn.Parameter(torch.zeros(()))

    def forward(self, w_sum: Tensor) -> Tensor:
        return w_sum / (1 + self.log_gamma.exp() * w_sum.abs())
