"""Correlations of two series and their bootstrap."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from nas_lib import correlation
from nas_lib.correlation import Estimate, itself, kendall, pearson, percentile_interval, ranked, resamples, spearman

PAIR = st.integers(3, 30).flatmap(
    lambda items: st.tuples(*[arrays(float, items, elements=st.integers(-4, 4).map(float)) for _ in range(2)])
)


def coefficients(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    first, second = ranked(x, counts), ranked(y, counts)
    return [kendall(first, second, counts), spearman(first, second, counts), pearson(x, y, counts)]


@given(PAIR)
def test_coefficients_of_a_sample_are_those_of_scipy_ties_included(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    found = [float(values[0]) for values in coefficients(x, y, itself(len(x)))]
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert np.isnan(found).all()
    else:
        expected = [function(x, y).statistic for function in (stats.kendalltau, stats.spearmanr, stats.pearsonr)]
        assert found == pytest.approx(expected, abs=1e-9)


def test_coefficients_of_resamples_are_those_of_the_items_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correlation, "BLOCK", 7)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=40), rng.integers(0, 9, 40).astype(float)
    counts = resamples(40, 5, rng)
    assert counts.sum(axis=1).tolist() == [40] * 5
    found = np.array(coefficients(x, y, counts)).T
    for each, row in zip(counts.astype(int), found, strict=True):
        drawn_x, drawn_y = np.repeat(x, each), np.repeat(y, each)
        functions = (stats.kendalltau, stats.spearmanr, stats.pearsonr)
        assert row == pytest.approx([function(drawn_x, drawn_y).statistic for function in functions])


def test_values_too_large_to_square_are_correlated() -> None:
    x = np.array([1e300, 2e300, 4e300])
    assert pearson(x, np.array([1.0, 2.0, 4.0]), itself(3))[0] == pytest.approx(1)


def test_a_percentile_interval_leaves_out_resamples_without_a_value() -> None:
    resampled = np.append(np.arange(101.0), np.nan)
    assert percentile_interval(3, resampled) == Estimate(3.0, 2.5, 97.5)
    with pytest.raises(ValueError, match="no resample"):
        percentile_interval(0, np.array([math.nan]))
