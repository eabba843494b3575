"""RoBoT: the weights of scores are learnt from few evaluations, and nothing but the history is needed for that."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas_lib.problems.synthetic import Grid
from nas_lib.settings import UserError
from nas_lib.spaces.genes import Numbers
from nas_lib.strategies.robot import RoBoT, combined, cones_of, worth_of
from nas_lib.strategies.scored import normalised
from tests.scored import Score, pool_problem, request_of, score_of, searched

THREE = RoBoT(scores=("first", "second", "third"))


def made_up(seed: int, correlations: tuple[float, ...] = (0.7, 0.0, 0.0), size: int = 300) -> tuple[np.ndarray, Score]:
    """Errors (n, 1), and three scores of these correlations with minus the error."""
    rng = np.random.default_rng(seed)
    errors = rng.normal(size=size)
    columns = [-c * errors + np.sqrt(1 - c**2) * rng.normal(size=size) for c in correlations]

    space = pool_problem(errors[:, None]).space
    # Option numbers are those of the architectures.
    return errors[:, None], score_of(space, {n: partial(_at, c) for n, c in zip(THREE.scores, columns, strict=True)})


def _at(column: np.ndarray, numbers: Numbers) -> np.ndarray:
    return np.asarray(column[numbers[:, 0]])


def proposed(
    score: Score, results: Mapping[int, float | None], strategy: RoBoT = THREE, size: int = 300, count: int = 4
) -> list[tuple[int, str]]:
    space = pool_problem(np.zeros((size, 1))).space
    made = strategy.propose(request_of(space, score, results, count=count))
    return [(each.genotype["genes"][0], each.origin) for each in made]


def test_scores_are_stretched_over_what_is_known_of_them() -> None:
    scores = np.array([[2.0, 5.0], [4.0, 5.0], [np.nan, 5.0], [3.0, np.nan]])
    assert normalised(scores) == pytest.approx(
        np.array([[0, 0.5], [1, 0.5], [np.nan, 0.5], [0.5, np.nan]]), nan_ok=True
    )


def test_a_missing_score_is_the_worst_whatever_the_sign_of_its_weight() -> None:
    scores = np.array([[0.0, 0.5], [1.0, 0.5], [np.nan, 0.5]])
    # 2 s + 0.5 * 1, and -2 s + 0.5 * 1: the missing one is worth 0 in the first and 1 in the second.
    assert combined(scores, np.array([[2.0, 1.0], [-2.0, 1.0]])).tolist() == [[0.5, 2.5, 0.5], [0.5, -1.5, -1.5]]


def test_weights_fall_into_one_cone_per_best_architecture() -> None:
    scores = np.array([[1.0, 0.0], [0.0, 1.0], [0.4, 0.4]])
    # With -0.5 and -0.5 the sums are -0.5, -0.5 and -0.4: the third leads.
    cones = cones_of(scores, np.array([[0.1, 0.8], [1.0, 0.0], [-0.5, -0.5], [0.0, 1.0]]))
    assert cones.leaders.tolist() == [1, 0, 2]
    middle = np.array([0.1, 0.8]) / np.hypot(0.1, 0.8) + np.array([0.0, 1.0])
    assert cones.centres[0] == pytest.approx(middle / np.linalg.norm(middle))
    assert cones.centres[1] == pytest.approx([1.0, 0.0])


@settings(max_examples=30, deadline=None)
@given(arrays(float, (12, 3), elements=st.integers(0, 1000).map(lambda number: number / 1000)), st.integers(0, 99))
def test_the_centre_of_a_cone_ranks_first_what_its_weights_do(scores: np.ndarray, seed: int) -> None:
    cones = cones_of(scores, np.random.default_rng(seed).uniform(-1, 1, (50, 3)))
    sums = combined(scores, cones.centres)
    assert sums[np.arange(len(cones.leaders)), cones.leaders] == pytest.approx(sums.max(axis=1))


def test_the_sign_of_a_score_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    scores, weights = rng.random((40, 2)), rng.uniform(-1, 1, (60, 2))
    flipped = np.column_stack([1 - scores[:, 0], scores[:, 1]])
    cones, others = cones_of(scores, weights), cones_of(flipped, weights * [-1, 1])
    assert cones.leaders.tolist() == others.leaders.tolist()
    assert cones.centres == pytest.approx(others.centres * [-1, 1])


def test_what_failed_is_as_bad_as_the_worst_and_what_is_not_evaluated_is_not_known() -> None:
    results = np.array([[1.0], [3.0], [np.nan], [np.nan]])
    worth = worth_of(results, np.array([True, True, True, False]), np.ones(1))
    assert worth[0] < worth[1] == worth[2]
    assert np.isnan(worth[3])
    assert np.isnan(worth_of(results[2:], np.array([True, False]), np.ones(1))).all()


def test_a_search_spends_its_budget_on_different_architectures_and_can_be_repeated() -> None:
    errors, score = made_up(0)
    problem = pool_problem(errors)
    history, _ = searched(problem, THREE, score, evaluations=22, batch=4)
    numbers = [each.proposal.genotype["genes"][0] for each in history]
    assert len(set(numbers)) == len(numbers) == 22
    # Rounds of 4 with a budget of 6 x 4: the first 12 look for weights.
    assert [each.proposal.origin for each in history] == ["weights"] * 12 + ["ranking"] * 10
    again, _ = searched(problem, THREE, score, evaluations=22, batch=4)
    assert [each.proposal for each in again] == [each.proposal for each in history]


def test_proposals_follow_from_the_request_alone() -> None:
    _, score = made_up(0)
    results = {number: float(number % 7) for number in range(40)}
    assert proposed(score, results) == proposed(score, results)
    assert proposed(score, dict(reversed(results.items()))) == proposed(score, results), "whatever their order"


def test_nothing_known_or_under_way_is_proposed_again() -> None:
    _, score = made_up(0, size=12)
    space = pool_problem(np.zeros((12, 1))).space
    results = {number: float(number) for number in range(5)}
    made = RoBoT(scores=THREE.scores).propose(request_of(space, score, results, pending=[5, 6], count=9))
    assert sorted(each.genotype["genes"][0] for each in made) == [7, 8, 9, 10, 11]


def test_a_score_that_is_the_objective_is_found_whatever_its_sign() -> None:
    for correlations in ((0.0, 1.0, 0.0), (0.0, -1.0, 0.0)):
        errors, score = made_up(3, correlations)
        _, found = searched(pool_problem(errors), THREE, score, evaluations=16, batch=2)
        assert found.min() == errors.min()


def test_a_budget_of_the_whole_pool_finds_the_optimum_and_ends_there() -> None:
    errors, score = made_up(1, size=20)
    history, found = searched(pool_problem(errors), THREE, score, evaluations=20, batch=6)
    assert len(history) == 20
    assert found.min() == errors.min()
    results = dict(enumerate(errors[:, 0].tolist()))
    assert proposed(score, results, size=20) == []


def test_without_exploration_it_begins_with_the_ranking_by_equal_weights() -> None:
    _, score = made_up(2)
    scores = normalised(score([{"genes": [number]} for number in range(300)], THREE.scores))
    first = np.argsort(-scores.sum(axis=1))[:4].tolist()
    assert proposed(score, {}, RoBoT(scores=THREE.scores, exploration=0)) == [(place, "ranking") for place in first]


def test_it_beats_random_search_and_equal_weights_where_one_score_of_three_tells_something() -> None:
    ahead, random, equal = [], [], []
    for seed in range(4):
        errors, score = made_up(seed, (0.0, -0.7, 0.0))
        _, found = searched(pool_problem(errors), THREE, score, evaluations=20, batch=5, seed=seed)
        scores = score([{"genes": [number]} for number in range(300)], THREE.scores)
        order = np.argsort(-scores.argsort(axis=0).argsort(axis=0).sum(axis=1))
        ahead.append(found.min())
        random.append(np.random.default_rng(seed).choice(errors[:, 0], 20, replace=False).min())
        equal.append(errors[order[:20]].min())
    assert np.mean(ahead) < min(np.mean(random), np.mean(equal)) - 0.2


def test_several_objectives_are_weighted_anew_for_every_proposal() -> None:
    problem = Grid(function="zdt1", genes=4, options=4).problem()
    score = score_of(
        problem.space, {"first": lambda n: -n[:, 0], "second": lambda n: -n.sum(axis=1), "third": lambda n: n[:, 2]}
    )
    history, found = searched(problem, THREE, score, evaluations=40, batch=5)
    assert len(history) == 40
    # Not only one end of the front.
    assert found[:, 0].min() == 0
    assert found[:, 1].min() < 0.5


def test_scores_that_always_fail_leave_a_search_that_still_spends_its_budget() -> None:
    errors, _ = made_up(0, size=30)
    space = pool_problem(errors).space
    score = score_of(space, dict.fromkeys(THREE.scores, lambda n: np.full(len(n), np.nan)))
    history, _ = searched(pool_problem(errors), THREE, score, evaluations=12, batch=3)
    assert len({each.proposal.genotype["genes"][0] for each in history}) == 12


def test_a_space_that_cannot_be_scored_is_refused_in_one_line() -> None:
    space = pool_problem(np.zeros((5, 1))).space
    with pytest.raises(UserError, match=r"^scores: found first, second, third, but .*'pool' cannot be scored.*$"):
        THREE.propose(request_of(space, None))
