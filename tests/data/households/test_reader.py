"""Users' files: what is read, what is mended, and what is refused by file, row and column."""

import csv
import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import torch

from compvae_fast.data.households import read, read_simbench

PARIS = ZoneInfo("Europe/Paris")
HALF_HOUR = datetime.timedelta(minutes=30)


def write(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def instants(first, days, step=HALF_HOUR):
    """All steps of local days, as times in UTC."""
    begin = datetime.datetime.combine(first, datetime.time(), PARIS).astimezone(datetime.UTC)
    end = datetime.datetime.combine(first + datetime.timedelta(days), datetime.time(), PARIS).astimezone(datetime.UTC)
    return [begin + i * step for i in range(round((end - begin) / step))]


MONDAY = datetime.date(2021, 2, 1)
TIMES = instants(MONDAY, 7)
WATTS = [100 + i for i in range(336)]


def curves(tmp_path, rows, unit="watts"):
    return write(tmp_path / "curves.csv", ["household", "timestamp", unit], rows)


def plain(household="a", times=TIMES, values=WATTS):
    return [[household, time.isoformat(), value] for time, value in zip(times, values)]


@pytest.mark.parametrize("parquet", [False, True])
def test_a_full_record_with_contracts_and_temperature(tmp_path, parquet):
    rows = plain("b") + plain("a", values=[2 * w for w in WATTS])
    path = curves(tmp_path, rows)
    if parquet:
        pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow: pip install compvae-fast[parquet]")
        from pyarrow import parquet as files

        path = tmp_path / "curves.parquet"
        times = [datetime.datetime.fromisoformat(time) for _, time, _ in rows]
        columns = {"household": [r[0] for r in rows], "timestamp": times, "watts": [float(r[2]) for r in rows]}
        files.write_table(pyarrow.table(columns), path)
    meta = write(tmp_path / "m.csv", ["household", "contract", "kva", "group"],
                 [["b", "offpeak", 9, "B"], ["a", "base", 6, ""]])
    hours = instants(MONDAY, 7, 2 * HALF_HOUR)
    degrees = [[time.isoformat(), i / 10] for i, time in enumerate(hours)]
    weather = write(tmp_path / "t.csv", ["timestamp", "celsius"], degrees)
    record = read(path, meta, weather)
    assert record.names == ["a", "b"] and record.labels.tolist() == [2, 9] and record.mondays == [MONDAY]
    assert record.household.tolist() == [0, 1] and record.week.tolist() == [0, 0] and record.left_out == []
    torch.testing.assert_close(record.watts[1], torch.tensor(WATTS, dtype=torch.float32))
    torch.testing.assert_close(record.watts[0], 2 * record.watts[1])
    torch.testing.assert_close(record.temperature[0], torch.arange(168) / 10)


@pytest.mark.parametrize(("unit", "per_watt"), [("kilowatts", 1e-3), ("kwh_per_half_hour", 0.5e-3)])
def test_units(tmp_path, unit, per_watt):
    record = read(curves(tmp_path, plain(values=[w * per_watt for w in WATTS]), unit))
    torch.testing.assert_close(record.watts[0], torch.tensor(WATTS, dtype=torch.float32))


def test_quarter_hours_are_averaged(tmp_path):
    times = instants(MONDAY, 7, HALF_HOUR / 2)
    record = read(curves(tmp_path, plain(times=times, values=range(672))))
    torch.testing.assert_close(record.watts[0], torch.arange(336) * 2 + 0.5)


def test_order_and_repeated_rows_do_not_matter(tmp_path):
    rows = plain() + plain()[10:12]
    order = np.random.default_rng(0).permutation(len(rows))
    record = read(curves(tmp_path, [rows[i] for i in order]))
    assert record.watts[0].tolist() == WATTS


def test_short_gaps_are_bridged_and_longer_ones_leave_the_week_out(tmp_path):
    rows = plain() + plain("b")
    short = [row for i, row in enumerate(rows) if i not in (50, 51)]
    record = read(curves(tmp_path, short))
    assert record.left_out == [] and record.watts[0].tolist() == WATTS
    long = [row for i, row in enumerate(rows) if i not in (50, 51, 52)]
    record = read(curves(tmp_path, long))
    assert record.household.tolist() == [1]
    assert record.left_out == ["household 'a', week of 2021-02-01: 3 half hours in a row are missing"]
    assert len(read(curves(tmp_path, long), fill=3).watts) == 2
    cut = read(curves(tmp_path, rows[5:]))
    assert cut.left_out == ["household 'a', week of 2021-02-01: 5 half hours in a row are missing"]


@pytest.mark.parametrize("naive", [False, True])
def test_clock_changes(tmp_path, naive):
    """336 values on the local clock, though the week has 334 or 338 half hours: value = hour of the local day."""
    for monday, count in ((datetime.date(2021, 3, 22), 334), (datetime.date(2021, 10, 25), 338)):
        times = [t.astimezone(PARIS) for t in instants(monday, 7)]
        assert len(times) == count
        values = [48 * t.weekday() + 2 * t.hour + t.minute // 30 for t in times]
        values = [v + 10 * t.fold for v, t in zip(values, times)]
        given = [t.replace(tzinfo=None) if naive else t for t in times]
        record = read(curves(tmp_path, plain(times=given, values=values)), fill=0)
        expected = torch.arange(336.0)
        if count == 338:
            expected[6 * 48 + 4 : 6 * 48 + 6] += 5
        torch.testing.assert_close(record.watts[0], expected)


def test_weeks_without_temperature_are_left_out(tmp_path):
    times = instants(MONDAY, 14)
    path = curves(tmp_path, plain(times=times, values=range(672)))
    hours = instants(MONDAY + datetime.timedelta(7), 7, 2 * HALF_HOUR)
    weather = write(tmp_path / "t.csv", ["timestamp", "celsius"], [[t.isoformat(), 5] for t in hours])
    record = read(path, temperature=weather)
    assert record.mondays == [MONDAY + datetime.timedelta(7)] and record.watts[0, 0] == 336
    assert record.left_out == ["temperature, week of 2021-02-01: it has none"]


def changed(row, column, value):
    rows = plain()
    rows[row][column] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (changed(4, 2, "much"), r"curves.csv, row 6, column 'watts': expected a number, got 'much'"),
        (changed(4, 2, ""), "row 6, column 'watts': expected a number, got ''"),
        (changed(4, 2, "nan"), "row 6, column 'watts': expected a finite number of at least 0"),
        (changed(4, 2, -3), "row 6, column 'watts': expected a finite number of at least 0, got '-3'"),
        (changed(4, 2, 3e6), "row 6, column 'watts': expected at most 100000 watts of one household"),
        (changed(4, 1, "yesterday"), "row 6, column 'timestamp': expected an ISO 8601 time"),
        (changed(4, 1, "2021-03-28T02:30"), "row 6, column 'timestamp': expected a time that exists in Europe/Paris"),
        (changed(4, 1, "2021-02-01T02:07+01:00"), "column 'timestamp': expected a multiple of"),
        ([*plain(), ["a", TIMES[3].isoformat(), 7]], "row 338, column 'watts': expected the value 103 of row 5"),
        ([*plain(), ["a", TIMES[3].isoformat()]], "row 338: expected 3 values, got 2"),
    ],
)
def test_what_is_refused(tmp_path, rows, words):
    with pytest.raises(ValueError, match=words):
        read(curves(tmp_path, rows))


def test_wrong_columns_contracts_and_zones_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected one column of watts, kilowatts, kwh_per_half_hour, got household"):
        read(curves(tmp_path, plain(), "power"))
    path = curves(tmp_path, plain())
    header = ["household", "contract", "kva", "group"]
    for rows, words in (
        ([["a", "base", 7, ""]], "row 2, column 'contract': expected a known contract"),
        ([["a", "base", 6, ""], ["a", "base", 6, ""]], "row 3, column 'household': expected every household once"),
        ([["z", "base", 6, ""]], "column 'household': expected 'a', which the curves have"),
        ([["a", "base", "six", ""]], "row 2, column 'kva': expected a number"),
    ):
        with pytest.raises(ValueError, match=words):
            read(path, write(tmp_path / "m.csv", header, rows))
    with pytest.raises(ValueError, match="timezone: expected a name"):
        read(path, timezone="Paris")
    with pytest.raises(ValueError, match="expected a column 'household'"):
        read(write(tmp_path / "c.csv", ["timestamp", "watts"], []))
    with pytest.raises(OSError):
        read(tmp_path / "none.csv")


def test_a_simbench_folder(tmp_path):
    """Two loads of one profile and a shop that is none: 2016 began on a Friday."""
    first = datetime.datetime(2016, 1, 1)
    times = [first + i * HALF_HOUR / 2 for i in range(10 * 96)]
    lines = [f"{t:%d.%m.%Y %H:%M};{i % 672 / 1000};0.1;0.5" for i, t in enumerate(times)]
    (tmp_path / "LoadProfile.csv").write_text("\n".join(["time;H0-A_pload;H0-A_qload;G0-A_pload", *lines, ""]))
    loads = ["id;node;profile;pLoad", "one;n1;H0-A;0.002", "shop;n1;G0-A;0.01", "two;n2;H0-A;0.004"]
    (tmp_path / "Load.csv").write_text("\n".join(loads) + "\n")
    record = read_simbench(tmp_path)
    assert record.names == ["one", "two"] and record.mondays == [datetime.date(2016, 1, 4)]
    quarter = (torch.arange(672) + 3 * 96) % 672
    torch.testing.assert_close(record.watts[0], 2.0 * quarter.view(336, 2).float().mean(1))
    torch.testing.assert_close(record.watts[1], 2 * record.watts[0])
    assert len(record.left_out) == 2 and "week of 2015-12-28: 192 half hours" in record.left_out[0]
    (tmp_path / "LoadProfile.csv").write_text("time;H0-A_pload\n2016-01-01;0.1\n")
    with pytest.raises(ValueError, match="LoadProfile.csv, row 2, column 'time': expected a time like"):
        read_simbench(tmp_path)
