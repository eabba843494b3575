"""The laboratory's workflow with real processes: run, killed, continued, changed, and refused with a clear line."""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nas_lib.laboratory.search import run_search
from nas_lib.laboratory.settings import parse
from tests.laboratories import a_table
from tests.workflows import WorkflowCopy, kill_group, wait_until

CONFIGURATION: dict[str, Any] = {
    "laboratory": "tiny",
    "problems": [
        {"name": "grid", "genes": 4, "options": 3},
        {"name": "table", "path": "staircase.csv", "genes": ["a", "b"], "objectives": ["loss", "cost"]},
    ],
    "strategies": [{"name": "nsga2", "population": 4}, "random"],
    "budget": {"evaluations": 8, "batch": 4},
    "seeds": [1],
}
SEARCHES = 4


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[WorkflowCopy]:
    a_table(tmp_path)
    copy = WorkflowCopy(tmp_path, CONFIGURATION)
    yield copy
    copy.end()


def searches(folder: Path) -> dict[str, Path]:
    """The evaluations of finished searches, by problem, strategy and seed."""
    results = folder / "results/tiny"
    return {str(path.parent.relative_to(results)): path for path in results.glob("*/*/seed-*/history.parquet")}


def histories(folder: Path) -> dict[str, str]:
    return {name: pd.read_parquet(path).to_json() for name, path in searches(folder).items()}


def planned(copy: WorkflowCopy, content: dict[str, Any]) -> set[tuple[str, str, str]]:
    """Problem, strategy and seed of the searches that would run with another configuration."""
    copy.configure(content)
    code, output = copy.run("--dry-run", "--verbose", "--quiet", "host")
    assert code == 0, output
    return set(re.findall(r"wildcards: problem=(\S+), strategy=(\S+), seed=(\S+)", output))


def test_a_killed_run_continues_to_the_results_of_an_uninterrupted_one(
    copy: WorkflowCopy, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = copy.start("--cores", "1")
    wait_until(lambda: len(searches(copy.folder)) == 1, process)
    kill_group(process)
    process.communicate()
    assert len(searches(copy.folder)) < SEARCHES
    code, output = copy.run()
    assert code == 0, output
    assert f"{SEARCHES} of" in output  # progress: steps
    assert "Report:  results/tiny/report.html" in output
    assert (copy.folder / "results/tiny/report.html").stat().st_size > 100_000
    assert json.loads((copy.folder / "results/tiny/laboratory.json").read_text())["seeds"] == [1]
    assert json.loads((copy.folder / "results/tiny/tracking.json").read_text())["created"] == SEARCHES

    elsewhere = tmp_path_factory.mktemp("uninterrupted")
    a_table(elsewhere)
    monkeypatch.chdir(elsewhere)
    laboratory = parse(CONFIGURATION, "tiny.yaml")
    for title, label in itertools.product(laboratory.titles, laboratory.labels):
        run_search(laboratory, title, label, 1)
    assert histories(copy.folder) == histories(elsewhere)
    assert len(histories(elsewhere)) == SEARCHES

    code, output = copy.run()
    assert code == 0
    assert "Nothing to be done" in output


def test_a_changed_setting_reruns_the_searches_it_concerns_and_no_others(copy: WorkflowCopy) -> None:
    code, output = copy.run("--until", "search")
    assert code == 0, output
    nsga2, random = CONFIGURATION["strategies"]
    more = {"strategies": [nsga2, "ageing", random], "seeds": [1, 2]}
    assert planned(copy, CONFIGURATION | more) == {
        (title, label, seed)
        for title in ("zdt1-4x3", "staircase")
        for label, seed in (("ageing", "1"), ("nsga2", "2"), ("ageing", "2"), ("random", "2"))
    }

    before = {name: path.stat().st_mtime_ns for name, path in searches(copy.folder).items()}
    changed = CONFIGURATION | {"strategies": [{**nsga2, "population": 5}, random]}
    copy.configure(changed)
    code, output = copy.run("--until", "search")
    assert code == 0, output
    rerun = {name for name, path in searches(copy.folder).items() if path.stat().st_mtime_ns != before[name]}
    assert rerun == {"zdt1-4x3/nsga2/seed-1", "staircase/nsga2/seed-1"}

    with (copy.folder / "staircase.csv").open("a") as table:
        table.write("4,0,9,9\n")
    assert planned(copy, changed) == {("staircase", label, "1") for label in ("nsga2", "random")}


def test_a_missing_table_is_one_clear_line_before_any_search(copy: WorkflowCopy) -> None:
    (copy.folder / "staircase.csv").unlink()
    code, output = copy.run()
    assert code != 0
    assert "\nstaircase.csv: is missing\n" in output
    assert "Traceback" not in output
    assert searches(copy.folder) == {}


def test_a_table_that_cannot_be_used_is_one_clear_line_before_any_search(copy: WorkflowCopy) -> None:
    (copy.folder / "staircase.csv").write_text("a,loss,cost\n1,2,3\n")
    code, output = copy.run()
    assert code != 0
    assert "\nstaircase.csv: no column 'b'; it has a, loss, cost\n" in output
    assert "Traceback" not in output
    assert searches(copy.folder) == {}


def test_a_configuration_of_two_kinds_is_refused_before_anything_runs(copy: WorkflowCopy) -> None:
    copy.configure(CONFIGURATION | {"experiment": "tiny"})
    code, output = copy.run()
    assert code != 0
    assert "tiny.yaml: found both laboratory and experiment, allowed is one of these keys" in output
    assert "Traceback" not in output
    assert not (copy.folder / "results").exists()
