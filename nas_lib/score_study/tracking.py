"""Scores of a study as runs in MLflow: one per benchmark and score or combination, made from the files."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from nas_lib.mlflow_store import Projection, Synced, bring_all_in_line, flat, ms
from nas_lib.score_study.analysis import Analysis, Correlation, Gain, Others
from nas_lib.score_study.measure import costs
from nas_lib.score_study.settings import ScoreStudy


def sync(study: ScoreStudy) -> Synced:
    """Bring the runs in MLflow in line with the analysis, and attach report, figures and tables, if there are any.

    Raises:
        FileNotFoundError: an analysis is not there yet.
        TrackingUnavailable: the store or server cannot be written; the next `sync` goes on where this one stopped.
    """
    return bring_all_in_line(study, [*_wanted(study)])


def _wanted(study: ScoreStudy) -> Iterator[Projection]:
    for title in study.titles:
        path = study.folder.analysis(title)
        analysis, finished = Analysis.model_validate_json(path.read_text()), path.stat().st_mtime
        mean = costs(study, title).groupby("score")["seconds"].mean()
        for score in analysis.scores:
            seconds = {"cpu_seconds": float(mean[score])} if score in mean else {}
            yield _run(study, title, score, analysis, seconds, finished)


def _run(
    study: ScoreStudy, title: str, score: str, analysis: Analysis, seconds: dict[str, float], finished: float
) -> Projection:
    """One score: coefficients with their intervals, what is kept of the best tenth, and its cost.

    `others_...`: of the networks on which combinations were not chosen.
    """
    metrics = seconds | _agreement(analysis, score)
    if others := analysis.others:
        metrics |= {f"others_{name}": value for name, value in _agreement(others, score).items()}
        for one in others.gains:
            if one.combination == score:
                metrics |= _estimate(f"others_gain_{one.coefficient}_{one.subset}", one)
    settings = {"benchmark": study.benchmark_content(title), "score": score, "seeds": list(study.seeds)}
    kind = "score"
    if its := study.combinations.get(score):
        kind, settings = "combination", settings | {"combines": list(its)}
    return Projection(
        id=f"{study.score_study}/{title}/{score}",
        name=f"{title} {score}",
        status="FINISHED",
        started=finished,
        finished=finished,
        params=flat(settings | {"networks": analysis.networks, "measured": analysis.quantity}),
        points=[(metric, value, ms(finished), 0) for metric, value in metrics.items() if isfinite(value)],
        tags={"kind": kind, "benchmark": title, "score": score},
    )


def _agreement(found: Analysis | Others, score: str) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for one in found.correlations:
        if one.score == score:
            metrics |= _estimate(f"{one.coefficient}_{one.subset}", one)
    return metrics | {f"kept_of_best_by_{one.share:g}": one.kept for one in found.kept if one.score == score}


def _estimate(name: str, one: Correlation | Gain) -> dict[str, float]:
    return {name: one.value, f"{name}_low": one.low, f"{name}_high": one.high}
