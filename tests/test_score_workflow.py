"""The workflow of a score study with real processes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.test_score_study import COUNT, TITLE, tiny
from tests.workflows import WorkflowCopy


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[WorkflowCopy]:
    copy = WorkflowCopy(tmp_path, tiny(tmp_path))
    yield copy
    copy.end()


def test_one_command_scores_a_table_of_ones_own_reports_and_tracks(copy: WorkflowCopy) -> None:
    code, output = copy.run()
    assert code == 0, output
    assert "Report:  results/tiny/report.html" in output
    results = copy.folder / "results/tiny"
    assert (results / "report.html").stat().st_size > 100_000
    assert json.loads((results / "tracking.json").read_text())["created"] == 4
    assert pd.read_parquet(results / TITLE / "scores.parquet")["network"].nunique() == COUNT


def test_a_column_that_is_not_there_is_one_clear_line_before_anything_runs(copy: WorkflowCopy) -> None:
    content = tiny(copy.folder)
    content["benchmarks"][0]["measured"] = "los"
    copy.configure(content)
    code, output = copy.run()
    assert code != 0
    assert "mine.csv: no column 'los' (did you mean 'loss'?); it has genotype, loss" in output
    assert "Traceback" not in output
