"""RoBoT: which combination of scores ranks best is learnt from few evaluations, then its ranking is followed.

He et al. 2024 (ICLR, arXiv 2403.07591), "Robustifying and boosting training-free neural architecture search". Scores
are stretched to [0, 1] over a pool of architectures, and Bayesian optimisation by upper confidence bound looks for
weights in [-1, 1]^k whose best-ranked architecture is good. What differs from the released code:

- Many weights are drawn once. Those with the same best architecture form a cone (their sums have that best
  architecture too), so each cone is one point of the optimisation, at its centre, and known once its architecture is
  evaluated. No iteration is spent on what is known, and nothing but the evaluations has to be remembered.
- Points are directions, since weights of any length rank alike.
- The optimisation ends after a share of the budget (`exploration`) instead of when as many weights as the whole budget
  has evaluations were tried, or when all cones are known.
- Of the weights that found the best architecture, which are all equally good, the centre is taken, not the last.
- A score that is missing counts as the worst whatever the sign of its weight; the release leaves it out, which is good
  for the architecture if the weight is negative.
- A batch is chosen one by one, those under way being taken to be worth what the process expects of them.
- With several objectives every proposal has random weights of its own for them, as in ParEGO.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StrictInt

from nas_lib.records import Genotype
from nas_lib.spaces import Genetic, Space
from nas_lib.spaces.genes import MOST_LISTED
from nas_lib.strategies.bayesian import Array, objective_values, scaled, tchebycheff
from nas_lib.strategies.request import Request, Suggestion
from nas_lib.strategies.scored import keys_of, normalised, scores_of
from nas_lib.strategies.settings import StrategyBase
from nas_lib.strategies.surrogate import Process, fit

Indices = NDArray[np.int64]
WEIGHTS = 2000
"""Weights that are drawn to find the cones."""
BLOCK = 100
"""Weights whose rankings are computed at once."""
CONFIDENCE = 2.576
"""Standard deviations that the confidence bound lies from the mean (kappa of the package bayes_opt)."""


class RoBoT(StrategyBase):
    """Bayesian optimisation of the weights of scores without training, then the ranking by the best weights."""

    name: Literal["robot"] = "robot"
    scores: tuple[str, ...] = Field(min_length=1)
    """Scores that are combined."""
    pool: StrictInt = Field(default=1000, ge=2, le=MOST_LISTED)
    """Random architectures that are scored and ranked; at least as many as the budget has evaluations. All
    architectures where a space has no more."""
    exploration: float = Field(default=0.5, ge=0, le=1)
    """Share of the budget that looks for weights; the rest goes to what the best of them rank first."""

    needs: ClassVar[frozenset[str]] = frozenset({"sample"})
    objectives: ClassVar[tuple[int, int | None]] = (1, None)
    keeps_weights: ClassVar[bool] = False

    def propose(self, request: Request) -> list[Suggestion]:
        """For each slot the best architecture of weights to be tried, later that which the best weights rank next."""
        from threadpoolctl import threadpool_limits

        budget = request.plan.rounds * request.plan.proposals
        pool = _pool(request, max(self.pool, budget))
        genotypes = [*pool.values()]
        with threadpool_limits(limits=1):  # sums split among threads could differ in their last bits
            scores = normalised(scores_of(request, genotypes, self.scores))
            cones = cones_of(scores, request.rng("weights").uniform(-1, 1, (WEIGHTS, len(self.scores))))
            evaluated, results = _results(request, pool)
            taken = evaluated | _among(pool, keys_of(request.space, [one.genotype for one in request.pending]))
            suggestions: list[Suggestion] = []
            for slot in range(request.count):
                preference = request.rng("preference", request.round, slot).dirichlet(np.ones(len(request.objectives)))
                worth = worth_of(results[cones.leaders], evaluated[cones.leaders], preference)
                exploring = request.round * request.plan.proposals + slot < self.exploration * budget
                place = _promising(cones, worth, taken) if exploring else None
                origin = "ranking" if place is None else "weights"
                place = _next(scores, cones, worth, taken) if place is None else place
                if place is None:
                    break
                taken[place] = True
                suggestions.append(Suggestion(genotypes[place], origin))
        return suggestions


@dataclass(frozen=True)
class Cones:
    """Weights by the architecture that they rank first, in the order in which they were drawn."""

    leaders: Indices
    """That architecture's place in the pool, shape (c,)."""
    centres: Array
    """Mean direction of the weights, of length 1, shape (c, k)."""


def cones_of(scores: Array, weights: Array) -> Cones:
    """The cones that weights (w, k) fall into."""
    blocks = range(0, len(weights), BLOCK)
    tops = np.concatenate([combined(scores, weights[start : start + BLOCK]).argmax(axis=1) for start in blocks])
    leaders, first, cone = np.unique(tops, return_index=True, return_inverse=True)
    centres = np.zeros((len(leaders), weights.shape[1]))
    np.add.at(centres, cone.ravel(), _directions(weights))
    order = np.argsort(first)
    return Cones(leaders[order], _directions(centres)[order])


def combined(scores: Array, weights: Array) -> Array:
    """Weighted sums (w, n) of scores (n, k) by weights (w, k); a score that is NaN counts as the worst."""
    missing = np.isnan(scores)
    # The worst of [0, 1] is 0 for a positive weight and 1 for a negative one.
    terms = np.hstack([np.where(missing, 0, scores), missing])
    return np.asarray(np.hstack([weights, np.minimum(weights, 0)]) @ terms.T)


def _directions(weights: Array) -> Array:
    lengths = np.linalg.norm(weights, axis=1, keepdims=True)
    return np.asarray(weights / np.where(lengths > 0, lengths, 1.0))


def _pool(request: Request, size: int) -> dict[Hashable, Genotype]:
    """Different architectures by their keys: all of a space that has no more than `size`, else of so many draws."""
    space = request.space
    rng = request.rng("pool")
    drawn = _listed(space, size) or [space.sample(rng) for _ in range(size)]
    pool: dict[Hashable, Genotype] = {}
    for key, genotype in zip(keys_of(space, drawn), drawn, strict=True):
        pool.setdefault(key, genotype)
    return pool


def _listed(space: Space, size: int) -> list[Genotype]:
    """All architectures of a space; none where it is not listed or has more than `size`."""
    listed = cast(Genetic, space).gene_space.listed if "list" in space.operators() else None
    if listed is None or len(listed) > size:
        return []
    return [cast(Genetic, space).gene_space.genotype(row) for row in listed]


def _among(pool: Collection[Hashable], keys: Iterable[Hashable]) -> NDArray[np.bool_]:
    """Which of the pool have one of these keys, shape (n,)."""
    wanted = set(keys)
    return np.array([key in wanted for key in pool], dtype=bool)


def _results(request: Request, pool: Collection[Hashable]) -> tuple[NDArray[np.bool_], Array]:
    """Which of the pool are evaluated (n,), and their objectives (n, m).

    NaN for those that are not, that failed or that exceed a limit.
    """
    keys = keys_of(request.space, [evaluation.proposal.genotype for evaluation in request.history])
    values = objective_values(request.history, request.objectives)
    feasible = np.array([evaluation.feasible for evaluation in request.history], dtype=bool)
    row_of = {key: row for row, key in enumerate(keys)}
    results = np.full((len(pool), len(request.objectives)), np.nan)
    for place, key in enumerate(pool):
        row = row_of.get(key)
        if row is not None and feasible[row]:
            results[place] = values[row]
    return _among(pool, keys), results


def worth_of(results: Array, evaluated: NDArray[np.bool_], preference: Array) -> Array:
    """One number (n,), the lower the better, for objectives (n, m) weighted by `preference`.

    NaN for what is not evaluated, and for all while nothing has succeeded; what failed is as bad as the worst.
    """
    worth = np.full(len(results), np.nan)
    if np.isfinite(results).all(axis=1).any():
        worth[evaluated] = tchebycheff(scaled(results[evaluated]), preference)
    return worth


def _promising(cones: Cones, worth: Array, taken: NDArray[np.bool_]) -> int | None:
    """The leader, not yet taken, of the cone with the best confidence bound; the first drawn while nothing is known.

    None: all are taken.
    """
    left, known = ~taken[cones.leaders], ~np.isnan(worth)
    if not left.any():
        return None
    if not known.any():
        return int(cones.leaders[left][0])
    points = (cones.centres + 1) / 2
    targets = (worth[known] - worth[known].mean()) / (worth[known].std() or 1.0)
    process = fit(points[known], targets)
    under_way = points[~known & ~left]
    if len(under_way):
        process = _believing(process, under_way)
    mean, variance = process.predict(points[left])
    return int(cones.leaders[left][np.argmin(mean - CONFIDENCE * np.sqrt(variance))])


def _believing(process: Process, points: Array) -> Process:
    """The process, had points (n, d) been found to be worth what it expects ("kriging believer")."""
    expected, _ = process.predict(points)
    return Process(
        np.vstack([process.points, points]),
        np.concatenate([process.values, expected]),
        np.concatenate([process.noise, np.full(len(points), process.noise[0])]),
        process.lengths,
        process.signal,
    )


def _next(scores: Array, cones: Cones, worth: Array, taken: NDArray[np.bool_]) -> int | None:
    """The first of the ranking by the best weights that is not taken; by equal ones while nothing is known.

    None: all are taken.
    """
    known = ~np.isnan(worth)
    weights = cones.centres[np.nanargmin(worth)] if known.any() else np.ones(scores.shape[1])
    sums = np.where(taken, -np.inf, combined(scores, weights[None])[0])
    return None if taken.all() else int(sums.argmax())
