"""The uses of electricity: what runs while someone is there, what is switched on, and what follows the weather."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .causes import HALF_HOURS, Causes
from .numbers import Numbers
from .occupancy import Occupancy
from .traits import Traits

_DAY = torch.arange(7)
_TAIL = 48


class Runs(NamedTuple):
    """Switched-on spells [N, E]: their begin and length in hours from Monday 0:00, and power in watts (0: none)."""

    begin: Tensor
    length: Tensor
    power: Tensor


def continuous(of: Traits, causes: Causes, there: Occupancy, drawn: Numbers) -> Tensor:
    """Refrigeration, standby, lamps, screens and heating, watts [N, 336]."""
    active = there.active
    room = 20 + 0.25 * (causes.felt - 15)
    cold = of.cold[:, None] * (1 + 0.03 * (room - 20)) + 10 * drawn.normal(HALF_HOURS)
    some = active.clamp(max=1)
    lamps = of.lighting[:, None] * (causes.dark * (0.6 * some + 0.4 * active) + 0.06 * some)
    evening = torch.ones(48)
    evening[:36], evening[36:46] = 0.9, 1.1
    screens = of.electronics[:, None] * (0.55 * some + 0.45 * active) * evening.repeat(7)
    screens = screens * (0.25 * drawn.normal(7)).exp().repeat_interleave(48, dim=1)
    match = torch.zeros(48)
    match[42:46] = 140.0
    screens = screens + (there.watching[:, :, None] * match).flatten(1)
    # boilers that burn gas or oil have pumps and fans
    fans = 4.0 * (of.heating[:, None] == 0) * (17.0 - causes.felt).clamp(min=0)
    return cold + of.standby[:, None] + lamps + screens + fans + _heating(of, causes, there, drawn)


def _heating(of: Traits, causes: Causes, there: Occupancy, drawn: Numbers) -> Tensor:
    """Electric heating: the loss through the walls from 16.5 degrees down, less at night and in empty homes."""
    home = there.active.clamp(max=1)
    empty = there.away.repeat_interleave(48, dim=1)
    # thermostats lag behind: warmer rooms linger for an hour or two
    kept = (home + home.roll(1, 1) + home.roll(2, 1) + home.roll(3, 1)) / 4
    setback = 2.2 * (1 - kept) + 4.5 * empty
    boost = 1.2 * (home - home.roll(3, 1)).clamp(min=0)
    missing = (16.5 - setback + boost - causes.felt).clamp(min=0)
    # heating is off in summer, whatever the night
    season = ((16.0 - causes.felt.mean(1)) / 4).clamp(0, 1)[:, None]
    efficiency = torch.where(of.pump[:, None] > 0, 1 / (2.2 + 0.06 * causes.felt).clamp(min=1.4), 1.0)
    cycling = (1 + 0.3 * drawn.normal(HALF_HOURS)).clamp(min=0)
    need = of.heating[:, None] * missing * season * efficiency * cycling
    return torch.minimum(need, 0.75 * of.limit[:, None])


def switched(of: Traits, causes: Causes, there: Occupancy, drawn: Numbers) -> list[Runs]:
    """All spells of meals, small appliances, machines, water heaters and cars."""
    return [
        *_meals(of, causes, there, drawn),
        _small(of, causes, there, drawn),
        *_machines(of, causes, there, drawn),
        _water(of, causes, there, drawn),
        _car(of, there, drawn),
    ]


def _at(day_hours: Tensor) -> Tensor:
    """Hours of the day [N, 7, E] as hours of the week [N, 7 E]."""
    return (day_hours + 24.0 * _DAY[:, None]).flatten(1)


def _if_active(there: Occupancy, begin: Tensor) -> Tensor:
    """How many adults are active at times of the week [N, E], up to 1.5."""
    cell = (begin * 2).long().clamp(0, HALF_HOURS - 1)
    return there.active.gather(1, cell).clamp(max=1.5)


def _meals(of: Traits, causes: Causes, there: Occupancy, drawn: Numbers) -> list[Runs]:
    """Breakfast, lunch and dinner of every day."""
    n, u = drawn.normal(7, 3), drawn.uniform(7, 3)
    free, sunday = causes.free[..., None], causes.sunday[..., None]
    usual = torch.tensor([7.2, 11.6, 18.1])
    shift = torch.tensor([1.7, 0.2, 0.1]) * free
    begin = _at(usual + shift + torch.tensor([1.1, 1.1, 1.4]) * n)
    power = torch.tensor([800.0, 1050.0, 1050.0]) * of.cooking[:, None, None] * (0.55 + 0.75 * u)
    length = torch.tensor([0.2, 0.55, 0.6]) * (1 + 0.3 * sunday) * (0.5 + u.roll(1, 2))
    chance = torch.tensor([0.85, 0.75, 0.7])
    cooked = (drawn.uniform(7, 3) < chance).flatten(1) * _if_active(there, begin).clamp(max=1)
    return [Runs(begin, length.flatten(1), power.flatten(1) * cooked)]


def _small(of: Traits, causes: Causes, there: Occupancy, drawn: Numbers) -> Runs:
    """Kettles, irons, hair dryers, vacuum cleaners: six occasions a day, taken where someone is active."""
    u = drawn.uniform(7, 6, 3)
    begin = _at(6.5 + 17.0 * u[..., 0])
    often = 0.48 * (of.small[:, None] * (1 + 0.35 * causes.free)).repeat_interleave(6, dim=1)
    taken = (drawn.uniform(42) < often) * _if_active(there, begin)
    power = (700 + 1300 * u[..., 1]).flatten(1)
    return Runs(begin, (0.06 + 0.3 * u[..., 2] ** 2).flatten(1), power * taken)


def _machines(of: Traits, causes: Causes, there: Occupancy, drawn: Numbers) -> list[Runs]:
    """Washing machine and dryer, dishwasher: by day where someone is active, or by a timer in the cheaper hours."""
    u, chance = drawn.uniform(7, 3), drawn.uniform(7, 3)
    timer = (of.timer[:, None] > 0) & (chance[..., 2] < 0.7)
    cheap = of.cheap[:, None] + 0.5 * u[..., 2]
    washed = chance[..., 0] < (0.1 + 0.11 * of.persons * of.washing)[:, None] * (1 + 0.45 * causes.free)
    day = _at((8.2 + 10.0 * u[..., 0])[..., None])
    begin = torch.where(timer, cheap + 24.0 * _DAY, day)
    home = torch.maximum(_if_active(there, day).clamp(max=1), timer * 0.9) * (1 - there.away)
    washing = Runs(begin, 1.1 + 0.6 * u[..., 1], 560 * washed * home)
    drying = Runs(begin + washing.length + 0.2, 0.9 + 0.6 * u[..., 1], 1500 * washed * home * of.dryer[:, None])
    dirty = of.dishwasher[:, None] * (chance[..., 1] < (0.22 + 0.1 * of.persons)[:, None])
    evening = _at((torch.where(u[..., 1] < 0.35, 12.8, 18.0) + 4.2 * u[..., 0])[..., None])
    rinsed = torch.maximum(_if_active(there, evening).clamp(max=1), timer * 0.9) * (1 - there.away)
    dishes = Runs(torch.where(timer, cheap + 24.0 * _DAY, evening), 0.9 + 0.5 * u[..., 2], 830 * dirty * rinsed)
    return [washing, drying, dishes]


def _water(of: Traits, causes: Causes, there: Occupancy, drawn: Numbers) -> Runs:
    """A storage water heater: two spells a day that make up for what was drawn; mains are colder in winter."""
    jitter, use = drawn.normal(7, 2), (0.25 * drawn.normal(7, 1)).exp()
    colder = 1 - 0.13 * causes.season[:, None, None]
    need = of.boiler_need[:, None, None] * of.boiler_share[:, None, :] * colder * use
    need = torch.where(there.away[..., None] > 0, 350.0 * of.boiler_share[:, None, :], need)
    begin = of.boiler_start[:, None, :] + 0.08 * jitter
    power = of.boiler[:, None, None].expand_as(need)
    return Runs(_at(begin), (need / power.clamp(min=1)).flatten(1), power.flatten(1))


def _car(of: Traits, there: Occupancy, drawn: Numbers) -> Runs:
    """An electric car, charged from the beginning of the cheaper hours or in the evening on half of the days."""
    u = drawn.uniform(7, 2)
    begin = torch.where(of.cheap > 1, of.cheap, 18.5)[:, None] + 0.2 + u[..., 0] + 24.0 * _DAY
    charges = (u[..., 1] < 0.55) * (1 - there.away)
    return Runs(begin, 0.8 + 4.5 * u[..., 1], of.car[:, None] * charges)


def averaged(runs: list[Runs]) -> Tensor:
    """Mean watts of every half hour of the week, [N, 336], of all spells together.

    A spell from a to b adds P (share of the half hour within [a, b)); what lies beyond Sunday night is that
    of the Sunday before and comes back on Monday morning.
    """
    begin = 2 * torch.cat([run.begin for run in runs], 1).clamp(min=0)
    length = 2 * torch.cat([run.length for run in runs], 1).clamp(0, _TAIL / 2)
    power = torch.cat([run.power for run in runs], 1)
    # the running sum of these steps is the power, and a step within a half hour is shared between it and the next
    cells = HALF_HOURS + _TAIL
    steps = power.new_zeros(len(power), cells + 2)
    for time, step in ((begin, power), (begin + length, -power)):
        time = time.clamp(max=float(cells))
        cell = time.long()
        later = step * (time - cell)
        steps.scatter_add_(1, cell, step - later)
        steps.scatter_add_(1, cell + 1, later)
    watts = steps.cumsum(1)
    week = watts[:, :HALF_HOURS]
    week[:, :_TAIL] += watts[:, HALF_HOURS:cells]
    return week.clamp(min=0)
