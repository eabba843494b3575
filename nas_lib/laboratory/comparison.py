"""What the searches of a laboratory found, on one scale per problem: over evaluations, seeds and all problems."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas_lib import pareto
from nas_lib.comparison import paired
from nas_lib.experiment import label_of
from nas_lib.laboratory.settings import Laboratory, Target
from nas_lib.layout import write_json
from nas_lib.pareto import Scale
from nas_lib.problems import Problem, ProblemError
from nas_lib.problems.problem import Values
from nas_lib.randomness import generator

if TYPE_CHECKING:
    import pandas as pd

CHECKPOINTS = (50, 100, 250)
"""Evaluations after which strategies are compared, beside the budget."""
SHARES = (0.90, 0.95, 0.99)
"""Levels, as shares of the denominator."""
OWNERS = ("random", "nsga2")
"""Strategies whose final hypervolume is a level, beside that of the baseline."""
CLOSE = 1e-12
"""Values of an objective that differ by no more than this share of themselves are equally good."""
FEWEST_RANKED = 3
"""Predictions of a round from which on a rank correlation is given."""


@dataclass(frozen=True)
class Trial:
    """What one search of the laboratory wrote."""

    history: pd.DataFrame
    """See `nas_lib.laboratory.search.table`."""
    proposing: list[float]
    """CPU seconds of each round's proposals."""

    @property
    def distinct(self) -> pd.DataFrame:
        """The evaluations without the repeats, in order."""
        return self.history[~self.history["repeat"].astype(bool)]

    def points(self, objectives: Sequence[str]) -> Values:
        """Objectives of the distinct evaluations, in order, shape (n, m)."""
        return self.distinct[list(objectives)].to_numpy(dtype=float)


Trials = Mapping[str, Mapping[int, Trial]]
"""Strategy label -> seed -> search."""


def read_trials(laboratory: Laboratory, title: str) -> Trials:
    """All searches of one problem.

    Raises:
        FileNotFoundError: a search is not there yet.
    """
    import pandas as pd

    def read(label: str, seed: int) -> Trial:
        folder = laboratory.folder.search(title, label, seed)
        return Trial(pd.read_parquet(folder.history), json.loads(folder.rounds.read_text())["proposing_seconds"])

    return {label: {seed: read(label, seed) for seed in laboratory.seeds} for label in laboratory.labels}


def write_comparison(laboratory: Laboratory) -> None:
    """Write the comparison of finished searches, see `compare`.

    Raises:
        FileNotFoundError: a search is not there yet.
        ProblemError: a table cannot be read.
    """
    write_json(laboratory.folder.comparison, compare(laboratory))


def compare(laboratory: Laboratory) -> dict[str, Any]:
    """Statistics over all searches: `problems` (title -> see `compare_problem`) and `overall` (see `_overall`).

    `baseline` is the last strategy; `checkpoints` are the evaluations at which strategies are compared, the last one is
    the budget.
    """
    checkpoints = checkpoints_of(laboratory.budget.evaluations)
    problems = {
        title: compare_problem(laboratory, title, laboratory.problem(title), checkpoints) for title in laboratory.titles
    }
    return {
        "baseline": laboratory.labels[-1],
        "checkpoints": checkpoints,
        "problems": problems,
        "overall": _overall(laboratory, problems, checkpoints),
    }


def checkpoints_of(budget: int) -> list[int]:
    """The checkpoints within a budget, and the budget.

    >>> checkpoints_of(200)
    [50, 100, 200]
    """
    return sorted({*(checkpoint for checkpoint in CHECKPOINTS if checkpoint < budget), budget})


def compare_problem(laboratory: Laboratory, title: str, problem: Problem, checkpoints: Sequence[int]) -> dict[str, Any]:
    """All searches of one problem.

    Hypervolume is that between the points and the reference point, as a share of `denominator`: the hypervolume of the
    exact front where it is known (`exact`), otherwise of all that any search of this laboratory found. It is counted
    over distinct evaluations; a search that ended early keeps its last value. Intervals are bootstrap intervals.

    - `objectives`, `units`, `reference`, `front` (exact or of all found), `denominator` (`value`, `exact`, `points`);
    - `searches`: per strategy and seed `hypervolume` (after each distinct evaluation), `evaluations` (distinct ones),
      `repeats`, `proposing_seconds` (CPU: `total`, `per_proposal`), `igd_plus` (null without an exact front),
      `foretold` (see `_foretold`), and `found` (see `_best`; null without a target);
    - `baseline`, `final`, `differences`, `tests`: see `nas_lib.comparison.paired`, of final hypervolumes;
    - `checkpoints`: per checkpoint `evaluations` and `strategies`: mean with interval, mean `rank` within a seed, and
      `within_first`: whether the mean is the highest, or not below the interval of the highest;
    - `targets`: see `_targets`; `best`: see `_best`, null without a target.
    """
    trials = read_trials(laboratory, title)
    points = {
        label: {seed: trial.points(problem.objectives) for seed, trial in seeds.items()}
        for label, seeds in trials.items()
    }
    exact = problem.front is not None
    everything = np.vstack([found for seeds in points.values() for found in seeds.values()])
    front = _front(everything if problem.front is None else problem.front)
    scale = Scale(ideal=front.min(axis=0), reference=problem.reference)
    whole = pareto.hypervolume(front, scale)
    traces = {
        label: {
            seed: (pareto.running_hypervolume(found, scale) / (whole or 1.0)).tolist() for seed, found in seeds.items()
        }
        for label, seeds in points.items()
    }
    extent = np.abs(scale.reference - scale.ideal)
    best = None if laboratory.target is None else goal(problem, laboratory.target)
    found = {
        label: {seed: None if best is None else best.first(its[:, 0]) for seed, its in seeds.items()}
        for label, seeds in points.items()
    }
    return {
        "objectives": list(problem.objectives),
        "units": dict(problem.units),
        "reference": problem.reference.tolist(),
        "front": front.tolist(),
        "denominator": {
            "value": whole * float(np.where(extent > 0, extent, 1.0).prod()),
            "exact": exact,
            "points": len(front),
        },
        "searches": [
            {
                "strategy": label,
                "seed": seed,
                "hypervolume": traces[label][seed],
                **_search(problem, trial),
                "igd_plus": pareto.igd_plus(points[label][seed], front) if exact else None,
                "found": found[label][seed],
            }
            for label, seeds in trials.items()
            for seed, trial in seeds.items()
        ],
        **paired(
            {label: _values_at(seeds, checkpoints[-1]) for label, seeds in traces.items()},
            _interval,
        ),
        "checkpoints": [_checkpoint(traces, checkpoint) for checkpoint in checkpoints],
        "targets": _targets(laboratory, title, traces),
        "best": None if best is None else _best(laboratory, title, best, found),
    }


def _front(points: Values) -> Values:
    """The non-dominated points (n, m), each once, by the first objective ascending."""
    import moocore

    found: Values = np.unique(points[moocore.is_nondominated(points, keep_weakly=False)], axis=0)
    return found


def _interval(values: Sequence[float]) -> pareto.Interval:
    """Equal values have equal intervals."""
    return pareto.bootstrap_interval(values, generator(0, "bootstrap"))


Traces = Mapping[str, Mapping[int, Sequence[float]]]
"""Strategy label -> seed -> hypervolume after each distinct evaluation."""


def _values_at(seeds: Mapping[int, Sequence[float]], evaluations: int) -> dict[int, float]:
    """Seed -> hypervolume after so many distinct evaluations, or at the end of a search that was shorter."""
    return {seed: trace[min(evaluations, len(trace)) - 1] if trace else 0.0 for seed, trace in seeds.items()}


def _search(problem: Problem, trial: Trial) -> dict[str, Any]:
    count, total = len(trial.history), sum(trial.proposing)
    return {
        "evaluations": len(trial.distinct),
        "repeats": count - len(trial.distinct),
        "proposing_seconds": {"total": total, "per_proposal": total / max(1, count)},
        "foretold": _foretold(problem, trial),
    }


def _foretold(problem: Problem, trial: Trial) -> dict[str, list[dict[str, float]]]:
    """How well a strategy's predictions ranked what it then measured: objective -> one entry per round.

    Kendall's tau-b of the predictions with the new measurements of the round. Objectives that can be computed are left
    out, and so are rounds with fewer than three predictions, or with equal ones only.
    """
    from scipy import stats

    found: dict[str, list[dict[str, float]]] = {}
    for name in problem.objectives:
        predicted = trial.distinct.dropna(subset=f"predicted.{name}")
        if name in problem.exact or predicted.empty:
            continue
        entries = []
        for round, rows in predicted.groupby("round"):
            if len(rows) < FEWEST_RANKED:
                continue
            correlation = float(stats.kendalltau(rows[f"predicted.{name}"], rows[name]).statistic)
            if np.isfinite(correlation):
                entries.append({"round": int(str(round)), "correlation": correlation, "count": len(rows)})
        found[name] = entries
    return found


def _checkpoint(traces: Traces, evaluations: int) -> dict[str, Any]:
    values = {label: list(_values_at(seeds, evaluations).values()) for label, seeds in traces.items()}
    means = {label: _interval(found) for label, found in values.items()}
    ranks = pareto.mean_ranks(np.array(list(values.values())).T.tolist())
    first = max(means.values(), key=lambda interval: interval.mean)
    return {
        "evaluations": evaluations,
        "strategies": {
            label: {**vars(interval), "rank": rank, "within_first": interval.mean >= first.low}
            for (label, interval), rank in zip(means.items(), ranks, strict=True)
        },
    }


def _targets(laboratory: Laboratory, title: str, traces: Traces) -> list[dict[str, Any]]:
    """Evaluations each strategy needs to certain levels of hypervolume, and how many times fewer than another they are.

    Levels are the mean final hypervolumes of random search, NSGA-II and the baseline, where they are among the
    strategies, and some shares of the denominator. Each entry has `name`, `level`, `owner` (the strategy whose level it
    is, or null), `against` (the strategy to which others are compared: the owner, else the baseline) and `strategies`:
    see `pareto.Waiting`, and `speed_up` against that strategy (see `pareto.SpeedUp`; null for itself).
    """
    labels, budget = laboratory.labels, laboratory.budget.evaluations
    owners = [label_of(strategy) for strategy in laboratory.strategies if strategy.name in OWNERS]
    levels: list[tuple[str, float, str | None]] = [
        (f"{label} at the end", float(np.mean(list(_values_at(traces[label], budget).values()))), label)
        for label in dict.fromkeys([*owners, labels[-1]])
    ]
    levels += [(f"{100 * share:.0f} % of the whole", share, None) for share in SHARES]
    targets = []
    for name, level, owner in levels:
        against = owner or labels[-1]
        firsts = {
            label: {seed: pareto.reached(trace, level) for seed, trace in seeds.items()}
            for label, seeds in traces.items()
        }
        targets.append(
            {
                "name": name,
                "level": level,
                "owner": owner,
                "against": against,
                "strategies": _waiting(firsts, against, budget, (title, name)),
            }
        )
    return targets


Firsts = Mapping[str, Mapping[int, int | None]]
"""Strategy label -> seed -> distinct evaluations up to the first that reached something; None: none did."""


def _waiting(firsts: Firsts, against: str, budget: int, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Per strategy what `pareto.waiting` says, and `speed_up` against one of them, null for itself.

    `names` make the resamples of one comparison differ from those of others.
    """
    lists = {label: [*seeds.values()] for label, seeds in firsts.items()}
    return {
        label: {
            **vars(pareto.waiting(found)),
            "speed_up": None
            if label == against
            else vars(pareto.speed_up(lists[against], found, budget, generator(0, "speed-up", *names, label))),
        }
        for label, found in lists.items()
    }


@dataclass(frozen=True)
class Goal:
    """The best architectures of a problem by its first objective."""

    level: float
    """Value of the worst of them."""
    members: int
    """How many there are: all that are not worse."""
    architectures: int
    """How many there are in all."""

    @property
    def expected(self) -> float:
        """Evaluations that draws without replacement need in the mean to find one (negative hypergeometric)."""
        return (self.architectures + 1) / (self.members + 1)

    def among(self, values: Values) -> NDArray[np.bool_]:
        """Which values of the first objective are among the best, but for rounding."""
        return values <= self.level + CLOSE * abs(self.level)

    def first(self, values: Values) -> int | None:
        """After how many evaluations with these values (n,) one of the best was found; None: it was not."""
        places = np.flatnonzero(self.among(values))
        return int(places[0]) + 1 if len(places) else None


def goal(problem: Problem, target: Target) -> Goal:
    """The best share of all architectures, at least one of them.

    Raises:
        ProblemError: there are too many architectures to know the best.
    """
    listed = problem.space.listed
    if listed is None:
        raise ProblemError(f"{problem.name}: its best architectures are not known")
    values = np.sort(problem.evaluate(listed)[:, 0])
    level = float(values[math.ceil(target.share * len(values) - pareto.ROUNDING) - 1])
    best = Goal(level, members=0, architectures=len(values))
    return replace(best, members=int(best.among(values).sum()))


def _best(laboratory: Laboratory, title: str, best: Goal, found: Firsts) -> dict[str, Any]:
    """Evaluations each strategy needs to find one of the best, and how many times fewer than the baseline they are.

    `level` (of the first objective), `members`, `architectures`, `expected`: see `Goal`; `against`: the baseline;
    `strategies`: see `_waiting`, and `mean`: evaluations up to the first that is among the best, or all of the budget
    (restricted mean), with interval.
    """
    budget, baseline = laboratory.budget.evaluations, laboratory.labels[-1]
    strategies = _waiting(found, baseline, budget, (title, "best"))
    for label, seeds in found.items():
        strategies[label]["mean"] = vars(_interval([budget if one is None else one for one in seeds.values()]))
    return {
        **vars(best),
        "expected": best.expected,
        "against": baseline,
        "strategies": strategies,
    }


def _overall(laboratory: Laboratory, problems: Mapping[str, Any], checkpoints: Sequence[int]) -> dict[str, Any]:
    """Strategies over all problems. A block is one seed on one problem, so this speaks of these problems only.

    `blocks`: how many there are; `checkpoints`: per checkpoint `evaluations`, mean `ranks`, `friedman` (`p`,
    `statistic`; null for fewer than three strategies) and `critical_difference` (null for a single strategy); `pairs`:
    signed-rank test of the final hypervolumes of every pair, `p_holm` corrected for all pairs, `effect` positive where
    `first` is better.
    """
    labels = laboratory.labels

    def table(evaluations: int) -> list[list[float]]:
        """Rows: blocks, columns: strategies."""
        columns = [
            [
                value
                for problem in problems.values()
                for value in _values_at(
                    {one["seed"]: one["hypervolume"] for one in problem["searches"] if one["strategy"] == label},
                    evaluations,
                ).values()
            ]
            for label in labels
        ]
        return [list(row) for row in zip(*columns, strict=True)]

    final = np.array(table(checkpoints[-1]))
    pairs = list(itertools.combinations(range(len(labels)), 2))
    tests = [pareto.signed_rank_test((final[:, first] - final[:, second]).tolist()) for first, second in pairs]
    corrected = pareto.holm([test.p for test in tests])
    return {
        "blocks": len(final),
        "checkpoints": [
            {
                "evaluations": checkpoint,
                "ranks": dict(zip(labels, pareto.mean_ranks(values), strict=True)),
                "friedman": vars(pareto.friedman_test(values)) if len(labels) > 2 else None,
                "critical_difference": pareto.critical_difference(len(labels), len(values)) if pairs else None,
            }
            for checkpoint in checkpoints
            for values in [table(checkpoint)]
        ],
        "pairs": [
            {"first": labels[first], "second": labels[second], **vars(test), "p_holm": p}
            for (first, second), test, p in zip(pairs, tests, corrected, strict=True)
        ],
    }
