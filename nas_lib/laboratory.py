"""The laboratory: strategies on problems whose every architecture is known, so that evaluations cost nothing.

A search is one process that keeps its history in memory: it is over in seconds, so one that was killed begins anew.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pydantic import Field, StrictInt, field_validator

from nas_lib.configuration import FOLDER_NAME, SLUG, named
from nas_lib.experiment import label_of
from nas_lib.problems import Problem, ProblemSettings
from nas_lib.randomness import generator
from nas_lib.records import Cost, Evaluation, History, Proposal
from nas_lib.settings import Settings
from nas_lib.strategies import StrategySettings
from nas_lib.strategies.request import Plan, Request, Strategy, Suggestion

WASTED = 5
"""Rounds in a row without anything new after which a search is over."""


class LaboratoryBudget(Settings):
    """How much one search may spend."""

    evaluations: StrictInt = Field(default=250, ge=2)
    """Different architectures a search may evaluate. Repeats are counted, and cost nothing."""
    batch: StrictInt = Field(default=50, ge=1)
    """Most proposals of a round."""

    @property
    def plan(self) -> Plan:
        """What strategies know of it."""
        rounds = -(-self.evaluations // self.batch)
        return Plan(rounds, proposals=self.batch, lag=1, epochs=1)


class Laboratory(Settings):
    """Everything about one comparison."""

    laboratory: str = Field(pattern=SLUG)
    """Name of the comparison: its folder under `results` and its name in MLflow."""
    description: str = ""
    """A sentence for the report."""
    results: str = Field(default="results", pattern=FOLDER_NAME)
    """Folder of all results."""
    problems: tuple[ProblemSettings, ...] = Field(min_length=1)
    """What is searched."""
    strategies: tuple[StrategySettings, ...] = Field(min_length=1)
    """Search strategies, compared on equal terms; the last one is the baseline."""
    budget: LaboratoryBudget = LaboratoryBudget()
    """How much each search may spend."""
    seeds: tuple[StrictInt, ...] = Field(default=(1,), min_length=1)
    """One search per problem, strategy and seed."""

    @field_validator("problems", "strategies", mode="before")
    @classmethod
    def _names_are_enough(cls, value: object) -> object:
        return named(value)

    @property
    def labels(self) -> list[str]:
        """Names of the strategies."""
        return [label_of(strategy) for strategy in self.strategies]

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return Path(self.results) / self.laboratory


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
            space=problem.space,
            objectives=problem.objectives,
            references=problem.reference.tolist(),
            history=history,
            pending=(),
            round=len(seconds),
            count=min(budget.batch, budget.evaluations - len(known)),
            plan=budget.plan,
            rng=partial(generator, seed, problem.name),
            exact=problem.exact,
        )
        began = time.process_time()
        suggestions = strategy.propose(request)
        seconds.append(time.process_time() - began)
        before = len(known)
        history = [*history, *_evaluated(problem, request.round, suggestions, known)]
        wasted = wasted + 1 if len(known) == before else 0
    return history, seconds


def _evaluated(
    problem: Problem, round: int, suggestions: Sequence[Suggestion], known: dict[bytes, Evaluation]
) -> History:
    """The evaluations of a round; new ones become `known`."""
    space = problem.space
    numbers = space.existing(space.numbers([suggestion.genotype for suggestion in suggestions]))
    values = problem.evaluate(numbers) if len(numbers) else []
    made = []
    for slot, (suggestion, key, found) in enumerate(zip(suggestions, space.keys(numbers), values, strict=True)):
        original = known.get(key)
        proposal = Proposal(
            round=round,
            slot=slot,
            genotype=space.genotype(numbers[slot]),
            hash=key.hex(),
            epochs=1,
            origin=suggestion.origin,
            full=True,
            duplicate_of=original.proposal.candidate if original else None,
        )
        evaluation = Evaluation(
            proposal=proposal,
            status="ok",
            objectives=dict(zip(problem.objectives, map(float, found), strict=True)),
            cost=Cost(),
        )
        known.setdefault(key, evaluation)
        made.append(evaluation)
    return made
