"""How far two series agree: Kendall's tau-b, Spearman's rho, Pearson's r, and intervals by the bootstrap over items.

A resample says how often each item was drawn, so all resamples together are a matrix of counts, and a coefficient of
all of them is a few matrix products. Series that share resamples can be compared item by item (paired).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]
"""One value per item (n,), or one per resample (B,)."""
Counts = NDArray[np.float64]
"""How often each resample has each item, (B, n)."""
BLOCK = 1024
"""Items whose pairs with all others are compared at once."""
ROUNDING = 1e-13
"""Share of the mean square below which a variance is none."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % percentile interval over bootstrap resamples (Efron 1979)."""

    value: float
    low: float
    high: float


def percentile_interval(value: float, resampled: Series) -> Estimate:
    """A figure with the 2.5 and 97.5 percentiles of its values (B,) over resamples; those without a value are left out.

    Raises:
        ValueError: no resample has a value.
    """
    found = resampled[~np.isnan(resampled)]
    if not len(found):
        raise ValueError("no resample has a value")
    low, high = np.percentile(found, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high))


def itself(items: int) -> Counts:
    """The one resample that is the sample itself, (1, n)."""
    return np.ones((1, items))


def resamples(items: int, number: int, rng: np.random.Generator) -> Counts:
    """Resamples (number, n) of as many items as there are, with replacement."""
    places = rng.integers(items, size=(number, items))
    counts = np.zeros((number, items))
    np.add.at(counts, (np.arange(number)[:, None], places), 1)
    return counts


@dataclass(frozen=True)
class Ranks:
    """A series ranked within each resample."""

    order: NDArray[np.int64]
    """Rank of each item among the different values, from 0, (n,)."""
    centred: Series
    """Mean rank of each item among the draws of a resample, less the mean of all ranks, (B, n)."""
    spread: Series
    """Sum of their squares over the draws, (B,)."""
    untied: Series
    """Ordered pairs of draws that have different values, (B,)."""


def ranked(values: Series, counts: Counts) -> Ranks:
    """Rank a series (n,) within resamples (B, n); equal values share their mean rank."""
    _, order = np.unique(values, return_inverse=True)
    sorted_places = np.argsort(order, kind="stable")
    starts = np.flatnonzero(np.diff(order[sorted_places], prepend=-1))
    groups = np.add.reduceat(counts[:, sorted_places], starts, axis=1)
    total = counts.sum(axis=1, keepdims=True)
    centred = groups.cumsum(axis=1) - (groups + total) / 2
    return Ranks(
        order=order,
        centred=centred[:, order],
        spread=(groups * centred**2).sum(axis=1),
        untied=total[:, 0] ** 2 - (groups**2).sum(axis=1),
    )


def kendall(first: Ranks, second: Ranks, counts: Counts) -> Series:
    """Kendall's tau-b of each resample, (B,): pairs in the same order less those in the other, over the geometric mean
    of those not tied in the one and of those not tied in the other (Kendall 1945). nan where a series does not vary."""
    drawn = counts.astype(np.float32)  # whole numbers, which this holds exactly up to 2^24
    agreeing = np.zeros(len(counts))
    x, y = first.order.astype(np.float32), second.order.astype(np.float32)
    for start in range(0, len(x), BLOCK):
        block = slice(start, start + BLOCK)
        signs = np.sign(x[: start + BLOCK, None] - x[None, block]) * np.sign(y[: start + BLOCK, None] - y[None, block])
        signs[:start] *= 2  # for the pairs of a later item with an earlier one too
        agreeing += np.einsum("bi,bi->b", drawn[:, : start + BLOCK] @ signs, drawn[:, block], dtype=np.float64)
    return _ratio(agreeing, first.untied * second.untied)


def spearman(first: Ranks, second: Ranks, counts: Counts) -> Series:
    """Spearman's rho of each resample, (B,): Pearson's r of mean ranks. nan where a series does not vary."""
    product = np.einsum("bi,bi,bi->b", counts, first.centred, second.centred)
    return _ratio(product, first.spread * second.spread)


def pearson(first: Series, second: Series, counts: Counts) -> Series:
    """Pearson's r of two series (n,) in each resample, (B,). nan where a series does not vary."""
    x, y = (_scaled(values) for values in (first, second))
    sums = np.stack([x, y, x * x, y * y, x * y], axis=1)
    with np.errstate(invalid="ignore"):  # a resample may have none of these items
        mean_x, mean_y, square_x, square_y, product = (counts @ sums / counts.sum(axis=1, keepdims=True)).T
    return _ratio(product - mean_x * mean_y, _variance(square_x, mean_x) * _variance(square_y, mean_y))


def _variance(square: Series, mean: Series) -> Series:
    """Of means of squares and means; exactly 0 where only rounding differs from that."""
    found = square - mean**2
    return np.where(found > ROUNDING * square, found, 0.0)


def _scaled(values: Series) -> Series:
    """Values less their mean, from -1 to 1, so that squares of large ones are still numbers."""
    largest = np.abs(values).max(initial=0)
    values = values / largest if largest else values
    values = values - values.mean()
    largest = np.abs(values).max(initial=0)
    return values / largest if largest else values


def _ratio(above: Series, below: Series) -> Series:
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Series = np.where(below > 0, above / np.sqrt(below), np.nan)
    return found.clip(-1, 1)
