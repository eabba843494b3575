"""The configuration of a study of predictors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args

from pydantic import Field, StrictInt, field_validator

from nas_lib import configuration, predictors
from nas_lib.configuration import Name, ResultsFolder, name_mistakes, named
from nas_lib.experiment import Tracking
from nas_lib.laboratory.settings import every
from nas_lib.layout import StudyFolder
from nas_lib.predictors import PredictorName
from nas_lib.problems import Problem, ProblemError, ProblemSettings
from nas_lib.problems.table import Table
from nas_lib.settings import Settings

FEWEST_HELD_OUT = 20
"""Architectures on which correlations are measured at least."""
Size = Annotated[StrictInt, Field(ge=5)]


class PredictorStudy(Settings):
    """Everything about one study."""

    kind: ClassVar[str] = "predictor_study"

    predictor_study: Name
    """Name of the study: its folder under `results` and its name in MLflow."""
    description: str = ""
    """A sentence for the report."""
    results: ResultsFolder = "results"
    """Folder of all results."""
    problems: tuple[ProblemSettings, ...] = Field(min_length=1)
    """Whose objectives are predicted."""
    predictors: tuple[PredictorName, ...] = Field(default=get_args(PredictorName), min_length=1)
    """What is compared, on the same architectures."""
    sizes: tuple[Size, ...] = Field(default=(20, 50, 100, 200), min_length=1)
    """How many architectures predictors learn from. Those of a smaller number are among those of a larger one."""
    held_out: StrictInt = Field(default=2000, ge=FEWEST_HELD_OUT, le=10_000)
    """Most other architectures on which they are measured."""
    exact: bool = False
    """Whether objectives that can be computed are predicted too."""
    seeds: tuple[StrictInt, ...] = Field(default=(1, 2, 3, 4, 5), min_length=1)
    """One repeat per seed, which draws the architectures: the same for all predictors."""
    tracking: Tracking = Tracking()
    """The MLflow store that shows every predictor."""

    @field_validator("problems", mode="before")
    @classmethod
    def _names_are_enough(cls, value: object) -> object:
        return named(value)

    @property
    def titles(self) -> list[str]:
        """Names of the problems."""
        return [problem.title for problem in self.problems]

    @property
    def folder(self) -> StudyFolder:
        """Where its files lie."""
        return StudyFolder(Path(self.results) / self.predictor_study)

    @property
    def tracking_uri(self) -> str:
        """Where MLflow keeps the runs."""
        return self.tracking.uri_for(self.results)

    def settings_of_problem(self, title: str) -> ProblemSettings:
        """What the problem of that title is made from."""
        return next(problem for problem in self.problems if problem.title == title)

    def tables_of(self, title: str) -> list[Path]:
        """The user's own table of a problem: it is measured anew when that has changed."""
        problem = self.settings_of_problem(title)
        return [problem.path] if isinstance(problem, Table) else []

    def settings_of_measurements(self, title: str) -> str:
        """All that decides what is measured of a problem, beside the table's content, as JSON."""
        content = self.model_dump(mode="json", include={"predictors", "sizes", "held_out", "exact", "seeds"})
        return json.dumps(content | {"problem": self.problem_content(title)})

    def problem_content(self, title: str) -> dict[str, Any]:
        """The settings of a problem that decide what it is."""
        found: dict[str, Any] = json.loads(
            self.settings_of_problem(title).model_dump_json(exclude={"folder", "path", "scores"})
        )
        return found

    def refuse_missing_tables(self) -> None:
        """Raises ProblemError: files that problems are read from are missing, one line each."""
        every(problem.file for problem in self.problems)

    def checked_problems(self) -> dict[str, Problem]:
        """Every problem by its title, its table read.

        Raises:
            ProblemError: all tables that cannot be used or are too small, and predictors that a problem does not suit.
        """
        problems = dict(zip(self.titles, every(problem.problem for problem in self.problems), strict=True))
        if mistakes := [*self._unfit(problems)]:
            raise ProblemError("\n".join(mistakes))
        return problems

    def checked_problem(self, title: str) -> Problem:
        """The problem of that title, its table read. Raises ProblemError as `checked_problems`."""
        problem = self.settings_of_problem(title).problem()
        if mistakes := [*self._unfit({title: problem})]:
            raise ProblemError("\n".join(mistakes))
        return problem

    def objectives_of(self, problem: Problem) -> list[str]:
        """The objectives that are predicted."""
        return [name for name in problem.objectives if self.exact or name not in problem.exact]

    def _unfit(self, problems: Mapping[str, Problem]) -> Iterable[str]:
        for name in self.predictors:
            bare = [title for title, problem in problems.items() if not predictors.suits(name, problem.space)]
            if bare:
                graphs = f"graphs, which {', '.join(bare)} {'does' if len(bare) == 1 else 'do'} not declare"
                yield f"predictors: {name} learns from {graphs}; allowed are predictors without graphs, or a `graph`"
        wanted = max(self.sizes) + FEWEST_HELD_OUT
        for title, problem in problems.items():
            if not self.objectives_of(problem):
                yield f"problems ({title}): all objectives can be computed; allowed with `exact: true`"
            listed = problem.space.listed
            if listed is not None and len(listed) < wanted:
                yield (
                    f"problems ({title}): has {len(listed):,} architectures, allowed with sizes up to "
                    f"{max(self.sizes)} are {wanted} or more"
                )


def load(path: Path) -> PredictorStudy:
    """The study of one YAML or JSON file. Raises ConfigurationError: all mistakes, one line each."""
    return parse(configuration.read(path), str(path))


def parse(content: object, source: str) -> PredictorStudy:
    """The study that plain data describes; `source` names where the data comes from.

    Raises:
        ConfigurationError: all mistakes, one line each: source, path of the key, what was found, what is allowed.
    """
    return configuration.parsed(PredictorStudy, PredictorStudy.kind, content, source, _impossible)


def schema() -> dict[str, Any]:
    """JSON schema of the configuration, for editors."""
    return PredictorStudy.model_json_schema()


def _impossible(sections: Mapping[str, Any]) -> Iterable[str]:
    titles = [problem.title for problem in sections.get("problems", ())]
    yield from name_mistakes("problems", titles, "; give tables a `title`")
    for key in ("predictors", "sizes", "seeds"):
        yield from name_mistakes(key, [*map(str, sections.get(key, ()))], folders=False)
