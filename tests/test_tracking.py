"""MLflow shows what the files say: exactly one finished run each, wherever a sync was interrupted."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from nas_lib import comparison, mlflow_store, tracking
from nas_lib.experiment import Experiment
from nas_lib.layout import write_json
from nas_lib.mlflow_store import Synced, TrackingUnavailable
from nas_lib.records import Cost, Evaluation, Proposal
from nas_lib.search import read_proposals
from nas_lib.tracking import log_report, prepare, register, sync
from tests.synthetic import (
    BEGAN,
    DUPLICATE,
    FAILED,
    an_experiment,
    searches_of,
    write_evaluation,
    write_everything,
    write_finalist,
    write_model,
    write_round,
)

ROOT = Path(__file__).parent.parent
RUNS = 8
"""One search, six candidates, one finalist."""

MakeExperiment = Callable[..., Experiment]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the store of an experiment `another` was prepared, twice: creating it takes seconds."""
    folder = tmp_path_factory.mktemp("prepared")
    with contextlib.chdir(folder):
        experiment = an_experiment(Path(), experiment="another", tracking={"uri": "sqlite:///some/where/runs.db"})
        prepare(experiment)
        prepare(experiment)
    return folder


@pytest.fixture
def empty_store(prepared: Path) -> Path:
    """A SQLite store with all its tables."""
    return prepared / "some" / "where" / "runs.db"


@pytest.fixture
def make_experiment(tmp_path: Path, empty_store: Path) -> MakeExperiment:
    def make(**changes: Any) -> Experiment:
        experiment = an_experiment(tmp_path, **changes)
        store = Path(experiment.results) / "mlflow.db"
        if not store.exists():
            store.parent.mkdir()
            shutil.copy(empty_store, store)
        return experiment

    return make


@pytest.fixture
def finished(make_experiment: MakeExperiment) -> Experiment:
    experiment = make_experiment()
    write_everything(experiment)
    return experiment


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Experiment:
    """A finished experiment in line with MLflow, only to be read."""
    experiment = an_experiment(tmp_path_factory.mktemp("synced"))
    write_everything(experiment)
    shutil.copy(prepared / "some" / "where" / "runs.db", Path(experiment.results) / "mlflow.db")
    sync(experiment)
    return experiment


def client_of(experiment: Experiment) -> MlflowClient:
    return MlflowClient(tracking_uri=experiment.tracking_uri)


def runs_of(experiment: Experiment) -> dict[str, Run]:
    """All active runs by name; fails when two have the same."""
    client = client_of(experiment)
    folder = client.get_experiment_by_name(experiment.experiment)
    assert folder is not None
    runs = list(client.search_runs([folder.experiment_id], max_results=1000))
    by_name = {run.info.run_name: run for run in runs}
    assert len(by_name) == len(runs)
    return by_name


def points_of(experiment: Experiment, run: Run, metric: str) -> list[tuple[int, float]]:
    history = client_of(experiment).get_metric_history(run.info.run_id, metric)
    return sorted((point.step, point.value) for point in history)


def shown(experiment: Experiment) -> dict[str, Any]:
    """All that MLflow shows of an experiment, without the ids it has given."""
    runs = runs_of(experiment)
    names = {run.info.run_id: name for name, run in runs.items()}
    return {
        name: {
            "status": run.info.status,
            "times": (run.info.start_time, run.info.end_time),
            "params": run.data.params,
            "metrics": {metric: points_of(experiment, run, metric) for metric in run.data.metrics},
            "tags": {key: names.get(text, text) for key, text in run.data.tags.items()},
        }
        for name, run in runs.items()
    }


def test_three_syncs_leave_one_finished_run_each(finished: Experiment) -> None:
    assert sync(finished) == Synced(created=RUNS)
    first = shown(finished)
    assert [sync(finished), sync(finished)] == [Synced(unchanged=RUNS)] * 2
    assert shown(finished) == first
    assert sorted(first) == [
        "random-1",
        "random-1 finalist 0",
        *(f"random-1 r0{r} s{s}" for r in (0, 1) for s in range(3)),
    ]
    assert {run["status"] for name, run in first.items() if name != "random-1 r00 s1"} == {"FINISHED"}


def test_a_candidate_shows_its_genotype_curves_figures_and_times(synced: Experiment) -> None:
    runs = runs_of(synced)
    run = runs["random-1 r01 s2"]
    (search,) = searches_of(synced)
    proposal = read_proposals(search.folder, 1)[2]
    level = proposal.genotype["levels"][0]
    assert {name: run.data.params[f"level1.{name}"] for name in level} == {k: str(v) for k, v in level.items()}
    assert run.data.params["epochs"] == "2"
    curve = points_of(synced, run, "validation_error")
    assert [step for step, _ in curve] == [1, 2]
    assert run.data.metrics["error"] == curve[-1][1]
    assert {"parameters", "flops", "seconds"} < set(run.data.metrics)
    tags = {"strategy": "random", "seed": "1", "round": "1", "slot": "2", "hash": "hash-1-2", "device": "cpu"}
    assert tags.items() < run.data.tags.items()
    assert run.data.tags["mlflow.parentRunId"] == runs["random-1"].info.run_id
    assert run.data.tags["mlflow.note.content"] == synced.space.describe(proposal.genotype)
    assert (run.info.start_time, run.info.end_time) == (1000 * (BEGAN + 50), 1000 * (BEGAN + 60))


def test_a_failed_candidate_is_a_failed_run_with_its_reason(synced: Experiment) -> None:
    run = runs_of(synced)["random-1 r{:02d} s{}".format(*FAILED)]
    assert run.info.status == "FAILED"
    assert (run.data.tags["status"], run.data.tags["reason"]) == ("failed", "out of memory")
    assert run.data.params["epochs"] == "2"


def test_a_duplicate_has_the_objectives_of_its_original_and_no_curves(synced: Experiment) -> None:
    runs = runs_of(synced)
    original, duplicate = runs["random-1 r00 s0"], runs["random-1 r{:02d} s{}".format(*DUPLICATE)]
    assert duplicate.data.tags["duplicate_of"] == "round 0 slot 0"
    assert duplicate.data.metrics["error"] == original.data.metrics["error"]
    assert duplicate.data.metrics["seconds"] == 0
    assert "validation_error" not in duplicate.data.metrics
    assert duplicate.info.end_time == original.info.end_time


def test_a_finalist_shows_its_repeats_and_their_mean(synced: Experiment) -> None:
    run = runs_of(synced)["random-1 finalist 0"]
    assert run.data.tags["kind"] == "finalist"
    assert dict(points_of(synced, run, "test_error")) == pytest.approx({0: 0.2, 1: 0.3})
    assert run.data.metrics["test_error_mean"] == pytest.approx(0.25)
    assert run.data.metrics["test_error_sd"] == pytest.approx(0.0707, abs=1e-4)


def test_a_search_shows_its_configuration_and_its_course(synced: Experiment) -> None:
    run = runs_of(synced)["random-1"]
    assert {"strategy.name": "random", "seed": "1", "budget.rounds": "2", "objective2.name": "parameters"}.items() < (
        run.data.params.items()
    )
    assert points_of(synced, run, "failed") == [(1, 0), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)]
    compared = comparison.compare(synced)["searches"][0]
    assert points_of(synced, run, "hypervolume") == list(enumerate(compared["hypervolume"], 1))
    assert run.data.metrics["front_size"] == compared["front"]
    runs = [one for name, one in runs_of(synced).items() if " r0" in name and "error" in one.data.metrics]
    for objective in ("error", "parameters"):
        assert run.data.metrics[f"best_{objective}"] == min(one.data.metrics[objective] for one in runs)
        course = [value for _, value in points_of(synced, run, f"best_{objective}")]
        assert course == sorted(course, reverse=True)


def test_an_unfinished_search_is_scheduled_and_grows_with_its_results(make_experiment: MakeExperiment) -> None:
    experiment = make_experiment()
    (search,) = searches_of(experiment)
    write_round(search, 0, finished=2)
    sync(experiment)
    run = runs_of(experiment)["random-1"]
    assert (run.info.status, run.data.metrics["candidates"]) == ("SCHEDULED", 2)
    write_everything(experiment)
    assert sync(experiment) == Synced(created=5, updated=1, unchanged=2)
    grown = runs_of(experiment)["random-1"]
    assert (grown.info.run_id, grown.info.status) == (run.info.run_id, "FINISHED")
    assert points_of(experiment, grown, "candidates") == [(n, n) for n in range(1, 7)]


def test_evaluations_after_a_gap_wait_for_the_course_of_the_search(make_experiment: MakeExperiment) -> None:
    experiment = make_experiment()
    (search,) = searches_of(experiment)
    write_round(search, 0, finished=1)
    write_evaluation(search, read_proposals(search.folder, 0)[2])
    sync(experiment)
    runs = runs_of(experiment)
    assert sorted(runs) == ["random-1", "random-1 r00 s0", "random-1 r00 s2"]
    assert runs["random-1"].data.metrics["candidates"] == 1


class Stopped(BaseException):
    """The end of the process, as far as a test can imitate it."""


def dying_after(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, after which the process ends whenever it is called with new arguments."""
    seen = set()

    def call(self: object, *args: Any, **kwargs: Any) -> Any:
        result = method(self, *args, **kwargs)
        if (arguments := repr((args, kwargs))) not in seen:
            seen.add(arguments)
            raise Stopped
        return result

    return call


def test_a_sync_stopped_after_each_of_its_steps_ends_like_an_undisturbed_one(
    finished: Experiment, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(finished)
    undisturbed = shown(finished)
    shutil.copy(empty_store, Path(finished.results) / "mlflow.db")
    steps: list[tuple[type, str]] = [(MlflowClient, name) for name in ("create_run", "set_terminated")]
    steps += [(SqlAlchemyStore, name) for name in ("_log_params", "_log_metrics")]
    for place, name in steps:
        monkeypatch.setattr(place, name, dying_after(getattr(place, name)))
    stops = 0
    while True:
        try:
            sync(finished)
        except Stopped:
            stops += 1
        else:
            break
    assert stops >= 4 * RUNS - 1, "a step was not stopped after"
    assert shown(finished) == undisturbed


def test_a_sync_killed_by_the_system_is_completed_by_the_next(finished: Experiment) -> None:
    script = f"""
import os, signal, sys
from pathlib import Path
from mlflow import MlflowClient
from nas_lib.tracking import sync
from tests.synthetic import an_experiment
calls = 0
terminated = MlflowClient.set_terminated
def dying(*args):
    global calls
    calls += 1
    if calls == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    terminated(*args)
MlflowClient.set_terminated = dying
sync(an_experiment(Path({str(Path(finished.results).parent)!r})))
"""
    killed = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (killed.returncode, killed.stdout, killed.stderr) == (-signal.SIGKILL, "", "")
    assert [run.info.status for run in runs_of(finished).values()].count("RUNNING") == 1
    assert sync(finished) == Synced(created=RUNS - 3, updated=1, unchanged=2)
    assert {run.info.status for run in runs_of(finished).values()} == {"FINISHED", "FAILED"}


def test_a_new_result_of_a_candidate_replaces_its_run(finished: Experiment) -> None:
    sync(finished)
    (search,) = searches_of(finished)
    write_evaluation(search, read_proposals(search.folder, 1)[2], error=0.0)
    write_json(finished.folder.comparison, comparison.compare(finished))
    synced = sync(finished)
    assert (synced.created, synced.replaced) == (0, 2), "the candidate and the course of its search"
    runs = runs_of(finished)
    assert runs["random-1 r01 s2"].data.metrics["error"] == 0.0
    assert {run.data.tags["mlflow.parentRunId"] for name, run in runs.items() if name != "random-1"} == {
        runs["random-1"].info.run_id
    }
    assert sync(finished) == Synced(unchanged=RUNS)


def test_a_continued_search_keeps_the_runs_of_its_candidates(finished: Experiment) -> None:
    sync(finished)
    before = runs_of(finished)
    longer = finished.model_copy(update={"budget": finished.budget.model_copy(update={"rounds": 3})})
    write_everything(longer)
    assert sync(longer) == Synced(created=3, replaced=1, updated=RUNS - 1)
    after = runs_of(longer)
    assert after["random-1"].data.params["budget.rounds"] == "3"
    for name in before.keys() - {"random-1"}:
        assert after[name].info.run_id == before[name].info.run_id
        assert after[name].data.tags["mlflow.parentRunId"] == after["random-1"].info.run_id


def test_a_second_run_of_a_candidate_is_removed_and_runs_of_others_are_left_alone(finished: Experiment) -> None:
    sync(finished)
    client = client_of(finished)
    run = runs_of(finished)["random-1 r00 s0"]
    client.create_run(run.info.experiment_id, run_name="second", tags={mlflow_store.ID: run.data.tags[mlflow_store.ID]})
    client.create_run(run.info.experiment_id, run_name="of somebody else")
    assert sync(finished).removed == 1
    assert runs_of(finished).keys() >= {"random-1", "of somebody else"}
    assert len(runs_of(finished)) == RUNS + 1


def test_a_half_made_run_of_a_candidate_without_files_is_removed(finished: Experiment) -> None:
    sync(finished)
    client = client_of(finished)
    folder = runs_of(finished)["random-1"].info.experiment_id
    client.create_run(folder, run_name="half", tags={mlflow_store.ID: "made-up/random/seed-1/round-9/slot-0"})
    assert sync(finished) == Synced(unchanged=RUNS, removed=1)
    assert "half" not in runs_of(finished)


def test_a_deleted_experiment_comes_back(finished: Experiment) -> None:
    sync(finished)
    client = client_of(finished)
    client.delete_experiment(runs_of(finished)["random-1"].info.experiment_id)
    assert sync(finished) == Synced(unchanged=RUNS)
    assert len(runs_of(finished)) == RUNS


def test_a_deleted_store_is_made_again_within_one_process(finished: Experiment, empty_store: Path) -> None:
    sync(finished)
    store = Path(finished.results) / "mlflow.db"
    store.unlink()
    shutil.copy(empty_store, store)
    assert sync(finished) == Synced(created=RUNS)
    assert len(runs_of(finished)) == RUNS


def test_several_searches_share_one_mlflow_experiment(make_experiment: MakeExperiment) -> None:
    experiment = make_experiment(
        strategies=["random", {"name": "random", "label": "again"}],
        seeds=[1, 2],
        budget={"rounds": 1, "proposals": 1, "jobs": 1, "epochs": 1},
        finalists={"count": 0},
    )
    write_everything(experiment)
    assert sync(experiment) == Synced(created=8)
    assert {"random-1", "random-2", "again-1", "again-2"} < runs_of(experiment).keys()


def test_more_metrics_and_parameters_than_one_call_takes_are_all_there(
    make_experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_store, "METRICS_PER_BATCH", 3)
    monkeypatch.setattr(mlflow_store, "PARAMS_PER_BATCH", 2)
    experiment = make_experiment(budget={"rounds": 1, "proposals": 1, "jobs": 1, "epochs": 7})
    (search,) = searches_of(experiment)
    write_round(search, 0)
    sync(experiment)
    run = runs_of(experiment)["random-1 r00 s0"]
    assert [step for step, _ in points_of(experiment, run, "train_loss")] == [1, 2, 3, 4, 5, 6, 7]
    assert {"level1.nodes", "level1.p", "merge.sum", "draw", "epochs", "origin"} < run.data.params.keys()


def test_prepare_makes_store_and_experiment_with_artifacts_below_the_results(prepared: Path) -> None:
    assert sorted(path.name for path in prepared.iterdir()) == ["results", "some"]
    assert [path.name for path in (prepared / "some" / "where").iterdir()] == ["runs.db"]
    found = MlflowClient(tracking_uri=f"sqlite:///{prepared}/some/where/runs.db").get_experiment_by_name("another")
    assert found is not None
    assert found.artifact_location == (prepared / "results" / "mlartifacts").as_uri()


def test_a_dead_server_is_one_clear_line_without_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        experiment = an_experiment(tmp_path, tracking={"uri": f"http://me:pass@127.0.0.1:{port}"})
        write_model(searches_of(experiment)[0], 0)
        for write in (prepare, sync, register):
            with pytest.raises(TrackingUnavailable) as caught:
                write(experiment)
            (line,) = str(caught.value).splitlines()
            assert line.startswith(f"tracking: http://***@127.0.0.1:{port}: [Errno 111] Connection refused; the search")


def test_a_dead_server_is_tried_twice_unless_the_user_wants_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    with pytest.raises(TrackingUnavailable, match=r"^tracking: nonsense://: .*nonsense"):
        prepare(an_experiment(tmp_path, tracking={"uri": "nonsense://"}))
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"


def test_a_damaged_store_is_one_clear_line(tmp_path: Path) -> None:
    experiment = an_experiment(tmp_path)
    store = Path(experiment.results) / "mlflow.db"
    store.parent.mkdir()
    store.write_text("this is no database" * 100)
    with pytest.raises(TrackingUnavailable, match=r"^tracking: sqlite:.*: file is not a database; the search goes on"):
        sync(experiment)


def test_the_report_is_attached_once_and_again_when_it_changed(finished: Experiment) -> None:
    log_report(finished)
    prepare(finished)
    assert runs_of(finished) == {}, "there is nothing to attach yet"
    finished.folder.figures.mkdir()
    (finished.folder.figures / "front.svg").write_text("<svg/>")
    finished.folder.tables.mkdir()
    (finished.folder.tables / "candidates.csv").write_text("strategy")
    for text in ("first", "first", "second"):
        finished.folder.report.write_text(text)
        log_report(finished)
        run = runs_of(finished)["report"]
        artifacts = Path(finished.results) / "mlartifacts" / run.info.run_id / "artifacts"
        assert run.info.status == "FINISHED"
        assert (artifacts / "report.html").read_text() == text
        assert (artifacts / "figures" / "front.svg").read_text() == "<svg/>"
        assert (artifacts / "tables" / "candidates.csv").read_text() == "strategy"
    assert sync(finished) == Synced(created=RUNS), "sync leaves the report alone"


MODEL = "made-up-random-seed-1-finalist-0"


def versions_of(experiment: Experiment) -> list[ModelVersion]:
    found = client_of(experiment).search_model_versions(f"name = '{MODEL}'")
    return sorted(found, key=lambda version: int(version.version))


def current_of(experiment: Experiment) -> str:
    return str(client_of(experiment).get_model_version_by_alias(MODEL, "current").version)


def test_a_model_is_registered_once_and_again_when_its_files_changed(finished: Experiment) -> None:
    assert register(finished) == 0, "nothing is exported yet"
    sync(finished)
    (search,) = searches_of(finished)
    write_model(search, 0)
    assert [register(finished), register(finished)] == [1, 0]
    (version,) = versions_of(finished)
    assert version.tags["test_error_mean"] == "0.25"
    assert version.description == "# A model\n"
    assert version.run_id == runs_of(finished)["random-1 finalist 0"].info.run_id
    write_model(search, 0, shift=1.0)
    assert [register(finished), register(finished)] == [1, 0]
    assert len(versions_of(finished)) == 2
    assert current_of(finished) == "2"
    write_model(search, 0)
    assert register(finished) == 0, "the files of the first version are back"
    assert current_of(finished) == "1"
    assert sync(finished) == Synced(unchanged=RUNS)


def test_a_registered_model_is_loaded_in_three_lines(finished: Experiment) -> None:
    (search,) = searches_of(finished)
    write_model(search, 0, shift=0.5)
    register(finished)
    script = f"""
import mlflow, numpy
images = numpy.zeros((3, 1, 1, 2), dtype=numpy.float32)
model = mlflow.pyfunc.load_model("models:/{MODEL}@current")
print(model.predict(images)["logits"].tolist(), model.metadata.signature.inputs, model.input_example.shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "MLFLOW_TRACKING_URI": finished.tracking_uri},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]] [Tensor('float32', (-1, 1, 1, 2))] (1, 1, 1, 2)"
    assert not list(Path(finished.results).rglob("*.pkl"))


def test_a_registration_stopped_after_each_of_its_steps_is_completed_by_the_next(
    finished: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(searches_of(finished)[0], 0)
    names = [
        *("create_registered_model", "create_logged_model", "log_model_artifacts", "finalize_logged_model"),
        *("create_model_version", "set_registered_model_alias"),
    ]
    for name in names:
        monkeypatch.setattr(MlflowClient, name, stopping_once(getattr(MlflowClient, name)))
    stops = 0
    while True:
        try:
            register(finished)
        except Stopped:
            stops += 1
        else:
            break
    assert stops == len(names)
    assert len(versions_of(finished)) == 1
    client = client_of(finished)
    folder = client.get_experiment_by_name(finished.experiment)
    assert folder is not None
    (model,) = client.search_logged_models([folder.experiment_id])
    assert (model.status, model.artifact_location) == ("READY", versions_of(finished)[0].source)


def stopping_once(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, which does its work and then stops everything, the first time."""
    calls = []

    def call(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        calls.append(args)
        if len(calls) == 1:
            raise Stopped
        return result

    return call


def test_results_on_a_second_data_set_are_runs_of_their_own(make_experiment: MakeExperiment) -> None:
    experiment = make_experiment(transfer={"task": {"name": "mnist"}, "epochs": 6, "repeats": 3})
    write_everything(experiment)
    write_finalist(searches_of(experiment)[0], 0, transfer=True)
    assert sync(experiment) == Synced(created=RUNS + 1)
    first, second = (runs_of(experiment)[f"random-1 {kind} 0"] for kind in ("finalist", "transfer"))
    assert (first.data.tags["task"], second.data.tags["task"]) == ("digits", "mnist")
    assert second.data.tags["kind"] == "transfer"
    assert points_of(experiment, second, "test_error") == [(0, 0.2), (1, 0.2 + 0.1), (2, 0.4)]
    assert second.data.metrics["test_error_mean"] == pytest.approx(0.3)


def test_a_search_has_the_figures_that_concern_it_also_after_it_was_replaced(finished: Experiment) -> None:
    finished.folder.figures.mkdir()
    names = ("front.svg", "front.pdf", "graph-random-seed-1-finalist-0.svg", "graph-random-seed-11-finalist-0.svg")
    for name in names:
        (finished.folder.figures / name).write_text(name)
    for rounds in (2, 3):
        longer = finished.model_copy(update={"budget": finished.budget.model_copy(update={"rounds": rounds})})
        write_everything(longer)
        sync(longer)
        log_report(longer)
        run = runs_of(longer)["random-1"]
        attached = Path(finished.results) / "mlartifacts" / run.info.run_id / "artifacts" / "figures"
        assert sorted(path.name for path in attached.iterdir()) == ["front.svg", "graph-random-seed-1-finalist-0.svg"]
        assert sync(longer).unchanged == len(runs_of(longer)) - 1, "all but the report"


def test_a_search_imports_no_mlflow() -> None:
    script = "import sys, nas_lib.search; print('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("cost", "figures"),
    [
        (Cost(seconds=2.0, energy=30.5, peak_memory=1024), {"seconds": 2.0, "energy": 30.5, "peak_memory": 1024.0}),
        (Cost(seconds=2.0), {"seconds": 2.0}),
    ],
)
def test_energy_and_memory_are_metrics_where_they_are_known(cost: Cost, figures: dict[str, float]) -> None:
    proposal = Proposal(round=0, slot=0, genotype={}, hash="h", epochs=1)
    evaluation = Evaluation(proposal=proposal, status="ok", objectives={"error": 0.5}, cost=cost)
    points = tracking._candidate_points(evaluation, 0.0, 1.0)
    assert {name: value for name, value, *_ in points} == {"error": 0.5, **figures}
