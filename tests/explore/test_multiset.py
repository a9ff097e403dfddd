import pytest

from compvae_fast.explore import MOST, Multiset, Part
from compvae_fast.explore.multiset import MOST_PLACES

ONE, TWO, THREE = PARTS = tuple(map(Part, (1, 2, 3)))
SOME = Multiset(PARTS, (2, 0, 5))
HERE, THERE = Part(1, (0.5, -0.2)), Part(1, (0.5, 0.2))


def test_parts_come_and_go():
    assert SOME.add(TWO).add(TWO).counts == (2, 2, 5)
    assert SOME.add(THREE, -2).counts == (2, 0, 3)
    assert SOME.put(ONE, 7).counts == (7, 0, 5)
    assert SOME.repeated(3).counts == (6, 0, 15)
    assert SOME.halved().counts == (1, 0, 2)
    assert SOME.cleared().total == 0 and SOME.total == 7
    assert SOME.counts == (2, 0, 5), "a change leaves the old one as it was"


def test_counts_stay_between_none_and_a_million():
    assert SOME.add(TWO, -1).count(TWO) == 0
    assert SOME.put(ONE, 10**9).count(ONE) == MOST == 10**6
    assert SOME.put(ONE, MOST).repeated(2).counts == (MOST, 0, 10)


def test_parts_with_features_come_and_go():
    some = Multiset.empty().add(HERE).add(THERE, 3).add(HERE)
    assert some.parts == (HERE, THERE) and some.counts == (2, 3) and some.labels == (1, 1)
    assert some.add(HERE, -2).parts == (THERE,)
    assert some.halved().counts == (1, 1) and some.halved().halved().parts == ()
    assert some.cleared().parts == () and some.repeated(10**6).counts == (MOST, MOST)
    assert Multiset.empty().put(HERE, 0).parts == ()


def test_places_are_a_page_full_at_most():
    some = Multiset.empty()
    for i in range(MOST_PLACES + 3):
        some = some.add(Part(0, (i / 100, 0.0)))
    assert some.total == len(some.parts) == MOST_PLACES
    assert some.add(some.parts[0]).total == MOST_PLACES + 1, "what is there may be repeated"


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"label: expected one of \(1, 2, 3\), got 4"):
        SOME.put(Part(4), 1)
    with pytest.raises(ValueError, match="counts: expected 0 to 1000000 parts of label 2, got -1"):
        Multiset((ONE, TWO), (0, -1))
    with pytest.raises(ValueError, match="counts: expected 2 of them, got 1"):
        Multiset((ONE, TWO), (0,))
