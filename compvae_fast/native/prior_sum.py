"""prior_sum by the compiled kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from compvae_fast import native
from compvae_fast.ops._sets import count_of
from compvae_fast.ops.prior_sum import OPERATION


def forward(*arguments):
    *values, save = arguments
    mu, logvar, labels, counts, offsets, lengths, seed, set_index, part_start, collapse = values
    w_sum, slope = native.outputs(OPERATION.describe(values, save), mu.device)
    sets = sets_of(mu, labels, counts, offsets, lengths, set_index, part_start, seed)
    tables, classes = native.rows(mu, logvar), mu.shape[0]
    if counts is None and not collapse:
        labels = native.index(labels)
        native.library().prior_sum_forward(sets.arguments, tables, classes, labels.data_ptr(), *native.per_set(w_sum),
                                           native.computes_float64(mu))
    else:
        groups = _classes_of_sets(labels, counts, offsets, lengths, classes)
        native.library().prior_sum_collapsed_forward(sets.arguments, tables, classes, groups.arguments,
                                                     *native.per_set(w_sum), slope.data_ptr() if save else 0)
    return w_sum, slope


def backward(grad_w, *arguments):
    *values, slope, needs = arguments
    mu, logvar, labels, counts, offsets, lengths, seed, set_index, part_start, collapse = values
    gradients = native.like_wanted((mu, logvar), needs)
    if grad_w is None:
        return tuple(g.zero_() for g in gradients)
    sets = sets_of(mu, labels, counts, offsets, lengths, set_index, part_start, seed)
    collapsed, classes = counts is not None or collapse, mu.shape[0]
    groups = (_sets_of_classes(labels, counts, offsets, lengths, classes) if collapsed else
              _parts_of_classes(labels, offsets, lengths, classes))
    native.library().prior_sum_backward(
        sets.arguments, native.rows(mu, logvar), classes, groups.arguments, *native.per_set(grad_w),
        slope.data_ptr() if collapsed else 0, native.wanted_rows(gradients, needs),
        collapsed or native.computes_float64(mu))
    return gradients


def sets_of(mu, labels, counts, offsets, lengths, set_index, part_start, seed) -> native.Sets:
    of_parts = (counts.shape[0], 1) if labels is None else labels.shape
    return native.Sets((*of_parts, mu.shape[1]), offsets, lengths, set_index, part_start, seed)


class _Sorted:
    """Entries sorted by group, in their order within each; keeps the tensors alive."""

    def __init__(self, group: Tensor, count: int, member: Tensor, part: Tensor | None, weight: Tensor | None):
        order = torch.argsort(group, stable=True)
        offsets = torch.zeros(count + 1, dtype=torch.int64)
        torch.cumsum(torch.bincount(group, minlength=count), 0, out=offsets[1:])
        self._kept = [offsets, *(m if m is None else m[order] for m in (member, part, weight))]
        self.arguments = tuple(map(native.address, self._kept))


class _Weighted:
    """Every member in every group, with the weights [groups, members] as they are."""

    def __init__(self, weights: Tensor):
        self._kept = weights
        self.arguments = (0, 0, 0, weights.data_ptr(), weights.shape[1], *weights.stride())


def _classes_of_sets(labels, counts, offsets, lengths, classes: int) -> _Sorted | _Weighted:
    """The classes of each set, with their numbers of parts."""
    if counts is not None:
        return _Weighted(native.index(counts))
    sets, label, number = _counted(labels, offsets, lengths, classes)
    return _Sorted(sets, count_of(labels, offsets), label, None, number)


def _sets_of_classes(labels, counts, offsets, lengths, classes: int) -> _Sorted | _Weighted:
    """The sets of each class, with their numbers of parts."""
    if counts is not None:
        return _Weighted(native.index(counts).t())
    sets, label, number = _counted(labels, offsets, lengths, classes)
    return _Sorted(label, classes, sets, None, number)


def _parts_of_classes(labels, offsets, lengths, classes: int) -> _Sorted:
    """The parts of each class."""
    sets, part, label = _parts(labels, offsets, lengths)
    return _Sorted(label, classes, sets, part, None)


def _parts(labels: Tensor, offsets: Tensor | None, lengths: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Set, index within the set and label of every part."""
    if offsets is not None:
        offsets = native.index(offsets)
        sets = torch.repeat_interleave(offsets.diff(), output_size=labels.shape[0])
        return sets, torch.arange(labels.shape[0]) - offsets[sets], native.index(labels)
    count, slots = labels.shape
    sets, slot = torch.arange(count)[:, None].expand(count, slots), torch.arange(slots).expand(count, slots)
    there = torch.ones(count, slots, dtype=torch.bool) if lengths is None else slot < lengths[:, None]
    return sets[there], slot[there], native.index(labels)[there]


def _counted(labels: Tensor, offsets: Tensor | None, lengths: Tensor | None,
             classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Set, class and number of parts, where there is any, in the order of sets and classes."""
    sets, _, label = _parts(labels, offsets, lengths)
    keys, count = sets * classes + label, count_of(labels, offsets)
    if count * classes <= keys.numel():
        number = torch.bincount(keys, minlength=count * classes)
        keys = number.nonzero()[:, 0]
        number = number[keys]
    else:
        keys, number = torch.unique(keys, return_counts=True)
    return keys // max(classes, 1), keys % max(classes, 1), number
