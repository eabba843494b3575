"""What leaves the platform: files that give PyTorch's answers elsewhere, and a card that says what they are."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from nas_lib import search as loop
from nas_lib.evaluation import exporting, training
from nas_lib.evaluation.candidate import identity
from nas_lib.evaluation.deployed import Classifier, Run, WeightsError, load_model
from nas_lib.evaluation.images import DeviceImages
from nas_lib.evaluation.settings import Training
from nas_lib.export import export_finalists, read_export
from nas_lib.layout import write_json
from nas_lib.pareto import mean_interval, seconds_of
from nas_lib.records import Cost, Evaluation, Export, Finalist, Proposal
from nas_lib.report import card
from nas_lib.search import Search
from nas_lib.spaces.generator import GeneratorSpace, WattsStrogatz
from nas_lib.tasks.data import ImageData, Shape
from tests.test_search import tiny

LEVEL = WattsStrogatz(model="WS", nodes=(4, 4), k=(2, 2), p=(0.5, 0.5))


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """A search whose front has one member, retrained twice and exported; two finalists were asked for."""
    space = {"levels": [LEVEL.model_dump()], "parameters": 4000}
    experiment = tiny(
        tmp_path_factory.mktemp("export"), space=space, budget={"rounds": 1, "proposals": 2, "jobs": 1, "epochs": 1}
    )
    search = Search(experiment, "random", 1)
    genotype = experiment.space.sample(np.random.default_rng(1))
    proposal = Proposal(round=0, slot=0, genotype=genotype, hash="h", epochs=1)
    chosen = Evaluation(proposal=proposal, status="ok", objectives={"error": 0.5, "flops": 1000.0})
    write_json(search.folder.finalists, [chosen.model_dump(mode="json")])
    write_json(experiment.folder.data, experiment.task.facts())
    for rank in range(2):
        with loop.lazy_bench(experiment, finalists=True) as bench:
            loop.retrain_finalist(search, rank, bench)
    export_finalists(search, range(2))
    return search


@pytest.fixture(scope="module")
def finalist(search: Search) -> Finalist:
    (found,) = loop.read_finalists(search)
    return found


def built(search: Search, finalist: Finalist) -> Classifier:
    repeat = finalist.repeats[0]
    network = search.experiment.architectures.build(repeat.proposal.genotype, Shape(1, 8, 8, 10))
    mean, std = torch.zeros(2, 1, 1, 1, 1)
    found = load_model(search.folder.weights(0), Classifier(network, mean, std), identity(repeat.proposal))
    assert isinstance(found, Classifier)
    return found


def test_the_exported_weights_are_those_of_the_first_training(search: Search, finalist: Finalist) -> None:
    data = training.to_device(search.experiment.task.for_finalists(), torch.device("cpu"))
    assert isinstance(data, DeviceImages)
    with torch.no_grad():
        logits = built(search, finalist)(data.held_out.images.float() / 255)
    error = (logits.argmax(1) != data.held_out.labels).float().mean().item()
    assert error == pytest.approx(float(finalist.repeats[0].metrics["test_error"]), abs=1e-6)
    assert finalist.repeats[0].metrics != finalist.repeats[1].metrics


def test_both_files_give_the_logits_of_pytorch_for_any_batch(search: Search, finalist: Finalist) -> None:
    folder = search.folder.model(0)
    data = search.experiment.task.for_search()
    assert isinstance(data, ImageData)
    images = torch.from_numpy(data.held_out.images).float() / 255
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    program = torch.export.load(folder / "model.pt2").module()
    for batch in (images[:1], images[3:6], images[:40]):
        with torch.no_grad():
            expected = built(search, finalist)(batch).numpy()
            torch.testing.assert_close(program(batch).numpy(), expected, atol=1e-5, rtol=1e-5)
        (found,) = session.run(None, {"images": batch.numpy()})
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)


def test_an_export_records_what_was_compared(search: Search) -> None:
    export = read_export(search, 0)
    assert export is not None
    assert (export.status, export.there) == ("ok", ["model.pt2", "model.onnx"])
    onnx = export.files["model.onnx"]
    assert onnx.images == 40
    assert onnx.largest_difference is not None
    assert onnx.share_of_tolerance is not None
    assert 0 < onnx.largest_difference < 1e-4
    assert 0 < onnx.share_of_tolerance < 1


def test_files_name_no_folder_of_this_machine(search: Search) -> None:
    for path in search.folder.model(0).iterdir():
        content = path.read_bytes()
        for folder in (Path(torch.__file__).parent.parent, Path(__file__).parent.parent, search.folder.path):
            assert str(folder).encode() not in content, path.name


def test_examples_hold_images_and_their_logits(search: Search, finalist: Finalist) -> None:
    with np.load(search.folder.model(0) / "examples.npz", allow_pickle=False) as examples:
        images, logits = torch.from_numpy(examples["images"]), examples["logits"]
    with torch.no_grad():
        np.testing.assert_allclose(built(search, finalist)(images).numpy(), logits, atol=1e-6)


def test_the_card_says_how_good_where_from_and_what_not_for(search: Search, finalist: Finalist) -> None:
    written = json.loads((search.folder.model(0) / "card.json").read_text())
    errors = [float(repeat.metrics["test_error"]) for repeat in finalist.repeats]
    interval = mean_interval(errors)
    assert written["model"] == "tiny-random-seed-1-finalist-0"
    assert written["test"]["error_mean"] == interval.mean
    assert written["test"]["error_interval_95"] == [max(0.0, interval.low), min(1.0, interval.high)]
    assert written["data"]["licence"] == "CC BY 4.0 (UCI repository)"
    assert (written["data"]["training_images"], written["data"]["validation_images"]) == (60, 40)
    assert written["architecture"]["parameters"] == finalist.repeats[0].metrics["parameters"]
    assert "batches" not in written["use"]
    text = (search.folder.model(0) / "card.md").read_text()
    for section in ("Architecture", "Data", "Input", "Test", "Training", "Cost", "Use", "Export", "Provenance"):
        assert f"\n## {section}\n" in text


def test_the_card_speaks_of_the_exported_network_and_its_own_training(search: Search, finalist: Finalist) -> None:
    """Not of the other draws of its generator, nor of how candidates are trained."""
    own = Training(learning_rate=0.025)
    finalists = search.experiment.finalists.model_copy(update={"draws": 2, "training": own})
    other = finalist.repeats[0].proposal.model_copy(update={"genotype": {"another": "draw"}})
    failed = Evaluation(proposal=other, status="failed", reason="diverged", cost=Cost(seconds=1000.0))
    content = card.content(
        replace(search, experiment=search.experiment.model_copy(update={"finalists": finalists})),
        finalist.model_copy(update={"repeats": [*finalist.repeats, failed]}),
        Export(rank=0, status="ok"),
        ("a", "b"),
        tolerance=(0.0, 0.0),
        depends_on_batch=False,
    )
    assert content["training"]["learning_rate"] == 0.025
    assert (content["test"]["trainings"], content["test"]["failed_trainings"]) == (2, 0)
    assert content["cost"]["seconds_of_all_trainings"] == seconds_of(finalist.repeats)


def test_a_finalist_that_does_not_exist_is_said_to_be_absent(search: Search) -> None:
    export = read_export(search, 1)
    assert export is not None
    assert export.status == "absent"
    assert [path.name for path in search.folder.model(1).iterdir()] == ["export.json"]


def copy_of(search: Search, folder: Path) -> Search:
    """A second search of the same settings, for a finalist of one's own."""
    experiment = search.experiment.model_copy(update={"results": str(folder)})
    other = Search(experiment, search.label, search.seed)
    write_json(experiment.folder.data, experiment.task.facts())
    return other


def write_finalist(search: Search, finalist: Finalist) -> None:
    write_json(search.folder.finalist(0), finalist.model_dump(mode="json"))


def test_a_finalist_without_a_successful_training_is_a_failed_export(
    search: Search, finalist: Finalist, tmp_path: Path
) -> None:
    other = copy_of(search, tmp_path)
    repeats = [Evaluation(proposal=repeat.proposal, status="failed", reason="r") for repeat in finalist.repeats]
    write_finalist(other, finalist.model_copy(update={"repeats": repeats}))
    export_finalists(other, [0])
    export = read_export(other, 0)
    assert export is not None
    assert (export.status, export.reason) == ("failed", "none of its trainings succeeded")


def test_what_a_killed_export_left_is_removed(search: Search, finalist: Finalist, tmp_path: Path) -> None:
    other = copy_of(search, tmp_path)
    write_finalist(other, finalist)
    left = other.folder.model(0) / ".export.killed"
    left.mkdir(parents=True)
    (left / "model.onnx").write_text("half of it")
    export_finalists(other, [0])
    assert not left.exists()


def test_weights_that_are_missing_damaged_or_of_another_training_are_a_failed_export(
    search: Search, finalist: Finalist, tmp_path: Path
) -> None:
    other = copy_of(search, tmp_path)
    write_finalist(other, finalist)
    weights = other.folder.weights(0)

    def reason() -> str:
        export_finalists(other, [0])
        export = read_export(other, 0)
        assert export is not None
        assert export.status == "failed"
        return export.reason

    assert reason().startswith("there are no weights (weights.pt)")
    weights.write_bytes(search.folder.weights(0).read_bytes()[:500])
    assert reason().startswith("weights.pt cannot be read")
    weights.write_bytes(search.folder.weights(0).read_bytes())
    later = [e.model_copy(update={"proposal": e.proposal.model_copy(update={"epochs": 9})}) for e in finalist.repeats]
    write_finalist(other, finalist.model_copy(update={"repeats": later}))
    assert reason().startswith("weights.pt is of another training")
    with pytest.raises(WeightsError):
        load_model(tmp_path / "nothing.pt", a_classifier(SMALL), "")


# --- one network -----------------------------------------------------------------------------------


def a_classifier(shape: Shape, **space: Any) -> Classifier:
    settings = GeneratorSpace(levels=(LEVEL,), parameters=4000, head_channels=16, **space)
    torch.manual_seed(1)
    network = settings.build(settings.sample(np.random.default_rng(3)), shape)
    statistics = torch.full((1, shape.channels, 1, 1), 0.4)
    return Classifier(network, statistics, statistics / 2).eval()


def some_images(shape: Shape, count: int = 12) -> torch.Tensor:
    return torch.rand(count, shape.channels, shape.height, shape.width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("merge", ["attention", "concat"])
def test_networks_of_odd_sizes_and_other_merges_are_exported(tmp_path: Path, merge: str) -> None:
    shape = Shape(3, 30, 22, 5)
    classifier = a_classifier(shape, merge={merge: 1.0}, operations={"conv3x3": 1.0, "avg_pool3x3": 1.0})
    files = exporting.export(classifier, some_images(shape), tmp_path)
    assert {name: file.reason for name, file in files.items()} == {"model.pt2": "", "model.onnx": ""}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.pt2"]
    assert exporting.depends_on_batch(classifier, some_images(shape)) == (merge == "attention")


SMALL = Shape(1, 8, 8, 3)


def bent(
    change: Callable[[np.ndarray], np.ndarray],
) -> Callable[..., Run]:
    """A maker of a file that answers as `change` says."""

    def make(program: torch.export.ExportedProgram, path: Path, **names: object) -> Run:
        path.write_text("a file")
        module = program.module()
        return lambda images: (torch.from_numpy(change(module(images).detach().numpy())),)

    return make


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda logits: logits + 0.01, "one of the logits differs from PyTorch's by"),
        (lambda logits: logits * np.nan, "are not finite"),
        (lambda logits: logits[:, :2], "logits (1, 2) for a batch of 1"),
    ],
)
def test_a_file_that_answers_otherwise_is_recorded_as_failed_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[np.ndarray], np.ndarray], reason: str
) -> None:
    monkeypatch.setattr(exporting, "_onnx_file", bent(change))
    files = exporting.export(a_classifier(SMALL), some_images(SMALL), tmp_path)
    assert files["model.pt2"].status == "ok"
    assert files["model.onnx"].status == "failed"
    assert reason in files["model.onnx"].reason
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


def test_an_exporter_that_raises_is_recorded_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("no such operator\nand more")

    monkeypatch.setattr(torch.onnx, "export", broken)
    file = exporting.export(a_classifier(SMALL), some_images(SMALL), tmp_path)["model.onnx"]
    assert (file.status, file.reason) == ("failed", "RuntimeError: no such operator")


def test_differences_are_measured_against_the_tolerance() -> None:
    classifier, images = a_classifier(SMALL), some_images(SMALL)

    def answers(batch: torch.Tensor) -> tuple[torch.Tensor]:
        expected = classifier(batch).detach()
        return (expected + (exporting.ABSOLUTE_TOLERANCE + exporting.RELATIVE_TOLERANCE * expected.abs()) / 2,)

    result = exporting.compare(answers, classifier, images)
    assert result.status == "ok"
    assert result.share_of_tolerance == pytest.approx(0.5, rel=0.01)
    assert result.images == len(images)
