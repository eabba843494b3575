"""Searches of the laboratory as runs in MLflow: one per problem, strategy and seed, made from the files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nas_lib.laboratory.settings import Laboratory
from nas_lib.mlflow_store import Projection, Synced, bring_all_in_line, flat, ms


def sync(laboratory: Laboratory) -> Synced:
    """Bring the runs in MLflow in line with the comparison, and attach report, figures and tables as far as they exist.

    Raises:
        FileNotFoundError: there is no comparison yet.
        TrackingUnavailable: the store or server cannot be written; the next `sync` goes on where this one stopped.
    """
    comparison = json.loads(laboratory.folder.comparison.read_text())
    return bring_all_in_line(laboratory, _searches(laboratory, comparison))


def _searches(laboratory: Laboratory, comparison: Mapping[str, Any]) -> Iterator[Projection]:
    for title, problem in comparison["problems"].items():
        for search in problem["searches"]:
            yield _search(laboratory, title, problem, search)


def _search(laboratory: Laboratory, title: str, problem: Mapping[str, Any], search: Mapping[str, Any]) -> Projection:
    """One search: hypervolume (share of the front's) at steps of distinct evaluations; the rest at its end."""
    label, seed = search["strategy"], search["seed"]
    times = json.loads(laboratory.folder.search(title, label, seed).rounds.read_text())
    settings = json.loads(laboratory.settings_of_search(title, label)) | {"seed": seed}
    return Projection(
        id=f"{laboratory.laboratory}/{title}/{label}/seed-{seed}",
        name=f"{title} {label}-{seed}",
        status="FINISHED",
        started=times["started"],
        finished=times["finished"],
        params=flat(settings),
        points=[(name, float(value), ms(times["finished"]), step) for name, value, step in _figures(search)],
        tags={
            "kind": "search",
            "problem": title,
            "strategy": label,
            "seed": str(seed),
            "objectives": ", ".join(problem["objectives"]),
        },
    )


def _figures(search: Mapping[str, Any]) -> Iterable[tuple[str, float, int]]:
    """Metric, value, step."""
    for step, share in enumerate(search["hypervolume"], 1):
        yield "hypervolume", share, step
    for name, rounds in search["foretold"].items():
        for entry in rounds:
            yield f"rank_correlation_{name}", entry["correlation"], entry["round"]
    last = search["evaluations"]
    yield "evaluations", last, last
    yield "repeats", search["repeats"], last
    yield "proposing_seconds", search["proposing_seconds"]["total"], last
    yield "proposing_seconds_per_proposal", search["proposing_seconds"]["per_proposal"], last
    if search["igd_plus"] is not None:
        yield "igd_plus", search["igd_plus"], last
    if search["found"] is not None:
        yield "evaluations_to_the_best", search["found"], last
