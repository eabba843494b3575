"""Searches of the laboratory.

A search is one process that keeps its history in memory: it is over in seconds, so one that was killed begins anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np

from nas_lib.laboratory.settings import Laboratory, LaboratoryBudget, unfit
from nas_lib.layout import write_frame, write_json
from nas_lib.problems import Problem, ProblemError
from nas_lib.randomness import generator
from nas_lib.records import Cost, Evaluation, Genotype, History, Proposal
from nas_lib.spaces import Space
from nas_lib.strategies.filtered import proposed
from nas_lib.strategies.request import Request, Strategy, Suggestion

if TYPE_CHECKING:
    import pandas as pd

WASTED = 5
"""Rounds in a row without anything new after which a search is over."""


def run_search(laboratory: Laboratory, title: str, label: str, seed: int) -> None:
    """Run one search and write its two files: the evaluations, then what each round took.

    Raises:
        ProblemError: the table cannot be used, or has another number of objectives than the strategy can handle.
    """
    problem, strategy = laboratory.problem(title), laboratory.strategy(label)
    if mistake := unfit(title, problem, label, strategy):
        raise ProblemError(mistake)
    started = time.time()
    history, seconds = search(problem, strategy, seed, laboratory.budget)
    folder = laboratory.folder.search(title, label, seed)
    write_frame(folder.history, table(history, problem.objectives))
    write_json(folder.rounds, {"proposing_seconds": seconds, "started": started, "finished": time.time()})


def table(history: History, objectives: Sequence[str]) -> pd.DataFrame:
    """One row per evaluation, in order: round, slot, hash, origin, repeat, genes (JSON), objectives, predictions.

    `predicted.NAME` is what the strategy expected of an objective, missing where it expected nothing.
    `score.NAME` is what it scored without training, where a filter chose it.
    """
    import pandas as pd

    rows = [
        {
            "round": evaluation.proposal.round,
            "slot": evaluation.proposal.slot,
            "hash": evaluation.proposal.hash,
            "origin": evaluation.proposal.origin,
            "repeat": evaluation.proposal.duplicate_of is not None,
            "genes": json.dumps(evaluation.proposal.genotype["genes"]),
            **evaluation.objectives,
            **{f"score.{name}": value for name, value in evaluation.proposal.scores.items()},
            **{f"predicted.{name}": evaluation.metrics.get(f"predicted.{name}") for name in objectives},
        }
        for evaluation in history
    ]
    return pd.DataFrame(rows).astype({f"predicted.{name}": float for name in objectives})


def search(problem: Problem, strategy: Strategy, seed: int, budget: LaboratoryBudget) -> tuple[History, list[float]]:
    """The evaluations of a search, in order and repeats included, and the CPU seconds of each round's proposals.

    A repeat is an evaluation whose proposal has `duplicate_of`. The initial sample of a seed is the same for all
    strategies.
    """
    history: History = []
    seconds: list[float] = []
    known: dict[bytes, Evaluation] = {}
    wasted = 0
    while len(known) < budget.evaluations and wasted < WASTED:
        request = Request(
            space=cast(Space, problem.space),
            objectives=problem.objectives,
            references=problem.reference.tolist(),
            history=history,
            pending=(),
            round=len(seconds),
            count=min(budget.batch, budget.evaluations - len(known)),
            plan=budget.plan,
            rng=partial(generator, seed, problem.name),
            exact=problem.exact,
            score=partial(_scores, problem) if problem.scores else None,
            free_scores=True,
        )
        began = time.process_time()
        suggestions = proposed(strategy, request)
        seconds.append(time.process_time() - began)
        before = len(known)
        history = [*history, *_evaluated(problem, request.round, suggestions, known)]
        wasted = wasted + 1 if len(known) == before else 0
    return history, seconds


def _scores(problem: Problem, genotypes: Sequence[Genotype], names: Sequence[str]) -> np.ndarray:
    """Values (n, k) of the problem's scores."""
    numbers = problem.space.existing(problem.space.numbers(genotypes))
    return np.column_stack([np.empty((len(numbers), 0)), *(problem.scores[name](numbers) for name in names)])


def _evaluated(
    problem: Problem, round: int, suggestions: Sequence[Suggestion], known: dict[bytes, Evaluation]
) -> History:
    """The evaluations of a round; new ones become `known`."""
    space = problem.space
    numbers = space.existing(space.numbers([suggestion.genotype for suggestion in suggestions]))
    values = problem.evaluate(numbers) if len(numbers) else np.empty((0, len(problem.objectives)))
    made = []
    for slot, (suggestion, key, found) in enumerate(zip(suggestions, space.keys(numbers), values, strict=True)):
        original, genotype = known.get(key), space.genotype(numbers[slot])
        proposal = Proposal(
            round=round,
            slot=slot,
            genotype=genotype,
            hash=space.hash(genotype),
            epochs=1,
            origin=suggestion.origin,
            scores=dict(suggestion.scores),
            full=True,
            duplicate_of=original.proposal.candidate if original else None,
        )
        evaluation = Evaluation(
            proposal=proposal,
            status="ok",
            objectives=dict(zip(problem.objectives, map(float, found), strict=True)),
            metrics={f"predicted.{name}": value for name, value in suggestion.predicted.items()},
            cost=Cost(),
        )
        known.setdefault(key, evaluation)
        made.append(evaluation)
    return made
