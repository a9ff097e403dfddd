"""Which dtype a result has: everything is computed in float64 and rounded once, at the end."""

import torch
from torch import Tensor


def like(result: Tensor, given: Tensor) -> Tensor:
    """result in the dtype of what was given."""
    return result.to(given.dtype)


def like_wide(result: Tensor, given: Tensor) -> Tensor:
    """result in the dtype of what was given, float32 for half types: sums over a set need the range and digits."""
    narrow = given.dtype in (torch.float16, torch.bfloat16)
    return result.to(torch.float32 if narrow else given.dtype)
