"""Which parts the user has put together, and how often each; every change gives a new multiset."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

MOST = 10**6
MOST_PLACES = 40


class Part(NamedTuple):
    """A part as users tell it from others: its label, and its features where the problem's parts have any."""

    label: int
    features: tuple[float, ...] = ()


@dataclass(frozen=True)
class Multiset:
    """Parts and how often each is there.

    Parts that labels alone describe are all listed, with a count of 0 where there are none. Parts with features come
    when they are first put in and go with the last of them; ``MOST_PLACES`` of them may differ.

    Args:
        parts: different ones.
        counts: how often each is there, 0 to ``MOST``.

    >>> some = Multiset.empty([1, 2, 3]).put(Part(2), 5).add(Part(3)).repeated(2)
    >>> some.counts
    (0, 10, 2)
    >>> some.put(Part(1, (0.5, -0.2)), 1).add(Part(1, (0.5, -0.2))).counts
    (0, 10, 2, 2)
    """

    parts: tuple[Part, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.parts) != len(self.counts):
            raise ValueError(f"counts: expected {len(self.parts)} of them, got {len(self.counts)}")
        for part, count in zip(self.parts, self.counts):
            if not 0 <= count <= MOST:
                raise ValueError(f"counts: expected 0 to {MOST} parts of label {part.label}, got {count}")

    @classmethod
    def empty(cls, labels: Iterable[int] = ()) -> Multiset:
        """No part of any of ``labels``."""
        parts = tuple(Part(label) for label in labels)
        return cls(parts, (0,) * len(parts))

    @property
    def total(self) -> int:
        """K, the number of parts."""
        return sum(self.counts)

    @property
    def labels(self) -> tuple[int, ...]:
        """The label of each of ``parts``."""
        return tuple(part.label for part in self.parts)

    def put(self, part: Part, count: int) -> Multiset:
        """With ``count`` of a part, at the nearest number that may be; beyond ``MOST_PLACES`` none is new.

        Raises ValueError for a part without features that is not listed.
        """
        count = min(max(int(count), 0), MOST)
        if part not in self.parts:
            if not part.features:
                raise ValueError(f"label: expected one of {self.labels}, got {part.label}")
            if sum(bool(other.features) for other in self.parts) >= MOST_PLACES:
                return self
            return Multiset((*self.parts, part), (*self.counts, count))._kept()
        counts = (count if here == part else other for here, other in zip(self.parts, self.counts))
        return Multiset(self.parts, tuple(counts))._kept()

    def add(self, part: Part, more: int = 1) -> Multiset:
        """With ``more`` of a part (negative: fewer, down to none)."""
        return self.put(part, self.count(part) + more)

    def count(self, part: Part) -> int:
        """How often a part is there."""
        return dict(zip(self.parts, self.counts)).get(part, 0)

    def repeated(self, times: int) -> Multiset:
        """Every part ``times`` times, up to ``MOST`` of each."""
        return Multiset(self.parts, tuple(min(count * times, MOST) for count in self.counts))._kept()

    def halved(self) -> Multiset:
        """Half of each, rounded down."""
        return Multiset(self.parts, tuple(count // 2 for count in self.counts))._kept()

    def cleared(self) -> Multiset:
        """No part."""
        return self.repeated(0)

    def _kept(self) -> Multiset:
        """Without the parts with features of which there is none left."""
        kept = [(part, count) for part, count in zip(self.parts, self.counts) if count or not part.features]
        return Multiset(tuple(part for part, _ in kept), tuple(count for _, count in kept))
