"""What the files of a laboratory say, read once for the page, the figures and the tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas_lib import pareto
from nas_lib.laboratory.comparison import Trials, read_trials
from nas_lib.laboratory.settings import Laboratory
from nas_lib.randomness import generator
from nas_lib.report.results import Band


@dataclass(frozen=True)
class Results:
    """All that the report shows."""

    laboratory: Laboratory
    comparison: dict[str, Any]
    """See `nas_lib.laboratory.comparison.compare`."""
    trials: dict[str, Trials]
    """Title of a problem -> its searches."""

    @property
    def labels(self) -> list[str]:
        """Labels of the strategies, in the order of tables and colours."""
        return self.laboratory.labels

    @property
    def problems(self) -> dict[str, dict[str, Any]]:
        """Title -> see `nas_lib.laboratory.comparison.compare_problem`."""
        found: dict[str, dict[str, Any]] = self.comparison["problems"]
        return found

    def searches(self, title: str, label: str) -> list[dict[str, Any]]:
        """The searches of a strategy on a problem, one per seed."""
        return [search for search in self.problems[title]["searches"] if search["strategy"] == label]

    def hypervolume(self, title: str, label: str) -> Band:
        """Mean over seeds with its 95 % confidence interval after each distinct evaluation, point by point."""
        series = [search["hypervolume"] for search in self.searches(title, label)]
        longest = max(map(len, series))
        table = np.array([[*values, *[values[-1]] * (longest - len(values))] for values in series])
        low, high = pareto.bootstrap_means(table, generator(0, "bootstrap"))
        return Band(np.arange(1, longest + 1), table.mean(axis=0), low, high)

    def attainment(self, title: str, label: str) -> list[np.ndarray]:
        """Best, median and worst attainment surface over the seeds, each (k, 2); none without two objectives."""
        objectives = self.problems[title]["objectives"]
        if len(objectives) != 2:
            return []
        fronts = [trial.points(objectives) for trial in self.trials[title][label].values()]
        count = len(fronts)
        return [pareto.attainment_surface(fronts, at_least) for at_least in (1, (count + 1) // 2, count)]

    def window(self, title: str) -> list[tuple[float, float]]:
        """Per objective what a drawing shows: from a little below the best of the front to the reference value."""
        problem = self.problems[title]
        best = np.array(problem["front"]).min(axis=0).tolist()
        return [(low - 0.05 * (high - low), high) for low, high in zip(best, problem["reference"], strict=True)]

    def foretold(self, title: str) -> dict[str, dict[str, Band]]:
        """Objective -> strategy that predicts it -> rank correlation per round: mean within the range of seeds."""
        found: dict[str, dict[str, Band]] = {}
        for name in self.problems[title]["objectives"]:
            for label in self.labels:
                rounds: dict[int, list[float]] = {}
                for search in self.searches(title, label):
                    for entry in search["foretold"].get(name, []):
                        rounds.setdefault(entry["round"], []).append(entry["correlation"])
                if rounds:
                    values = [rounds[round] for round in sorted(rounds)]
                    mean, low, high = (np.array([of(row) for row in values]) for of in (np.mean, min, max))
                    found.setdefault(name, {})[label] = Band(np.array(sorted(rounds)), mean, low, high)
        return found

    @property
    def best(self) -> str | None:
        """What is to be found; None: nothing."""
        target = self.laboratory.target
        return None if target is None else f"the best {100 * target.share:g} %"

    def unfound(self, title: str, label: str) -> Band:
        """Share of searches that have found none of the best after 0, 1, ... evaluations, with its 95 % confidence
        interval (Clopper and Pearson 1934), point by point."""
        from scipy import stats

        found = [search["found"] for search in self.searches(title, label)]
        ends = np.array([stats.binomtest(left, len(found)).proportion_ci() for left in range(len(found) + 1)])
        spent = np.arange(self.laboratory.budget.evaluations + 1)
        left = np.array([sum(first is None or first > one for first in found) for one in spent])
        return Band(spent, left / len(found), *ends[left].T)

    def proposing(self, title: str, label: str) -> float:
        """CPU seconds per proposal, mean over seeds."""
        return float(np.mean([search["proposing_seconds"]["per_proposal"] for search in self.searches(title, label)]))


def read(laboratory: Laboratory) -> Results:
    """Read the results of a finished laboratory.

    Raises:
        FileNotFoundError: a search or the comparison is not there yet.
    """
    return Results(
        laboratory=laboratory,
        comparison=json.loads(laboratory.folder.comparison.read_text()),
        trials={title: read_trials(laboratory, title) for title in laboratory.titles},
    )


def axis(problem: Mapping[str, Any], name: str) -> str:
    """Title of the axis of an objective, with its unit where it is known."""
    return f"{name} ({problem['units'][name]})" if name in problem["units"] else name


def heading(target: Mapping[str, Any]) -> str:
    """Name of a level, with the level itself where the name does not say it."""
    return f"{target['name']} ({target['level']:.3f})" if target["owner"] else str(target["name"])


def evaluations(found: Mapping[str, Any]) -> str:
    """After how many evaluations half of the searches reached a level, as `pareto.waiting` has it.

    >>> evaluations({"median": 50, "low": 20, "high": None, "reached": 6, "count": 10})
    '50 (20 to open), 6 of 10'
    """
    share = f"{found['reached']} of {found['count']}"
    if found["median"] is None:
        return f"not reached, {share}"
    if found["low"] is None:
        return f"{found['median']:.0f}, {share}"
    return f"{found['median']:.0f} ({found['low']:.0f} to {_or_open(found['high'], '.0f')}), {share}"


def speed_up(found: Mapping[str, Any] | None) -> str:
    """A speed-up as `pareto.speed_up` has it.

    >>> speed_up({"at_least": 2.5, "at_most": None, "low": 2.0, "high": None})
    '≥ 2.5 × (2.0 to open)'
    >>> speed_up({"at_least": 0, "at_most": 0.4, "low": 0, "high": 0.5})
    '≤ 0.4 × (open to 0.5)'
    """
    if found is None:
        return "reference"
    least, most, low, high = found["at_least"], found["at_most"], found["low"] or None, found["high"]
    if not least and most is None:
        return "unknown"
    sign = "≥ " if most is None else "" if least else "≤ "
    interval = "" if low is None and high is None else f" ({_or_open(low, '.1f')} to {_or_open(high, '.1f')})"
    return f"{sign}{least or most:.1f} ×{interval}"


def _or_open(value: float | None, form: str) -> str:
    return "open" if value is None else f"{value:{form}}"
