"""Fronts, hypervolume and intervals, against values computed by hand."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_lib import pareto
from nas_lib.pareto import Scale
from nas_lib.records import Evaluation, History, Proposal

NAMES = ["error", "flops"]


def history(*points: tuple[float, float] | None) -> History:
    """One evaluation per point; None is a failed one."""
    made = []
    for slot, point in enumerate(points):
        proposal = Proposal(round=0, slot=slot, genotype={}, hash="h", epochs=1)
        if point is None:
            made.append(Evaluation(proposal=proposal, status="failed", reason="r"))
        else:
            made.append(Evaluation(proposal=proposal, status="ok", objectives=dict(zip(NAMES, point, strict=True))))
    return made


def slots(members: History) -> list[int]:
    return [member.proposal.slot for member in members]


UNIT = Scale(ideal=np.zeros(2), reference=np.ones(2))


def test_the_front_holds_what_nothing_is_better_than() -> None:
    assert slots(pareto.front(history((3, 1), (1, 3), (2, 2), (3, 3), None), NAMES)) == [1, 2, 0]


def test_of_equal_evaluations_the_first_is_on_the_front() -> None:
    assert slots(pareto.front(history((2, 2), (1, 1), (1, 1)), NAMES)) == [1]


def test_a_history_of_failures_has_no_front() -> None:
    assert pareto.front(history(None, None), NAMES) == []


def infeasible(evaluation: Evaluation) -> Evaluation:
    return evaluation.model_copy(update={"constraints": {"parameters": -1.0, "latency": 0.1}})


def test_what_breaks_a_constraint_is_on_no_front_and_adds_no_hypervolume() -> None:
    good, better, kept = history((2, 2), (1, 1), (1, 3))
    kept = kept.model_copy(update={"constraints": {"parameters": 0.0}})
    members = [good, infeasible(better), kept]
    box = Scale(ideal=np.zeros(2), reference=np.full(2, 4.0))
    assert better.feasible
    assert not members[1].feasible
    assert members[1].ok
    assert slots(pareto.front(members, NAMES)) == [2, 0]
    assert pareto.hypervolume_trace(members, NAMES, box) == pytest.approx([0.25, 0.25, 5 / 16])


def test_what_breaks_a_constraint_does_not_stretch_the_box() -> None:
    good, bad = history((2, 2), (9, 0))
    scale = pareto.scale_of([[good, infeasible(bad)]], NAMES, [None, 7.0])
    assert scale is not None
    assert (scale.ideal.tolist(), scale.reference.tolist()) == ([2, 2], [2, 7])
    assert pareto.scale_of([[infeasible(bad)]], NAMES, [None, None]) is None


def test_hypervolume_of_a_staircase() -> None:
    points = np.array([[0.2, 0.6], [0.5, 0.1]])
    assert pareto.hypervolume(points, UNIT) == pytest.approx(0.8 * 0.4 + 0.5 * 0.5)


def test_hypervolume_is_the_share_of_the_box() -> None:
    box = Scale(ideal=np.array([10.0, 100.0]), reference=np.array([20.0, 300.0]))
    assert pareto.hypervolume(np.array([[15.0, 100.0]]), box) == pytest.approx(0.5)
    assert pareto.hypervolume(np.array([[10.0, 100.0]]), box) == pytest.approx(1.0)


def test_points_beyond_the_reference_point_add_nothing() -> None:
    assert pareto.hypervolume(np.array([[0.1, 1.2]]), UNIT) == 0.0


def test_an_objective_in_which_all_are_equal_is_left_out() -> None:
    flat = Scale(ideal=np.array([0.0, 5.0]), reference=np.array([1.0, 5.0]))
    assert pareto.hypervolume(np.array([[0.25, 5.0]]), flat) == pytest.approx(0.75)


def test_where_all_lies_beyond_the_reference_point_nothing_is_dominated() -> None:
    made = history((0.6, 100), (0.7, 50))
    scale = pareto.scale_of([made], NAMES, [0.5, None])
    assert scale is not None
    assert pareto.hypervolume_trace(made, NAMES, scale) == [0.0, 0.0]


def test_no_points_dominate_nothing() -> None:
    assert pareto.hypervolume(np.empty((0, 2)), UNIT) == 0.0


@given(st.lists(st.tuples(st.floats(0, 1.2), st.floats(0, 1.2)) | st.none(), min_size=1, max_size=12))
@settings(max_examples=50, deadline=None)
def test_the_trace_never_falls_and_ends_at_the_hypervolume_of_all(points: list[tuple[float, float] | None]) -> None:
    made = history(*points)
    trace = pareto.hypervolume_trace(made, NAMES, UNIT)
    assert len(trace) == len(points)
    assert all(after >= before - 1e-12 for before, after in pairwise(trace))
    successful = [evaluation for evaluation in made if evaluation.ok]
    assert trace[-1] == pytest.approx(pareto.hypervolume(pareto.objective_matrix(successful, NAMES), UNIT))


def test_the_best_come_first_by_rank_and_by_what_they_add_to_the_hypervolume() -> None:
    points = np.array([[0.9, 0.9], [0.0, 1.0], [0.45, 0.45], [1.0, 0.0], [0.46, 0.44], [0.5, 0.5]])
    order = pareto.best_first(points)
    assert sorted(order[:4]) == [1, 2, 3, 4]
    assert order[4:] == [5, 0]
    assert {order[0], order[1]} == {1, 3}, "the two in the middle add little to each other"


def test_with_one_objective_the_best_come_first_by_value() -> None:
    assert pareto.best_first(np.array([[3.0], [1.0], [2.0]])) == [1, 2, 0]


def test_partly_trained_candidates_are_on_no_front_and_dominate_nothing() -> None:
    made = history((0.1, 100), (0.2, 200))
    partly = made[0].model_copy(update={"proposal": made[0].proposal.model_copy(update={"full": False})})
    assert pareto.front([partly, made[1]], NAMES) == [made[1]]
    scale = pareto.scale_of([made], NAMES, [None, None])
    assert scale is not None
    assert pareto.hypervolume_trace([partly], NAMES, scale) == [0.0]


def test_the_box_runs_from_the_best_to_a_tenth_beyond_the_worst_or_to_given_values() -> None:
    scale = pareto.scale_of([history((1, 9)), history((3, 4), None)], NAMES, [None, 20.0])
    assert scale is not None
    assert (scale.ideal.tolist(), scale.reference.tolist()) == ([1, 4], [3.2, 20])
    assert pareto.scale_of([history(None)], NAMES, [None, None]) is None


def test_finalists_are_spread_over_the_front() -> None:
    members = pareto.front(history((0.0, 1.0), (0.01, 0.99), (0.3, 0.3), (0.31, 0.29), (1.0, 0.0)), NAMES)
    chosen = pareto.spread_selection(members, NAMES, 3)
    assert len(chosen) == 3
    assert len({0, 1} & set(slots(chosen))) == len({2, 3} & set(slots(chosen))) == 1
    assert 4 in slots(chosen)


def test_a_small_front_is_chosen_whole() -> None:
    members = pareto.front(history((0, 1), (1, 0)), NAMES)
    assert pareto.spread_selection(members, NAMES, 5) == members


def test_the_interval_is_that_of_student() -> None:
    interval = pareto.mean_interval([1.0, 2.0, 3.0])
    half = 4.302652729911275 * 1.0 / math.sqrt(3)  # t(0.975, 2), standard deviation 1
    assert (interval.mean, interval.count) == (2.0, 3)
    assert (interval.low, interval.high) == pytest.approx((2 - half, 2 + half))


def test_one_value_has_no_interval_and_none_is_refused() -> None:
    assert pareto.mean_interval([4.0]) == pareto.Interval(4.0, 4.0, 4.0, 1)
    with pytest.raises(ValueError, match="no values"):
        pareto.mean_interval([])


FRONTS = [np.array([[1.0, 3.0], [3.0, 1.0]]), np.array([[2.0, 2.0], [4.0, 0.5]]), np.array([[0.5, 4.0], [3.0, 3.0]])]


def test_attainment_surfaces_of_three_fronts() -> None:
    best, median, worst = (pareto.attainment_surface(FRONTS, count).tolist() for count in (1, 2, 3))
    assert best == [[0.5, 4], [1, 3], [2, 2], [3, 1], [4, 0.5]]
    assert median == [[1, 4], [2, 3], [3, 2], [4, 1]]
    assert worst == [[2, 4], [3, 3]]


def test_a_front_without_points_attains_nothing() -> None:
    fronts = [FRONTS[0], np.empty((0, 2))]
    assert pareto.attainment_surface(fronts, 1).tolist() == FRONTS[0].tolist()
    assert len(pareto.attainment_surface(fronts, 2)) == 0


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=5), min_size=1, max_size=7),
    st.integers(1, 7),
)
@settings(max_examples=50, deadline=None)
def test_a_goal_is_beyond_a_surface_exactly_if_so_many_fronts_attain_it(
    fronts: list[list[tuple[int, int]]], at_least: int
) -> None:
    made = [np.array(front, dtype=float) for front in fronts]
    surface = pareto.attainment_surface(made, at_least)
    for goal in np.ndindex(8, 8):
        attained = sum(bool((front <= goal).all(axis=1).any()) for front in made)
        assert bool((surface <= goal).all(axis=1).any()) == (attained >= at_least)


def test_the_signed_rank_test_is_exact() -> None:
    all_positive = pareto.signed_rank_test([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert all_positive == pareto.PairedTest(p=2 / 2**6, smallest=2 / 2**6, effect=1, count=6)
    assert pareto.signed_rank_test([1.0, -2.0, 3.0]).p == pytest.approx(
        0.75
    )  # sums of ranks 4 or more, 2 or less: 6 of 8
    assert pareto.signed_rank_test([0.0, 0.0]).p == 1
    assert pareto.signed_rank_test([0.3]) == pareto.PairedTest(p=1, smallest=1, effect=1, count=1)
    with pytest.raises(ValueError, match="no differences"):
        pareto.signed_rank_test([])


def test_the_effect_of_paired_differences_is_the_balance_of_their_ranks() -> None:
    # Absolute values 0.1, 0.2, 0.3, 0.3 have the ranks 1, 2, 3.5, 3.5; the 0 has none: (1 + 3.5 + 3.5 - 2) / 10.
    assert pareto.signed_rank_test([0.3, -0.2, 0.1, 0.3, 0.0]).effect == pytest.approx(0.6)
    assert pareto.signed_rank_test([0.0, 0.0]).effect == 0


def test_holm_corrects_step_by_step() -> None:
    # By hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, then 0.04 raised to the step before.
    assert pareto.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert pareto.holm([0.7, 0.6]) == [1, 1]
    assert pareto.holm([0.03]) == [0.03]
    assert pareto.holm([]) == []


def test_mean_ranks_share_ties() -> None:
    assert pareto.mean_ranks([[1, 2, 2], [3, 1, 0]]) == [2.0, 1.75, 2.25]
