"""The workflow with real processes: planned, run, killed at any moment, continued, and refused with a clear line."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from nas_lib import search as loop
from nas_lib.experiment import Experiment, load
from nas_lib.search import Search
from tests.test_search import TINY, comparable, write_npz
from tests.workflows import WorkflowCopy, kill_group, wait_until

CONFIGURATION = TINY | {
    "budget": {"rounds": 2, "proposals": 2, "jobs": 2, "epochs": 6},
    "finalists": {"count": 1, "repeats": 1, "epochs": 2},
}
HISTORY = "results/tiny/random/seed-1/history.parquet"


class Project(WorkflowCopy):
    """A copy of the workflow with one small experiment."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        super().__init__(folder, CONFIGURATION | changes)

    @property
    def experiment(self) -> Experiment:
        return load(self.folder / "tiny.yaml")

    def search(self) -> Search:
        return Search(self.experiment.model_copy(update={"results": str(self.folder / "results")}), "random", 1)

    def history(self) -> list[dict[str, Any]]:
        return comparable(self.search())

    def paths(self, pattern: str) -> list[Path]:
        return sorted((self.folder / "results/tiny/random/seed-1").glob(pattern))

    def trainings(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter(["cmdline", "cwd"]):
            words = process.info["cmdline"] or []
            if "evaluate" in words and "nas_lib" in words and process.info["cwd"] == str(self.folder):
                found.append(process)
        return found


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    yield project
    project.end()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The history of the same search in one process, never interrupted."""
    project = Project(tmp_path_factory.mktemp("expected"))
    loop.run_inline(project.search())
    return project.history()


def test_a_search_killed_again_and_again_continues_to_the_same_history_and_does_nothing_twice(
    project: Project, expected: list[dict[str, Any]]
) -> None:
    done: dict[Path, int] = {}

    def note_what_is_done() -> None:
        for path in project.paths("round-*/candidate-*/evaluation.json"):
            done.setdefault(path, path.stat().st_mtime_ns)

    everything = project.start(HISTORY)
    wait_until(lambda: project.paths("round-0/candidate-*/owner"), everything)
    kill_group(everything)  # before the first epoch

    trainings = project.start(HISTORY)
    wait_until(lambda: project.paths("round-0/candidate-*/epoch.json") and project.trainings(), trainings)
    for training in project.trainings():  # between epochs; Snakemake starts them again
        training.kill()
    wait_until(lambda: project.paths("round-0/candidate-*/evaluation.json"), trainings)
    kill_group(trainings)  # after the first candidate
    note_what_is_done()
    assert 0 < len(done) < len(expected)

    snakemake_alone = project.start(HISTORY)
    wait_until(lambda: project.paths("round-1/candidate-*/epoch.json"), snakemake_alone)
    snakemake_alone.kill()  # between epochs of the last round; its trainings go on
    note_what_is_done()

    code, output = project.run(HISTORY)
    assert code == 0, output
    assert project.history() == expected
    assert {path: path.stat().st_mtime_ns for path in done} == done


def test_one_command_goes_from_data_to_report_and_a_second_one_has_nothing_to_do(
    tmp_path: Path, expected: list[dict[str, Any]]
) -> None:
    write_npz(tmp_path / "second.npz")
    second = {"task": {"name": "npz", "path": "second.npz"}, "epochs": 1, "repeats": 1}
    project = Project(tmp_path, transfer=second)
    code, output = project.run()
    assert code == 0, output
    assert "Report:  results/tiny/report.html" in output
    assert "1/2" in output or "2/2" in output  # progress: rounds
    assert (project.folder / "results/tiny/report.html").stat().st_size > 100_000
    assert project.history() == expected
    (finalist,) = project.paths("finalists/0")
    assert {path.name for path in (finalist / "model").iterdir()} == {
        *("weights.pt", "model.pt2", "model.onnx", "card.md", "card.json", "examples.npz", "export.json")
    }
    assert json.loads((finalist / "transfer.json").read_text())["repeats"][0]["metrics"].keys() >= {"test_error"}
    assert json.loads((project.folder / "results/tiny/tracking.json").read_text())["model_versions"] == 1
    assert json.loads((project.folder / "results/tiny/data.json").read_text())["transfer"]["shape"]["channels"] == 3
    stored = json.loads((project.folder / "results/tiny/experiment.json").read_text())
    assert stored["training"]["momentum"] == 0.9, "stored experiments hold the defaults they ran with"
    code, output = project.run()
    assert code == 0
    assert "Nothing to be done" in output


def test_earlier_rounds_are_evaluated_first_for_later_ones_wait_for_them(tmp_path: Path) -> None:
    project = Project(tmp_path, budget={"rounds": 3, "proposals": 1, "jobs": 1, "lag": 2, "epochs": 1})
    code, output = project.run("--cores", "1", HISTORY)
    assert code == 0, output
    history = pd.read_parquet(tmp_path / HISTORY).sort_values("cost.started")
    assert history["round"].tolist() == [0, 1, 2]


def test_inline_execution_gives_the_history_of_the_jobs(tmp_path: Path, expected: list[dict[str, Any]]) -> None:
    project = Project(tmp_path, budget={**CONFIGURATION["budget"], "inline": True})
    code, output = project.run(HISTORY)
    assert code == 0, output
    assert project.history() == expected


def test_more_rounds_continue_a_finished_search(project: Project, expected: list[dict[str, Any]]) -> None:
    budget = {**CONFIGURATION["budget"], "jobs": 1}
    project.configure(CONFIGURATION | {"budget": {**budget, "rounds": 1}})
    project.run(HISTORY)
    finished = {path: path.stat().st_mtime_ns for path in project.paths("round-0/job-*.jsonl")}
    project.configure(CONFIGURATION | {"budget": budget})
    code, output = project.run(HISTORY)
    assert code == 0, output
    assert project.history() == expected
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


def test_a_dry_run_shows_the_plan_and_touches_nothing(project: Project) -> None:
    code, output = project.run("-n")
    assert code == 0
    assert re.search(r"^evaluate +4$", output, re.MULTILINE)
    assert not (project.folder / "results").exists()


def test_a_chain_of_a_thousand_rounds_can_be_planned(tmp_path: Path) -> None:
    project = Project(tmp_path, budget={"rounds": 1000, "proposals": 1, "jobs": 1})
    code, output = project.run("-n", "results/tiny/random/seed-1/round-999/job-0.jsonl")
    assert code == 0, output[-2000:]
    assert re.search(r"^evaluate +1000$", output, re.MULTILINE)


def test_a_wrong_configuration_is_refused_in_plain_lines_before_anything_runs(tmp_path: Path) -> None:
    project = Project(tmp_path, budgett={}, seeds=["one"])
    code, output = project.run()
    assert code != 0
    assert "tiny.yaml: budgett: unknown key (did you mean 'budget'?)" in output
    assert "tiny.yaml: seeds.0: found 'one', allowed is a whole number" in output
    assert "Traceback" not in output
    assert not (tmp_path / "results").exists()


def test_results_of_another_configuration_are_not_overwritten(project: Project) -> None:
    loop.propose_round(project.search(), 0)
    project.configure(CONFIGURATION | {"objectives": ["error", "parameters"]})
    code, output = project.run()
    assert code != 0
    assert "tiny.yaml: results/tiny/random/seed-1 holds results made with another objectives" in output


def test_missing_data_is_one_clear_line(tmp_path: Path) -> None:
    project = Project(tmp_path, task={"name": "npz", "path": "nowhere.npz"})
    code, output = project.run("results/tiny/data.json")
    assert code != 0
    assert "nowhere.npz" in output
    assert "Traceback" not in output


def test_a_dead_tracking_server_stops_nothing(tmp_path: Path) -> None:
    budget = {"rounds": 1, "proposals": 2, "jobs": 1, "epochs": 1}
    project = Project(tmp_path, budget=budget, tracking={"uri": "http://127.0.0.1:9"})
    code, output = project.run("results/tiny/tracking-store.done", HISTORY)
    assert code == 0, output
    assert len(project.history()) == 2
    assert "warning" in (tmp_path / "results/tiny/logs/tracking-store.log").read_text()


@pytest.mark.parametrize(
    ("resources", "options", "slots"),
    [
        ({"devices": ["cuda:0", "cuda:1"], "gpu_slots": 2}, [], "4"),
        ({"devices": ["cuda:0", "cuda:1"], "gpu_slots": 2}, ["--resources", "gpu_slots=3"], "3"),
        ({"devices": ["cpu"], "gpu_slots": 2}, [], None),
    ],
)
def test_no_more_jobs_start_than_gpus_have_slots(
    tmp_path: Path, resources: dict[str, Any], options: list[str], slots: str | None
) -> None:
    code, output = Project(tmp_path, resources=resources).run("--quiet", "host", "--until", "data", *options)
    assert code == 0, output
    assert re.findall(r"gpu_slots\W+Resource\(\"gpu_slots\", (\d+)\)", output) == ([slots] if slots else [])
