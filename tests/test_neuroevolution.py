"""Evolution of recurrent cells: how it begins, who survives, who has children, and what children begin with."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from nas_lib.randomness import generator
from nas_lib.records import Evaluation, Genotype, History, Proposal
from nas_lib.spaces.recurrent.space import RecurrentSpace
from nas_lib.strategies.neuroevolution import KnownNetworks, Neuroevolution, _parents, _pool
from nas_lib.strategies.request import Plan, Request

SPACE = RecurrentSpace(hidden=4)
STRATEGY = Neuroevolution(population=4)
CROWDED = [(1, 9), (2, 8), (3, 3), (8, 2), (9, 1)]
"""All on one front: the reference page's example of crowding distances (section 9.4)."""


def request_of(history: History, count: int, round: int, space: RecurrentSpace = SPACE) -> Request:
    return Request(
        space=space,  # type: ignore[arg-type]
        objectives=["loss", "blocks"],
        history=history,
        pending=(),
        round=round,
        count=count,
        plan=Plan(rounds=9, proposals=count, lag=1, epochs=1),
        rng=partial(generator, 1),
    )


def evaluated(genotypes: list[Genotype], values: list[Any], round: int = 0, origin: str = "initial") -> History:
    found = []
    for slot, (genotype, value) in enumerate(zip(genotypes, values, strict=True)):
        proposal = Proposal(
            round=round, slot=slot, genotype=genotype, hash=SPACE.hash(genotype), epochs=1, origin=origin
        )
        if value is None:
            found.append(Evaluation(proposal=proposal, status="failed", reason="diverged"))
        else:
            found.append(
                Evaluation(proposal=proposal, status="ok", objectives=dict(zip(("loss", "blocks"), value, strict=True)))
            )
    return found


def cells(count: int, seed: int = 0) -> list[Genotype]:
    rng = np.random.default_rng(seed)
    return [SPACE.sample(rng) for _ in range(count)]


def test_a_search_begins_with_the_known_cells_then_random_ones() -> None:
    suggestions = STRATEGY.propose(request_of([], 4, 0))
    assert [one.genotype for one in suggestions[:3]] == SPACE.seeds()
    assert [one.origin for one in suggestions] == ["initial"] * 4
    later = STRATEGY.propose(request_of(evaluated(SPACE.seeds()[:2], [(1, 9), (2, 8)]), 2, 1))
    assert later[0].genotype == SPACE.seeds()[2]
    assert later[1].genotype not in SPACE.seeds()


def test_a_child_is_a_changed_copy_of_a_parent_whose_weights_it_begins_with() -> None:
    history = evaluated(cells(4), [(1, 9), (2, 8), (3, 3), (8, 2)])
    children = STRATEGY.propose(request_of(history, 6, 1))
    known = {one.proposal.hash for one in history}
    assert len({SPACE.hash(child.genotype) for child in children} - known) == 6
    for child in children:
        assert child.warm_start in {one.proposal.candidate for one in history}
        assert child.parents == [child.warm_start]
        assert any(change["changed"] for change in child.changes)
    assert children == STRATEGY.propose(request_of(history, 6, 1))


def test_without_inheritance_children_begin_anew_and_still_have_a_parent() -> None:
    history = evaluated(cells(4), [(1, 9), (2, 8), (3, 3), (8, 2)])
    space = RecurrentSpace(hidden=4, inheritance="none")
    children = STRATEGY.propose(request_of(history, 4, 1, space))
    assert {child.warm_start for child in children} == {None}
    assert {child.parents[0] for child in children} <= {one.proposal.candidate for one in history}


def test_crossed_children_have_a_record_of_it() -> None:
    first = cells(1)
    related = [SPACE.mutate(first[0], np.random.default_rng(seed))[0] for seed in range(3)]
    history = evaluated(first + related, [(1, 9), (2, 8), (3, 3), (8, 2)])
    children = Neuroevolution(population=4, crossover=1.0).propose(request_of(history, 6, 1))
    assert all(child.changes[0]["edit"] == "crossover" for child in children)
    assert all(len(child.parents) == 2 and child.parents[0] == child.warm_start for child in children)


def test_those_on_the_front_and_the_least_crowded_survive() -> None:
    # By hand: the first and the last are the ends of the front; the distances of the others are 1, 1.5 and 1.
    history = evaluated(cells(6), [*CROWDED, (9, 9)])
    pool = _pool(request_of(history, 4, 1), Neuroevolution(population=3))
    assert sorted(pool.members.tolist()) == [0, 2, 4]
    assert pool.ranks.tolist() == [0, 0, 0]


def test_legacy_selection_draws_from_all_and_prefers_the_crowded() -> None:
    history = evaluated(cells(6), [*CROWDED, (9, 9)])
    pool = _pool(request_of(history, 4, 1), Neuroevolution(population=3, legacy_selection=True))
    assert pool.members.tolist() == [0, 1, 2, 3, 4, 5]
    assert pool.ranks.tolist() == [0, 0, 0, 0, 0, 1]
    # Those of the reference's released formula, halved: pymoo takes the mean over objectives.
    assert pool.wins[:5] == pytest.approx([np.inf, -1 / 2, -1.5 / 2, -1 / 2, np.inf])
    # Those just cut are drawn from as well, but are not ranked again: the first three survived in order of age.
    children = evaluated(cells(1, seed=9), [(0.5, 0.5)], round=1, origin="child")
    later = _pool(request_of(history + children, 4, 2), Neuroevolution(population=3, legacy_selection=True))
    assert sorted(later.members.tolist()) == [0, 1, 2, 6]


def test_with_ageing_the_youngest_survive_whatever_they_are_worth() -> None:
    history = evaluated(cells(6), [(9, 9), *CROWDED])
    children = evaluated(cells(2, seed=9), [(20, 20), (30, 30)], round=1, origin="child")
    pool = _pool(request_of(history + children, 4, 2), Neuroevolution(population=3, survival="age"))
    assert sorted(pool.members.tolist()) == [5, 6, 7]


def test_ageing_and_legacy_selection_are_not_asked_for_at_once() -> None:
    with pytest.raises(ValidationError, match="found survival 'age' beside legacy_selection"):
        Neuroevolution(survival="age", legacy_selection=True)


def test_a_search_begins_with_different_cells() -> None:
    with pytest.raises(ValidationError, match="repeats a cell"):
        RecurrentSpace(initial_cells=("rnn", "rnn"))


def test_failed_cells_have_no_children() -> None:
    history = evaluated(cells(4), [(1, 9), None, (3, 3), (8, 2)])
    children = STRATEGY.propose(request_of(history, 8, 1))
    assert (0, 1) not in {child.warm_start for child in children}


def test_the_better_of_two_is_the_parent_and_legacy_winners_are_drawn_once() -> None:
    history = evaluated(cells(4), [(1, 1), (2, 2), (3, 3), (4, 4)])
    pool = _pool(request_of(history, 4, 1), STRATEGY)
    counts = np.bincount(_parents(pool, 4000, np.random.default_rng(0)), minlength=4) / 4000
    # Of 6 pairs of different members the best wins 3, the worst none.
    assert counts == pytest.approx([1 / 2, 1 / 3, 1 / 6, 0], abs=0.03)
    legacy = _pool(request_of(history, 4, 1), Neuroevolution(population=4, legacy_selection=True))
    assert sorted(_parents(legacy, 3, np.random.default_rng(0))) == [0, 1, 2]


def test_known_networks_are_proposed_once_each_and_then_nothing() -> None:
    first = KnownNetworks().propose(request_of([], 3, 0))
    assert [one.genotype for one in first] == list(SPACE.known().values())[:3]
    history = evaluated([one.genotype for one in first], [(1, 9), None, (3, 3)])
    (last,) = KnownNetworks().propose(request_of(history, 3, 1))
    assert last.genotype == list(SPACE.known().values())[3]
    history += evaluated([last.genotype], [(1, 1)], round=1)
    assert KnownNetworks().propose(request_of(history, 3, 2)) == []
