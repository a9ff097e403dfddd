"""Neighbourhoods of users' own households: whom a whole is made of, of which weeks, and what is refused."""

import dataclasses

import pytest
import torch

from compvae_fast.data import households
from compvae_fast.data.households import RecordFiles

HOMES, WEEKS = 24, 10


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """24 homes over 10 weeks; two homes lack week 3, and one the last."""
    folder = tmp_path_factory.mktemp("record")
    households.write(folder, HOMES, seed=4, weeks=WEEKS)
    lines = (folder / "curves.csv").read_text().splitlines()
    gone = [("home-0003", "2018-01-23"), ("home-0007", "2018-01-23"), ("home-0005", "2018-03-05")]
    kept = [line for line in lines if not any(line.startswith(f"{home},{day}") for home, day in gone)]
    (folder / "curves.csv").write_text("\n".join(kept) + "\n")
    paths = {name: str(folder / f"{name}.csv") for name in ("curves", "contracts", "temperature")}
    return RecordFiles(**paths, timezone="UTC", fill=0)


@pytest.fixture(scope="module")
def town(files):
    return files.problem(13, hidden_context=False)


def weeks_of(town, monday):
    """Curves [H, 336] in kW and labels of the homes that have a week."""
    record = town.record
    mine = record.week == record.mondays.index(monday)
    return record.watts[mine] / 1000, record.labels[record.household[mine]]


def monday_of(town, context):
    (index,) = (town.record.temperature == context).all(1).nonzero()
    return town.record.mondays[int(index)]


def members(curves, x, k):
    """Which k of the curves add up to x: weights by least squares, which must be zeros and ones."""
    weight = torch.linalg.lstsq(curves.double().T, x.double()[:, None]).solution.squeeze(1)
    chosen = weight.round()
    assert (weight - chosen).abs().max() < 1e-3 and set(chosen.tolist()) <= {0.0, 1.0} and chosen.sum() == k
    return chosen.bool()


def test_what_is_written_is_read_back(files):
    record = files.read()
    watts, labels, temperature = households.year(HOMES, seed=4, count=WEEKS)
    assert torch.equal(record.labels, labels)
    torch.testing.assert_close(record.temperature, temperature, atol=0.006, rtol=0)
    torch.testing.assert_close(record.watts, watts[record.household, record.week], atol=0.06, rtol=0)
    assert len(record.watts) == HOMES * WEEKS - 3 and len(record.left_out) == 3


def test_the_last_weeks_are_never_trained_on(town):
    assert town.training.mondays + town.held_out.mondays == town.record.mondays
    assert len(town.held_out.mondays) == 2
    batch = town.draw(64, 20, seed=1)
    trained = {monday_of(town, context) for context in batch.context}
    measured = {monday_of(town, context) for context in town.sample_context(64, seed=1)}
    assert trained == set(town.training.mondays) and measured == set(town.held_out.mondays)


@pytest.mark.parametrize("k_per_batch", [None, 1])
def test_training_wholes_are_sums_of_distinct_households_of_one_week(town, k_per_batch):
    batch = town.draw(12, 16, k_min=9, seed=2, k_per_batch=k_per_batch)
    labels = batch.labels.split(batch.offsets.diff().tolist()) if batch.offsets is not None else batch.labels
    found = []
    for x, mine, context in zip(batch.x, labels, batch.context):
        curves, of_homes = weeks_of(town, monday_of(town, context))
        chosen = members(curves, x, len(mine))
        assert torch.equal(of_homes[chosen].sort().values, mine.sort().values)
        found.append(tuple(chosen.tolist()))
    assert len(set(found)) == 12


def test_a_set_is_drawn_the_same_alone(town):
    whole = town.draw(6, 5, k_min=5, seed=3)
    part = town.draw(2, 5, k_min=5, seed=3, set_start=4)
    for name in ("x", "labels", "context"):
        assert torch.equal(getattr(whole, name)[-len(getattr(part, name)):], getattr(part, name))
    asked, alone = town.describe(6, 5, seed=3, k_min=5), town.describe(2, 5, seed=3, k_min=5, set_start=4)
    assert torch.equal(asked.labels[-10:], alone.labels)
    whole = town.wholes(asked.labels, offsets=asked.offsets, context=asked.context, seed=1)
    alone = town.wholes(alone.labels, offsets=alone.offsets, context=alone.context, seed=1, set_start=4)
    assert torch.equal(whole[4:], alone)


def test_weeks_that_lack_households_serve_smaller_wholes(town):
    full, lacking = town.most_parts, town.training.mondays[3]
    assert full == HOMES and town.training.size[3] == HOMES - 2
    weeks = {monday_of(town, c) for c in town.draw(64, full, k_min=full, seed=1).context}
    assert lacking not in weeks and len(weeks) >= 4
    assert lacking in {monday_of(town, c) for c in town.draw(64, full - 2, k_min=full - 2, seed=1).context}


def test_true_wholes_are_of_the_week_asked_for_and_of_the_contracts(town):
    asked = town.describe(8, 10, k_min=4, seed=6)
    x = town.wholes(asked.labels, offsets=asked.offsets, context=asked.context, seed=6)
    again = town.wholes(asked.labels, offsets=asked.offsets, context=asked.context, seed=7)
    assert not torch.equal(x, again)
    for row, mine in enumerate(asked.labels.split(asked.offsets.diff().tolist())):
        curves, of_homes = weeks_of(town, monday_of(town, asked.context[row]))
        chosen = members(curves, x[row], len(mine))
        assert torch.equal(of_homes[chosen].sort().values, mine.sort().values)
    # as they lie dense and padded, and a degree off the held-out week
    labels = asked.labels[: asked.offsets[1]]
    padded = torch.cat([labels, labels * 0 - 1])
    for given, lengths in ((labels[None], None), (padded[None], torch.tensor([len(labels)]))):
        dense = town.wholes(given, lengths=lengths, context=asked.context[:1] + 1, seed=6)
        torch.testing.assert_close(dense, x[:1])
    assert torch.equal(town.separately(labels, 1, context=asked.context[0], seed=6), x[:1])


def test_households_without_common_causes_are_of_held_out_weeks(town):
    alone = town.independent(torch.tensor([2]), 40, seed=1)
    curves, labels = zip(*(weeks_of(town, monday) for monday in town.held_out.mondays))
    known = torch.cat(curves)[torch.cat(labels) == 2]
    distance = torch.cdist(alone.double(), known.double())
    assert distance.amin(1).max() < 1e-3 and distance.argmin(1).unique().numel() > len(known) / 2
    both = town.independent(torch.tensor([2, 2]), 3, seed=1)
    assert both.shape == (3, 336) and both.mean() > 1.2 * alone.mean()


def test_a_record_without_contracts_or_temperature(files):
    bare = dataclasses.replace(files, contracts=None, temperature=None)
    with pytest.raises(ValueError, match="data.contracts: expected a file, for the model tells 13 contracts apart"):
        bare.problem(13, hidden_context=True)
    with pytest.raises(ValueError, match="data.temperature: expected a file, for the model is told the temperature"):
        bare.problem(1, hidden_context=False)
    town = bare.problem(1, hidden_context=True)
    batch = town.draw(8, 6, seed=1, labels=(1, 1))
    assert (batch.labels == 1).all() and (batch.context == 0).all()
    x = town.wholes(torch.ones(30, 1, dtype=torch.int64), context=torch.zeros(30, 168), seed=1)
    held_out = torch.cat([weeks_of_all(town, monday) for monday in town.held_out.mondays])
    distance = torch.cdist(x.double(), held_out.double())
    assert distance.amin(1).max() < 1e-3
    assert {int(i) // HOMES for i in distance.argmin(1)} == {0, 1}, "of any held-out week"


def weeks_of_all(town, monday):
    record = town.record
    return record.watts[record.week == record.mondays.index(monday)] / 1000


def test_what_cannot_be_is_refused(files, town, tmp_path):
    with pytest.raises(ValueError, match=f"k_max: expected at most {HOMES} households of one week, got 25"):
        town.draw(2, HOMES + 1, seed=0)
    most = town.most_measured
    assert most == HOMES - 1, "all but the home that lacks the last week"
    with pytest.raises(ValueError, match=f"k_max: expected at most {most} households of every held-out week"):
        town.describe(2, most + 1, seed=0)
    label = int(town.of_cells[0])
    with pytest.raises(ValueError, match=rf"labels: expected at most \d+ of label {label}, as many as"):
        town.wholes(torch.full((1, HOMES), label), context=town.sample_context(1, seed=0), seed=0)
    with pytest.raises(ValueError, match="data.curves, data.simbench: expected exactly one"):
        RecordFiles()
    with pytest.raises(ValueError, match="data.held_out: expected a share"):
        dataclasses.replace(files, held_out=1.0)
    with pytest.raises(ValueError, match="model.num_labels: expected 13, or 1"):
        files.problem(5, hidden_context=False)
    with pytest.raises(ValueError, match="data.curves: .*none.csv cannot be read"):
        dataclasses.replace(files, curves=str(tmp_path / "none.csv")).read()
    households.write(tmp_path, 3, seed=1, weeks=1)
    short = dataclasses.replace(files, **{name: str(tmp_path / f"{name}.csv") for name in
                                          ("curves", "contracts", "temperature")})
    with pytest.raises(ValueError, match="data: expected two weeks at least, to train and to measure, got 1"):
        short.problem(13, hidden_context=False).open()
    settled = short.settled()
    (tmp_path / "temperature.csv").write_text((tmp_path / "temperature.csv").read_text() + "\n")
    with pytest.raises(ValueError, match="data.temperature: .*temperature.csv has changed since training began"):
        settled.read()
