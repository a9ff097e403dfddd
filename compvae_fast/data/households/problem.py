"""Neighbourhoods: weekly curves of households added up, as models, trainer and report know them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from ...nn.sets import Sets
from ...random import Stream, fold, uniform
from ..multisets import sample_labels
from ..problem import Batch, Description, Problem
from .causes import HALF_HOURS, HOURS, causes, under_temperature
from .contracts import CONTRACTS, LABELS, column
from .simulator import labels_of, temperature, under, weather, weeks

TOWN = 2018
KILOWATT = 1000.0
_SHARES = 10_000
_ALIKE = 32


class Pool:
    """Weeks of the same households' number each, simulated when they are first asked for.

    Args:
        weeks: W. per_week: H. All of them take 24 s and 430 MB at 1,040 weeks of 307 households.

    Attributes:
        labels: [W, H]; temperature: [W, 168].
    """

    def __init__(self, weeks: int, per_week: int) -> None:
        self.ids = torch.arange(weeks * per_week).view(weeks, per_week)
        self.labels = labels_of(self.ids, seed=TOWN)
        self.temperature = temperature(torch.arange(weeks), seed=TOWN)
        self._curves = torch.empty(weeks, per_week, HALF_HOURS)
        self._there = torch.zeros(weeks, dtype=torch.bool)

    def curves(self, of_weeks: Tensor) -> Tensor:
        """[W H, 336] in kW, of which the weeks asked for are there."""
        missing = of_weeks.unique()
        missing = missing[~self._there[missing]]
        if len(missing):
            ids = self.ids[missing]
            week = missing[:, None].expand_as(ids).flatten()
            drawn = weeks(self.labels[missing].flatten(), ids.flatten(), week, seed=TOWN)
            self._curves[missing] = drawn.view(*ids.shape, HALF_HOURS) / KILOWATT
            self._there[missing] = True
        return self._curves.flatten(0, 1)


class Neighbourhoods(Problem):
    """Weeks of K households: 336 half-hourly means of their sum, kW, Monday 0:00 to Sunday 24:00.

        x = sum_i curve(household i, week),  households distinct, the week and all that is common in it shared

    l_i is the contract (``CONTRACTS``), c the week's 168 hourly temperatures.

    Attributes:
        source: where the households are from, and at_temperature: what is true at a temperature that no week has.
    """

    name = "households"
    shape = (HALF_HOURS,)
    labels = LABELS
    label_names = tuple(contract.name for contract in CONTRACTS)
    context = HOURS
    grows_with_parts = True
    axis = "half hours from Monday, 0:00; kW"
    source: str
    at_temperature: str

    def example(self):
        """Eight households of each contract."""
        first, last = self.labels
        return Description(torch.arange(first, last + 1).repeat_interleave(8)[None], None)

    def chosen(
        self, counts: Tensor, of_set: Tensor, part: Tensor, *, seed: int | Tensor, set_start: int
    ) -> tuple[Tensor, Tensor]:
        """A training week of every set [B] of ``counts`` parts, and the cells [N] of distinct households of it."""
        raise NotImplementedError

    def cells(self, of_weeks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Curves [N, 336] in kW and labels [N] of all cells, of which these weeks' are there; temperature [W, 168]."""
        raise NotImplementedError

    def independent(self, labels: Tensor, n: int, *, seed: int) -> Tensor:
        """n sums [n, 336], kW, of households of the labels [K], each in a week of its own: no common causes.

        The plain Monte-Carlo simulator, which draws curves of such households from a record of years.
        """
        raise NotImplementedError

    def nested(self, labels: Tensor, sizes: Sequence[int], *, context: Tensor, seed: int) -> dict[int, Tensor]:
        """True wholes [n, 336] of the first k labels [K] at temperatures [n, 168], for every k of ``sizes``."""
        return {k: self.wholes(labels[:k].expand(len(context), -1), context=context, seed=seed) for k in sizes}

    def draw(
        self, batch, k_max, *, seed, set_start=0, device=None, k_min=1, k_exponent=0.0, k_per_batch=None, labels=None
    ):
        """A training batch: a week, K of its households, their sum and the week's temperature."""
        if labels is not None and tuple(labels) != self.labels:
            raise ValueError(f"labels: expected {self.labels}, all contracts, got {tuple(labels)}")
        if k_max > self.most_parts:
            raise ValueError(f"k_max: expected at most {self.most_parts} households of one week, got {k_max}")
        sizes = {"k_min": k_min, "k_exponent": k_exponent, "k_per_batch": k_per_batch}
        shape, offsets = sample_labels(batch, k_max, labels=(0, 0), seed=seed, set_start=set_start, **sizes)
        sets = Sets.of(shape, offsets)
        of_set, part = (i.expand(*shape.shape, 1).flatten() for i in sets.positions(shape.shape[-1]))
        week, cell = self.chosen(sets.counts, of_set, part, seed=seed, set_start=set_start)
        curves, found, temperature = self.cells(week)
        bags = offsets[:-1] if offsets is not None else None
        cell = cell.view_as(shape)
        x = F.embedding_bag(cell, curves, bags, mode="sum")
        given = x, found[cell], offsets, None, temperature[week]
        return Batch(*(None if value is None else value.to(device or "cpu") for value in given))

    def separately(self, labels, n, *, features=None, context=None, seed):
        """The wholes themselves: consumption adds up."""
        each = None if context is None else context.expand(n, -1)
        return self.wholes(labels.expand(n, -1), features=features, context=each, seed=seed)

    def rivals(self, labels, n, *, features=None, context=None, seed):
        return {"saturated": self.independent(labels, n, seed=seed)}


def random_week(count: int, seed: int | Tensor, start: int, weeks: int) -> Tensor:
    """A week of 0 .. weeks - 1 for each of ``count`` sets."""
    drawn = uniform(fold(seed, Stream.DATA), torch.arange(count) + start, torch.tensor(0), torch.tensor(0))
    return (drawn.double() * weeks).long().clamp(max=weeks - 1)


class Households(Neighbourhoods):
    """Neighbourhoods of one simulated town.

    Training batches (``draw``) come from a pool: ``weeks`` weeks with ``per_week`` households each, drawn from the
    whole town, of which every whole takes a week and K of its households. All else (``wholes``, ``sample_context``) is
    simulated afresh, of the weeks after the pool's, so that what is measured was never trained on.

    Args:
        weeks: W, of the pool.
        per_week: H, prime: K <= H distinct households are every b-th from a random one on.
    """

    source = "The town is simulated."
    at_temperature = "True weeks are simulated at these temperatures, with the calendar of the weeks most alike."

    def __init__(self, weeks: int = 1040, per_week: int = 307) -> None:
        self.weeks, self.per_week = weeks, per_week
        self.most_parts = per_week

    @cached_property
    def pool(self) -> Pool:
        """What training batches are drawn from."""
        return Pool(self.weeks, self.per_week)

    @cached_property
    def later(self) -> Tensor:
        """Temperature [W, 168] of as many weeks after the pool's."""
        return temperature(torch.arange(self.weeks, 2 * self.weeks), seed=TOWN)

    def sample_labels(self, batch, k_max, *, labels=None, **options):
        """Multisets with the contracts' shares, of those within ``labels`` alone where given."""
        first, last = self.labels if labels is None else labels
        fine, offsets = sample_labels(batch, k_max, labels=(1, _SHARES), **options)
        shares = column("share").double()[first - 1 : last].cumsum(0)
        place = (fine.double() - 0.5) / _SHARES * shares[-1]
        return (torch.searchsorted(shares.to(fine.device), place) + first).clamp(max=last), offsets

    def sample_context(self, batch, *, seed, set_start=0, device=None):
        week = random_week(batch, seed, set_start, self.weeks)
        return self.later[week].to(device or "cpu")

    def wholes(
        self, labels, *, offsets=None, lengths=None, features=None, context=None, seed, set_start=0, part_start=0
    ):
        """Simulated wholes [B, 336], kW, of these contracts at these temperatures [B, 168].

        A temperature does not tell the calendar, the daylight or an event; they are those of one of the 32 weeks
        most alike in temperature, drawn at random, which then gets the temperature asked for.
        """
        self.check(features, context)
        sets = Sets.of(labels, offsets, lengths)
        seed = fold(seed, Stream.DATA) if isinstance(seed, int) else int(fold(seed, Stream.DATA))
        if labels.numel() == 0:
            return torch.zeros(sets.batch, HALF_HOURS)
        distance = torch.cdist(context.double(), self.later.double())
        alike = distance.topk(min(_ALIKE, self.weeks), largest=False).indices
        choice = random_week(sets.batch, fold(seed, 1), set_start, alike.shape[1])
        week = self.weeks + alike.gather(1, choice[:, None]).squeeze(1)
        shared = under_temperature(causes(week, seed=weather(TOWN)), context.float())
        of_set, of_part = sets.positions(labels.shape[-1])
        of_set, part = (i.expand(*labels.shape, 1).squeeze(-1) for i in (of_set, of_part + part_start))
        kept = torch.ones_like(labels, dtype=torch.bool) if sets.mask is None else sets.mask
        row, part, label = of_set[kept], part[kept], labels[kept].long()
        # a town of households of its own for every set
        curves = under(shared, row, label, (row + set_start) * 2**24 + part, week[row], seed=fold(seed, 2))
        return torch.zeros(sets.batch, HALF_HOURS).index_add_(0, row, curves / KILOWATT)

    def chosen(self, counts, of_set, part, *, seed, set_start):
        drawn = fold(fold(seed, Stream.DATA), 3)
        index = torch.arange(len(counts)) + set_start
        u = uniform(drawn, index[:, None], torch.tensor(0), torch.arange(3)).double()
        week = (u[:, 0] * self.weeks).long().clamp(max=self.weeks - 1)
        first = (u[:, 1] * self.per_week).long()
        stride = 1 + (u[:, 2] * (self.per_week - 1)).long().clamp(max=self.per_week - 2)
        member = torch.remainder(first[of_set] + stride[of_set] * part, self.per_week)
        return week, week[of_set] * self.per_week + member

    def cells(self, of_weeks):
        return self.pool.curves(of_weeks), self.pool.labels.flatten(), self.pool.temperature

    def nested(self, labels, sizes, *, context, seed):
        total, found, before = torch.zeros(len(context), HALF_HOURS), {}, 0
        for k in sorted(sizes):
            more = labels[before:k].expand(len(context), -1)
            found[k] = total = total + self.wholes(more, context=context, seed=seed, part_start=before)
            before = k
        return found

    def independent(self, labels, n, *, seed):
        seed = fold(fold(seed, Stream.DATA), 4)
        k = len(labels)
        week = self.weeks + random_week(n * k, seed, 0, self.weeks)
        # households of one town under its weather, at times that have nothing to do with each other
        distinct, row = torch.unique(week, return_inverse=True)
        shared = causes(distinct, seed=weather(TOWN))
        ids = torch.arange(n * k)
        curves = under(shared, row, labels.repeat(n), ids, week, seed=fold(seed, 2))
        return curves.view(n, k, HALF_HOURS).sum(1) / KILOWATT


PROBLEM = Households()
