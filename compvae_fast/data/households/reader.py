"""Users' own measurements as weeks of households: CSV or Parquet, in watts, kilowatts or kWh per half hour."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import torch
from torch import Tensor

from .causes import HALF_HOURS, HOURS
from .contracts import label_of
from .tables import Table

# Watts of one unit; a column is named after its unit.
UNITS = {"watts": 1.0, "kilowatts": 1000.0, "kwh_per_half_hour": 2000.0}
_HALF_HOUR = 1800
_DAY = 86_400
_MONDAY = 4 * _DAY  # 5 January 1970
_LARGEST = 100_000.0


@dataclass(frozen=True)
class Record:
    """Complete weeks of measured households.

    Args:
        watts: [N, 336] float32, Monday 0:00 to Sunday 24:00 of the local clock.
        household: int64 [N], index into names; week: int64 [N], index into mondays.
        names: the households, sorted. labels: int64 [households] (``CONTRACTS``), or None without metadata.
        mondays: first day of every week.
        temperature: [weeks, 168], degrees Celsius, or None.
        left_out: why weeks are missing, one line each.
    """

    watts: Tensor
    household: Tensor
    week: Tensor
    names: list[str]
    labels: Tensor | None
    mondays: list[datetime.date]
    temperature: Tensor | None
    left_out: list[str]


def read(
    curves: str | Path,
    metadata: str | Path | None = None,
    temperature: str | Path | None = None,
    *,
    timezone: str = "Europe/Paris",
    fill: int = 2,
) -> Record:
    """Reads households' curves, and cuts them into weeks.

    Args:
        curves: columns ``household``, ``timestamp`` (begin of the half hour, ISO 8601) and one of ``watts``,
            ``kilowatts``, ``kwh_per_half_hour``. Quarter-hours and other steps that divide a half hour are averaged
            where all of a half hour's are there (energies: one per half hour only).
        metadata: columns ``household``, ``contract`` ("base", "offpeak"), ``kva``, ``group`` ("A" to "C" or empty).
        temperature: columns ``timestamp`` and ``celsius``, hourly.
        timezone: of the weeks, and of timestamps that name no offset.
        fill: gaps of at most so many half hours (or hours of temperature) are bridged by a straight line; a week with a
            longer one is left out, and ``left_out`` says so.

    Local clocks: in the week of the spring change the hour that is skipped is bridged, in that of the autumn the hour
    that comes twice is the mean of both. Of naive timestamps that come twice then, the first is summer time. The same
    row twice counts once; two values for one time are refused.

    Raises:
        ValueError: naming the file, row, column, what was expected and what came. ImportError: Parquet without pyarrow.
    """
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"timezone: expected a name like 'Europe/Paris', got {timezone!r}") from error
    if fill < 0:
        raise ValueError(f"fill: expected at least 0, got {fill}")
    table = Table.read(curves)
    named = [unit for unit in UNITS if unit in table.columns]
    if len(named) != 1:
        raise ValueError(f"{table.path}: expected one column of {', '.join(UNITS)}, got {', '.join(table.columns)}")
    watts = table.numbers(named[0], least=0.0) * UNITS[named[0]]
    if (watts > _LARGEST).any():
        at = int((watts > _LARGEST).argmax())
        raise table.wrong(at, named[0], f"at most {_LARGEST / UNITS[named[0]]:g} {named[0]} of one household")
    owners = [str(owner) for owner in table["household"]]
    names = sorted(set(owners))
    place = {name: index for index, name in enumerate(names)}
    of = np.array([place[name] for name in owners], dtype=np.int64)
    seconds = _times(table, zone, of)
    series = (np.flatnonzero(of == index) for index in range(len(names)))
    weeks = (_weeks(table, named[0], mine, seconds[mine], watts[mine], zone, _HALF_HOUR, fill) for mine in series)
    found, left_out = _gathered(names, weeks)
    degrees = None
    if temperature is not None:
        mondays = sorted({monday for _, monday in found})
        degrees, without = _temperature(Table.read(temperature), zone, mondays, fill)
        left_out += without
        found = {where: week for where, week in found.items() if where[1] in degrees}
    labels = None if metadata is None else _labels(Table.read(metadata), names)
    return _record(names, found, left_out, labels, degrees)


def _gathered(names: list[str], series: Iterable[Iterable[Any]]) -> tuple[dict[tuple[int, int], np.ndarray], list[str]]:
    """The weeks of all households by (household, Monday), and why others are missing."""
    found, left_out = {}, []
    for index, weeks in enumerate(series):
        for monday, week, reason in weeks:
            if reason:
                left_out.append(f"household {names[index]!r}, week of {_date(monday)}: {reason}")
            else:
                found[index, monday] = week
    return found, left_out


def _record(
    names: list[str],
    found: dict[tuple[int, int], np.ndarray],
    left_out: list[str],
    labels: Tensor | None = None,
    degrees: dict[int, np.ndarray] | None = None,
) -> Record:
    mondays = sorted({monday for _, monday in found})
    number = {monday: index for index, monday in enumerate(mondays)}
    return Record(
        watts=torch.tensor(np.array(list(found.values())).reshape(-1, HALF_HOURS), dtype=torch.float32),
        household=torch.tensor([household for household, _ in found], dtype=torch.int64),
        week=torch.tensor([number[monday] for _, monday in found], dtype=torch.int64),
        names=names,
        labels=labels,
        mondays=[_date(monday) for monday in mondays],
        temperature=None
        if degrees is None
        else torch.tensor(np.array([degrees[m] for m in mondays]).reshape(-1, HOURS), dtype=torch.float32),
        left_out=left_out,
    )


def read_simbench(folder: str | Path, *, fill: int = 2) -> Record:
    """The household loads of a SimBench grid, as its CSV folder has them: Load.csv and LoadProfile.csv.

        watts = 10^6 pLoad (MW) <profile>_pload,  loads whose profile is H0-...

    SimBench's clock has no changes; its quarter-hours are averaged to half hours. It knows no contracts and has no
    temperature. Source: Meinecke et al., "SimBench", Energies 2020.

    Raises:
        ValueError: naming the file, row, column, what was expected and what came. OSError: a file is missing.
    """
    loads, profiles = (Table.read(Path(folder) / name, delimiter=";") for name in ("Load.csv", "LoadProfile.csv"))
    power = loads.numbers("pLoad", least=0.0) * 1e6
    homes = [i for i, profile in enumerate(loads["profile"]) if profile.startswith("H0")]
    if not homes:
        raise ValueError(f"{loads.path}, column 'profile': expected loads of households (H0-...), got none")
    seconds = np.empty(profiles.rows, dtype=np.int64)
    for index, text in enumerate(profiles["time"]):
        try:
            time = datetime.datetime.strptime(text, "%d.%m.%Y %H:%M")
        except ValueError:
            raise profiles.wrong(index, "time", "a time like 31.12.2016 23:45") from None
        seconds[index] = round(time.replace(tzinfo=datetime.UTC).timestamp())
    shapes = {loads["profile"][i]: profiles.numbers(f"{loads['profile'][i]}_pload", least=0.0) for i in homes}
    every, utc = np.arange(profiles.rows), ZoneInfo("UTC")
    names = [loads["id"][i] for i in homes]
    weeks = (
        _weeks(profiles, f"{profile}_pload", every, seconds, power[i] * shapes[profile], utc, _HALF_HOUR, fill)
        for i, profile in ((i, loads["profile"][i]) for i in homes)
    )
    return _record(names, *_gathered(names, weeks))


def _times(table: Table, zone: ZoneInfo, of: np.ndarray) -> np.ndarray:
    """UTC seconds of every row's timestamp; a naive one that comes twice for its household is then winter time."""
    out = np.empty(table.rows, dtype=np.int64)
    seen: set[tuple[int, int]] = set()
    known: dict[Any, tuple[int, int]] = {}  # households share their timestamps
    for index, text in enumerate(table["timestamp"]):
        if text not in known:
            known[text] = _instants(table, index, zone)
        early, late = known[text]
        if early == late:
            out[index] = early
        else:
            key = int(of[index]), early
            out[index] = late if key in seen else early
            seen.add(key)
    return out


def _instants(table: Table, index: int, zone: ZoneInfo) -> tuple[int, int]:
    """UTC seconds of one row's timestamp, in summer and in winter time where a naive one may be either."""
    text = table["timestamp"][index]
    try:
        time = text if isinstance(text, datetime.datetime) else datetime.datetime.fromisoformat(str(text))
    except ValueError:
        raise table.wrong(index, "timestamp", "an ISO 8601 time") from None
    if time.tzinfo is not None:
        return round(time.timestamp()), round(time.timestamp())
    early, late = (round(time.replace(tzinfo=zone, fold=fold).timestamp()) for fold in (0, 1))
    if early > late:  # the hour that the spring change skips
        raise table.wrong(index, "timestamp", f"a time that exists in {zone.key}")
    return early, late


def _weeks(table, column, rows, seconds, values, zone: ZoneInfo, step: int, fill: int):
    """(Monday in local days, values of the week or None, why not) of one series, in order."""
    order = np.argsort(seconds, kind="stable")
    rows, seconds, values = rows[order], seconds[order], values[order]
    same = np.flatnonzero(np.diff(seconds) == 0)
    for i in same:
        if values[i] != values[i + 1]:
            first = rows[i] + table.first_row
            raise table.wrong(int(rows[i + 1]), column, f"the value {values[i]:g} of row {first}, of the same time")
    kept = np.concatenate([[True], np.diff(seconds) > 0]) if len(seconds) else np.zeros(0, bool)
    rows, seconds, values = rows[kept], seconds[kept], values[kept]
    finest = int(np.diff(seconds).min()) if len(seconds) > 1 else step
    finest = finest if step % finest == 0 and column != "kwh_per_half_hour" else step
    off = seconds % finest != 0
    if off.any():
        raise table.wrong(int(rows[off.argmax()]), "timestamp", f"a multiple of {finest // 60} minutes")
    # means of whole steps, in UTC
    bins, start, count = np.unique(seconds // step, return_index=True, return_counts=True)
    means = np.add.reduceat(values, start) / count if len(values) else values
    whole = count == step // finest
    bins, means = bins[whole], means[whole]
    local = np.array([_local(int(b) * step, zone) for b in bins], dtype=np.int64)
    # the hour that comes twice is the mean of both
    times, inverse, times_seen = np.unique(local, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, means, len(times)) / times_seen if len(times) else means
    per_week = 7 * _DAY // step
    weeks = (times - _MONDAY) // (7 * _DAY)
    for week in np.unique(weeks):
        mine = weeks == week
        monday = int(week) * 7 * _DAY + _MONDAY
        grid = (times[mine] - monday) // step
        gap = int(np.diff(np.concatenate([[-1], grid, [per_week]])).max()) - 1
        longest = max(fill, _skipped(monday, zone, step, grid))
        if gap > longest:
            unit = "half hours" if step == _HALF_HOUR else "hours"
            yield monday, None, f"{gap} {unit} in a row are missing"
        else:
            yield monday, np.interp(np.arange(per_week), grid, means[mine]), ""


def _skipped(monday: int, zone: ZoneInfo, step: int, grid: np.ndarray) -> int:
    """How many steps the local clock skips in this week: an hour's in spring, else 0."""
    first, last = (
        datetime.datetime.combine(_date(day), datetime.time(), tzinfo=zone).utcoffset()
        for day in (monday, monday + 7 * _DAY)
    )
    assert first is not None and last is not None
    return max(0, int((last - first).total_seconds()) // step)


@functools.lru_cache(maxsize=2**17)
def _local(second: int, zone: ZoneInfo) -> int:
    offset = datetime.datetime.fromtimestamp(second, zone).utcoffset()
    assert offset is not None
    return second + int(offset.total_seconds())


def _date(second: int) -> datetime.date:
    return datetime.date(1970, 1, 1) + datetime.timedelta(days=second // _DAY)


def _temperature(
    table: Table, zone: ZoneInfo, mondays: list[int], fill: int
) -> tuple[dict[int, np.ndarray], list[str]]:
    values = table.numbers("celsius", least=-90.0)
    if (values > 60).any():
        raise table.wrong(int((values > 60).argmax()), "celsius", "degrees Celsius of at most 60")
    seconds = _times(table, zone, np.zeros(table.rows, dtype=np.int64))
    found, without, known = {}, [], set()
    for monday, week, reason in _weeks(table, "celsius", np.arange(table.rows), seconds, values, zone, 3600, fill):
        known.add(monday)
        if reason:
            without.append(f"temperature, week of {_date(monday)}: {reason}")
        else:
            found[monday] = week
    without += [f"temperature, week of {_date(m)}: it has none" for m in mondays if m not in known]
    return found, [line for line in without if any(str(_date(m)) in line for m in mondays)]


def _labels(table: Table, names: list[str]) -> Tensor:
    labels: dict[str, int] = {}
    kva = table.numbers("kva", least=1.0)
    for index, (name, kind, group) in enumerate(zip(table["household"], table["contract"], table["group"])):
        if str(name) in labels:
            raise table.wrong(index, "household", "every household once")
        power = int(kva[index]) if kva[index].is_integer() else kva[index]
        try:
            labels[str(name)] = label_of(str(kind), power, group or "")
        except ValueError as error:
            raise table.wrong(index, "contract", f"a known contract ({error})") from None
    missing = [name for name in names if name not in labels]
    if missing:
        raise ValueError(f"{table.path}, column 'household': expected {missing[0]!r}, which the curves have")
    return torch.tensor([labels[name] for name in names], dtype=torch.int64)
