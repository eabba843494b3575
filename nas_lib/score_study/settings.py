"""The configuration of a study of scores."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, StrictInt, field_validator

from nas_lib import configuration
from nas_lib.configuration import (
    PATTERNS,
    SLUG,
    Name,
    ResultsFolder,
    name_mistakes,
    named,
    nearest,
)
from nas_lib.experiment import Tracking
from nas_lib.laboratory.settings import every
from nas_lib.layout import ScoreFolder
from nas_lib.problems.problem import ProblemError
from nas_lib.score_study.benchmarks import Benchmark, BenchmarkSettings, TableBenchmark
from nas_lib.score_study.published import PUBLISHED
from nas_lib.scores.names import NAMES, REVISION, TRIVIAL
from nas_lib.settings import Settings

FEWEST_OTHERS = 10
"""Networks at least on which combinations are confirmed."""
TO_BUILD = "build"
"""What building a network costs, beside the scores."""


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
    combinations: dict[str, tuple[str, ...]] = Field(default={})
    """Name -> scores, of which the mean rank ranks networks."""
    baseline: str | None = None
    """The score over which the gain of combinations is reported, for benchmarks with `chosen_on`. Default: that with
    the strongest published correlation, sizes apart."""
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
        apart = {"folder", "path", "networks", "chosen_on"}
        found: dict[str, Any] = json.loads(settings.model_dump_json(exclude=apart))
        return found

    def baseline_of(self, title: str) -> str | None:
        """The score over which combinations are held on a benchmark; None where none is given and none is published."""
        return self.baseline or _published_baseline(self.settings_of_benchmark(title).name, self.names)

    def tables_of(self, title: str) -> list[Path]:
        """The user's own table of a benchmark: it is scored anew when that has changed."""
        benchmark = self.settings_of_benchmark(title)
        return [benchmark.path] if isinstance(benchmark, TableBenchmark) else []

    def parted(self, title: str) -> tuple[frozenset[str], frozenset[str]] | None:
        """See `Benchmark.parted`, of those that are scored; None where a benchmark has no `chosen_on`.

        Raises:
            ProblemError: the table cannot be used, or too few others are left.
        """
        settings = self.settings_of_benchmark(title)
        if settings.chosen_on is None:
            return None
        whole = settings.benchmark()
        scored = {network.name for network in whole.only(settings.networks).networks}
        chosen, others = (names & scored for names in whole.parted(settings.chosen_on))
        if len(others) < FEWEST_OTHERS:
            raise ProblemError(
                f"{title}: chosen_on leaves {len(others)} other networks, allowed are {FEWEST_OTHERS} or more"
            )
        return chosen, others

    def settings_of_analysis(self, title: str) -> str:
        """All that decides what is said of the measurements of a benchmark, as JSON."""
        content = self.model_dump(mode="json", include={"combinations"})
        chosen_on = self.settings_of_benchmark(title).model_dump(mode="json", include={"chosen_on"})
        return json.dumps(content | chosen_on | {"baseline": self.baseline_of(title)})

    def settings_of_measurements(self, title: str) -> str:
        """All that decides what is measured of a benchmark, beside the table's content, as JSON."""
        content = self.model_dump(mode="json", include={"seeds", "jobs"}) | {"scores": self.names, "revision": REVISION}
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
        every(partial(self.parted, title) for title in self.titles)
        for one in self.benchmarks:
            if isinstance(one, TableBenchmark) and one.task:
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
    for index, name in enumerate(scores):
        if name not in NAMES:
            yield f"scores.{index}: found {name!r}{nearest(name, NAMES)}, allowed are {', '.join(NAMES)}"
    yield from _impossible_combinations(sections, scores or NAMES)


def _impossible_combinations(sections: Mapping[str, Any], scores: Sequence[str]) -> Iterable[str]:
    """What is wrong with combinations of the scores of a study, and with what they are held against."""

    def unknown(key: str, name: str) -> Iterable[str]:
        if name not in scores:
            yield f"{key}: found {name!r}{nearest(name, scores)}, allowed are the study's scores: {', '.join(scores)}"

    combinations = sections.get("combinations", {})
    for name, its in combinations.items():
        key = f"combinations.{name}"
        if not re.fullmatch(SLUG, name):
            yield f"combinations: found {name!r}, allowed are {PATTERNS[SLUG]}"
        if name in {*NAMES, TO_BUILD}:
            yield f"{key}: is the name of a {'score' if name in NAMES else 'cost'}, allowed is any other"
        if len(its) < 2:
            yield f"{key}: found {len(its)} scores, allowed are 2 or more"
        yield from name_mistakes(key, its, folders=False)
        for index, score in enumerate(its):
            yield from unknown(f"{key}.{index}", score)
    baseline = sections.get("baseline")
    if baseline:
        yield from unknown("baseline", baseline)
    for index, benchmark in enumerate(sections.get("benchmarks", ())):
        if benchmark.chosen_on and "combinations" in sections and not combinations:
            yield f"benchmarks.{index}.chosen_on: needs `combinations`, and there are none"
        if benchmark.chosen_on and not baseline and _published_baseline(benchmark.name, scores) is None:
            yield f"benchmarks.{index}.chosen_on: needs a `baseline`, for no score of the study is published here"


def _published_baseline(benchmark: str, scores: Sequence[str]) -> str | None:
    published = PUBLISHED.get(benchmark, {})
    known = [name for name in scores if name in published and name not in TRIVIAL]
    return max(known, key=lambda name: abs(published[name].kendall), default=None)
