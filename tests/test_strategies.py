"""What the strategies promise: purity, a shared initial design, diverse batches, and that they learn."""

import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from nas_lib.randomness import generator
from nas_lib.records import Evaluation, Genotype, History, Proposal
from nas_lib.spaces import Space
from nas_lib.spaces.generator import GeneratorSpace
from nas_lib.strategies.bayesian import BayesianOptimization, ParEGO, log_excesses, scaled, tchebycheff
from nas_lib.strategies.nehvi import NEHVI
from nas_lib.strategies.random_search import RandomSearch
from nas_lib.strategies.request import Plan, Request, Strategy, Suggestion

Array = NDArray[Any]
Objectives = Callable[[Array], Sequence[float]]


@dataclass(frozen=True)
class ToySpace:
    """`width` continuous coordinates, one whole number of `levels` values, and one coordinate without effect.

    A genotype holds the coordinates and the number of a draw.
    """

    width: int = 2
    levels: int = 5
    inert: bool = True
    name: str = "toy"

    def dimensions(self) -> list[str]:
        return [f"x{index}" for index in range(self.width)] + ["whole"] + ["inert"] * self.inert

    def sample(self, rng: np.random.Generator) -> Genotype:
        return self.decode(rng.random(len(self.dimensions())), rng)

    def encode(self, genotype: Genotype) -> Array:
        return np.array(genotype["point"])

    def decode(self, point: Array, rng: np.random.Generator) -> Genotype:
        return {"point": point.tolist(), "draw": int(rng.integers(2**31))}

    def canonical(self, points: Array) -> Array:
        points = np.array(points)
        cell = np.minimum((points[:, self.width] * self.levels).astype(int), self.levels - 1)
        points[:, self.width] = (cell + 0.5) / self.levels
        points[:, self.width + 1 :] = 0.5
        return points


SPACE = ToySpace()


def make_request(
    history: History,
    objectives: int = 2,
    count: int = 4,
    round: int = 9,
    seed: int = 1,
    space: object = SPACE,
    pending: Sequence[Proposal] = (),
) -> Request:
    return Request(
        space=cast(Space, space),
        objectives=[f"f{index}" for index in range(objectives)],
        history=history,
        pending=pending,
        round=round,
        count=count,
        plan=Plan(rounds=99, proposals=count, lag=1, epochs=1),
        rng=partial(generator, seed),
    )


def as_proposal(genotype: Genotype, round: int, slot: int) -> Proposal:
    return Proposal(round=round, slot=slot, genotype=genotype, hash=str(genotype), epochs=1)


def as_evaluation(proposal: Proposal, values: Sequence[float] | None) -> Evaluation:
    """An evaluation with these objectives, a failed one when there are none."""
    if values is None:
        return Evaluation(proposal=proposal, status="failed", reason="out of memory")
    objectives = {f"f{index}": float(value) for index, value in enumerate(values)}
    return Evaluation(proposal=proposal, status="ok", objectives=objectives)


def history_at(points: Array, values: Sequence[Sequence[float] | None]) -> History:
    return [
        as_evaluation(as_proposal({"point": point.tolist(), "draw": slot}, 0, slot), value)
        for slot, (point, value) in enumerate(zip(points, values, strict=True))
    ]


def two_objectives(point: Array) -> Sequence[float]:
    """A convex front along the first coordinate, the second one is best at 0.5."""
    loss = (point[1] - 0.5) ** 2
    return (point[0] ** 2 + loss, (point[0] - 1) ** 2 + loss)


def random_history(objectives: Objectives = two_objectives, count: int = 16, space: ToySpace = SPACE) -> History:
    points = np.random.default_rng(0).random((count, len(space.dimensions())))
    return history_at(points, [objectives(point) for point in points])


def run(
    strategy: Strategy,
    objectives: Objectives,
    evaluations: int,
    seed: int,
    space: ToySpace = SPACE,
    references: Sequence[float | None] = (),
) -> Array:
    """Objectives (n, m) of a whole search in batches of four."""
    history: History = []
    for round in range(evaluations // 4):
        count = len(objectives(np.full(len(space.dimensions()), 0.5)))
        request = make_request(history, count, round=round, seed=seed, space=space)
        suggestions = strategy.propose(replace(request, references=references))
        for slot, suggestion in enumerate(suggestions):
            values = objectives(space.canonical(space.encode(suggestion.genotype)[None])[0])
            history.append(as_evaluation(as_proposal(suggestion.genotype, round, slot), values))
    return np.array([list(evaluation.objectives.values()) for evaluation in history])


def points_of(suggestions: Sequence[Suggestion], space: ToySpace = SPACE) -> Array:
    return space.canonical(np.array([space.encode(suggestion.genotype) for suggestion in suggestions]))


def first_objective(history: History) -> History:
    return [evaluation.model_copy(update={"objectives": {"f0": evaluation.objectives["f0"]}}) for evaluation in history]


MODEL_BASED = pytest.mark.parametrize(
    ("strategy", "objectives"),
    [(BayesianOptimization(initial=4), 1), (ParEGO(initial=4), 2), (NEHVI(initial=4), 2)],
    ids=["bo", "parego", "nehvi"],
)


# --- a pure function of the request ------------------------------------------------------------------


@MODEL_BASED
def test_equal_requests_give_equal_suggestions_whatever_was_asked_before(strategy: Strategy, objectives: int) -> None:
    history = random_history(lambda point: two_objectives(point)[:objectives])
    first = strategy.propose(make_request(history, objectives))
    strategy.propose(make_request(history[:8], objectives, round=5))
    assert strategy.propose(make_request(history, objectives)) == first


def test_suggestions_differ_between_seeds() -> None:
    history = random_history()
    first = ParEGO(initial=4).propose(make_request(history, seed=1))
    assert ParEGO(initial=4).propose(make_request(history, seed=2)) != first


def test_slots_have_different_weights() -> None:
    # One slot in four different rounds: nothing is under way, so only the weights (and the search) differ.
    history = random_history()
    firsts = [ParEGO(initial=4).propose(make_request(history, count=1, round=round)) for round in range(4)]
    along_the_front = [points_of(suggestions)[0, 0] for suggestions in firsts]
    assert np.ptp(along_the_front) > 0.1


def test_importing_strategies_loads_no_heavy_library() -> None:
    heavy = {"torch", "botorch", "sklearn", "scipy", "bayes_opt"}
    code = f"import sys, nas_lib.strategies; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- initial design ----------------------------------------------------------------------------------


@MODEL_BASED
def test_the_initial_design_is_what_random_search_proposes(strategy: Strategy, objectives: int) -> None:
    request = make_request([], objectives, round=0)
    drawn = [suggestion.genotype for suggestion in strategy.propose(request)]
    assert drawn == [suggestion.genotype for suggestion in RandomSearch().propose(request)]


def test_the_initial_design_ends_in_the_middle_of_a_round() -> None:
    history = random_history(count=4)
    pending = [as_proposal(SPACE.sample(np.random.default_rng(slot)), 1, slot) for slot in range(4)]
    suggestions = ParEGO(initial=10).propose(make_request(history, pending=pending))
    assert [suggestion.origin for suggestion in suggestions] == ["initial"] * 2 + ["expected improvement"] * 2


def test_the_default_initial_design_is_twice_the_dimensions_plus_two() -> None:
    assert len(SPACE.dimensions()) == 4
    suggestions = ParEGO().propose(make_request(random_history(count=8)))
    assert [suggestion.origin for suggestion in suggestions] == ["initial"] * 2 + ["expected improvement"] * 2


# --- points ------------------------------------------------------------------------------------------


@MODEL_BASED
def test_only_canonical_points_are_suggested(strategy: Strategy, objectives: int) -> None:
    history = random_history(lambda point: two_objectives(point)[:objectives])
    suggestions = strategy.propose(make_request(history, objectives))
    raw = np.array([suggestion.genotype["point"] for suggestion in suggestions])
    np.testing.assert_array_equal(raw, SPACE.canonical(raw))
    assert (raw >= 0).all()
    assert (raw <= 1).all()


@MODEL_BASED
def test_coordinates_without_effect_do_not_change_suggestions(strategy: Strategy, objectives: int) -> None:
    history = random_history(lambda point: two_objectives(point)[:objectives])
    moved = [
        evaluation.model_copy(
            update={
                "proposal": evaluation.proposal.model_copy(
                    update={"genotype": {"point": [*evaluation.proposal.genotype["point"][:3], 0.9], "draw": 0}}
                )
            }
        )
        for evaluation in history
    ]
    assert strategy.propose(make_request(moved, objectives)) == strategy.propose(make_request(history, objectives))


@MODEL_BASED
def test_a_batch_repeats_no_point_and_no_pending_one(strategy: Strategy, objectives: int) -> None:
    space = ToySpace(width=0, levels=20, inert=False)
    history = random_history(lambda point: [(point[0] - 0.4) ** 2, (point[0] - 0.6) ** 2][:objectives], 6, space)
    pending = [as_proposal({"point": [(cell + 0.5) / 20], "draw": 0}, 8, cell) for cell in (8, 9, 11)]
    batch = points_of(strategy.propose(make_request(history, objectives, space=space, pending=pending)), space)
    seen = space.canonical(np.array([p.genotype["point"] for p in [*(e.proposal for e in history), *pending]]))
    assert len(np.unique(batch.round(6))) == 4
    assert not set(batch.round(6).ravel()) & set(seen.round(6).ravel())


def test_an_exhausted_space_gives_other_draws_of_its_best_points() -> None:
    space = ToySpace(width=0, levels=4, inert=False)
    points = (np.arange(4)[:, None] + 0.5) / 4
    history = history_at(points, [[value] for value in (3.0, 2.0, 1.0, 4.0)])
    suggestions = BayesianOptimization(initial=4).propose(make_request(history, 1, count=6, space=space))
    batch = points_of(suggestions, space)
    assert sorted(batch[:4, 0]) == list(points[:, 0])
    assert len({suggestion.genotype["draw"] for suggestion in suggestions}) == 6


def test_it_searches_the_generator_space_without_repeating_a_generator() -> None:
    space = GeneratorSpace()
    rng = np.random.default_rng(0)
    history = [
        as_evaluation(as_proposal(space.sample(rng), 0, slot), values)
        for slot, values in enumerate(np.random.default_rng(1).random((20, 2)))
    ]
    suggestions = ParEGO(initial=4).propose(make_request(history, space=space))
    points = space.canonical(np.array([space.encode(suggestion.genotype) for suggestion in suggestions]))
    assert [suggestion.origin for suggestion in suggestions] == ["expected improvement"] * 4
    assert len(np.unique(points, axis=0)) == 4


# --- what it learns from -----------------------------------------------------------------------------


@MODEL_BASED
def test_failures_are_avoided(strategy: Strategy, objectives: int) -> None:
    # The objectives fall towards x0 = 1, but everything above 0.5 fails.
    points = np.random.default_rng(0).random((40, 4))
    values = [None if point[0] > 0.5 else [1 - point[0], 2 - point[0]][:objectives] for point in points]
    batch = points_of(strategy.propose(make_request(history_at(points, values), objectives)))
    assert batch[:, 0].max() < 0.65


def test_one_lucky_draw_is_taken_as_noise() -> None:
    # Two draws of each generator: around x0 = 0.2 all are good, at 0.9 a single one is the best of all.
    x = np.repeat(np.linspace(0.05, 0.9, 15), 2)
    points = np.column_stack([x, np.full((len(x), 3), 0.5)])
    values = (x - 0.2) ** 2 + np.random.default_rng(0).normal(0, 0.03, len(x))
    values[-1] = values.min() - 0.02
    history = history_at(points, [[value] for value in values])
    batch = points_of(BayesianOptimization(initial=4).propose(make_request(history, 1, count=3)))
    assert batch[:, 0].max() < 0.5


@MODEL_BASED
@pytest.mark.parametrize(
    "values",
    [
        pytest.param([None] * 12, id="all failed"),
        pytest.param([None] * 11 + [1.0], id="one success"),
        pytest.param([1.0] * 12, id="constant"),
        pytest.param([1.0] * 11 + [2.0], id="nearly constant"),
        pytest.param([10.0 ** (3 * index) for index in range(12)], id="33 orders of magnitude"),
        pytest.param([0.5, float("nan"), float("inf")] * 4, id="not finite"),
    ],
)
@pytest.mark.parametrize("spread", [0.0, 1.0], ids=["one point", "many points"])
@pytest.mark.parametrize("space", [SPACE, ToySpace(width=0, levels=3, inert=False)], ids=["4d", "1d"])
def test_degenerate_histories_give_full_batches_without_warnings(
    strategy: Strategy, objectives: int, values: list[float | None], spread: float, space: ToySpace
) -> None:
    points = 0.5 + spread * (np.random.default_rng(0).random((12, len(space.dimensions()))) - 0.5)
    history = history_at(points, [None if value is None else [value] * objectives for value in values])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(strategy.propose(make_request(history, objectives, count=2, space=space))) == 2


@MODEL_BASED
def test_constraints_are_learnt_and_kept(strategy: Strategy, objectives: int) -> None:
    # The objectives fall towards x0 = 1, but only below 0.6 the limited figure, ten to the x0 / 0.6, is at most 10.
    history = [
        evaluation.model_copy(update={"constraints": {"size": 10.0 ** (point[0] / 0.6) - 10.0}})
        for point in np.random.default_rng(0).random((40, 4))
        for evaluation in history_at(point[None], [[1 - point[0], 2 - point[0]][:objectives]])
    ]
    request = replace(make_request(history, objectives), limits={"size": 10.0})
    batch = points_of(strategy.propose(request))
    assert batch[:, 0].max() < 0.65
    assert np.median(batch[:, 0]) > 0.5


@MODEL_BASED
def test_while_nothing_is_feasible_the_nearest_to_the_limit_is_sought(strategy: Strategy, objectives: int) -> None:
    history = [
        evaluation.model_copy(update={"constraints": {"size": 9 * point[0]}})
        for point in 0.3 + 0.7 * np.random.default_rng(0).random((20, 4))
        for evaluation in history_at(point[None], [[1 - point[0], 2 - point[0]][:objectives]])
    ]
    batch = points_of(strategy.propose(replace(make_request(history, objectives), limits={"size": 1.0})))
    assert batch[:, 0].max() < 0.3


def test_log_excesses_by_hand() -> None:
    good, failed = history_at(np.zeros((2, 4)), [[1.0], None])
    good = good.model_copy(update={"constraints": {"size": 10.0, "time": -5.0}})
    excesses = log_excesses([good, failed], {"size": 10.0, "time": 5.0})
    np.testing.assert_allclose(excesses, [[np.log(2), np.log(1e-3)], [np.nan, np.nan]])


# --- scores ------------------------------------------------------------------------------------------


def test_tchebycheff_score_by_hand() -> None:
    scores = tchebycheff(np.array([[0.2, 0.8], [1.0, 0.0]]), np.array([0.75, 0.25]))
    np.testing.assert_allclose(scores, [0.2 + 0.05 * 0.35, 0.75 + 0.05 * 0.75])


def test_scaling_by_hand() -> None:
    values = np.array([[0.0, 7.0], [1.0, 7.0], [4.0, 7.0], [np.nan, np.nan]])
    np.testing.assert_allclose(scaled(values), [[0.0, 0.0], [(0.25 + 0.5) / 2, 0.0], [1.0, 0.0], [1.0, 1.0]])


@settings(deadline=None)
@given(arrays(float, (6, 2), elements=st.floats(-1e6, 1e6)))
def test_scaling_keeps_the_order_and_stays_in_the_unit_interval(values: Array) -> None:
    result = scaled(values)
    assert result.min() >= 0
    assert result.max() <= 1
    for before, after in zip(values.T, result.T, strict=True):
        assert (np.diff(after[np.argsort(before)]) >= 0).all()


# --- better than random ------------------------------------------------------------------------------


def test_expected_improvement_beats_random_search() -> None:
    def distance(point: Array) -> Sequence[float]:
        return [float(((point[:2] - [0.3, 0.8]) ** 2).sum() + (point[2] - 0.5) ** 2)]

    def best(strategy: Strategy) -> float:
        return float(np.median([run(strategy, distance, 28, seed).min() for seed in range(3)]))

    assert best(BayesianOptimization()) < best(RandomSearch()) / 10


def test_parego_beats_random_search_in_hypervolume() -> None:
    def hypervolumes(strategy: Strategy) -> Array:
        space = ToySpace(width=5, levels=3)
        return np.array(
            [moocore.hypervolume(run(strategy, front, 32, seed, space), ref=[1.5, 1.5]) for seed in range(3)]
        )

    def front(point: Array) -> Sequence[float]:
        loss = 1 + float(((point[1:5] - 0.5) ** 2).sum())
        return (loss * np.cos(np.pi / 2 * point[0]), loss * np.sin(np.pi / 2 * point[0]))

    assert (hypervolumes(ParEGO()) > hypervolumes(RandomSearch())).all()
