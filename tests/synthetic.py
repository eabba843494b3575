"""Experiments whose results are made up: the files a search would have written, without any training."""

from pathlib import Path
from typing import Any

import numpy as np

from nas_lib import comparison
from nas_lib.experiment import Experiment, parse
from nas_lib.layout import write_json, write_records, write_text
from nas_lib.records import Cost, Evaluation, Export, ExportedFile, Finalist, Proposal
from nas_lib.search import Search

BEGAN = 1_700_000_000.0
FAILED = (0, 1)
"""The candidate of a full first round that failed."""
DUPLICATE = (1, 0)
"""The candidate that equals (0, 0)."""


def an_experiment(folder: Path, **changes: Any) -> Experiment:
    """One random search of 2 rounds x 3 candidates for 2 epochs, and one finalist trained twice."""
    content = {
        "experiment": "made-up",
        "results": str(folder / "results"),
        "task": {"name": "digits"},
        "space": {"name": "generator", "levels": [{"model": "WS", "nodes": [3, 6], "k": [2, 4], "p": [0.1, 0.9]}]},
        "strategies": ["random"],
        "objectives": ["error", "parameters"],
        "budget": {"rounds": 2, "proposals": 3, "jobs": 1, "epochs": 2},
        "finalists": {"count": 1, "repeats": 2, "epochs": 4},
        "tracking": {"uri": f"sqlite:///{folder / 'results' / 'mlflow.db'}"},
    }
    return parse(content | changes, "made up")


def searches_of(experiment: Experiment) -> list[Search]:
    return [Search(experiment, label, seed) for label in experiment.labels for seed in experiment.seeds]


def write_round(search: Search, round: int, finished: int | None = None) -> None:
    """The files of a round of which the first `finished` candidates (default: all) are evaluated."""
    budget = search.experiment.budget
    proposals = [_proposal(search, round, slot) for slot in range(budget.proposals)]
    write_json(search.folder.proposals(round), [proposal.model_dump(mode="json") for proposal in proposals])
    for proposal in proposals[:finished]:
        if proposal.duplicate_of is None:
            write_evaluation(search, proposal)


def write_evaluation(search: Search, proposal: Proposal, error: float | None = None) -> None:
    """A made-up result: 10 s of training that began 10 s after that of the candidate before."""
    rng = np.random.default_rng([search.seed, *proposal.candidate])
    started = BEGAN + 10 * (proposal.round * search.experiment.budget.proposals + proposal.slot)
    cost = Cost(seconds=10.0, epochs=proposal.epochs, started=started, finished=started + 10)
    evaluation = Evaluation(proposal=proposal, status="failed", reason="out of memory", cost=cost)
    if proposal.candidate != FAILED:
        curve = [float(value) for value in rng.random(proposal.epochs)]
        curve[-1] = curve[-1] if error is None else error
        figures = {"error": curve[-1], "parameters": float(rng.integers(1000, 9000))}
        evaluation = Evaluation(
            proposal=proposal,
            status="ok",
            objectives=figures,
            metrics={**figures, "flops": 2000},
            wall_clock={"device": "cpu"},
            curves=dict.fromkeys(("train_loss", "train_error", "validation_loss", "validation_error"), curve),
            cost=cost,
        )
    write_text(search.folder.work(proposal.candidate) / "evaluation.json", evaluation.model_dump_json())


def write_finalist(search: Search, rank: int, *, transfer: bool = False) -> None:
    """A retrained finalist with test errors 0.2, 0.3, ..., on the second data set if asked for."""
    settings = search.experiment.carried.finalists if transfer else search.experiment.finalists
    chosen = Evaluation(proposal=_proposal(search, 0, 0), status="ok")
    repeats = [
        Evaluation(
            proposal=chosen.proposal.model_copy(update={"slot": repeat, "epochs": settings.epochs}),
            status="ok",
            metrics={"test_error": 0.2 + repeat / 10},
            cost=Cost(seconds=20.0, epochs=settings.epochs, started=BEGAN + 500, finished=BEGAN + 520),
        )
        for repeat in range(settings.repeats)
    ]
    for repeat, evaluation in enumerate(repeats):
        work = search.folder.retraining(rank, 0, repeat, transfer=transfer)
        write_text(work / "evaluation.json", evaluation.model_dump_json())
    target = search.folder.transfer(rank) if transfer else search.folder.finalist(rank)
    write_records(target, [Finalist(rank=rank, chosen=chosen, repeats=repeats)])


def write_model(search: Search, rank: int, shift: float = 0.0) -> None:
    """An exported finalist: two images of two pixels, of which `shift` away are the logits."""
    import onnx
    from onnx import TensorProto, helper

    folder = search.folder.model(rank)
    folder.mkdir(parents=True, exist_ok=True)
    images = np.array([[[[0.1, 0.2]]], [[[0.3, 0.4]]]], dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["images"], ["flat"]), helper.make_node("Add", ["flat", "shift"], ["logits"])],
        "made-up",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 1, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor("shift", TensorProto.FLOAT, [], [shift])],
    )
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), folder / "model.onnx")
    np.savez(folder / "examples.npz", images=images, logits=images.reshape(2, 2) + np.float32(shift))
    size = {"hash": "h", "parameters": 1, "flops": 4, "activation_memory": 16}
    write_json(folder / "card.json", {"test": {"error_mean": 0.25}, "architecture": size})
    write_text(folder / "card.md", "# A model\n")
    files = {"model.onnx": ExportedFile(status="ok", images=2, largest_difference=1e-6, share_of_tolerance=0.01)}
    write_json(search.folder.export(rank), Export(rank=rank, status="ok", files=files).model_dump(mode="json"))


def write_everything(experiment: Experiment) -> None:
    """All rounds, finalists and the comparison."""
    for search in searches_of(experiment):
        for round in range(experiment.budget.rounds):
            write_round(search, round)
        write_json(search.folder.finalists, [{}] * experiment.finalists.count)
        for rank in range(experiment.finalists.count):
            write_finalist(search, rank)
    write_json(experiment.folder.comparison, comparison.compare(experiment))


def _proposal(search: Search, round: int, slot: int) -> Proposal:
    address = (0, 0) if (round, slot) == DUPLICATE else (round, slot)
    return Proposal(
        round=round,
        slot=slot,
        genotype=search.experiment.space.sample(np.random.default_rng([search.seed, *address])),
        hash=f"hash-{address[0]}-{address[1]}",
        epochs=search.experiment.budget.epochs,
        origin="random",
        duplicate_of=address if address != (round, slot) else None,
    )
