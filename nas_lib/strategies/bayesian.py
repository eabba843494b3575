"""Bayesian optimisation: a Gaussian process learns from history, expected improvement chooses what comes next.

Several objectives are turned into one score by random weights (ParEGO, Knowles 2006, IEEE Transactions on
Evolutionary Computation 10(1), 50-66). One objective is the case of a single weight.

Under constraints the expected improvement on the best feasible score is multiplied with the probability that the
constraints are kept (Gardner et al. 2014, ICML, "Bayesian optimization with inequality constraints"); while nothing is
feasible that probability alone decides. Unlike a penalty this leaves the score smooth, so that optima on the boundary
of a constraint, the usual case for a limited number of parameters, can be learnt from both sides.

A score without training can be the prior mean. The acquisition looks at ten thousand points for every proposal, too
many to score, so what counts there is a process of the score itself, learnt from a random sample and what is evaluated.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nas_lib.records import Genotype, History
from nas_lib.strategies.request import Request, Suggestion
from nas_lib.strategies.settings import StrategyBase

if TYPE_CHECKING:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Kernel

Array = NDArray[np.float64]

Initial = Annotated[
    int | None,
    Field(
        ge=1,
        description="Evaluations of the initial random design. "
        "Default: 2 (d + 1), where d is the number of searched dimensions.",
    ),
]
Exploration = Annotated[
    float,
    Field(
        ge=0,
        description="Improvement that does not count, in standard deviations of the observed scores: "
        "the more, the less it stays near the best ones.",
    ),
]

Prior = Annotated[
    str | None,
    Field(
        description="Score without training whose linear function is the prior mean, as far as evaluations agree with "
        "it: of a process of the score, learnt from 200 random architectures and all evaluated ones. Default: none.",
    ),
]
Mean = Callable[[Array], Array]
"""Canonical points (n, d) -> values (n,)."""

AUGMENTATION = 0.05
"""Share of the weighted sum in the augmented Tchebycheff score (rho of Knowles 2006)."""
STEPS = (0.2, 0.1, 0.1, 0.05, 0.05, 0.03, 0.03, 0.02, 0.02, 0.01, 0.01, 0.005, 0.005, 0.002, 0.002, 0.001, 0.001)
"""Standard deviations of the local search for the best expected improvement, in units of the coordinates."""
SAME = 1e-9
"""Canonical points that differ by less than this in every coordinate are the same."""
LEAST_SHARE = 1e-3
"""Share of its limit below which a constrained figure is not told apart any more."""


class BayesianOptimization(StrategyBase):
    """Gaussian process and expected improvement, for one objective."""

    name: Literal["bo"] = "bo"
    initial: Initial = None
    exploration: Exploration = 0.0
    prior: Prior = None

    needs: ClassVar[frozenset[str]] = frozenset({"sample", "encode"})
    objectives: ClassVar[tuple[int, int | None]] = (1, 1)
    keeps_weights: ClassVar[bool] = False

    def propose(self, request: Request) -> list[Suggestion]:
        """The initial design, then the points of the largest expected improvement."""
        return _propose(request, self.initial, self.exploration, self.prior)


class ParEGO(StrategyBase):
    """Bayesian optimisation of a weighted score of all objectives, with new random weights for every proposal."""

    name: Literal["parego"] = "parego"
    initial: Initial = None
    exploration: Exploration = 0.0
    prior: Prior = None

    needs: ClassVar[frozenset[str]] = frozenset({"sample", "encode"})
    objectives: ClassVar[tuple[int, int | None]] = (2, None)
    keeps_weights: ClassVar[bool] = False

    def propose(self, request: Request) -> list[Suggestion]:
        """The initial design, then for each slot the point of the largest expected improvement for its weights."""
        return _propose(request, self.initial, self.exploration, self.prior)


def scaled(values: Array) -> Array:
    """Objectives (n, m) brought to [0, 1], 0 the best observed; at least one row must be finite.

    The mean of the position within the observed range, as in ParEGO, and of the rank: with the range alone, an
    objective that spans orders of magnitude (parameters, for example) would see all its good values as equal.
    Rows that are not finite, those of failed evaluations, become 1: the worst value in every objective.
    """
    from scipy.stats import rankdata

    ok = np.isfinite(values).all(axis=1)
    result = np.ones_like(values)
    result[ok] = (_within_range(values[ok]) + _within_range(rankdata(values[ok], axis=0))) / 2
    return result


def _within_range(values: Array) -> Array:
    """Columns of (n, m) moved and stretched to [0, 1]; constant ones become 0."""
    low, high = values.min(axis=0), values.max(axis=0)
    return np.asarray((values - low) / np.where(high > low, high - low, 1.0))


def tchebycheff(objectives: Array, weights: Array) -> Array:
    """The augmented Tchebycheff score max_j(w_j f_j) + rho sum_j w_j f_j of each row of (n, m), to be minimised."""
    weighted = objectives * weights
    return np.asarray(weighted.max(axis=1) + AUGMENTATION * weighted.sum(axis=1))


def _propose(request: Request, initial: int | None, exploration: float, prior: str | None) -> list[Suggestion]:
    """Suggestions for all slots of a request: the initial design, then expected improvement."""
    suggestions = initial_design(request, initial)
    if len(suggestions) < request.count:
        chosen = [suggestion.genotype for suggestion in suggestions]
        found = improving(request, range(len(suggestions), request.count), chosen, exploration, prior)
        suggestions += [Suggestion(genotype, origin="expected improvement") for genotype in found]
    return suggestions


def improving(
    request: Request,
    slots: Iterable[int],
    chosen: Sequence[Genotype],
    exploration: float = 0.0,
    prior: str | None = None,
) -> list[Genotype]:
    """For each slot the genotype of the largest expected improvement of a full evaluation.

    `chosen` are the genotypes of other slots of the round. At least two evaluations must have succeeded. `prior` is a
    score without training whose linear function is the prior mean.
    """
    # On matrices this small more threads only burn CPU time, and sums split among them could differ in their last bits.
    from threadpoolctl import threadpool_limits

    values = objective_values(request.history, request.objectives)
    feasible = np.array([evaluation.feasible for evaluation in request.history]) & np.isfinite(values).all(axis=1)
    known = _known(request)
    under_way = known.at(request, [*(proposal.genotype for proposal in request.pending), *chosen])
    genotypes = []
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # An optimum of the likelihood at its bounds and a variance rounded below 0 are both fine.
        warnings.filterwarnings("ignore", module="sklearn")
        feasibility = _feasibility(known.observed, log_excesses(request.history, request.limits))
        foretelling = None if prior is None else _score_over_space(request, prior)
        for slot in slots:
            weights = request.rng("weights", request.round, slot).dirichlet(np.ones(len(request.objectives)))
            scores = tchebycheff(scaled(values), weights)
            rng = request.rng("acquisition", request.round, slot)
            point = _most_promising(known, scores, feasible, under_way, feasibility, exploration, rng, foretelling)
            point = point[: len(request.space.dimensions())]
            genotypes.append(request.space.decode(point, request.rng("draw", request.round, slot)))
            under_way = np.vstack([under_way, known.at(request, genotypes[-1:])])
    return genotypes


@dataclass(frozen=True)
class Known:
    """Where the evaluations of a history lie.

    With several fidelities there is one coordinate more: the logarithm of the epochs, 0 at the lowest and 1 at the full
    fidelity.
    """

    observed: Array
    """Canonical points, shape (n, d) or (n, d + 1)."""
    full: Array
    """The same points at full fidelity."""
    canonical: Callable[[Array], Array]
    """Snaps points to canonical ones at full fidelity."""

    def at(self, request: Request, genotypes: Sequence[Genotype]) -> Array:
        """Genotypes at full fidelity: what is under way is imagined fully trained."""
        points = canonical_points(request, genotypes)
        ones = np.ones((len(points), self.full.shape[1] - points.shape[1]))
        return np.hstack([points, ones])


def _known(request: Request) -> Known:
    points = canonical_points(request, [evaluation.proposal.genotype for evaluation in request.history])
    epochs = np.array([evaluation.proposal.epochs for evaluation in request.history], dtype=float)
    if np.all(epochs == request.plan.epochs):
        return Known(points, points, request.space.canonical)
    lowest = epochs.min()
    fidelity = np.log(epochs / lowest) / np.log(request.plan.epochs / lowest)

    def canonical(candidates: Array) -> Array:
        return np.column_stack([request.space.canonical(candidates[:, :-1]), np.ones(len(candidates))])

    full = np.column_stack([points, np.ones(len(points))])
    return Known(np.column_stack([points, fidelity]), full, canonical)


def initial_design(request: Request, size: int | None) -> list[Suggestion]:
    """Random samples for the first slots of a request, as many as an initial design of `size` evaluations still lacks.

    All slots while fewer than two evaluations have succeeded: nothing can be learnt from one. The default size is
    2 (d + 1).
    """
    if size is None:
        size = 2 * (len(request.space.dimensions()) + 1)
    lacking = size - len(request.history) - len(request.pending)
    if np.isfinite(objective_values(request.history, request.objectives)).all(axis=1).sum() < 2:
        lacking = request.count
    return [
        Suggestion(request.space.sample(request.rng("initial", request.round, slot)), origin="initial")
        for slot in range(min(max(lacking, 0), request.count))
    ]


def objective_values(history: History, names: Sequence[str]) -> Array:
    """Objectives (n, m) of all evaluations; those of failed ones are not a number."""
    rows = [[evaluation.objectives[name] if evaluation.ok else np.nan for name in names] for evaluation in history]
    return np.array(rows, dtype=float).reshape(len(history), len(names))


def log_excesses(history: History, limits: Mapping[str, float]) -> Array:
    """log(value / limit) of the constrained figures (n, c): above 0 where the limit is exceeded, NaN where it failed.

    The logarithm, because the figures span orders of magnitude.
    """
    rows = [
        [evaluation.constraints[name] / limit + 1 if evaluation.ok else np.nan for name, limit in limits.items()]
        for evaluation in history
    ]
    shares = np.array(rows, dtype=float).reshape(len(history), len(limits))
    return np.asarray(np.log(np.maximum(shares, LEAST_SHARE)))


def canonical_points(request: Request, genotypes: Sequence[Genotype]) -> Array:
    """Canonical points (n, d) of genotypes."""
    if not genotypes:
        return np.empty((0, len(request.space.dimensions())))
    return np.asarray(request.space.canonical(np.array([request.space.encode(genotype) for genotype in genotypes])))


def _feasibility(observed: Array, excesses: Array) -> Callable[[Array], Array]:
    """The probability (n,) that points (n, d) keep all constraints, learnt from log excesses (n, c)."""
    from scipy.stats import norm

    processes = []
    for column in excesses.T:
        known = np.isfinite(column)
        if known.sum() < 2:
            continue
        mean, deviation = column[known].mean(), column[known].std() or 1.0
        targets = (column[known] - mean) / deviation
        processes.append((_posterior(*_fit(observed[known], targets), observed[known], targets), -mean / deviation))

    def probability(points: Array) -> Array:
        result = np.ones(len(points))
        for process, limit in processes:
            expected, deviation = process.predict(points, return_std=True)
            result *= norm.cdf((limit - expected) / np.maximum(deviation, 1e-9))
        return result

    return probability


def _most_promising(
    known: Known,
    scores: Array,
    feasible: NDArray[np.bool_],
    under_way: Array,
    feasibility: Callable[[Array], Array],
    exploration: float,
    rng: np.random.Generator,
    foretelling: Mean | None = None,
) -> Array:
    """The canonical point (d,) of the largest expected improvement on the scores (n,) of what is known, times the
    probability of `feasibility`; while nothing is feasible that of the largest probability.

    Proposals under way are taken to score what the process expects of them ("kriging believer", Ginsbourger et al.
    2010), so that a batch spreads. The process is that of what a linear function of `foretelling` leaves.
    """
    from bayes_opt.acquisition import ExpectedImprovement

    targets = -(scores - scores.mean()) / (scores.std() or 1.0)
    trend = _trend(foretelling, known.observed, targets)
    targets = targets - trend(known.observed)
    kernel, noise = _fit(known.observed, targets)
    process = _posterior(kernel, noise, known.observed, targets)
    centres = known.full
    if len(under_way):
        centres = np.vstack([known.full, under_way])
        believed = np.vstack([known.observed, under_way])
        process = _posterior(kernel, noise, believed, np.concatenate([targets, process.predict(under_way)]))

    # The best expected score of a full evaluation, not the best observed one, which under noise is partly luck.
    expected = process.predict(centres) + trend(centres)
    improvement = ExpectedImprovement(xi=exploration)
    comparable = np.concatenate([feasible, feasibility(under_way) > 0.5]) if len(under_way) else feasible
    improvement.y_max = expected[comparable].max(initial=-np.inf)

    def gain(points: Array) -> Array:
        result = feasibility(points)
        if comparable.any():
            mean, deviation = process.predict(points, return_std=True)
            result *= improvement.base_acq(mean + trend(points), np.maximum(deviation, 1e-9))
        return result

    def best_of(*candidates: Array) -> Array:
        return best_points(np.vstack(candidates), gain, known.canonical, known.full, under_way, count=10)

    incumbents = centres[np.argsort(-expected, kind="stable")[:20]]
    best = best_of(rng.random((2000, centres.shape[1])), around(incumbents, 50, STEPS[0], rng))
    for step in STEPS:
        best = best_of(best, around(best, 50, step, rng))
    return np.asarray(best[0])


def _trend(foretelling: Mean | None, observed: Array, targets: Array) -> Mean:
    """The linear function of `foretelling` with the least squares to standardised targets (n,) at observed points.

    Its slope is that of a ridge of weight 1: the prior of a slope is as wide as the targets are spread. Points may have
    a coordinate for the fidelity, which the score does not depend on.
    """
    if foretelling is None:
        return lambda points: np.zeros(len(points))
    foretold = foretelling(observed)
    middle, spread = foretold.mean(), foretold.std() or 1.0
    standard = (foretold - middle) / spread
    slope = float(standard @ targets / (standard @ standard + 1.0))
    return lambda points: slope * (foretelling(points) - middle) / spread


def _score_over_space(request: Request, name: str) -> Mean:
    """What a process expects a score to be, as a share: learnt from a random sample, the same in every round, and from
    what is evaluated."""
    from nas_lib.strategies import surrogate
    from nas_lib.strategies.scored import SAMPLE, scores_of, shares

    rng = request.rng("scored sample")
    sample = [request.space.sample(rng) for _ in range(SAMPLE)]
    genotypes = [*sample, *(evaluation.proposal.genotype for evaluation in request.history)]
    scores = scores_of(request, genotypes, [name])
    values = shares(scores)(scores)[:, 0]
    points = canonical_points(request, genotypes)
    middle, spread = values.mean(), values.std() or 1.0
    process = surrogate.fit(points, (values - middle) / spread)
    return lambda others: process.predict(others[:, : points.shape[1]])[0]


def best_points(
    candidates: Array,
    gain: Callable[[Array], Array],
    canonical: Callable[[Array], Array],
    observed: Array,
    under_way: Array,
    count: int,
) -> Array:
    """The `count` canonical points of the largest gain among those that candidates (n, d) snap to.

    A point not seen before is preferred to an evaluated one, which would only be another draw of the same generator,
    and that to one under way.
    """
    points = np.unique(canonical(candidates), axis=0)
    seen = [among(points, others) for others in (observed, under_way)]
    return np.asarray(points[np.lexsort((-gain(points), *seen))[:count]])


def among(points: Array, others: Array) -> NDArray[np.bool_]:
    """Whether each canonical point (n, d) is one of others (k, d)."""
    from scipy.spatial.distance import cdist

    return np.asarray((cdist(points, others, "chebyshev") < SAME).any(axis=1))


def around(points: Array, copies: int, step: float, rng: np.random.Generator) -> Array:
    """`copies` neighbours of each point (n, d), moved by normal steps within the cube."""
    repeated = np.repeat(points, copies, axis=0)
    return np.asarray(np.clip(repeated + rng.normal(0, step, repeated.shape), 0, 1))


def _fit(points: Array, targets: Array) -> tuple[Kernel, float]:
    """The covariance function and noise variance of the largest likelihood for standardised targets (n,).

    Every coordinate has a length scale of its own: with few points, their narrow bounds keep the fit from following
    chance. The noise takes in that the draws of one generator differ.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    signal = ConstantKernel(1.0, (0.05, 1000.0)) * Matern(np.ones(points.shape[1]), (0.3, 3.0), nu=2.5)
    kernel = signal + WhiteKernel(1e-3, (1e-6, 1.0))
    fitted = GaussianProcessRegressor(kernel, alpha=1e-8).fit(points, targets).kernel_
    return fitted.k1, fitted.k2.noise_level


def _posterior(kernel: Kernel, noise: float, points: Array, targets: Array) -> GaussianProcessRegressor:
    """The process without its observation noise, given noisy targets (n,)."""
    from sklearn.gaussian_process import GaussianProcessRegressor

    return GaussianProcessRegressor(kernel, alpha=noise + 1e-8, optimizer=None).fit(points, targets)
