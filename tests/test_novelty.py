"""MTF-PDNS: an archive of what no architecture dominates in its scores, found without training, then trained."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas_lib.problems import Problem
from nas_lib.problems.synthetic import Grid
from nas_lib.randomness import generator
from nas_lib.settings import UserError
from nas_lib.spaces import Space
from nas_lib.spaces.generator import GeneratorSpace
from nas_lib.spaces.genes import Gene, GeneSpace, Numbers
from nas_lib.spaces.recurrent.space import RecurrentSpace
from nas_lib.strategies.novelty import MTFPDNS, non_dominated, novelty, spread_first, updated, varied, winners
from tests.scored import Score, request_of, score_of, searched

TWO = MTFPDNS(scores=("width", "lightness"), population=8, generations=12)
SCORES = arrays(float, (15, 2), elements=st.sampled_from([0.0, 1.0, 2.0, 3.0, np.nan]))


def chain() -> GeneSpace:
    return GeneSpace("chain", tuple(Gene(name=f"g{place}", options=(0, 1, 2, 3)) for place in range(5)))


def opposed(numbers: Numbers) -> np.ndarray:
    """What is good for the other score: only the first two genes are at odds, the others are best at 0."""
    return np.asarray(-numbers[:, :2].sum(axis=1) - numbers[:, 2:].sum(axis=1))


def made_up(space: GeneSpace) -> Score:
    return score_of(space, {"width": lambda n: n[:, :2].sum(axis=1) - n[:, 2:].sum(axis=1), "lightness": opposed})


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Grid(function="zdt1", genes=5, options=4).problem()


def grid_score(problem: Problem) -> Score:
    """The objectives themselves, higher is better."""
    return score_of(
        problem.space,
        {"width": lambda n: -problem.evaluate(n)[:, 0], "lightness": lambda n: -problem.evaluate(n)[:, 1]},
    )


def test_members_of_the_archive_are_to_be_far_from_it_and_others_near() -> None:
    scores = np.array([[0.0, 4.0], [2.0, 0.0], [0.0, 0.0]])
    archive = updated(np.empty(0, dtype=np.int64), np.array([2, 1, 0, 1]), scores)
    assert archive.tolist() == [0, 1]
    # Stretched to the unit square: (0, 1), (1, 0) and (0, 0). Mean distances to the two members, oneself included:
    # sqrt(2) / 2 each, and 1 for the third.
    half = np.sqrt(2) / 2
    assert novelty(np.array([0, 1, 2]), archive, scores) == pytest.approx([half, half, -1.0])


def test_an_axis_in_which_all_are_equal_counts_nothing() -> None:
    scores = np.array([[0.0, 7.0], [1.0, 7.0]])
    assert novelty(np.array([0, 1]), np.array([1]), scores).tolist() == [-1.0, 0.0]


def test_a_failed_score_is_the_worst() -> None:
    scores = np.array([[1.0, 1.0], [np.nan, 1.0], [np.nan, 2.0], [1.0, 1.0]])
    assert non_dominated(scores).tolist() == [True, False, True, True]
    # As 0 beside 0.5, where all that succeeded are equal; beside others as the worst of them.
    assert novelty(np.array([1]), np.array([0]), scores).tolist() == [-0.5]
    others = np.array([[1.0, 1.0], [np.nan, 1.0], [0.0, 1.0]])
    assert novelty(np.array([1, 2]), np.array([0]), others).tolist() == [-1.0, -1.0]


@settings(max_examples=60, deadline=None)
@given(SCORES, st.integers(1, 14))
def test_no_member_of_the_archive_dominates_another_and_it_forgets_only_what_is_dominated(
    scores: np.ndarray, first: int
) -> None:
    archive: np.ndarray = np.empty(0, dtype=np.int64)
    for batch in np.array_split(np.arange(len(scores)), [first]):
        archive = updated(archive, batch, scores)
        values = np.nan_to_num(scores, nan=-1.0)
        better = (values[:, None] >= values).all(axis=2) & (values[:, None] > values).any(axis=2)
        assert not better[np.ix_(archive, archive)].any()
    assert archive.tolist() == np.flatnonzero(~better.any(axis=0)).tolist()


@settings(max_examples=60, deadline=None)
@given(SCORES)
def test_novelty_of_members_is_not_negative_and_that_of_others_not_positive(scores: np.ndarray) -> None:
    everyone = np.arange(len(scores))
    archive = updated(everyone[:0], everyone, scores)
    worth = novelty(everyone, archive, scores)
    member = np.isin(everyone, archive)
    assert (worth[member] >= 0).all()
    assert (worth[~member] <= 0).all()


def test_tournaments_leave_half_and_always_the_best() -> None:
    candidates, worth = np.arange(10, 20), np.array([3.0, -1, 0, 2, 9, -4, 1, 0, 0, 5])
    for seed in range(5):
        left = winners(candidates, worth, np.random.default_rng(seed))
        assert len(left) == 5
        assert 14 in left
        assert 15 not in left


def test_what_lies_farthest_from_the_ones_before_comes_first() -> None:
    scores = np.array([[0.0], [1.0], [5.0], [10.0], [7.0]])
    none = np.empty(0, dtype=np.int64)
    # 10 has the largest mean distance; then 0, the farthest from it; then 5, 3 away from 7 later, and 1 last.
    assert spread_first(np.arange(5), none, scores).tolist() == [3, 0, 2, 4, 1]
    assert spread_first(np.array([1, 2, 4]), np.array([0, 3]), scores).tolist() == [2, 4, 1]
    assert spread_first(none, np.array([0]), scores).tolist() == []


def test_what_is_trained_first_is_the_front_of_the_scores(problem: Problem) -> None:
    longer = TWO.model_copy(update={"generations": 60})
    history, values = searched(problem, longer, grid_score(problem), evaluations=4, batch=4)
    assert [each.proposal.origin for each in history] == ["archive"] * 4
    assert problem.front is not None
    exact = {tuple(point) for point in problem.front.round(9).tolist()}
    assert {tuple(point) for point in values.round(9).tolist()} == exact


def test_later_rounds_go_on_with_other_members_and_then_with_the_next_fronts(problem: Problem) -> None:
    history, _ = searched(problem, TWO, grid_score(problem), evaluations=30, batch=5)
    genes = [tuple(each.proposal.genotype["genes"]) for each in history]
    assert len(set(genes)) == len(genes) == 30
    origins = [each.proposal.origin for each in history]
    assert origins[0] == "archive"
    assert origins[-1] == "next front"
    again, _ = searched(problem, TWO, grid_score(problem), evaluations=30, batch=5)
    assert [each.proposal for each in again] == [each.proposal for each in history]


def test_proposals_follow_from_the_request_alone_and_need_no_training() -> None:
    space = chain()
    request = request_of(space, made_up(space), round=3)
    first, second = TWO.propose(request), TWO.propose(request)
    assert first == second
    assert len(first) == 4


def test_an_archive_of_one_is_followed_by_the_second_best() -> None:
    space = GeneSpace("steps", (Gene(name="step", options=tuple(range(12))),))
    score = score_of(space, {"width": lambda n: n[:, 0], "lightness": lambda n: n[:, 0]})
    made = TWO.propose(request_of(space, score, {11: 0.5, 9: 0.1}, pending=[8], count=3))
    assert [each.genotype["genes"][0] for each in made] == [10, 7, 6]
    assert {each.origin for each in made[1:]} == {"next front"}


def test_a_space_that_is_used_up_ends_the_search() -> None:
    space = GeneSpace("steps", (Gene(name="step", options=(0, 1, 2)),))
    score = score_of(space, {"width": lambda n: n[:, 0], "lightness": lambda n: -n[:, 0]})
    assert TWO.propose(request_of(space, score, {0: 0.1, 1: 0.2, 2: None})) == []


def test_scores_that_fail_everywhere_leave_a_search_that_still_proposes() -> None:
    space = chain()
    score = score_of(space, dict.fromkeys(TWO.scores, lambda n: np.full(len(n), np.nan)))
    assert len(TWO.propose(request_of(space, score))) == 4


@pytest.mark.parametrize(
    "space",
    [
        chain(),
        RecurrentSpace(hidden=4),
        GeneratorSpace.model_validate({"levels": [{"model": "WS", "nodes": [3, 6], "k": [2, 4], "p": [0.1, 0.9]}]}),
        GeneratorSpace.model_validate({"levels": [{"model": "WS", "nodes": 5, "k": 2, "p": 0.5}]}),
    ],
    ids=["genes", "edits", "coordinates", "draws"],
)
def test_children_are_other_architectures_of_the_space(space: Space) -> None:
    parents = [space.sample(generator(1, "parent", place)) for place in range(6)]
    children = varied(space, parents, np.random.default_rng(0))
    assert children == varied(space, parents, np.random.default_rng(0))
    assert len(children) == 6
    assert sum(child not in parents for child in children) >= 3
    assert all(space.describe(child) for child in children)


def test_it_searches_spaces_that_are_changed_step_by_step() -> None:
    space = RecurrentSpace(hidden=4)

    def score(genotypes: object, names: object) -> np.ndarray:
        blocks = [space.size(genotype)["blocks"] for genotype in genotypes]  # type: ignore[attr-defined]
        return np.array([[blocks_, -blocks_] for blocks_ in blocks], dtype=float)

    request = request_of(space, score)
    made = MTFPDNS(scores=("many", "few"), population=4, generations=3).propose(request)
    assert len({space.hash(each.genotype) for each in made}) == 4


def test_a_space_that_cannot_be_scored_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^scores: found width, lightness, but .*'chain' cannot be scored.*$"):
        TWO.propose(request_of(chain(), None))


def test_one_score_is_not_enough() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        MTFPDNS(scores=("width",))
