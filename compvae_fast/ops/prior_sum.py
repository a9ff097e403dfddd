"""The draw of the whole's latent from the prior of its parts' labels."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from compvae_fast.ops import _checks, _library
from compvae_fast.ops._sets import count_of, noise_of_sets, unnested


def _count(labels: Tensor | None, counts: Tensor | None, offsets: Tensor | None) -> int:
    if counts is not None:
        return counts.shape[0]
    assert labels is not None
    return count_of(labels, offsets)


def _describe(values, save):
    mu_table, _, labels, counts, offsets, *_, collapse = values
    sets, width = _count(labels, counts, offsets), mu_table.shape[1]
    # of a collapsed draw the backward pass needs d w~ / d variance, one row of [B, D]
    kept = (1, sets, width) if save and (collapse or labels is None) else (0,)
    return [((sets, width), _library.wide_dtype(mu_table)), (kept, torch.float64)]


def _check_values(*, mu_table, labels, counts, offsets, lengths, set_index, part_start, **_):
    slots = 1
    if labels is None:
        _checks.count_values(counts)
    else:
        slots = labels.shape[-1]
        _checks.layout_values(labels.shape[0], labels.shape[-1], offsets, lengths)
        _checks.label_values(labels, mu_table.shape[0], lengths)
    _checks.noise_values(slots, mu_table.shape[1], set_index, part_start)


OPERATION = _library.Operation(
    name="prior_sum",
    inputs=(_library.Argument("mu_table", "table"), _library.Argument("logvar_table", "table")),
    arguments=(_library.Argument("labels", "optional_part"), _library.Argument("counts", "optional_set"),
               *_library.SETS, *_library.DRAWS, _library.Argument("collapse", "flag")),
    outputs=("set",),
    saved=("stats",),
    describe=_describe,
    check_values=_check_values,
)


def prior_sum(
    labels: Tensor | np.ndarray | os.PathLike | Iterable | None,
    mu_table: Tensor,
    logvar_table: Tensor,
    *,
    counts: Tensor | None = None,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    seed: int | Tensor | None = None,
    collapse: bool = False,
    set_index: Tensor | None = None,
    part_start: Tensor | None = None,
) -> Tensor:
    r"""Draw w~ = sum_i w_i with the parts' priors w_i ~ N(mu[l_i], sigma[l_i]^2); w is never made.

        w~ = sum_i mu[l_i] + sigma[l_i] eps_i
        collapsed, with n_c parts of label c:  w~ = sum_c n_c mu_c + sqrt(sum_c n_c sigma_c^2) eps

    The two have the same distribution; the collapsed draw costs C * D whatever the number of parts.

    Args:
        labels: [B, K] or, with offsets, [N], int64 or int32 in [0, C); or a jagged nested tensor. None with counts;
            None with offsets: part i has row i of the tables. Or one multiset of any length, read as it is needed: the
            path of a file, an array or memory-mapped array [K], an iterator; see `compvae_fast.streaming.prior_sum`.
        mu_table, logvar_table: means and log-variances of the labels, [C, D]; float32, float64, bfloat16 or float16,
            one dtype. float64 tables keep counts beyond 10^8 meaningful.
        counts: [B, C] int64 or int32 in [0, 2^53], how many parts of each label a set has; labels is None then.
        offsets: [B + 1] int32 or int64, non-decreasing from 0 to N: ragged sets.
        lengths: [B] int32 or int64 in [0, K]: padded sets.
        seed: of the noise: None (drawn with torch's default generator), an int, or a 0-d int64 tensor.
        collapse: draw the sum at once, with the noise of part 0; counts imply it.
        set_index: [B] index of each set in the noise, default 0..B-1.
        part_start: [B] index of each set's first part in the noise, default 0.

    Returns:
        w~ [B, D], float64 for float64 tables, else float32. An empty set gives zeros.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
        IndexError: a label outside [0, C), saying which and where.

    Source: Berger & Sebag 2020, section 3 (generation).

    >>> import torch
    >>> mu, logvar = torch.tensor([[1.0], [10.0]]), torch.full((2, 1), -torch.inf)  # no noise
    >>> prior_sum(torch.tensor([[0, 1, 1]]), mu, logvar, seed=0)
    tensor([[21.]])
    >>> prior_sum(None, mu, logvar, counts=torch.tensor([[1, 2]]), seed=0)
    tensor([[21.]])
    """
    _checks.tables(mu_table, logvar_table)
    _checks.is_flag("collapse", collapse)
    if labels is not None and not isinstance(labels, Tensor):
        absent = dict(counts=counts, offsets=offsets, lengths=lengths)
        return _of_stream(labels, mu_table, logvar_table, absent, seed, collapse, set_index, part_start)
    if counts is not None:
        _checks.counts(counts, mu_table, labels=labels, offsets=offsets, lengths=lengths)
        count = counts.shape[0]
    else:
        labels, offsets = _checked_labels(labels, mu_table, offsets, lengths)
        count = _checks.sets("labels", labels, offsets, lengths, tail="")
    seed = noise_of_sets(mu_table, count, seed, set_index, part_start)
    return OPERATION(mu_table, logvar_table, labels, counts, offsets, lengths, seed, set_index, part_start, collapse)[0]


def _of_stream(labels, mu, logvar, absent: dict, seed, collapse, set_index, part_start) -> Tensor:
    """w~ [n, D] of labels that are read piece by piece."""
    from compvae_fast import streaming  # which is made of this operation

    if not streaming.is_stream(labels):
        _checks.is_tensor("labels", labels)
    for name, value in absent.items():
        if value is not None:
            raise ValueError(f"{name}: expected None beside a stream of labels, got a {type(value).__name__}")
    if torch.is_grad_enabled() and (mu.requires_grad or logvar.requires_grad):
        raise ValueError("labels: a stream of labels records no gradient; call under torch.no_grad()")
    start = 0
    if part_start is not None:
        _checks.has_shape("part_start", part_start, (1,), "one for a stream of labels")
        start = int(part_start)
    return streaming.prior_sum(
        labels, mu, logvar, seed=seed, collapse=collapse, set_index=set_index, part_start=start
    ).w_sum


def _checked_labels(labels, mu_table: Tensor, offsets: Tensor | None, lengths: Tensor | None):
    _checks.labels_given(labels, offsets)
    if labels is None:
        labels = torch.arange(mu_table.shape[0], device=mu_table.device)
    tensors, offsets, _ = unnested(dict(labels=labels), offsets, lengths, dims=2)
    _checks.labels(tensors["labels"], mu_table)
    return tensors["labels"], offsets
