"""Searches of recurrent networks: one line per mistake, inherited weights, exported finalists."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from nas_lib import search as loop
from nas_lib.configuration import ConfigurationError
from nas_lib.evaluation import candidate
from nas_lib.experiment import parse, settings_of
from nas_lib.export import export_finalists, read_export
from nas_lib.layout import write_json
from nas_lib.records import Proposal
from nas_lib.search import Search
from nas_lib.spaces.generator import GeneratorSpace
from nas_lib.strategies.random_search import RandomSearch
from nas_lib.strategies.request import Request, Suggestion
from tests.recurrent import experiment_of
from tests.test_experiment import MINIMAL, mistakes

LANGUAGE = {"name": "formal-language", "strings": 30, "validation_strings": 10, "longest": 3, "beyond": 1}

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")


# --- configuration ---------------------------------------------------------------------------------


@pytest.fixture
def recurrent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the one space there is made recurrent networks."""
    monkeypatch.setattr(GeneratorSpace, "modality", "sequences")


@pytest.mark.usefixtures("recurrent")
def test_what_is_not_said_of_training_comes_from_the_task_and_is_visible() -> None:
    experiment = parse({**MINIMAL, "task": {"name": "text"}, "training": {"learning_rate": 5.0}}, "my.yaml")
    training = experiment.training
    assert (training.optimizer, training.schedule, training.batch_size, training.steps) == ("sgd", "plateau", 20, 35)
    assert (training.learning_rate, training.gradient_clip, training.momentum) == (5.0, 0.25, 0.0)
    assert json.loads(experiment.model_dump_json())["training"]["plateau_factor"] == 0.25
    assert parse(json.loads(experiment.model_dump_json()), "stored") == experiment


@pytest.mark.usefixtures("recurrent")
def test_sections_of_finalists_and_transfers_have_the_defaults_of_their_task() -> None:
    content = {
        **MINIMAL,
        "task": LANGUAGE,
        "finalists": {"training": {"batch_size": 7}},
        "transfer": {"task": {"name": "labelled-text"}, "training": {"batch_size": 8}},
    }
    experiment = parse(content, "my.yaml")
    assert experiment.finalists.training is not None
    assert experiment.carried.training.learning_rate == 0.001
    assert (experiment.finalists.training.optimizer, experiment.finalists.training.learning_rate) == ("adam", 0.005)


def test_images_are_trained_as_before_and_old_searches_go_on() -> None:
    experiment = parse(MINIMAL, "my.yaml")
    assert (experiment.training.optimizer, experiment.training.schedule) == ("sgd", "cosine")
    stored = settings_of(experiment, "random")["training"]
    assert isinstance(stored, dict)
    assert not {"optimizer", "schedule", "steps", "early_stop"} & set(stored)
    other = parse({**MINIMAL, "training": {"optimizer": "adam"}}, "my.yaml")
    assert settings_of(other, "random")["training"] == stored | {"optimizer": "adam"}


CELLS = {"name": "recurrent", "hidden": 8}
SHORTER = {"threshold": 1, "short_epochs": 1}


@pytest.mark.usefixtures("recurrent")
@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"objectives": ["perplexity", "parameters"]},
            "objectives.0.name: the task 'formal-language' has no perplexity, allowed is error, loss or a cost",
        ),
        (
            {"constraints": [{"name": "blocks", "at_most": 5}]},
            "constraints.0.name: found 'blocks', which the space 'generator' does not count",
        ),
        ({"training": {"cutout": 3}}, "training.cutout: found 3, allowed with sequences is none"),
        (
            {"space": CELLS, "training": {"early_stop": {**SHORTER, "figure": "perplexity"}}},
            "training.early_stop.figure: the task 'formal-language' has no perplexity, allowed is error, loss",
        ),
        (
            {"space": CELLS, "training": {"early_stop": {**SHORTER, "short_epochs": 50}}},
            "training.early_stop.short_epochs: found 50, allowed is at most budget.epochs, which is 5",
        ),
        (
            {"training": {"steps": 20}},
            "training.steps: found 20, which is of running text only; the task is 'formal-language'",
        ),
        (
            {"space": {**CELLS, "inheritance": "none"}, "training": {"early_stop": SHORTER}},
            "training.early_stop: the space 'recurrent' with `inheritance: none` lets nothing inherit weights, allowed "
            "is none",
        ),
        (
            {"finalists": {"count": 2, "training": {"early_stop": SHORTER}}},
            "finalists.training.early_stop: nothing inherits weights here, allowed is none",
        ),
        (
            {"transfer": {"task": {"name": "mnist"}}},
            "transfer.task: found 'mnist' with images, allowed is a task with sequences, as the search has",
        ),
    ],
)
def test_what_does_not_go_with_sequences_is_one_clear_line(changes: dict[str, Any], line: str) -> None:
    assert mistakes(task=LANGUAGE, **changes) == [f"my.yaml: {line}"]


def test_a_space_of_image_networks_does_not_learn_languages() -> None:
    assert mistakes(task=LANGUAGE) == [
        "my.yaml: space: 'generator' makes networks for images, the task 'formal-language' has sequences"
    ]


def test_a_plateau_needs_validation_data_for_finalists() -> None:
    (line,) = mistakes(training={"schedule": "plateau"})
    assert line.startswith("my.yaml: training.schedule: found 'plateau', which needs validation data; finalists of")
    own = {"training": {"schedule": "plateau"}, "finalists": {"training": {}}}
    assert parse({**MINIMAL, **own}, "my.yaml").training.schedule == "plateau"


def test_languages_have_names() -> None:
    with pytest.raises(ConfigurationError, match=r"task.language: found 'abc' \(did you mean 'anbncn'\?\), allowed is"):
        parse({**MINIMAL, "task": {**LANGUAGE, "language": "abc"}}, "my.yaml")


# --- inherited weights -----------------------------------------------------------------------------


def inheriting(self: RandomSearch, request: Request) -> list[Suggestion]:
    """Two networks; in later rounds a child and a longer training of the first."""
    if request.round == 0:
        return [Suggestion({"hidden": hidden}, "seed", epochs=1) for hidden in (4, 8)]
    return [
        Suggestion(
            {"hidden": 4, "child": 1}, "mutated", warm_start=(0, 0), parents=[(0, 0)], changes=[{"edit": "name"}]
        ),
        Suggestion({"hidden": 4}, "promoted", warm_start=(0, 0)),
    ]


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    monkeypatch.setattr(RandomSearch, "propose", inheriting)
    monkeypatch.setattr(RandomSearch, "keeps_weights", True)
    return Search(experiment_of(tmp_path, LANGUAGE), "random", 1)


def test_a_warm_start_continues_the_same_network_and_gives_weights_to_another(search: Search) -> None:
    loop.run_inline(search)
    seed, _, child, promoted = loop.read_history(search.folder, range(2))
    assert (child.cost.epochs, promoted.cost.epochs) == (2, 1)
    assert promoted.curves["train_loss"][:1] == seed.curves["train_loss"]
    assert child.curves["train_loss"][0] != seed.curves["train_loss"][0]
    assert child.curves["train_loss"][0] < seed.curves["train_loss"][0], "it begins where its parent ended"
    assert child.proposal.changes == [{"edit": "name"}]
    proposals = [one.proposal for one in (seed, child, promoted)]
    assert loop.epochs_of(proposals) == 1 + 2 + 1


def test_a_child_has_a_stream_of_randomness_of_its_own(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, tuple[int, int]] = {}
    evaluate = candidate.evaluate

    def noted(bench: Any, proposal: Proposal, *, seed: int, **further: Any) -> Any:
        given[proposal.origin] = seed, len(further["parents"])
        return evaluate(bench, proposal, seed=seed, **further)

    monkeypatch.setattr(candidate, "evaluate", noted)
    loop.run_inline(search)
    assert given["mutated"][0] != given["promoted"][0]
    assert (given["mutated"][1], given["promoted"][1]) == (1, 0)


# --- finalists -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "inputs"),
    [(LANGUAGE, "float32 (n, 1, 4)"), ({"name": "adding", "steps": 4, "sequences": 64}, "float32 (n, 1, 2)")],
    ids=["language", "adding"],
)
def test_a_finalist_is_tested_exported_and_has_a_card(tmp_path: Path, task: dict[str, Any], inputs: str) -> None:
    experiment = experiment_of(tmp_path, task, budget={"rounds": 1, "proposals": 1, "jobs": 1, "epochs": 1})
    search = Search(experiment, "random", 1)
    write_json(experiment.folder.data, experiment.task.facts())
    loop.run_inline(search)
    loop.select_finalists(search)
    with loop.lazy_bench(experiment, finalists=True) as bench:
        loop.retrain_finalist(search, 0, bench)
    (finalist,) = loop.read_finalists(search)
    assert finalist.exported is not None
    assert "test_loss" in finalist.exported.metrics

    export_finalists(search, [0])
    export = read_export(search, 0)
    assert export is not None
    folder = search.folder.model(0)
    card = json.loads((folder / "card.json").read_text())
    assert card["input"]["inputs"].startswith(inputs)
    assert "image" not in (folder / "card.md").read_text()
    assert card["test"]["loss_mean"] == pytest.approx(float(finalist.exported.metrics["test_loss"]))
    assert export.status == "ok", export.reason
    with np.load(folder / "examples.npz") as examples:
        given = {name: examples[name] for name in ("inputs", "state")}
        expected = {name: examples[name] for name in ("outputs", "next_state")}
    found = onnxruntime.InferenceSession(folder / "model.onnx").run(list(expected), given)
    again = torch.export.load(folder / "model.pt2").module()(*map(torch.from_numpy, given.values()))
    for onnx, torched, wanted in zip(found, again, expected.values(), strict=True):
        np.testing.assert_allclose(onnx, wanted, atol=1e-4)
        np.testing.assert_allclose(torched.detach().numpy(), wanted, atol=1e-4)
