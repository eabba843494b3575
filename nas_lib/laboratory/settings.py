"""The configuration of a laboratory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import Field, StrictInt, field_validator

from nas_lib import configuration, predictors
from nas_lib.configuration import (
    Name,
    ResultsFolder,
    name_mistakes,
    named,
    nearest,
)
from nas_lib.experiment import Tracking, label_of
from nas_lib.layout import LaboratoryFolder
from nas_lib.problems import Problem, ProblemError, ProblemSettings
from nas_lib.problems.nas_bench_nlp import NASBenchNLP
from nas_lib.problems.table import Table
from nas_lib.settings import Settings
from nas_lib.spaces.genes import MOST_LISTED
from nas_lib.strategies import StrategySettings, asked_scores, content_of, impossible, other_count
from nas_lib.strategies.request import Plan, Strategy


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


class Target(Settings):
    """What counts as found."""

    share: float = Field(gt=0, lt=1)
    """An architecture among this share of the best by the first objective, such as 0.01; those as good as the worst of
    them included."""


class Laboratory(Settings):
    """Everything about one comparison."""

    kind: ClassVar[str] = "laboratory"

    laboratory: Name
    """Name of the comparison: its folder under `results` and its name in MLflow."""
    description: str = ""
    """A sentence for the report."""
    results: ResultsFolder = "results"
    """Folder of all results."""
    problems: tuple[ProblemSettings, ...] = Field(min_length=1)
    """What is searched."""
    strategies: tuple[StrategySettings, ...] = Field(min_length=1)
    """Search strategies, compared on equal terms; the last one is the baseline."""
    budget: LaboratoryBudget = LaboratoryBudget()
    """How much each search may spend."""
    target: Target | None = None
    """After how many evaluations searches find one of the best architectures; for problems that can be listed. Default:
    that is not asked."""
    seeds: tuple[StrictInt, ...] = Field(default=(1,), min_length=1)
    """One search per problem, strategy and seed."""
    tracking: Tracking = Tracking()
    """The MLflow store that shows every search."""

    @field_validator("problems", "strategies", mode="before")
    @classmethod
    def _names_are_enough(cls, value: object) -> object:
        return named(value)

    @property
    def labels(self) -> list[str]:
        """Names of the strategies."""
        return [label_of(strategy) for strategy in self.strategies]

    @property
    def draws_alone(self) -> list[str]:
        """Strategies, other than random search, whose initial sample or population takes the whole budget."""
        sizes = {
            label_of(strategy): getattr(strategy, "population", None) or getattr(strategy, "initial", None) or 0
            for strategy in self.strategies
        }
        return [label for label, size in sizes.items() if size >= self.budget.evaluations]

    @property
    def titles(self) -> list[str]:
        """Names of the problems."""
        return [problem.title for problem in self.problems]

    @property
    def folder(self) -> LaboratoryFolder:
        """Where its files lie."""
        return LaboratoryFolder(Path(self.results) / self.laboratory)

    @property
    def tracking_uri(self) -> str:
        """Where MLflow keeps the runs."""
        return self.tracking.uri_for(self.results)

    def strategy(self, label: str) -> StrategySettings:
        """The strategy of that label."""
        return next(strategy for strategy in self.strategies if label_of(strategy) == label)

    def settings_of_problem(self, title: str) -> ProblemSettings:
        """What the problem of that title is made from."""
        return next(problem for problem in self.problems if problem.title == title)

    def tables_of(self, title: str) -> list[Path]:
        """The user's own table of a problem, or of its scores: searches are made anew when it has changed."""
        match self.settings_of_problem(title):
            case Table(path=path) | NASBenchNLP(scores=Path() as path):
                return [path]
        return []

    def problem(self, title: str) -> Problem:
        """The problem of that title, its table read. Raises ProblemError."""
        return self.settings_of_problem(title).problem()

    def refuse_missing_tables(self) -> None:
        """Raises ProblemError: files that problems are read from are missing, one line each."""
        every(problem.file for problem in self.problems)

    def checked_problems(self) -> dict[str, Problem]:
        """Every problem by its title, its table read.

        Raises:
            ProblemError: all tables that cannot be used, strategies that cannot handle their objectives, and problems
                whose best architectures are not known although `target` asks for them.
        """
        problems = dict(zip(self.titles, every(problem.problem for problem in self.problems), strict=True))
        mistakes = [
            mistake
            for title, problem in problems.items()
            for label in self.labels
            if (mistake := unfit(title, problem, label, self.strategy(label)))
        ]
        mistakes += [
            f"problems ({title}): its best architectures are not known, for it has more than {MOST_LISTED:,}, "
            "allowed is a laboratory without `target`"
            for title, problem in problems.items()
            if self.target is not None and problem.space.listed is None
        ]
        if mistakes:
            raise ProblemError("\n".join(mistakes))
        return problems

    def settings_of_search(self, title: str, label: str) -> str:
        """All that decides what a search does, beside its seed and the table's content, as JSON."""
        problem = json.loads(self.settings_of_problem(title).model_dump_json(exclude={"folder", "path", "scores"}))
        strategy = content_of(self.strategy(label))
        return json.dumps({"problem": problem, "strategy": strategy, "budget": self.budget.model_dump()})


Found = TypeVar("Found")


def every(made: Iterable[Callable[[], Found]]) -> list[Found]:
    """What all functions give. Raises ProblemError: the mistakes of all that fail, one line each."""
    found, mistakes = [], []
    for make in made:
        try:
            found.append(make())
        except ProblemError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ProblemError("\n".join(dict.fromkeys(mistakes)))
    return found


def unfit(title: str, problem: Problem, label: str, strategy: Strategy) -> str | None:
    """Why a strategy cannot search a problem, in one line; None where it can."""
    count = len(problem.objectives)
    if allowed := other_count(strategy, count):
        return f"problems ({title}): the number of objectives is {count}, allowed with {label} is {allowed}"
    predictor = str(getattr(strategy, "predictor", ""))
    if predictor in predictors.PREDICTORS and not predictors.suits(predictor, problem.space):
        return f"problems ({title}): {predictors.NO_GRAPH}, which the predictor {predictor} of {label} learns from"
    for score in asked_scores(strategy):
        if score not in problem.scores:
            there = f"allowed are {', '.join(problem.scores)}" if problem.scores else "it has none"
            hint = nearest(score, [*problem.scores])
            return f"problems ({title}): has no score {score!r}, which {label} asks for{hint}; {there}"
    return None


def load(path: Path) -> Laboratory:
    """The laboratory of one YAML or JSON file. Raises ConfigurationError: all mistakes, one line each."""
    return parse(configuration.read(path), str(path))


def parse(content: object, source: str) -> Laboratory:
    """The laboratory that plain data describes; `source` names where the data comes from.

    Raises:
        ConfigurationError: all mistakes, one line each: source, path of the key, what was found, what is allowed.
    """
    return configuration.parsed(Laboratory, Laboratory.kind, content, source, _impossible)


def schema() -> dict[str, Any]:
    """JSON schema of the configuration, for editors."""
    return Laboratory.model_json_schema()


def _impossible(sections: Mapping[str, Any]) -> Iterable[str]:
    yield from name_mistakes("strategies", [*map(label_of, sections.get("strategies", ()))], "; give one a `label`")
    yield from name_mistakes(
        "problems", [problem.title for problem in sections.get("problems", ())], "; give tables a `title`"
    )
    yield from name_mistakes("seeds", [*map(str, sections.get("seeds", ()))], folders=False)
    for index, strategy in enumerate(sections.get("strategies", ())):
        if "budget" in sections and (reason := impossible(strategy, sections["budget"].plan)):
            yield f"strategies.{index} ({strategy.name}): {reason}"
        offered = {"sample", "encode", "genes"}
        if missing := sorted(strategy.needs - offered):
            yield (
                f"strategies.{index} ({strategy.name}): needs the operator {', '.join(missing)}, which tables do not "
                f"offer; they offer {', '.join(sorted(offered))}"
            )
