"""The numbers behind the figures as CSV: shares as shares, every other quantity in its own unit."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nas_lib.layout import write_text
from nas_lib.records import Evaluation
from nas_lib.report import descent
from nas_lib.report.analysis import Analysis
from nas_lib.report.provenance import without_paths
from nas_lib.report.results import Results

COLUMNS: Mapping[str, Sequence[str]] = {
    "candidates": ("strategy", "seed", "round", "slot", "hash", "architecture", "epochs", "full", "status", "reason"),
    "attainment": ("strategy", "surface", "seeds"),
    "hypervolume": ("strategy", "seed", "evaluation", "epochs", "seconds", "hypervolume"),
    "comparison": (
        "strategy",
        "seeds",
        "hypervolume",
        "low",
        "high",
        "mean_rank",
        "difference",
        "p",
        "p_holm",
        "smallest_p",
        "effect",
    ),
    "finalists": (
        "strategy",
        "seed",
        "finalist",
        "hash",
        "architecture",
        "training",
        "status",
        "test_error",
        "seconds",
    ),
    "importance": ("objective", "number", "r2", "candidates", "importance", "low", "high"),
    "dependence": ("objective", "number", "value", "prediction", "low", "high"),
    "draws": ("objective", "generator", "value"),
    "components": ("objective", "generators", "draws", "between", "within", "icc", "low", "high"),
    "foretelling": ("strategy", "epochs", "candidates", "correlation", "low", "high"),
    "lineage": (
        "strategy",
        "seed",
        "member",
        "finalist",
        "step",
        "round",
        "slot",
        "hash",
        "epochs",
        "changes",
        "figure",
        "value",
        "difference",
    ),
    "size": ("strategy", "round", "figure", "mean", "low", "high", "median_of_survivors"),
}
"""Name of a table -> its columns; `candidates` and `attainment` have a further one per objective, `candidates` one per
score of filters too, `finalists` one for the main measure of the experiment where that is not the error."""
Row = dict[str, Any]


def table_names() -> list[str]:
    """The files `write_tables` makes, known before anything has run."""
    return [f"{name}.csv" for name in COLUMNS]


def write_tables(results: Results, analysis: Analysis) -> None:
    """Write every table, with its head alone where there is nothing to tell."""
    rows: dict[str, Iterable[Row]] = {
        "candidates": _candidates(results),
        "attainment": _attainment(results),
        "hypervolume": _hypervolume(results),
        "comparison": _comparison(results),
        "finalists": _finalists(results),
        "importance": _importance(analysis),
        "dependence": _dependence(results, analysis),
        "draws": _draws(analysis),
        "components": _components(analysis),
        "foretelling": _foretelling(analysis),
        "lineage": _lineage(results),
        "size": _size(analysis),
    }
    for name, columns in COLUMNS.items():
        further = [*results.objectives] if name in {"candidates", "attainment"} else []
        if name == "candidates":
            further += dict.fromkeys(score for _, _, each in results.evaluations() for score in _scores(each))
        if name == "finalists" and results.measure != "error":
            further = [f"test_{results.measure}"]
        heads = [*columns, *further, *(["front"] if name == "candidates" else [])]
        write_table(results.experiment.folder.tables / f"{name}.csv", heads, rows[name])


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write a table as CSV, its head alone where there are no rows."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _candidates(results: Results) -> Iterator[Row]:
    """Every candidate; `front`: whether it is on the front of its strategy over all seeds."""
    describe = results.experiment.space.describe
    fronts = {id(member) for label in results.histories for member in results.front(label, results.objectives)}
    for label, seed, evaluation in results.evaluations():
        proposal = evaluation.proposal
        yield {
            "strategy": label,
            "seed": seed,
            "round": proposal.round,
            "slot": proposal.slot,
            "hash": proposal.hash,
            "architecture": describe(proposal.genotype),
            "epochs": proposal.epochs,
            "full": proposal.full,
            "status": evaluation.status,
            "reason": without_paths(evaluation.reason),
            **evaluation.objectives,
            **_scores(evaluation),
            "front": id(evaluation) in fronts,
        }


def _scores(evaluation: Evaluation) -> dict[str, float]:
    """The scores by which a filter chose a candidate."""
    return {f"score.{name}": value for name, value in evaluation.proposal.scores.items()}


def _attainment(results: Results) -> Iterator[Row]:
    """Corners of the attainment surfaces of each pair of objectives; the other objectives are left empty."""
    for pair in results.pairs:
        for label, history in results.histories.items():
            for surface, corners in zip(("best", "median", "worst"), results.attainment(label, pair), strict=True):
                for corner in corners.tolist():
                    place = dict(zip(pair, corner, strict=True))
                    yield {"strategy": label, "surface": surface, "seeds": len(history), **place}


def _hypervolume(results: Results) -> Iterator[Row]:
    for label, seeds in results.histories.items():
        columns = results.spent(label, "epochs"), results.spent(label, "seconds"), results.hypervolumes(label)
        for seed, *series in zip(seeds, *columns, strict=True):
            for evaluation, values in enumerate(zip(*series, strict=False), start=1):
                row = dict(zip(("epochs", "seconds", "hypervolume"), values, strict=True))
                yield {"strategy": label, "seed": seed, "evaluation": evaluation, **row}


def _comparison(results: Results) -> Iterator[Row]:
    found = results.comparison
    for label, final in found["final"].items():
        row = {"strategy": label, "seeds": final["count"], "hypervolume": final["mean"]}
        row |= {"low": final["low"], "high": final["high"], "mean_rank": found["ranks"][label]}
        if label in found["tests"]:
            test = found["tests"][label]
            row |= {"difference": found["differences"][label]["mean"], "p": test["p"], "smallest_p": test["smallest"]}
            row |= {"p_holm": test["p_holm"], "effect": test["effect"]}
        yield row


def _finalists(results: Results) -> Iterator[Row]:
    describe = results.experiment.space.describe
    for finalist in results.finalists:
        for repeat in finalist.repeats:
            proposal = repeat.proposal
            yield {
                "strategy": finalist.strategy,
                "seed": finalist.seed,
                "finalist": finalist.rank,
                "hash": proposal.hash,
                "architecture": describe(proposal.genotype),
                "training": proposal.slot,
                "status": repeat.status,
                "test_error": repeat.metrics.get("test_error", ""),
                "seconds": repeat.cost.seconds,
                **{name: repeat.metrics.get(name, "") for name in [f"test_{results.measure}"]},
            }


def _importance(analysis: Analysis) -> Iterator[Row]:
    for one in analysis.dependences:
        if one.found is not None:
            for number, estimate in zip(analysis.dimensions, one.found.importance, strict=True):
                row = {"objective": one.objective, "number": number, "r2": one.found.r2, "candidates": one.candidates}
                yield {**row, "importance": estimate.value, "low": estimate.low, "high": estimate.high}


def _dependence(results: Results, analysis: Analysis) -> Iterator[Row]:
    for one in analysis.dependences:
        if one.found is None:
            continue
        for place, number in enumerate(analysis.dimensions):
            values = results.experiment.architectures.values(place, one.found.grids[place])
            for value, prediction, low, high in zip(values, *one.found.dependence[place], strict=True):
                row = {"objective": one.objective, "number": number, "value": value}
                yield {**row, "prediction": prediction, "low": low, "high": high}


def _draws(analysis: Analysis) -> Iterator[Row]:
    for spread in analysis.spreads:
        for generator, values in enumerate(spread.draws, start=1):
            for value in values:
                yield {"objective": spread.objective, "generator": generator, "value": value}


def _components(analysis: Analysis) -> Iterator[Row]:
    for spread in analysis.spreads:
        parts = spread.components
        row = {"objective": spread.objective, "generators": parts.groups, "draws": parts.members}
        row |= {"between": parts.between, "within": parts.within, "icc": parts.icc.value}
        yield {**row, "low": parts.icc.low, "high": parts.icc.high}


def _lineage(results: Results) -> Iterator[Row]:
    """Every step to every member of the front of searches with descendants; one row per figure."""
    for label, seed, rank, member in descent.members(results):
        chain = descent.lineage(results.histories[label][seed], member)
        row = {
            "strategy": label,
            "seed": seed,
            "member": member.proposal.hash,
            "finalist": "" if rank is None else rank,
        }
        for place, step in enumerate(descent.steps(chain, results.measure, descent.sizes(results))):
            proposal = step.evaluation.proposal
            row |= {"step": place, "round": proposal.round, "slot": proposal.slot, "hash": proposal.hash}
            row |= {"epochs": proposal.epochs, "changes": "; ".join(step.changes)}
            for name, value in step.figures.items():
                yield {**row, "figure": name, "value": value, "difference": step.differences.get(name, "")}


def _size(analysis: Analysis) -> Iterator[Row]:
    """Of spaces whose networks are changed step by step."""
    growth = analysis.growth
    if growth is None:
        return
    figure = growth.figure
    for label, found in growth.candidates.items():
        survivors = dict(growth.survivors[label])
        for round, mean, low, high in zip(found.x, found.mean, found.low, found.high, strict=True) if found else ():
            row = {"strategy": label, "round": round, "figure": figure, "mean": mean, "low": low, "high": high}
            yield {**row, "median_of_survivors": survivors.get(int(round), "")}
    for round, mean in nothing.means if (nothing := growth.unselected) else ():
        yield {"strategy": "without selection", "round": round, "figure": figure, "mean": mean}


def _foretelling(analysis: Analysis) -> Iterator[Row]:
    for label, entries in analysis.foretelling.items():
        for entry in entries:
            row = {"strategy": label, "epochs": entry.epochs, "candidates": entry.candidates}
            yield {
                **row,
                "correlation": entry.correlation.value,
                "low": entry.correlation.low,
                "high": entry.correlation.high,
            }
