"""Evolution of networks by small changes of their graphs, with inherited weights (MOE/RNAS: Booysen and Bosman 2024).

A child is its parent changed by the space's operator `mutate`, and begins with the parent's trained weights where the
space offers `inherit`. The population is not stored: it is what selection leaves when it goes through the history round
by round.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StrictInt, model_validator

from nas_lib.records import Evaluation, History, Proposal
from nas_lib.spaces import Changing
from nas_lib.strategies.bayesian import initial_design, objective_values
from nas_lib.strategies.request import Request, Suggestion
from nas_lib.strategies.settings import StrategyBase

Indices = NDArray[np.int64]
TRIES = 20
"""Times a child is made anew while it is a network that is known."""


class Neuroevolution(StrategyBase):
    """NSGA-II whose offspring are changed copies of one parent each, trained on from its weights."""

    name: Literal["moe-rnas"] = "moe-rnas"
    population: StrictInt = Field(default=100, ge=2)
    """Networks that survive a round. The initial ones are the space's known ones, then random ones."""
    survival: Literal["crowding", "age"] = "crowding"
    """Who survives: by non-dominated rank and crowding (Deb et al. 2002), or the youngest (Real et al. 2019)."""
    crossover: float = Field(default=0.0, ge=0, le=1)
    """Share of children whose parent is crossed with another one before it is changed."""
    legacy_selection: bool = False
    """Select as the released code does: the last front that fits is cut in order of age, parents are drawn from all
    that were ranked, those just cut included, and of two in one front the more crowded wins, or one at its end."""

    @model_validator(mode="after")
    def _one_selection(self) -> Self:
        if self.legacy_selection and self.survival != "crowding":
            raise ValueError(f"found survival {self.survival!r} beside legacy_selection, allowed is one of them")
        return self

    needs: ClassVar[frozenset[str]] = frozenset({"sample", "seeds", "mutate"})
    objectives: ClassVar[tuple[int, int | None]] = (2, None)
    keeps_weights: ClassVar[bool] = True

    def propose(self, request: Request) -> list[Suggestion]:
        """The initial population, then one child for each parent drawn."""
        suggestions = _initial(request, self.population)
        wanted = request.count - len(suggestions)
        if wanted == 0:
            return suggestions
        evaluations, space = _different(request), cast(Changing, request.space)
        pool = _pool(request, self)
        seen = {request.space.hash(proposal.genotype) for proposal in _proposals(request)}
        for slot, parent in enumerate(_parents(pool, wanted, request.rng("parents", request.round))):
            rng = request.rng("child", request.round, slot)
            crossed = rng.random() < self.crossover
            mate = evaluations[rng.choice(pool.members)].proposal if crossed else None
            child = _child(space, evaluations[parent].proposal, mate, seen, rng)
            seen.add(request.space.hash(child.genotype))
            suggestions.append(child)
        return suggestions

    def survivors(self, history: History, objectives: Sequence[str]) -> dict[int, History]:
        """Round -> who is alive after it; the rounds of initial networks are one, the last of them."""
        evaluations = [evaluation for evaluation in history if _counts(evaluation)]
        initial = max((one.proposal.round for one in evaluations if one.proposal.origin == "initial"), default=0)
        return {
            max(round, initial): [evaluations[place] for place in alive]
            for round, _, alive in _selections(evaluations, objective_values(evaluations, objectives), self)
        }


class KnownNetworks(StrategyBase):
    """The known networks of a space, trained as every candidate is: what a search has to beat."""

    name: Literal["known"] = "known"

    needs: ClassVar[frozenset[str]] = frozenset({"seeds"})
    objectives: ClassVar[tuple[int, int | None]] = (1, None)
    keeps_weights: ClassVar[bool] = False

    def propose(self, request: Request) -> list[Suggestion]:
        """Those that were not proposed yet."""
        known = list(cast(Changing, request.space).known().values())
        rest = known[len(_proposals(request)) :]
        return [Suggestion(genotype, origin="known") for genotype in rest[: request.count]]


@dataclass(frozen=True)
class _Pool:
    """Whom parents are drawn from."""

    members: Indices
    """Of `_different`."""
    ranks: Indices
    """Non-dominated rank (n,), 0 is the front."""
    wins: NDArray[np.float64]
    """Of two in one front the one with more wins (n,)."""
    returns: bool
    """Whether a winner can be drawn again."""


def _initial(request: Request, size: int) -> list[Suggestion]:
    """What the initial population lacks: known networks of the space in the first slots, random ones in the others."""
    suggestions = initial_design(request, size)
    before = len(_proposals(request))
    seeds = cast(Changing, request.space).seeds()[before : before + len(suggestions)]
    return [Suggestion(genotype, origin="initial") for genotype in seeds] + suggestions[len(seeds) :]


def _proposals(request: Request) -> list[Proposal]:
    return [*(evaluation.proposal for evaluation in request.history), *request.pending]


def _different(request: Request) -> list[Evaluation]:
    """The evaluations that succeeded, each network once."""
    return [evaluation for evaluation in request.history if _counts(evaluation)]


def _counts(evaluation: Evaluation) -> bool:
    return evaluation.ok and not evaluation.proposal.duplicate_of


def _pool(request: Request, settings: Neuroevolution) -> _Pool:
    """Those alive after all rounds; for `legacy_selection` all that the last round ranked."""
    evaluations = _different(request)
    values = objective_values(evaluations, request.objectives)
    nobody: Indices = np.empty(0, dtype=np.int64)
    _, ranked, alive = [(-1, nobody, nobody), *_selections(evaluations, values, settings)][-1]
    members = ranked if settings.legacy_selection else alive
    ranks, crowding = _ranks(values[members])
    legacy = settings.legacy_selection
    # The released code gives the ends of a front infinity and all others negative distances.
    wins = np.where(np.isinf(crowding), crowding, -crowding) if legacy else crowding
    return _Pool(members, ranks, wins, returns=not legacy)


def _selections(
    evaluations: Sequence[Evaluation], values: NDArray[np.float64], settings: Neuroevolution
) -> Iterator[tuple[int, Indices, Indices]]:
    """Round by round, -1 for all initial networks, who was ranked and who of them is alive after it, as indices."""
    rounds = np.array([-1 if one.proposal.origin == "initial" else one.proposal.round for one in evaluations])
    alive = np.empty(0, dtype=np.int64)
    for round in np.unique(rounds):
        ranked = np.concatenate([alive, np.flatnonzero(rounds == round)])
        ranks, crowding = _ranks(values[ranked])
        if settings.legacy_selection:
            alive = ranked[np.argsort(ranks, kind="stable")][: settings.population]
        elif settings.survival == "age":
            alive = ranked[-settings.population :]
        else:
            alive = ranked[np.lexsort((-crowding, ranks))][: settings.population]
        yield int(round), ranked, alive


def _ranks(values: NDArray[np.float64]) -> tuple[Indices, NDArray[np.float64]]:
    """Non-dominated rank (n,) and crowding distance (n,) within the front of each of the values (n, m)."""
    from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    ranks, crowding = np.zeros(len(values), dtype=np.int64), np.zeros(len(values))
    for rank, front in enumerate(NonDominatedSorting().do(values)):
        ranks[front], crowding[front] = rank, calc_crowding_distance(values[front])
    return ranks, crowding


def _parents(pool: _Pool, count: int, rng: np.random.Generator) -> list[int]:
    """Winners of binary tournaments, as indices of `_different`."""
    places = np.arange(len(pool.members))
    winners: list[int] = []
    while len(winners) < count:
        if len(places) < 2:
            places = np.arange(len(pool.members))
        first, second = rng.choice(places, size=2, replace=False)
        key = [(-pool.ranks[place], pool.wins[place]) for place in (first, second)]
        winner = first if key[0] > key[1] else second
        winners.append(int(pool.members[winner]))
        if not pool.returns:
            places = places[places != winner]
    return winners


def _child(
    space: Changing, parent: Proposal, mate: Proposal | None, seen: Collection[str], rng: np.random.Generator
) -> Suggestion:
    """A changed copy of a parent that is not known; a known one after `TRIES`."""
    start = parent.genotype
    for _ in range(TRIES):
        genotype, crossed = (start, []) if mate is None else space.crossover(start, mate.genotype, rng)
        genotype, changes = space.mutate(genotype, rng)
        if space.hash(genotype) not in seen:
            break
    warm_start = parent.candidate if "inherit" in space.operators() else None
    parents = [one.candidate for one in (parent, mate) if one is not None]
    return Suggestion(genotype, "child", warm_start=warm_start, parents=parents, changes=[*crossed, *changes])
