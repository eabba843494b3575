"""Coverage: the process on genes against a library and by hand, and batches that cover the hypervolume left open."""

from types import SimpleNamespace

import moocore
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats

from nas_lib.laboratory.search import search
from nas_lib.laboratory.settings import LaboratoryBudget
from nas_lib.predictors import Values, gene_process
from nas_lib.predictors.gene_process import Columns, GeneProcess, columns_of, warp
from nas_lib.problems.synthetic import Cell, Grid
from nas_lib.spaces.genes import Condition, Gene, GeneSpace
from nas_lib.strategies import coverage
from nas_lib.strategies.coverage import Coverage
from nas_lib.strategies.evolution import LocalSearch


def test_distances_of_options_are_as_documented() -> None:
    space = GeneSpace(
        "small",
        (
            Gene(name="kind", options=("a", "b", "c")),
            Gene(name="width", options=(1, 2, 3)),
            Gene(name="extra", options=("x", "y"), active=Condition(gene="kind", options=("a",))),
        ),
    )
    columns = columns_of(space, np.array([[0, 0, 0], [1, 1, 0], [0, 2, 1]]))

    def apart(first: int, second: int) -> list[float]:
        difference = columns.values[first] - columns.values[second]
        return [float((difference[columns.genes == gene] ** 2).sum()) for gene in range(3)]

    # kind differs: 1. width one of two places apart: 1/2 + 1/2 (1/2)^2. extra acts in one of them only: 1/2.
    assert apart(0, 1) == pytest.approx([1, 0.625, 0.5])
    assert apart(0, 2) == pytest.approx([0, 1, 1])


@pytest.mark.parametrize("name", gene_process.WARPS)
def test_warps_keep_the_order_and_have_an_inverse(name: str) -> None:
    targets = np.array([5.0, 1.0, 2.0, 40.0, 3.0])
    made = warp(name, targets)
    inside = np.array([1.0, 1.5, 2.9, 3.0]) if name == "clip" else np.array([1.0, 2.0, 7.0, 40.0])
    assert (np.diff(made.of(np.sort(targets))) >= 0).all()
    assert made.back(made.of(inside)) == pytest.approx(inside)


@pytest.mark.parametrize("name", gene_process.WARPS)
def test_targets_that_are_equal_but_for_rounding_are_not_stretched(name: str) -> None:
    targets = np.array([0.0, 1e-17, 6e-17, 2e-16, 0.3, 1.0])
    assert np.ptp(warp(name, targets).of(targets)) < 10


def error_of_the_gradient(
    inputs: Columns, targets: Values, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> float:
    """How far the gradient that a fit works with is from that of its loss, near where the fit begins."""
    caught = {}

    def look(loss, start, **_):  # type: ignore[no-untyped-def]
        at = start + rng.normal(scale=0.3, size=len(start))
        caught["error"] = optimize.check_grad(lambda t: loss(t)[0], lambda t: loss(t)[1], at)
        return optimize.OptimizeResult(x=start)

    monkeypatch.setattr("scipy.optimize.minimize", look)
    gene_process._learnt(inputs, targets)
    return float(caught["error"])


def test_the_gradient_of_the_fit_is_that_of_its_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    inputs = Columns(rng.normal(size=(12, 5)), np.array([0, 0, 1, 2, 2]))
    assert error_of_the_gradient(inputs, rng.normal(size=12), rng, monkeypatch) < 1e-4


def test_the_posterior_is_that_of_scikit_learn() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct

    rng = np.random.default_rng(1)
    rows = rng.normal(size=(20, 3))
    inputs, targets, others = Columns(rows, np.array([0, 1, 2])), rng.normal(size=20), rng.normal(size=(6, 3))
    weights = gene_process._Weights(genes=np.array([0.5, 1.0, 2.0]), noise=0.1, interacting=1.5, additive=0.6)
    posterior = gene_process._posterior(inputs, targets, weights)
    # exp(-w d^2) is an RBF of length (2 w)^-1/2; the linear part is 2 / 3 of the product.
    kernel = ConstantKernel(1.5) * RBF((2 * weights.genes) ** -0.5) + ConstantKernel(0.4) * DotProduct(1e-9)
    library = GaussianProcessRegressor(kernel, alpha=0.1, optimizer=None).fit(rows, targets)
    mean, deviation = library.predict(others, return_std=True)
    assert posterior.mean([others[:4], others[4:]]) == pytest.approx(mean)
    assert posterior.deviation([others]) == pytest.approx(deviation)
    without = GaussianProcessRegressor(kernel, alpha=0.1, optimizer=None).fit(rows[1:], targets[1:])
    assert posterior.left_out[0] == pytest.approx(float(without.predict(rows[:1])[0]))


def test_the_process_learns_effects_and_interactions_that_a_linear_model_cannot() -> None:
    space = GeneSpace("pairs", tuple(Gene(name=f"g{place}", options=("a", "b", "c")) for place in range(6)))
    rng = np.random.default_rng(2)
    numbers, others = space.draw(80, rng), space.draw(300, rng)

    def truth(rows: np.ndarray) -> np.ndarray:
        return np.asarray(3.0 * (rows[:, 0] == rows[:, 1]) + rows[:, 2] + 0.5 * (rows[:, 3] == 2))

    foretold = GeneProcess().fit(columns_of(space, numbers), truth(numbers)).predict(columns_of(space, others))
    assert stats.kendalltau(foretold, truth(others)).statistic > 0.8


def test_a_batch_covers_goals_greedily_and_does_not_take_the_same_twice() -> None:
    goals = np.array([[1.0, 4.0], [1.5, 4.5], [4.0, 1.0]])
    mean = np.array([[1.0, 4.0], [1.1, 4.1], [4.0, 1.0], [5.0, 5.0]])
    exact = np.zeros((4, 2))
    # The first reaches two goals, the third the one that is left, though the second alone reaches as many as it.
    assert coverage._covering(goals, mean, exact, 2) == [0, 2]
    assert coverage._covering(goals, mean, exact, 9) == [0, 2]
    assert coverage._covering(goals, mean, exact, 2, [0]) == [0, 2]


def reached(points: Values, by: Values) -> NDArray[np.bool_]:
    """Which of the points some row of `by` is at least as good as."""
    inside: NDArray[np.bool_] = np.all(by[None] <= points[:, None], axis=2)
    return np.asarray(inside.any(axis=1))


def goals_of(front: Values, hopes: Values, floors: float = -np.inf) -> Values:
    """Goals between a front and certain predictions, reference value 1."""
    request = SimpleNamespace(rng=lambda *_: np.random.default_rng(3), round=1)
    model = SimpleNamespace(values=front, references=np.ones(front.shape[1]), floors=floors)
    return coverage._goals(request, model, hopes, np.zeros_like(hopes))  # type: ignore[arg-type]


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_goals_are_uniform_where_hopes_reach_and_the_front_does_not(objectives: int) -> None:
    rng = np.random.default_rng(1)
    front, hopes = rng.uniform(0.3, 1, size=(30, objectives)), rng.uniform(0.2, 1, size=(200, objectives))
    points = rng.uniform(size=(100_000, objectives))
    expected, found = points[reached(points, hopes) & ~reached(points, front)], goals_of(front, hopes)
    assert len(found) == coverage.GOALS
    assert found.mean(axis=0) == pytest.approx(expected.mean(axis=0), abs=0.02)
    assert found.std(axis=0) == pytest.approx(expected.std(axis=0), abs=0.02)


def test_there_are_as_many_goals_where_little_is_left_to_gain() -> None:
    front = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
    hopes = front - 0.005
    found = goals_of(front, hopes)
    assert len(found) == coverage.GOALS
    assert reached(found, hopes).all() and not reached(found, front).any()


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_what_a_front_leaves_open_is_divided_without_gap_or_overlap(objectives: int) -> None:
    points = np.random.default_rng(0).uniform(size=(40, objectives))
    front = points[moocore.is_nondominated(points)]
    lows, ends = coverage._left_open(front, np.zeros(objectives), np.ones(objectives))
    left = 1 - float(moocore.hypervolume(front, ref=np.ones(objectives)))
    assert (ends - lows).prod(axis=1).sum() == pytest.approx(left)
    assert not (front[None] < ends[:, None]).all(axis=2).any()


def test_no_goal_lies_below_a_floor() -> None:
    front = np.array([[0.0, 0.5], [0.5, 0.0]])
    hopes = np.array([[-0.1, 0.5], [0.5, -0.1]])
    assert goals_of(front, hopes).min() < 0
    assert goals_of(front, hopes, floors=0.0).shape == (0, 2)
    assert goals_of(front, np.array([[-0.1, 0.3]]), floors=0.0).min(axis=0) == pytest.approx([0.0, 0.3], abs=0.01)


def test_an_objective_has_a_floor_where_a_tenth_of_all_share_its_best_value() -> None:
    values = np.stack([np.linspace(0.2, 1.0, 60), np.linspace(0.2, 1.0, 60)], axis=1)
    values[:6, 0] = 0.2 + 1e-17
    values[:5, 1] = 0.2
    assert coverage._floors(values).tolist() == [0.2, -np.inf]


def test_what_can_be_computed_has_no_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Cell(genes=6, options=3).problem()
    rows = problem.space.draw(20, np.random.default_rng(0))
    values = problem.evaluate(rows)
    values[:8] = values.min(axis=0)
    monkeypatch.setattr(coverage, "known", lambda _: (rows, values))
    monkeypatch.setattr(coverage, "space_of", lambda _: problem.space)
    request = SimpleNamespace(objectives=problem.objectives, exact=problem.exact, references=())
    assert problem.objectives == ("error", "cost")
    assert np.isfinite(coverage._learnt(request, None).floors).tolist() == [True, False]  # type: ignore[arg-type]


def test_what_the_front_reaches_is_no_hope() -> None:
    assert goals_of(np.array([[0.2, 0.2]]), np.array([[0.2, 0.2], [0.3, 0.4], [0.1, 1.5]])).shape == (0, 2)


def test_chances_of_goals_are_those_of_independent_normals() -> None:
    goals, mean = np.array([[1.0, 1.0]]), np.array([[0.0, 1.0], [0.9, 0.9]])
    # Phi(1) Phi(0) = 0.42 against Phi(0.1)^2 = 0.29: the first is chosen.
    assert coverage._covering(goals, mean, np.ones((2, 2)), 1) == [0]
    assert coverage._covering(goals, mean, np.full((2, 2), 0.1), 1) == [1]


def test_what_lies_behind_the_front_is_measured_by_its_worst_shortfall() -> None:
    values = np.array([[0.0, 2.0], [2.0, 0.0], [1.0, 3.0], [3.0, 0.5]])
    # (1, 3) is behind (0, 2) by 1 and 1, of a range of 2; (3, 0.5) is behind (2, 0) by 1 and 0.5.
    assert coverage._behind(values).tolist() == pytest.approx([0.0, 0.0, 0.5, 0.25])


@pytest.mark.parametrize(
    "problem",
    [Cell(genes=8, options=4), Grid(function="dtlz2", genes=6, options=4, objectives=3)],
    ids=lambda p: p.name,
)
def test_it_beats_local_search_on_spaces_that_interact_and_with_three_objectives(problem: Cell | Grid) -> None:
    made = problem.problem()
    budget = LaboratoryBudget(evaluations=80, batch=20)

    def final(strategy: Coverage | LocalSearch, seed: int) -> float:
        values = [list(each.objectives.values()) for each in search(made, strategy, seed, budget)[0]]
        return float(moocore.hypervolume(np.array(values), ref=made.reference))

    assert np.mean([final(Coverage(), seed) - final(LocalSearch(), seed) for seed in (1, 2)]) > 0


def test_it_ends_when_all_of_a_space_is_measured() -> None:
    made = Grid(function="dtlz2", genes=3, options=3, objectives=3).problem()
    history, _ = search(made, Coverage(initial=5), 1, LaboratoryBudget(evaluations=90, batch=20))
    assert len({each.proposal.hash for each in history}) == 27


def test_it_says_what_it_expects_in_the_units_of_the_objectives() -> None:
    made = Cell(genes=8, options=4).problem()
    history, _ = search(made, Coverage(), 1, LaboratoryBudget(evaluations=60, batch=20))
    later = [each for each in history if each.proposal.origin == "coverage"]
    pairs = np.array([[each.metrics["predicted.error"], each.objectives["error"]] for each in later], dtype=float)
    assert len(pairs) == 40
    assert np.abs(pairs[:, 0] - pairs[:, 1]).mean() < 0.1
    exact = [each.metrics["predicted.cost"] - each.objectives["cost"] for each in later]  # type: ignore[operator]
    assert exact == pytest.approx([0.0] * 40)
