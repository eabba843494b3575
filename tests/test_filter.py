"""Scores without training, used inside a search."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from torch import nn

from nas_lib import search as loop
from nas_lib.configuration import ConfigurationError
from nas_lib.evaluation.candidate import identity
from nas_lib.evaluation.objectives import Objective
from nas_lib.experiment import settings_of
from nas_lib.laboratory import search as laboratory
from nas_lib.laboratory.settings import LaboratoryBudget, unfit
from nas_lib.problems import Problem
from nas_lib.problems.synthetic import Cell
from nas_lib.randomness import generator
from nas_lib.records import Evaluation, History, Proposal
from nas_lib.scores.catalogue import SCORES
from nas_lib.scores.names import NAMES
from nas_lib.search import Search
from nas_lib.spaces.generator import GeneratorSpace
from nas_lib.strategies.evolution import Evolution
from nas_lib.strategies.filtered import proposed
from nas_lib.strategies.hyperband import Hyperband
from nas_lib.strategies.random_search import RandomSearch
from nas_lib.strategies.request import Request, Suggestion
from nas_lib.strategies.settings import Filter
from tests.scored import request_in
from tests.test_search import history_of, tiny

BUDGET = LaboratoryBudget(evaluations=12, batch=4)


def a_problem() -> Problem:
    """Cells of 3^6 combinations; the score `sum` counts options, `first` is the first one, `none` applies to none."""
    problem = Cell(genes=6, options=3).problem()
    found = {"sum": lambda rows: rows.sum(axis=1) * 1.0, "first": lambda rows: rows[:, 0] * 1.0}
    return replace(problem, scores={**found, "none": lambda rows: np.full(len(rows), math.nan)})


def request_of(problem: Problem, history: History, *, round: int = 0, count: int = 4, epochs: int = 1) -> Request:
    return request_in(problem, history, partial(laboratory._scores, problem), round, count, epochs)


def a_filter(*scores: str, keep: float = 0.25) -> Filter:
    return Filter(scores=scores or ("sum",), keep=keep)


def sums(problem: Problem, suggestions: Sequence[Suggestion] | Sequence[Proposal]) -> list[int]:
    numbers = problem.space.numbers([suggestion.genotype for suggestion in suggestions])
    return [int(each) for each in numbers.sum(axis=1)]


def evaluated(request: Request, suggestions: Sequence[Suggestion]) -> History:
    return [
        Evaluation(
            proposal=Proposal(
                round=request.round,
                slot=slot,
                genotype=one.genotype,
                hash=request.space.hash(one.genotype),
                epochs=one.epochs or request.plan.epochs,
                origin=one.origin,
                warm_start=one.warm_start,
                bracket=one.bracket,
            ),
            status="ok",
            objectives={name: float(slot) for name in request.objectives},
        )
        for slot, one in enumerate(suggestions)
    ]


# --- what a filter keeps ---------------------------------------------------------------------------


def test_a_filter_keeps_the_best_of_as_many_askings_as_the_share_says() -> None:
    problem = a_problem()
    request = request_of(problem, [])
    kept = proposed(RandomSearch(filter=a_filter()), request)
    pool = [
        Suggestion(problem.space.sample(generator(1, *asking, "initial", 0, slot)), "random")
        for asking in [(), ("asking", 1), ("asking", 2), ("asking", 3)]
        for slot in range(4)
    ]
    assert sums(problem, kept) == sorted(sums(problem, pool), reverse=True)[:4]
    assert [suggestion.scores for suggestion in kept] == [{"sum": value} for value in sums(problem, kept)]
    assert {suggestion.origin for suggestion in kept} == {"random"}


def test_several_scores_count_by_their_mean_rank_and_one_that_is_not_finite_is_the_worst() -> None:
    values = np.array([[4, 1], [3, 4], [1, 3], [2, math.nan]])  # mean ranks 3, 3.5, 2, 1.5
    request = replace(request_of(a_problem(), [], count=2), score=lambda *_: values)
    kept = proposed(RandomSearch(filter=a_filter("a", "b", keep=0.5)), request)
    assert [suggestion.scores for suggestion in kept] == [{"a": 3, "b": 4}, {"a": 4, "b": 1}]


def test_where_no_score_applies_the_first_asking_is_kept_and_has_no_scores() -> None:
    problem = a_problem()
    request = request_of(problem, [])
    assert proposed(RandomSearch(filter=a_filter("none")), request) == proposed(RandomSearch(), request)


def test_what_is_known_or_asked_for_twice_is_kept_only_where_nothing_else_is_left() -> None:
    problem = a_problem()
    first = proposed(RandomSearch(filter=a_filter()), request_of(problem, []))
    history = evaluated(request_of(problem, []), first)
    # The same round again: the same pool, of which the best are known now.
    second = proposed(RandomSearch(filter=a_filter()), request_of(problem, history))
    hashes = [problem.space.hash(suggestion.genotype) for suggestion in [*first, *second]]
    assert len(set(hashes)) == 8
    small = replace(problem, space=replace(problem.space, rows=problem.space.draw(2, generator(1))))
    kept = proposed(RandomSearch(filter=a_filter()), request_of(small, []))
    assert len(kept) == 4
    later = request_of(small, evaluated(request_of(small, []), kept), round=1)
    assert len(proposed(RandomSearch(filter=a_filter()), later)) == 4


def test_what_continues_a_training_and_what_has_no_alternative_is_never_filtered() -> None:
    problem = a_problem()
    strategy = Hyperband(min_epochs=1, brackets="halving", filter=a_filter())
    begun = request_of(problem, [], epochs=2)
    history = evaluated(begun, proposed(strategy, begun))
    later = request_of(problem, history, round=1, epochs=2)
    continued = [each for each in proposed(strategy, later) if each.origin == "promoted"]
    assert continued == [each for each in Hyperband(brackets="halving").propose(later) if each.origin == "promoted"]
    assert continued and all(each.warm_start is not None and not each.scores for each in continued)


def test_suggestions_compete_with_those_of_their_origin_alone() -> None:
    problem, strategy = a_problem(), Evolution(name="nsga2", population=4)
    history = evaluated(request_of(problem, []), proposed(strategy, request_of(problem, [])))
    request = request_of(problem, history, round=1)
    plain = proposed(strategy, request)
    kept = proposed(strategy.model_copy(update={"filter": a_filter()}), request)
    assert [each.origin for each in kept] == [each.origin for each in plain] == ["offspring"] * 4
    assert sum(sums(problem, kept)) > sum(sums(problem, plain))


@pytest.mark.parametrize("keep", [0, 0.6, 1])
def test_a_share_that_leaves_nothing_to_choose_from_is_refused(keep: float) -> None:
    with pytest.raises(ValidationError):
        a_filter(keep=keep)


# --- in the laboratory -----------------------------------------------------------------------------


def test_a_filtered_search_of_the_laboratory_evaluates_what_scores_higher_and_can_be_repeated() -> None:
    problem, strategy = a_problem(), RandomSearch(filter=a_filter())
    plain, _ = laboratory.search(problem, RandomSearch(), 1, BUDGET)
    history, _ = laboratory.search(problem, strategy, 1, BUDGET)
    again, _ = laboratory.search(problem, strategy, 1, BUDGET)
    assert [each.proposal for each in again] == [each.proposal for each in history]
    rows = laboratory.table(history, problem.objectives)
    counted, without = (sums(problem, [each.proposal for each in one]) for one in (history, plain))
    assert rows["score.sum"].tolist() == counted
    assert np.mean(counted) > np.mean(without) + 1


def test_a_strategy_of_the_laboratory_can_ask_for_the_scores_of_the_problem() -> None:
    answers: list[Any] = []

    class Asking(RandomSearch):
        def propose(self, request: Request) -> list[Suggestion]:
            suggestions = super().propose(request)
            assert request.score is not None
            genotypes = [suggestion.genotype for suggestion in suggestions]
            answers.append((request.score(genotypes, ["sum", "first"]), problem.space.numbers(genotypes)))
            assert request.score([], ["sum"]).shape == (0, 1)
            return suggestions

    problem = a_problem()
    laboratory.search(problem, Asking(), 1, BUDGET)
    for values, numbers in answers:
        assert np.array_equal(values, np.column_stack([numbers.sum(axis=1), numbers[:, 0]]))


def test_a_problem_without_a_score_that_is_asked_for_is_one_line() -> None:
    strategy = RandomSearch(filter=a_filter("sums"))
    found = unfit("cells", a_problem(), "mine", strategy)
    there = "allowed are sum, first, none"
    assert found == f"problems (cells): has no score 'sums', which mine asks for (did you mean 'sum'?); {there}"
    assert "it has none" in str(unfit("cells", replace(a_problem(), scores={}), "mine", strategy))


# --- in an experiment ------------------------------------------------------------------------------


def test_the_names_of_scores_are_those_of_the_catalogue() -> None:
    assert (*SCORES,) == NAMES


FILTERED = {"name": "random", "filter": {"scores": ["synflow", "snip"], "keep": 0.5}}


def a_search(folder: Path, **changes: Any) -> Search:
    settings = {"strategies": [FILTERED], "budget": {"rounds": 2}, "scoring": {"batch": 8}}
    return Search(tiny(folder, **(settings | changes)), "random", 1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Search:
    search = a_search(tmp_path_factory.mktemp("filtered"))
    loop.run_inline(search)
    return search


def proposals_of(search: Search) -> list[Proposal]:
    return [proposal for round in range(2) for proposal in loop.read_proposals(search.folder, round)]


def test_scores_of_what_was_kept_are_in_proposals_and_table(finished: Search) -> None:
    table = pd.read_parquet(finished.folder.history)
    for name in ("synflow", "snip"):
        assert table[f"score.{name}"].tolist() == [proposal.scores[name] for proposal in proposals_of(finished)]
    assert [each.proposal for each in history_of(finished)] == proposals_of(finished)


def test_a_search_that_was_killed_while_scoring_goes_on_to_the_same_end(
    finished: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, built = a_search(tmp_path), 0
    build = GeneratorSpace.build

    def killed(self: GeneratorSpace, genotype: Any, shape: Any) -> nn.Module:
        nonlocal built
        built += 1
        if built == 4:
            raise KeyboardInterrupt
        return build(self, genotype, shape)

    monkeypatch.setattr(GeneratorSpace, "build", killed)
    with pytest.raises(KeyboardInterrupt):
        loop.propose_round(search, 0)
    with search.folder.scores.open("a") as file:
        file.write('{"network": "half a li')
    loop.propose_round(search, 0)
    assert loop.read_proposals(search.folder, 0) == proposals_of(finished)[:3]
    assert built == 4 + 3, "what was scored before the kill is not scored again"


def test_equal_questions_have_equal_answers_in_any_order(finished: Search, tmp_path: Path) -> None:
    genotypes = [proposal.genotype for proposal in proposals_of(finished)]
    names = ["snip", "synflow"]
    values = np.array([[proposal.scores[name] for name in names] for proposal in proposals_of(finished)])
    answer = loop.score_of(a_search(tmp_path))
    assert np.array_equal(answer(genotypes[::-1], names)[::-1], values)
    assert np.array_equal(loop.score_of(finished)(genotypes, names), values)


def test_other_data_or_batches_begin_the_journal_anew(tmp_path: Path) -> None:
    genotype = a_search(tmp_path).experiment.architectures.sample(generator(0))
    found = []
    for batch in (8, 8, 12):
        search = a_search(tmp_path, scoring={"batch": batch})
        found.append(loop.score_of(search)([genotype], ["snip"])[0, 0])
        assert len(search.folder.scores.read_text().splitlines()) == 2
    assert found[0] == found[1] != found[2]


def test_what_does_not_apply_is_not_a_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    search = a_search(tmp_path)
    genotype = search.experiment.architectures.sample(generator(0))
    found = loop.score_of(search)([genotype], ["hidden_saliency", "parameters"])
    assert math.isnan(found[0, 0]) and found[0, 1] > 0
    assert "no network has the score hidden_saliency" in caplog.text


def test_an_unknown_score_is_one_line_before_anything_runs(tmp_path: Path) -> None:
    strategies = [{"name": "random", "filter": {"scores": ["synflo"]}}]
    with pytest.raises(ConfigurationError, match=r"strategies.0.*'synflo'.*did you mean 'synflow'") as caught:
        a_search(tmp_path, strategies=strategies)
    assert len(str(caught.value).splitlines()) == 1


def test_searches_without_a_filter_are_as_before_there_was_any(tmp_path: Path) -> None:
    settings = settings_of(tiny(tmp_path), "random")
    assert settings["strategies (random)"] == {"name": "random", "label": ""}
    assert "scoring" not in settings
    assert "scoring" in settings_of(a_search(tmp_path).experiment, "random")
    proposal = Proposal(round=0, slot=0, genotype={}, hash="", epochs=1)
    assert "scores" not in identity(proposal)
    assert Proposal.model_validate_json(proposal.model_dump_json(exclude={"scores"})) == proposal


# --- as objectives ---------------------------------------------------------------------------------


def test_a_score_as_an_objective_is_minus_what_strategies_are_told(tmp_path: Path) -> None:
    search = a_search(tmp_path, objectives=["error", "negated_snip"], budget={"rounds": 1, "epochs": 1})
    loop.run_inline(search)
    history = loop.read_history(search.folder, [0])
    told = [each.proposal.scores["snip"] for each in history]
    assert [each.objectives["negated_snip"] for each in history] == [-value for value in told]
    assert all(each.curves and each.cost.epochs == 1 for each in history)
    assert "scoring" in settings_of(tiny(tmp_path, objectives=["error", "negated_snip"]), "random")


def test_what_needs_no_training_is_not_trained_but_finalists_are(tmp_path: Path) -> None:
    search = a_search(tmp_path, strategies=["random"], objectives=["negated_synflow", "parameters"])
    loop.run_inline(search)
    history = loop.read_history(search.folder, range(2))
    assert {each.status for each in history} == {"ok"}
    assert {each.cost.epochs for each in history} == {0}
    assert not any(each.curves or "error" in each.metrics for each in history)
    loop.select_finalists(search)
    with loop.lazy_bench(search.experiment, finalists=True) as bench:
        loop.retrain_finalist(search, 0, bench)
    (finalist, *_) = loop.read_finalists(search)
    assert all(repeat.cost.epochs == 2 and "test_error" in repeat.metrics for repeat in finalist.repeats)


def test_a_network_without_the_score_that_is_an_objective_fails_with_a_reason(tmp_path: Path) -> None:
    search = a_search(tmp_path, strategies=["random"], objectives=["negated_hidden_saliency"], budget={"rounds": 1})
    loop.run_inline(search)
    history = loop.read_history(search.folder, [0])
    assert all(each.reason.startswith("score hidden_saliency: ") for each in history)


def test_the_reference_of_a_negated_score_may_be_any_number(tmp_path: Path) -> None:
    assert Objective(name="negated_snip", reference=-2.5).reference == -2.5
    with pytest.raises(ConfigurationError, match="reference is -1, allowed is more than 0"):
        a_search(tmp_path, objectives=[{"name": "flops", "reference": -1}])
    with pytest.raises(ConfigurationError, match="did you mean 'negated_synflow'"):
        a_search(tmp_path, objectives=["negated_synflo"])
