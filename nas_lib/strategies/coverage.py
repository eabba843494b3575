"""Coverage: proposals that together are expected to dominate most of what the front leaves open.

Each objective that cannot be computed is predicted by a Gaussian process on genes. Random goals are drawn in the part
of the box between the optimistic predictions and the reference point that nothing measured dominates. An architecture
reaches a goal with the probability that all its objectives are at least as good; summed over goals this is its expected
improvement of the hypervolume, by Monte Carlo over goals instead of over outcomes, for any number of objectives. A
batch is chosen greedily: a goal counts by the probability that none chosen so far reaches it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StrictInt

from nas_lib.predictors import Features, Values
from nas_lib.predictors.gene_process import Columns, GeneProcess, columns_of, with_features
from nas_lib.spaces.genes import Numbers
from nas_lib.strategies.bayesian import initial_design
from nas_lib.strategies.evolution import known, space_of, suggested, taken
from nas_lib.strategies.features import features_of
from nas_lib.strategies.linas import POOL, foretold, searched
from nas_lib.strategies.request import Request, Suggestion
from nas_lib.strategies.settings import FeatureNames, StrategyBase

GOALS = 1000
"""Goals that proposals are to reach."""
DRAWN = 8192
"""Points drawn at once, of which those that can be goals are kept."""
DRAWINGS = 8
"""Most times points are drawn."""
MOST_BOXES = 3000
"""Into which what the front leaves open is divided: enough for two hundred members and three objectives."""
SHORTLIST = 4000
"""Architectures that compete for a batch: the best predicted ones."""
POPULATION, GENERATIONS = 100, 40
"""Of the search on predictions, where the space is too large to be listed."""
SHARED, FEWEST_SHARING = 0.1, 5
"""An objective has a floor, its best measured value, if this share of all measured architectures and this many of them
have it: what is foretold to be a little better would be worth much, and is not."""
BEYOND = 0.1
"""Where no reference value is given: how far it lies beyond the worst of the front, as a share of the front's range."""


class Coverage(StrategyBase):
    """Gaussian processes on genes, and the expected improvement of the hypervolume over a batch."""

    name: Literal["coverage"] = "coverage"
    initial: StrictInt = Field(default=20, ge=2)
    """Random architectures to begin with."""
    batch: StrictInt = Field(default=10, ge=1)
    """Most proposals of a round: what is left of a larger round stays empty, so that the next one knows more."""
    caution: tuple[Annotated[float, Field(ge=0, le=10)], ...] = Field(default=(0.3, 1.0), min_length=1)
    """What the predictions' standard deviations are multiplied by: 0 trusts predictions, more explores. Of several,
    each chooses an equal part of a batch: little caution is quick at first, and stops early where genes interact."""
    features: FeatureNames = ()

    needs: ClassVar[frozenset[str]] = frozenset({"genes"})
    objectives: ClassVar[tuple[int, int | None]] = (1, None)
    keeps_weights: ClassVar[bool] = False

    def propose(self, request: Request) -> list[Suggestion]:
        """The initial sample, then the batch that is expected to cover most."""
        suggestions = initial_design(request, self.initial)
        numbers, _ = known(request)
        wanted = min(self.batch, request.count - len(suggestions))
        if suggestions or not len(numbers):
            return suggestions
        features = features_of(request, self.features)
        model = _learnt(request, features if request.free_scores else None)
        rows, mean = _shortlist(request, model)
        if not len(rows):
            return suggested(request, lambda *_: numbers[:0], 0, "random")[:wanted]
        if features is not None and not request.free_scores:
            rows = rows[np.argsort(_behind(mean), kind="stable")[:POOL]]
            model = _learnt(request, features)
            mean = model.mean(rows)
        deviation = model.deviation(rows)
        places: list[int] = []
        for number, caution in enumerate(self.caution, start=1):
            goals = _goals(request, model, mean, caution * deviation)
            places = _covering(goals, mean, caution * deviation, wanted * number // len(self.caution), places)
        others = np.argsort(_behind(mean), kind="stable")
        places += [place for place in others.tolist() if place not in places][: wanted - len(places)]
        chosen = rows[places]
        made = [Suggestion(space_of(request).genotype(row), "coverage") for row in chosen]
        return foretold(request, made, chosen, model.expected(chosen))


@dataclass(frozen=True)
class _Model:
    """What is known of the objectives, on scales on which they are predicted."""

    values: Values
    """Measured objectives (n, m), warped."""
    references: Values
    """Warped reference values (m,), nan where none is given."""
    floors: Values
    """Warped values (m,) below which nothing is expected, -inf where none is known or the objective is computed."""
    mean: Callable[[Numbers], Values]
    """Option numbers (n, d) -> mean (n, m) of warped objectives."""
    deviation: Callable[[Numbers], Values]
    """Option numbers (n, d) -> standard deviation (n, m) of warped objectives; 0 for those that are computed."""
    expected: Callable[[Numbers], Values]
    """Option numbers (n, d) -> objectives (n, m)."""


def _learnt(request: Request, features: Features | None) -> _Model:
    space, (numbers, values) = space_of(request), known(request)

    def inputs_of(rows: Numbers) -> Columns:
        columns = columns_of(space, rows)
        return columns if features is None else with_features(columns, features(rows))

    inputs = inputs_of(numbers)
    processes = {
        place: GeneProcess().fit(inputs, values[:, place])
        for place, name in enumerate(request.objectives)
        if name not in request.exact
    }
    given = request.references or [None] * len(request.objectives)
    references = np.array([np.nan if value is None else value for value in given], dtype=float)
    warped, ends = values.copy(), references.copy()
    for place, process in processes.items():
        warped[:, place] = process.warp.of(values[:, place])
        ends[place] = process.warp.of(references[place : place + 1])[0]
    predicted = np.isin(np.arange(len(ends)), [*processes])
    floors = np.where(predicted, _floors(warped), -np.inf)

    def mean(rows: Numbers) -> Values:
        others = inputs_of(rows)
        columns = [
            processes[place].mean(others) if place in processes else request.exact[name](rows)
            for place, name in enumerate(request.objectives)
        ]
        return np.asarray(np.maximum(np.stack(columns, axis=1), floors))

    def deviation(rows: Numbers) -> Values:
        others, found = inputs_of(rows), np.zeros((len(rows), len(ends)))
        for place, process in processes.items():
            found[:, place] = process.deviation(others)
        return found

    def expected(rows: Numbers) -> Values:
        found = mean(rows)
        for place, process in processes.items():
            found[:, place] = process.warp.back(found[:, place])
        return found

    return _Model(warped, ends, floors, mean, deviation, expected)


def _floors(values: Values) -> Values:
    """The best of each column of (n, m) where many have it but for rounding, else -inf."""
    best = values.min(axis=0)
    sharing = (values <= best + 1e-9 * np.ptp(values, axis=0)).sum(axis=0)
    return np.where(sharing >= max(SHARED * len(values), FEWEST_SHARING), best, -np.inf)


def _shortlist(request: Request, model: _Model) -> tuple[Numbers, Values]:
    """Unknown architectures with good predictions, and these: of all, or of those an evolution on predictions meets."""
    space = space_of(request)
    rows, mean = searched(request, model.mean, POPULATION, GENERATIONS)
    seen = taken(request)
    new = np.array([key not in seen for key in space.keys(rows)], dtype=bool)
    rows, mean = rows[new], mean[new]
    if len(rows) > SHORTLIST:
        best = np.argpartition(_behind(mean), SHORTLIST)[:SHORTLIST]
        rows, mean = rows[best], mean[best]
    return rows, mean


def _behind(values: Values) -> Values:
    """How much better each of the points (n, m) would have to be in every objective for none to dominate it, as shares
    of the front's range: the additive epsilon of a point (Zitzler et al. 2003), 0 on the front."""
    import moocore

    front = values[moocore.is_nondominated(values, keep_weakly=False)]
    extent = np.ptp(front, axis=0)
    scaled, ideal = values / np.where(extent > 0, extent, 1.0), front / np.where(extent > 0, extent, 1.0)
    behind = np.full(len(values), -np.inf)
    for member in ideal:
        np.maximum(behind, (scaled - member).min(axis=1), out=behind)
    return behind


def _goals(request: Request, model: _Model, mean: Values, deviation: Values) -> Values:
    """Points (k, m) that no measured architecture reaches and some may, at mean less two deviations: uniform in the
    region of all of them, which may be thin."""
    import moocore
    from scipy.stats import qmc

    count = len(model.references)
    front = model.values[moocore.is_nondominated(model.values, keep_weakly=False)]
    beyond = front.max(axis=0) + BEYOND * np.ptp(front, axis=0)
    high = np.where(np.isnan(model.references), beyond, model.references)
    hopes = np.maximum(mean - 2 * deviation, model.floors)
    hopes = hopes[(hopes < high).all(axis=1) & ~_reached(hopes, front)]
    if not len(hopes):
        return np.empty((0, count))
    hopes = hopes[moocore.is_nondominated(hopes, keep_weakly=False)]
    lows, ends = _left_open(front, hopes.min(axis=0), high)
    best = np.full_like(lows, np.inf)
    for hope in hopes:
        reaches = (hope < ends).all(axis=1)
        best[reaches] = np.minimum(best[reaches], hope)
    lows = np.maximum(lows, best)
    sizes = np.maximum(ends - lows, 0.0)
    shares = np.cumsum(sizes.prod(axis=1))
    draw = qmc.Sobol(count + 1, rng=request.rng("goals", request.round))
    found: Values = np.empty((0, count))
    for _ in range(DRAWINGS):
        numbers = draw.random(DRAWN)
        boxes = np.searchsorted(shares[:-1], numbers[:, 0] * shares[-1], side="right")
        points = lows[boxes] + sizes[boxes] * numbers[:, 1:]
        found = np.concatenate([found, points[_reached(points, hopes) & ~_reached(points, front)]])
        if len(found) >= GOALS:
            break
    return found[:GOALS]


def _left_open(front: Values, low: Values, high: Values) -> tuple[Values, Values]:
    """What a front (n, m) leaves open of the box between two points (m,), as boxes that do not overlap: their best and
    their worst corners, each (boxes, m). Some of them hold points that the front reaches if there are too many."""
    lows, ends = low[None].copy(), high[None].copy()
    for member in front:
        cut = (member < ends).all(axis=1)
        pieces = [(lows[~cut], ends[~cut])]
        low, end = lows[cut], ends[cut]
        for place, value in enumerate(member):
            ahead = low[:, place] < value
            piece = end[ahead].copy()
            piece[:, place] = value
            pieces.append((low[ahead], piece))
            low = low.copy()
            low[:, place] = np.maximum(low[:, place], value)
        lows, ends = (np.concatenate(each) for each in zip(*pieces, strict=True))
        if len(lows) > MOST_BOXES:
            break
    return lows, ends


def _reached(points: Values, by: Values) -> NDArray[np.bool_]:
    """Which points (k, m) some row of `by` (n, m) is at least as good as, shape (k,)."""
    reached = np.zeros(len(points), dtype=bool)
    for row in by:
        reached |= (row <= points).all(axis=1)
    return reached


def _covering(goals: Values, mean: Values, deviation: Values, count: int, before: Sequence[int] = ()) -> list[int]:
    """Indices of at most `count` architectures that together are expected to reach most goals, greedily, beginning with
    those chosen `before`. Fewer where no other reaches a goal that is left."""
    from scipy.special import ndtr

    chance = np.ones((len(mean), len(goals)), dtype=np.float32)
    for place in range(mean.shape[1]):
        apart = goals[None, :, place] - mean[:, None, place]
        if deviation[:, place].any():
            chance *= ndtr((apart / np.maximum(deviation[:, None, place], 1e-9)).astype(np.float32))
        else:
            chance *= apart >= 0
    chosen = list(before)
    open_goals = np.prod(1 - chance[chosen], axis=0)
    while len(chosen) < min(count, len(mean)):
        gains = chance @ open_goals
        gains[chosen] = 0
        best = int(gains.argmax())
        if gains[best] <= 0:
            break
        chosen.append(best)
        open_goals *= 1 - chance[best]
    return chosen
