"""The configuration of a study of scores."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, StrictInt, field_validator

from nas_lib import configuration
from nas_lib.configuration import (
    Name,
    ResultsFolder,
    name_mistakes,
    named,
    nearest,
)
from nas_lib.experiment import Tracking
from nas_lib.laboratory.settings import every
from nas_lib.layout import ScoreFolder
from nas_lib.score_study.benchmarks import Benchmark, BenchmarkSettings, TableBenchmark
from nas_lib.scores.names import NAMES
from nas_lib.settings import Settings


class ScoreStudy(Settings):
    """Everything about one study."""

    kind: ClassVar[str] = "score_study"

    score_study: Name
    """Name of the study: its folder under `results` and its name in MLflow."""
    description: str = ""
    """A sentence for the report."""
    results: ResultsFolder = "results"
    """Folder of all results."""
    benchmarks: tuple[BenchmarkSettings, ...] = Field(min_length=1)
    """Networks with measured results, which scores shall rank."""
    scores: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Which scores. Default: all, as far as they apply."""
    seeds: tuple[StrictInt, ...] = Field(default=(0,), min_length=1)
    """Each draws the weights of all networks and the batch. A network's score is the mean over seeds."""
    jobs: StrictInt = Field(default=2, ge=1, le=256)
    """Jobs of each benchmark, among which its networks are shared out."""
    tracking: Tracking = Tracking()
    """The MLflow store that shows every score."""

    @field_validator("benchmarks", mode="before")
    @classmethod
    def _names_are_enough(cls, value: object) -> object:
        return named(value)

    @property
    def titles(self) -> list[str]:
        """Names of the benchmarks."""
        return [benchmark.title for benchmark in self.benchmarks]

    @property
    def folder(self) -> ScoreFolder:
        """Where its files lie."""
        return ScoreFolder(Path(self.results) / self.score_study)

    @property
    def tracking_uri(self) -> str:
        """Where MLflow keeps the runs."""
        return self.tracking.uri_for(self.results)

    @property
    def names(self) -> list[str]:
        """The scores that are computed."""
        return [*(NAMES if self.scores is None else self.scores)]

    def settings_of_benchmark(self, title: str) -> BenchmarkSettings:
        """What the benchmark of that title is made from."""
        return next(benchmark for benchmark in self.benchmarks if benchmark.title == title)

    def benchmark(self, title: str) -> Benchmark:
        """The benchmark of that title, its table read, whole. Raises ProblemError: the table cannot be used."""
        return self.settings_of_benchmark(title).benchmark()

    def chosen(self, title: str) -> Benchmark:
        """The same with the networks that are scored. Raises ProblemError: the table cannot be used."""
        return self.benchmark(title).only(self.settings_of_benchmark(title).networks)

    def benchmark_content(self, title: str) -> dict[str, Any]:
        """The settings of a benchmark that decide what it is."""
        settings = self.settings_of_benchmark(title)
        found: dict[str, Any] = json.loads(settings.model_dump_json(exclude={"folder", "path", "networks"}))
        return found

    def tables_of(self, title: str) -> list[Path]:
        """The user's own table of a benchmark: it is scored anew when that has changed."""
        benchmark = self.settings_of_benchmark(title)
        return [benchmark.path] if isinstance(benchmark, TableBenchmark) else []

    def settings_of_measurements(self, title: str) -> str:
        """All that decides what is measured of a benchmark, beside the table's content, as JSON."""
        content = self.model_dump(mode="json", include={"scores", "seeds", "jobs"})
        networks = self.settings_of_benchmark(title).networks
        return json.dumps(content | {"benchmark": self.benchmark_content(title), "networks": networks})

    def refuse_missing_tables(self) -> None:
        """Raises ProblemError: tables of the user's own are missing, one line each."""
        every(one.refuse_missing_table for one in self.benchmarks if isinstance(one, TableBenchmark))

    def checked_benchmarks(self) -> dict[str, Benchmark]:
        """Every benchmark by its title, its table read and its data fetched if need be.

        Raises:
            ProblemError: tables that cannot be used, one line each.
            DataError: data is missing or damaged.
        """
        found = every(partial(self.chosen, title) for title in self.titles)
        for one in self.benchmarks:
            if isinstance(one, TableBenchmark):
                one.task.facts()
        return dict(zip(self.titles, found, strict=True))


def load(path: Path) -> ScoreStudy:
    """The study of one YAML or JSON file. Raises ConfigurationError: all mistakes, one line each."""
    return parse(configuration.read(path), str(path))


def parse(content: object, source: str) -> ScoreStudy:
    """The study that plain data describes; `source` names where the data comes from.

    Raises:
        ConfigurationError: all mistakes, one line each: source, path of the key, what was found, what is allowed.
    """
    return configuration.parsed(ScoreStudy, ScoreStudy.kind, content, source, _impossible)


def schema() -> dict[str, Any]:
    """JSON schema of the configuration, for editors."""
    return ScoreStudy.model_json_schema()


def _impossible(sections: Mapping[str, Any]) -> Iterable[str]:
    titles = [benchmark.title for benchmark in sections.get("benchmarks", ())]
    yield from name_mistakes("benchmarks", titles, "; give one a `title`")
    yield from name_mistakes("seeds", [*map(str, sections.get("seeds", ()))], folders=False)
    scores = sections.get("scores") or ()
    yield from name_mistakes("scores", scores, folders=False)
    if scores:
        for index, name in enumerate(scores):
            if name not in NAMES:
                yield f"scores.{index}: found {name!r}{nearest(name, NAMES)}, allowed are {', '.join(NAMES)}"
