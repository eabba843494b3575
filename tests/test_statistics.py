"""The statistics of the report, against values computed by hand."""

import numpy as np
import pytest

from nas_lib.correlation import Estimate
from nas_lib.report.results import band, staircase
from nas_lib.report.statistics import rank_correlation, sensitivity, variance_components


def test_rank_correlation_is_that_of_spearman() -> None:
    found = rank_correlation([1, 2, 3, 4], [10, 30, 20, 40])
    assert found is not None
    assert found.value == pytest.approx(1 - 6 * 2 / (4 * 15))  # 1 - 6 sum d^2 / (n (n^2 - 1))
    assert -1 <= found.low < found.value <= found.high <= 1


def test_the_same_order_correlates_without_doubt_and_a_constant_not_at_all() -> None:
    found = rank_correlation(range(9), [value**3 for value in range(9)])
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))
    assert rank_correlation([1, 2, 3], [5, 5, 5]) is None
    assert rank_correlation([1], [2]) is None


def test_variance_components_of_equal_groups() -> None:
    # Means 2 and 6, MSW = (2 + 2) / 2 = 2, MSB = 2 (4 + 4) / 1 = 16, n0 = 2.
    found = variance_components([[1, 3], [5, 7]])
    assert (found.between, found.within) == pytest.approx(((16 - 2) / 2, 2))
    assert found.icc.value == pytest.approx(7 / 9)
    assert (found.groups, found.members) == (2, 4)


def test_variance_components_of_unequal_groups() -> None:
    # Grand mean 4, MSW = (2 + 0) / 1 = 2, MSB = (2 (3 - 4)^2 + (6 - 4)^2) / 1 = 6, n0 = 3 - 5 / 3.
    found = variance_components([[2, 4], [6]])
    assert (found.between, found.within) == pytest.approx((4 / (4 / 3), 2))


def test_the_spread_within_and_between_groups_is_recovered() -> None:
    rng = np.random.default_rng(1)
    groups = [(3 * centre + rng.normal(size=4)).tolist() for centre in rng.normal(size=80)]
    found = variance_components(groups)
    assert found.within == pytest.approx(1, rel=0.2)
    assert found.icc.low < 0.9 < found.icc.high
    assert 0.8 < found.icc.low < found.icc.high < 1


def test_groups_that_are_alike_have_no_correlation_and_single_groups_are_refused() -> None:
    assert variance_components([[1, 3], [1, 3], [3, 1]]).icc.value == 0
    assert variance_components([[1, 1], [1, 1]]).icc == Estimate(0, 0, 0)
    for groups in ([[1, 2]], [[1], [2]]):
        with pytest.raises(ValueError, match="allowed are two or more, one with two"):
            variance_components([list(map(float, group)) for group in groups])


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    return np.random.default_rng(0).random((60, 3))


def test_the_number_that_matters_is_found_with_its_effect(points: np.ndarray) -> None:
    values = 10 * points[:, 1] + np.random.default_rng(1).normal(size=60) / 2
    found = sensitivity(points, values, np.arange(60))
    assert 0.8 < found.r2 < 1
    first, second, third = found.importance
    assert second.low > 0.5
    assert all(abs(other.value) < 0.1 and other.low < 0.02 for other in (first, third))
    grid, (mean, low, high) = found.grids[1], found.dependence[1]
    assert (low <= mean).all() and (mean <= high).all()
    assert mean[-1] - mean[0] == pytest.approx(10 * (grid[-1] - grid[0]), rel=0.2)
    assert np.ptp(found.dependence[0][0]) < 1


def test_equal_arguments_give_equal_surrogates(points: np.ndarray) -> None:
    first, second = (sensitivity(points, points[:, 0], np.arange(60)) for _ in range(2))
    assert (first.r2, first.importance) == (second.r2, second.importance)


def test_noise_is_known_for_noise_even_where_points_occur_twice(points: np.ndarray) -> None:
    half = points[:30]
    noise = np.random.default_rng(2).normal(size=30)
    twice = np.concatenate([half, half]), np.concatenate([noise, noise])
    assert sensitivity(*twice, np.tile(np.arange(30), 2)).r2 < 0.1
    assert sensitivity(*twice, np.arange(60)).r2 > 0.3, "one of a pair would give the other away"


def test_a_band_over_what_was_spent_is_one_of_steps() -> None:
    found = band([[0.2, 0.6], [0.4]], [[2, 4], [3]])
    assert found is not None
    assert found.x.tolist() == [2, 3, 4]
    assert found.low.tolist() == [0, 0.2, 0.4]
    assert found.mean.tolist() == pytest.approx([0.1, 0.3, 0.5])


def test_a_band_over_evaluations_keeps_the_last_value_of_a_search_that_ended() -> None:
    found = band([[0.2, 0.6], [0.4], []])
    assert found is not None
    assert (found.x.tolist(), found.low.tolist(), found.high.tolist()) == ([1, 2], [0.2, 0.4], [0.4, 0.6])
    assert band([[], []]) is None


def test_a_staircase_goes_from_corner_to_corner() -> None:
    assert staircase([(1, 3), (2, 1)], (5, 4)) == [(1, 4), (1, 3), (2, 3), (2, 1), (5, 1)]
    assert staircase([], (5, 4)) == [(5, 4)]
