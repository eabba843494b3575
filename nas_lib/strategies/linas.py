"""LINAS (Cummings et al. 2022): a cheap regressor per objective, and evolution on the regressors alone.

Improved on the released code: genes without effect are masked; what is known is not proposed again; objectives that can
be computed are, instead of being predicted; the inner search begins at the measured front, with another seed each time;
every generation is predicted at once; where a space can be listed, all of it is predicted and nothing is searched; a
batch is chosen for the hypervolume it adds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, StrictInt, model_validator

from nas_lib import pareto, predictors
from nas_lib.predictors import Features, PredictorName, Values
from nas_lib.spaces.genes import Numbers
from nas_lib.strategies.bayesian import initial_design
from nas_lib.strategies.evolution import (
    TOURNAMENTS,
    known,
    mating_of,
    problem_of,
    space_of,
    suggested,
    survival_of,
    taken,
)
from nas_lib.strategies.features import features_of
from nas_lib.strategies.request import Request, Suggestion
from nas_lib.strategies.settings import FeatureNames, StrategyBase

Predict = Callable[[Numbers], Values]
POOL = 300
"""Architectures that compete for a batch: the best predicted ones."""
CHEAP: tuple[PredictorName, ...] = ("ridge", "svr", "gp")
"""Of these the one with the best rank correlation on held-out folds of the first population is used (`auto`); where
architectures are graphs, `wl-gp` is one of them."""


class LINAS(StrategyBase):
    """Measure a population, fit predictors, search on them, measure the best that is not known; and again."""

    name: Literal["linas"] = "linas"
    population: StrictInt = Field(default=50, ge=2)
    """Size of the initial sample and of the inner population."""
    generations: StrictInt = Field(default=100, ge=1)
    """Of the inner search, where the space is too large to be listed."""
    predictor: Literal[PredictorName, "auto"] = "gp"
    """What predicts the objectives."""
    features: FeatureNames = ()
    selection: Literal["hypervolume", "crowding"] = "hypervolume"
    """What a batch is chosen for: the hypervolume that its predictions add to what is measured; or, as published,
    predicted rank and crowding among those that are not measured."""

    needs: ClassVar[frozenset[str]] = frozenset({"genes"})
    objectives: ClassVar[tuple[int, int | None]] = (2, None)
    keeps_weights: ClassVar[bool] = False

    @model_validator(mode="after")
    def _features_are_for_predictors_that_take_them(self) -> LINAS:
        if self.features and self.predictor != "auto" and not predictors.takes_features(self.predictor):
            allowed = ", ".join(name for name in predictors.PREDICTORS if predictors.takes_features(name))
            found = f"found features with the predictor {self.predictor}, which takes none"
            raise ValueError(f"{found}, allowed are auto, {allowed}")
        return self

    def propose(self, request: Request) -> list[Suggestion]:
        """The initial sample, then the unknown architectures that are predicted to be best."""
        suggestions = initial_design(request, self.population)
        if len(suggestions) == request.count:
            return suggestions
        space, seen = space_of(request), taken(request)
        features, wanted = features_of(request, self.features), request.count - len(suggestions)
        predict = surrogate(request, self.predictor, self.population, features if request.free_scores else None)
        rows, predicted = searched(request, predict, self.population, self.generations)
        new = np.array([key not in seen for key in space.keys(rows)], dtype=bool)
        rows, predicted = rows[new], predicted[new]
        if features is not None and not request.free_scores:
            rows = rows[best_rows(predicted, max(wanted, POOL))]
            predicted = surrogate(request, self.predictor, self.population, features)(rows)
        order = best_rows(predicted, max(wanted, POOL) if self.selection == "hypervolume" else wanted)
        if self.selection == "hypervolume":
            order = order[adding_most(request, predicted[order], wanted)]
        found = rows[order]
        made = suggested(request, lambda *_: found, len(suggestions), "predicted")
        return suggestions + foretold(request, made, found, predicted[order])


def surrogate(
    request: Request, predictor: Literal[PredictorName, "auto"], first: int, features: Features | None = None
) -> Predict:
    """A function from option numbers (n, d) to objectives (n, m): computed where they can be, else predicted.

    `auto` is settled on the `first` measured architectures, and so remains the same for the whole search.
    """
    space, (numbers, values) = space_of(request), known(request)
    columns: list[Callable[[Numbers], Values]] = []
    cheap = CHEAP if space.graph is None else (*CHEAP, "wl-gp")
    for place, name in enumerate(request.objectives):
        if name in request.exact:
            columns.append(request.exact[name])
            continue
        rng = request.rng("predictor", name)
        chosen = (
            predictors.best_name(cheap, space, numbers[:first], values[:first, place], rng, features)
            if predictor == "auto"
            else predictor
        )
        rng = request.rng("predictor", name, request.round)
        columns.append(predictors.fit(chosen, space, numbers, values[:, place], rng, features).predict)
    return lambda others: np.stack([column(others) for column in columns], axis=1)


def foretold(request: Request, suggestions: Sequence[Suggestion], rows: Numbers, predicted: Values) -> list[Suggestion]:
    """The suggestions, with what is expected of those that are among the rows (n, d): objectives (n, m)."""
    space = space_of(request)
    expected = dict(zip(space.keys(rows), predicted.tolist(), strict=True))
    keys = space.keys(space.numbers([suggestion.genotype for suggestion in suggestions]))
    return [
        replace(suggestion, predicted=dict(zip(request.objectives, expected[key], strict=True)))
        if key in expected
        else suggestion
        for suggestion, key in zip(suggestions, keys, strict=True)
    ]


def best_rows(values: Values, count: int) -> np.ndarray:
    """Indices of `count` points (n, m): by non-dominated rank, within the last rank the least crowded."""
    import moocore
    from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance

    rest, chosen = np.arange(len(values)), np.empty(0, dtype=np.int64)
    while len(rest) and len(chosen) < count:
        best = moocore.is_nondominated(values[rest], keep_weakly=True)
        front = rest[best]
        if len(chosen) + len(front) > count:
            front = front[np.argsort(-calc_crowding_distance(values[front]), kind="stable")]
        chosen, rest = np.concatenate([chosen, front[: count - len(chosen)]]), rest[~best]
    return chosen


def adding_most(request: Request, predicted: Values, count: int) -> list[int]:
    """Indices of `count` predictions (n, m), best rank first: those that add most hypervolume to what is measured, then
    the first of the others."""
    _, measured = known(request)
    references = request.references or [None] * predicted.shape[1]
    scale = pareto.box(np.concatenate([measured, predicted]), references, request.objectives)
    chosen = pareto.most_improving(predicted, measured, scale, count)
    others = np.setdiff1d(np.arange(len(predicted)), chosen)
    return [*chosen, *others[: count - len(chosen)].tolist()]


def searched(request: Request, predict: Predict, size: int, generations: int) -> tuple[Numbers, Values]:
    """Architectures (n, d), each once, and their predicted objectives (n, m): all, or those that evolution meets."""
    listed = space_of(request).listed
    return evolved(request, predict, size, generations) if listed is None else (listed, predict(listed))


def evolved(request: Request, predict: Predict, size: int, generations: int) -> tuple[Numbers, Values]:
    """All architectures that NSGA-II met on predictions, begun at the measured front."""
    import moocore
    from pymoo.core.population import Population

    space, (numbers, values) = space_of(request), known(request)
    problem, survival = problem_of(space, len(request.objectives)), survival_of("nsga2", len(request.objectives))
    mating, rng = mating_of("nsga2", "integer"), request.rng("inner", request.round)
    front = numbers[moocore.is_nondominated(values, keep_weakly=False)][:size]
    rows = np.concatenate([front, space.draw(size - len(front), rng)])
    met: dict[bytes, tuple[Numbers, Values]] = {}
    population = Population()
    algorithm = SimpleNamespace(tournament_type=TOURNAMENTS["nsga2"], random_state=rng)
    for _ in range(generations + 1):
        rows = space.existing(rows)
        new = {key: row for key, row in zip(space.keys(rows), rows, strict=True) if key not in met}
        if new:
            fresh = np.array(list(new.values()))
            found = predict(fresh)
            met |= {key: (row, value) for key, row, value in zip(new, fresh, found, strict=True)}
            population = Population.merge(population, Population.new(X=fresh, F=found))
        population = survival.do(problem, population, n_survive=min(size, len(population)), random_state=rng)
        made = mating.do(problem, population, size, algorithm=algorithm, random_state=rng)
        rows = np.asarray(np.rint(made.get("X").astype(float)), dtype=np.int64)
    return np.array([row for row, _ in met.values()]), np.array([value for _, value in met.values()])
