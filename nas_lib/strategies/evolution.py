"""Evolutionary search and local search on genes, by pymoo's operators and survivals.

A population is not stored: it is what the survival leaves when it goes through the history round by round. Nothing that
is known is proposed again, except by the published operators, which repeat what their release repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
from pydantic import Field, StrictInt

from nas_lib import pareto
from nas_lib.spaces import Genetic
from nas_lib.spaces.genes import GeneSpace, Numbers
from nas_lib.strategies.bayesian import initial_design, objective_values
from nas_lib.strategies.request import Request, Suggestion
from nas_lib.strategies.settings import StrategyBase

if TYPE_CHECKING:
    from pymoo.core.population import Population
    from pymoo.core.survival import Survival

Operators = Literal["integer", "published"]
CROSSOVER = 0.9
"""Probability with which two parents are crossed (G Table 1 and F Table 5 of DyNAS-T)."""
TRIES = 20
"""Times offspring are made anew until enough of them are unknown; what then lacks is drawn at random."""
DIRECTIONS = 20
"""Reference directions of U-NSGA-III (DyNAS-T, released code)."""


class Evolution(StrategyBase):
    """Genetic algorithms that differ in whom they let survive.

    `nsga2`: by rank and crowding (Deb et al. 2002). `unsga3`: by reference directions (Seada and Deb 2016), for three
    or more objectives. `age-moea`: by the estimated geometry of the front (Panichella 2019).
    """

    name: Literal["nsga2", "unsga3", "age-moea"]
    """Which of them."""
    population: StrictInt = Field(default=50, ge=2)
    """Size of the population; the initial one is drawn at random."""
    operators: Operators = "integer"
    """`integer`: uniform crossover and, for every gene with probability 1 / genes, another option at random.
    `published`: simulated binary crossover and polynomial mutation on real numbers, then rounded, as DyNAS-T was
    released: its mutation changes practically nothing."""

    needs: ClassVar[frozenset[str]] = frozenset({"genes"})
    objectives: ClassVar[tuple[int, int | None]] = (2, None)
    keeps_weights: ClassVar[bool] = False

    def propose(self, request: Request) -> list[Suggestion]:
        """The initial population, then offspring of the survivors."""
        suggestions = initial_design(request, self.population)
        wanted = request.count - len(suggestions)
        if wanted == 0:
            return suggestions
        survivors = _survivors(request, survival_of(self.name, len(request.objectives)), self.population)
        mating = mating_of(self.name, self.operators)
        problem = problem_of(space_of(request), len(request.objectives))
        algorithm = SimpleNamespace(tournament_type=TOURNAMENTS.get(self.name))

        def offspring(count: int, rng: np.random.Generator) -> Numbers:
            algorithm.random_state = rng
            made = mating.do(problem, survivors, count, algorithm=algorithm, random_state=rng)
            return np.asarray(np.rint(made.get("X").astype(float)), dtype=np.int64)

        repeats = self.operators == "published"
        return suggestions + suggested(request, offspring, len(suggestions), "offspring", repeats=repeats)


TOURNAMENTS = {"nsga2": "comp_by_dom_and_crowding", "age-moea": "comp_by_rank_and_crowding"}
"""How parents are compared, in pymoo's words."""


class AgeingEvolution(StrategyBase):
    """Regularised evolution (Real et al. 2019): the oldest die, whatever they are worth.

    With several objectives a sample's best is the first by non-dominated rank and hypervolume contribution.
    """

    name: Literal["ageing"] = "ageing"
    population: StrictInt = Field(default=50, ge=2)
    """The youngest so many are alive."""
    sample: StrictInt = Field(default=10, ge=1)
    """Of so many drawn from the living the best is the parent."""

    needs: ClassVar[frozenset[str]] = frozenset({"genes"})
    objectives: ClassVar[tuple[int, int | None]] = (1, None)
    keeps_weights: ClassVar[bool] = False

    def propose(self, request: Request) -> list[Suggestion]:
        """The initial population, then mutants of the best of samples."""
        suggestions = initial_design(request, self.population)
        space, (numbers, values) = space_of(request), known(request)
        living, worth = numbers[-self.population :], values[-self.population :]

        def mutants(count: int, rng: np.random.Generator) -> Numbers:
            parents = []
            for _ in range(count):
                drawn = rng.choice(len(living), size=min(self.sample, len(living)), replace=False)
                parents.append(living[drawn[pareto.best_first(worth[drawn])[0]]])
            return one_changed(space, np.array(parents), rng)

        return suggestions + suggested(request, mutants, len(suggestions), "mutant")


class LocalSearch(StrategyBase):
    """Neighbours of the front: members with one gene changed, those first whose neighbours were tried least."""

    name: Literal["local-search"] = "local-search"
    initial: StrictInt = Field(default=20, ge=2)
    """Random architectures to begin with."""

    needs: ClassVar[frozenset[str]] = frozenset({"genes"})
    objectives: ClassVar[tuple[int, int | None]] = (1, None)
    keeps_weights: ClassVar[bool] = False

    def propose(self, request: Request) -> list[Suggestion]:
        """The initial sample, then neighbours of the front."""
        import moocore

        suggestions = initial_design(request, self.initial)
        space, (numbers, values) = space_of(request), known(request)
        if not len(numbers):
            return suggestions
        members = numbers[moocore.is_nondominated(values, keep_weakly=False)]

        def neighbours(count: int, rng: np.random.Generator) -> Numbers:
            tried = ((numbers[None] != members[:, None]).sum(axis=2) == 1).sum(axis=1)
            order = np.lexsort((rng.random(len(members)), tried))
            return one_changed(space, members[np.resize(order, count)], rng)

        return suggestions + suggested(request, neighbours, len(suggestions), "neighbour")


# --- what strategies on genes share ----------------------------------------------------------------


def space_of(request: Request) -> GeneSpace:
    """The space of a request whose strategy needs genes."""
    return cast(Genetic, request.space).gene_space


def known(request: Request) -> tuple[Numbers, np.ndarray]:
    """Option numbers (n, d) and objectives (n, m) of the evaluations that succeeded, in order."""
    values = objective_values(request.history, request.objectives)
    numbers = space_of(request).numbers([evaluation.proposal.genotype for evaluation in request.history])
    there = np.isfinite(values).all(axis=1)
    return numbers[there], values[there]


def taken(request: Request) -> set[bytes]:
    """Keys of everything evaluated or pending."""
    proposals = [*(evaluation.proposal for evaluation in request.history), *request.pending]
    space = space_of(request)
    return set(space.keys(space.numbers([proposal.genotype for proposal in proposals])))


def one_changed(space: GeneSpace, numbers: Numbers, rng: np.random.Generator) -> Numbers:
    """The rows with one gene that has an effect set to another option, each drawn uniformly."""
    changeable = space.active(numbers) & (space.counts > 1)
    genes = np.where(changeable, rng.random(numbers.shape), -1.0).argmax(axis=1)
    rows, changed = np.arange(len(numbers)), numbers.copy()
    changed[rows, genes] = (numbers[rows, genes] + rng.integers(1, space.counts[genes])) % space.counts[genes]
    return changed


def suggested(
    request: Request,
    make: Callable[[int, np.random.Generator], Numbers],
    first: int,
    origin: str,
    *,
    repeats: bool = False,
) -> list[Suggestion]:
    """Suggestions for the slots from `first` on, out of rows that `make(count, rng)` gives.

    Rows are moved to architectures that exist and, where not all combinations do, are unknown. Known ones are left out,
    unless `repeats`; slots that are still empty
    after `TRIES` get unknown architectures drawn at random, as far as there are any.
    """
    space, wanted = space_of(request), request.count - first
    if wanted <= 0:
        return []
    seen = taken(request)
    found: list[Suggestion] = []

    def add(rows: Numbers, why: str, keep_known: bool) -> None:
        rows = space.existing(rows, () if keep_known else seen)
        for row, key in zip(rows, space.keys(rows), strict=True):
            if len(found) < wanted and (keep_known or key not in seen):
                seen.add(key)
                found.append(Suggestion(space.genotype(row), origin=why))

    for attempt in range(TRIES):
        if len(found) == wanted:
            break
        add(make(wanted, request.rng("offspring", request.round, attempt)), origin, repeats)
    for attempt in range(TRIES):
        if len(found) == wanted:
            break
        add(space.draw(4 * wanted, request.rng("fill", request.round, attempt)), "random", keep_known=False)
    if len(found) < wanted and space.listed is not None:
        order = request.rng("rest", request.round).permutation(len(space.listed))
        add(space.listed[order], "random", keep_known=False)
    return found


# --- pymoo -----------------------------------------------------------------------------------------


def problem_of(space: GeneSpace, objectives: int) -> Any:
    """What pymoo's operators want to know: how many options every gene has."""
    from pymoo.core.problem import Problem

    return Problem(n_var=len(space.genes), n_obj=objectives, xl=0, xu=space.counts - 1, vtype=int)


def survival_of(name: str, objectives: int) -> Survival:
    """Who survives: `nsga2`, `unsga3` or `age-moea`."""
    if name == "nsga2":
        from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

        return RankAndCrowding()
    if name == "age-moea":
        from pymoo.algorithms.moo.age import AGEMOEASurvival

        return AGEMOEASurvival()
    from pymoo.algorithms.moo.nsga3 import ReferenceDirectionSurvival

    return ReferenceDirectionSurvival(_directions(objectives))


@lru_cache
def _directions(objectives: int) -> np.ndarray:
    """Reference directions by Riesz energy, which take half a second to find."""
    from pymoo.util.ref_dirs import get_reference_directions

    return np.asarray(get_reference_directions("energy", objectives, DIRECTIONS, seed=1))


def _survivors(request: Request, survival: Survival, size: int) -> Population:
    """The population after all rounds of the history."""
    from pymoo.core.population import Population

    space, objectives = space_of(request), len(request.objectives)
    problem = problem_of(space, objectives)
    population = Population()
    for round, batch in _rounds(request):
        numbers, values = batch
        if len(numbers):
            population = Population.merge(population, Population.new(X=numbers, F=values))
            rng = request.rng("survival", round)
            population = survival.do(problem, population, n_survive=min(size, len(population)), random_state=rng)
    return population


def _rounds(request: Request) -> Iterable[tuple[int, tuple[Numbers, np.ndarray]]]:
    """Round by round what `known` says; the rounds of the initial population count as one."""
    rounds = np.array([evaluation.proposal.round for evaluation in request.history], dtype=int)
    origins = np.array([evaluation.proposal.origin == "initial" for evaluation in request.history], dtype=bool)
    rounds[origins] = -1
    there = np.isfinite(objective_values(request.history, request.objectives)).all(axis=1)
    numbers, values = known(request)
    for round in np.unique(rounds):
        now = rounds[there] == round
        yield int(round), (numbers[now], values[now])


def mating_of(name: str, operators: Operators) -> Any:
    """Selection, crossover and mutation."""
    from pymoo.algorithms.moo.nsga2 import binary_tournament
    from pymoo.algorithms.moo.unsga3 import comp_by_rank_and_ref_line_dist
    from pymoo.core.mating import Mating
    from pymoo.core.mutation import Mutation
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.crossover.ux import UX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.selection.tournament import TournamentSelection

    class RandomReset(Mutation):  # type: ignore[misc]
        """Another option, drawn uniformly, for every gene with probability 1 / genes."""

        def _do(self, problem: Any, X: np.ndarray, *args: Any, random_state: Any = None, **kwargs: Any) -> np.ndarray:  # noqa: N803
            counts = problem.xu.astype(np.int64) + 1
            reset = (random_state.random(X.shape) < 1 / problem.n_var) & (counts > 1)
            shift = random_state.integers(1, np.maximum(counts, 2), size=X.shape)
            return np.where(reset, (X + shift) % counts, X)

    compare = comp_by_rank_and_ref_line_dist if name == "unsga3" else binary_tournament
    if operators == "integer":
        crossover, mutation = UX(prob=CROSSOVER), RandomReset()
    else:
        crossover, mutation = SBX(prob=CROSSOVER, eta=15, vtype=float), PM(prob=0.02, eta=20, vtype=float)
    repair = RoundingRepair() if operators == "published" else None
    parts = {} if repair is None else {"repair": repair}
    return Mating(TournamentSelection(func_comp=compare), crossover, mutation, eliminate_duplicates=None, **parts)
