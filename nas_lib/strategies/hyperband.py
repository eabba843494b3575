"""Multi-fidelity search: many candidates are trained for few epochs, and the best of them go on.

Successive halving (Jamieson and Talwalkar 2016), Hyperband (Li et al. 2018, JMLR 18, algorithm 1) and BOHB (Falkner et
al. 2018), for one or several objectives. A bracket starts with candidates at a low fidelity; of each rung the best
1/eta continue, from their checkpoints, at a fidelity eta times as high. A rung is the share of a bracket in one round;
rounds are filled with the rungs of several brackets, so that workers do not wait for the few last trainings of one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StrictInt

from nas_lib import pareto
from nas_lib.records import Evaluation, Genotype, History
from nas_lib.strategies.bayesian import improving
from nas_lib.strategies.request import Plan, Request, Suggestion
from nas_lib.strategies.settings import StrategyBase

Array = NDArray[np.float64]
Brackets = Literal["hyperband", "hpbandster", "released", "halving"]

Eta = Annotated[
    int, Field(strict=True, ge=2, description="Of each rung the best 1/eta continue, for eta times as many epochs.")
]
MinEpochs = Annotated[
    int,
    Field(
        strict=True, ge=1, description="Epochs of the lowest fidelity; the others are eta times as many up to `epochs`."
    ),
]
BracketCycle = Annotated[
    Brackets,
    Field(
        description="Sizes of the brackets, which follow each other in a cycle. With three fidelities and eta 2: "
        "`hyperband` 4-2-1, 3-2, 3 (Li et al. 2018); `hpbandster` 4-2-1, 2-1, 3 (its package for BOHB); `released` "
        "4-2-1, 2-1, 1 (code published with NAGO); `halving` 4-2-1 only."
    ),
]

NARROWEST_BANDWIDTH = 0.001
"""Of a kernel, as in the package HpBandSter."""


class Hyperband(StrategyBase):
    """Hyperband: random candidates, successive halving."""

    name: Literal["hyperband"] = "hyperband"
    eta: Eta = 2
    min_epochs: MinEpochs = 1
    brackets: BracketCycle = "hyperband"

    needs: ClassVar[frozenset[str]] = frozenset({"sample"})
    objectives: ClassVar[tuple[int, int | None]] = (1, None)
    keeps_weights: ClassVar[bool] = True

    def propose(self, request: Request) -> list[Suggestion]:
        """The rungs of a round: new candidates at random, and those that continue."""
        return _propose(request, self)


class BOHB(StrategyBase):
    """Hyperband whose new candidates come from a model of the good and the bad ones seen so far."""

    name: Literal["bohb"] = "bohb"
    eta: Eta = 2
    min_epochs: MinEpochs = 1
    brackets: BracketCycle = "hpbandster"
    model: Literal["kde", "gp"] = "kde"
    """`kde`: the ratio of two densities, of the highest fidelity that has enough evaluations, as published. `gp`: the
    expected improvement of a full evaluation by a Gaussian process of all fidelities, for several objectives on random
    weights as in `parego`."""
    random_share: float = Field(default=1 / 3, ge=0, le=1)
    """Share of the new candidates that are drawn at random all the same (rho)."""
    good_share: float = Field(default=0.15, gt=0, lt=1)
    """Share of the evaluations of a fidelity that count as good (q)."""
    samples: StrictInt = Field(default=64, ge=1)
    """Points drawn from the density of the good ones, of which the one with the largest density ratio is taken."""
    bandwidth_factor: float = Field(default=3.0, gt=0)
    """How much wider than estimated the kernels are from which points are drawn."""

    needs: ClassVar[frozenset[str]] = frozenset({"sample", "encode"})
    objectives: ClassVar[tuple[int, int | None]] = (1, None)
    keeps_weights: ClassVar[bool] = True

    def propose(self, request: Request) -> list[Suggestion]:
        """The rungs of a round: new candidates from the model, and those that continue."""
        return _propose(request, self)


# --- brackets --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rung:
    """The share of one bracket in one round."""

    bracket: int
    level: int
    """0: new candidates; above: those of the level below that continue."""
    count: int
    epochs: int


def fidelities(lowest: int, highest: int, eta: int) -> list[int]:
    """Epochs of all fidelities, ascending: `highest` divided by powers of eta as long as that is at least `lowest`.

    >>> fidelities(30, 120, 2)
    [30, 60, 120]
    """
    levels = 0
    while highest // eta ** (levels + 1) >= lowest:
        levels += 1
    return [highest // eta**level for level in range(levels, -1, -1)]


def bracket_sizes(brackets: Brackets, levels: int, eta: int) -> list[list[int]]:
    """Candidates in each rung of each bracket of a cycle, for `levels` fidelities.

    A bracket with s halvings has n ceil(n/eta) ... candidates, s = levels - 1 .. 0. Hyperband (Li et al. 2018,
    algorithm 1): n = ceil((s_max + 1) / (s + 1) eta^s); HpBandSter takes floor((s_max + 1) / (s + 1)) eta^s; the code
    published with NAGO eta^s.

    >>> bracket_sizes("hpbandster", 3, 2)
    [[4, 2, 1], [2, 1], [3]]
    """
    found = []
    for halvings in range(levels - 1, -1, -1):
        if brackets == "hyperband":
            size = -(-levels * eta**halvings // (halvings + 1))
        else:
            size = (levels // (halvings + 1) if brackets == "hpbandster" else 1) * eta**halvings
        sizes = [size]
        for _ in range(halvings):
            sizes.append(-(-sizes[-1] // eta))
        found.append(sizes)
    return found[:1] if brackets == "halving" else found


def schedule(sizes: Sequence[Sequence[int]], epochs: Sequence[int], capacity: int, lag: int) -> Iterator[list[Rung]]:
    """The rungs of round 0, 1, ...: brackets one after the other, each as early as its rungs find room.

    A rung is `lag` rounds after the one below, whose results are known by then. Nothing but the arguments matters, so
    every call of a strategy finds the same brackets.
    """
    rounds: list[list[Rung]] = []
    start = given = 0
    for bracket, counts in enumerate(cycle(sizes)):
        levels = len(counts)
        while True:
            while len(rounds) <= start + lag * (levels - 1):
                rounds.append([])
            places = [rounds[start + lag * level] for level in range(levels)]
            taken = [sum(rung.count for rung in place) for place in places]
            if all(used + count <= capacity for used, count in zip(taken, counts, strict=True)):
                break
            start += 1
        for level, (place, count) in enumerate(zip(places, counts, strict=True)):
            place.append(Rung(bracket, level, count, epochs[len(epochs) - levels + level]))
        # Brackets begin in order, so nothing is added any more to the rounds before this one's start.
        while given < start:
            yield rounds[given]
            given += 1


def _round(settings: Hyperband | BOHB, request: Request) -> list[Rung]:
    """The rungs of the request's round, without brackets that cannot be finished within the rounds of the search."""
    plan = request.plan
    epochs = fidelities(settings.min_epochs, plan.epochs, settings.eta)
    sizes = bracket_sizes(settings.brackets, len(epochs), settings.eta)
    for number, rungs in enumerate(schedule(sizes, epochs, plan.proposals, plan.lag)):
        if number == request.round:
            return [
                rung
                for rung in rungs
                if number + plan.lag * (len(sizes[rung.bracket % len(sizes)]) - 1 - rung.level) < plan.rounds
            ]
    raise AssertionError("a schedule has no end")


def impossible(settings: Hyperband | BOHB, plan: Plan) -> str | None:
    """Why brackets do not fit into a plan, in one line; None where they do."""
    if settings.min_epochs > plan.epochs:
        return f"min_epochs is {settings.min_epochs}, allowed is at most budget.epochs, which is {plan.epochs}"
    levels = len(fidelities(settings.min_epochs, plan.epochs, settings.eta))
    largest = max(max(sizes) for sizes in bracket_sizes(settings.brackets, levels, settings.eta))
    if largest > plan.proposals:
        return (
            f"its largest bracket begins with {largest} candidates, allowed are at most budget.proposals, which is "
            f"{plan.proposals} (a higher min_epochs makes brackets smaller)"
        )
    longest = plan.lag * (levels - 1) + 1
    if longest > plan.rounds:
        return (
            f"its longest bracket takes {longest} rounds, allowed are at most budget.rounds, which is {plan.rounds} "
            "(a higher min_epochs makes brackets shorter)"
        )
    return None


# --- suggestions -----------------------------------------------------------------------------------


def _propose(request: Request, settings: Hyperband | BOHB) -> list[Suggestion]:
    suggestions: list[Suggestion] = []
    for rung in _round(settings, request):
        if rung.level == 0:
            for _ in range(rung.count):
                genotype, origin = _new(request, settings, [other.genotype for other in suggestions])
                suggestions.append(Suggestion(genotype, origin, epochs=rung.epochs, bracket=rung.bracket))
        else:
            suggestions += [
                Suggestion(
                    below.proposal.genotype,
                    "promoted",
                    epochs=rung.epochs,
                    warm_start=below.proposal.candidate,
                    bracket=rung.bracket,
                )
                for below in promoted(request, rung, settings.eta)
            ]
    return suggestions


def promoted(request: Request, rung: Rung, eta: int) -> History:
    """The evaluations of the rung below that continue: the best by non-dominated rank and hypervolume contribution.

    Failed ones never continue; where too few succeeded, fewer do.
    """
    below = [
        evaluation
        for evaluation in request.history
        if evaluation.proposal.bracket == rung.bracket and evaluation.proposal.epochs == rung.epochs // eta
    ]
    return best_first(below, request.objectives)[: rung.count]


def best_first(evaluations: History, objectives: Sequence[str]) -> History:
    """The successful evaluations from the best to the worst.

    First the feasible ones as in `pareto.best_first`, then the others by how far they exceed their limits, as shares of
    the largest excess of each (feasibility first, Deb 2000).
    """
    feasible = [evaluation for evaluation in evaluations if evaluation.feasible]
    others = [evaluation for evaluation in evaluations if evaluation.ok and not evaluation.feasible]
    excess = np.array([[max(0.0, value) for value in evaluation.constraints.values()] for evaluation in others])
    shares = (excess / np.maximum(excess.max(axis=0), 1e-300)).sum(axis=1) if others else excess
    order = pareto.best_first(pareto.objective_matrix(feasible, objectives))
    return [feasible[index] for index in order] + [others[index] for index in np.argsort(shares, kind="stable")]


def _new(request: Request, settings: Hyperband | BOHB, chosen: Sequence[Genotype]) -> tuple[Genotype, str]:
    """A new genotype and where it comes from; `chosen` are those of the slots before."""
    slot = len(chosen)
    at_random = request.space.sample(request.rng("initial", request.round, slot))
    if isinstance(settings, Hyperband):
        return at_random, "random"
    rng = request.rng("model", request.round, slot)
    observed = _observed(request)
    if observed is None or rng.random() < settings.random_share:
        return at_random, "random"
    if settings.model == "gp":
        return improving(request, [slot], chosen)[0], "expected improvement"
    point = _denser_among_good(observed, settings, rng)
    return request.space.decode(point, request.rng("draw", request.round, slot)), "density ratio"


def _observed(request: Request) -> Array | None:
    """Canonical points (n, d), best first and failed ones last, of the highest fidelity with d + 3 evaluations."""
    fewest = len(request.space.dimensions()) + 3
    by_epochs: dict[int, list[Evaluation]] = {}
    for evaluation in request.history:
        by_epochs.setdefault(evaluation.proposal.epochs, []).append(evaluation)
    enough = [epochs for epochs, found in by_epochs.items() if sum(one.ok for one in found) >= fewest]
    if not enough:
        return None
    found = by_epochs[max(enough)]
    ordered = [*best_first(found, request.objectives), *(one for one in found if not one.ok)]
    points = np.array([request.space.encode(evaluation.proposal.genotype) for evaluation in ordered])
    return np.asarray(request.space.canonical(points), dtype=float)


def _denser_among_good(observed: Array, settings: BOHB, rng: np.random.Generator) -> Array:
    """The point (d,) of the largest ratio of the density of the good to that of the bad points (Falkner et al. 2018).

    Of N points the good ones are the first max(d + 1, q N), the bad ones the last max(d + 1, N minus as many). Points
    are drawn from kernels around the good ones that are `bandwidth_factor` times as wide as estimated.
    """
    count, dimensions = observed.shape
    good_count = max(dimensions + 1, int(settings.good_share * count))
    good, bad = observed[:good_count], observed[-max(dimensions + 1, count - good_count) :]
    wide = settings.bandwidth_factor * bandwidths(good)
    centres = good[rng.integers(len(good), size=settings.samples)]
    drawn = _truncated_normal(centres, wide, rng)
    ratio = log_density(drawn, good) - log_density(drawn, bad)
    return np.asarray(drawn[np.argmax(ratio)])


def bandwidths(points: Array) -> Array:
    """Width of the Gaussian kernels of points (n, d) per coordinate: 1.06 sd n^(-1 / (4 + d)) (normal reference)."""
    count, dimensions = points.shape
    return np.asarray(np.maximum(1.06 * points.std(axis=0) * count ** (-1 / (4 + dimensions)), NARROWEST_BANDWIDTH))


def log_density(at: Array, points: Array) -> Array:
    """Logarithm of the kernel density of points (n, d) at places (k, d), shape (k,)."""
    from scipy.special import logsumexp

    widths = bandwidths(points)
    distances = (at[:, None, :] - points[None, :, :]) / widths
    exponents = -0.5 * (distances**2).sum(axis=2)
    constant = np.log(len(points)) + np.log(widths).sum() + 0.5 * len(widths) * math.log(2 * math.pi)
    return np.asarray(logsumexp(exponents, axis=1) - constant)


def _truncated_normal(centres: Array, widths: Array, rng: np.random.Generator) -> Array:
    """One draw from the normal distribution around each centre (k, d), cut off at 0 and 1."""
    from scipy.special import ndtr, ndtri

    low, high = ndtr((0 - centres) / widths), ndtr((1 - centres) / widths)
    return np.asarray(np.clip(centres + widths * ndtri(low + rng.random(centres.shape) * (high - low)), 0, 1))
