"""Who is at home and awake, half hour by half hour."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .causes import Causes
from .numbers import Numbers
from .traits import Traits

_HOUR = torch.arange(48) / 2


@dataclass(frozen=True)
class Occupancy:
    """The adults of N households over a week.

    Args:
        active: [N, 336], how many adults are at home and awake, 0 to 2, as a mean over the half hour.
        away: [N, 7], 1 on days that all spend elsewhere, night included.
        watching: [N, 7], 1 where the household follows the evening's match.
    """

    active: Tensor
    away: Tensor
    watching: Tensor


def occupancy(of: Traits, causes: Causes, drawn: Numbers) -> Occupancy:
    """The week of N households whose common causes are given row by row."""
    away = _away(causes, drawn)
    watching = (of.football[:, None] < causes.match).float() * (1 - away)
    jitter = drawn.normal(2, 7, 4)
    u = drawn.uniform(2, 7, 5)
    free = causes.free[:, None, :]
    stays = of.commutes[..., None] * (1 - causes.homebound[:, None, :]) * (1 - 0.35 * causes.school[:, None, :])
    works = (u[..., 0] < stays) & (free == 0)
    wake = of.wake[..., None] + 0.3 * jitter[..., 0] + ~works * 0.5 + causes.sunday[:, None, :] * 0.4 + free * 0.7
    # on other days a walk, a shop, a visit; or nothing
    out = works | (u[..., 1] < 0.6)
    stroll = torch.maximum(wake + 1.0, 9.5 + 8.5 * u[..., 2])
    leave = torch.where(works, of.leave[..., None] + 0.3 * jitter[..., 1], stroll)
    back = torch.where(works, of.back[..., None] + 0.6 * jitter[..., 2], stroll + 0.7 + 3.8 * u[..., 3] ** 2)
    # some evenings are spent elsewhere, most on Fridays and Saturdays
    evening_out = u[..., 4] < 0.05 + 0.09 * (torch.arange(7) // 4 == 1)
    back = torch.where(out, back, leave) + (evening_out & ~watching.bool()[:, None]) * out * 2.5
    sleep = of.sleep[..., None] + 0.5 * jitter[..., 3] + 0.5 * torch.tensor([0, 0, 0, 0, 1, 1, 0])
    sleep = torch.maximum(sleep, 23.0 * watching[:, None, :]).clamp(max=27.0)
    home = _within(wake, sleep) - _within(torch.maximum(wake, leave), torch.minimum(back, sleep))
    # what goes on past midnight belongs to the next morning
    late = (sleep[..., None] - 24.0 - _HOUR[:6]).clamp(0, 0.5) * 2
    home[..., :6] = (home[..., :6] + late.roll(1, dims=2)).clamp(max=1)
    present = torch.stack([torch.ones_like(of.adults), of.adults - 1], 1)[..., None, None]
    active = (home * present).sum(1) * (1 - away)[..., None]
    return Occupancy(active.flatten(1), away, watching)


def _within(first: Tensor, last: Tensor) -> Tensor:
    """The share of every half hour of a day that lies between two times [...]: [..., 48]."""
    upto = (last[..., None] - _HOUR).clamp(0, 0.5)
    return 2 * (upto - (first[..., None] - _HOUR).clamp(0, 0.5)).clamp(min=0)


def _away(causes: Causes, drawn: Numbers) -> Tensor:
    """Days that a household spends elsewhere [N, 7]: holidays of some days, and weekends."""
    u = drawn.uniform(3)
    school = causes.school.mean(1)
    summer = ((causes.season - 0.6) / 0.4).clamp(0, 1)
    gone = u[:, 0] < 0.025 + school * (0.1 + 0.18 * summer)
    # a stay begins or ends within the week, or fills it
    begin = torch.where(u[:, 1] < 0.5, 0.0, 14 * u[:, 1] - 7)
    end = begin + 2 + 6 * u[:, 2]
    day = torch.arange(7) + 0.5
    stay = gone[:, None] & (begin[:, None] < day) & (day < end[:, None])
    weekend = ~gone & (u[:, 2] < 0.05)
    return (stay | (weekend[:, None] & (torch.arange(7) >= 5))).float()
