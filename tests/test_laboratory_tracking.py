"""A laboratory in MLflow: one run per search, whatever happens to the server or to this process."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from nas_lib.laboratory.comparison import write_comparison
from nas_lib.laboratory.settings import Laboratory
from nas_lib.laboratory.tracking import sync
from nas_lib.mlflow_store import Synced, TrackingUnavailable
from nas_lib.report.laboratory import write_report
from tests.laboratories import a_laboratory, a_table, write_search

GOOD = [(3, 0), (0, 3), (2, 1), (1, 2)]
"""Hypervolume below (4, 4), of 10 units: 4, 7, 9, 10."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    """Two strategies, two seeds, compared; the second evaluation of `random` repeats the first."""
    laboratory = a_laboratory(tmp_path_factory.mktemp("finished"))
    for seed in laboratory.seeds:
        write_search(laboratory, "staircase", "good", seed, GOOD)
        write_search(laboratory, "staircase", "random", seed, [(3, 0), (3, 0), (4, 1)], repeats=(1,))
    write_comparison(laboratory)
    sync(laboratory)
    return laboratory


def runs(laboratory: Laboratory) -> dict[str, Run]:
    client = MlflowClient(laboratory.tracking_uri)
    experiment = client.get_experiment_by_name(laboratory.laboratory)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in found}) == len(found)
    return {str(run.info.run_name): run for run in found}


def test_every_search_is_a_run_with_its_settings_and_figures(finished: Laboratory) -> None:
    found = runs(finished)
    assert found.keys() == {f"staircase {label}-{seed}" for label in ("good", "random") for seed in (1, 2)}
    run = found["staircase random-2"]
    assert run.info.status == "FINISHED"
    assert (
        run.data.tags.items() >= {"problem": "staircase", "strategy": "random", "seed": "2", "kind": "search"}.items()
    )
    assert run.data.params["budget.evaluations"] == "4"
    assert run.data.params["seed"] == "2"
    assert run.data.metrics == pytest.approx(
        {"hypervolume": 0.4, "evaluations": 2, "repeats": 1, "igd_plus": run.data.metrics["igd_plus"]}
        | {"proposing_seconds": 1.0, "proposing_seconds_per_proposal": 1 / 3}
    )


def test_hypervolume_is_a_curve_over_distinct_evaluations(finished: Laboratory) -> None:
    client = MlflowClient(finished.tracking_uri)
    run = runs(finished)["staircase good-1"]
    points = client.get_metric_history(run.info.run_id, "hypervolume")
    assert [point.step for point in points] == [1, 2, 3, 4]
    assert [point.value for point in points] == pytest.approx([0.4, 0.7, 0.9, 1.0])


def test_names_that_mlflow_does_not_permit_are_changed(tmp_path: Path) -> None:
    frame = pd.read_csv(a_table(tmp_path)).rename(columns={"loss": "loss (%)"})
    frame.to_csv(tmp_path / "odd.csv", index=False)
    problem = {"name": "table", "path": str(tmp_path / "odd.csv"), "genes": ["a", "b"]}
    problem |= {"objectives": ["loss (%)", "cost"]}
    budget = {"evaluations": 4, "batch": 4}
    laboratory = a_laboratory(tmp_path, problems=[problem], strategies=["random"], seeds=[1], budget=budget)
    write_search(laboratory, "odd", "random", 1, GOOD, predicted=np.array([1.0, 2.0, 3.0, 4.0]))
    write_comparison(laboratory)
    sync(laboratory)
    assert "rank_correlation_loss ___" in runs(laboratory)["odd random-1"].data.metrics


def test_a_second_time_nothing_is_made_and_a_changed_search_replaces_its_run_alone(finished: Laboratory) -> None:
    before = {name: run.info.run_id for name, run in runs(finished).items()}
    assert sync(finished) == Synced(unchanged=4)
    comparison = finished.folder.comparison.read_text()
    content: dict[str, Any] = json.loads(comparison)
    content["problems"]["staircase"]["searches"][0]["repeats"] = 3
    finished.folder.comparison.write_text(json.dumps(content))
    assert sync(finished) == Synced(replaced=1, unchanged=3)
    after = {name: run.info.run_id for name, run in runs(finished).items()}
    assert {name for name in before if before[name] != after[name]} == {"staircase good-1"}
    finished.folder.comparison.write_text(comparison)


@pytest.fixture
def reported(finished: Laboratory) -> Iterator[Laboratory]:
    write_report(finished)
    yield finished
    finished.folder.report.unlink()


def test_the_report_is_attached_to_a_run_of_its_own_once(reported: Laboratory) -> None:
    sync(reported)
    sync(reported)
    report = runs(reported)["report"]
    client = MlflowClient(reported.tracking_uri)
    assert [artifact.path for artifact in client.list_artifacts(report.info.run_id)] == ["report.html"]
    assert "mlflow ui --backend-store-uri" in reported.folder.report.read_text()


def test_a_dead_server_is_one_clear_line(finished: Laboratory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://me:pass@127.0.0.1:{closed.getsockname()[1]}"
        laboratory = finished.model_copy(update={"tracking": finished.tracking.model_copy(update={"uri": uri})})
        with pytest.raises(TrackingUnavailable, match=r"^tracking: http://\*\*\*@127.0.0.1:\d+: \[Errno 111\]"):
            sync(laboratory)
