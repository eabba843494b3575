"""The report: what its page says of good, poor and missing results, and that a browser shows it offline."""

import json
import re
import socket
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any
from xml.etree import ElementTree

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_lib.comparison import compare
from nas_lib.configuration import ConfigurationError
from nas_lib.experiment import Experiment, parse
from nas_lib.layout import write_json, write_records, write_text
from nas_lib.pareto import objective_matrix
from nas_lib.randomness import generator
from nas_lib.records import Cost, Evaluation, Finalist, Proposal
from nas_lib.report import benchmarks, drawing, provenance, style
from nas_lib.report.analysis import analyse
from nas_lib.report.figures import figure_names, write_figures
from nas_lib.report.page import render, write_report
from nas_lib.report.results import Retrained, best_finalist, read, together
from nas_lib.report.summary import compared
from nas_lib.report.tables import table_names
from nas_lib.report.versus import write_versus
from nas_lib.search import Search, collect, propose_round, read_finalists, read_proposals, select_finalists
from tests.pages import data_of, opened, titles_of, without_plotly, words_of
from tests.synthetic import write_model

SPACE = {
    "name": "generator",
    "levels": [
        {"model": "WS", "nodes": [3, 5], "k": 2, "p": [0.1, 0.9]},
        {"model": "WS", "nodes": [3, 5], "k": 2, "p": 0.5},
    ],
    "parameters": 20000,
    "head_channels": 16,
}


def configured(results: Path, **changes: Any) -> Experiment:
    content = {
        "experiment": "toy",
        "description": "Small <b>graphs</b> & made-up errors",
        "results": str(results),
        "task": "digits",
        "space": SPACE,
        "strategies": [{"name": "random", "label": "lucky"}, "random"],
        "objectives": [{"name": "error", "reference": 0.5}, "parameters"],
        "budget": {"rounds": 2, "proposals": 4, "jobs": 1, "epochs": 4},
        "seeds": [1, 2],
        "finalists": {"count": 2, "repeats": 2, "epochs": 6},
    } | changes
    content["task"] = {"name": content["task"]}
    return parse(content, "test")


def made_up(
    experiment: Experiment,
    *,
    failing: int = 1,
    reason: str = "out of memory",
    evaluated: Callable[[Experiment, Proposal, str, int], Evaluation] | None = None,
    trained: Callable[[Experiment, Evaluation], list[Evaluation]] | None = None,
    facts: dict[str, Any] | None = None,
) -> Experiment:
    """Write results of an experiment as its workflow would, with invented figures; `failing` candidates of each round
    of `random` fail."""
    for label in experiment.labels:
        for seed in experiment.seeds:
            search = Search(experiment, label, seed)
            for round in range(experiment.budget.rounds):
                propose_round(search, round)
                for proposal in read_proposals(search.folder, round):
                    evaluation = (evaluated or invented)(experiment, proposal, label, seed)
                    if proposal.slot < failing and label == "random":
                        evaluation = Evaluation(
                            proposal=proposal, status="failed", reason=reason, cost=Cost(seconds=0.5)
                        )
                    work = search.folder.work(proposal.candidate)
                    write_text(work / "evaluation.json", evaluation.model_dump_json() + "\n")
            collect(search)
            select_finalists(search)
            chosen = [Evaluation.model_validate(entry) for entry in json.loads(search.folder.finalists.read_text())]
            for rank in range(experiment.finalists.count):
                finalist = Finalist(rank=rank, chosen=None)
                if rank < len(chosen):
                    repeats = (trained or retrained)(experiment, chosen[rank])
                    finalist = Finalist(rank=rank, chosen=chosen[rank], repeats=repeats)
                write_records(search.folder.finalist(rank), [finalist])
    write_json(experiment.folder.comparison, compare(experiment))
    shape = {"channels": 1, "height": 8, "width": 8, "classes": 10}
    sizes = {"train": 1077, "validation": 358, "test": 362}
    write_json(experiment.folder.data, facts or sizes | {"shape": shape})
    return experiment


def invented(experiment: Experiment, proposal: Proposal, label: str, seed: int) -> Evaluation:
    rng = generator(seed, label, proposal.round, proposal.slot)
    error = rng.uniform(0.05, 0.2) if label == "lucky" else rng.uniform(0.1, 0.4)
    figures = {
        "error": float(error),
        "parameters": float(rng.integers(2000, 20000)),
        "flops": float(rng.integers(100_000, 900_000)),
        "activation_memory": float(rng.integers(4_000, 40_000)),
        "latency": float(rng.uniform(1, 9)),
    }
    epochs = proposal.epochs
    return Evaluation(
        proposal=proposal,
        status="ok",
        objectives={name: figures[name] for name in experiment.objective_names},
        constraints={name: figures[name] - limit for name, limit in experiment.limits.items()},
        metrics={"error": figures["error"]},
        wall_clock={"device": "cpu"},
        curves={"validation_error": [error * (2 - (epoch + 1) / epochs) for epoch in range(epochs)]},
        cost=Cost(seconds=2.5, epochs=epochs, started=1_700_000_000, finished=1_700_000_060),
    )


def retrained(experiment: Experiment, chosen: Evaluation) -> list[Evaluation]:
    proposals = [chosen.proposal.model_copy(update={"slot": slot}) for slot in range(experiment.finalists.repeats)]
    return [
        Evaluation(
            proposal=proposal,
            status="ok",
            metrics={"test_error": float(chosen.metrics["error"]) + 0.01 * proposal.slot, "test_loss": 0.3},
            cost=Cost(seconds=10, epochs=proposal.epochs),
        )
        for proposal in proposals
    ]


def page_of(experiment: Experiment) -> str:
    write_report(experiment)
    return without_plotly(experiment.folder.report)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return made_up(configured(tmp_path_factory.mktemp("results")))


@pytest.fixture(scope="module")
def page(experiment: Experiment) -> str:
    return page_of(experiment)


# --- what the page says ----------------------------------------------------------------------------


def test_the_summary_answers_first(page: str) -> None:
    words = words_of(page)
    beginning = words[: words.index("What was searched")]
    assert "2 strategies (lucky and random) searched the space generator on digits, with 2 seeds each" in beginning
    assert "32 candidates in all, minimising validation error and parameters" in beginning
    assert re.search(r"best validation error is \d+\.\d\d % \(lucky, seed \d\)", beginning)
    assert re.search(r"test error of \d+\.\d\d ± 0\.71 % \(mean ± standard deviation, n = 2 trainings\)", beginning)
    assert "95 % confidence interval" in beginning


def test_selection_reference_point_and_box_are_stated(page: str) -> None:
    words = words_of(page)
    assert "10 classes, 8 x 8 pixels; 1,077 training, 358 validation and 362 test images" in words
    assert "The test images were read once, for the finalists, after everything had been chosen" in words
    assert re.search(r"Validation error \d+\.\d\d % 50\.00 % configured", words)
    assert re.search(r"Parameters [\d,]+ [\d,]+ a tenth of the range beyond the worst value", words)


def test_finalists_of_strategies_are_compared_by_seed(experiment: Experiment, page: str) -> None:
    results = read(experiment)
    errors = {label: [fmean(one.test_values) for one in results.winners(label).values()] for label in results.labels}
    differences = [100 * (lucky - random) for lucky, random in zip(errors["lucky"], errors["random"], strict=True)]
    words = words_of(page)
    beginning = words.index("Which strategy found the better network")
    row = re.search(r"lucky (\d+\.\d\d) % \(\S+ % to \S+ %\) ([+−]\d+\.\d\d) points", words[beginning:])
    assert row is not None
    assert float(row[1]) == pytest.approx(100 * fmean(errors["lucky"]), abs=0.005)
    assert float(row[2].replace("−", "-")) == pytest.approx(fmean(differences), abs=0.005)
    assert re.search(r"lucky [^|]*? points to \S+ points\) \d\.?\d* [+−][01]\.\d\d 2 random", words[beginning:])


def test_seconds_spent_include_those_of_making_proposals(experiment: Experiment) -> None:
    results = read(experiment)
    search = Search(experiment, "lucky", 1)
    first, second = (json.loads(search.folder.proposing(round).read_text())["seconds"] for round in range(2))
    spent = results.spent("lucky", "seconds")[0]
    trained = np.cumsum([evaluation.cost.seconds for evaluation in results.histories["lucky"][1]])
    assert first > 0
    assert np.array(spent) - trained == pytest.approx([first] * 4 + [first + second] * 4)


# --- several experiments ---------------------------------------------------------------------------


def test_experiments_are_compared_on_one_scale(experiment: Experiment, tmp_path: Path) -> None:
    flat = configured(tmp_path, experiment="flat", strategies=["random"], space=SPACE | {"parameters": 10000})
    write_versus([experiment, made_up(flat)], tmp_path / "versus")
    page = (tmp_path / "versus/versus.md").read_text()
    assert "baseline: flat/random" in page
    assert "What differs beside strategies and names: `space.parameters`." in page
    for heading in ("## Hypervolume", "## Test error (%) of the finalist", "## Parameters (count) of the finalist"):
        table = page.split(heading)[1].split("##")[0]
        assert re.findall(r"^\| (\S+) \| \S+", table, re.MULTILINE)[1:] == ["lucky", "toy/random", "flat/random"]
    for figure in re.findall(r"\]\((.*?)\)", page):
        assert (tmp_path / "versus" / figure).stat().st_size > 1000
    results = together([experiment, flat])
    pooled = [found for _, _, found in results.evaluations() if found.ok]
    assert results.comparison["ideal"] == objective_matrix(pooled, ["error", "parameters"]).min(axis=0).tolist()


@pytest.mark.parametrize(
    ("changes", "message"), [({"seeds": [1]}, "seeds is [1]"), ({"objectives": ["error"]}, "objectives is")]
)
def test_experiments_that_cannot_be_compared_are_refused(
    experiment: Experiment, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^other: {re.escape(message)}.* it must be as in toy"):
        together([experiment, configured(tmp_path, experiment="other", **changes)])
    with pytest.raises(ConfigurationError, match="found toy, toy, allowed are different ones"):
        together([experiment, experiment])


def test_failures_cache_hits_and_cost_are_counted(experiment: Experiment, page: str) -> None:
    searches = json.loads(experiment.folder.comparison.read_text())["searches"]
    hits = sum(search["duplicates"] for search in searches)
    words = words_of(page)
    assert "out of memory 4" in words
    assert "random, seed 2, round 1, slot 0" in words
    assert f"all 32 {32 - hits} {hits} 4" in words


def test_charts_hold_every_successful_candidate_with_its_architecture(experiment: Experiment, page: str) -> None:
    data = data_of(page)
    points = [trace for trace in data["charts"]["front-1"]["data"] if "points" in trace["meta"]]
    assert sum(len(trace["x"]) for trace in points) == 32 - 4
    for trace in points:
        known = data["points"][trace["meta"]["points"]]
        assert {len(known[name]) for name in ("text", "seed", "full")} == {len(trace["x"])} == {len(trace["y"])}
    proposal = read_proposals(Search(experiment, "lucky", 1).folder, 0)[0]
    texts = [
        text.replace("<br>", " ") for side in ("front", "others") for text in data["points"][f"lucky {side}"]["text"]
    ]
    assert f"seed 1, round 0, slot 0, 4 epochs {experiment.space.describe(proposal.genotype)}" in texts


def test_every_axis_has_a_title_with_its_unit(page: str) -> None:
    titles = titles_of(page)
    assert titles == {
        "front-1": ["Parameters (count)", "Validation error (%)"],
        "hypervolume": ["Evaluations", "Hypervolume (share of the box)"],
        "learning-curves": ["Epochs", "Validation error (%)"],
        "foretelling": ["Epochs (of 4)", "Rank correlation with the end"],
        "spread-error": ["Generators, by mean", "Validation error (%)"],
        "spread-parameters": ["Generators, by mean", "Parameters (count)"],
    }


def test_finalists_are_listed_with_each_architecture_drawn_once(experiment: Experiment, page: str) -> None:
    chosen = {
        f"{label}, seed {seed}, finalist {finalist.rank}": finalist.chosen
        for label in experiment.labels
        for seed in experiment.seeds
        for finalist in read_finalists(Search(experiment, label, seed))
    }
    words = words_of(page)
    assert chosen and all(name in words for name in chosen)
    assert page.count("<figure") == len({finalist.proposal.hash for finalist in chosen.values() if finalist})


def test_the_page_needs_nothing_from_outside(experiment: Experiment, page: str) -> None:
    whole = experiment.folder.report.read_text()
    assert whole.count("plotly.js v") == 1
    assert not re.search(r'<(script|img|iframe|link|source)[^>]*(src|href)="(?!data:)', page)
    assert "@import" not in page and "url(" not in page


def test_the_page_names_no_machine_and_no_absolute_path(experiment: Experiment, page: str) -> None:
    assert experiment.results not in page
    assert str(Path.cwd()) not in page
    assert socket.gethostname() not in words_of(page)


def test_what_users_wrote_is_shown_as_they_wrote_it(tmp_path: Path) -> None:
    hostile = "</script><script>document.title='taken'</script>"
    page = page_of(made_up(configured(tmp_path, description=hostile, seeds=[1]), reason=f"{hostile} & more"))
    assert "<script>document" not in page
    assert "&lt;/script&gt;&lt;script&gt;" in page
    assert page.count("</script>") == 2  # the data and our own script; plotly's is left out here


def test_pages_of_equal_results_are_equal(experiment: Experiment, page: str) -> None:
    assert page_of(experiment) == page


# --- poor and missing results ----------------------------------------------------------------------


def test_without_any_success_the_page_says_so(tmp_path: Path) -> None:
    experiment = made_up(configured(tmp_path, strategies=["random"]), failing=99)
    words = words_of(page_of(experiment))
    assert "No candidate succeeded, so there is no front and nothing to test" in words
    assert "There are no finalists, for no candidate succeeded" in words
    assert "The test images were not read" in words
    write_figures(experiment)
    assert {path.name for path in experiment.folder.figures.iterdir()} == set(figure_names(experiment))


def test_constraints_and_how_many_candidates_broke_them_are_told(tmp_path: Path) -> None:
    limits = [{"name": "parameters", "at_most": 11000}]
    experiment = made_up(configured(tmp_path, constraints=limits), failing=0)
    broke = sum(search["infeasible"] for search in json.loads(experiment.folder.comparison.read_text())["searches"])
    words = words_of(page_of(experiment))
    assert 0 < broke < 32
    assert "Constraints Parameters (count) at most 11,000" in words
    assert f"{broke} trained candidates exceeded a limit and count for no front" in words


def test_where_no_candidate_keeps_the_limits_the_page_says_so(tmp_path: Path) -> None:
    limits = [{"name": "parameters", "at_most": 1}]
    experiment = made_up(configured(tmp_path, constraints=limits, strategies=["random"]), failing=1)
    words = words_of(page_of(experiment))
    assert "No candidate was fully trained and kept every limit, so there is no front and nothing to test" in words
    write_figures(experiment)


def test_without_finalists_the_test_images_are_said_to_be_unread(tmp_path: Path) -> None:
    words = words_of(page_of(made_up(configured(tmp_path, seeds=[1], finalists={"count": 0}))))
    assert "No finalists were asked for, so the test split was not read" in words


def test_a_front_smaller_than_the_finalists_asked_for_is_said(tmp_path: Path) -> None:
    experiment = made_up(configured(tmp_path, seeds=[1], finalists={"count": 8, "repeats": 1, "epochs": 2}))
    words = words_of(page_of(experiment))
    assert "Some fronts had fewer members, or fewer within the reference point, than the 8 finalists asked for" in words
    assert "(1 training, so no standard deviation)" in words
    write_figures(experiment)
    last = (experiment.folder.figures / "graph-random-seed-1-finalist-7.svg").read_text()
    assert "No finalist of this rank" in last


def test_finalists_on_a_second_data_set_are_compared_and_models_linked(tmp_path: Path) -> None:
    experiment = made_up(configured(tmp_path, transfer={"task": {"name": "mnist"}, "epochs": 3}))
    shift = iter([0.1, 0.3, 0.05, 0.2, 0.4, 0.15, 0.25, 0.35])
    for label in experiment.labels:
        for seed in experiment.seeds:
            search = Search(experiment, label, seed)
            for finalist in read_finalists(search):
                error = next(shift)
                repeats = [repeat.model_copy(update={"metrics": {"test_error": error}}) for repeat in finalist.repeats]
                carried = finalist.model_copy(update={"repeats": repeats})
                write_records(search.folder.transfer(finalist.rank), [carried])
    write_model(Search(experiment, "lucky", 1), 0)
    page = page_of(experiment)
    words = words_of(page)
    assert "Test error on digits, mean ± standard deviation" in words
    assert "10.00 % ± 0.00 %" in words
    assert "Rank correlation of the two mean test errors (Spearman)" in words
    assert '<a href="lucky/seed-1/finalists/0/model/model.onnx">model.onnx</a>' in page
    assert "1.0e-06 (1 %, n = 2)" in words
    assert "models:/toy-lucky-seed-1-finalist-0@current" in page


def test_one_seed_is_not_called_evidence(tmp_path: Path) -> None:
    words = words_of(page_of(made_up(configured(tmp_path, seeds=[1]))))
    assert "one seed cannot tell a difference from chance" in words
    assert "95 % confidence interval" not in words
    assert "(1 seed, no interval)" in words


def test_one_objective_shows_the_best_so_far(tmp_path: Path) -> None:
    experiment = made_up(configured(tmp_path, seeds=[1], objectives=["error"]))
    chart = data_of(page_of(experiment))["charts"]["best-so-far"]
    means = [trace["y"] for trace in chart["data"] if trace.get("line", {}).get("width") == 2]
    assert len(means) == 2 and all(np.all(np.diff([y for y in mean if y is not None]) <= 0) for mean in means)
    assert means[1][0] is None  # the first candidate of `random` failed


def test_three_objectives_show_every_pair(tmp_path: Path) -> None:
    experiment = made_up(configured(tmp_path, seeds=[1], objectives=["error", "parameters", "latency"]))
    charts = data_of(page_of(experiment))["charts"]
    pairs = [[charts[f"front-{n}"]["layout"][f"{axis}axis"]["title"]["text"] for axis in "xy"] for n in (1, 2, 3)]
    assert pairs == [
        ["Parameters (count)", "Validation error (%)"],
        ["Latency, median (ms per pass or step)", "Validation error (%)"],
        ["Latency, median (ms per pass or step)", "Parameters (count)"],
    ]


@pytest.mark.parametrize(
    ("low", "high", "count", "said"),
    [
        (0.01, 0.2, 8, "better than random"),
        (-0.2, -0.01, 8, "worse than random"),
        (-0.1, 0.2, 2, "2 seeds are too few to tell"),
        (-0.1, 0.2, 30, "no difference can be told from chance"),
    ],
)
def test_a_difference_is_claimed_only_where_its_interval_excludes_zero(
    low: float, high: float, count: int, said: str
) -> None:
    mean = (low + high) / 2
    assert said in compared("parego", "random", {"mean": mean, "low": low, "high": high, "count": count})


def test_the_best_finalist_is_chosen_by_validation_error() -> None:
    def finalist(rank: int, validation: float, test: float) -> Retrained:
        proposal = Proposal(round=0, slot=rank, genotype={}, hash="", epochs=1)
        chosen = Evaluation(proposal=proposal, status="ok", metrics={"error": validation})
        repeat = Evaluation(proposal=proposal, status="ok", metrics={"test_error": test})
        return Retrained("random", 1, rank, chosen, [repeat])

    best = best_finalist([finalist(0, validation=0.2, test=0.01), finalist(1, validation=0.1, test=0.3)])
    assert best is not None and best.rank == 1


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("No space left: '/home/someone/results/checkpoint.pt'", "No space left: '…/checkpoint.pt'"),
        ("float/int mismatch in a/b, 3/4 done", "float/int mismatch in a/b, 3/4 done"),
    ],
)
def test_reasons_lose_absolute_paths_only(message: str, shown: str) -> None:
    assert provenance.without_paths(message) == shown


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sqlite:///results/mlflow.db", "sqlite:///results/mlflow.db"),
        (f"sqlite:///{Path.cwd()}/mlflow.db", "sqlite:///mlflow.db"),
        ("http://user:secret@lab.example:5000", "http://…"),
    ],
)
def test_the_tracking_address_shows_neither_folders_nor_servers(tmp_path: Path, uri: str, shown: str) -> None:
    experiment = configured(tmp_path, tracking={"uri": uri})
    assert provenance.tracking_uri(experiment) == shown
    assert "secret" not in provenance.configuration(experiment, provenance.tracking_uri(experiment))


def test_a_folder_without_git_has_no_commit(tmp_path: Path) -> None:
    assert provenance.commit(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("error", 0.0556, "5.56 %"),
        ("parameters", 12345.0, "12,345"),
        ("latency", 1.23456, "1.23 ms per pass or step"),
        ("activation_memory", 4096.0, "4,096 bytes per image or step"),
    ],
)
def test_figures_are_shown_with_their_units_in_few_digits(name: str, value: float, shown: str) -> None:
    assert style.text(name, value) == shown


# --- figures as files ------------------------------------------------------------------------------


def test_figures_are_those_declared_and_equal_bytes_each_time(experiment: Experiment) -> None:
    def written() -> dict[str, bytes]:
        write_figures(experiment)
        return {path.name: path.read_bytes() for path in experiment.folder.figures.iterdir()}

    first = written()
    assert sorted(first) == sorted(figure_names(experiment))
    assert written() == first


def test_figure_names_are_known_before_anything_has_run(tmp_path: Path) -> None:
    names = figure_names(configured(tmp_path, finalists={"count": 0}))
    plots = {Path(name).stem for name in names}
    assert {"front", "hypervolume-seconds", "importance", "draws"} < plots and "finalists" not in plots
    assert sorted(names) == sorted(f"{plot}.{suffix}" for plot in plots for suffix in ("svg", "pdf"))


def test_tables_hold_the_numbers_behind_the_figures(experiment: Experiment) -> None:
    write_figures(experiment)
    folder = experiment.folder.tables
    assert sorted(path.name for path in folder.iterdir()) == sorted(table_names())
    tables = {path.stem: pd.read_csv(path) for path in folder.iterdir()}
    candidates = tables["candidates"]
    assert len(candidates) == 32 and (candidates["status"] == "failed").sum() == 4
    best = tables["attainment"].query("strategy == 'lucky' and surface == 'best'")
    front = candidates.query("strategy == 'lucky' and front")
    assert sorted(zip(best["parameters"], best["error"], strict=True)) == sorted(
        zip(front["parameters"], front["error"], strict=True)
    )
    compared = json.loads(experiment.folder.comparison.read_text())
    course = tables["hypervolume"].query("strategy == 'random' and seed == 2")
    assert course["hypervolume"].tolist() == pytest.approx(compared["searches"][-1]["hypervolume"])
    assert course["seconds"].is_monotonic_increasing
    assert tables["comparison"]["mean_rank"].sum() == 3
    assert tables["comparison"]["smallest_p"].dropna().tolist() == [0.5]
    assert len(tables["finalists"]) == 2 * sum(len(finalists) for finalists in finalists_of(experiment).values())
    assert set(tables["foretelling"]["epochs"]) == {1, 2, 3}


def finalists_of(experiment: Experiment) -> dict[tuple[str, int], list[Finalist]]:
    places = [(label, seed) for label in experiment.labels for seed in experiment.seeds]
    return {place: read_finalists(Search(experiment, *place)) for place in places}


# --- what the evaluations say about the space ------------------------------------------------------


def test_too_few_candidates_are_said_to_tell_nothing(page: str) -> None:
    words = words_of(page)
    assert re.search(r"Validation error: \d+ different points of the space were fully trained; fewer than 20", words)
    assert "with 2 seeds p cannot be smaller than 0.5, so no difference can be significant" in words


def rewritten(experiment: Experiment, error: Callable[[Proposal, int], float]) -> Experiment:
    """The experiment with other errors, from the proposal and the number of the candidate."""
    number = 0
    for label in experiment.labels:
        for seed in experiment.seeds:
            folder = Search(experiment, label, seed).folder
            for path in sorted(folder.path.glob("round-*/candidate-*/evaluation.json")):
                evaluation = Evaluation.model_validate_json(path.read_text())
                value = error(evaluation.proposal, number)
                objectives = evaluation.objectives | {"error": value}
                changed = evaluation.model_copy(update={"objectives": objectives, "metrics": {"error": value}})
                write_text(path, changed.model_dump_json())
                number += 1
    write_json(experiment.folder.comparison, compare(experiment))
    return experiment


ONE_NUMBER = {**SPACE, "levels": [{"model": "WS", "nodes": 8, "k": 4, "p": [0.1, 0.9]}]}
MANY = {"space": ONE_NUMBER, "strategies": ["random"], "finalists": {"count": 0}, "seeds": [1, 2, 3, 4]}


def test_the_number_that_decides_is_shown_with_its_uncertainty(tmp_path: Path) -> None:
    experiment = made_up(configured(tmp_path, **MANY), failing=0)
    rewritten(experiment, lambda proposal, _: 0.1 + proposal.genotype["levels"][0]["p"] / 2)
    page = page_of(experiment)
    assert "the interval of level 1 p lies above 0" in words_of(page)
    charts = data_of(page)["charts"]
    (importance,) = charts["importance-error"]["data"]
    assert importance["y"] == ["level 1 p"] and importance["x"][0] > importance["error_x"]["arrayminus"][0]
    _, curve = charts["dependence-error-1"]["data"]
    assert 0.1 <= curve["x"][0] < curve["x"][-1] <= 0.9
    assert curve["y"] == sorted(curve["y"])
    write_figures(experiment)
    table = pd.read_csv(experiment.folder.tables / "importance.csv")
    assert table.query("objective == 'error'")["importance"].item() == pytest.approx(importance["x"][0], rel=1e-4)


def test_noise_is_not_shown_as_importance(tmp_path: Path) -> None:
    experiment = made_up(configured(tmp_path, **MANY), failing=0)
    rewritten(experiment, lambda _, number: 0.2 + 0.1 * (number % 2))
    analysis = analyse(read(experiment))
    (error,) = (one for one in analysis.dependences if one.objective == "error")
    assert error.found is not None and error.found.r2 <= 0
    page = page_of(experiment)
    assert "Validation error: the surrogate explains nothing of candidates it has not seen" in words_of(page)
    assert "No two points of the space were drawn from several times" in words_of(page)
    assert "importance-error" not in data_of(page)["charts"]


def test_draws_of_equal_generators_are_compared(tmp_path: Path) -> None:
    space = {**SPACE, "levels": [{"model": "WS", "nodes": [6, 9], "k": 2, "p": 0.5}]}
    experiment = made_up(configured(tmp_path, **(MANY | {"space": space})), failing=0)
    rewritten(experiment, lambda proposal, number: proposal.genotype["levels"][0]["nodes"] / 50 + number % 3 / 1000)
    page = page_of(experiment)
    assert re.search(
        r"Validation error: 4 generators, \d+ draws\. Standard deviation between generators 2\.\d+ %, within 0\.\d+ %; "
        r"intraclass correlation 1\.00 \(95 % CI [01]\.\d+ to 1\.00\)",
        words_of(page),
    )
    assert "So few generators tell little" in words_of(page)
    draws, means = data_of(page)["charts"]["spread-error"]["data"]
    assert means["x"] == [1, 2, 3, 4] and means["y"] == sorted(means["y"])
    assert len(draws["x"]) > 8


def test_partly_trained_candidates_are_shown_apart_and_epochs_are_compared(tmp_path: Path) -> None:
    strategies = [{"name": "hyperband", "eta": 2}, "random"]
    budget = {"rounds": 4, "proposals": 6, "jobs": 1, "epochs": 4}
    experiment = made_up(configured(tmp_path, strategies=strategies, budget=budget, seeds=[1]), failing=0)
    page = page_of(experiment)
    data = data_of(page)
    assert data["charts"]["hypervolume-epochs"]["layout"]["xaxis"]["title"]["text"] == "Epochs"
    full = [known for name, known in data["points"].items() if name.startswith("hyperband")]
    assert {state for known in full for state in known["full"]} == {True, False}
    assert 'name="full"' in page
    write_figures(experiment)


def kinds_of(graph: "nx.DiGraph[int]") -> list[str]:
    return [attributes["kind"] for _, attributes in graph.nodes(data=True)]


def test_every_level_of_a_graph_is_drawn_alone() -> None:
    experiment = configured(Path("unused"))
    graph = experiment.space.graph(experiment.space.sample(np.random.default_rng(1)))
    top, inner = drawing.levels(graph).values()
    cells = {attributes["group"] for _, attributes in graph.nodes(data=True) if attributes["group"]}
    inside = [int(attributes["label"]) for _, attributes in top.nodes(data=True) if attributes["kind"] == "graph"]
    operations = kinds_of(graph).count("operation")
    assert (len(inside), sum(inside)) == (len(cells), operations)
    assert kinds_of(inner).count("operation") == max(inside)
    for level in (top, inner):
        assert nx.is_directed_acyclic_graph(level)
        assert {"input", "output"} < set(kinds_of(level))
    ElementTree.fromstring(drawing.levels_svg(graph, "a < b"))  # noqa: S314


def test_a_graph_of_one_level_has_no_levels_to_draw() -> None:
    experiment = configured(Path("unused"), space=ONE_NUMBER)
    graph = experiment.space.graph(experiment.space.sample(np.random.default_rng(1)))
    assert drawing.levels(graph) == {}
    assert drawing.levels_svg(graph, "") == ""


# --- drawings of graphs ----------------------------------------------------------------------------


def drawn(space: dict[str, Any], seed: int) -> tuple["nx.DiGraph[int]", ElementTree.Element]:
    experiment = configured(Path("unused"), space=SPACE | space)
    graph = experiment.space.graph(experiment.space.sample(np.random.default_rng(seed)))
    return graph, ElementTree.fromstring(drawing.svg(graph, "a < b"))  # noqa: S314


def marks(root: ElementTree.Element) -> list[ElementTree.Element]:
    """The shapes of the nodes, in the one group that centres its letters."""
    (nodes,) = (group for group in root if group.get("text-anchor") == "middle")
    return [shape for shape in nodes if not shape.tag.endswith("text")]


@pytest.mark.parametrize("levels", [SPACE["levels"], [{"model": "WS", "nodes": 9, "k": 4, "p": 0.5}] * 3])
def test_a_drawing_shows_every_node_once_within_its_frame(levels: list[Any]) -> None:
    graph, root = drawn({"levels": levels}, seed=1)
    shapes = marks(root)
    assert len(shapes) == graph.number_of_nodes()
    x, y, width, height = map(float, root.attrib["viewBox"].split())
    places = [(float(s.get("cx") or s.get("x") or 0), float(s.get("cy") or s.get("y") or 0)) for s in shapes]
    assert len(set(places)) == len(places)
    assert all(x <= left <= x + width and y <= top <= y + height for left, top in places)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_edges_run_from_left_to_right_and_nodes_do_not_overlap(seed: int) -> None:
    graph, root = drawn({"operations": {"conv3x3": 1, "avg_pool3x3": 1}}, seed)
    boxes = []
    for shape in marks(root):
        if "r" in shape.attrib:
            x, y, r = (float(shape.attrib[key]) for key in ("cx", "cy", "r"))
            boxes.append((x - r, y - r, x + r, y + r))
        else:
            x, y, width, height = (float(shape.attrib[key]) for key in ("x", "y", "width", "height"))
            boxes.append((x, y, x + width, y + height))
    for (left, top, right, bottom), (other_left, other_top, other_right, other_bottom) in combinations(boxes, 2):
        assert right <= other_left or other_right <= left or bottom <= other_top or other_bottom <= top
    (path,) = (element.attrib["d"] for element in root if element.tag.endswith("path"))
    for piece in re.findall(r"M([\d.-]+) [\d.-]+(?:H|C[^M]*? )([\d.-]+)(?: [\d.-]+)?(?=M|$)", path):
        assert float(piece[0]) <= float(piece[1])
    assert path.count("M") >= graph.number_of_edges()


# --- in a browser ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_works_offline_without_sideways_scrolling(
    browser: Any, experiment: Experiment, page: str, width: int, scheme: str
) -> None:
    tab, troubles = opened(browser, experiment.folder.report, width, scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.locator(".chart .main-svg").count() >= 3
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) > 3 * 128) == (scheme == "light")
    assert troubles == []


def test_charts_follow_the_colour_scheme(browser: Any, experiment: Experiment, page: str) -> None:
    tab, troubles = opened(browser, experiment.folder.report, 1280)
    title = tab.locator("#hypervolume .xtitle")
    light = title.evaluate("element => getComputedStyle(element).fill")
    tab.emulate_media(color_scheme="dark")
    tab.wait_for_function(
        "before => getComputedStyle(document.querySelector('#hypervolume .xtitle')).fill !== before", arg=light
    )
    assert troubles == []


def test_pointing_at_a_candidate_shows_its_architecture(browser: Any, experiment: Experiment, page: str) -> None:
    tab, troubles = opened(browser, experiment.folder.report, 1280)
    front = tab.locator("#front-1")
    front.scroll_into_view_if_needed()
    point = front.locator(".scatterlayer .trace .points path").last.bounding_box()
    tab.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    label = front.locator(".hoverlayer .hovertext")
    label.wait_for()
    assert re.search(r"seed \d, round \d, slot \d, 4 epochs\s*WS\(\d, \d, \d\.\d\d\) >\s*WS\(", label.text_content())
    assert troubles == []


def test_many_graphs_are_folded_away_until_one_is_asked_for(
    browser: Any, experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas_lib.report.page.DRAWINGS_SHOWN", 1)
    (tmp_path / "report.html").write_text(render(read(experiment)))
    tab, troubles = opened(browser, tmp_path / "report.html", 1280)
    graphs = tab.locator("figure[id^=graph-]")
    assert [graphs.nth(place).is_visible() for place in range(graphs.count())] == [True] + [False] * (
        graphs.count() - 1
    )
    last = graphs.last.get_attribute("id")
    tab.locator(f"a[href='#{last}']").first.click()
    tab.wait_for_function("id => document.getElementById(id).checkVisibility()", arg=last)
    assert troubles == []


def test_the_legend_hides_and_shows_a_strategy(browser: Any, experiment: Experiment, page: str) -> None:
    tab, troubles = opened(browser, experiment.folder.report, 1280)
    front = tab.locator("#front-1")
    front.scroll_into_view_if_needed()
    points = front.locator(".scatterlayer .trace .points path")
    before = points.count()
    front.locator(".legendtoggle").first.click()
    tab.wait_for_function("count => document.querySelectorAll('#front-1 .points path').length < count", arg=before)
    assert 0 < points.count() < before
    front.locator(".legendtoggle").first.click()
    tab.wait_for_function("count => document.querySelectorAll('#front-1 .points path').length === count", arg=before)
    assert troubles == []


def test_a_chosen_seed_leaves_its_own_candidates_and_lines(browser: Any, experiment: Experiment, page: str) -> None:
    tab, troubles = opened(browser, experiment.folder.report, 1280)
    count = "() => document.querySelectorAll('#front-1 .points path').length"
    before = tab.evaluate(count)
    of_seed = {
        seed: sum(known["seed"].count(seed) for known in data_of(page)["points"].values()) for seed in experiment.seeds
    }
    assert sum(of_seed.values()) == before
    tab.select_option("#filter [name=seed]", "2")
    tab.wait_for_function(f"count => ({count})() === count", arg=of_seed[2])
    shown = "() => document.getElementById('hypervolume').data.filter((trace) => trace.visible).map((t) => t.meta)"
    assert tab.evaluate(shown) == [{"strategy": label, "seed": 2, "alone": True} for label in experiment.labels]
    tab.select_option("#filter [name=strategy]", "lucky")
    assert tab.evaluate(shown) == [{"strategy": "lucky", "seed": 2, "alone": True}]
    tab.select_option("#filter [name=seed]", "")
    tab.select_option("#filter [name=strategy]", "")
    tab.wait_for_function(f"count => ({count})() === count", arg=before)
    assert troubles == []


def test_choosing_a_candidate_shows_its_architecture_below(browser: Any, experiment: Experiment, page: str) -> None:
    tab, troubles = opened(browser, experiment.folder.report, 390)
    front = tab.locator("#front-1")
    front.scroll_into_view_if_needed()
    point = front.locator(".scatterlayer .trace .points path").last.bounding_box()
    tab.mouse.click(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    details = tab.locator("[data-details-of=front-1]")
    tab.wait_for_function("() => document.querySelector('[data-details-of=front-1]').textContent")
    assert re.fullmatch(r"\w+, seed \d, round \d, slot \d, 4 epochs WS\(.*, draw \d+", details.text_content())
    assert troubles == []


# --- cost of the rules -----------------------------------------------------------------------------

COLUMNS = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time"


def measured(path: Path, seconds: float, memory: str, cpu: str) -> None:
    write_text(path, f"{COLUMNS}\n{seconds}\t0:00:01\t{memory}\t1\t1\t1\t1\t1\t1\t{cpu}\n")


def test_costs_of_rules_are_added_up_over_their_jobs(tmp_path: Path) -> None:
    folder = tmp_path / "random" / "seed-1"
    measured(folder / "round-0" / "job-0.tsv", 10.5, "100.25", "9.5")
    measured(folder / "round-10" / "job-11.tsv", 20, "300", "19.5")
    measured(folder / "round-10" / "propose.tsv", 0.5, "-", "NA")
    measured(folder / "finalist-0.tsv", 5, "50", "1e-05")
    measured(folder / "search.tsv", 1, "50", "1")
    assert benchmarks.read(tmp_path) == [
        benchmarks.RuleCost("evaluate", 2, 30.5, 29.0, 300 * 2**20),
        benchmarks.RuleCost("retrain", 1, 5.0, 1e-5, 50 * 2**20),
        benchmarks.RuleCost("search_inline", 1, 1.0, 1.0, 50 * 2**20),
        benchmarks.RuleCost("propose", 1, 0.5, None, None),
    ]
    assert benchmarks.read(tmp_path / "missing") == []


def test_the_page_shows_energy_as_far_as_it_is_known_and_the_rules(tmp_path: Path) -> None:
    experiment = made_up(configured(tmp_path))
    write_report(experiment)
    bare = experiment.folder.report.read_text()
    assert "unknown" in bare
    assert "<th>Rule</th>" not in bare
    search = Search(experiment, "lucky", 1)
    proposal = next(one for one in read_proposals(search.folder, 0) if one.duplicate_of is None)
    path = search.folder.work(proposal.candidate) / "evaluation.json"
    known = Evaluation.model_validate_json(path.read_text())
    cost = known.cost.model_copy(update={"energy": 1234.5, "peak_memory": 3 * 2**20})
    write_text(path, known.model_copy(update={"cost": cost}).model_dump_json())
    measured(experiment.folder.benchmarks / "compare.tsv", 2.5, "64", "2")
    write_report(experiment)
    page = experiment.folder.report.read_text()
    assert "1234.5 J (known of 1 of " in page
    assert "<td>3 MiB</td>" in page
    assert "<td>compare</td><td>1</td><td>2.5 s</td><td>2.0 s</td><td>64 MiB</td>" in page
