"""What the multi-fidelity strategies promise: brackets that fit, promotion of the best, and a model that learns."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nas_lib.randomness import generator
from nas_lib.records import Evaluation, History, Proposal
from nas_lib.spaces import Space
from nas_lib.strategies import impossible
from nas_lib.strategies.bayesian import improving
from nas_lib.strategies.hyperband import (
    BOHB,
    Brackets,
    Hyperband,
    bandwidths,
    bracket_sizes,
    fidelities,
    log_density,
    schedule,
)
from nas_lib.strategies.request import Plan, Request, Strategy
from tests.test_strategies import SPACE, ToySpace

PLAN = Plan(rounds=9, proposals=6, lag=1, epochs=4)


def request_of(history: History, round: int, plan: Plan = PLAN, objectives: int = 2) -> Request:
    return Request(
        space=cast(Space, SPACE),
        objectives=[f"f{index}" for index in range(objectives)],
        history=history,
        pending=[],
        round=round,
        count=plan.proposals,
        plan=plan,
        rng=partial(generator, 1),
    )


def objectives_of(point: Sequence[float], count: int) -> dict[str, float]:
    return {f"f{index}": float(abs(point[index] - 0.3)) for index in range(count)}


def searched(strategy: Strategy, rounds: int, plan: Plan = PLAN, objectives: int = 2, failing: bool = False) -> History:
    """A search whose results do not depend on the fidelity; with `failing` every third new candidate fails."""
    history: History = []
    for round in range(rounds):
        known = [one for one in history if one.proposal.round <= round - plan.lag]
        for slot, suggestion in enumerate(strategy.propose(request_of(known, round, plan, objectives))):
            proposal = Proposal(
                round=round,
                slot=slot,
                genotype=suggestion.genotype,
                hash=str(suggestion.genotype),
                epochs=suggestion.epochs or plan.epochs,
                warm_start=suggestion.warm_start,
                bracket=suggestion.bracket,
            )
            if failing and suggestion.warm_start is None and slot % 3 == 0:
                history.append(Evaluation(proposal=proposal, status="failed", reason="diverged"))
                continue
            values = objectives_of(suggestion.genotype["point"], objectives)
            history.append(Evaluation(proposal=proposal, status="ok", objectives=values))
    return history


# --- brackets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("brackets", "sizes"),
    [
        ("hyperband", [[4, 2, 1], [3, 2], [3]]),
        ("hpbandster", [[4, 2, 1], [2, 1], [3]]),
        ("released", [[4, 2, 1], [2, 1], [1]]),
        ("halving", [[4, 2, 1]]),
    ],
)
def test_a_cycle_of_brackets_has_the_published_sizes(brackets: Brackets, sizes: list[list[int]]) -> None:
    assert bracket_sizes(brackets, 3, 2) == sizes


def test_the_published_iteration_is_11_trainings_and_720_epochs_when_none_continues() -> None:
    epochs = fidelities(30, 120, 2)
    sizes = bracket_sizes("released", 3, 2)
    assert sum(map(sum, sizes)) == 11
    assert (
        sum(count * epochs[len(epochs) - len(counts) + i] for counts in sizes for i, count in enumerate(counts)) == 720
    )


def test_longer_brackets_are_divided_by_eta_at_every_rung() -> None:
    assert bracket_sizes("halving", 4, 2) == [[8, 4, 2, 1]]
    assert bracket_sizes("hyperband", 5, 3)[0] == [81, 27, 9, 3, 1]


@given(
    brackets=st.sampled_from(["hyperband", "hpbandster", "released", "halving"]),
    levels=st.integers(1, 4),
    eta=st.integers(2, 4),
    lag=st.integers(1, 3),
    more=st.integers(0, 9),
)
@settings(deadline=None)
def test_rounds_have_room_for_their_rungs_and_every_bracket_is_whole(
    brackets: Brackets, levels: int, eta: int, lag: int, more: int
) -> None:
    sizes = bracket_sizes(brackets, levels, eta)
    capacity = max(map(max, sizes)) + more
    epochs = fidelities(1, eta ** (levels - 1), eta)
    found = defaultdict(list)
    rounds = list(islice(schedule(sizes, epochs, capacity, lag), 40))
    for number, rungs in enumerate(rounds):
        assert sum(rung.count for rung in rungs) <= capacity
        for rung in rungs:
            found[rung.bracket].append((number, rung))
    first_rounds = [members[0][0] for _, members in sorted(found.items())]
    assert first_rounds == sorted(first_rounds)
    for bracket, members in found.items():
        expected = sizes[bracket % len(sizes)]
        if members[0][0] + lag * (len(expected) - 1) < len(rounds):
            assert [rung.count for _, rung in members] == expected
            assert [rung.epochs for _, rung in members] == epochs[-len(expected) :]
            assert np.all(np.diff([number for number, _ in members]) == lag)


def test_no_bracket_begins_that_cannot_be_finished() -> None:
    history = searched(Hyperband(), PLAN.rounds)
    reached: dict[int | None, int] = defaultdict(int)
    for evaluation in history:
        reached[evaluation.proposal.bracket] = max(reached[evaluation.proposal.bracket], evaluation.proposal.epochs)
    assert set(reached.values()) == {PLAN.epochs}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 1}, "min_epochs is 2, allowed is at most budget.epochs, which is 1"),
        (
            {"epochs": 16},
            "its largest bracket begins with 8 candidates, allowed are at most budget.proposals, which is 6",
        ),
        ({"lag": 5}, "its longest bracket takes 11 rounds, allowed are at most budget.rounds, which is 9"),
        ({}, None),
    ],
)
def test_brackets_that_do_not_fit_the_budget_are_refused(changes: dict[str, int], message: str | None) -> None:
    plan = Plan(**{**vars(PLAN), "epochs": 8, **changes})
    found = impossible(Hyperband(min_epochs=2), plan)
    assert found is None if message is None else str(found).startswith(message)


# --- promotion -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lag", [1, 2])
@pytest.mark.parametrize("strategy", [Hyperband(), BOHB(), BOHB(model="gp")])
def test_the_best_of_a_rung_continue_with_their_own_architecture(strategy: Strategy, lag: int) -> None:
    history = searched(strategy, 9, Plan(rounds=9, proposals=6, lag=lag, epochs=4), objectives=1)
    by_candidate = {one.proposal.candidate: one for one in history}
    promoted = [one for one in history if one.proposal.warm_start is not None]
    assert promoted
    for one in promoted:
        below = by_candidate[cast(Any, one.proposal.warm_start)]
        rivals = [
            rival
            for rival in history
            if (rival.proposal.bracket, rival.proposal.epochs) == (below.proposal.bracket, below.proposal.epochs)
        ]
        kept = [rival for rival in rivals if any(up.proposal.warm_start == rival.proposal.candidate for up in promoted)]
        assert below.proposal.genotype == one.proposal.genotype
        assert one.proposal.epochs == 2 * below.proposal.epochs
        assert one.proposal.round == below.proposal.round + lag
        assert len(kept) == -(-len(rivals) // 2)
        assert max(k.objectives["f0"] for k in kept) <= min(
            (r.objectives["f0"] for r in rivals if r not in kept), default=np.inf
        )


def test_failed_candidates_never_continue() -> None:
    history = searched(Hyperband(), 9, failing=True)
    failed = {one.proposal.candidate for one in history if not one.ok}
    assert failed
    assert failed.isdisjoint(one.proposal.warm_start for one in history)


def test_equal_requests_give_equal_suggestions() -> None:
    history = searched(BOHB(), 8)
    assert BOHB().propose(request_of(history, 8)) == BOHB().propose(request_of(history, 8))


# --- the model -------------------------------------------------------------------------------------


def test_the_density_is_a_mean_of_products_of_normal_kernels() -> None:
    rng = np.random.default_rng(0)
    points, at = rng.random((7, 2)), rng.random((5, 2))
    expected = [np.mean([np.prod(stats.norm.pdf(x, point, bandwidths(points))) for point in points]) for x in at]
    assert np.exp(log_density(at, points)) == pytest.approx(expected)


def test_new_candidates_gather_where_the_good_ones_are() -> None:
    plan = Plan(rounds=30, proposals=6, lag=1, epochs=4)
    strategies: dict[str, Strategy] = {"random": Hyperband(brackets="hpbandster"), "model": BOHB(random_share=0)}
    new = {
        name: [
            one.objectives["f0"] + one.objectives["f1"]
            for one in searched(strategy, 30, plan)
            if one.proposal.warm_start is None and one.proposal.round >= 15
        ]
        for name, strategy in strategies.items()
    }
    assert len(new["model"]) == len(new["random"])
    assert np.mean(new["model"]) < 0.7 * np.mean(new["random"])


def test_a_surrogate_that_knows_the_fidelity_is_not_misled_by_early_results() -> None:
    """At the lowest fidelity the wrong half of the space looks best; only fully trained candidates tell."""
    rng = np.random.default_rng(3)
    history: History = []
    for slot, (point, epochs) in enumerate((point, epochs) for point in rng.random((24, 4)) for epochs in (1, 4)):
        genotype = SPACE.decode(point, rng)
        proposal = Proposal(round=0, slot=slot, genotype=genotype, hash=str(slot), epochs=epochs)
        value = abs(point[0] - (0.9 if epochs == 1 else 0.2))
        history.append(Evaluation(proposal=proposal, status="ok", objectives={"f0": value}))
    found = improving(request_of(history, 1, objectives=1), range(4), [])
    first = [genotype["point"][0] for genotype in found]
    assert np.mean(np.abs(np.array(first) - 0.2)) < 0.1


def test_points_are_within_the_space() -> None:
    genotypes = [one.proposal.genotype for one in searched(BOHB(random_share=0), 20, Plan(20, 6, 1, 4))]
    points = np.array([ToySpace().encode(genotype) for genotype in genotypes])
    assert np.all((points >= 0) & (points <= 1))
