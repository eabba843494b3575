"""Searches of the laboratory by strategies that are given made-up scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np

from nas_lib.laboratory.search import search
from nas_lib.laboratory.settings import LaboratoryBudget
from nas_lib.problems.problem import Problem
from nas_lib.randomness import generator
from nas_lib.records import Cost, Evaluation, Genotype, History, Proposal
from nas_lib.spaces import Space
from nas_lib.spaces.genes import Gene, GeneSpace, Numbers
from nas_lib.strategies import asked_scores
from nas_lib.strategies.request import Plan, Request, Strategy

Score = Callable[[Sequence[Genotype], Sequence[str]], np.ndarray]


def score_of(space: GeneSpace, functions: Mapping[str, Callable[[Numbers], Any]]) -> Score:
    """Scores by name: option numbers (n, d) -> values (n,)."""

    def score(genotypes: Sequence[Genotype], names: Sequence[str]) -> np.ndarray:
        numbers = space.numbers(genotypes)
        return np.stack([np.asarray(functions[name](numbers), dtype=float) for name in names], axis=1)

    return score


def searched(
    problem: Problem, strategy: Strategy, score: Score, evaluations: int, batch: int, seed: int = 1
) -> tuple[History, np.ndarray]:
    """The history of a search and its objectives (n, m)."""
    budget = LaboratoryBudget(evaluations=evaluations, batch=batch)

    def column(name: str, rows: Numbers) -> np.ndarray:
        return score([problem.space.genotype(row) for row in rows], [name])[:, 0]

    scores = {name: partial(column, name) for name in asked_scores(strategy)}
    history, _ = search(replace(problem, scores=scores), strategy, seed, budget)
    return history, np.array([[each.objectives[name] for name in problem.objectives] for each in history])


def pool_problem(values: np.ndarray) -> Problem:
    """As many architectures as values (n, m), each with its number as the only gene."""
    space = GeneSpace("pool", (Gene(name="number", options=tuple(range(len(values)))),))
    names = tuple(f"f{place}" for place in range(values.shape[1]))
    return Problem("pool", space, names, lambda numbers: values[numbers[:, 0]], reference=np.ones(values.shape[1]))


def request_in(
    problem: Problem, history: History, score: Score | None, round: int = 0, count: int = 4, epochs: int = 1
) -> Request:
    """A request of the laboratory, with scores that are not free."""
    return Request(
        space=cast(Space, problem.space),
        objectives=problem.objectives,
        history=history,
        pending=(),
        round=round,
        count=count,
        plan=Plan(rounds=9, proposals=count, lag=1, epochs=epochs),
        rng=partial(generator, 1),
        score=score,
    )


def request_of(
    space: object,
    score: Score | None,
    results: Mapping[int, float | None] | None = None,
    pending: Sequence[int] = (),
    count: int = 4,
    round: int = 1,
) -> Request:
    """A request for one objective. `results`: number of an architecture -> its error, None where it failed."""

    def proposal(slot: int, number: int) -> Proposal:
        return Proposal(round=0, slot=slot, genotype={"genes": [number]}, hash=str(number), epochs=1)

    history = [
        Evaluation(proposal=proposal(slot, number), status="failed", reason="out of memory")
        if error is None
        else Evaluation(proposal=proposal(slot, number), status="ok", objectives={"error": error}, cost=Cost())
        for slot, (number, error) in enumerate((results or {}).items())
    ]
    return Request(
        space=cast(Space, space),
        objectives=["error"],
        history=history,
        pending=[proposal(len(history) + slot, number) for slot, number in enumerate(pending)],
        round=round,
        count=count,
        plan=Plan(rounds=4, proposals=count, lag=1, epochs=1),
        rng=partial(generator, 1),
        score=score,
    )
