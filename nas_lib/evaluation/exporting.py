"""A classifier as files that other programs load, each compared with PyTorch before it is kept."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas_lib.evaluation.classifier import Classifier
from nas_lib.records import ExportedFile

ABSOLUTE_TOLERANCE = 1e-4
RELATIVE_TOLERANCE = 1e-4
"""A logit b of PyTorch may become a with |a - b| <= absolute + relative |b|; float32 has a precision of 6e-8."""
BATCHES = (1, 2, 7, 64)
"""Sizes of the first batches compared; the last one holds all images that are left."""

log = logging.getLogger(__name__)
Model = Callable[[Tensor], np.ndarray]
"""A reloaded file: images (n, c, h, w) to logits (n, classes)."""


def export(classifier: Classifier, images: Tensor, folder: Path) -> dict[str, ExportedFile]:
    """Write a classifier (on the CPU, in evaluation mode) as `model.pt2` and `model.onnx`, with any batch size.

    Each file is loaded again and compared on `images` (n, c, h, w), float32 in [0, 1]. One that cannot be made or
    differs is not kept, and its reason is returned.
    """
    makers: dict[str, Callable[[torch.export.ExportedProgram, Path], Model]] = {
        "model.pt2": _torch_file,
        "model.onnx": _onnx_file,
    }
    program = cache(lambda: _program(classifier, images))
    folder.mkdir(parents=True, exist_ok=True)
    return {name: _checked(make, program, classifier, images, folder / name) for name, make in makers.items()}


def _checked(
    make: Callable[[torch.export.ExportedProgram, Path], Model],
    program: Callable[[], torch.export.ExportedProgram],
    classifier: Classifier,
    images: Tensor,
    path: Path,
) -> ExportedFile:
    path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export.") as partial:
        new = Path(partial) / path.name
        try:
            result = compare(make(program(), new), classifier, images)
        except OSError:
            raise  # the disk, not the network
        except Exception as error:  # exporters and runtimes raise many kinds; whatever it is becomes a result
            log.exception("%s", path)
            return ExportedFile(status="failed", reason=_first_cause(error))
        if result.status == "ok":
            new.replace(path)
        return result


def _first_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"


def _program(classifier: Classifier, images: Tensor) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(classifier, (images[:2],), dynamic_shapes={"images": {0: batch}})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def _torch_file(program: torch.export.ExportedProgram, path: Path) -> Model:
    torch.export.save(program, path)
    module = torch.export.load(path).module()
    return lambda images: module(images).numpy()


def _onnx_file(program: torch.export.ExportedProgram, path: Path) -> Model:
    import onnxruntime

    made: Any = torch.onnx.export(
        program, dynamo=True, input_names=["images"], output_names=["logits"], external_data=False, verbose=False
    )
    made.save(path, external_data=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(["logits"], {"images": images.numpy()})[0])


@torch.no_grad()
def compare(model: Model, classifier: Classifier, images: Tensor) -> ExportedFile:
    """How the logits of a reloaded file differ from those of PyTorch, over batches of several sizes."""
    largest = share = 0.0
    other = 0
    for batch in _batches(images):
        expected, found = classifier(batch).numpy(), model(batch)
        if found.shape != expected.shape or not np.isfinite(found).all():
            return ExportedFile(
                status="failed",
                reason=f"logits {found.shape} for a batch of {len(batch)} are not finite, or not {expected.shape}",
            )
        difference = np.abs(found - expected)
        largest = max(largest, float(difference.max()))
        share = max(share, float((difference / (ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * np.abs(expected))).max()))
        other += int((found.argmax(1) != expected.argmax(1)).sum())
    reason = "" if share <= 1 else f"a logit differs from PyTorch's by {share:.3g} times the tolerance"
    return ExportedFile(
        status="failed" if reason else "ok",
        reason=reason,
        images=len(images),
        largest_difference=largest,
        share_of_tolerance=share,
        other_classes=other,
    )


def _batches(images: Tensor) -> list[Tensor]:
    cuts = np.cumsum(BATCHES).tolist()
    return [batch for batch in images.tensor_split(cuts) if len(batch)]


@torch.no_grad()
def depends_on_batch(classifier: Classifier, images: Tensor) -> bool:
    """Whether the logits of an image depend on the images beside it, as with merge `attention`."""
    together = classifier(images)
    alone = torch.cat([classifier(image[None]) for image in images])
    return not torch.allclose(together, alone, atol=ABSOLUTE_TOLERANCE, rtol=RELATIVE_TOLERANCE)
