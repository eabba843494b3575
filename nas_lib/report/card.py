"""The card of a model: what it is, what it was made from, how good it is, and what it is not for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

from nas_lib import pareto
from nas_lib.records import Export, ExportedFile, Finalist, networks_of
from nas_lib.report import provenance
from nas_lib.search import Search

ERRORS = {
    "images": "share of test images misclassified",
    "texts": "share of test texts misclassified",
    "tokens": "share of the tokens of the test text that were not expected most",
    "sequences": "share of test sequences that were not wholly right",
}
"""What counts -> what the error is."""
OTHERS = {
    "loss": "what training descends on, of the test {items}",
    "perplexity": "exponential of the mean cross-entropy of the test {items}",
}
"""The other measures."""


def content(
    search: Search,
    finalist: Finalist,
    export: Export,
    class_names: Sequence[str],
    *,
    tolerance: tuple[float, float],
    depends_on_batch: bool,
) -> dict[str, Any]:
    """The card as plain data: section -> name -> value.

    Raises:
        ValueError: the finalist has no training that succeeded.
    """
    experiment, chosen, exported = search.experiment, finalist.chosen, finalist.exported
    if chosen is None or exported is None:
        raise ValueError(f"finalist {finalist.rank} has no network")
    facts = json.loads(experiment.folder.data.read_text())
    task = experiment.task
    space, genotype = experiment.space, exported.proposal.genotype
    if task.modality == "images":
        items, input_, output, use = _of_images(facts, task.name)
    else:
        items, input_, output, use = _of_sequences(facts, task.name, whole="whole" in space.operators())
    trainings = networks_of(finalist.repeats)[0]
    trained = [repeat for repeat in trainings if repeat.ok]
    measure = experiment.measure
    test = pareto.mean_interval([float(repeat.metrics[f"test_{measure}"]) for repeat in trained])
    meanings = {"error": ERRORS[items]} | {name: words.format(items=items) for name, words in OTHERS.items()}
    told = [measure, *(name for name in task.measures if name != measure and task.modality != "images")]
    absolute, relative = tolerance
    return {
        "model": search.model_name(finalist.rank),
        "architecture": {
            "space": space.name,
            "description": space.describe(genotype),
            "hash": exported.proposal.hash,
            **{name: exported.metrics[name] for name in ("parameters", "flops", "activation_memory")},
            "genotype": genotype,
        },
        "data": {
            "task": experiment.task.name,
            "licence": experiment.task.licence,
            f"training_{items}": facts["train"],
            f"validation_{items}": facts["validation"],
            f"test_{items}": facts["test"],
            "classes": list(class_names),
        },
        "input": input_,
        "output": output,
        "validation": {
            **chosen.objectives,
            "note": (
                f"by a network of this architecture after {chosen.proposal.epochs} epochs, in the search that chose "
                "it; optimistic for that reason"
            ),
        },
        "test": {
            f"{measure}_mean": test.mean,
            **({f"{measure}_interval_95": _possible(measure, test.low, test.high)} if test.count > 1 else {}),
            "trainings": test.count,
            "failed_trainings": len(trainings) - test.count,
            "exported_training": exported.proposal.slot,
            f"{measure}_of_the_exported_training": exported.metrics[f"test_{measure}"],
            **{
                f"{name.removeprefix('test_')}_mean": fmean(float(repeat.metrics[name]) for repeat in trained)
                for name in exported.metrics
                if name.startswith(("test_", "generalisation"))
                and name != f"test_{measure}"
                and all(name in repeat.metrics for repeat in trained)
                and task.modality != "images"
            },
            "note": (
                f"{_meanings(told, meanings)}; interval: Student's t over trainings from different random weights. "
                f"Exported is the first training that succeeded, whatever its test {measure}"
            ),
        },
        "training": {
            items: (
                f"training {items}; the validation {items} decide on the schedule only"
                if task.finalists_validate
                else "training and validation images together"
            ),
            "epochs": exported.proposal.epochs,
            **experiment.finalist_training.model_dump(mode="json", exclude={"checkpoint_seconds"}),
        },
        "cost": {
            "seconds": exported.cost.seconds,
            "seconds_of_all_trainings": pareto.seconds_of(trainings),
            "epochs_of_all_trainings": sum(repeat.cost.epochs for repeat in trainings),
            "device": str(exported.wall_clock.get("device", "not known")),
        },
        "use": {
            **use,
            **(
                {
                    "batches": "Its outputs for an image depend on the other images of its batch: give it one image at "
                    "a time for answers that repeat. Its test error was measured on batches."
                }
                if depends_on_batch
                else {}
            ),
        },
        "export": {
            "checked": (
                f"each file was loaded again and its outputs compared with PyTorch's on validation {items}, in batches "
                f"of several sizes; a difference up to {absolute:g} + {relative:g} |output| is accepted"
            ),
            **{
                name: {items if key == "images" else key: value for key, value in _compared(file).items()}
                for name, file in export.files.items()
            },
        },
        "provenance": {
            "experiment": experiment.experiment,
            "strategy": search.label,
            "seed": search.seed,
            "finalist": finalist.rank,
            "round": chosen.proposal.round,
            "slot": chosen.proposal.slot,
            "trained": f"{datetime.fromtimestamp(exported.cost.finished, UTC):%Y-%m-%d %H:%M} UTC",
            "commit": provenance.commit(),
        },
        "versions": provenance.versions(),
    }


def _possible(measure: str, low: float, high: float) -> list[float]:
    """An interval without what no measure can be."""
    return [max(0.0, low), min(1.0, high) if measure == "error" else high]


def _meanings(told: Sequence[str], meanings: Mapping[str, str]) -> str:
    """What the measures are; the error alone needs no name."""
    return meanings[told[0]] if told == ["error"] else "; ".join(f"{name}: {meanings[name]}" for name in told)


def _compared(file: ExportedFile) -> dict[str, Any]:
    return file.model_dump(mode="json", exclude_defaults=True) | {"status": file.status}


def _of_images(facts: Mapping[str, Any], name: str) -> tuple[str, dict[str, str], dict[str, str], dict[str, str]]:
    """What is said of image classifiers: what they see, input, output and use."""
    shape = facts["shape"]
    return (
        "images",
        {
            "images": f"float32 (n, {shape['channels']}, {shape['height']}, {shape['width']}), any n of at least 1",
            "pixels": "from 0 to 1; their normalisation is part of the model",
        },
        {"logits": f"float32 (n, {shape['classes']}), in the order of the classes"},
        {
            "intended": (
                f"To classify images like those of {name}, and to compare architectures; nothing beyond the test "
                "images says how it does on others."
            ),
            "limits": (
                f"It always names one of its {shape['classes']} classes, its logits are no calibrated probabilities, "
                "and bias in the data was not examined: do not rely on it where a wrong answer does harm."
            ),
        },
    )


def _of_sequences(
    facts: Mapping[str, Any], name: str, *, whole: bool
) -> tuple[str, dict[str, str], dict[str, str], dict[str, str]]:
    """The same of recurrent networks, whose files compute one step, and of those that read sequences as a `whole`."""
    shape, items = facts["shape"], facts["items"]
    time = "time" if whole else "1"
    inputs = f"int64 (n, {time})" if shape["tokens"] else f"float32 (n, {time}, {shape['inputs']})"
    kind = "numbers of symbols, in the order of the task" if shape["tokens"] else "features of every step"
    symbols = f"{shape['inputs']}: {kind}" if shape["tokens"] else kind
    intended = (
        f"For {items} like those of {name}, and to compare architectures; nothing beyond its test {items} says how it "
        "does on others."
    )
    limits = (
        "outputs are no calibrated probabilities, and bias in the data was not examined: do not rely on it where a "
        "wrong answer does harm."
    )
    if whole:
        padding = shape.get("padding")
        return (
            items,
            {
                "inputs": f"{inputs}, n sequences of one length, any n and any length of at least 1",
                **({} if padding is None else {"padding": f"{padding} before shorter sequences, which has no effect"}),
                "symbols": symbols,
            },
            {"outputs": f"float32 (n, {shape['outputs']}), of the whole sequence"},
            {"intended": intended, "limits": f"It was trained on sequences of {shape['length']} steps, its {limits}"},
        )
    last = items == "texts" or name == "adding"
    return (
        items,
        {
            "inputs": f"{inputs}, one step of n sequences, any n of at least 1",
            "state": "float32 (n, s), with s as in examples.npz: zeros before the first step, then `next_state`",
            "symbols": symbols,
        },
        {
            "outputs": f"float32 (n, {shape['outputs']}){', of which those of the last step count' if last else ''}",
            "next_state": "float32 (n, s), the state that is given with the next step",
        },
        {"intended": intended, "limits": f"It begins every input with a state of zeros, its {limits}"},
    )


def markdown(card: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = [f"# {card['model']}"]
    for section, entries in card.items():
        if section != "model":
            lines += ["", f"## {_words(section)}", ""]
            lines += [
                f"- **{name if section == 'versions' else _words(name)}**: {_text(value)}"
                for name, value in entries.items()
                if name != "genotype"  # the description says it in one line
            ]
    return "\n".join(lines) + "\n"


def _words(name: str) -> str:
    if "." in name:
        return f"`{name}`"
    words = name.replace("_", " ").replace("flops", "FLOPs")
    return words if words[0].isupper() else words[0].upper() + words[1:]


def _text(value: object) -> str:
    if isinstance(value, bool | None):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(_text(entry) for entry in value)
    if isinstance(value, Mapping):
        return "; ".join(f"{name.replace('_', ' ')} {_text(entry)}" for name, entry in value.items())
    return str(value)
