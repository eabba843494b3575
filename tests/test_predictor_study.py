"""The predictor study: what is measured on what, what a killed one keeps, and what a user reads."""

import json
import re
import sys
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from nas_lib import cli, predictors
from nas_lib.configuration import ConfigurationError
from nas_lib.experiment import parse as parse_experiment
from nas_lib.mlflow_store import Synced
from nas_lib.predictor_study import measure
from nas_lib.predictor_study.measure import Measurement, agreement, run, sample
from nas_lib.predictor_study.settings import PredictorStudy, load, parse, schema
from nas_lib.predictor_study.tracking import sync
from nas_lib.problems import ProblemError
from nas_lib.problems.synthetic import Cell
from nas_lib.report.predictor_study import figure_names, write_figures, write_report
from nas_lib.report.predictor_study.page import summary
from nas_lib.report.predictor_study.results import read
from tests.pages import without_plotly

ROOT = Path(__file__).parent.parent
TINY: dict[str, Any] = {
    "predictor_study": "tiny",
    "problems": [{"name": "cell", "genes": 6, "options": 3}],
    "predictors": ["ridge", "wl-gp"],
    "sizes": [10, 20],
    "held_out": 50,
    "seeds": [1, 2],
}
TITLE = "cell-6x3"


def study(folder: Path, **changes: Any) -> PredictorStudy:
    return parse(TINY | {"results": str(folder)} | changes, "my.yaml")


def mistakes(**changes: Any) -> list[str]:
    with pytest.raises((ConfigurationError, ProblemError)) as caught:
        parse(TINY | changes, "my.yaml").checked_problems()
    return str(caught.value).splitlines()


# --- what is measured ----------------------------------------------------------------------------


def test_agreement_is_what_it_is_by_hand() -> None:
    found = agreement(np.array([1.0, 2.0, 4.0, 3.0]), np.array([1.0, 4.0, 2.0, 0.0]))
    assert found["kendall"] == pytest.approx(0.0), "3 pairs in the same order, 3 in the other"
    assert found["spearman"] == pytest.approx(0.0), "squared differences of ranks: 1, 4, 1, 4"
    assert found["mape"] == pytest.approx(50.0), "0, 50 and 100 %, the value of 0 left out"
    assert agreement(np.ones(3), np.arange(3.0)) == {"kendall": 0.0, "spearman": 0.0, "mape": 25.0}


@pytest.mark.parametrize("genes", [6, 14], ids=["listed", "too many to list"])
def test_samples_are_nested_apart_and_follow_from_the_seed(genes: int) -> None:
    problem = Cell(genes=genes, options=3).problem()
    small, large = (sample(problem, "x", 1, most, 40) for most in (10, 30))
    assert small.numbers.tolist() == large.numbers[:10].tolist()
    assert small.others.tolist() == large.others.tolist()
    keys = problem.space.keys(np.concatenate([large.numbers, large.others]))
    assert len(set(keys)) == 70
    assert large.truth.tolist() == problem.evaluate(large.others).tolist()
    assert sample(problem, "x", 2, 10, 40).numbers.tolist() != small.numbers.tolist()


def test_all_predictors_see_the_same_and_exact_objectives_are_left_out(tmp_path: Path) -> None:
    tiny = study(tmp_path)
    run(tiny, TITLE)
    found = pd.read_parquet(tiny.folder.measurements(TITLE))
    assert len(found) == 2 * 2 * 2
    assert set(found["objective"]) == {"error"}
    assert set(found["held_out"]) == {50}
    assert (found["fit_seconds"] >= 0).all()
    best = found[(found["predictor"] == "wl-gp") & (found["size"] == 20)]
    assert (best["kendall"] > 0).all()
    assert tiny.model_copy(update={"exact": True}).objectives_of(tiny.checked_problem(TITLE)) == ["error", "cost"]


# --- what a killed study keeps -------------------------------------------------------------------


def without_seconds(frame: pd.DataFrame) -> list[dict[Hashable, Any]]:
    return frame.drop(columns=["fit_seconds", "predict_seconds"]).to_dict("records")


def test_a_killed_study_goes_on_where_it_was_to_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = study(tmp_path / "whole"), study(tmp_path / "killed")
    run(whole, TITLE)
    made: list[Any] = []
    once = measure.measure

    def dying(*arguments: Any) -> Measurement:
        made.append(arguments[2:])
        if len(made) == 6:  # of which two were to warm up
            raise KeyboardInterrupt
        return once(*arguments)

    monkeypatch.setattr(measure, "measure", dying)
    with pytest.raises(KeyboardInterrupt):
        run(killed, TITLE)
    journal = killed.folder.journal(TITLE)
    kept = journal.read_text()
    assert len(kept.splitlines()) == 1 + 3
    assert not killed.folder.measurements(TITLE).exists()
    journal.write_text(kept + kept.splitlines()[-1][:40])  # torn

    def counted(*arguments: Any) -> Measurement:
        made.append(arguments[2:])
        return once(*arguments)

    made.clear()
    monkeypatch.setattr(measure, "measure", counted)
    run(killed, TITLE)
    assert len(set(made)) == 8 - 3
    assert journal.read_text().startswith(kept)
    tables = [pd.read_parquet(one.folder.measurements(TITLE)) for one in (whole, killed)]
    assert without_seconds(tables[0]) == without_seconds(tables[1])


def test_more_sizes_keep_what_there_is_and_another_problem_begins_anew(tmp_path: Path) -> None:
    run(study(tmp_path), TITLE)
    journal = study(tmp_path).folder.journal(TITLE)
    before = journal.read_text()
    run(study(tmp_path, sizes=[10, 20, 30]), TITLE)
    assert journal.read_text().startswith(before)
    assert len(journal.read_text().splitlines()) == 1 + 12
    run(study(tmp_path, held_out=60), TITLE)
    assert len(journal.read_text().splitlines()) == 1 + 8, "other architectures are held out"


# --- the report ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> PredictorStudy:
    """Ten measurements of each of two predictors: `gp` is right, `ridge` is wrong by the seed's tenth."""
    made = study(tmp_path_factory.mktemp("finished"), predictors=["ridge", "gp"], seeds=[1, 2, 3, 4, 5])
    rows = []
    for seed in made.seeds:
        for size in made.sizes:
            for predictor in made.predictors:
                kendall = 0.9 if predictor == "gp" else 0.9 - seed / 10
                row = {"problem": TITLE, "objective": "error", "predictor": predictor, "size": size, "seed": seed}
                row |= {"held_out": 50, "kendall": kendall, "spearman": kendall, "mape": 10.0 * seed}
                rows.append(row | {"fit_seconds": 0.5, "predict_seconds": 0.25})
    path = made.folder.measurements(TITLE)
    path.parent.mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(path)
    write_figures(made)
    write_report(made)
    return made


def test_the_summary_says_who_ranks_best(finished: PredictorStudy) -> None:
    first, small, large, seconds = summary(read(finished))
    assert first.startswith("2 predictors (ridge and gp) learnt 1 objective of 1 problem from 10 and 20 architectures")
    assert small.endswith("has: gp 1 of 1."), "ridge is below it in every seed"
    assert large.startswith("Learnt from 20 architectures")
    assert "0.5 s of CPU" in seconds


def test_means_have_intervals_and_their_number_is_stated(finished: PredictorStudy) -> None:
    page = without_plotly(finished.folder.report)
    cell = re.search(r"<td>ridge</td><td>([^<]*)</td>", page)
    assert cell is not None and cell[1] == "0.60 (0.40 to 0.80)", "0.5 to 0.8 in steps of 0.1: 2.776 standard errors"
    assert "<td>0.90 (0.90 to 0.90) *</td>" in page
    assert "5 seeds, 50 architectures held out" in page
    assert "<b>" not in page.split("</main>")[0]


def test_figures_and_tables_are_the_ones_foretold_and_equal_every_time(finished: PredictorStudy) -> None:
    folder = finished.folder
    assert {path.name for path in folder.figures.iterdir()} == set(figure_names(finished))
    means = pd.read_csv(folder.tables / "means.csv")
    (row,) = means.query("predictor == 'ridge' and size == 20 and quantity == 'mape'").to_dict("records")
    assert (row["mean"], row["seeds"], row["held_out"]) == (30.0, 5, 50)
    assert len(pd.read_csv(folder.tables / "measurements.csv")) == 20
    before = {path.name: path.read_bytes() for path in folder.figures.iterdir()}
    write_figures(finished)
    assert before == {path.name: path.read_bytes() for path in folder.figures.iterdir()}


def test_every_predictor_of_an_objective_is_a_run_over_sizes(finished: PredictorStudy) -> None:
    assert sync(finished) == Synced(created=2)
    assert sync(finished) == Synced(unchanged=2)
    client = MlflowClient(finished.tracking_uri)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert found.keys() == {f"{TITLE} error ridge", f"{TITLE} error gp", "report"}
    points = client.get_metric_history(found[f"{TITLE} error ridge"].info.run_id, "kendall")
    assert {point.step: point.value for point in points} == pytest.approx({10: 0.6, 20: 0.6})
    assert found[f"{TITLE} error gp"].data.params["problem.genes"] == "6"


# --- what a user reads ---------------------------------------------------------------------------


def test_predictors_of_graphs_are_refused_where_there_are_none_in_one_line() -> None:
    grids = [{"name": "grid", "genes": 6, "options": 3}, {"name": "grid", "genes": 7, "options": 3}]
    assert mistakes(problems=[*TINY["problems"], *grids]) == [
        "predictors: wl-gp learns from graphs, which zdt1-6x3, zdt1-7x3 do not declare; allowed are predictors without "
        "graphs, or a `graph`"
    ]


def test_every_mistake_is_a_line(tmp_path: Path) -> None:
    assert mistakes(sizes=[10, 10, 2], predictors=["ridge", "gpp"]) == [
        "my.yaml: predictors.1: found 'gpp' (did you mean 'gp'?), allowed is 'ridge', 'svr', 'stacked', 'boosting', "
        "'forest', 'gp', 'mlp', 'wl-gp' or 'gnn'",
        "my.yaml: sizes.2: found 2, allowed is greater than or equal to 5",
    ]
    assert mistakes(sizes=[10, 10]) == ["my.yaml: sizes: 10 occurs twice, allowed are different names"]
    (line,) = mistakes(sizes=[10, 700])
    assert re.fullmatch(
        r"problems \(cell-6x3\): has \d+ architectures, allowed with sizes up to 700 are 720 or more", line
    )
    table = {"name": "table", "path": str(tmp_path / "gone.csv"), "genes": ["a"], "objectives": ["b"]}
    with pytest.raises(ProblemError, match=r"gone.csv: is missing$"):
        parse(TINY | {"problems": [table]}, "").refuse_missing_tables()
    (line,) = mistakes(laboratory="x")
    assert line == "my.yaml: found both predictor_study and laboratory, allowed is one of these keys"
    with pytest.raises(ConfigurationError, match=r"there is `python -m nas_lib predictors`$"):
        parse_experiment(TINY, "my.yaml")


def test_commands_say_what_is_missing_or_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(TINY | {"results": str(tmp_path)}))
    monkeypatch.setattr(cli, "_limit_threads", lambda _: None)
    for words, line in (
        (["page", file], r"^error: .*measurements.parquet: is missing; run the measurements first$"),
        (["measure", file, "--problem", "zdt"], r"^error: --problem: found 'zdt', allowed is one of \['cell-6x3'\]$"),
    ):
        monkeypatch.setattr(sys, "argv", ["nas_lib", "predictors", *map(str, words)])
        with pytest.raises(SystemExit, match=line):
            cli.main()


def test_the_exported_schema_is_the_present_one() -> None:
    assert json.loads((ROOT / "config" / "predictors.schema.json").read_text()) == schema()


@pytest.mark.parametrize("file", ["config/predictors.yaml", "config/studies/predictors-tables.yaml"])
def test_the_shipped_studies_are_valid_and_know_the_whole_family(file: str) -> None:
    found = load(ROOT / file)
    assert set(found.predictors) <= set(predictors.PREDICTORS)
