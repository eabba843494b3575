"""Evolution, local search and LINAS on genes: what operators change, and what a search of the laboratory promises."""

from collections import Counter
from types import SimpleNamespace

import moocore
import numpy as np
import pytest

from nas_lib import predictors
from nas_lib.laboratory.search import search
from nas_lib.laboratory.settings import LaboratoryBudget
from nas_lib.problems import Problem
from nas_lib.problems.synthetic import Cell, Grid
from nas_lib.spaces.genes import Gene, GeneSpace
from nas_lib.strategies.coverage import Coverage
from nas_lib.strategies.evolution import AgeingEvolution, Evolution, LocalSearch, mating_of, one_changed, problem_of
from nas_lib.strategies.linas import LINAS, best_rows
from nas_lib.strategies.random_search import RandomSearch
from nas_lib.strategies.request import Strategy

BUDGET = LaboratoryBudget(evaluations=90, batch=15)
SEARCHES: list[Strategy] = [
    RandomSearch(),
    Evolution(name="nsga2", population=15),
    Evolution(name="unsga3", population=15),
    AgeingEvolution(population=15),
    LocalSearch(initial=15),
    LINAS(population=15, predictor="ridge", generations=20),
    Coverage(initial=15),
]


@pytest.fixture(scope="module")
def cell() -> Problem:
    return Cell(genes=8, options=4).problem()


def changed_by_mutation(operators: str, genes: int, options: int) -> float:
    """Share of children that mutation alone changes: both parents are the same."""
    from pymoo.core.population import Population

    space = GeneSpace("chain", tuple(Gene(name=f"g{place}", options=tuple(range(options))) for place in range(genes)))
    mating = mating_of("nsga2", operators)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    parents = space.draw(4000, rng)
    population = Population.new(X=parents.astype(float) if operators == "published" else parents)
    problem = problem_of(space, 2)
    problem.vtype = float if operators == "published" else int
    made = mating.mutation(problem, population, inplace=False, random_state=rng)
    return float((np.rint(made.get("X").astype(float)) != parents).any(axis=1).mean())


def test_the_published_mutation_is_inert_and_the_integer_one_is_not() -> None:
    # By hand: a gene chosen for polynomial mutation with eta 20 moves by half an option or more with probability
    # (2/3) 0.75^21 = 0.0016, and only 2 % of individuals are mutated at all.
    assert changed_by_mutation("published", genes=45, options=3) < 0.002
    # Reset to a different option, for each of 45 genes with probability 1/45: 1 - (1 - 1/45)^45.
    assert changed_by_mutation("integer", genes=45, options=3) == pytest.approx(1 - (1 - 1 / 45) ** 45, abs=0.02)


def test_a_neighbour_differs_in_one_gene(cell: Problem) -> None:
    rng = np.random.default_rng(0)
    rows = cell.space.draw(200, rng)
    neighbours = one_changed(cell.space, rows, rng)
    assert ((rows != neighbours).sum(axis=1) == 1).all()
    assert len(set(np.argmax(rows != neighbours, axis=1).tolist())) == 8


@pytest.mark.parametrize("strategy", SEARCHES, ids=lambda strategy: strategy.name)
def test_a_search_spends_its_budget_on_different_architectures_and_can_be_repeated(
    cell: Problem, strategy: Strategy
) -> None:
    history, seconds = search(cell, strategy, 3, BUDGET)
    new = [evaluation for evaluation in history if evaluation.proposal.duplicate_of is None]
    keys = cell.space.keys(cell.space.numbers([evaluation.proposal.genotype for evaluation in new]))
    assert len(set(keys)) == len(keys) == BUDGET.evaluations
    assert len(seconds) >= BUDGET.plan.rounds
    again, _ = search(cell, strategy, 3, BUDGET)
    assert [each.proposal for each in again] == [each.proposal for each in history]


def test_all_strategies_of_a_seed_begin_with_the_same_sample(cell: Problem) -> None:
    first = {
        strategy.name: [evaluation.proposal.genotype for evaluation in search(cell, strategy, 5, BUDGET)[0][:15]]
        for strategy in SEARCHES
    }
    assert all(sample == first["random"] for sample in first.values())


@pytest.mark.parametrize("strategy", [each for each in SEARCHES if each.name != "random"], ids=lambda each: each.name)
def test_searches_that_learn_beat_random_search(strategy: Strategy) -> None:
    problem = Grid(function="zdt1", genes=8, options=6).problem()

    def final(one: Strategy) -> float:
        volumes = []
        for seed in (1, 2, 3):
            values = [list(each.objectives.values()) for each in search(problem, one, seed, BUDGET)[0]]
            volumes.append(moocore.hypervolume(np.array(values), ref=problem.reference))
        return float(np.mean(volumes))

    assert final(strategy) > final(RandomSearch())


def test_a_space_that_is_used_up_ends_the_search() -> None:
    problem = Grid(function="zdt1", genes=2, options=3).problem()
    for strategy in SEARCHES[1:]:  # random search alone may draw what is known until it gives up
        history, _ = search(problem, strategy, 1, LaboratoryBudget(evaluations=50, batch=4))
        new = sum(evaluation.proposal.duplicate_of is None for evaluation in history)
        assert new == 9, strategy.name


def test_the_best_rows_are_the_front_then_the_least_crowded_of_the_next() -> None:
    values = np.array([[0, 3], [3, 0], [1, 4], [4, 1], [2.1, 3.9], [9, 9]], dtype=float)
    assert set(best_rows(values, 2).tolist()) == {0, 1}
    assert set(best_rows(values, 4).tolist()) == {0, 1, 2, 3}
    assert Counter(best_rows(values, 6).tolist()) == Counter(range(6))
    assert best_rows(values[:0], 3).tolist() == []


@pytest.mark.parametrize(("selection", "wasted"), [("hypervolume", False), ("crowding", True)])
def test_nothing_is_proposed_that_a_measured_architecture_is_expected_to_dominate(selection: str, wasted: bool) -> None:
    problem = Cell(genes=10, options=4, neighbours=0).problem()
    strategy = LINAS(population=15, generations=20, predictor="ridge", selection=selection)
    history, _ = search(problem, strategy, 1, LaboratoryBudget(evaluations=60, batch=15))
    measured = np.array([list(one.objectives.values()) for one in history[:45]])
    expected = np.array([[one.metrics[f"predicted.{name}"] for name in problem.objectives] for one in history[45:]])
    dominated = [(measured <= point).all(axis=1).any() for point in expected]
    assert any(dominated) == wasted


def test_the_inner_search_measures_nothing(cell: Problem) -> None:
    calls: list[int] = []

    def counted(numbers: np.ndarray) -> np.ndarray:
        calls.append(len(numbers))
        return cell.evaluate(numbers)

    problem = SimpleNamespace(**{**vars(cell), "evaluate": counted})
    search(problem, LINAS(population=15, predictor="ridge"), 1, BUDGET)  # type: ignore[arg-type]
    assert calls == [15] * 6


def final_hypervolume(problem: Problem, strategy: Strategy) -> float:
    history, _ = search(problem, strategy, 1, BUDGET)
    values = np.array([list(one.objectives.values()) for one in history])
    return float(moocore.hypervolume(values, ref=problem.reference))


def test_linas_learns_from_graphs_where_there_are_any(cell: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    offered: list[tuple[str, ...]] = []

    def chosen(names: tuple[str, ...], *_: object) -> str:
        offered.append(names)
        return names[-1]

    monkeypatch.setattr(predictors, "best_name", chosen)
    for problem in (cell, Grid(genes=4, options=4).problem()):
        search(problem, LINAS(population=15, predictor="auto"), 1, LaboratoryBudget(evaluations=30, batch=15))
    assert offered[0] == ("ridge", "svr", "gp", "wl-gp")
    assert offered[-1] == ("ridge", "svr", "gp")
    assert final_hypervolume(cell, LINAS(population=15, predictor="wl-gp")) > final_hypervolume(cell, RandomSearch())
