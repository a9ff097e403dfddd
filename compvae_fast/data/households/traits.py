"""What a household keeps over the years: its people, their hours, its equipment."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...random import fold, normal, uniform
from .contracts import CONTRACTS, OFF_PEAK, column

_ELECTRIC_CAR_KW = 7.4


@dataclass(frozen=True)
class Traits:
    """Lasting properties of N households, each [N] unless said otherwise; times in hours, powers in watts.

    Args:
        persons: 1 to 5. adults: 1 or 2. retired: 0 or 1; commutes: [N, 2], chance that each adult leaves on a workday.
        wake, leave, back, sleep: [N, 2], each adult's hours on a workday.
        heating: watts per degree, 0 without electric heating; pump: 1 for a heat pump.
        boiler: power of a storage water heater or 0; boiler_need: watt-hours a day.
        boiler_start: [N, 2] its two spells' begin; boiler_share: [N, 2], what they heat.
        cheap: begin of the cheaper hours; timer: 1 where machines wait for them.
        cold, standby, lighting, electronics: watts of refrigeration, standby, and lamps and screens in use.
        cooking, small, washing: factors on meals, small appliances, laundry. dishwasher, dryer: 0 or 1.
        car: charging power or 0. football: 0 to 1, who watches first. limit: the subscribed power.
    """

    persons: Tensor
    adults: Tensor
    retired: Tensor
    commutes: Tensor
    wake: Tensor
    leave: Tensor
    back: Tensor
    sleep: Tensor
    heating: Tensor
    pump: Tensor
    boiler: Tensor
    boiler_need: Tensor
    boiler_start: Tensor
    boiler_share: Tensor
    cheap: Tensor
    timer: Tensor
    cold: Tensor
    standby: Tensor
    lighting: Tensor
    electronics: Tensor
    cooking: Tensor
    small: Tensor
    washing: Tensor
    dishwasher: Tensor
    dryer: Tensor
    car: Tensor
    football: Tensor
    limit: Tensor


_KVA, _HEATED, _BOILER, _CAR = (column(name) for name in ("kva", "heated", "boiler", "car"))
_PERSONS = column("persons").cumsum(1)
# How use grows with 1 to 5 persons; tables, for powers are rounded otherwise in other places of a vector.
_SIZE = 0.48 + 0.48 * torch.arange(1.0, 6.0) ** 0.7
_MEALS = (torch.arange(1.0, 6.0) / 2.2) ** 0.4
_SMALL = (torch.arange(1.0, 6.0) / 2.2) ** 0.5
_OFF_PEAK_BEGIN = torch.tensor([OFF_PEAK[c.group][0][0] if c.group else 0.0 for c in CONTRACTS])
_HAS_OFF_PEAK = torch.tensor([bool(c.group) for c in CONTRACTS])


def traits(labels: Tensor, households: Tensor, *, seed: int) -> Traits:
    """The traits of households [N] with labels [N], both int64: a pure function of (seed, household, label)."""
    zero = torch.tensor(0)
    index = households[:, None]
    u = uniform(fold(seed, 1), index, zero, torch.arange(20)).unbind(1)
    n = normal(fold(seed, 2), index, zero, torch.arange(20))
    of = labels - 1
    kva, cheaper = _KVA[of], _HAS_OFF_PEAK[of]
    number = (u[0][:, None] > _PERSONS[of][:, :4]).sum(1)
    persons = 1 + number.float()
    adults = 1 + ((persons > 1) & (u[1] < 0.93)).float()
    retired = (u[2] < torch.where(persons > 2, 0.05, 0.38)).float()
    at_work = torch.stack([u[3] < 0.86, u[4] < 0.72], 1).float() * (1 - retired)[:, None]
    # parents of young children and shift workers spread the hours beyond a bell
    wake = 6.7 + 1.0 * n[:, 0:2] + retired[:, None] * 0.8
    leave = wake + 1.15 + 0.3 * n[:, 2:4].abs()
    back = leave + 8.9 + 1.4 * n[:, 4:6] - 3.0 * (u[5][:, None] < 0.3)
    sleep = 23.0 + 1.25 * n[:, 6:8]
    size = _SIZE[number] * (0.3 * n[:, 8] - 0.045).exp()
    heated, boiler = u[6] < _HEATED[of], u[7] < _BOILER[of]
    pump = heated & (u[8] < 0.02 * kva)
    tank = torch.where(persons > 2, 2200.0, 1500.0)
    own_start = torch.stack([7.5 + 2 * u[9], 19.5 + 2.5 * u[10]], 1)
    cheap_start = torch.stack([_OFF_PEAK_BEGIN[of] + 0.6 * u[9], torch.full_like(kva, 12.6) + 0.3 * u[10]], 1)
    afternoon = (labels >= 5) & (torch.remainder(of - 4, 3) == 2)
    second = torch.where(cheaper, 0.25 * afternoon, 0.5)
    return Traits(
        persons=persons,
        adults=adults,
        retired=retired,
        commutes=at_work * 0.88,
        wake=wake,
        leave=leave,
        back=torch.maximum(back, leave + 3),
        sleep=sleep.clamp(20.5, 26.5),
        heating=heated * (9.2 * kva * (0.3 * n[:, 9] - 0.045).exp()),
        pump=pump.float(),
        boiler=boiler * tank,
        boiler_need=(900 + 1350 * persons) * (0.2 * n[:, 10] - 0.02).exp(),
        boiler_start=torch.where(cheaper[:, None], cheap_start, own_start),
        boiler_share=torch.stack([1 - second, second], 1),
        cheap=_OFF_PEAK_BEGIN[of] + 0.3 * u[11],
        timer=(cheaper & (u[12] < 0.45)).float(),
        cold=(46 + 11 * persons) * (0.3 * n[:, 11] - 0.045).exp(),
        standby=60 * size * (0.5 * n[:, 12] - 0.125).exp(),
        lighting=60 * size * (0.4 * n[:, 13] - 0.08).exp(),
        electronics=78 * size * (0.4 * n[:, 14] - 0.08).exp(),
        cooking=_MEALS[number] * (0.3 * n[:, 15] - 0.045).exp(),
        small=_SMALL[number],
        washing=(0.3 * n[:, 16] - 0.045).exp(),
        dishwasher=(u[13] < 0.4 + 0.08 * persons).float(),
        dryer=(u[14] < 0.1 + 0.09 * persons).float(),
        car=(u[15] < _CAR[of]) * torch.minimum(0.55 * kva, torch.tensor(_ELECTRIC_CAR_KW)) * 1000,
        football=u[16],
        limit=1000 * kva,
    )
