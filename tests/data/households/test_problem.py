"""Households as a problem: wholes are sums, of distinct households, under one week's common causes."""

import pytest
import torch

from compvae_fast.data import problem
from compvae_fast.data.households import problem as households_problem
from compvae_fast.data.households.causes import causes, under_temperature
from compvae_fast.data.households.problem import Households


@pytest.fixture(scope="module")
def town():
    return Households(weeks=6, per_week=31)


def test_the_problem_is_known_by_its_name():
    asked = problem("households")
    assert (asked.shape, asked.labels, asked.context, asked.features) == ((336,), (1, 13), 168, 0)
    assert asked.grows_with_parts


@pytest.mark.parametrize("k_per_batch", [None, 1])
def test_a_batch_adds_up_distinct_households_of_one_week(town, k_per_batch):
    batch = town.draw(20, 31, k_min=4, seed=1, k_per_batch=k_per_batch)
    curves = town.pool.curves(torch.arange(6)).view(6, 31, 336)
    labels = batch.labels.split(batch.offsets.diff().tolist()) if batch.offsets is not None else batch.labels
    weeks = [int((town.pool.temperature == c).all(1).nonzero()) for c in batch.context]
    assert len(set(weeks)) > 3
    for x, mine, week in zip(batch.x, labels, weeks):
        # the households are those of some b, a: all of them are tried
        start, part = torch.arange(31), torch.arange(len(mine))
        members = torch.remainder(start[:, None, None] + start[None, 1:, None] * part, 31).flatten(0, 1)
        assert all(len(set(row)) == len(mine) for row in members[::37].tolist())
        sums = curves[week][members].sum(1)
        found = (sums - x).abs().amax(1).argmin()
        torch.testing.assert_close(sums[found], x, atol=1e-4, rtol=1e-5)
        # the same households stand in another order, too
        assert torch.equal(town.pool.labels[week][members[found]].sort().values, mine.sort().values)


def test_no_household_is_twice_in_a_whole(town):
    """400 wholes of all 31: a step of 0 among 31 would be missed in 400 draws once in 10^5."""
    sets, part = (i.flatten() for i in torch.meshgrid(torch.arange(400), torch.arange(31), indexing="ij"))
    week, cell = town.chosen(torch.full((400,), 31), sets, part, seed=7, set_start=0)
    assert torch.equal(cell.view(400, 31).sort(1).values, week[:, None] * 31 + torch.arange(31))


def test_what_measures_is_of_weeks_after_the_pools_in_calendar_too(town, monkeypatch):
    asked = []
    monkeypatch.setattr(households_problem, "causes", lambda weeks, **k: asked.append(weeks) or causes(weeks, **k))
    context = town.sample_context(20, seed=1)
    town.wholes(torch.full((20, 1), 2), context=context, seed=1)
    town.independent(torch.tensor([2, 9]), 10, seed=1)
    assert len(asked) == 2 and all(weeks.min() >= 6 and weeks.max() < 12 for weeks in asked)


def test_all_households_of_a_week_are_that_weeks_sum(town):
    batch = town.draw(8, 31, k_min=31, k_per_batch=1, seed=2)
    sums = town.pool.curves(torch.arange(6)).view(6, 31, 336).sum(1)
    distance = torch.cdist(batch.x, sums)
    torch.testing.assert_close(distance.amin(1), torch.zeros(8), atol=2e-3, rtol=0)


def test_batches_drawn_in_shards_are_those_drawn_at_once(town):
    whole = town.draw(12, 9, seed=3)
    parts = [town.draw(n, 9, seed=3, set_start=s) for s, n in ((0, 5), (5, 7))]
    for name in ("x", "labels", "context"):
        assert torch.equal(torch.cat([getattr(p, name) for p in parts]), getattr(whole, name))


def test_a_whole_is_the_sum_of_its_parts_in_every_layout(town):
    labels = torch.tensor([[2, 2, 9], [13, 1, 4]])
    context = town.sample_context(2, seed=5)
    whole = town.wholes(labels, context=context, seed=6)
    first = town.wholes(labels[:, :2], context=context, seed=6)
    last = town.wholes(labels[:, 2:], context=context, seed=6, part_start=2)
    torch.testing.assert_close(first + last, whole)
    assert (first > 0).all() and (last > 0).any()
    ragged = town.wholes(labels.flatten(), offsets=torch.tensor([0, 3, 6]), context=context, seed=6)
    padded = town.wholes(
        torch.cat([labels, labels * 0 - 1], 1), lengths=torch.tensor([3, 3]), context=context, seed=6
    )
    torch.testing.assert_close(ragged, whole)
    torch.testing.assert_close(padded, whole)
    second = town.wholes(labels[1:], context=context[1:], seed=6, set_start=1)
    torch.testing.assert_close(second, whole[1:])
    empty = town.wholes(torch.zeros(2, 0, dtype=torch.int64), context=context, seed=6)
    assert torch.equal(empty, torch.zeros(2, 336))


def test_smaller_wholes_are_the_beginnings_of_larger_ones(town):
    labels, context = torch.tensor([2, 9, 13, 4, 2]), town.sample_context(3, seed=1)
    found = town.nested(labels, (5, 1, 3), context=context, seed=2)
    assert set(found) == {1, 3, 5}
    for k, x in found.items():
        torch.testing.assert_close(x, town.wholes(labels[:k].expand(3, -1), context=context, seed=2))
    each = labels.expand(3, -1).split(1, dim=1)
    alone = [town.wholes(part, context=context, seed=2, part_start=i) for i, part in enumerate(each)]
    torch.testing.assert_close(torch.stack(alone).sum(0), found[5])
    torch.testing.assert_close(town.separately(labels, 3, context=context[0], seed=2)[:1], found[5][:1])


def test_every_whole_has_households_of_its_own(town):
    """30 wholes of the same contracts at one temperature, over six calendars: none of them twice."""
    x = town.wholes(torch.full((30, 2), 2), context=town.sample_context(1, seed=1).expand(30, -1), seed=3)
    assert len(x.unique(dim=0)) == 30


def test_the_temperature_asked_for_is_the_one_heated_for(town):
    labels = torch.full((4, 60), 9)
    mild = torch.full((4, 168), 14.0)
    cold, colder = (town.wholes(labels, context=c, seed=1).mean() for c in (mild - 12, mild - 20))
    # per household and degree: 60 % are heated, by 83 W a degree and some by pumps
    per_degree = (colder - cold) / 60 / 8 * 1000
    assert 25 < per_degree < 70
    context = town.sample_context(3, seed=0)
    week = torch.tensor([7, 8, 9])
    own = causes(week, seed=4)
    assert torch.equal(under_temperature(own, own.temperature).felt, own.felt)
    warmer = under_temperature(own, own.temperature + 2)
    torch.testing.assert_close(warmer.felt, own.felt + 2)
    # held-out weeks, never the pool's
    assert not any((town.pool.temperature == c).all(1).any() for c in context)


def test_without_common_causes_the_weeks_level_hardly_varies():
    """Deviations of 60 weekly means, each known to 10 % (one deviation): apart by a factor of 2."""
    town = Households(weeks=60, per_week=5)
    labels = torch.full((40,), 9)
    context = town.sample_context(60, seed=1)
    together = town.wholes(labels.expand(60, -1), context=context, seed=2).mean(1).std()
    apart = town.independent(labels, 60, seed=2).mean(1).std()
    assert together > 2 * apart


def test_labels_have_the_contracts_shares_and_can_be_restricted(town):
    """Label 2's frequency within 5 deviations of 0.34: a false alarm in 6e-7."""
    labels, _ = town.sample_labels(100, 100, k_min=100, k_per_batch=1, seed=0)
    assert abs((labels == 2).float().mean().item() - 0.34) < 5 * (0.34 * 0.66 / 10_000) ** 0.5
    few, _ = town.sample_labels(100, 100, k_min=100, k_per_batch=1, seed=0, labels=(5, 7))
    assert sorted(few.unique().tolist()) == [5, 6, 7]


def test_wrong_input_is_refused(town):
    labels = torch.ones(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match="context: expected 168 numbers"):
        town.wholes(labels, seed=0)
    with pytest.raises(ValueError, match="k_max: expected at most 31 households"):
        town.draw(2, 40, seed=0)
    with pytest.raises(ValueError, match=r"labels: expected \(1, 13\)"):
        town.draw(2, 4, seed=0, labels=(1, 3))
