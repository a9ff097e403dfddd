"""prior_sum by CUDA kernels. How many parts a class has is known to the device alone: nothing here waits for it."""

from __future__ import annotations

import torch
from torch import Tensor

from compvae_fast import native
from compvae_fast.cuda import Queue, library, queued
from compvae_fast.native.prior_sum import sets_of
from compvae_fast.ops.prior_sum import OPERATION


@queued
def forward(queue: Queue, *arguments):
    *values, save = arguments
    mu, logvar, labels, counts, offsets, lengths, seed, set_index, part_start, collapse = values
    w_sum, slope = native.outputs(OPERATION.describe(values, save), mu.device)
    sets = sets_of(mu, labels, counts, offsets, lengths, set_index, part_start, seed)
    tables, classes = native.rows(mu, logvar), mu.shape[0]
    labels = native.index(labels)
    if counts is None and not collapse:
        assert labels is not None
        queue("prior_sum_forward", sets.arguments, tables, classes, labels.data_ptr(), *native.per_set(w_sum),
              native.computes_float64(mu))
    else:
        numbers = _numbers(queue, sets, labels, counts, classes)
        over_classes = (sets.count, classes, sets.width, 0, 0, *sets.arguments[5:])
        scratch = queue.scratch(over_classes)
        library().prior_sum_collapsed_forward(
            queue.launch(scratch), over_classes, sets.arguments, tables, numbers.data_ptr(), *native.per_set(w_sum),
            slope.data_ptr() if save else 0)
    return w_sum, slope


@queued
def backward(queue: Queue, grad_w, *arguments):
    *values, slope, needs = arguments
    mu, logvar, labels, counts, offsets, lengths, seed, set_index, part_start, collapse = values
    gradients = native.like_wanted((mu, logvar), needs)
    if grad_w is None:
        return tuple(g.zero_() for g in gradients)
    sets = sets_of(mu, labels, counts, offsets, lengths, set_index, part_start, seed)
    classes, collapsed = mu.shape[0], counts is not None or collapse
    members: tuple[Tensor, Tensor, Tensor | None, Tensor | None]
    if collapsed:
        numbers = _numbers(queue, sets, native.index(labels), counts, classes)
        members = _by_counts(numbers)
    else:
        members = _by_labels(native.index(labels), native.index(offsets), native.index(lengths), classes)
    total = members[1].numel()
    # the kernel sums over members: its sets are the classes
    of_classes = (classes, total, sets.width, members[0].data_ptr(), 0, 0, 0, 0, 0, 0, 1)
    scratch = queue.scratch(of_classes)
    library().prior_sum_backward(
        queue.launch(scratch), sets.arguments, native.rows(mu, logvar), classes,
        (*map(native.address, members), total), *native.per_set(grad_w), slope.data_ptr() if collapsed else 0,
        native.wanted_rows(gradients, needs), collapsed or native.computes_float64(mu))
    return gradients


def _numbers(queue: Queue, sets: native.Sets, labels: Tensor | None, counts: Tensor | None, classes: int) -> Tensor:
    """How many parts of each class each set has, [B, C] int64."""
    if counts is not None:
        return native.index(counts)
    assert labels is not None
    numbers = torch.zeros(sets.count, classes, dtype=torch.int64, device=labels.device)
    library().count_labels(queue.launch(), sets.arguments, classes, labels.data_ptr(), numbers.data_ptr())
    return numbers


def _by_counts(numbers: Tensor) -> tuple[Tensor, Tensor, None, Tensor]:
    """The members of each class (where they begin, set, part, weight): every set, weighted by its number of parts."""
    sets, classes = numbers.shape
    begin = torch.arange(classes + 1, device=numbers.device) * sets
    return begin, torch.arange(sets, device=numbers.device).repeat(classes), None, numbers.t().contiguous()


def _by_labels(labels: Tensor, offsets: Tensor | None, lengths: Tensor | None,
               classes: int) -> tuple[Tensor, Tensor, Tensor, None]:
    """The same, each part of a set a member of its own; parts that are not there, or of no class, come last."""
    if offsets is not None:
        row = torch.arange(labels.shape[0], device=labels.device)
        sets = (torch.searchsorted(offsets, row, right=True) - 1).clamp(0, max(offsets.shape[0] - 2, 0))
        parts = row - offsets[sets] if row.numel() else row
        there = parts >= 0
    else:
        count, slots = labels.shape
        sets = torch.arange(count, device=labels.device)[:, None].expand(count, slots)
        parts = torch.arange(slots, device=labels.device).expand(count, slots)
        there = torch.ones_like(labels, dtype=torch.bool) if lengths is None else parts < lengths[:, None]
    label = torch.where(there & (labels >= 0) & (labels < classes), labels, classes).flatten()
    ordered, order = torch.sort(label, stable=True)
    begin = torch.searchsorted(ordered, torch.arange(classes + 1, device=labels.device))
    return begin, sets.reshape(-1)[order], parts.reshape(-1)[order], None
