"""The laboratory: strategies on problems whose every architecture is known, so that evaluations cost nothing.

A search is one process that keeps its history in memory: it is over in seconds, so one that was killed begins anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import Field, StrictInt, field_validator

from nas_lib import configuration
from nas_lib.configuration import FOLDER_NAME, SLUG, ConfigurationError, named
from nas_lib.experiment import label_of
from nas_lib.layout import LaboratoryFolder, write_json
from nas_lib.problems import Problem, ProblemError, ProblemSettings
from nas_lib.randomness import generator
from nas_lib.records import Cost, Evaluation, History, Proposal
from nas_lib.settings import Settings
from nas_lib.spaces import Space
from nas_lib.strategies import StrategySettings
from nas_lib.strategies.request import Plan, Request, Strategy, Suggestion

if TYPE_CHECKING:
    import pandas as pd

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
    def titles(self) -> list[str]:
        """Names of the problems."""
        return [problem.title for problem in self.problems]

    @property
    def folder(self) -> LaboratoryFolder:
        """Where its files lie."""
        return LaboratoryFolder(Path(self.results) / self.laboratory)

    def strategy(self, label: str) -> Strategy:
        """The strategy of that label."""
        return next(strategy for strategy in self.strategies if label_of(strategy) == label)

    def problem(self, title: str) -> Problem:
        """The problem of that title, its table read. Raises ProblemError."""
        return next(problem for problem in self.problems if problem.title == title).problem()


def load_merged(paths: Sequence[Path], overrides: Mapping[str, Any]) -> Laboratory:
    """The laboratory of several files, later ones over earlier ones key by key, and overrides over all.

    Raises:
        ConfigurationError: all mistakes, one line each.
    """
    content = configuration.merge([*map(configuration.read, paths), overrides])
    return parse(content, " + ".join([*map(str, paths), *(["--config"] if overrides else [])]))


def parse(content: object, source: str) -> Laboratory:
    """The laboratory that plain data describes; `source` names where the data comes from.

    Raises:
        ConfigurationError: all mistakes, one line each: source, path of the key, what was found, what is allowed.
    """
    laboratory, mistakes = configuration.checked(Laboratory, content, source)
    mistakes += _impossible(configuration.valid_sections(Laboratory, cast(Mapping[str, Any], content)))
    if mistakes or laboratory is None:
        raise ConfigurationError("\n".join(f"{source}: {mistake}" for mistake in mistakes))
    return laboratory


def _impossible(sections: Mapping[str, Any]) -> Iterable[str]:
    for key, name in (("strategies", label_of), ("problems", lambda problem: problem.title), ("seeds", str)):
        names = [name(entry) for entry in sections.get(key, ())]
        for twice in sorted({entry for entry in names if names.count(entry) > 1}):
            hint = {"strategies": "; give one a `label`", "problems": "; give one a `title`"}.get(key, "")
            yield f"{key}: {twice} occurs twice, allowed are different names{hint}"
    for index, strategy in enumerate(sections.get("strategies", ())):
        offered = {"sample", "encode", "genes"}
        if missing := sorted(strategy.needs - offered):
            yield (
                f"strategies.{index} ({strategy.name}): needs the operator {', '.join(missing)}, which tables do not "
                f"offer; they offer {', '.join(sorted(offered))}"
            )


def run_search(laboratory: Laboratory, title: str, label: str, seed: int) -> None:
    """Run one search and write its two files: the evaluations, then what each round took and how well it predicted.

    Raises:
        ProblemError: the table cannot be used, or has another number of objectives than the strategy can handle.
    """
    problem, strategy = laboratory.problem(title), laboratory.strategy(label)
    fewest, most = strategy.objectives
    count = len(problem.objectives)
    if count < fewest or (most is not None and count > most):
        allowed = f"exactly {fewest}" if fewest == most else f"{fewest} or more"
        raise ProblemError(f"{title}: has {count} objectives, {label} allows {allowed}")
    history, seconds = search(problem, strategy, seed, laboratory.budget)
    folder = laboratory.folder.search(title, label, seed)
    folder.path.mkdir(parents=True, exist_ok=True)
    partial_file = folder.history.with_suffix(".partial")
    table(history, problem.objectives).to_parquet(partial_file, index=False)
    partial_file.replace(folder.history)
    write_json(folder.rounds, {"proposing_seconds": seconds})


def table(history: History, objectives: Sequence[str]) -> pd.DataFrame:
    """One row per evaluation, in order: round, slot, hash, origin, repeat, genes (JSON), objectives, predictions.

    `predicted.NAME` is what the strategy expected of an objective, missing where it expected nothing.
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
    values = problem.evaluate(numbers) if len(numbers) else np.empty((0, len(problem.objectives)))
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
            metrics={f"predicted.{name}": value for name, value in suggestion.predicted.items()},
            cost=Cost(),
        )
        known.setdefault(key, evaluation)
        made.append(evaluation)
    return made
