"""The simulated town: what it promises about its draws, and what published figures say of real ones."""

import dataclasses
import datetime
import warnings

import numpy as np
import pytest
import torch

from compvae_fast.data import households
from compvae_fast.data.households import causes as common
from compvae_fast.data.households import simulator
from compvae_fast.data.households.appliances import Runs, averaged
from compvae_fast.data.households.numbers import Numbers
from compvae_fast.data.households.occupancy import occupancy
from compvae_fast.data.households.traits import traits
from compvae_fast.random import Stream, fold

SEED = 3


@pytest.fixture(scope="module")
def town():
    """A year of 600 households: watts [600, 52, 336], labels, temperature, traits."""
    watts, labels, temperature = households.year(600, seed=SEED)
    of = traits(labels, torch.arange(600), seed=fold(fold(SEED, Stream.DATA), 3))
    return watts, labels, temperature, of


def profile(watts):
    """The mean of households' weeks by day of the week and half hour, 1 on average."""
    mean = watts.double().mean((0, 1)).view(7, 48)
    return (mean / mean.mean()).numpy()


def without_heat(of):
    return (of.heating == 0) & (of.boiler == 0) & (of.car == 0)


def test_a_household_week_is_the_same_alone_and_in_a_year(town):
    watts, labels, temperature, _ = town
    pairs = [(0, 0), (137, 51), (599, 26)]
    for household, week in pairs:
        one, its_label = torch.tensor([household]), labels[household : household + 1]
        alone = households.weeks(its_label, one, torch.tensor([week]), seed=SEED)
        assert torch.equal(alone[0], watts[household, week])
    assert torch.equal(households.temperature(torch.tensor([26]), seed=SEED)[0], temperature[26])
    other = households.weeks(labels[:3], torch.arange(3), torch.zeros(3, dtype=torch.int64), seed=SEED + 1)
    assert not torch.isclose(other, watts[:3, 0]).any(1).all()


def test_labels_have_the_contracts_shares():
    """Each of 13 frequencies within 5 deviations: a false alarm in 13 * 6e-7, one in 130,000."""
    n = 40_000
    labels = households.labels_of(torch.arange(n), seed=9)
    share = torch.tensor([contract.share for contract in households.CONTRACTS], dtype=torch.float64)
    assert share.sum() == pytest.approx(1)
    found = torch.bincount(labels - 1, minlength=13) / n
    assert ((found - share).abs() < 5 * (share * (1 - share) / n).sqrt()).all()


def test_spells_are_averaged_as_minute_by_minute():
    generator = torch.Generator().manual_seed(0)
    begin = torch.randint(0, 168 * 60, (4, 9), generator=generator) / 60.0
    begin[0, 0], begin[1, 0] = 167.9, 0.0
    length = torch.randint(1, 9 * 60, (4, 9), generator=generator) / 60.0
    power = 2000 * torch.rand(4, 9, generator=generator)
    expected = torch.zeros(4, 168 * 60)
    for row in range(4):
        for start, hours, watts in zip(begin[row], length[row], power[row]):
            first = round(float(start) * 60)
            for minute in range(first, first + round(float(hours) * 60)):
                expected[row, minute % (168 * 60)] += watts
    halves = [Runs(begin[:, :4], length[:, :4], power[:, :4]), Runs(begin[:, 4:], length[:, 4:], power[:, 4:])]
    torch.testing.assert_close(averaged(halves), expected.view(4, 336, 30).mean(-1), atol=0.05, rtol=0)


def test_no_household_exceeds_its_subscribed_power_or_feeds_in(town):
    watts, labels, _, _ = town
    limit = torch.tensor([1000.0 * households.CONTRACTS[label - 1].kva for label in labels.tolist()])
    assert (watts.amax((1, 2)) <= limit).all() and (watts >= 0).all() and watts.isfinite().all()


def test_heating_follows_the_temperature_and_nothing_else_does(town):
    watts, _, temperature, of = town
    weekly = watts.double().mean(2)
    cold, mild = temperature.mean(1) < 5, (temperature.mean(1) > 17)
    ratio = weekly[:, cold].mean(1) / weekly[:, mild].mean(1)
    heated = of.heating > 0
    assert ratio[heated].mean() > 2.5
    assert ratio[without_heat(of)].mean() < 1.8
    winter = temperature.mean(1) < 10
    seen = torch.stack([temperature.mean(1)[winter].double(), weekly[heated][:, winter].mean(0)])
    assert torch.corrcoef(seen)[0, 1] < -0.9


def test_water_heaters_begin_with_the_cheaper_hours():
    n, week = 300, torch.full((300,), 40)
    begins = {}
    for group in "ABC":
        label = torch.full((n,), households.label_of("offpeak", 9, group))
        watts = households.weeks(label, torch.arange(n), week, seed=5).view(n, 7, 48).mean((0, 1))
        # over an hour, for the heaters do not all switch on in the same minute
        begins[group] = (watts.roll(-1) - watts.roll(1)).roll(-36)[:24].argmax().item() / 2 + 18
    assert begins == {"A": 22.5, "B": 23.5, "C": 25.0}


def test_weather_and_events_are_shared_within_a_week_and_not_between_towns():
    """Two groups of other households: together in every week, apart in two towns.

    Correlations of 60 weeks' winter means; 0.5 is more than 3.8 deviations of zero correlation away: 1e-4.
    """
    weeks = torch.cat([torch.arange(0, 10) + 52 * y for y in range(6)])
    n = len(weeks)
    label = torch.full((40 * n,), households.label_of("offpeak", 9, "A"))

    def means(first, seed):
        ids = torch.arange(first, first + 40).repeat(n)
        return households.weeks(label, ids, weeks.repeat_interleave(40), seed=seed).view(n, 40, 336).mean((1, 2))

    here, neighbours, elsewhere = means(0, 1), means(40, 1), means(0, 2)
    assert torch.corrcoef(torch.stack([here, neighbours]))[0, 1] > 0.95
    assert torch.corrcoef(torch.stack([here, elsewhere]))[0, 1].abs() < 0.5


def test_a_match_is_seen_in_the_evening_of_its_day():
    """Households' weeks with the match, and the same with it taken out of the causes."""
    inner = fold(7, Stream.DATA)
    causes = common.causes(torch.arange(300), seed=fold(inner, 2))
    week, day = (causes.match[:, :4] > 0.45).nonzero()[0].tolist()
    n = 600
    rows = torch.full((n,), week)
    own = common.Causes(**{f.name: getattr(causes, f.name)[rows] for f in dataclasses.fields(causes)})
    without = dataclasses.replace(own, match=torch.zeros_like(own.match))
    label, ids = torch.full((n,), 2), torch.arange(n)
    seen, unseen = (simulator._chunk(label, ids, rows, shared, inner) for shared in (own, without))
    assert torch.equal(seen, households.weeks(label, ids, rows, seed=7))
    difference = (seen - unseen).mean(0).view(7, 48)
    # 140 W of the share that watches and is not away, who stay up besides
    watching = float(causes.match[week, day])
    assert 0.8 * 140 * watching < difference[day, 42:45].mean() < 2.2 * 140 * watching
    assert difference[day, :24].abs().max() < 1


def test_nights_that_last_past_midnight_are_those_of_the_next_morning():
    """Sleep comes half an hour later on Fridays and Saturdays: Saturday and Sunday have more of the small hours."""
    n = 400
    ids, label = torch.arange(n), torch.full((n,), 2)
    rows = torch.full((n,), 20)
    shared = common.causes(torch.tensor([20]), seed=1)
    own = common.Causes(**{f.name: getattr(shared, f.name)[0 * rows] for f in dataclasses.fields(shared)})
    late = dataclasses.replace(traits(label, ids, seed=1), sleep=torch.full((n, 2), 25.7))
    active = occupancy(late, own, Numbers(2, ids, rows)).active.view(n, 7, 48)[..., 3:6].mean((0, 2))
    assert active[[5, 6]].min() > 1.3 * active[[0, 1, 2, 3, 4]].max()


def test_the_calendar():
    public = [datetime.date(2018, 1, 1) + datetime.timedelta(days=d) for d in range(2000) if common._day(d)[1]]
    known = {2018: (4, 2), 2019: (4, 22), 2020: (4, 13), 2021: (4, 5), 2022: (4, 18)}
    for year, (month, day) in known.items():
        easter_monday = datetime.date(year, month, day)
        others = {easter_monday + datetime.timedelta(days) for days in (38, 49)}
        assert {easter_monday} | others <= set(public)
        assert sum(date.year == year for date in public) in (10, 11)
    summer = [common._day((datetime.date(2020, m, d) - datetime.date(2018, 1, 1)).days)[3] for m, d in
              ((3, 28), (3, 29), (10, 24), (10, 25))]
    assert summer == [0, 1, 1, 0]


def test_heating_answers_to_the_twelve_hours_before():
    of = common.causes(torch.arange(5, 8), seed=1)
    before = of.temperature.unfold(1, 12, 1).mean(-1)[:, :-1]
    torch.testing.assert_close(of.felt[:, 24::2], before)
    assert torch.equal(of.felt[:, ::2], of.felt[:, 1::2])
    warm = of.temperature.clone()
    warm[0, 60] += 12
    shift = common.under_temperature(of, warm).felt - of.felt
    expected = torch.zeros(3, 336)
    expected[0, 2 * 61 : 2 * 73] = 1.0
    torch.testing.assert_close(shift, expected, atol=1e-4, rtol=0)


def test_the_climate():
    """Means of 260 weeks within bounds that are wide beside their spread (year means: 0.6 degrees or less)."""
    causes = common.causes(torch.arange(260), seed=1)
    assert 2.5 < causes.temperature[causes.season < -0.8].mean() < 6.5
    assert 17.5 < causes.temperature[causes.season > 0.8].mean() < 21.5
    assert 11 < causes.temperature.mean() < 13
    hourly = causes.temperature.view(260, 7, 24).mean((0, 1))
    assert 13 <= int(hourly.argmax()) <= 17 and 2 <= int(hourly.argmin()) <= 7
    # 7 hours of night above 5 degrees of sun in June and 15 in December, at the latitude of Paris
    dark = (causes.dark.view(260, 7, 48) > 0.5).float().sum(-1).mean(1) / 2
    assert 7 < dark[causes.season > 0.98].mean() < 10.5 and 14.5 < dark[causes.season < -0.98].mean() < 18


# Published figures -------------------------------------------------------------------------------------------------


def test_yearly_energy_by_persons_is_that_of_the_bdew(town):
    """kWh a year without electric heat, BDEW 2021: 1,900, 2,890, 3,720 and 4,085 for 1 to 4 persons."""
    watts, _, _, of = town
    energy = watts.double().mean((1, 2)) * 8.76
    for persons, published in {1: 1900, 2: 2890, 3: 3720, 4: 4085}.items():
        mine = energy[without_heat(of) & (of.persons == persons)]
        assert len(mine) > 10
        assert mine.mean() == pytest.approx(published, rel=0.2), persons


def test_mean_energy_is_that_of_french_households(town):
    """4,255 kWh to 4,800 kWh (Agence ORE and RTE, 2024) within 10 %; electric heating more than doubles it."""
    watts, _, _, of = town
    energy = watts.double().mean((1, 2)) * 8.76
    assert 0.9 * 4255 < energy.mean() < 1.1 * 4800
    assert energy[of.heating > 0].mean() > 2 * energy[without_heat(of)].mean()


def test_peaks_per_household_are_those_of_low_carbon_london(town):
    """Diversified peak of groups: 0.54 to 1.78 kW (Konstantelos, Sun, Strbac 2014), for homes heated by gas."""
    watts, _, _, of = town
    gas = watts[without_heat(of)].flatten(1)
    alone = gas.amax(1).mean()
    of_100 = gas[:100].mean(0).max()
    of_10 = gas[:100].view(10, 10, -1).mean(1).amax(1).mean()
    assert 540 < of_100 < 1780
    # the more homes, the less each adds to the peak
    assert alone > 1.8 * of_10 > 1.8 * 1.2 * of_100


def test_daily_and_weekly_shape_is_that_of_the_h25_profile(town):
    """BDEW's profile of German households, in the dynamic form, for the same days; homes without electric heat."""
    reason = "demandlib and pandas below 3.1 are needed: pip install compvae-fast[profiles]"
    with warnings.catch_warnings():  # demandlib sets filters of its own when imported
        pandas = pytest.importorskip("pandas", reason=reason)
        bdew = pytest.importorskip("demandlib.bdew", reason=reason)
    first = datetime.date(2018, 1, 1)
    holidays = {first + datetime.timedelta(days=d): "" for d in range(364) if common._day(d)[1]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        index = pandas.date_range("2018-01-01", periods=364 * 96, freq="15min")
        h25 = np.asarray(bdew.H25(index, holidays=holidays)).reshape(52, 7, 48, 2).mean(-1)
    h25 /= h25.mean()
    watts, _, _, of = town
    mine = watts[without_heat(of)].double().mean(0).view(52, 7, 48).numpy()
    mine /= mine.mean()
    for days in (slice(0, 5), slice(5, 6), slice(6, 7)):
        a, b = mine[:, days].mean((0, 1)), h25[:, days].mean((0, 1))
        assert np.corrcoef(a, b)[0, 1] > 0.96
        assert np.abs(a - b).mean() < 0.11
        assert a.max() == pytest.approx(b.max(), rel=0.12)
    a, b = mine.mean((1, 2)), h25.mean((1, 2))
    assert np.corrcoef(a, b)[0, 1] > 0.85
    assert np.abs(a - b).mean() < 0.08
    # Sundays above workdays
    assert mine[:, 6].mean() > 1.05 * mine[:, :5].mean()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((torch.tensor([14]), torch.tensor([0]), torch.tensor([0])), "labels: expected values in 1..13, got 14"),
        ((torch.tensor([1]), torch.tensor([0, 1]), torch.tensor([0])), r"households: expected int64 \[1\]"),
        ((torch.tensor([1]), torch.tensor([0]), torch.tensor([0.0])), r"of_weeks: expected int64 \[1\]"),
        ((torch.tensor([1]), torch.tensor([0]), torch.tensor([-1])), "weeks: expected int64"),
    ],
)
def test_wrong_input_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        households.weeks(*arguments, seed=0)
    with pytest.raises(ValueError, match="contract.*got 'base', 7 kVA"):
        households.label_of("base", 7)
