"""The residual layer every network here is made of."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """x + fc2(ELU(fc1(x))), both linear layers ``features`` wide.

    fc2 starts at zero, so that a deep stack starts as the identity (Fixup, thesis 4.2.4).

    Args:
        features: width N of the input and of the output.

    Shapes: [..., N] -> [..., N]. Source: paper figure 9.

    >>> import torch
    >>> layer = Residual(4)
    >>> bool(torch.equal(layer(torch.ones(2, 4)), torch.ones(2, 4)))  # fc2 is still zero
    True
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, features)
        self.fc2 = nn.Linear(features, features)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc2(F.elu(self.fc1(x)))
