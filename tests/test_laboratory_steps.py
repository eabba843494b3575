"""The commands of a laboratory: what they write, and what a user reads when something is wrong."""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from nas_lib import cli
from nas_lib.configuration import ConfigurationError
from nas_lib.experiment import parse as parse_experiment
from nas_lib.laboratory.settings import Laboratory, load, parse, schema
from nas_lib.problems import ProblemError

ROOT = Path(__file__).parent.parent
TINY: dict[str, Any] = {
    "laboratory": "tiny",
    "problems": [{"name": "grid", "genes": 3, "options": 3}, {"name": "cell", "genes": 4, "options": 2}],
    "strategies": [{"name": "nsga2", "population": 4}, "random"],
    "budget": {"evaluations": 8, "batch": 4},
    "seeds": [1, 2],
}


def mistakes(**changes: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse(TINY | changes, "my.yaml")
    return str(caught.value).splitlines()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY | {"results": str(tmp_path / "results")}))
    return path


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> None:
    """`python -m nas_lib laboratory ...`; SystemExit holds what a user reads."""
    monkeypatch.setattr(cli, "_limit_threads", lambda _: None)  # of the process that runs the tests
    monkeypatch.setattr(sys, "argv", ["nas_lib", "laboratory", *map(str, words)])
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            raise


def test_a_search_writes_its_evaluations_and_what_its_proposals_took(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, "search", file, "--problem", "zdt1-3x3", "--strategy", "nsga2", "--seed", "2")
    folder = load(file).folder.search("zdt1-3x3", "nsga2", 2)
    history = pd.read_parquet(folder.history)
    assert (~history["repeat"]).sum() == 8
    assert len(json.loads(folder.rounds.read_text())["proposing_seconds"]) == history["round"].nunique()
    assert {path.name for path in folder.path.iterdir()} == {"history.parquet", "rounds.json"}


def test_names_that_are_not_of_the_laboratory_are_refused_all_at_once(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, "search", file, "--problem", "zdt", "--strategy", "nsga", "--seed", "3")
    assert str(caught.value).splitlines() == [
        "error: --problem: found 'zdt', allowed is one of ['zdt1-3x3', 'cell-4x2']",
        "error: --strategy: found 'nsga', allowed is one of ['nsga2', 'random']",
        "error: --seed: found 3, allowed is one of [1, 2]",
    ]


@pytest.mark.parametrize("step", ["compare", "figures", "report", "track"])
def test_what_needs_results_says_which_are_missing(file: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    with pytest.raises(
        SystemExit, match=r"^error: .*(history.parquet|comparison.json).*: is missing; run the searches"
    ):
        run(monkeypatch, step, file)


def test_validate_reads_the_tables_and_says_what_they_hold(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "validate", file)
    first, grid, cell = capsys.readouterr().out.splitlines()
    assert first == f"{file}: 2 problems x 2 strategies x 2 seeds x 8 evaluations"
    assert grid == "zdt1-3x3: 3 genes, 27 architectures, 3 of them on the front; minimised: f1, f2"
    assert cell == "cell-4x2: 4 genes, 16 architectures, front unknown; minimised: error, cost"


def test_strategies_that_cannot_handle_the_objectives_of_a_problem_are_refused_before_a_search(tmp_path: Path) -> None:
    problems = [{"name": "table", "path": str(tmp_path / "nowhere.csv"), "genes": ["a"], "objectives": ["b"]}]
    with pytest.raises(Exception, match=r"nowhere.csv: is missing$"):
        parse(TINY | {"problems": problems}, "").refuse_missing_tables()
    laboratory = parse(TINY | {"strategies": ["bo", "random"]}, "")
    with pytest.raises(
        Exception, match=r"^problems \(zdt1-3x3\): the number of objectives is 2, allowed with bo is exactly 1\n.*cell"
    ):
        laboratory.checked_problems()


def test_a_predictor_of_graphs_is_refused_on_problems_that_are_none_before_a_search() -> None:
    laboratory = parse(TINY | {"strategies": [{"name": "linas", "predictor": "wl-gp"}, "random"]}, "")
    with pytest.raises(
        ProblemError,
        match=r"^problems \(zdt1-3x3\): its architectures are not declared as graphs, which the predictor wl-gp of "
        r"linas learns from$",
    ):
        laboratory.checked_problems()


def test_every_mistake_is_a_line() -> None:
    assert mistakes(budget={"evaluation": 9}, seeds=[1, 1], strategies=["random", "random"]) == [
        "my.yaml: budget.evaluation: unknown key (did you mean 'evaluations'?); allowed are evaluations, batch",
        "my.yaml: strategies: random occurs twice, allowed are different names; give one a `label`",
        "my.yaml: seeds: 1 occurs twice, allowed are different names",
    ]


def test_names_of_folders_do_not_collide() -> None:
    (line,) = mistakes(strategies=[{"name": "random", "label": "A/B"}])
    assert line.startswith("my.yaml: strategies.0: 'A/B' is a folder name, allowed is 1 to 64 small letters")
    table = {"name": "table", "path": "logs.csv", "genes": ["a"], "objectives": ["b"]}
    (line,) = mistakes(problems=[table])
    assert line.startswith("my.yaml: problems.0: 'logs' is the name of another folder")
    (line,) = mistakes(laboratory="mlartifacts")
    assert line.startswith("my.yaml: laboratory: found 'mlartifacts'")


def test_different_made_up_problems_have_different_names() -> None:
    variants = [{"name": "cell"}, {"name": "cell", "seed": 1}, {"name": "cell", "neighbours": 2}]
    variants += [{"name": "grid", "function": "dtlz2", "objectives": count} for count in (2, 3)]
    assert len(set(parse(TINY | {"problems": variants}, "").titles)) == 5


def test_experiments_and_laboratories_are_not_mixed_up() -> None:
    assert mistakes(experiment="x") == ["my.yaml: found both laboratory and experiment, allowed is one of these keys"]
    with pytest.raises(ConfigurationError, match=r"^my.yaml: laboratory: .*`python -m nas_lib laboratory`$"):
        parse_experiment(TINY, "my.yaml")


def test_what_decides_a_search_is_its_budget_its_strategy_and_its_problem(tmp_path: Path) -> None:
    def settings(laboratory: Laboratory) -> str:
        return laboratory.settings_of_search(laboratory.titles[0], "nsga2")

    before = settings(parse(TINY, ""))
    same = {"seeds": [5], "strategies": [*TINY["strategies"], "ageing"], "problems": TINY["problems"][:1]}
    assert settings(parse(TINY | same, "")) == before
    others: list[dict[str, Any]] = [
        {"budget": {"evaluations": 9, "batch": 4}},
        {"strategies": [{"name": "nsga2", "population": 5}]},
        {"problems": [{"name": "grid", "genes": 3, "options": 4}]},
    ]
    for other in others:
        assert settings(parse(TINY | other, "")) != before
    known = parse(TINY | {"problems": [{"name": "nas-bench-201", "folder": str(tmp_path)}]}, "")
    moved = parse(TINY | {"problems": ["nas-bench-201"]}, "")
    assert settings(known) == settings(moved)


def test_the_exported_schema_is_the_present_one() -> None:
    assert json.loads((ROOT / "config" / "laboratory.schema.json").read_text()) == schema()
