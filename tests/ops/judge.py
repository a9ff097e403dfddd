"""Comparison with the float64 truth: the float32 tolerances that are promised, and what follows for other dtypes."""

from __future__ import annotations

import torch
from torch import Tensor


def strictness(dtype: torch.dtype) -> float:
    """What the float32 tolerances are multiplied by."""
    return 1e-7 if dtype == torch.float64 else 1


def representable(truth: Tensor, dtype: torch.dtype) -> Tensor:
    """The truth, infinite where it is beyond the range of the dtype."""
    rounded = truth.to(dtype).double()
    return torch.where(rounded.isinf(), rounded, truth)


def rounding(truth: Tensor, dtype: torch.dtype) -> Tensor | float:
    """What the dtype itself costs: underflow; in half types, half a unit in the last place, which in float32 and
    float64 is part of the tolerance."""
    tiny = torch.finfo(dtype).smallest_normal
    return tiny if dtype.itemsize > 2 else 0.51 * torch.finfo(dtype).eps * truth.abs() + tiny


def error(found: Tensor, truth: Tensor) -> Tensor:
    """|found - truth|, 0 where both are the same infinity."""
    return torch.where(found.double() == truth, 0, (found.double() - truth).abs())


def holds(what: str, errors: Tensor, allowed: Tensor, found: Tensor | None = None, truth: Tensor | None = None) -> None:
    """Every error within what is allowed; says where it is worst."""
    ratio = torch.where(errors == 0, 0, errors / allowed).nan_to_num(nan=torch.inf, posinf=torch.inf)
    if ratio.numel() and ratio.max() > 1:
        at = torch.unravel_index(ratio.argmax(), ratio.shape)
        values = "" if found is None else f"{found[at].item()!r}, expected {truth[at].item()!r}, "
        raise AssertionError(f"{what} at {[int(i) for i in at]}: {values}error {errors[at].item():.3g} is "
                             f"{ratio.max().item():.3g} times what is allowed")


def close(what: str, found: Tensor, truth: Tensor, allowed: Tensor) -> None:
    """found, of any dtype, within `allowed` of a float64 truth, where float32 is held to it."""
    assert found.shape == truth.shape, f"{what}: shape {list(found.shape)}, expected {list(truth.shape)}"
    truth = representable(truth, found.dtype)
    bound = strictness(found.dtype) * allowed + rounding(truth, found.dtype)
    holds(what, error(found, truth), bound, found, truth)
