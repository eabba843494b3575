"""The numbers behind the figures of a laboratory as CSV, objectives in their own units, hypervolume as a share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nas_lib.laboratory.settings import Laboratory
from nas_lib.report.laboratory.results import Results
from nas_lib.report.tables import Row, write_table

WAITING = (
    "strategy",
    "seeds",
    "reached",
    "evaluations",
    "low",
    "high",
    "against",
    "speed_up_at_least",
    "speed_up_at_most",
    "speed_up_low",
    "speed_up_high",
)
"""What is told of evaluations to something, see `_waiting`."""
COLUMNS: Mapping[str, Sequence[str]] = {
    "problems": ("problem", "objective", "unit", "reference", "denominator", "exact", "front"),
    "searches": (
        "problem",
        "strategy",
        "seed",
        "hypervolume",
        "igd_plus",
        "evaluations",
        "repeats",
        "proposing_seconds",
        "seconds_per_proposal",
        "found",
    ),
    "hypervolume": ("problem", "strategy", "seed", "evaluation", "hypervolume"),
    "checkpoints": (
        "problem",
        "evaluations",
        "strategy",
        "seeds",
        "hypervolume",
        "low",
        "high",
        "rank",
        "within_first",
    ),
    "differences": (
        "problem",
        "strategy",
        "baseline",
        "seeds",
        "difference",
        "low",
        "high",
        "p",
        "p_holm",
        "smallest_p",
        "effect",
    ),
    "targets": (
        "problem",
        "target",
        "level",
        *WAITING,
    ),
    "best": (
        "problem",
        "level",
        "members",
        "architectures",
        "expected",
        *WAITING,
        "mean",
        "mean_low",
        "mean_high",
    ),
    "attainment": ("problem", "strategy", "seeds", "surface", "first", "second"),
    "foretold": ("problem", "strategy", "seed", "objective", "round", "correlation", "count"),
    "ranks": ("evaluations", "strategy", "rank", "blocks", "critical_difference", "friedman", "p"),
    "pairs": ("first", "second", "blocks", "p", "p_holm", "smallest_p", "effect"),
}
"""Name of a table -> its columns."""


def table_names(laboratory: Laboratory) -> list[str]:
    """The files `write_tables` makes, known before anything has run."""
    return [f"{name}.csv" for name in COLUMNS]


def write_tables(results: Results) -> None:
    """Write every table, with its head alone where there is nothing to tell."""
    rows: dict[str, Callable[[Results], Iterator[Row]]] = {
        "problems": _problems,
        "searches": _searches,
        "hypervolume": _hypervolume,
        "checkpoints": _checkpoints,
        "differences": _differences,
        "targets": _targets,
        "best": _best,
        "attainment": _attainment,
        "foretold": _foretold,
        "ranks": _ranks,
        "pairs": _pairs,
    }
    for name, columns in COLUMNS.items():
        write_table(results.laboratory.folder.tables / f"{name}.csv", columns, rows[name](results))


def _problems(results: Results) -> Iterator[Row]:
    for title, problem in results.problems.items():
        whole = problem["denominator"]
        for name, reference in zip(problem["objectives"], problem["reference"], strict=True):
            row = {"problem": title, "objective": name, "unit": problem["units"].get(name, ""), "reference": reference}
            yield {**row, "denominator": whole["value"], "exact": whole["exact"], "front": whole["points"]}


def _searches(results: Results) -> Iterator[Row]:
    for title, problem in results.problems.items():
        for search in problem["searches"]:
            seconds = search["proposing_seconds"]
            row = {"problem": title, "hypervolume": search["hypervolume"][-1]}
            row |= {key: search[key] for key in ("strategy", "seed", "igd_plus", "evaluations", "repeats", "found")}
            yield {**row, "proposing_seconds": seconds["total"], "seconds_per_proposal": seconds["per_proposal"]}


def _hypervolume(results: Results) -> Iterator[Row]:
    for title, problem in results.problems.items():
        for search in problem["searches"]:
            for evaluation, value in enumerate(search["hypervolume"], start=1):
                row = {"problem": title, "strategy": search["strategy"], "seed": search["seed"]}
                yield {**row, "evaluation": evaluation, "hypervolume": value}


def _checkpoints(results: Results) -> Iterator[Row]:
    for title, problem in results.problems.items():
        for checkpoint in problem["checkpoints"]:
            for label, found in checkpoint["strategies"].items():
                row = {"problem": title, "evaluations": checkpoint["evaluations"], "strategy": label}
                row |= {"seeds": found["count"], "hypervolume": found["mean"]}
                yield {**row, **{key: found[key] for key in ("low", "high", "rank", "within_first")}}


def _differences(results: Results) -> Iterator[Row]:
    for title, problem in results.problems.items():
        for label, found in problem["differences"].items():
            test = problem["tests"][label]
            row = {"problem": title, "strategy": label, "baseline": problem["baseline"], "seeds": found["count"]}
            row |= {"difference": found["mean"], "low": found["low"], "high": found["high"]}
            yield {
                **row,
                "p": test["p"],
                "p_holm": test["p_holm"],
                "smallest_p": test["smallest"],
                "effect": test["effect"],
            }


def _targets(results: Results) -> Iterator[Row]:
    for title, problem in results.problems.items():
        for target in problem["targets"]:
            for label, found in target["strategies"].items():
                row = {"problem": title, "target": target["name"], "level": target["level"], "strategy": label}
                yield {**row, "against": target["against"], **_waiting(found)}


def _waiting(found: Mapping[str, Any]) -> Row:
    """Evaluations to something, and the speed-up."""
    row = {"seeds": found["count"], "reached": found["reached"], "evaluations": found["median"]}
    row |= {key: found[key] for key in ("low", "high")}
    return row | {f"speed_up_{key}": value for key, value in (found["speed_up"] or {}).items()}


def _best(results: Results) -> Iterator[Row]:
    for title, problem in results.problems.items():
        best = problem["best"] or {"strategies": {}}
        for label, found in best["strategies"].items():
            row = {"problem": title, "strategy": label, **_waiting(found)}
            row |= {key: best[key] for key in ("level", "members", "architectures", "expected", "against")}
            mean = found["mean"]
            yield {**row, "mean": mean["mean"], "mean_low": mean["low"], "mean_high": mean["high"]}


def _attainment(results: Results) -> Iterator[Row]:
    """Corners of the surfaces of problems with two objectives."""
    for title, seeds in results.trials.items():
        for label in results.labels:
            surfaces = results.attainment(title, label)
            for surface, corners in zip(("best", "median", "worst")[: len(surfaces)], surfaces, strict=True):
                for first, second in corners.tolist():
                    row = {"problem": title, "strategy": label, "seeds": len(seeds[label]), "surface": surface}
                    yield {**row, "first": first, "second": second}


def _foretold(results: Results) -> Iterator[Row]:
    for title, problem in results.problems.items():
        for search in problem["searches"]:
            for name, entries in search["foretold"].items():
                for entry in entries:
                    row = {"problem": title, "strategy": search["strategy"], "seed": search["seed"], "objective": name}
                    yield {**row, **entry}


def _ranks(results: Results) -> Iterator[Row]:
    overall = results.comparison["overall"]
    for checkpoint in overall["checkpoints"]:
        for label, rank in checkpoint["ranks"].items():
            test = checkpoint["friedman"] or {"statistic": "", "p": ""}
            row = {"evaluations": checkpoint["evaluations"], "strategy": label, "rank": rank}
            row |= {"blocks": overall["blocks"], "critical_difference": checkpoint["critical_difference"]}
            yield {**row, "friedman": test["statistic"], "p": test["p"]}


def _pairs(results: Results) -> Iterator[Row]:
    for pair in results.comparison["overall"]["pairs"]:
        row = {key: pair[key] for key in ("first", "second", "p", "p_holm", "effect")}
        yield {**row, "blocks": pair["count"], "smallest_p": pair["smallest"]}
