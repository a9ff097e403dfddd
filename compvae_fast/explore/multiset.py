"""How many parts of each label the user has put together; every change gives a new one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

MOST = 10**6


@dataclass(frozen=True)
class Multiset:
    """Parts by their labels.

    Args:
        labels: every label there is, in order.
        counts: how many parts have it, 0 to ``MOST``.

    >>> Multiset.empty([1, 2, 3]).put(2, 5).add(3).repeated(2).counts
    (0, 10, 2)
    """

    labels: tuple[int, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.counts):
            raise ValueError(f"counts: expected {len(self.labels)} of them, got {len(self.counts)}")
        for label, count in zip(self.labels, self.counts):
            if not 0 <= count <= MOST:
                raise ValueError(f"counts: expected 0 to {MOST} parts of label {label}, got {count}")

    @classmethod
    def empty(cls, labels) -> Multiset:
        """No part of any of ``labels``."""
        labels = tuple(labels)
        return cls(labels, (0,) * len(labels))

    @property
    def total(self) -> int:
        """K, the number of parts."""
        return sum(self.counts)

    def put(self, label: int, count: int) -> Multiset:
        """With ``count`` parts of ``label``, at the nearest number that may be. Raises ValueError for no such label."""
        if label not in self.labels:
            raise ValueError(f"label: expected one of {self.labels[0]}..{self.labels[-1]}, got {label}")
        count = min(max(int(count), 0), MOST)
        return replace(self, counts=tuple(count if here == label else c for here, c in zip(self.labels, self.counts)))

    def add(self, label: int, parts: int = 1) -> Multiset:
        """With ``parts`` more of ``label`` (negative: fewer, down to none)."""
        return self.put(label, self.count(label) + parts)

    def count(self, label: int) -> int:
        """How many parts have ``label``."""
        return dict(zip(self.labels, self.counts)).get(label, 0)

    def repeated(self, times: int) -> Multiset:
        """Every part ``times`` times, up to ``MOST`` of a label."""
        return replace(self, counts=tuple(min(count * times, MOST) for count in self.counts))

    def halved(self) -> Multiset:
        """Half the parts of each label, rounded down."""
        return replace(self, counts=tuple(count // 2 for count in self.counts))

    def cleared(self) -> Multiset:
        """No part."""
        return self.empty(self.labels)

    def drawn(self, parts: int, generator: np.random.Generator) -> Multiset:
        """``parts`` parts of labels drawn at random."""
        drawn = generator.multinomial(parts, [1 / len(self.labels)] * len(self.labels))
        return replace(self, counts=tuple(min(int(count), MOST) for count in drawn))
