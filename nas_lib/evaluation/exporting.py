"""A trained network as files that other programs load, each compared with PyTorch before it is kept."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas_lib.evaluation.deployed import Deployed
from nas_lib.records import ExportedFile

ABSOLUTE_TOLERANCE = 1e-4
RELATIVE_TOLERANCE = 1e-4
"""An output b of PyTorch may become a with |a - b| <= absolute + relative |b|; float32 has a precision of 6e-8."""
BATCHES = (1, 2, 7, 64)
"""Sizes of the first batches compared; the last one holds all inputs that are left."""

log = logging.getLogger(__name__)
Model = Callable[[Tensor], np.ndarray]
"""A reloaded file: inputs to outputs."""


def export(model: Deployed, inputs: Tensor, folder: Path) -> dict[str, ExportedFile]:
    """Write a model (on the CPU, in evaluation mode) as `model.pt2` and `model.onnx`, with any batch size.

    Each file is loaded again and compared on `inputs`: images (n, c, h, w), float32 in [0, 1], or sequences, whose
    length is that of the file too. One that cannot be made or differs is not kept, and its reason is returned.
    """
    makers: dict[str, Callable[[torch.export.ExportedProgram, Path], Model]] = {
        "model.pt2": _torch_file,
        "model.onnx": partial(_onnx_file, names=model.names),
    }
    program = cache(lambda: _program(model, inputs))
    folder.mkdir(parents=True, exist_ok=True)
    return {name: _checked(make, program, model, inputs, folder / name) for name, make in makers.items()}


def _checked(
    make: Callable[[torch.export.ExportedProgram, Path], Model],
    program: Callable[[], torch.export.ExportedProgram],
    model: Deployed,
    inputs: Tensor,
    path: Path,
) -> ExportedFile:
    path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export.") as partial:
        new = Path(partial) / path.name
        try:
            result = compare(make(program(), new), model, inputs)
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


def _program(model: Deployed, inputs: Tensor) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(model, (inputs[:2],), dynamic_shapes=({0: batch},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def _torch_file(program: torch.export.ExportedProgram, path: Path) -> Model:
    torch.export.save(program, path)
    module = torch.export.load(path).module()
    return lambda inputs: module(inputs).numpy()


def _onnx_file(program: torch.export.ExportedProgram, path: Path, names: tuple[str, str]) -> Model:
    import onnxruntime

    made: Any = torch.onnx.export(
        program, dynamo=True, input_names=names[:1], output_names=names[1:], external_data=False, verbose=False
    )
    made.save(path, external_data=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda inputs: np.asarray(session.run([names[1]], {names[0]: inputs.numpy()})[0])


@torch.no_grad()
def compare(file: Model, model: Deployed, inputs: Tensor) -> ExportedFile:
    """How the outputs of a reloaded file differ from those of PyTorch, over batches of several sizes."""
    largest = share = 0.0
    other = 0
    for batch in _batches(inputs):
        expected, found = model(batch).numpy(), file(batch)
        if found.shape != expected.shape or not np.isfinite(found).all():
            return ExportedFile(
                status="failed",
                reason=f"{model.names[1]} {found.shape} for a batch of {len(batch)} are not finite, or not "
                f"{expected.shape}",
            )
        difference = np.abs(found - expected)
        largest = max(largest, float(difference.max()))
        share = max(share, float((difference / (ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * np.abs(expected))).max()))
        other += int((found.argmax(-1) != expected.argmax(-1)).sum())
    reason = (
        "" if share <= 1 else f"one of the {model.names[1]} differs from PyTorch's by {share:.3g} times the tolerance"
    )
    return ExportedFile(
        status="ok" if share <= 1 else "failed",
        reason="" if share <= 1 else reason,
        images=len(inputs),
        largest_difference=largest,
        share_of_tolerance=share,
        other_classes=other,
    )


def _batches(inputs: Tensor) -> list[Tensor]:
    cuts = np.cumsum(BATCHES).tolist()
    return [batch for batch in inputs.tensor_split(cuts) if len(batch)]


@torch.no_grad()
def depends_on_batch(model: Deployed, inputs: Tensor) -> bool:
    """Whether the outputs of an input depend on those beside it, as with merge `attention`."""
    together = model(inputs)
    alone = torch.cat([model(one[None]) for one in inputs])
    return not torch.allclose(together, alone, atol=ABSOLUTE_TOLERANCE, rtol=RELATIVE_TOLERANCE)
