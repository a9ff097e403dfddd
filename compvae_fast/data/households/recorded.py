"""Neighbourhoods of users' own households, in place of the simulated town."""

from __future__ import annotations

import datetime
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ...nn.sets import Sets
from ...random import Stream, fold, uniform
from ..multisets import sample_labels
from .causes import HOURS
from .problem import KILOWATT, Neighbourhoods, random_week
from .reader import Record

if TYPE_CHECKING:
    from .files import RecordFiles

_MISSING = 2.0


class Weeks(NamedTuple):
    """Some of a record's weeks, at least one.

    Args:
        mondays: their first days.
        cell: [W, H], where the curves of the record's households lie, -1 where a household has no such week.
        size: [W], how many have.
        temperature: [W, 168].
    """

    mondays: list[datetime.date]
    cell: Tensor
    size: Tensor
    temperature: Tensor

    def shuffled(self, week: Tensor, *, seed: int | Tensor, set_start: int) -> Tensor:
        """Random numbers [B, H] in [0, 1) of every set's households; 2 where its week [B] has none of them."""
        index = torch.arange(len(week))[:, None] + set_start
        drawn = uniform(seed, index, torch.tensor(1), torch.arange(self.cell.shape[1])).double()
        return torch.where(self.cell[week] < 0, _MISSING, drawn)


class Recorded(Neighbourhoods):
    """Neighbourhoods of the households of a record.

    The last ``held_out`` of the record's weeks measure; those before train. A whole is the sum of K distinct households
    in one week, all that have it being as likely, so that K can be no larger than they are. True wholes of given
    contracts at given temperatures are of the held-out week most alike in temperature, or, without temperatures, of
    any. Multisets that measure are drawn from as many households of every contract as each held-out week has.

    Args:
        files: where the record is; read when it is first needed, so that generating does without it.
        labels: smallest and largest; (1, 1) takes all households as alike, whatever their contracts.
    """

    def __init__(self, files: RecordFiles, labels: tuple[int, int]) -> None:
        self.files, self.labels = files, labels

    at_temperature = "True weeks are the held-out one most alike in temperature."

    @property
    def source(self) -> str:  # type: ignore[override]
        """For reports."""
        (first, *_), (*_, last) = self.training.mondays, self.held_out.mondays
        return (
            f"Curves are of {len(self.record.names)} households of a record, whose weeks begin from {first} to {last}; "
            f"trained on: the first {len(self.training.mondays)}; measured by: the last {len(self.held_out.mondays)}."
        )

    @cached_property
    def record(self) -> Record:
        """The weeks, as ``read`` gives them. Raises ValueError or OSError, naming the file."""
        return self.files.read()

    def open(self) -> None:
        self.files.settled(self.files.sha256)
        _ = self.training, self.held_out

    @cached_property
    def curves(self) -> Tensor:
        """[N, 336], kW."""
        return self.record.watts / KILOWATT

    @cached_property
    def of_cells(self) -> Tensor:
        """Label of every curve, [N]."""
        known = self.record.labels
        if known is None or self.labels == (1, 1):
            return torch.ones_like(self.record.household)
        return known[self.record.household]

    @cached_property
    def training(self) -> Weeks:
        """All weeks but the last."""
        return self._weeks(0, len(self.record.mondays) - self._measured_weeks)

    @cached_property
    def held_out(self) -> Weeks:
        """The last weeks."""
        weeks = len(self.record.mondays)
        return self._weeks(weeks - self._measured_weeks, weeks)

    @property
    def _measured_weeks(self) -> int:
        weeks = len(self.record.mondays)
        if weeks < 2:
            without = f"; {len(self.record.left_out)} are left out, the first: {self.record.left_out[0]}" \
                if self.record.left_out else ""
            raise ValueError(f"data: expected two weeks at least, to train and to measure, got {weeks}{without}")
        return min(max(1, round(self.files.held_out * weeks)), weeks - 1)

    def _weeks(self, first: int, last: int) -> Weeks:
        record = self.record
        cell = torch.full((last - first, len(record.names)), -1)
        here = ((record.week >= first) & (record.week < last)).nonzero().squeeze(1)
        cell[record.week[here] - first, record.household[here]] = here
        degrees = torch.zeros(len(record.mondays), HOURS) if record.temperature is None else record.temperature
        return Weeks(record.mondays[first:last], cell, (cell >= 0).sum(1), degrees[first:last])

    @property
    def most_parts(self) -> int:  # type: ignore[override]
        """As many households as the fullest training week has."""
        return int(self.training.size.max())

    @property
    def most_measured(self) -> int:  # type: ignore[override]
        """As many as both the training and every held-out week can serve."""
        return min(int(self._by_label.sum()), self.most_parts)

    @cached_property
    def _by_label(self) -> Tensor:
        """How many households of each label every held-out week has, [last label + 1]."""
        return self._available(self.held_out).amin(0)

    def _available(self, weeks: Weeks) -> Tensor:
        there = F.one_hot(self.of_cells[weeks.cell.clamp(min=0)], self.labels[1] + 1)
        return (there * (weeks.cell >= 0)[..., None]).sum(1)

    def chosen(self, counts, of_set, part, *, seed, set_start):
        drawn = fold(fold(seed, Stream.DATA), 3)
        weeks = self.training
        # the weeks that have K households, the fullest first
        fullest = weeks.size.argsort(descending=True, stable=True)
        able = (weeks.size >= counts[:, None]).sum(1)
        u = uniform(drawn, torch.arange(len(counts)) + set_start, torch.tensor(0), torch.tensor(0)).double()
        week = fullest[torch.minimum((u * able).long(), able - 1)]
        order = weeks.shuffled(week, seed=drawn, set_start=set_start).argsort(1)
        return week, weeks.cell[week].gather(1, order)[of_set, part]

    def cells(self, of_weeks):
        return self.curves, self.of_cells, self.training.temperature

    def sample_labels(self, batch, k_max, *, labels=None, seed, set_start=0, device=None, **options):
        """Multisets of contracts that distinct households of every held-out week have."""
        first, last = self.labels if labels is None else labels
        owners = torch.repeat_interleave(torch.arange(first, last + 1), self._by_label[first : last + 1])
        if k_max > len(owners):
            raise ValueError(f"k_max: expected at most {len(owners)} households of every held-out week, got {k_max}")
        shape, offsets = sample_labels(batch, k_max, labels=(0, 0), seed=seed, set_start=set_start, **options)
        places = Sets.of(shape, offsets).positions(shape.shape[-1])
        of_set, part = (i.expand(*shape.shape, 1).squeeze(-1) for i in places)
        index = torch.arange(batch)[:, None] + set_start
        drawn = uniform(fold(fold(seed, Stream.LABELS), 1), index, torch.tensor(0), torch.arange(len(owners)))
        found = owners[drawn.argsort(1)[of_set, part]]
        return found.to(device or "cpu"), None if offsets is None else offsets.to(device or "cpu")

    def sample_context(self, batch, *, seed, set_start=0, device=None):
        week = random_week(batch, seed, set_start, len(self.held_out.mondays))
        return self.held_out.temperature[week].to(device or "cpu")

    def wholes(
        self, labels, *, offsets=None, lengths=None, features=None, context=None, seed, set_start=0, part_start=0
    ):
        """Sums [B, 336], kW, of distinct households of these contracts in the held-out week most alike in temperature.

        Raises ValueError for more households of a contract than that week has.
        """
        self.check(features, context)
        if part_start:
            raise ValueError(f"part_start: expected 0, for households are distinct from those before; got {part_start}")
        sets = Sets.of(labels, offsets, lengths)
        seed = fold(fold(seed, Stream.DATA), 5)
        weeks = self.held_out
        if self.record.temperature is None:
            week = random_week(sets.batch, seed, set_start, len(weeks.mondays))
        else:
            week = torch.cdist(context.double(), weeks.temperature.double()).argmin(1)
        of_set, _ = sets.positions(labels.shape[-1])
        kept = torch.ones_like(labels, dtype=torch.bool) if sets.mask is None else sets.mask
        row, label = of_set.expand(*labels.shape, 1).squeeze(-1)[kept], labels[kept].long()
        # households by label, in a random order within it; those without the week last
        there = weeks.cell[week]
        kind = torch.where(there < 0, self.labels[1] + 1, self.of_cells[there.clamp(min=0)])
        order = (kind + weeks.shuffled(week, seed=seed, set_start=set_start).remainder(1)).argsort(1)
        available = self._available(weeks)[week]
        rank = _ranks(row * (self.labels[1] + 1) + label)
        lacking = (rank >= available[row, label]).nonzero()
        if len(lacking):
            at = int(lacking[0])
            raise ValueError(
                f"labels: expected at most {int(available[row[at], label[at]])} of label {int(label[at])}, as many as "
                f"the week of {weeks.mondays[int(week[row[at]])]} has, got more"
            )
        place = (available.cumsum(1) - available)[row, label] + rank
        bags = sets.counts.cumsum(0) - sets.counts
        return F.embedding_bag(there.gather(1, order)[row, place], self.curves, bags, mode="sum")

    def independent(self, labels, n, *, seed):
        """Each household in a held-out week of its own; one may be there in several."""
        seed = fold(fold(seed, Stream.DATA), 6)
        there = self.held_out.cell[self.held_out.cell >= 0]
        there = there[self.of_cells[there].argsort(stable=True)]
        number = torch.bincount(self.of_cells[there], minlength=self.labels[1] + 1)
        u = uniform(seed, torch.arange(n)[:, None], torch.tensor(0), torch.arange(len(labels))).double()
        place = torch.minimum((u * number[labels]).long(), number[labels] - 1)
        cell = there[(number.cumsum(0) - number)[labels] + place]
        return F.embedding_bag(cell, self.curves, mode="sum")


def _ranks(values: Tensor) -> Tensor:
    """How many equal values stand before each, [N] -> [N].

    >>> _ranks(torch.tensor([4, 2, 4, 4])).tolist()
    [0, 0, 1, 2]
    """
    order = values.argsort(stable=True)
    _, counts = torch.unique_consecutive(values[order], return_counts=True)
    first = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    out = torch.empty_like(order)
    out[order] = torch.arange(len(values)) - first
    return out
