"""The parts of a whole that was drawn from counts."""

from __future__ import annotations

import torch
from torch import Tensor

from compvae_fast.random import Stream, fold, normal

_LOW = 40  # a node's number, below 2^54, is split into the part and the set of its noise


class PartsOfSum:
    r"""The parts of a set given their sum w~, any of them and in any order, at a cost of log K each.

    The parts are ordered by label: n_0 of label 0, then n_1 of label 1, and so on. Given w~ the sums of the labels
    follow by Matheron's rule, S_c = n_c m_c + D_c with sum_c S_c = w~; and the sum of n parts of one label is split
    among its two halves again and again by the same rule:

        D_c = sqrt(n_c) s_c e_c + n_c s_c^2 / V (w~ - sum_c n_c m_c - sum_c sqrt(n_c) s_c e_c),   V = sum_c n_c s_c^2
        D_left = n_left / n D + s sqrt(n_left n_right / n) e,   D_right = D - D_left,   w_i = m + D_i

    Each split has noise of its own, so that a part is the same number however it is asked for; the joint distribution
    of all parts is that of independent parts given their sum, exactly. Everything is float64.

    Args:
        counts: [C] int64, how many parts each label has; their sum is at most 2^53.
        mu_table, logvar_table: [C, D].
        w_sum: [D], as `compvae_fast.ops.prior_sum` with these counts gives it.
        seed: of the parts, an int or a 0-d int64 tensor.
        set_index: tells apart the sets of one seed.

    >>> import torch
    >>> counts = torch.tensor([3, 10**12])
    >>> mu, logvar = torch.tensor([[0.0], [2.0]]), torch.zeros(2, 1)
    >>> parts = PartsOfSum(counts, mu, logvar, torch.tensor([2e12 + 1], dtype=torch.float64), seed=1)
    >>> bool((parts[5:8] == torch.stack([parts[5], parts[6], parts[7]])).all())
    True
    >>> round((parts.sum(0, 7) + parts.sum(7, len(parts))).item() - 2e12, 3)
    1.0
    """

    def __init__(
        self, counts: Tensor, mu_table: Tensor, logvar_table: Tensor, w_sum: Tensor, *, seed: int | Tensor,
        set_index: int = 0,
    ):
        classes, width = mu_table.shape
        if counts.dtype not in (torch.int32, torch.int64) or tuple(counts.shape) != (classes,):
            raise ValueError(f"counts: expected integers [{classes}], got {counts.dtype} {list(counts.shape)}")
        if tuple(w_sum.shape) != (width,):
            raise ValueError(f"w_sum: expected shape [{width}], got {list(w_sum.shape)}")
        if classes and (int(counts.min()) < 0 or int(counts.sum()) > 2**53):
            raise ValueError("counts: expected values from 0 and a sum of at most 2^53")
        number = seed if isinstance(seed, Tensor) else torch.tensor((seed + 2**63) % 2**64 - 2**63)
        self._seed = torch.as_tensor(fold(fold(number, Stream.PARTS_OF_SUM), set_index))
        self._first = [0, *counts.to(torch.int64).cumsum(0).tolist()]
        present = counts[:, None] > 0
        self._mean = torch.where(present, mu_table.double(), 0)
        self._deviation = torch.where(present, torch.exp(logvar_table.double() / 2), 0)
        self._excess = self._of_labels(counts.double()[:, None], w_sum.double())

    def __len__(self) -> int:
        return self._first[-1]

    def __getitem__(self, index: int | slice) -> Tensor:
        """One part [D], or a slice of them [n, D], float64."""
        if isinstance(index, slice):
            first, last, step = index.indices(len(self))
            if step != 1:
                raise ValueError(f"index: expected a slice of step 1, got {step}")
            return self._nodes(first, max(first, last), whole=False)
        if not -len(self) <= index < len(self):
            raise IndexError(f"index: expected one of {len(self)} parts, got {index}")
        first = index % len(self)
        return self._nodes(first, first + 1, whole=False)[0]

    def sum(self, start: int, stop: int) -> Tensor:
        """The sum of parts start .. stop - 1, [D], at a cost of log K."""
        return self._nodes(start, stop, whole=True).sum(0)

    def labels(self, start: int, stop: int) -> Tensor:
        """The labels of parts start .. stop - 1, counted from 0, [n]."""
        return torch.searchsorted(torch.tensor(self._first[1:]), torch.arange(start, stop), right=True)

    def _of_labels(self, counts: Tensor, w_sum: Tensor) -> Tensor:
        """What the sum of each label has beyond its mean, [C, D]."""
        own = counts.sqrt() * self._deviation * self._noise(torch.arange(len(counts)), 0)
        variance = counts * self._deviation.square()
        total = variance.sum(0)
        share = torch.where(total > 0, variance / torch.where(total > 0, total, 1), 0)
        return own + share * (w_sum - (counts * self._mean).sum(0) - own.sum(0))

    def _noise(self, numbers: Tensor, label: int) -> Tensor:
        """Noise of the nodes with these numbers, [n, D]: node 0 stands for the labels themselves."""
        numbers, columns = numbers[:, None], torch.arange(self._mean.shape[1])
        return normal(fold(self._seed, label), numbers >> _LOW, numbers & ((1 << _LOW) - 1), columns).double()

    def _nodes(self, start: int, stop: int, whole: bool) -> Tensor:
        """The sums of the nodes that parts start .. stop - 1 are made of; the parts themselves unless ``whole``."""
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"parts: expected a range within 0..{len(self)}, got {start}..{stop}")
        found = [self._mean.new_zeros(0, self._mean.shape[1])]
        for label, (first, end) in enumerate(zip(self._first, self._first[1:])):
            if max(start, first) < min(stop, end):
                found.append(self._within(label, max(start, first) - first, min(stop, end) - first, end - first, whole))
        return torch.cat(found)

    def _within(self, label: int, start: int, stop: int, size: int, whole: bool) -> Tensor:
        number, first, sizes = torch.tensor([1]), torch.tensor([0]), torch.tensor([size])
        excess = self._excess[label : label + 1]
        while True:
            done = sizes == 1
            if whole:
                done |= (first >= start) & (first + sizes <= stop)
            if done.all():
                return sizes[:, None].double() * self._mean[label] + excess
            parent = excess[~done]
            n = sizes[~done]
            left = (n + 1) // 2
            share = (left.double() / n.double())[:, None]
            noise = self._deviation[label] * (share * (n - left).double()[:, None]).sqrt()
            excess_left = share * parent + noise * self._noise(number[~done], label + 1)
            children = (
                (2 * number[~done], first[~done], left, excess_left),
                (2 * number[~done] + 1, first[~done] + left, n - left, parent - excess_left),
            )
            kept = (number[done], first[done], sizes[done], excess[done])
            number, first, sizes, excess = (torch.cat(group) for group in zip(kept, *children))
            here = (first < stop) & (first + sizes > start)
            order = torch.argsort(first[here])
            number, first, sizes, excess = (t[here][order] for t in (number, first, sizes, excess))
