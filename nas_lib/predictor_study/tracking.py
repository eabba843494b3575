"""Predictors of a study as runs in MLflow: one per problem, objective and predictor, made from the files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nas_lib.mlflow_store import Projection, Synced, bring_all_in_line, flat, ms
from nas_lib.predictor_study.settings import PredictorStudy

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("kendall", "spearman", "mape", "fit_seconds", "predict_seconds")


def sync(study: PredictorStudy) -> Synced:
    """Bring the runs in MLflow in line with the measurements, and attach report, figures and tables, if there are any.

    Raises:
        FileNotFoundError: measurements are not there yet.
        TrackingUnavailable: the store or server cannot be written; the next `sync` goes on where this one stopped.
    """
    return bring_all_in_line(study, [*_wanted(study)])


def _wanted(study: PredictorStudy) -> Iterator[Projection]:
    import pandas as pd

    for title in study.titles:
        path = study.folder.measurements(title)
        measured, finished = pd.read_parquet(path), path.stat().st_mtime
        for (objective, predictor), rows in measured.groupby(["objective", "predictor"], sort=False):
            yield _run(study, title, str(objective), str(predictor), rows, finished)


def _run(
    study: PredictorStudy, title: str, objective: str, predictor: str, rows: pd.DataFrame, finished: float
) -> Projection:
    """One predictor: means over the seeds, the number of architectures it learnt from being the step."""
    settings = {
        "problem": study.problem_content(title),
        "objective": objective,
        "predictor": predictor,
        "seeds": list(study.seeds),
        "held_out": int(rows["held_out"].max()),
    }
    points = [
        (metric, float(value), ms(finished), int(str(size)))
        for metric in METRICS
        for size, value in rows.groupby("size")[metric].mean().dropna().items()
    ]
    return Projection(
        id=f"{study.predictor_study}/{title}/{objective}/{predictor}",
        name=f"{title} {objective} {predictor}",
        status="FINISHED",
        started=finished - float(rows["fit_seconds"].sum() + rows["predict_seconds"].sum()),
        finished=finished,
        params=flat(settings),
        points=points,
        tags={"kind": "predictor", "problem": title, "objective": objective, "predictor": predictor},
    )
