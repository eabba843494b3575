"""The report of searches of recurrent networks: another measure than the error, lineages, and size over the rounds."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from nas_lib import tracking
from nas_lib.experiment import Experiment, parse
from nas_lib.randomness import generator
from nas_lib.records import Candidate, Cost, Evaluation, Export, Proposal
from nas_lib.report import card, descent, style, summary
from nas_lib.report.figures import figure_names, write_figures
from nas_lib.report.results import AxisEnd, Results, axis_end, read
from nas_lib.report.versus import write_versus
from nas_lib.search import Search, read_finalists
from nas_lib.strategies.neuroevolution import Neuroevolution
from tests.pages import data_of, opened, titles_of, words_of
from tests.synthetic import write_model
from tests.test_report import made_up, page_of

LANGUAGE = {"name": "formal-language", "strings": 30, "validation_strings": 10, "longest": 3, "beyond": 1}
FACTS = {
    **{"task": "formal-language", "items": "sequences", "train": 30, "validation": 10, "test": 4},
    **{"shape": {"inputs": 4, "outputs": 4, "tokens": False}, "class_names": ["a", "b", "c", "T"]},
}
FAR = 1e31


def configured(results: Path, **changes: Any) -> Experiment:
    content = {
        "experiment": "cells",
        "results": str(results),
        "task": LANGUAGE,
        "space": {"name": "recurrent", "hidden": 4},
        "strategies": [{"name": "moe-rnas", "population": 6}, "known", "random"],
        "objectives": [{"name": "loss", "reference": 0.5}, "blocks"],
        "budget": {"rounds": 4, "proposals": 6, "jobs": 1, "epochs": 3},
        "seeds": [1, 2],
        "finalists": {"count": 2, "repeats": 2, "epochs": 3},
    }
    return parse(content | changes, "test")


def evaluated(experiment: Experiment, proposal: Proposal, label: str, seed: int) -> Evaluation:
    """An invented loss, one of the first round's far beyond all others; blocks as they are."""
    loss = float(generator(seed, label, proposal.round, proposal.slot).uniform(0.1, 0.4))
    if (proposal.round, proposal.slot) == (0, 5):
        loss = FAR
    blocks = experiment.space.size(proposal.genotype)["blocks"]  # type: ignore[union-attr]
    figures = {"loss": loss, "error": 1.0, "blocks": float(blocks), "parameters": 10.0 * blocks}
    return Evaluation(
        proposal=proposal,
        status="ok",
        objectives={name: figures[name] for name in experiment.objective_names},
        metrics=figures,
        curves={"validation_loss": [3 * loss, 2 * loss, loss], "validation_error": [1.0, 1.0, 1.0]},
        cost=Cost(seconds=1, epochs=3, started=1_700_000_000, finished=1_700_000_060),
    )


def trained(experiment: Experiment, chosen: Evaluation) -> list[Evaluation]:
    """Test losses a little above the validation loss; all test errors are 1."""
    proposals = [chosen.proposal.model_copy(update={"slot": slot}) for slot in range(experiment.finalists.repeats)]
    losses = [float(chosen.metrics["loss"]) + 0.01 * slot for slot in range(len(proposals))]
    size = dict.fromkeys(("parameters", "flops", "activation_memory"), 8)
    return [
        Evaluation(proposal=proposal, status="ok", metrics={"test_error": 1.0, "test_loss": loss} | size)
        for proposal, loss in zip(proposals, losses, strict=True)
    ]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    experiment = configured(tmp_path_factory.mktemp("results"))
    made_up(experiment, failing=0, evaluated=evaluated, trained=trained, facts=FACTS)
    search = Search(experiment, "moe-rnas", 1)
    write_model(search, 0)
    np.savez(search.folder.model(0) / "examples.npz", inputs=np.zeros((2, 1, 4)), state=np.zeros((2, 8)))
    return experiment


@pytest.fixture(scope="module")
def tables(experiment: Experiment) -> Path:
    """The folder of the tables, once they and the figures are written."""
    write_figures(experiment)
    return experiment.folder.tables


@pytest.fixture(scope="module")
def page(experiment: Experiment) -> str:
    return page_of(experiment)


# --- the measure -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "objectives", "measure"),
    [
        (LANGUAGE, ["blocks", "loss"], "loss"),
        (LANGUAGE, ["error", "loss"], "error"),
        (LANGUAGE, ["blocks", "parameters"], "error"),
        ({"name": "text"}, ["perplexity", "blocks"], "perplexity"),
    ],
)
def test_the_measure_is_the_first_objective_that_is_measured_on_a_split(
    tmp_path: Path, task: dict[str, Any], objectives: list[str], measure: str
) -> None:
    assert configured(tmp_path, task=task, objectives=objectives).measure == measure


def test_the_page_speaks_of_the_loss_that_was_minimised(page: str) -> None:
    words = words_of(page)
    assert re.search(r"best validation loss is 0\.1\d+ \(", words)
    assert re.search(r"test loss of 0\.\d+ ± 0\.00707 \(mean ± standard deviation, n = 2 trainings\)", words)
    assert "Test loss, mean over seeds (95 % CI)" in words
    assert "with the lowest validation loss: the test sequences decide nothing" in words
    assert "error" not in words[: words.index("Provenance Seeds")]
    titles = titles_of(page)
    assert titles["front-1"] == ["Blocks (count)", "Validation loss (mean)"]
    assert titles["learning-curves"] == ["Epochs", "Validation loss (mean)"]


def test_winners_are_those_of_the_lowest_loss(experiment: Experiment) -> None:
    results = read(experiment)
    for label in results.labels:
        for seed, winner in results.winners(label).items():
            own = [one for one in results.finalists if (one.strategy, one.seed) == (label, seed)]
            assert winner.chosen.objectives["loss"] == min(one.chosen.objectives["loss"] for one in own)
            assert winner.test_values == [repeat.metrics["test_loss"] for repeat in winner.repeats]


def test_tables_runs_and_other_experiments_are_told_in_the_same_measure(
    experiment: Experiment, tables: Path, tmp_path: Path
) -> None:
    finalists = pd.read_csv(tables / "finalists.csv")
    assert (finalists["test_error"] == 1).all() and (finalists["test_loss"] < 1).all()

    search = Search(experiment, "random", 1)
    finalist = next(iter(read_finalists(search)))
    names = {name for name, *_ in tracking._of_finalist(search, finalist, "finalist", "formal-language").points}
    assert {"test_loss_mean", "test_loss_sd"} < names and "test_error_mean" not in names

    other = configured(tmp_path, experiment="other", strategies=["random"])
    made_up(other, failing=0, evaluated=evaluated, trained=trained, facts=FACTS)
    write_versus([experiment, other], tmp_path / "versus")
    assert (
        "## Test loss (mean) of the finalist with the lowest validation loss"
        in (tmp_path / "versus/versus.md").read_text()
    )


@pytest.mark.parametrize(
    ("name", "value", "shown"), [("loss", 0.04262, "0.0426"), ("perplexity", 83.94, "83.94"), ("loss", FAR, "1e+31")]
)
def test_measures_without_unit_are_plain_numbers(name: str, value: float, shown: str) -> None:
    assert style.text(name, value) == shown


# --- words -----------------------------------------------------------------------------------------


def test_nothing_is_said_of_images_stages_and_numbers_that_are_not_there(page: str) -> None:
    words = words_of(page)
    assert "30 training, 10 validation and 4 test sequences" in words
    assert "trained anew from random weights on the training sequences, then tested" in words
    for absent in (" images", "stages", "logit", "Which searched numbers matter", "Draws of one generator"):
        assert absent not in words.replace("2 images", "")
    assert 'href="#matters"' not in page and 'href="#draws"' not in page


def test_a_file_of_one_step_is_shown_in_a_loop_over_the_steps(page: str) -> None:
    (example,) = re.findall(r"<pre>(import mlflow.*?)</pre>", page, re.DOTALL)
    assert "state = np.zeros((len(inputs), 8)" in example
    taken = []

    class Model:
        def predict(self, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            taken.append(given["inputs"])
            return {"outputs": given["inputs"][:, 0], "next_state": given["state"] + 1}

    loop = example.replace("&#34;", '"').split('@current")\n')[1]
    inputs = np.arange(24.0).reshape(2, 3, 4)
    there: dict[str, Any] = {"np": np, "inputs": inputs, "model": Model()}
    exec(loop, there)  # noqa: S102
    assert np.concatenate(taken, axis=1).tolist() == inputs.tolist()
    assert there["outputs"].tolist() == inputs[:, -1].tolist() and (there["state"] == 3).all()


def test_the_card_of_a_cell_tells_its_loss_and_the_step_of_its_files(experiment: Experiment) -> None:
    search = Search(experiment, "moe-rnas", 1)
    finalist = next(iter(read_finalists(search)))
    export = Export(rank=finalist.rank, status="ok")
    content = card.content(search, finalist, export, ["a", "b"], tolerance=(1e-4, 1e-4), depends_on_batch=False)
    losses = [float(repeat.metrics["test_loss"]) for repeat in finalist.repeats]
    assert content["test"]["loss_mean"] == pytest.approx(np.mean(losses)) and content["test"]["error_mean"] == 1
    low, high = content["test"]["loss_interval_95"]
    assert 0 <= low < np.mean(losses) < high
    assert content["test"]["loss_of_the_exported_training"] == losses[0]
    assert content["input"]["inputs"] == "float32 (n, 1, 4), one step of n sequences, any n of at least 1"
    assert content["output"]["outputs"] == "float32 (n, 4)"
    text = card.markdown(content)
    assert "whatever its test loss" in text and "image" not in text


# --- far values ------------------------------------------------------------------------------------


def test_an_axis_ends_a_little_beyond_the_reference_or_the_bulk() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert axis_end(values) is None
    assert axis_end([*values, 1e31], 10.0) == AxisEnd(11.0, 1, "a tenth beyond its reference value")
    low, high = np.percentile([*values, 1e31], [25, 75])
    far = axis_end([*values, 1e31])
    assert far is not None and far.at == high + 3 * (high - low) and far.beyond == 1
    assert axis_end([*values, 1e31], 0.5) == far
    infinite = axis_end([*values, float("inf")])
    assert infinite is not None and infinite.beyond == 1


def test_a_far_candidate_leaves_the_others_readable_and_is_counted(experiment: Experiment, page: str) -> None:
    charts, words = data_of(page)["charts"], words_of(page)
    axis = charts["front-1"]["layout"]["yaxis"]
    assert axis["type"] == "linear" and axis["range"][1] == pytest.approx(0.55)
    assert 0 <= axis["range"][0] < 0.2
    outside = sum(found.objectives["loss"] > 0.55 for *_, found in read(experiment).evaluations())
    ends = (
        f"axis of the validation loss ends a tenth beyond its reference value, at 0.55; outside: {outside} candidates"
    )
    assert outside >= 2 and ends in words
    assert charts["learning-curves"]["layout"]["yaxis"]["range"][1] < 10
    assert re.search(r"three quartile ranges beyond the upper quartile, at [\d.]+; outside: \d+ curves", words)


# --- lineage ---------------------------------------------------------------------------------------


def candidate(
    place: Candidate, parent: Candidate | None = None, *, copy: Candidate | None = None, epochs: int = 3, **loss: float
) -> Evaluation:
    changes = [
        {"edit": "add_unit", "changed": True, "text": f"at {place}"},
        {"edit": "remove_unit", "changed": False, "text": "nothing: there is none"},
    ]
    proposal = Proposal(
        round=place[0],
        slot=place[1],
        genotype={},
        hash=str(place),
        epochs=epochs,
        origin="child" if parent else "initial",
        parents=[parent] if parent else [],
        changes=changes if parent else [],
        duplicate_of=copy,
    )
    return Evaluation(proposal=proposal, status="ok", objectives=loss, metrics={"blocks": sum(place)})


def test_a_lineage_goes_along_parents_to_the_initial_network() -> None:
    history = [
        candidate((0, 0), loss=0.5),
        candidate((0, 1), loss=0.6),
        candidate((1, 0), (0, 1), loss=0.4),
        candidate((1, 1), (0, 0), loss=0.3),
        candidate((2, 0), (1, 0), epochs=9, loss=0.2),
        candidate((2, 1), (1, 1), copy=(1, 0), loss=0.4),
    ]
    places = [one.proposal.candidate for one in descent.lineage(history, history[4])]
    assert places == [(0, 1), (1, 0), (2, 0)]
    assert descent.lineage(history, history[5]) == [history[1], history[2]]
    assert descent.lineage(history, history[0]) == [history[0]]
    assert descent.has_descent(history) and not descent.has_descent(history[:2])

    first, second, third = descent.steps(descent.lineage(history, history[4]), "loss", ["blocks"])
    assert (first.changes, second.changes) == ([], ["add unit: at (1, 0)"])
    assert first.differences == {} and third.differences == {"blocks": 1}  # the last one was trained longer
    assert second.differences == {"loss": pytest.approx(-0.2), "blocks": 0}

    shortened = history[2].model_copy(update={"metrics": {"blocks": 4, "trained_epochs": 1}})
    assert descent.steps([history[1], shortened], "loss", ["blocks"])[1].differences == {"blocks": 3}


def test_every_finalist_of_a_search_with_parents_has_its_lineage_on_the_page(experiment: Experiment, page: str) -> None:
    section = words_of(page[page.index('<section id="lineage">') : page.index('<section id="sizes">')])
    results = read(experiment)
    for finalist in results.finalists:
        assert (f"{finalist.name}:" in section) == (finalist.strategy == "moe-rnas")
    for finalist in (one for one in results.finalists if one.strategy == "moe-rnas"):
        chain = descent.lineage(results.histories["moe-rnas"][finalist.seed], finalist.chosen)
        for step in chain:
            assert f"round {step.proposal.round}, slot {step.proposal.slot}" in section
            assert all(change in section for change in descent.changes_of(step)[: len(step.proposal.changes)])


def test_finalists_that_are_known_cells_have_their_name(experiment: Experiment, page: str) -> None:
    names = {experiment.space.hash(one): name for name, one in experiment.space.known().items()}  # type: ignore[union-attr]
    found = {
        f"{one.name}: {names[key]}" for one in read(experiment).finalists if (key := one.chosen.proposal.hash) in names
    }
    assert found and all(f"<td>{name}</td>" in page for name in found)


def test_the_lineage_table_adds_up(tables: Path) -> None:
    table = pd.read_csv(tables / "lineage.csv")
    assert set(table["strategy"]) == {"moe-rnas"} and table["step"].max() >= 1
    for _, rows in table.groupby(["seed", "member", "figure"]):
        values = rows.sort_values("step")["value"]
        assert values.iloc[-1] == pytest.approx(values.iloc[0] + rows["difference"].sum())


# --- size ------------------------------------------------------------------------------------------


def test_size_over_rounds_is_that_of_candidates_and_survivors(experiment: Experiment, page: str, tables: Path) -> None:
    results = read(experiment)
    found = descent.size_by_round(results, "moe-rnas")
    assert found is not None
    for round, mean, low, high in zip(found.x, found.mean, found.low, found.high, strict=True):
        sizes = [
            np.mean([one.objectives["blocks"] for one in history if one.proposal.round == round])
            for history in results.histories["moe-rnas"].values()
        ]
        assert (mean, low, high) == pytest.approx((np.mean(sizes), min(sizes), max(sizes)))
    assert [round for round, _ in descent.surviving_size(results, "moe-rnas")] == found.x.tolist()
    assert descent.surviving_size(results, "random") == []
    assert titles_of(page)["size"] == ["Round", "Blocks (count)"]
    names = [trace["name"] for trace in data_of(page)["charts"]["size"]["data"]]
    assert {"moe-rnas", "moe-rnas, median of survivors", "known", "random", "without selection"} == set(names)
    assert pd.read_csv(tables / "size.csv")["round"].tolist()[:4] == [0, 1, 2, 3]


def test_survivors_are_the_best_of_all_rounds_so_far() -> None:
    history = [
        candidate((0, 0), loss=0.5, blocks=9),
        candidate((0, 1), loss=0.9, blocks=9.5),
        candidate((0, 2), loss=0.6, blocks=5),
        candidate((1, 0), (0, 0), loss=0.4, blocks=8),
    ]
    alive = Neuroevolution(population=2).survivors(history, ["loss", "blocks"])
    assert {round: {one.proposal.candidate for one in found} for round, found in alive.items()} == {
        0: {(0, 0), (0, 2)},
        1: {(1, 0), (0, 2)},
    }


def test_networks_without_selection_begin_with_the_initial_ones(experiment: Experiment) -> None:
    results = read(experiment)
    found = descent.unselected(results)
    assert found is not None and found.networks == 6
    initial = [one.objectives["blocks"] for one in results.histories["moe-rnas"][1] if one.proposal.round == 0]
    assert found.means[0][1] == pytest.approx(np.mean(initial))
    assert [round for round, _ in found.means] == [0, 1, 2, 3]
    assert descent.unselected(results) == found


# --- files and browser -----------------------------------------------------------------------------


@pytest.mark.usefixtures("tables")
def test_figures_of_recurrent_searches_are_those_declared(experiment: Experiment) -> None:
    assert {path.name for path in experiment.folder.figures.iterdir()} == set(figure_names(experiment))
    assert {"size.svg", "size.pdf"} < set(figure_names(experiment))


def test_candidates_say_their_blocks_where_one_points(page: str) -> None:
    texts = [text for side in data_of(page)["points"].values() for text in side["text"]]
    assert texts and all(" blocks," in text.replace("<br>", " ") for text in texts)


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1200, "light")])
def test_the_page_of_cells_does_not_scroll_sideways(
    browser: Any, experiment: Experiment, page: str, width: int, scheme: str
) -> None:
    tab, troubles = opened(browser, experiment.folder.report, width, scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert troubles == []


def test_one_strategy_alone_is_said_to_be_compared_with_nothing() -> None:
    comparison = {"reference": [1.0, 40.0], "baseline": "moe-rnas", "differences": {}}
    told = [*summary._better_than_chance(cast(Results, SimpleNamespace(comparison=comparison)))]
    assert [sentence.partition(",")[0] for sentence in told] == ["Only moe-rnas was run"]
