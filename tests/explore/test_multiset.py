import numpy as np
import pytest

from compvae_fast.explore import MOST, Multiset

SOME = Multiset((1, 2, 3), (2, 0, 5))


def test_parts_come_and_go():
    assert SOME.add(2).add(2).counts == (2, 2, 5)
    assert SOME.add(3, -2).counts == (2, 0, 3)
    assert SOME.put(1, 7).counts == (7, 0, 5)
    assert SOME.repeated(3).counts == (6, 0, 15)
    assert SOME.halved().counts == (1, 0, 2)
    assert SOME.cleared().total == 0 and SOME.total == 7
    assert SOME.counts == (2, 0, 5), "a change leaves the old one as it was"


def test_counts_stay_between_none_and_a_million():
    assert SOME.add(2, -1).count(2) == 0
    assert SOME.put(1, 10**9).count(1) == MOST == 10**6
    assert SOME.put(1, MOST).repeated(2).counts == (MOST, 0, 10)


def test_random_parts_are_as_many_as_asked_for():
    generator = np.random.default_rng(0)
    drawn = [SOME.drawn(8, generator) for _ in range(50)]
    assert all(one.total == 8 for one in drawn)
    # Each label misses all 400 places with a chance of (2/3)^400.
    assert np.array([one.counts for one in drawn]).sum(0).min() > 0


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"label: expected one of 1\.\.3, got 4"):
        SOME.put(4, 1)
    with pytest.raises(ValueError, match="counts: expected 0 to 1000000 parts of label 2, got -1"):
        Multiset((1, 2), (0, -1))
    with pytest.raises(ValueError, match="counts: expected 2 of them, got 1"):
        Multiset((1, 2), (0,))
