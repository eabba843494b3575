"""Scores without training, used inside a search."""

from dataclasses import replace
from typing import Any

import numpy as np

from nas_lib.laboratory.search import search
from nas_lib.laboratory.settings import LaboratoryBudget
from nas_lib.problems import Problem
from nas_lib.problems.synthetic import Cell
from nas_lib.strategies.random_search import RandomSearch
from nas_lib.strategies.request import Request, Suggestion

BUDGET = LaboratoryBudget(evaluations=12, batch=4)


def a_problem() -> Problem:
    """Cells of 3^6 combinations; the score `sum` counts options, `first` is the first one."""
    problem = Cell(genes=6, options=3).problem()
    return replace(problem, scores={"sum": lambda rows: rows.sum(axis=1), "first": lambda rows: rows[:, 0]})


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
    search(problem, Asking(), 1, BUDGET)
    for values, numbers in answers:
        assert np.array_equal(values, np.column_stack([numbers.sum(axis=1), numbers[:, 0]]))


def test_without_scores_of_the_problem_there_is_nothing_to_ask() -> None:
    asked = []

    class Looking(RandomSearch):
        def propose(self, request: Request) -> list[Suggestion]:
            asked.append(request.score)
            return super().propose(request)

    search(replace(a_problem(), scores={}), Looking(), 1, BUDGET)
    assert asked
    assert set(asked) == {None}
