"""The statistics of the report, on arrays. Equal arguments give equal results: resampling has a fixed seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nas_lib.correlation import Estimate, itself, percentile_interval, ranked, resamples, spearman

SEED = 0
"""Of all resampling."""
RESAMPLES = 2000
"""Bootstrap resamples of statistics that cost little."""
FORESTS = 100
"""Bootstrap resamples of a surrogate, one forest each."""
TREES = 15
"""Trees of a forest."""
SHUFFLES = 5
"""Times a column is shuffled for its importance, in each resample."""
GRID = 15
"""Most values of a dimension at which partial dependence is computed."""
BACKGROUND = 200
"""Most candidates over which partial dependence averages."""


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> Estimate | None:
    """Spearman's rank correlation of two series (n,), its interval over resamples of their pairs.

    None where one of them is constant, or where there are no two pairs: then there is none.
    """
    pairs = np.array([first, second], dtype=float)
    count = pairs.shape[1]
    if count < 2 or (np.ptp(pairs, axis=1) == 0).any():
        return None
    counts = np.vstack([itself(count), resamples(count, RESAMPLES, np.random.default_rng(SEED))])
    x, y = (ranked(values, counts) for values in pairs)
    value, *resampled = spearman(x, y, counts)
    return percentile_interval(value, np.array(resampled))


@dataclass(frozen=True)
class Components:
    """How a quantity varies within and between groups."""

    between: float
    """Variance of the groups' expected values."""
    within: float
    """Variance of the members of a group."""
    icc: Estimate
    """Intraclass correlation: the share of all variance that is between groups, in [0, 1]."""
    groups: int
    members: int


def variance_components(groups: Sequence[Sequence[float]]) -> Components:
    """One-way random-effects components by the method of moments, also for groups of unequal size.

    within = MSW, between = max(0, (MSB - MSW) / n0) with n0 = (N - sum n_i^2 / N) / (a - 1), and ICC(1) = between /
    (between + within) (Shrout and Fleiss 1979; Searle, Casella and McCulloch 1992, section 3.6). The interval resamples
    groups. Where nothing varies at all the ICC is 0.

    Raises:
        ValueError: fewer than two groups, or no group with two members.
    """
    if len(groups) < 2 or max(map(len, groups)) < 2:
        raise ValueError(f"found groups of {[len(group) for group in groups]}, allowed are two or more, one with two")
    sizes = np.array([len(group) for group in groups], dtype=float)
    means = np.array([np.mean(group) for group in groups])
    squares = np.array([np.sum((np.array(group) - np.mean(group)) ** 2) for group in groups])

    def components(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Between and within of the groups at places (b, a)."""
        n, m = sizes[places], means[places]
        total, count = n.sum(axis=1), places.shape[1]
        grand = (n * m).sum(axis=1) / total
        with np.errstate(divide="ignore", invalid="ignore"):
            within = squares[places].sum(axis=1) / (total - count)
            n0 = (total - (n**2).sum(axis=1) / total) / (count - 1)
            between = ((n * (m - grand[:, None]) ** 2).sum(axis=1) / (count - 1) - within) / n0
        return np.maximum(between, 0), within

    def icc(between: np.ndarray, within: np.ndarray) -> np.ndarray:
        whole = between + within
        share: np.ndarray = np.divide(between, whole, out=np.where(np.isnan(whole), np.nan, 0.0), where=whole > 0)
        return share

    between, within = components(np.arange(len(groups))[None])
    places = np.random.default_rng(SEED).integers(len(groups), size=(RESAMPLES, len(groups)))
    estimate = percentile_interval(float(icc(between, within)[0]), icc(*components(places)))
    return Components(float(between[0]), float(within[0]), estimate, len(groups), int(sizes.sum()))


@dataclass(frozen=True)
class Sensitivity:
    """How a quantity depends on the coordinates of its points, by a surrogate; lists have one entry per coordinate."""

    r2: float
    """Share of the variance that the surrogate explains on groups it has not seen; 0 or less: it knows nothing."""
    importance: list[Estimate]
    """How much of that share is lost when the coordinate is shuffled."""
    grids: list[np.ndarray]
    """Values of the coordinate, each (g,)."""
    dependence: list[np.ndarray]
    """Mean prediction with the coordinate at each value of its grid, its low and high end over resamples: (3, g)."""


def sensitivity(points: np.ndarray, values: np.ndarray, groups: np.ndarray) -> Sensitivity:
    """Bagged trees (Breiman 1996) on bootstrap resamples of whole groups, each forest judged on groups it has not seen.

    R2 is of the mean prediction for a point by the forests that have not seen its group. Importance is the R2 lost on
    unseen groups by shuffling a column (permutation importance, Breiman 2001; Fisher, Rudin and Dominici 2019): mean
    over resamples and the percentile interval. Partial dependence (Friedman 2001) is the mean over resamples with a
    pointwise percentile band.

    Args:
        points: coordinates in [0, 1], shape (n, d).
        values: the quantity, shape (n,), not constant.
        groups: a number per point, shape (n,): points of one group are seen or unseen together.
    """
    rng = np.random.default_rng(SEED)
    names = np.unique(groups)
    points = points.astype(np.float32)
    count, width = points.shape
    grids = [_grid(points[:, column]) for column in range(width)]
    background = points[rng.permutation(count)[:BACKGROUND]]
    sums, times = np.zeros(count), np.zeros(count)
    losses: list[np.ndarray] = []
    curves: list[list[np.ndarray]] = [[] for _ in range(width)]
    for _ in range(FORESTS):
        chosen = rng.choice(names, len(names))
        seen = np.concatenate([np.flatnonzero(groups == name) for name in chosen])
        unseen = np.flatnonzero(~np.isin(groups, chosen))
        if not len(unseen):
            continue
        predict = _forest(points[seen], values[seen], rng)
        predicted = predict(points[unseen])
        sums[unseen] += predicted
        times[unseen] += 1
        shuffled = _varied(points[unseen], [rng.permutation(len(unseen)) for _ in range(SHUFFLES)])
        squares = (predict(shuffled).reshape(width, SHUFFLES, len(unseen)) - values[unseen]) ** 2
        # In units of the variance of all values: unseen groups can be too few to have one of their own.
        losses.append((squares.mean(axis=(1, 2)) - ((predicted - values[unseen]) ** 2).mean()) / values.var())
        for column, grid in enumerate(grids):
            moved = np.tile(background, (len(grid), 1))
            moved[:, column] = np.repeat(grid, len(background))
            curves[column].append(predict(moved).reshape(len(grid), -1).mean(axis=1))
    judged = times > 0
    errors = values[judged] - sums[judged] / times[judged]
    lost = np.array(losses)
    return Sensitivity(
        r2=float(1 - (errors**2).mean() / values[judged].var()),
        importance=[percentile_interval(lost[:, column].mean(), lost[:, column]) for column in range(width)],
        grids=grids,
        dependence=[np.vstack([np.mean(found, axis=0), np.percentile(found, [2.5, 97.5], axis=0)]) for found in curves],
    )


def _forest(points: np.ndarray, values: np.ndarray, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """Predicts by the mean of regression trees, each grown to the end on its own resample of the points.

    What scikit-learn's random forest does, without its checks, which would take most of the time for trees this small.
    """
    from sklearn import config_context
    from sklearn.tree import DecisionTreeRegressor

    trees = []
    with config_context(skip_parameter_validation=True):
        for _ in range(TREES):
            places = rng.integers(len(points), size=len(points))
            tree = DecisionTreeRegressor(random_state=int(rng.integers(2**31)))
            trees.append(tree.fit(points[places], values[places], check_input=False))

    def predict(unknown: np.ndarray) -> np.ndarray:
        mean: np.ndarray = np.mean([tree.predict(unknown, check_input=False) for tree in trees], axis=0)
        return mean

    return predict


def _grid(coordinates: np.ndarray) -> np.ndarray:
    """The values of a coordinate where they are few, otherwise even ones between its 5th and 95th percentile."""
    values = np.unique(coordinates)
    low, high = np.percentile(coordinates, [5, 95])
    return values if len(values) <= GRID else np.linspace(low, high, GRID)


def _varied(points: np.ndarray, orders: Sequence[np.ndarray]) -> np.ndarray:
    """For each column and each order the points (n, d) with that column in that order: (d * orders * n, d)."""
    tables = []
    for column in range(points.shape[1]):
        for order in orders:
            table = points.copy()
            table[:, column] = table[order, column]
            tables.append(table)
    return np.vstack(tables)
