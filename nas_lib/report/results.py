"""What the files of an experiment say, read once for the page and the figures."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from nas_lib import pareto
from nas_lib.comparison import compare_histories, histories_of, paired
from nas_lib.configuration import ConfigurationError
from nas_lib.experiment import Experiment
from nas_lib.export import read_export
from nas_lib.records import Evaluation, Export, History, networks_of, sample_tested
from nas_lib.report import style
from nas_lib.search import Search, read_finalists


@dataclass(frozen=True)
class Retrained:
    """A finalist with the search that chose it."""

    strategy: str
    seed: int
    rank: int
    chosen: Evaluation
    repeats: list[Evaluation]
    transferred: list[Evaluation] = field(default_factory=list)
    """Trainings on the second data set."""
    export: Export | None = None
    measure: str = "error"
    """What is told of it on the test split: see `Experiment.measure`."""
    transfer_measure: str = "error"
    """The same on the second data set."""

    @property
    def name(self) -> str:
        """For example `parego, seed 1, finalist 0`, as files and MLflow number them."""
        return f"{self.strategy}, seed {self.seed}, finalist {self.rank}"

    @property
    def test_values(self) -> list[float]:
        """Its measure on the test split, one per network, or per training where there is one network only."""
        return sample_tested(self.repeats, self.measure)

    @property
    def transfer_values(self) -> list[float]:
        """The same on the second data set."""
        return sample_tested(self.transferred, self.transfer_measure)

    @property
    def networks(self) -> int:
        """How many networks of its generator were trained."""
        return len(networks_of(self.repeats))


@dataclass(frozen=True)
class AxisEnd:
    """Where an axis ends before its largest value."""

    at: float
    beyond: int
    """Values that lie outside."""
    rule: str


def axis_end(values: Sequence[float], reference: float | None = None) -> AxisEnd | None:
    """Where to end an axis so that a few far values leave the others readable; None where none lies outside.

    A tenth beyond the reference value; where there is none, or no value is better, three quartile ranges beyond the
    upper quartile (Tukey's outer fence, 1977).
    """
    finite = np.array([value for value in values if np.isfinite(value)])
    if not len(finite):
        return None
    if reference is not None and finite.min() < reference:
        at, rule = 1.1 * reference, "a tenth beyond its reference value"
    else:
        at, rule = pareto.fence(finite), "three quartile ranges beyond the upper quartile"
    beyond = sum(not value <= at for value in values)
    return AxisEnd(float(at), beyond, rule) if beyond and at > finite.min() else None


@dataclass(frozen=True)
class Results:
    """All that the report shows."""

    experiment: Experiment
    histories: dict[str, dict[int, History]]
    """Strategy label -> seed -> history."""
    comparison: dict[str, Any]
    """See `comparison.compare`."""
    finalists: list[Retrained]
    proposing: dict[str, dict[int, list[float]]]
    """Strategy label -> seed -> seconds that making the proposals of each round took."""

    @property
    def labels(self) -> list[str]:
        """Labels of the strategies, in the order of tables and colours."""
        return list(self.histories)

    @property
    def objectives(self) -> list[str]:
        """Names of the objectives."""
        return self.experiment.objective_names

    @property
    def measure(self) -> str:
        """What tells how good a network is: see `Experiment.measure`."""
        return self.experiment.measure

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of objectives: the later one for the horizontal, the earlier one for the vertical axis."""
        return [(second, first) for first, second in itertools.combinations(self.objectives, 2)]

    def axis_end(self, name: str) -> AxisEnd | None:
        """Where the axis of an objective ends because some candidates lie far beyond the others; else None.

        Only measures without a bound are cut, for a network can fail by any factor. See `axis_end`.
        """
        if name not in pareto.UNBOUNDED:
            return None
        reference = next(one.reference for one in self.experiment.objectives if one.name == name)
        values = [found.objectives[name] for *_, found in self.evaluations() if found.ok]
        return axis_end(values, reference)

    def evaluations(self) -> Iterator[tuple[str, int, Evaluation]]:
        """Strategy, seed and evaluation of every candidate."""
        for label, seeds in self.histories.items():
            for seed, history in seeds.items():
                for evaluation in history:
                    yield label, seed, evaluation

    def pooled(self, label: str) -> History:
        """The evaluations of all seeds of a strategy."""
        return [evaluation for history in self.histories[label].values() for evaluation in history]

    def front(self, label: str, names: Sequence[str]) -> History:
        """The front of a strategy over all its seeds, in some of the objectives."""
        return pareto.front(self.pooled(label), names)

    def attainment(self, label: str, names: Sequence[str]) -> list[np.ndarray]:
        """Best, median and worst attainment surface over the seeds of a strategy, each (k, m): see `pareto`."""
        fronts = [
            pareto.objective_matrix(pareto.front(history, names), names) for history in self.histories[label].values()
        ]
        count = len(fronts)
        return [pareto.attainment_surface(fronts, at_least) for at_least in (1, (count + 1) // 2, count)]

    @property
    def partial(self) -> bool:
        """Whether some candidates were trained for less than a full evaluation."""
        return any(not evaluation.proposal.full for _, _, evaluation in self.evaluations())

    def spent(self, label: str, what: Literal["epochs", "seconds"]) -> list[list[float]]:
        """Epochs, or seconds of proposing, training and measuring, spent after each evaluation, one series per seed."""
        series = []
        for seed, history in self.histories[label].items():
            spent = np.cumsum([getattr(evaluation.cost, what) for evaluation in history])
            if what == "seconds":
                rounds = np.array([evaluation.proposal.round for evaluation in history], dtype=int)
                spent = spent + np.cumsum(self.proposing[label][seed])[rounds]
            series.append(spent.tolist())
        return series

    def winners(self, label: str) -> dict[int, Retrained]:
        """Seed -> that finalist of the search with the lowest main measure on validation, where one was tested."""
        found = {
            seed: best_finalist([one for one in self.finalists if (one.strategy, one.seed) == (label, seed)])
            for seed in self.histories[label]
        }
        return {seed: finalist for seed, finalist in found.items() if finalist is not None}

    def hypervolumes(self, label: str) -> list[list[float]]:
        """Hypervolume after each evaluation, one series per seed."""
        return [search["hypervolume"] for search in self.comparison["searches"] if search["strategy"] == label]

    def best_so_far(self, label: str) -> list[list[float]]:
        """Best first objective after each evaluation, one series per seed; NaN before the first that counts."""
        name = self.objectives[0]
        return [
            np.fmin.accumulate([e.objectives[name] if e.counts else np.nan for e in history]).tolist()
            for history in self.histories[label].values()
        ]


def end_of(name: str, values: Sequence[float], end: AxisEnd | None) -> float:
    """The largest of scaled values that the axis shows."""
    return max(values) if end is None else style.scaled(name, end.at)


def curves_end(results: Results) -> AxisEnd | None:
    """Where the axis of the learning curves ends, by the rule of `axis_end` without a reference; it counts curves."""
    if results.measure == "error":
        return None
    curves = [
        curve
        for *_, found in results.evaluations()
        if found.ok and found.proposal.duplicate_of is None
        if len(curve := found.curves.get(f"validation_{results.measure}", [])) > 1
    ]
    end = axis_end([value for curve in curves for value in curve])
    return end and replace(end, beyond=sum(not max(curve) <= end.at for curve in curves))


def winners_compared(results: Results) -> dict[str, dict[str, Any]]:
    """How the winners (see `Results.winners`) of the strategies differ; see `comparison.paired`.

    For example `test_error`, and every objective but the validation error. Empty unless every strategy has winners.
    """
    winners = {label: results.winners(label) for label in results.labels}
    if not all(winners.values()):
        return {}

    tested = f"test_{results.measure}"

    def of(one: Retrained, name: str) -> float:
        return statistics.fmean(one.test_values) if name == tested else one.chosen.objectives[name]

    return {
        name: paired({label: {seed: of(one, name) for seed, one in seeds.items()} for label, seeds in winners.items()})
        for name in (tested, *results.objectives)
        if name != results.measure
    }


def read(experiment: Experiment) -> Results:
    """Read the results of a finished experiment.

    Raises:
        FileNotFoundError: a search, the comparison or a finalist is not there yet.
    """
    return Results(
        experiment=experiment,
        histories=histories_of(experiment),
        comparison=json.loads(experiment.folder.comparison.read_text()),
        finalists=[
            finalist
            for label in experiment.labels
            for seed in experiment.seeds
            for finalist in _retrained(Search(experiment, label, seed))
        ],
        proposing={
            label: {seed: _proposing(Search(experiment, label, seed)) for seed in experiment.seeds}
            for label in experiment.labels
        },
    )


def together(experiments: Sequence[Experiment]) -> Results:
    """The results of several finished experiments as one, on one scale; the last search is the baseline.

    Searches are labelled by their strategy, and by their experiment too where labels would be equal.

    Raises:
        ConfigurationError: their objectives, reference values or seeds differ, which leaves nothing to compare; or two
            have the same name.
        FileNotFoundError: a result is not there yet.
    """
    first = experiments[0]
    names = [experiment.experiment for experiment in experiments]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"experiments to compare: found {', '.join(names)}, allowed are different ones")
    for other in experiments[1:]:
        for key in ("objectives", "seeds"):
            here, there = (json.loads(each.model_dump_json(include={key}))[key] for each in (first, other))
            if here != there:
                raise ConfigurationError(
                    f"{other.experiment}: {key} is {there}, to be compared it must be as in {first.experiment}: {here}"
                )
    labels = [label for experiment in experiments for label in experiment.labels]
    parts = [
        (read(experiment), {label: _unique(experiment, label, labels) for label in experiment.labels})
        for experiment in experiments
    ]
    histories = {own[label]: part.histories[label] for part, own in parts for label in own}
    references = [objective.reference for objective in first.objectives]
    return Results(
        experiment=first,
        histories=histories,
        comparison=compare_histories(histories, first.objective_names, references),
        finalists=[replace(one, strategy=own[one.strategy]) for part, own in parts for one in part.finalists],
        proposing={own[label]: part.proposing[label] for part, own in parts for label in own},
    )


def _unique(experiment: Experiment, label: str, labels: Sequence[str]) -> str:
    return label if labels.count(label) == 1 else f"{experiment.experiment}/{label}"


def _proposing(search: Search) -> list[float]:
    files = [search.folder.proposing(round) for round in range(search.experiment.budget.rounds)]
    return [json.loads(file.read_text())["seconds"] if file.exists() else 0.0 for file in files]


def _retrained(search: Search) -> Iterator[Retrained]:
    experiment = search.experiment
    transferred = {finalist.rank: finalist.repeats for finalist in read_finalists(search, transfer=True)}
    for finalist in read_finalists(search):
        if finalist.chosen is not None:
            yield Retrained(
                search.label,
                search.seed,
                finalist.rank,
                finalist.chosen,
                finalist.repeats,
                transferred.get(finalist.rank, []),
                read_export(search, finalist.rank),
                experiment.measure,
                experiment.carried.measure if experiment.transfer else "error",
            )


@dataclass(frozen=True)
class Band:
    """A series over seeds: at each place its mean within a lower and an upper end, arrays (n,)."""

    x: np.ndarray
    """What had been spent: evaluations (1 .. n), epochs or seconds."""
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def band(series: Sequence[Sequence[float]], spent: Sequence[Sequence[float]] | None = None) -> Band | None:
    """The band from the lowest to the highest seed. None without any value.

    Every series is a step function of what was spent (evaluations, unless `spent` has an ascending series for each), 0
    before its first step; a search that ended early keeps its last value.
    """
    places = spent or [range(1, len(values) + 1) for values in series]
    steps = [
        (np.array(x, dtype=float), np.array(y, dtype=float)) for x, y in zip(places, series, strict=True) if len(y)
    ]
    if not steps:
        return None
    grid = np.unique(np.concatenate([x for x, _ in steps]))
    table = np.array([np.append(y, 0.0)[np.searchsorted(x, grid, side="right") - 1] for x, y in steps])
    return Band(x=grid, mean=table.mean(axis=0), low=table.min(axis=0), high=table.max(axis=0))


def staircase(corners: Sequence[Sequence[float]], far: tuple[float, float]) -> list[tuple[float, float]]:
    """The boundary of what points in two objectives dominate, as the vertices of a line up to the far corner.

    >>> staircase([(1, 3), (2, 1)], (5, 4))
    [(1, 4), (1, 3), (2, 3), (2, 1), (5, 1)]
    """
    line: list[tuple[float, float]] = []
    height = far[1]
    for x, y in corners:
        line += [(x, height), (x, y)]
        height = y
    return [*line, (far[0], height)]


def figure_of(evaluation: Evaluation, name: str) -> float | None:
    """What was measured of a candidate, whether or not it was an objective; None where it was not."""
    value = evaluation.objectives.get(name, evaluation.metrics.get(name))
    return None if value is None else float(value)


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; no deviation for a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def best_finalist(finalists: Sequence[Retrained]) -> Retrained | None:
    """The tested finalist with the lowest main measure on validation: the test split decides nothing."""
    tested = [
        (value, place)
        for place, finalist in enumerate(finalists)
        if finalist.test_values and (value := figure_of(finalist.chosen, finalist.measure)) is not None
    ]
    return finalists[min(tested)[1]] if tested else None
