"""prior_sum by the compiled kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from compvae_fast import native
from compvae_fast.ops.prior_sum import OPERATION


def forward(*arguments):
    *values, save = arguments
    mu, logvar, labels, counts, offsets, lengths, seed, set_index, part_start, collapse = values
    (w_shape, w_dtype), (slope_shape, slope_dtype) = OPERATION.describe(**OPERATION.named(values), save=save)
    w_sum, slope = torch.empty(w_shape, dtype=w_dtype), torch.empty(slope_shape, dtype=slope_dtype)
    sets = sets_of(mu, labels, counts, offsets, lengths, set_index, part_start, seed)
    tables, classes = (native.rows(mu), native.rows(logvar)), mu.shape[0]
    if counts is None and not collapse:
        labels = native.index(labels)
        native.library().prior_sum_forward(sets.arguments, tables, classes, labels.data_ptr(), native.per_set(w_sum),
                                           native.computes_float64(mu))
    else:
        group, member, weight = _counted(labels, counts, offsets, lengths, classes)
        groups = _Groups(group, w_shape[0], member, None, weight)
        native.library().prior_sum_collapsed_forward(sets.arguments, tables, classes, groups.arguments,
                                                     native.per_set(w_sum), slope.data_ptr() if save else 0)
    return w_sum, slope


def backward(grad_w, *arguments):
    *values, slope, needs = arguments
    mu, logvar, labels, counts, offsets, lengths, seed, set_index, part_start, collapse = values
    gradients = native.like_wanted((mu, logvar), needs)
    if grad_w is None:
        return tuple(g.zero_() for g in gradients)
    sets = sets_of(mu, labels, counts, offsets, lengths, set_index, part_start, seed)
    collapsed = counts is not None or collapse
    if collapsed:
        member, group, weight = _counted(labels, counts, offsets, lengths, mu.shape[0])
        part = None
    else:
        member, part, group = _parts(labels, offsets, lengths)
        weight = None
    groups = _Groups(group, mu.shape[0], member, part, weight)
    native.library().prior_sum_backward(
        sets.arguments, (native.rows(mu), native.rows(logvar)), mu.shape[0], groups.arguments, native.per_set(grad_w),
        slope.data_ptr() if collapsed else 0, native.wanted_rows(gradients, needs),
        collapsed or native.computes_float64(mu))
    return gradients


def sets_of(mu, labels, counts, offsets, lengths, set_index, part_start, seed) -> native.Sets:
    of_parts = counts[:, :1] if labels is None else labels
    like = of_parts[..., None].expand(*of_parts.shape, mu.shape[1])
    return native.Sets(like, offsets, lengths, set_index, part_start, seed)


class _Groups:
    """Entries sorted by group, in their order within each; keeps the tensors alive."""

    def __init__(self, group: Tensor, count: int, *members: Tensor | None):
        order = torch.argsort(group, stable=True)
        offsets = torch.zeros(count + 1, dtype=torch.int64)
        torch.cumsum(torch.bincount(group, minlength=count), 0, out=offsets[1:])
        self._kept = [offsets, *(m if m is None else m[order] for m in members)]
        self.arguments = tuple(map(native.address, self._kept))


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


def _counted(labels: Tensor | None, counts: Tensor | None, offsets: Tensor | None, lengths: Tensor | None,
             classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Set, class and number of parts, where there is any, in the order of sets and classes."""
    if counts is None:
        assert labels is not None
        sets, _, label = _parts(labels, offsets, lengths)
        keys, count = sets * classes + label, labels.shape[0] if offsets is None else offsets.shape[0] - 1
        if count * classes <= keys.numel():
            number = torch.bincount(keys, minlength=count * classes)
            keys = number.nonzero()[:, 0]
            number = number[keys]
        else:
            keys, number = torch.unique(keys, return_counts=True)
        return keys // max(classes, 1), keys % max(classes, 1), number
    sets, label = counts.nonzero(as_tuple=True)
    return sets, label, native.index(counts)[sets, label]
