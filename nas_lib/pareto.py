"""Fronts, hypervolume and statistics across seeds. Every objective is minimised."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_lib.records import Evaluation, History

MARGIN = 0.1
"""Where a reference value is not given: how far it lies beyond the worst value, as a share of the range."""
UNBOUNDED = frozenset({"loss", "perplexity"})
"""Measures by which a network can fail by any factor, so that its value says nothing of the others."""
RESAMPLES = 2000
"""Of every bootstrap."""
ROUNDING = 1e-9
"""Hypervolumes that are so close are the same."""
DECIMALS = 12
"""Of running hypervolumes: the same points found in another order are to have the same one."""


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

    None when nothing was feasible. See `box`.
    """
    points = objective_matrix([one for history in histories for one in history if one.counts], names)
    if not len(points):
        return None
    return box(points, references, names)


def box(points: np.ndarray, references: Sequence[float | None], names: Sequence[str] = ()) -> Scale:
    """The box of points (n, m), from the best values to the reference point.

    Where no reference value is given it lies a tenth of the range seen beyond the worst value, so that the ends of a
    front count too. Of measures without a bound the worst value is that within the `fence`: beside a loss of 1e30 all
    others would be the same.
    """
    ideal, worst = points.min(axis=0), points.max(axis=0)
    for place in [place for place, name in enumerate(names) if name in UNBOUNDED]:
        values = points[:, place]
        worst[place] = values[values <= fence(values)].max()
    default = worst + MARGIN * (worst - ideal)
    reference = [default[i] if value is None else value for i, value in enumerate(references)]
    return Scale(ideal=ideal, reference=np.array(reference, dtype=float))


def fence(values: np.ndarray) -> float:
    """Three quartile ranges beyond the upper quartile: what lies farther out is none of the others' kind.

    Tukey's outer fence (1977). At least one value lies within.
    """
    low, high = np.percentile(values, [25, 75])
    return float(high + 3 * (high - low))


def hypervolume(points: np.ndarray, scale: Scale) -> float:
    """Share of the box between ideal and reference point that the points (n, m) dominate, in [0, 1].

    Computed by moocore on objectives divided by the extent of the box (Zitzler and Thiele 1998). An objective in which
    the box has no extent is left out; where all values lie beyond the reference point nothing is dominated.
    """
    import moocore

    scaled = _scaled(points, scale)
    if not len(scaled):
        return 0.0
    return float(moocore.hypervolume(scaled, ref=np.ones(scaled.shape[1]))) if scaled.shape[1] else 1.0


def running_hypervolume(points: np.ndarray, scale: Scale) -> np.ndarray:
    """Hypervolume of the first 1, 2, ... n points (n, m), shape (n,)."""
    scaled = _scaled(points, scale)
    if not len(scaled) or not scaled.shape[1]:
        return np.full(len(points), float(len(scaled) > 0))
    members, value, values = scaled[:0], 0.0, []
    for point in scaled:
        if gain := _gain(point, members):
            value += gain
            members = _joined(members, point)
        values.append(value)
    return np.array(values).round(DECIMALS)


def _gain(point: np.ndarray, members: np.ndarray) -> float:
    """Hypervolume that a point (m,) adds to the members (k, m), all in units of the box.

    What lies between it and the reference point, less what the members dominate of that (exclusive hypervolume: While,
    Bradstreet and Barone 2012).
    """
    import moocore

    if (point >= 1).any() or (members <= point).all(axis=1).any():
        return 0.0
    shared = moocore.hypervolume(np.maximum(members, point), ref=np.ones(len(point))) if len(members) else 0.0
    return max(0.0, float(np.prod(1 - point) - shared))


def _joined(members: np.ndarray, point: np.ndarray) -> np.ndarray:
    """The members (k, m) and a point (m,), less those it dominates."""
    return np.vstack([members[~(point <= members).all(axis=1)], point])


def most_improving(points: np.ndarray, members: np.ndarray, scale: Scale, count: int) -> list[int]:
    """Indices of at most `count` of the points (n, m), each the one that adds most hypervolume to what the members
    (k, m) and those chosen before it dominate; none that adds nothing.

    Gains only shrink while points are chosen, so one is computed again only while its last gain leads (lazy greedy:
    Minoux 1978).
    """
    scaled, taken = _scaled(points, scale), _scaled(members, scale)
    if not len(scaled) or not scaled.shape[1]:
        return []
    queue = [(-gain, place) for place, point in enumerate(scaled) if (gain := _gain(point, taken))]
    heapq.heapify(queue)
    chosen: list[int] = []
    while queue and len(chosen) < count:
        _, place = heapq.heappop(queue)
        gain = _gain(scaled[place], taken)
        if queue and (-gain, place) > queue[0]:
            heapq.heappush(queue, (-gain, place))
        elif gain:
            chosen.append(place)
            taken = _joined(taken, scaled[place])
    return chosen


def _scaled(points: np.ndarray, scale: Scale) -> np.ndarray:
    """Points (n, m) in units of the box, without objectives in which it has no extent; none for a box turned over."""
    extent = scale.reference - scale.ideal
    used = extent > 0
    if (extent < 0).any():
        return np.empty((0, len(extent)))
    scaled: np.ndarray = (points[:, used] - scale.ideal[used]) / extent[used]
    return scaled


def hypervolume_trace(history: History, names: Sequence[str], scale: Scale) -> list[float]:
    """Hypervolume after each evaluation of a history, those that do not count and duplicates included."""
    counts = np.array([evaluation.counts for evaluation in history], dtype=bool)
    points = objective_matrix([evaluation for evaluation in history if evaluation.counts], names)
    values = np.append(0.0, running_hypervolume(points, scale))
    return [float(value) for value in values[np.cumsum(counts)]]


def igd_plus(points: np.ndarray, front: np.ndarray) -> float:
    """Mean distance by which the points (n, m) fall short of a front (k, m), as a share of its range; 0 is best.

    IGD+ (Ishibuchi, Masuda, Tanigaki and Nojima 2015), computed by moocore on objectives divided by the extent of the
    front; one in which it has no extent is left as it is. Infinite without points.
    """
    import moocore

    if not len(points):
        return float("inf")
    extent = np.ptp(front, axis=0)
    extent = np.where(extent > 0, extent, 1.0)
    return float(moocore.igd_plus(points / extent, ref=front / extent))


def spread_selection(members: History, names: Sequence[str], count: int, farthest: np.ndarray | None = None) -> History:
    """At most `count` members of a front that together keep as much of its hypervolume as a greedy choice can.

    The box is that of the front alone, and ends at `farthest` (m,) where members better than that lie beyond.
    """
    if len(members) <= count:
        return list(members)
    points = objective_matrix(members, names)
    scale = box(points, [None] * len(names))
    if farthest is not None and (points < farthest).all(axis=1).any():
        scale = Scale(scale.ideal, np.minimum(scale.reference, farthest))
    return [members[index] for index in sorted(most_improving(points, points[:0], scale, count))]


def best_first(points: np.ndarray) -> list[int]:
    """Indices of points (n, m) from the best to the worst.

    By non-dominated rank (Deb et al. 2002); within a rank by what each adds to the hypervolume of the others, in the
    box of all points; equal ones in the order given.
    """
    import moocore

    if not len(points):
        return []
    scale = box(points, [None] * points.shape[1])
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
    from scipy.special import stdtrit  # scipy.stats has it too, and takes a second to import

    if not len(values):
        raise ValueError("no values")
    mean = float(np.mean(values))
    if len(values) == 1:
        return Interval(mean, mean, mean, 1)
    standard_error = np.std(values, ddof=1) / math.sqrt(len(values))
    half = float(stdtrit(len(values) - 1, 0.5 + confidence / 2) * standard_error)
    return Interval(mean, mean - half, mean + half, len(values))


def bootstrap_means(table: np.ndarray, rng: np.random.Generator, confidence: float = 0.95) -> np.ndarray:
    """Low and high end of the confidence interval of the mean of every column of a table (n, k): shape (2, k).

    Bias-corrected and accelerated bootstrap over rows (Efron 1987), by scipy. Without extent for a single row and for a
    column that does not vary.
    """
    from scipy import stats

    ends = np.tile(table.mean(axis=0), (2, 1))
    vary = np.ptp(table, axis=0) > 0
    if vary.any():
        found = stats.bootstrap(
            (table[:, vary],),
            np.mean,
            n_resamples=RESAMPLES,
            axis=0,
            confidence_level=confidence,
            method="BCa",
            rng=rng,
        ).confidence_interval
        ends[:, vary] = found.low, found.high
    return ends


def bootstrap_interval(values: Sequence[float], rng: np.random.Generator, confidence: float = 0.95) -> Interval:
    """Mean and bootstrap interval, see `bootstrap_means`; without extent for values that do not vary, or a single one.

    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("no values")
    low, high = bootstrap_means(np.array(values, dtype=float)[:, None], rng, confidence)[:, 0]
    return Interval(float(np.mean(values)), float(low), float(high), len(values))


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

    Differences of 0 are left out first: with them scipy would approximate p where it need not.

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
    there = np.array(differences, dtype=float)[signs != 0]
    ranks = stats.rankdata(np.abs(there))
    effect = float(np.sign(there) @ ranks / ranks.sum())
    return PairedTest(float(stats.wilcoxon(there).pvalue), smallest, effect, count)


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


@dataclass(frozen=True)
class FriedmanTest:
    """Whether any competitor ranks differently from the others."""

    p: float
    """Probability of mean ranks at least as far apart, were ranks chance."""
    statistic: float
    """Chi squared with one degree of freedom less than there are competitors, corrected for ties."""


def friedman_test(values: Sequence[Sequence[float]]) -> FriedmanTest:
    """Friedman's test (1937), by scipy. Rows: blocks, columns: competitors. Where nothing differs p is 1.

    Raises:
        ValueError: fewer than three competitors, for which scipy has no test; take `signed_rank_test` for two.
    """
    from scipy import stats

    table = np.array(values, dtype=float)
    if table.shape[1] < 3:
        raise ValueError(f"found {table.shape[1]} competitors, allowed are 3 or more")
    if (np.ptp(table, axis=1) == 0).all():
        return FriedmanTest(p=1.0, statistic=0.0)
    found = stats.friedmanchisquare(*table.T)
    return FriedmanTest(p=float(found.pvalue), statistic=float(found.statistic))


def critical_difference(competitors: int, blocks: int, level: float = 0.05) -> float:
    """Mean ranks that are at least so far apart differ significantly (Nemenyi 1963; Demšar 2006, section 3.2.2)."""
    from scipy import stats

    quantile = float(stats.studentized_range.ppf(1 - level, competitors, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(competitors * (competitors + 1) / (6 * blocks))


def alike(ranks: Sequence[float], difference: float) -> list[list[int]]:
    """The largest groups of two or more competitors whose mean ranks are all less than a difference apart.

    Places in `ranks`, best rank first; groups may overlap.

    >>> alike([1.0, 4.0, 2.5, 1.5], 2.0)
    [[0, 3, 2], [2, 1]]
    """
    order = sorted(range(len(ranks)), key=lambda place: ranks[place])
    groups: list[list[int]] = []
    for start, first in enumerate(order):
        group = [place for place in order[start:] if ranks[place] - ranks[first] < difference]
        if len(group) > 1 and not (groups and set(group) <= set(groups[-1])):
            groups.append(group)
    return groups


def reached(trace: Sequence[float], level: float) -> int | None:
    """After how many evaluations a trace first reaches a level, but for rounding; None where it never does."""
    return next((place for place, value in enumerate(trace, start=1) if value >= level - ROUNDING), None)


@dataclass(frozen=True)
class Waiting:
    """After how many evaluations half of the searches reach a level."""

    median: float | None
    """None: fewer than half reached it."""
    low: float | None
    """95 % confidence interval; None: there are too few searches for one."""
    high: float | None
    """None: open, for too few searches reached the level."""
    reached: int
    """Searches that reached it."""
    count: int


def waiting(firsts: Sequence[int | None], confidence: float = 0.95) -> Waiting:
    """The median of evaluations to a level, where some searches (None) did not reach it within the budget.

    All are censored at one and the same time, the budget. Then the Kaplan-Meier curve (1958) is the empirical
    distribution: its median is the smallest number of evaluations after which at least half had reached the level. The
    interval is that of order statistics (sign test, by scipy), which assumes no distribution; it exists from 6 searches
    on.

    Raises:
        ValueError: no searches.
    """
    from scipy import stats

    if not len(firsts):
        raise ValueError("no searches")
    times = np.sort([np.inf if first is None else float(first) for first in firsts])
    interval = stats.quantile_test(times, p=0.5).confidence_interval(confidence)
    median, low, high = (
        float(value) if np.isfinite(value) else None for value in (_lower_median(times), interval.low, interval.high)
    )
    return Waiting(median, low, high, int(np.isfinite(times).sum()), len(times))


def _lower_median(times: np.ndarray) -> np.ndarray:
    """The smallest value that at least half of the last axis do not exceed."""
    found: np.ndarray = np.sort(times, axis=-1)[..., (times.shape[-1] - 1) // 2]
    return found


@dataclass(frozen=True)
class SpeedUp:
    """How many times more evaluations one strategy needs to a level than another: ratio of their medians.

    Where a median lies beyond the budget the ratio is known within bounds only; where it is known they are equal.
    """

    at_least: float
    """0: nothing is known."""
    at_most: float | None
    """None: nothing is known."""
    low: float
    """95 % percentile interval over resamples of seeds; 0: open."""
    high: float | None
    """None: open."""


def speed_up(slow: Sequence[int | None], fast: Sequence[int | None], budget: int, rng: np.random.Generator) -> SpeedUp:
    """The median of evaluations to a level of `slow` over that of `fast`; both have one entry per seed, in one order.

    A median that was not reached is known to be above the budget, so each resample of the paired seeds (Efron 1979)
    gives bounds; the interval runs from the 2.5 percentile of the lower to the 97.5 percentile of the upper bounds.
    """
    pair = np.array([[np.inf if first is None else first for first in firsts] for firsts in (slow, fast)], dtype=float)
    places = rng.integers(pair.shape[1], size=(RESAMPLES, pair.shape[1]))
    seen, resampled = _bounds(_lower_median(pair), budget), _bounds(_lower_median(pair[:, places]), budget)
    low = float(np.percentile(resampled[0], 2.5, method="inverted_cdf"))
    high = float(np.percentile(resampled[1], 97.5, method="inverted_cdf"))
    at_least, at_most = map(float, seen)
    return SpeedUp(at_least, at_most if np.isfinite(at_most) else None, low, high if np.isfinite(high) else None)


def _bounds(medians: np.ndarray, budget: int) -> np.ndarray:
    """Lower and upper bound of the ratio of slow to fast medians (2, ...), those beyond the budget being infinite."""
    slow, fast = np.minimum(medians, budget)
    ratio, known = slow / fast, np.isfinite(medians)
    return np.stack([np.where(known[1], ratio, 0.0), np.where(known[0], ratio, np.inf)])


def seconds_of(evaluations: Sequence[Evaluation]) -> float:
    """Seconds of training and measuring, summed."""
    return float(sum(evaluation.cost.seconds for evaluation in evaluations))
