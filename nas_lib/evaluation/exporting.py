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

from nas_lib.evaluation.deployed import Deployed, Run
from nas_lib.records import ExportedFile

ABSOLUTE_TOLERANCE = 1e-4
RELATIVE_TOLERANCE = 1e-4
"""An output b of PyTorch may become a with |a - b| <= absolute + relative |b|; float32 has a precision of 6e-8."""
BATCHES = (1, 2, 7, 64)
"""Sizes of the first batches compared; the last one holds all inputs that are left."""

log = logging.getLogger(__name__)


def export(model: Deployed, inputs: Tensor, folder: Path) -> dict[str, ExportedFile]:
    """Write a model (on the CPU, in evaluation mode) as `model.pt2` and `model.onnx`, with any batch size and, where it
    reads sequences as a whole, any length.

    Each file is loaded again and compared on `inputs`: images (n, c, h, w), float32 in [0, 1], or sequences. One
    that cannot be made or differs is not kept, and its reason is returned.
    """
    makers: dict[str, Callable[[torch.export.ExportedProgram, Path], Run]] = {
        "model.pt2": _torch_file,
        "model.onnx": partial(_onnx_file, takes=model.takes, gives=model.gives),
    }
    program = cache(lambda: _program(model, inputs))
    folder.mkdir(parents=True, exist_ok=True)
    return {name: _checked(make, program, model, inputs, folder / name) for name, make in makers.items()}


def _checked(
    make: Callable[[torch.export.ExportedProgram, Path], Run],
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
    free = {axis: torch.export.Dim(name, min=1) for axis, name in enumerate(model.free)}
    arguments = model.arguments(inputs[:2])
    program = torch.export.export(model.exported(), arguments, dynamic_shapes=tuple(free for _ in arguments))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def _torch_file(program: torch.export.ExportedProgram, path: Path) -> Run:
    torch.export.save(program, path)
    module = torch.export.load(path).module()

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        found = module(*inputs)
        return found if isinstance(found, tuple) else (found,)

    return run


def _onnx_file(
    program: torch.export.ExportedProgram, path: Path, takes: tuple[str, ...], gives: tuple[str, ...]
) -> Run:
    import onnxruntime

    made: Any = torch.onnx.export(
        program, dynamo=True, input_names=takes, output_names=gives, external_data=False, verbose=False
    )
    made.save(path, external_data=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(takes, (each.numpy() for each in inputs), strict=True))
        return tuple(torch.from_numpy(np.asarray(found)) for found in session.run(list(gives), given))

    return run


@torch.no_grad()
def compare(file: Run, model: Deployed, inputs: Tensor) -> ExportedFile:
    """How the outputs of a reloaded file differ from those of PyTorch, over batches of several sizes and lengths."""
    largest = share = 0.0
    other = 0
    for batch in _batches(inputs, shortened="time" in model.free):
        expected, found = model(batch).numpy(), model.through(file, batch).numpy()
        if found.shape != expected.shape or not np.isfinite(found).all():
            return ExportedFile(
                status="failed",
                reason=f"{model.gives[0]} {found.shape} for a batch of {len(batch)} are not finite, or not "
                f"{expected.shape}",
            )
        difference = np.abs(found - expected)
        largest = max(largest, float(difference.max()))
        share = max(share, float((difference / (ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * np.abs(expected))).max()))
        other += int((found.argmax(-1) != expected.argmax(-1)).sum())
    reason = (
        "" if share <= 1 else f"one of the {model.gives[0]} differs from PyTorch's by {share:.3g} times the tolerance"
    )
    return ExportedFile(
        status="ok" if share <= 1 else "failed",
        reason="" if share <= 1 else reason,
        images=len(inputs),
        largest_difference=largest,
        share_of_tolerance=share,
        other_classes=other,
    )


def _batches(inputs: Tensor, *, shortened: bool) -> list[Tensor]:
    """The inputs in batches; `shortened`: each but the last without ever more of its first steps, down to one step."""
    cuts = np.cumsum(BATCHES).tolist()
    batches = [batch for batch in inputs.tensor_split(cuts) if len(batch)]
    if not shortened:
        return batches
    steps = inputs.shape[1]
    return [batch[:, steps - max(1, steps * (place + 1) // len(batches)) :] for place, batch in enumerate(batches)]


@torch.no_grad()
def depends_on_batch(model: Deployed, inputs: Tensor) -> bool:
    """Whether the outputs of an input depend on those beside it, as with merge `attention`."""
    together = model(inputs)
    alone = torch.cat([model(one[None]) for one in inputs])
    return not torch.allclose(together, alone, atol=ABSOLUTE_TOLERANCE, rtol=RELATIVE_TOLERANCE)
