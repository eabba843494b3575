"""Fronts, hypervolume and statistics across seeds. Every objective is minimised."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_lib.records import Evaluation, History

MARGIN = 0.1
"""Where a reference value is not given: how far it lies beyond the worst value, as a share of the range."""


def objective_matrix(history: History, names: Sequence[str]) -> np.ndarray:
    """Objectives of successful evaluations, shape (n, m)."""
    values = [[evaluation.objectives[name] for name in names] for evaluation in history]
    return np.array(values, dtype=float).reshape(len(values), len(names))


def front(history: History, names: Sequence[str]) -> History:
    """The feasible non-dominated evaluations, by the first objective ascending; of equal ones the first."""
    import moocore

    counting = [evaluation for evaluation in history if evaluation.counts]
    if not counting:
        return []
    keep = moocore.is_nondominated(objective_matrix(counting, names), keep_weakly=False)
    members = [evaluation for evaluation, kept in zip(counting, keep, strict=True) if kept]
    return sorted(members, key=lambda evaluation: [evaluation.objectives[name] for name in names])


@dataclass(frozen=True)
class Scale:
    """The box in which hypervolume is measured."""

    ideal: np.ndarray
    """Best value of each objective, shape (m,)."""
    reference: np.ndarray
    """Reference point, shape (m,)."""


def scale_of(histories: Sequence[History], names: Sequence[str], references: Sequence[float | None]) -> Scale | None:
    """The box from the best values seen in all histories to the reference point.

    Where no reference value is given it lies a tenth of the range seen beyond the worst value in all histories, so that
    the ends of a front count too. None when nothing was feasible.
    """
    points = objective_matrix([one for history in histories for one in history if one.counts], names)
    if not len(points):
        return None
    return _box(points, references)


def _box(points: np.ndarray, references: Sequence[float | None]) -> Scale:
    ideal, worst = points.min(axis=0), points.max(axis=0)
    default = worst + MARGIN * (worst - ideal)
    reference = [default[i] if value is None else value for i, value in enumerate(references)]
    return Scale(ideal=ideal, reference=np.array(reference, dtype=float))


def hypervolume(points: np.ndarray, scale: Scale) -> float:
    """Share of the box between ideal and reference point that the points (n, m) dominate, in [0, 1].

    Computed by moocore on objectives divided by the extent of the box (Zitzler and Thiele 1998). An objective in which
    the box has no extent is left out; where all values lie beyond the reference point nothing is dominated.
    """
    import moocore

    extent = scale.reference - scale.ideal
    used = extent > 0
    if not len(points) or (extent < 0).any():
        return 0.0
    if not used.any():
        return 1.0
    scaled = (points[:, used] - scale.ideal[used]) / extent[used]
    return float(moocore.hypervolume(scaled, ref=np.ones(int(used.sum()))))


def hypervolume_trace(history: History, names: Sequence[str], scale: Scale) -> list[float]:
    """Hypervolume after each evaluation of a history, those that do not count and duplicates included."""
    import moocore

    trace = []
    points = np.empty((0, len(names)))
    value = 0.0
    for evaluation in history:
        if evaluation.counts:
            points = np.vstack([points, objective_matrix([evaluation], names)])
            points = points[moocore.is_nondominated(points)]
            value = hypervolume(points, scale)
        trace.append(value)
    return trace


def spread_selection(members: History, names: Sequence[str], count: int) -> History:
    """At most `count` members of a front that together keep as much of its hypervolume as a greedy choice can.

    The box is that of the front alone.
    """
    if len(members) <= count:
        return list(members)
    points = objective_matrix(members, names)
    scale = _box(points, [None] * len(names))
    chosen: list[int] = []
    for _ in range(count):
        rest = [index for index in range(len(members)) if index not in chosen]
        chosen.append(max(rest, key=lambda index: hypervolume(points[[*chosen, index]], scale)))
    return [members[index] for index in sorted(chosen)]


def best_first(points: np.ndarray) -> list[int]:
    """Indices of points (n, m) from the best to the worst.

    By non-dominated rank (Deb et al. 2002); within a rank by what each adds to the hypervolume of the others, in the
    box of all points; equal ones in the order given.
    """
    import moocore

    if not len(points):
        return []
    scale = _box(points, [None] * points.shape[1])
    extent = scale.reference - scale.ideal
    used = extent > 0
    if used.sum() < 2:
        return [int(index) for index in np.argsort(points[:, used].sum(axis=1), kind="stable")]
    scaled = (points[:, used] - scale.ideal[used]) / extent[used]
    ranks = moocore.pareto_rank(scaled)
    added = np.zeros(len(points))
    for rank in np.unique(ranks):
        members = ranks == rank
        added[members] = moocore.hv_contributions(scaled[members], ref=np.ones(scaled.shape[1]))
    return [int(index) for index in np.lexsort((-added, ranks))]


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float
    count: int


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean and two-sided Student t interval; without extent (low = high = mean) for a single value.

    Raises:
        ValueError: no values.
    """
    from scipy import stats

    if not len(values):
        raise ValueError("no values")
    mean = float(np.mean(values))
    if len(values) == 1:
        return Interval(mean, mean, mean, 1)
    half = float(stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half, len(values))


def attainment_surface(fronts: Sequence[np.ndarray], at_least: int) -> np.ndarray:
    """The goals that at least so many of the fronts attain, as the corners (k, m) of their boundary, by first column.

    A front (n, m) attains every point that is not better than it in any objective. The boundary attained by 1 is the
    best, by half of the fronts the median, by all the worst surface (empirical attainment function: Grunert da Fonseca,
    Fonseca and Hall 2001; computed by moocore). Empty where fewer than `at_least` fronts have points.
    """
    import moocore

    filled = [front for front in fronts if len(front)]
    if at_least > len(filled):
        return np.empty((0, fronts[0].shape[1]))
    sets = np.repeat(np.arange(len(filled)), [len(front) for front in filled])
    corners: np.ndarray = moocore.eaf(np.vstack(filled), sets, percentiles=[100 * at_least / len(filled)])[:, :-1]
    return corners[np.lexsort(corners.T[::-1])]


@dataclass(frozen=True)
class PairedTest:
    """A two-sided test of paired differences."""

    p: float
    """Probability of differences at least as far from 0, were their signs chance."""
    smallest: float
    """The smallest p that this many differences can have: 2^(1 - count). Above 0.05 no outcome is significant."""
    effect: float
    """Matched-pairs rank-biserial correlation (Kerby 2014): the share of the ranks' sum that belongs to positive
    differences, less that of negative ones. 1: all are positive, -1: all are negative."""
    count: int
    """Differences, those that are 0 included."""


def signed_rank_test(differences: Sequence[float]) -> PairedTest:
    """Wilcoxon's signed-rank test (Wilcoxon 1945), by scipy: exact up to 50 differences without ties, 13 with.

    Raises:
        ValueError: no differences.
    """
    from scipy import stats

    if not len(differences):
        raise ValueError("no differences")
    count = len(differences)
    smallest = min(1.0, 2.0 ** (1 - count))
    signs = np.sign(differences)
    if not signs.any():
        return PairedTest(p=1.0, smallest=smallest, effect=0.0, count=count)
    ranks = stats.rankdata(np.abs(differences)[signs != 0])
    effect = float(signs[signs != 0] @ ranks / ranks.sum())
    return PairedTest(float(stats.wilcoxon(differences).pvalue), smallest, effect, count)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, each corrected for all of them (step-down: Holm 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    steps = np.array(p_values)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(p) for p in corrected]


def mean_ranks(values: Sequence[Sequence[float]]) -> list[float]:
    """Mean rank of each competitor over blocks (rows: blocks, columns: competitors); 1 is the largest value.

    Equal values share the mean of their ranks, as in Friedman's test (Friedman 1937).
    """
    from scipy import stats

    return [float(rank) for rank in stats.rankdata(-np.array(values, dtype=float), axis=1).mean(axis=0)]


def seconds_of(evaluations: Sequence[Evaluation]) -> float:
    """Seconds of training and measuring, summed."""
    return float(sum(evaluation.cost.seconds for evaluation in evaluations))
