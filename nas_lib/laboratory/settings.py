"""The configuration of a laboratory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import Field, StrictInt, field_validator

from nas_lib import configuration
from nas_lib.configuration import FOLDER_NAME, SLUG, ConfigurationError, named
from nas_lib.experiment import label_of
from nas_lib.layout import LaboratoryFolder
from nas_lib.problems import Problem, ProblemSettings
from nas_lib.settings import Settings
from nas_lib.strategies import StrategySettings, impossible
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


def load(path: Path) -> Laboratory:
    """The laboratory of one YAML or JSON file. Raises ConfigurationError: all mistakes, one line each."""
    return parse(configuration.read(path), str(path))


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
        if "budget" in sections and (reason := impossible(strategy, sections["budget"].plan)):
            yield f"strategies.{index} ({strategy.name}): {reason}"
        offered = {"sample", "encode", "genes"}
        if missing := sorted(strategy.needs - offered):
            yield (
                f"strategies.{index} ({strategy.name}): needs the operator {', '.join(missing)}, which tables do not "
                f"offer; they offer {', '.join(sorted(offered))}"
            )
