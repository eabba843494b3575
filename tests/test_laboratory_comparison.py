"""The comparison of a laboratory: what it says of searches whose hypervolumes are known by hand."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nas_lib.laboratory import comparison
from nas_lib.laboratory.search import search
from nas_lib.laboratory.settings import Laboratory, LaboratoryBudget, Target
from nas_lib.problems import ProblemError
from nas_lib.problems.table import Table
from nas_lib.strategies.random_search import RandomSearch
from tests.laboratories import UNLISTED_GRID, a_laboratory, write_search

ALL = [(3, 0), (0, 3), (2, 1), (1, 2)]
"""Dominate 4, 7, 9 and 10 of the 10 units."""
FEW = [(3, 0), (4, 1), (2, 1), (5, 2)]
"""Dominate 4, 4, 7 and 7."""


def compared(laboratory: Laboratory) -> dict[str, Any]:
    comparison.write_comparison(laboratory)
    found: dict[str, Any] = json.loads(laboratory.folder.comparison.read_text())
    return found


@pytest.fixture
def laboratory(tmp_path: Path) -> Laboratory:
    laboratory = a_laboratory(tmp_path)
    predictions = np.array([np.nan, np.nan, np.nan, 3, 2, 1], dtype=float)
    for seed in laboratory.seeds:
        write_search(laboratory, "staircase", "good", seed, [*ALL, (2, 1)], repeats=(4,), predicted=predictions[:5])
        write_search(laboratory, "staircase", "random", seed, FEW)
    return laboratory


def search_of(found: dict[str, Any], label: str, seed: int = 1) -> dict[str, Any]:
    searches = found["problems"]["staircase"]["searches"]
    return next(one for one in searches if (one["strategy"], one["seed"]) == (label, seed))


def test_hypervolume_is_a_share_of_the_exact_front(laboratory: Laboratory) -> None:
    found = compared(laboratory)
    problem = found["problems"]["staircase"]
    assert problem["denominator"] == {"value": pytest.approx(10), "exact": True, "points": 4}
    assert problem["reference"] == [4, 4]
    assert search_of(found, "good")["hypervolume"] == pytest.approx([0.4, 0.7, 0.9, 1.0])
    assert search_of(found, "random")["hypervolume"] == pytest.approx([0.4, 0.4, 0.7, 0.7])
    assert problem["final"]["random"]["mean"] == pytest.approx(0.7)
    assert problem["differences"]["good"]["mean"] == pytest.approx(0.3)


def test_repeats_are_counted_and_are_no_evaluations(laboratory: Laboratory) -> None:
    good = search_of(compared(laboratory), "good")
    assert (good["evaluations"], good["repeats"]) == (4, 1)
    assert good["proposing_seconds"] == {"total": 1.5, "per_proposal": pytest.approx(0.3)}


def test_igd_plus_is_given_where_the_front_is_known(laboratory: Laboratory) -> None:
    found = compared(laboratory)
    assert search_of(found, "good")["igd_plus"] == 0
    # Of (0, 3), (1, 2), (2, 1), (3, 0) the first two are missed: (2, 1) is 2 and 1 short of them, in a range of 3.
    assert search_of(found, "random")["igd_plus"] == pytest.approx((2 / 3 + 1 / 3) / 4)


def test_evaluations_to_a_level_and_speed_up(laboratory: Laboratory) -> None:
    targets = {target["name"]: target for target in compared(laboratory)["problems"]["staircase"]["targets"]}
    assert list(targets) == [
        "good at the end",
        "random at the end",
        "90 % of the whole",
        "95 % of the whole",
        "99 % of the whole",
    ]
    random = targets["random at the end"]
    assert (random["level"], random["against"]) == (pytest.approx(0.7), "random")
    assert random["strategies"]["good"]["median"] == 2
    assert random["strategies"]["random"]["median"] == 3
    assert random["strategies"]["good"]["speed_up"]["at_least"] == pytest.approx(1.5)
    assert random["strategies"]["random"]["speed_up"] is None
    never = targets["95 % of the whole"]["strategies"]
    assert (never["random"]["median"], never["random"]["reached"], never["random"]["count"]) == (None, 0, 2)
    assert (never["good"]["speed_up"]["at_least"], never["good"]["speed_up"]["at_most"]) == (1.0, None)


def test_strategies_are_ranked_at_the_checkpoints_and_over_all_blocks(laboratory: Laboratory) -> None:
    found = compared(laboratory)
    assert found["checkpoints"] == [4]
    (checkpoint,) = found["problems"]["staircase"]["checkpoints"]
    assert [checkpoint["strategies"][label]["rank"] for label in ("good", "random")] == [1, 2]
    assert [checkpoint["strategies"][label]["within_first"] for label in ("good", "random")] == [True, False]
    overall = found["overall"]
    assert overall["blocks"] == 2
    assert overall["checkpoints"][0]["ranks"] == {"good": 1, "random": 2}
    assert overall["checkpoints"][0]["friedman"] is None, "two strategies have the signed-rank test alone"
    assert [(pair["first"], pair["second"], pair["effect"]) for pair in overall["pairs"]] == [("good", "random", 1)]


def test_the_same_points_in_another_order_are_a_tie(tmp_path: Path) -> None:
    """Sums of what points add differ in their last digits with the order of the points."""
    path = tmp_path / "thirds.csv"
    points = [(place / 3, (1 - place / 11) ** 2 / 7) for place in range(12)]
    pd.DataFrame([{"a": a, "loss": loss, "cost": cost} for a, (loss, cost) in enumerate(points)]).to_csv(path)
    laboratory = a_laboratory(
        tmp_path,
        problems=[{"name": "table", "path": str(path), "genes": ["a"], "objectives": ["loss", "cost"]}],
        budget={"evaluations": 12, "batch": 6},
        seeds=[1, 2, 3, 4, 5, 6],
    )
    rng = np.random.default_rng(0)
    for seed in laboratory.seeds:
        for label in laboratory.labels:
            write_search(laboratory, "thirds", label, seed, rng.permutation(points))
    found = compared(laboratory)
    assert found["overall"]["checkpoints"][-1]["ranks"] == {"good": 1.5, "random": 1.5}
    assert (found["overall"]["pairs"][0]["p"], found["overall"]["pairs"][0]["effect"]) == (1, 0)
    strategies = found["problems"]["thirds"]["checkpoints"][-1]["strategies"]
    assert all(strategy["within_first"] for strategy in strategies.values())


def test_three_strategies_are_tested_by_friedman(tmp_path: Path) -> None:
    laboratory = a_laboratory(tmp_path, strategies=["nsga2", "ageing", "random"], seeds=[1, 2, 3, 4])
    for seed in laboratory.seeds:
        for label, points in zip(laboratory.labels, (ALL, ALL[:3], FEW), strict=True):
            write_search(laboratory, "staircase", label, seed, points)
    overall = compared(laboratory)["overall"]
    # The same order in all of n blocks of k: chi squared is n (k - 1).
    assert overall["checkpoints"][0]["friedman"]["statistic"] == pytest.approx(8)
    assert overall["checkpoints"][0]["critical_difference"] == pytest.approx(2.343 * np.sqrt(12 / 24), abs=1e-3)
    assert [pair["p"] for pair in overall["pairs"]] == [0.125] * 3
    assert [pair["p_holm"] for pair in overall["pairs"]] == [0.375] * 3


def test_predictions_are_ranked_against_what_was_new_in_each_round(tmp_path: Path) -> None:
    laboratory = a_laboratory(tmp_path, budget={"evaluations": 6, "batch": 3})
    points = [*ALL, (4, 1), (5, 2)]  # the second round measured the losses 1, 4, 5
    for seed in laboratory.seeds:
        predicted = np.array([np.nan] * 3 + [2.0, 9.0, 8.0])
        write_search(laboratory, "staircase", "good", seed, points, predicted=predicted)
        write_search(laboratory, "staircase", "random", seed, FEW)
    found = compared(laboratory)
    # Two of three pairs are in order, one is not: (2 - 1) / 3.
    assert search_of(found, "good")["foretold"] == {
        "loss": [{"round": 1, "correlation": pytest.approx(1 / 3), "count": 3}]
    }
    assert search_of(found, "random")["foretold"] == {}


def test_without_a_known_front_the_best_of_all_searches_is_the_measure(tmp_path: Path) -> None:
    laboratory = a_laboratory(tmp_path, problems=[UNLISTED_GRID], seeds=[1])
    title = laboratory.titles[0]
    # Below (2.5, 2.5, 2.5): 1 for the first point, 1.5^2 x 0.5 for the second, of which 1 x 1 x 0.5 is in both.
    write_search(laboratory, title, "good", 1, [(1.5, 1.5, 1.5), (1.0, 1.0, 2.0)])
    write_search(laboratory, title, "random", 1, [(1.5, 1.5, 1.5)])
    found = compared(laboratory)["problems"][title]
    assert found["denominator"] == {"value": pytest.approx(1 + 1.125 - 0.5), "exact": False, "points": 2}
    assert found["searches"][0]["hypervolume"] == pytest.approx([1 / 1.625, 1.0])
    assert found["searches"][1]["igd_plus"] is None


def test_a_missing_search_is_not_passed_over(laboratory: Laboratory) -> None:
    laboratory.folder.search("staircase", "random", 2).history.unlink()
    with pytest.raises(FileNotFoundError):
        comparison.write_comparison(laboratory)


# --- evaluations to one of the best -----------------------------------------------------------------


def test_evaluations_to_one_of_the_best_are_counted_without_repeats(tmp_path: Path) -> None:
    """Of 16 losses a + b one is 0, two are 1, three are 2: the best 15 % are three, those up to 1."""
    laboratory = a_laboratory(tmp_path, target={"share": 0.15}, seeds=[1, 2, 3])
    for seed in laboratory.seeds:
        early = [(3, 0), (3, 0), (1, 2), (0, 3)] if seed < 3 else [(2, 1), (3, 0), (2, 1), (2, 3)]
        write_search(laboratory, "staircase", "good", seed, early, repeats=(1,))
        write_search(laboratory, "staircase", "random", seed, [(2, 1), (3, 0), (4, 1), (0, 3)])
    found = compared(laboratory)
    best = found["problems"]["staircase"]["best"]
    assert (best["level"], best["members"], best["architectures"], best["against"]) == (1, 3, 16, "random")
    assert [search_of(found, label, seed)["found"] for label in ("good", "random") for seed in (1, 2, 3)] == [
        *(2, 2, None),
        *(4, 4, 4),
    ]
    good, random = best["strategies"]["good"], best["strategies"]["random"]
    assert (good["median"], good["reached"], good["count"]) == (2, 2, 3)
    assert good["mean"]["mean"] == pytest.approx((2 + 2 + 4) / 3), "what is not found counts as the budget"
    assert good["speed_up"]["at_least"] == good["speed_up"]["at_most"] == 2
    assert (good["speed_up"]["low"], good["speed_up"]["high"]) == (0, 2), "in some resamples half do not find any"
    assert (random["median"], random["speed_up"], random["mean"]["mean"]) == (4, None, 4)


@pytest.mark.parametrize(("share", "members"), [(0.01, 1), (1 / 16, 1), (0.07, 3), (0.2, 6), (0.99, 16)])
def test_the_best_are_a_share_of_all_with_those_as_good_as_the_worst_of_them(
    tmp_path: Path, share: float, members: int
) -> None:
    laboratory = a_laboratory(tmp_path, target={"share": share})
    assert laboratory.target is not None
    assert comparison.goal(laboratory.problem("staircase"), laboratory.target).members == members


def test_the_best_are_found_whatever_the_unit_of_the_objective(tmp_path: Path) -> None:
    path = tmp_path / "joules.csv"
    pd.DataFrame([{"a": a, "energy": (a + 1) * 1e-12} for a in range(20)]).to_csv(path)
    problem = Table.model_validate({"path": path, "genes": ["a"], "objectives": ["energy"]}).problem()
    goal = comparison.goal(problem, Target(share=0.1))
    assert goal.members == 2
    assert goal.first(np.array([5e-12, 3e-12, 2e-12, 1e-12])) == 3
    assert goal.first(np.array([5e-12, 3e-12])) is None


@pytest.mark.parametrize(("architectures", "members"), [(6, 1), (6, 2), (7, 4)])
def test_draws_without_replacement_need_n_plus_1_over_k_plus_1_evaluations(architectures: int, members: int) -> None:
    firsts = [1 + min(places) for places in itertools.combinations(range(architectures), members)]
    assert comparison.Goal(0.0, members, architectures).expected == pytest.approx(np.mean(firsts))


def test_random_search_needs_as_many_evaluations_as_draws_without_replacement(tmp_path: Path) -> None:
    laboratory = a_laboratory(tmp_path, target={"share": 0.15}, seeds=[1])
    problem, seeds = laboratory.problem("staircase"), range(100)
    assert laboratory.target is not None
    goal = comparison.goal(problem, laboratory.target)
    assert goal.expected == 17 / 4
    firsts = []
    for seed in seeds:
        history, _ = search(problem, RandomSearch(), seed, LaboratoryBudget(evaluations=16, batch=4))
        losses = [one.objectives["loss"] for one in history if one.proposal.duplicate_of is None]
        firsts.append(next(place for place, loss in enumerate(losses, start=1) if loss <= goal.level))
    deviation = np.std(firsts) / np.sqrt(len(seeds))
    assert abs(np.mean(firsts) - goal.expected) < 3 * deviation


def test_without_a_target_nothing_is_said_of_the_best(laboratory: Laboratory) -> None:
    found = compared(laboratory)
    assert found["problems"]["staircase"]["best"] is None
    assert search_of(found, "good")["found"] is None


def test_a_target_is_refused_where_the_best_are_not_known(tmp_path: Path) -> None:
    laboratory = a_laboratory(tmp_path, problems=[UNLISTED_GRID], target={"share": 0.01})
    with pytest.raises(ProblemError, match=r"problems \(dtlz2.*\): its best architectures are not known, .* `target`"):
        laboratory.checked_problems()
