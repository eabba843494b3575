"""The workflow of a predictor study with real processes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.test_predictor_study import TINY, TITLE
from tests.workflows import WorkflowCopy


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[WorkflowCopy]:
    copy = WorkflowCopy(tmp_path, TINY)
    yield copy
    copy.end()


def test_one_command_measures_reports_and_tracks_and_more_predictors_keep_what_there_is(copy: WorkflowCopy) -> None:
    code, output = copy.run()
    assert code == 0, output
    assert "Report:  results/tiny/report.html" in output
    results = copy.folder / "results/tiny"
    assert (results / "report.html").stat().st_size > 100_000
    assert json.loads((results / "tracking.json").read_text())["created"] == 2
    before = (results / TITLE / "journal.jsonl").read_text()

    copy.configure(TINY | {"predictors": [*TINY["predictors"], "svr"]})
    code, output = copy.run(f"results/tiny/{TITLE}/measurements.parquet")
    assert code == 0, output
    assert (results / TITLE / "journal.jsonl").read_text().startswith(before)
    assert set(pd.read_parquet(results / TITLE / "measurements.parquet")["predictor"]) == {"ridge", "wl-gp", "svr"}


def test_a_predictor_that_a_problem_does_not_suit_is_one_clear_line_before_anything_runs(copy: WorkflowCopy) -> None:
    copy.configure(TINY | {"problems": [{"name": "grid", "genes": 6, "options": 3}]})
    code, output = copy.run()
    assert code != 0
    assert "\npredictors: wl-gp learns from graphs, which zdt1-6x3 does not declare; allowed are" in output
    assert "Traceback" not in output
