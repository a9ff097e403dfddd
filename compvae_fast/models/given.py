"""What a model is told of its sets, checked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import Problem
from ..nn import Sets
from ..nn.opaque import opaque


@dataclass(frozen=True)
class Given:
    """The description of a batch of wholes.

    Args:
        labels: counted from 0, [B, K] or [N]; 0 in padding.
        sets: the layout.
        features: continuous features of the parts, [B, K, F] or [N, F], 0 in padding; None where parts have none.
        context: external factors, [B, C], or None.
    """

    labels: Tensor
    sets: Sets
    features: Tensor | None = None
    context: Tensor | None = None

    @classmethod
    def of(
        cls,
        problem: Problem,
        first_label: int,
        num_labels: int,
        labels: Tensor,
        *,
        offsets: Tensor | None = None,
        lengths: Tensor | None = None,
        features: Tensor | None = None,
        context: Tensor | None = None,
        sets: Sets | None = None,
        always: bool = False,
    ) -> Given:
        """Labels as users write them, and the rest; label values are read on CUDA if ``always``.

        Raises:
            TypeError, ValueError, IndexError: naming the argument, what was expected and what came.
        """
        if not isinstance(labels, Tensor):
            raise TypeError(f"labels: expected a torch.Tensor, got {type(labels).__name__}")
        if labels.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"labels: expected int32 or int64, got {labels.dtype}")
        sets = sets or Sets.of(labels, offsets, lengths)
        count = _checked_from_zero if always or labels.device.type == "cpu" else _from_zero
        internal = count(labels, sets.mask, first_label, num_labels)
        problem.check(features, context)
        if features is not None:
            _check("features", features, (*labels.shape, problem.features))
            if sets.mask is not None:
                features = torch.where(sets.mask.unsqueeze(-1), features, 0)
        check_context(problem, context, sets.batch)
        return cls(internal, sets, features, context)


def _from_zero(labels: Tensor, mask: Tensor | None, first_label: int, num_labels: int) -> Tensor:
    """Labels that count from 0, contiguous int64; 0 where the mask is False."""
    internal = labels.long() - first_label
    return (internal if mask is None else torch.where(mask, internal, 0)).contiguous()


@opaque(lambda labels, mask, first_label, num_labels: labels.new_empty(labels.shape, dtype=torch.int64))
def _checked_from_zero(labels: Tensor, mask: Tensor | None, first_label: int, num_labels: int) -> Tensor:
    """The same. Raises IndexError for a label that is none of ``num_labels``."""
    internal = _from_zero(labels, mask, first_label, num_labels)
    wrong = (internal < 0) | (internal >= num_labels)
    if wrong.any():
        last = first_label + num_labels - 1
        raise IndexError(f"labels: expected values in {first_label}..{last}, got {int(labels[wrong][0])}")
    return internal


def check_context(problem: Problem, context: Tensor | None, batch: int) -> None:
    """Raise TypeError or ValueError for a context that is not [B, C], or is there where it should not be."""
    problem.check_context(context)
    if context is not None:
        _check("context", context, (batch, problem.context))


def check_counts(counts: Tensor, num_labels: int) -> None:
    """Raise TypeError or ValueError for counts that are not how many parts each label has, [B, C]."""
    if counts.is_floating_point() or counts.dtype == torch.bool:
        raise TypeError(f"counts: expected integers, got {counts.dtype}")
    if counts.dim() != 2 or counts.shape[1] != num_labels:
        raise ValueError(
            f"counts: expected [{num_labels}] or [B, {num_labels}], "
            f"got {list(counts.shape[1:] if counts.dim() == 2 else counts.shape)}"
        )
    if counts.numel() and (counts.min() < 0 or counts.max() > 2**53):
        raise ValueError(f"counts: expected values in 0..2^53, got {int(counts.min())}..{int(counts.max())}")


def _check(name: str, values: Tensor, shape: tuple[int, ...]) -> None:
    if not isinstance(values, Tensor) or not values.is_floating_point():
        got = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(f"{name}: expected a tensor of floats, got {got}")
    if tuple(values.shape) != shape:
        raise ValueError(f"{name}: expected {list(shape)}, got {list(values.shape)}")
