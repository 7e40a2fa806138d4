"""The paper's numbers, statistics and claims of the tables, without any training."""

import json
import math
import re

import numpy as np
import pytest

from recipes.shared.console import UserError
from recipes.tables.claims import interval, paragraph
from recipes.tables.collect import read_costs
from recipes.tables.paper import MEANS, TABLES, mode_of
from recipes.tables.statistics import (
    BY_ROWS,
    BY_ROWS_OF_ONE,
    BY_SEEDS,
    Cell,
    Difference,
    average,
    bootstrap,
    difference,
)


def row(table: tuple[int, str], key: str):
    return next(one for one in TABLES[table].rows if one.key == key)


def test_the_papers_numbers_are_as_printed():
    assert row((1, "images"), "randommix").paper == (97.22, 98.02, 82.14, 84.84)
    assert row((1, "images"), "puzzlemix").paper[3] == 83.71
    assert row((1, "images"), "patchup").paper == (97.08, 97.47, 80.88, 82.30)
    assert row((2, "images"), "puzzlemix").paper == (66.65, 85.29, 77.69, 93.94, 2.10)
    assert row((3, "speech"), "randommix").paper == (98.33, 98.77)
    assert row((4, "images"), "cutmix").paper == (17.46, 84.70, 52.91, 33.44)
    assert row((5, "images"), "3-1-1-1").paper == (15.51, 70.23, 42.16, 28.12)
    assert row((6, "images"), "MRF").paper == (69.07,)


def test_the_means_of_table_6_are_those_of_its_rows_but_for_what_we_added():
    table = TABLES[6, "images"]
    assert len(table.rows) == 16
    assert [one.label for one in table.rows if not one.in_paper] == ["[R, F]"]
    # The paper's means of two, three, four and no candidates follow from its rows; that of one is 66.48, not 66.47.
    for size, printed in MEANS.items():
        own = [r.paper[0] for r in table.rows if (0 if r.mixer == "none" else len(r.candidates)) == size and r.in_paper]
        assert np.mean(own) == pytest.approx(printed, abs=0.011)


def test_every_row_has_a_number_for_every_column_and_every_reference_is_a_row():
    for table in TABLES.values():
        assert table.reference in {one.key for one in table.rows}
        assert len({one.key for one in table.rows}) == len(table.rows)
        assert all(len(one.paper) == (len(table.columns)) for one in table.rows)


def test_weights_are_the_papers_where_it_names_them_and_the_speech_tables_share_randommix():
    table4, table5 = TABLES[4, "images"], TABLES[5, "images"]
    assert row((4, "images"), "randommix").weights == (4.0, 1.0, 1.0, 1.0)
    assert table4.rows[-1].paper == table5.rows[-1].paper  # which is how that is known
    assert row((4, "speech"), "randommix").weights is None
    assert TABLES[4, "speech"].columns[0].setting.weights == (1.0, 1.0, 1.0, 1.0)
    assert TABLES[1, "images"].columns[1].setting.weights == (3.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    "candidates, mode", [(("mixup",), "L"), (("cutmix", "fmix"), "M"), (("mixup", "resizemix"), "L+M")]
)
def test_the_mixed_mode_says_whether_linear_and_mask_methods_are_among_the_candidates(candidates, mode):
    assert mode_of(candidates) == mode


def test_mean_and_standard_deviation_are_over_seeds():
    cell = Cell({0: 90.0, 1: 92.0, 2: 91.0})
    assert (cell.mean, cell.spread) == (91.0, 1.0)
    assert Cell({0: 90.0}).spread is None
    assert math.isnan(Cell().mean)


def test_equal_pairs_have_an_interval_of_zero_which_is_not_decided():
    items = {seed: np.array([100.0, 0.0, 100.0]) for seed in (0, 1)}
    cell = Cell({0: 66.7, 1: 66.7}, items)
    found = difference([cell], [cell])
    assert found == Difference(0.0, 0.0, 0.0, 2, BY_ROWS)
    assert interval(found) == "+0.00 [+0.00, +0.00], not decided"


def test_an_interval_over_test_rows_is_that_of_a_mean_and_decides_nothing_of_one_seed():
    random = np.random.default_rng(1)
    own, other = (100.0 * (random.random(2000) < rate) for rate in (0.9, 0.8))
    found = difference([Cell({0: own.mean()}, {0: own})], [Cell({0: other.mean()}, {0: other})], resamples=4000)
    assert found is not None
    error = (own - other).std() / 2000**0.5
    assert found.mean == pytest.approx(own.mean() - other.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.06)
    assert (found.how, found.pairs) == (BY_ROWS_OF_ONE, 1)
    assert found.low > 0
    assert not found.decided
    assert interval(found).endswith(", one seed")


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("scatter", [0.0, 0.6, 3.0])
def test_chance_between_trainings_is_rarely_called_decided(seeds, scatter):
    """Trainings of two kinds that are alike: their errors differ by `scatter` points from seed to seed."""
    random, decided = np.random.default_rng(seeds), 0
    for _ in range(150):
        sides = []
        for _ in range(2):
            rates = 0.1 + scatter / 100 / 2**0.5 * random.standard_normal(seeds)
            rows = {seed: 100.0 * (random.random(1000) < rate) for seed, rate in enumerate(rates.clip(0, 1))}
            sides.append(Cell({seed: float(row.mean()) for seed, row in rows.items()}, rows))
        found = difference([sides[0]], [sides[1]], resamples=300)
        assert found is not None
        decided += found.decided
    assert decided <= 150 * 0.05 + 3 * (150 * 0.05 * 0.95) ** 0.5


def test_three_seeds_without_test_rows_have_the_interval_of_student_which_is_wide():
    own, other = Cell({0: 91.0, 1: 93.0, 2: 95.0}), Cell({0: 90.0, 1: 90.0, 2: 90.0, 3: 1.0})
    found = difference([own], [other])
    assert found is not None
    half = 4.3027 * 2 / 3**0.5
    assert found == (3.0, pytest.approx(3.0 - half, abs=1e-3), pytest.approx(3.0 + half, abs=1e-3), 3, BY_SEEDS)
    assert not found.decided  # though all three seeds agree, as one in four would by chance


def test_the_bootstrap_draws_whole_runs():
    drawn = bootstrap([np.array([[1.0], [3.0], [5.0]])])
    assert drawn.std() == pytest.approx((8 / 3 / 3) ** 0.5, rel=0.05)


def test_one_pair_without_test_rows_has_no_interval_and_is_not_decided():
    found = difference([Cell({0: 91.0})], [Cell({0: 90.0})])
    assert found == Difference(1.0, None, None, 1, "")
    assert interval(found) == "+1.00, one seed"
    assert difference([Cell({0: 91.0})], [Cell({1: 90.0})]) is None


def test_scores_of_other_numbers_of_rows_are_added_and_scores_of_the_same_rows_drawn_together():
    same = np.array([100.0, 0.0] * 50)
    a = [Cell({0: 50.0}, {0: same}), Cell({0: 50.0}, {0: 100.0 - same})]
    zero = Cell({0: 0.0}, {0: np.zeros(100)})
    found = difference(a, [zero, zero])
    assert found is not None
    assert (found.low, found.high) == (50.0, 50.0)  # what one score loses with a row, the other one gains
    b = [a[0], Cell({0: 50.0}, {0: same[:40]})]
    other = difference(b, [zero, Cell({0: 0.0}, {0: np.zeros(40)})])
    assert other is not None
    assert other.low < 50.0 < other.high


def test_a_mean_of_cells_is_over_the_seeds_that_all_have():
    found = average([Cell({0: 1.0, 1: 3.0}, {0: np.array([1.0])}), Cell({0: 3.0}, {0: np.array([3.0])})])
    assert found.values == {0: 2.0}
    assert found.items[0].tolist() == [2.0]


def cells(table: tuple[int, str], numbers: dict[str, tuple[float, ...]]) -> dict:
    """Cells whose three seeds differ by 0.1 point all alike; rows that are not named are missing."""
    its = TABLES[table]
    return {
        (one.key, i): Cell({s: numbers[one.key][i] + s / 10 for s in range(3)}) if one.key in numbers else Cell()
        for one in its.rows
        for i in range(len(its.columns))
    }


def test_the_paragraph_of_table_4_agrees_with_the_paper_on_the_papers_own_numbers():
    table = TABLES[4, "images"]
    found = paragraph(table, cells((4, "images"), {one.key: one.paper for one in table.rows}))
    assert "On the mean of corruption and occlusion error: the data agree" in found
    assert "minus Mixup -7.59 [-7.59, -7.59]" in found
    assert "15 point the same way here, 0 the other way, 0 are not decided" in found


def test_the_paragraph_of_table_4_says_what_speaks_against_it_and_what_is_missing():
    rows = {one.key: (20, 80, 50, 40) for one in TABLES[4, "speech"].rows}
    rows |= {"mixup": (20, 80, 30, 30), "randommix": (20, 80, 40, 30)}
    found = paragraph(TABLES[4, "speech"], cells((4, "speech"), rows))
    assert "noise and occlusion error: the data speak against it" in found
    assert "RandomMix minus Mixup +5.00 [+5.00, +5.00]" in found
    del rows["fmix"]
    found = paragraph(TABLES[4, "speech"], cells((4, "speech"), rows))
    assert "noise and occlusion error: not all of it was measured" in found
    assert "minus FMix not measured" in found


@pytest.mark.parametrize("keys", [("none", "randommix"), ("none", "mixup", "randommix")])
def test_a_claim_about_every_method_is_not_judged_by_some_of_them(keys):
    rows = {key: (90.0 + 5 * (key == "randommix"),) * 2 for key in keys}
    found = paragraph(TABLES[3, "speech"], cells((3, "speech"), rows))
    assert found.count("better than every other method: not all of it was measured") == 2
    assert "minus CutMix not measured" in found


def test_one_seed_decides_no_claim_and_says_how_many_signs_agree():
    table = TABLES[4, "images"]
    own = {
        (one.key, i): Cell({0: number}, {0: np.array([number, number])})
        for one in table.rows
        for i, number in enumerate(one.paper)
    }
    found = paragraph(table, own)
    assert "not decided by one seed (4 of 4 differences have the paper's sign)" in found
    assert "15 of 15 point the same way for this seed" in found


def test_one_seed_decides_no_difference_of_table_5():
    table = TABLES[5, "images"]
    own = {(one.key, i): Cell({0: n}, {0: np.array([n, n])}) for one in table.rows for i, n in enumerate(one.paper)}
    assert "One seed decides none of the 9 differences to [1,1,1,1]." in paragraph(table, own)


def test_table_5_counts_robustness_alone_and_says_what_chance_would_decide():
    table = TABLES[5, "images"]
    found = paragraph(table, cells((5, "images"), {one.key: one.paper for one in table.rows}))
    assert "Of 9 differences to [1,1,1,1] 9 are decided" in found
    assert "(if none of 9 differences were real, about 0.5 would be decided by chance)" in found
    assert "Clean" not in found


def test_the_paragraph_of_table_6_agrees_with_the_paper_on_the_papers_own_numbers():
    table = TABLES[6, "images"]
    found = paragraph(table, cells((6, "images"), {one.key: one.paper for one in table.rows if one.in_paper}))
    assert "more candidates are better: the data agree; 2 minus 1 +1.50 [+1.50, +1.50]" in found
    assert re.search(r"one mode: the data agree; of 2 candidates L\+M minus M \+1\.0[67]", found)  # 1.065
    without = {one.key: one.paper for one in table.rows if one.in_paper and one.key != "MCRF"}
    assert "better: not all of it was measured" in paragraph(table, cells((6, "images"), without))


def test_costs_are_read_from_the_file_of_the_benchmark_and_another_file_is_refused(tmp_path):
    file = tmp_path / "method_cost.json"
    file.write_text(json.dumps({"devices": {"cpu": {"mixup": {"cost": {"median": 1.02, "low": 1, "high": 2}}}}}))
    assert read_costs(str(file)) == {"mixup": 1.02}
    assert read_costs(None) == {}
    file.write_text("{}")
    with pytest.raises(UserError, match=r"not what benchmarks\.method_cost writes"):
        read_costs(str(file))
