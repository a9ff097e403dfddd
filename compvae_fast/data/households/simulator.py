"""Electricity of single households, week by week."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ...random import Stream, fold, uniform
from .appliances import averaged, continuous, switched
from .causes import HALF_HOURS, Causes, causes
from .contracts import LABELS, column
from .numbers import Numbers
from .occupancy import occupancy
from .traits import traits

CHUNK = 512


def labels_of(households: Tensor, *, seed: int) -> Tensor:
    """The label of every household of the population, int64 like ``households``, by the contracts' shares.

    >>> labels_of(torch.arange(4), seed=0).shape
    torch.Size([4])
    """
    share = column("share").double().cumsum(0)
    u = uniform(fold(fold(seed, Stream.DATA), 1), households, torch.tensor(0), torch.tensor(0)).double()
    return (torch.searchsorted(share, u) + LABELS[0]).clamp(max=LABELS[1])


def weeks(labels: Tensor, households: Tensor, of_weeks: Tensor, *, seed: int) -> Tensor:
    """Half-hourly mean power of household-weeks, watts, [N, 336] float32, Monday 0:00 to Sunday 24:00.

    A row is a pure function of (seed, household, label, week): households of one week share its weather, days
    off and events, and a household keeps its people and equipment over the weeks.

    Args:
        labels: int64 [N], 1 to 13 (``CONTRACTS``).
        households: int64 [N], any numbers from 0 to 2^48 - 2.
        of_weeks: int64 [N], week 0 begins on Monday, 1 January 2018.
        seed: int; other seeds are other towns with another weather.

    Raises:
        ValueError: shapes that differ, or a label or week out of range.

    >>> weeks(torch.tensor([2, 2]), torch.tensor([0, 1]), torch.tensor([5, 5]), seed=0).shape
    torch.Size([2, 336])
    """
    for name, given in (("labels", labels), ("households", households), ("of_weeks", of_weeks)):
        if given.dtype != torch.int64 or given.shape != (len(labels),):
            raise ValueError(f"{name}: expected int64 [{len(labels)}], got {given.dtype} {list(given.shape)}")
    if labels.numel() and not (LABELS[0] <= int(labels.min()) and int(labels.max()) <= LABELS[1]):
        wrong = labels[(labels < LABELS[0]) | (labels > LABELS[1])]
        raise ValueError(f"labels: expected values in {LABELS[0]}..{LABELS[1]}, got {int(wrong[0])}")
    distinct, row = torch.unique(of_weeks, return_inverse=True)
    return under(causes(distinct, seed=weather(seed)), row, labels, households, of_weeks, seed=seed)


def under(
    shared: Causes, row: Tensor, labels: Tensor, households: Tensor, of_weeks: Tensor, *, seed: int
) -> Tensor:
    """``weeks`` under common causes given from outside: those of household-week i are row[i] of ``shared``."""
    seed = fold(seed, Stream.DATA)
    out = torch.empty(len(labels), HALF_HOURS)
    for first in range(0, len(labels), CHUNK):
        here = slice(first, first + CHUNK)
        own = Causes(**{f.name: getattr(shared, f.name)[row[here]] for f in dataclasses.fields(shared)})
        out[here] = _chunk(labels[here], households[here], of_weeks[here], own, seed)
    return out


def weather(seed: int) -> int:
    """The seed of a town's common causes."""
    return fold(fold(seed, Stream.DATA), 2)


def _chunk(labels: Tensor, households: Tensor, of_weeks: Tensor, shared: Causes, seed: int) -> Tensor:
    of = traits(labels, households, seed=fold(seed, 3))
    drawn = Numbers(fold(seed, 4), households, of_weeks)
    there = occupancy(of, shared, drawn)
    watts = continuous(of, shared, there, drawn) + averaged(switched(of, shared, there, drawn))
    return torch.minimum(watts.clamp(min=0), of.limit[:, None])


def temperature(of_weeks: Tensor, *, seed: int) -> Tensor:
    """The hourly temperature of weeks [W] in the same town, degrees Celsius, [W, 168]."""
    return causes(of_weeks, seed=weather(seed)).temperature


def year(households: int, *, seed: int, first_week: int = 0, count: int = 52) -> tuple[Tensor, Tensor, Tensor]:
    """A year of the first ``households`` of a town.

    Returns:
        watts [households, count, 336], labels [households], temperature [count, 168].

    >>> watts, labels, temperature = year(3, seed=1, count=2)
    >>> watts.shape, labels.shape, temperature.shape
    (torch.Size([3, 2, 336]), torch.Size([3]), torch.Size([2, 168]))
    """
    ids, which = torch.arange(households), torch.arange(first_week, first_week + count)
    labels = labels_of(ids, seed=seed)
    watts = weeks(labels.repeat_interleave(count), ids.repeat_interleave(count), which.repeat(households), seed=seed)
    return watts.view(households, count, HALF_HOURS), labels, temperature(which, seed=seed)
