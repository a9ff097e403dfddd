"""What all households of a week have in common: weather, daylight, days off and shared events.

Week 0 begins on Monday, 1 January 2018; every quantity is a pure function of (seed, week), in local time
without the hour of a clock change (but daylight follows summer time). The climate is that of the Paris basin:
12 degrees on average, 4 in January and 20 in July, days that differ by 3 to 4 degrees and last like their neighbours.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...random import fold, normal, uniform

HALF_HOURS = 336
HOURS = 168
_FIRST_MONDAY = datetime.date(2018, 1, 1)
_LATITUDE = math.radians(48.8)
_MEMORY = 12
_YEAR = 365.2425
_FIXED = ((1, 1), (5, 1), (5, 8), (7, 14), (8, 15), (11, 1), (11, 11), (12, 25))
_AFTER_EASTER = (1, 39, 50)
# Begin and end of school holidays as (month, day).
_SCHOOL = (
    ((1, 1), (1, 5)), ((2, 12), (2, 27)), ((4, 9), (4, 24)), ((7, 7), (8, 31)),
    ((10, 21), (11, 4)), ((12, 21), (12, 31)),
)
_NEVER_BEFORE = 10_000


@dataclass(frozen=True)
class Causes:
    """The common causes of W weeks; days and hours count from Monday 0:00.

    Args:
        temperature: [W, 168], degrees Celsius, the external factor c.
        felt: [W, 336], its mean over the twelve hours before, which heating answers to.
        dark: [W, 336], 0 in full daylight, 1 at night.
        free: [W, 7], 1 on Saturdays, Sundays and public holidays; sunday: [W, 7], 1 on the latter two.
        school: [W, 7], 1 in school holidays.
        match: [W, 7], the share of households that watch a match that evening, mostly 0.
        homebound: [W, 7], the share of workers kept at home (strikes, snow), mostly 0.
        season: [W], -1 in January, 1 in July.
    """

    temperature: Tensor
    felt: Tensor
    dark: Tensor
    free: Tensor
    sunday: Tensor
    school: Tensor
    match: Tensor
    homebound: Tensor
    season: Tensor


def causes(weeks: Tensor, *, seed: int) -> Causes:
    """The common causes of weeks [W] (int64, 0 and above; week 0 begins on 1 January 2018).

    >>> causes(torch.tensor([0, 30]), seed=1).temperature.shape
    torch.Size([2, 168])
    """
    if weeks.dtype != torch.int64 or weeks.dim() != 1 or (weeks.numel() and int(weeks.min()) < 0):
        raise ValueError("weeks: expected int64 [W] of at least 0")
    # one day before the week, too: what heating answers to on Monday morning
    days = 7 * weeks[:, None] + torch.arange(-1, 7)
    calendar = torch.tensor([[_day(int(day)) for day in row] for row in days.tolist()]).view(len(weeks), 8, 4)
    of_year, public, school, summer_time = calendar.unbind(-1)
    cloud = torch.sigmoid(1.5 * _lasting(days, fold(seed, 1), 0.6))
    phase = 2 * math.pi * (of_year - 17) / _YEAR
    hour = torch.arange(24)
    swing = (1.1 - 0.75 * cloud) * (4.2 - 1.6 * torch.cos(phase))
    within = torch.cos(2 * math.pi * (hour - 15) / 24)
    mean = 12 - 8 * torch.cos(phase) + (3.4 + 0.5 * torch.cos(phase)) * _lasting(days, fold(seed, 2), 0.75)
    # the day's own mean turns into the next one's over the day, so that midnight shows no step
    following = torch.cat([mean[:, 1:], mean[:, -1:]], 1)
    blend = hour / 24
    hourly = mean[..., None] * (1 - blend) + following[..., None] * blend + swing[..., None] * within
    hourly = hourly.flatten(1)
    felt = hourly.unfold(1, 12, 1).mean(-1)[:, 12:-1]
    weekday = torch.arange(7)
    public = public[:, 1:]
    sunday = torch.maximum(public, (weekday == 6).float().expand_as(public))
    chance = uniform(fold(seed, 3), weeks[:, None], torch.tensor(0), torch.arange(14))
    strength = uniform(fold(seed, 4), weeks[:, None], torch.tensor(0), torch.arange(14))
    return Causes(
        temperature=hourly[:, 24:].contiguous(),
        felt=felt.repeat_interleave(2, dim=1).contiguous(),
        dark=_dark(of_year[:, 1:], summer_time[:, 1:], cloud[:, 1:]),
        free=torch.maximum(sunday, (weekday == 5).float().expand_as(sunday)),
        sunday=sunday,
        school=school[:, 1:],
        match=(chance[:, :7] < 0.05) * (0.25 + 0.35 * strength[:, :7]),
        homebound=(chance[:, 7:] < 0.02) * (0.3 + 0.5 * strength[:, 7:]),
        season=-torch.cos(phase[:, 4]),
    )


def under_temperature(of: Causes, temperature: Tensor) -> Causes:
    """The same weeks at another hourly temperature [W, 168]; what was felt before Monday shifts with the first hour."""
    shift = temperature - of.temperature
    # hours h - 12 .. h - 1
    before = torch.cat([shift[:, :1].expand(-1, 12), shift[:, :-1]], 1).unfold(1, 12, 1).mean(-1)
    return dataclasses.replace(of, temperature=temperature, felt=of.felt + before.repeat_interleave(2, dim=1))


def _lasting(days: Tensor, seed: int, decay: float) -> Tensor:
    """A standard normal of every day whose correlation falls by ``decay`` a day, over 12 days."""
    weights = decay ** torch.arange(_MEMORY, dtype=torch.float32)
    drawn = normal(seed, torch.tensor(0), days[..., None] - torch.arange(_MEMORY) + _NEVER_BEFORE, torch.tensor(0))
    return (drawn * weights).sum(-1) / weights.norm()


def _dark(of_year: Tensor, summer_time: Tensor, cloud: Tensor) -> Tensor:
    """How dark it is, [W, 336]: from 1 at 4 degrees below the horizon to 0 at 12 above, clouds counted as degrees."""
    declination = -math.radians(23.44) * torch.cos(2 * math.pi * (of_year + 10) / _YEAR)
    noon = 12.85 + summer_time
    hour = torch.arange(48) / 2 + 0.25
    angle = (hour - noon[..., None]) * (math.pi / 12)
    sine = math.sin(_LATITUDE) * torch.sin(declination)[..., None] + math.cos(_LATITUDE) * (
        torch.cos(declination)[..., None] * torch.cos(angle)
    )
    degrees = torch.rad2deg(torch.asin(sine)) - 4 * cloud[..., None]
    return ((12 - degrees) / 16).clamp(0, 1).flatten(1)


@functools.cache
def _day(index: int) -> tuple[float, float, float, float]:
    """Day of the year, and whether it is a public holiday, a school holiday and of summer time."""
    date = _FIRST_MONDAY + datetime.timedelta(days=index)
    here = (date.month, date.day)
    public = here in _FIXED or (date - _easter(date.year)).days in _AFTER_EASTER
    school = any(first <= here <= last for first, last in _SCHOOL)
    summer_time = _last_sunday(date.year, 3) <= date < _last_sunday(date.year, 10)
    return float(date.timetuple().tm_yday), float(public), float(school), float(summer_time)


def _last_sunday(year: int, month: int) -> datetime.date:
    last = datetime.date(year, month, 31)
    return last - datetime.timedelta(days=(last.weekday() + 1) % 7)


def _easter(year: int) -> datetime.date:
    """Easter Sunday of the Gregorian calendar (Meeus, "Astronomical algorithms", chapter 8)."""
    a, (b, c) = year % 19, divmod(year, 100)
    d, e = divmod(b, 4)
    g = (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    m = (a + 11 * h) // 319
    r = (2 * e + 2 * i - k - h + m + 32) % 7
    month = (h - m + r + 90) // 25
    return datetime.date(year, month, (h - m + r + month + 19) % 32)
