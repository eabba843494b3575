"""Finalists leave the platform: files that other programs load, checked, with a card that says what they are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING

from nas_lib.layout import write_json, write_text
from nas_lib.records import Export, Finalist
from nas_lib.search import Search

if TYPE_CHECKING:
    from torch import Tensor

    from nas_lib.evaluation.deployed import Deployed
    from nas_lib.tasks.data import Data

INPUTS = 256
"""Validation images or sequences on which an exported file is compared with PyTorch."""
EXAMPLES = 4
"""Of these, how many are kept with their outputs, for whoever deploys a file."""


def export_finalists(search: Search, ranks: Iterable[int]) -> None:
    """Export the finalists of some ranks as `model.pt2` and `model.onnx` each, with a model card and examples.

    Whatever stands in the way of one is recorded in its `export.json`, with its reason.

    Raises:
        FileNotFoundError: a finalist has not been retrained yet.
        DataError: the validation split cannot be read.
    """
    folder = search.folder

    @cache
    def data() -> Data:
        return search.experiment.task.for_search()

    for rank in ranks:
        finalist = Finalist.model_validate_json(folder.finalist(rank).read_text())
        for path in folder.model(rank).glob("*"):  # also what a killed export left
            if path.is_dir():
                shutil.rmtree(path)
            elif path != folder.weights(rank):
                path.unlink()
        write_json(folder.export(rank), _export(search, finalist, data).model_dump(mode="json"))


def _export(search: Search, finalist: Finalist, read: Callable[[], Data]) -> Export:
    rank, repeat = finalist.rank, finalist.exported
    if finalist.chosen is None:
        return Export(rank=rank, status="absent", reason="the front has fewer members than finalists were asked for")
    if repeat is None:
        return Export(rank=rank, status="failed", reason="none of its trainings succeeded")

    from nas_lib.evaluation import exporting, training
    from nas_lib.evaluation.candidate import identity
    from nas_lib.evaluation.deployed import WeightsError, load_model
    from nas_lib.report import card

    experiment, folder = search.experiment, search.folder.model(rank)
    device = training.prepare_device("cpu", experiment.resources.threads)
    data = read()
    there = training.to_device(data, device)
    inputs = there.examples(INPUTS)
    untrained = there.deployed(experiment.architectures.build(repeat.proposal.genotype, data.shape))
    try:
        model = load_model(search.folder.weights(rank), untrained, identity(repeat.proposal))
    except WeightsError as error:
        return Export(rank=rank, status="failed", reason=str(error))
    files = exporting.export(model, inputs, folder)
    reasons = [f"{name}: {file.reason}" for name, file in files.items() if file.status == "failed"]
    result = Export(rank=rank, status="failed" if reasons else "ok", reason="; ".join(reasons), files=files)
    _write_examples(search, rank, model, inputs[:EXAMPLES])
    content = card.content(
        search,
        finalist,
        result,
        data.class_names,
        tolerance=(exporting.ABSOLUTE_TOLERANCE, exporting.RELATIVE_TOLERANCE),
        depends_on_batch=exporting.depends_on_batch(model, inputs),
    )
    write_json(folder / "card.json", content)
    write_text(folder / "card.md", card.markdown(content))
    return result


def _write_examples(search: Search, rank: int, model: Deployed, inputs: Tensor) -> None:
    """What the files take for a few validation inputs, and what they give, as arrays called as in the files."""
    import numpy as np
    import torch

    given = model.arguments(inputs)
    with torch.no_grad():
        found = model.exported()(*given)
    outputs = found if isinstance(found, tuple) else (found,)
    path = search.folder.model(rank) / "examples.npz"
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    names, arrays = model.takes + model.gives, [each.numpy() for each in (*given, *outputs)]
    np.savez(partial, **dict(zip(names, arrays, strict=True)))
    partial.replace(path)


def read_export(search: Search, rank: int) -> Export | None:
    """What became of the export of a finalist; None while it has not been tried."""
    path = search.folder.export(rank)
    return Export.model_validate_json(path.read_text()) if path.exists() else None
