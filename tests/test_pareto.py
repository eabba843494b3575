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


def test_a_network_that_failed_by_any_factor_does_not_stretch_the_box() -> None:
    points = np.array([[0.1, 5], [0.2, 4], [0.3, 3], [0.4, 2], [1e30, 1]])
    assert pareto.box(points, [None, None], ["loss", "blocks"]).reference == pytest.approx([0.43, 5.4])
    assert pareto.box(points, [None, None], ["flops", "blocks"]).reference[0] == pytest.approx(1.1e30)
    assert pareto.box(points, [7.0, None], ["loss", "blocks"]).reference[0] == 7
    assert pareto.fence(np.array([1.0, 2.0, 3.0, 4.0, 5.0])) == 10


def test_finalists_are_no_members_beyond_the_reference_point_while_there_are_others() -> None:
    members = pareto.front(history((0.1, 5), (0.2, 4), (0.3, 3), (1e30, 1)), NAMES)
    assert slots(pareto.spread_selection(members, NAMES, 3, np.array([0.5, 9.0]))) == [0, 1, 2]
    assert slots(pareto.spread_selection(members, NAMES, 3, np.array([0.25, 9.0]))) == [0, 1]
    assert 3 in slots(pareto.spread_selection(members, NAMES, 3, np.array([0.05, 9.0])))
    assert 3 in slots(pareto.spread_selection(members, NAMES, 3))


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
    with_zeros = pareto.signed_rank_test([*range(1, 15), *[0] * 6])
    assert with_zeros.p == pytest.approx(2 / 2**14), "differences of 0 say nothing, and do not make p an approximation"
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


# --- the laboratory --------------------------------------------------------------------------------


@pytest.mark.parametrize("objectives", [2, 3, 5])
def test_the_running_hypervolume_is_that_of_the_points_so_far(objectives: int) -> None:
    points = np.random.default_rng(objectives).uniform(0, 1.1, size=(40, objectives))
    points[7] = points[3]
    scale = Scale(ideal=np.zeros(objectives), reference=np.ones(objectives))
    running = pareto.running_hypervolume(points, scale)
    assert running == pytest.approx([pareto.hypervolume(points[:count], scale) for count in range(1, 41)])
    assert running[7] == running[6]


def test_the_most_improving_points_are_chosen_one_after_another() -> None:
    scale = Scale(ideal=np.zeros(2), reference=np.full(2, 10.0))
    members = np.array([[5.0, 5.0]])
    # Beside the member's square of 25: (1, 9) adds 4, (4, 4) adds 11, (3, 5) adds 10 and after (4, 4) still 5;
    # (6, 6) and (5, 5) are dominated, (11, 0) is beyond the reference point.
    points = np.array([[6, 6], [1, 9], [3, 5], [4, 4], [11, 0], [5, 5]], dtype=float)
    assert pareto.most_improving(points, members, scale, 2) == [3, 2]
    assert pareto.most_improving(points, members, scale, 6) == [3, 2, 1]
    assert pareto.most_improving(points[:0], members, scale, 2) == []


@pytest.mark.parametrize("objectives", [2, 3])
def test_the_most_improving_points_are_those_of_plain_greedy_choice(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    points, taken = rng.uniform(0.1, 1, (30, objectives)), rng.uniform(0.5, 1, (3, objectives))
    points *= rng.uniform(0.8, 1, (30, 1)) / np.linalg.norm(points, axis=1, keepdims=True)
    scale = Scale(ideal=np.zeros(objectives), reference=np.ones(objectives))
    chosen = pareto.most_improving(points, taken, scale, 4)
    for place in chosen:
        values = [pareto.hypervolume(np.vstack([taken, point]), scale) for point in points]
        assert values[place] == pytest.approx(max(values))
        taken = np.vstack([taken, points[place]])
    assert len(chosen) == 4


def test_igd_plus_counts_only_what_falls_short_of_the_front() -> None:
    front = np.array([[0.0, 100.0], [2.0, 0.0]])  # in units of its range: (0, 1) and (1, 0)
    # (2, 50) is (1, 0.5): from (0, 1) it is 1 short in the first objective alone, from (1, 0) half in the second.
    assert pareto.igd_plus(np.array([[2.0, 50.0]]), front) == pytest.approx((1.0 + 0.5) / 2)
    assert pareto.igd_plus(front, front) == 0
    assert pareto.igd_plus(np.empty((0, 2)), front) == math.inf


def test_igd_plus_is_that_of_pymoo() -> None:
    from pymoo.indicators.igd_plus import IGDPlus

    points, front = np.random.default_rng(0).random((30, 3)), np.random.default_rng(1).random((9, 3))
    extent = np.ptp(front, axis=0)
    assert pareto.igd_plus(points, front) == pytest.approx(IGDPlus(front / extent).do(points / extent))


def test_the_bootstrap_interval_of_two_values_is_their_range() -> None:
    interval = pareto.bootstrap_interval([1.0, 3.0], np.random.default_rng(0))
    assert interval == pareto.Interval(2.0, 1.0, 3.0, 2)  # a quarter of the resamples are 1, 1, another 3, 3


def test_the_bootstrap_interval_of_many_values_is_nearly_that_of_student() -> None:
    values = np.random.default_rng(0).normal(size=200).tolist()
    found, student = pareto.bootstrap_interval(values, np.random.default_rng(1)), pareto.mean_interval(values)
    assert (found.low, found.high) == pytest.approx((student.low, student.high), abs=0.02)
    assert found == pareto.bootstrap_interval(values, np.random.default_rng(1)), "equal generators, equal intervals"


def test_a_bootstrap_of_equal_values_or_a_single_one_has_no_extent() -> None:
    rng = np.random.default_rng(0)
    assert pareto.bootstrap_interval([4.0, 4.0, 4.0], rng) == pareto.Interval(4.0, 4.0, 4.0, 3)
    assert pareto.bootstrap_interval([4.0], rng) == pareto.Interval(4.0, 4.0, 4.0, 1)
    with pytest.raises(ValueError, match="no values"):
        pareto.bootstrap_interval([], rng)


def test_every_column_of_a_table_has_its_interval() -> None:
    table = np.array([[1.0, 5.0, 0.0], [3.0, 5.0, 1.0], [8.0, 5.0, 2.0]])
    ends = pareto.bootstrap_means(table, np.random.default_rng(0))
    assert ends.shape == (2, 3)
    assert ends[:, 1].tolist() == [5.0, 5.0]
    assert ends[0, 0] < 4.0 < ends[1, 0]


def test_a_level_is_reached_by_the_first_value_that_is_not_below_it() -> None:
    assert pareto.reached([0.1, 0.5, 0.5, 0.9], 0.5) == 2
    assert pareto.reached([0.1, 0.5], 0.6) is None
    assert pareto.reached([], 0.0) is None


def test_waiting_counts_searches_that_did_not_arrive() -> None:
    # Of ten, order statistics 2 and 9 hold the median with probability 1 - 2 (1 + 10) / 2^10 = 0.979.
    assert pareto.waiting([10, 20, 30, 40, 50, 60, 70, 80, 90, 100]) == pareto.Waiting(50, 20, 90, 10, 10)
    assert pareto.waiting([10, None, 30, 40, None, 60, None, None, 20, 50]) == pareto.Waiting(50, 20, None, 6, 10)
    assert pareto.waiting([10, None, None]) == pareto.Waiting(None, None, None, 1, 3)
    with pytest.raises(ValueError, match="no searches"):
        pareto.waiting([])


def test_five_searches_are_too_few_for_an_interval() -> None:
    assert pareto.waiting([1, 2, 3, 4, 5]) == pareto.Waiting(3, None, None, 5, 5)  # at most 1 - 2 / 2^5 = 0.9375


@given(st.lists(st.none() | st.integers(1, 9), min_size=1, max_size=12))
@settings(max_examples=50, deadline=None)
def test_the_median_is_that_of_kaplan_and_meier(firsts: list[int | None]) -> None:
    from scipy import stats

    budget = 9
    times = [budget if first is None else first for first in firsts]
    data = stats.CensoredData.right_censored(times, [first is None for first in firsts])
    survival = stats.ecdf(data).sf
    below = survival.quantiles[survival.probabilities <= 0.5 + 1e-9]
    assert pareto.waiting(firsts).median == (float(below[0]) if len(below) else None)


def test_a_speed_up_is_the_ratio_of_medians() -> None:
    found = pareto.speed_up([100] * 6, [40] * 6, 250, np.random.default_rng(0))
    assert found == pareto.SpeedUp(at_least=2.5, at_most=2.5, low=2.5, high=2.5)
    found = pareto.speed_up([90, 100, 110], [10, 20, 30], 250, np.random.default_rng(0))
    assert (found.at_least, found.at_most) == (5.0, 5.0)
    assert found.low == pytest.approx(110 / 30)
    assert found.high == pytest.approx(9.0)  # of resamples of three pairs, 7 in 27 have the first as their median


def test_a_speed_up_is_bounded_where_one_did_not_arrive() -> None:
    rng = np.random.default_rng(0)
    assert pareto.speed_up([None] * 5, [50] * 5, 250, rng) == pareto.SpeedUp(5.0, None, 5.0, None)
    assert pareto.speed_up([50] * 5, [None] * 5, 250, rng) == pareto.SpeedUp(0.0, 0.2, 0.0, 0.2)
    assert pareto.speed_up([None] * 5, [None] * 5, 250, rng) == pareto.SpeedUp(0.0, None, 0.0, None)


def test_the_interval_of_a_speed_up_is_open_where_resamples_do_not_arrive() -> None:
    found = pareto.speed_up([100, 110, 120, None, None], [50] * 5, 250, np.random.default_rng(0))
    assert (found.at_least, found.at_most) == (2.4, 2.4)
    assert (found.low, found.high) == (2.0, None)


# Demšar (2006), table 6: AUC of C4.5 with four settings on 14 data sets; mean ranks and statistics are his.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def test_friedman_and_nemenyi_are_those_of_demsar() -> None:
    assert pareto.mean_ranks(DEMSAR.tolist()) == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    found = pareto.friedman_test(DEMSAR.tolist())
    # His 9.28 is without the correction for ties: divided by 1 - sum(t^3 - t) / (n k (k^2 - 1)), here of 2, 2, 2 and 4.
    assert found.statistic == pytest.approx(9.28 / (1 - (3 * 6 + 60) / (14 * 4 * 15)), abs=0.01)
    assert found.p < 0.05
    assert pareto.critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    assert pareto.critical_difference(4, 14, level=0.1) == pytest.approx(1.12, abs=0.005)
    assert pareto.critical_difference(2, 1) == pytest.approx(1.960, abs=5e-4)  # q is 1.960, the root is 1
    assert pareto.critical_difference(10, 1) == pytest.approx(3.164 * math.sqrt(110 / 6), abs=0.01)


def test_without_any_difference_friedman_finds_none() -> None:
    assert pareto.friedman_test([[1, 1, 1], [2, 2, 2]]) == pareto.FriedmanTest(p=1.0, statistic=0.0)
    with pytest.raises(ValueError, match="found 2 competitors"):
        pareto.friedman_test([[1, 2], [2, 1]])


def test_strategies_are_alike_within_the_critical_difference() -> None:
    assert pareto.alike([3.143, 2.0, 2.893, 1.964], 1.25) == [[3, 1, 2, 0]]
    assert pareto.alike([1.0, 3.0, 5.0], 2.0) == []
    assert pareto.alike([1.0, 2.0, 3.0, 4.0], 1.5) == [[0, 1], [1, 2], [2, 3]]
