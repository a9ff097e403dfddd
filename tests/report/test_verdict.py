import pytest

from compvae_fast.report.tables import COLUMNS, as_text
from compvae_fast.report.verdict import shortfalls

GOOD = {
    "k": 4,
    "model": 0.05,
    "floor": 0.0,
    "gaussian": 0.11,
    "saturated": 0.9,
    "moments": 0.01,
    "amplitude": 1.03,
    "w_bits": 60.0,
    "z_bits": 10.0,
    "x_bits": -300.0,
    "elbo": 160.0,
    "iw_bound": 165.0,
}


def test_a_row_that_meets_all_targets_is_not_mentioned():
    assert shortfalls([GOOD, {**GOOD, "k": 1, "model": 0.1}]) == []


@pytest.mark.parametrize(
    "change, words",
    [
        ({"model": 0.09}, "At K = 4 the energy distance to true wholes is 0.090 (target: at most 0.08)."),
        ({"model": float("nan")}, "At K = 4 the energy distance to true wholes is nan (target: at most 0.08)."),
        ({"k": 30, "model": 0.2}, "At K = 30 the energy distance to true wholes is 0.200 (target: at most 0.15)."),
        ({"gaussian": 0.04}, "closer to true wholes than the model (0.050): Gaussian (0.040)."),
        ({"amplitude": 0.94}, "0.94 times the standard deviation"),
        ({"amplitude": 1.06}, "1.06 times the standard deviation"),
        ({"z_bits": 21.0}, "the parts hold 60.0 bits and z 21.0 (target: 3 to 1)"),
    ],
)
def test_each_missed_target_has_its_sentence(change, words):
    found = shortfalls([{**GOOD, **change}])
    assert any(words in sentence for sentence in found)


def test_a_rival_at_the_floor_cannot_be_beaten():
    assert shortfalls([{**GOOD, "moments": 0.015}]) == []
    assert len(shortfalls([{**GOOD, "moments": 0.03}])) == 1


def test_other_problems_have_targets_of_their_own():
    row = {"k": 100, "model": 0.19, "floor": 0.0, "gaussian": 0.3, "independent": 0.25, "amplitude": 0.91}
    assert shortfalls([row], "households") == []
    found = shortfalls([{**row, "model": 0.26, "amplitude": 0.89}], "households")
    assert "At K = 100 the energy distance to true wholes is 0.260 (target: at most 0.2)." in found[0]
    assert "independent parts (0.250)" in found[1] and "(target: within 10 %)" in found[2]


def test_wholes_that_do_not_vary_are_no_measure_and_a_dash_in_the_table():
    nan = float("nan")
    row = {"k": 1, "model": nan, "floor": nan, "gaussian": nan, "saturated": nan, "amplitude": nan}
    assert shortfalls([row], "dots") == []
    assert as_text([row], COLUMNS).splitlines()[1].split() == ["1", *"-----"]


def test_a_size_without_a_target_is_judged_by_the_rest():
    assert shortfalls([{**GOOD, "k": 3, "model": 0.1}]) == []


def test_text_columns_are_aligned():
    lines = as_text([GOOD, {**GOOD, "k": 30, "elbo": -1234.56}], COLUMNS).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split()[0] == "30" and "-1234.6" in lines[2]
