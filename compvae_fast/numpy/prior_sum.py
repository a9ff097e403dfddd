"""The draw of the whole's latent from the prior of its parts' labels, on NumPy arrays."""

from __future__ import annotations

import numpy as np

from compvae_fast import _rules
from compvae_fast.numpy import _door, _native
from compvae_fast.numpy._door import ArrayLike


def prior_sum(
    labels: ArrayLike | None,
    mu_table: ArrayLike,
    logvar_table: ArrayLike,
    *,
    counts: ArrayLike | None = None,
    offsets: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    seed: int | None = None,
    collapse: bool = False,
    set_index: ArrayLike | None = None,
    part_start: ArrayLike | None = None,
    threads: int | None = None,
) -> np.ndarray:
    r"""Draw w~ = sum_i w_i with the parts' priors w_i ~ N(mu[l_i], sigma[l_i]^2).

    `compvae_fast.ops.prior_sum` has the formulas.

    Args:
        labels: [B, K] or, with offsets, [N], int64 or int32 in [0, C). None with counts; None with offsets: part i has
            row i of the tables.
        mu_table, logvar_table: means and log-variances of the labels, [C, D], of one dtype.
        counts: [B, C] int64 or int32 in [0, 2^53], how many parts of each label a set has; labels is None then.
        offsets: [B + 1] int32 or int64: ragged sets.
        lengths: [B] int32 or int64: padded sets.
        seed, set_index [B], part_start [B]: of the noise.
        collapse: draw the sum at once, with the noise of part 0; counts imply it.
        threads: how many to use.

    Returns:
        w~ [B, D], float64 for float64 tables, else float32.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
        IndexError: a label outside [0, C), saying which and where.

    >>> mu, logvar = np.array([[1.0], [10.0]]), np.full((2, 1), -np.inf)  # no noise
    >>> prior_sum(np.array([[0, 1, 1]]), mu, logvar, seed=0)
    array([[21.]])
    >>> prior_sum(None, mu, logvar, counts=np.array([[1, 2]]), seed=0)
    array([[21.]])
    """
    tables = _door.arrays(mu_table=mu_table, logvar_table=logvar_table)
    _native.RULES.tables(**tables)
    _rules.is_flag("collapse", collapse)
    given = {name: _door.optional(name, value) for name, value in
             dict(labels=labels, counts=counts, offsets=offsets, lengths=lengths).items()}
    if counts is None:
        given["labels"] = _checked_labels(tables["mu_table"], **given)
    else:
        _checked_counts(tables["mu_table"], **given)
    mu, logvar = (_native.strided(x) for x in tables.values())
    sets = _sets(mu.shape[1], **given, draw=_native.Draw(seed, set_index, part_start), threads=threads)
    w_sum = np.empty((sets.count, sets.width), _native.wide(mu))
    described = (_native.rows(mu), _native.rows(logvar)), mu.shape[0]
    if counts is None and not collapse:
        parts = _native.index(given["labels"])
        _native.library().prior_sum_forward(sets.arguments, *described, _native.address(parts), _native.per_set(w_sum),
                                            _native.computes_float64(mu))
    else:
        groups = _members(classes=mu.shape[0], sets=sets.count, **given)
        _native.library().prior_sum_collapsed_forward(sets.arguments, *described, tuple(map(_native.address, groups)),
                                                      _native.per_set(w_sum), 0)
    return w_sum


def _checked_labels(mu, labels, counts, offsets, lengths) -> np.ndarray:
    _native.RULES.labels_given(labels, offsets)
    labels = np.arange(mu.shape[0]) if labels is None else labels
    _native.RULES.labels(labels, mu)
    _native.RULES.sets("labels", labels, offsets, lengths, tail="")
    _rules.layout_values(labels.shape[0], labels.shape[-1], offsets, lengths)
    _rules.label_values(labels, mu.shape[0], lengths)
    return labels


def _checked_counts(mu, labels, counts, offsets, lengths) -> None:
    _native.RULES.counts(counts, mu, labels=labels, offsets=offsets, lengths=lengths)
    _rules.count_values(counts)


def _sets(width: int, labels, counts, offsets, lengths, draw, threads) -> _native.Sets:
    if counts is not None:
        return _native.Sets(counts.shape[0], 1, width, None, None, draw, threads)
    count = labels.shape[0] if offsets is None else offsets.shape[0] - 1
    return _native.Sets(count, labels.shape[-1], width, offsets, lengths, draw, threads)


def _members(classes: int, sets: int, labels, counts, offsets, lengths):
    """What of each set is to be counted: offsets [sets + 1] of its members, their classes and their numbers."""
    if counts is not None:
        owner, members = np.nonzero(counts)
        numbers = counts[owner, members]
    else:
        if offsets is not None:
            owner = np.repeat(np.arange(sets), np.diff(offsets))
        else:
            slots = labels.shape[1]
            there = np.arange(slots) < (np.full(sets, slots) if lengths is None else lengths)[:, None]
            owner, labels = np.nonzero(there)[0], labels[there]
        keys, numbers = np.unique(owner * classes + labels, return_counts=True)
        owner, members = keys // max(classes, 1), keys % max(classes, 1)
    starts = np.searchsorted(owner, np.arange(sets + 1))
    return _native.index(starts), _native.index(members), None, _native.index(numbers)
