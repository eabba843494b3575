"""Training by gradient descent, on CPU and CUDA from one code path, whatever the data are."""

from __future__ import annotations

import copy
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from nas_lib.evaluation import images, sequences, text
from nas_lib.evaluation.deployed import write_tensors
from nas_lib.evaluation.meters import NOTHING, UNKNOWN, Usage
from nas_lib.evaluation.modality import DeviceData, Part
from nas_lib.evaluation.settings import Training
from nas_lib.randomness import seed_of
from nas_lib.tasks.data import Data, ImageData, SequenceData

log = logging.getLogger(__name__)


class TrainingError(Exception):
    """A training that gives no result; the message is the reason that is recorded."""


@dataclass
class Progress:
    """How far a training is; what a checkpoint holds beside the weights."""

    epoch: int
    seconds: float
    curves: dict[str, list[float]]
    usage: Usage = NOTHING
    best: dict[str, Tensor] | None = None
    """With `keep_best` the weights of the epoch with the lowest validation loss."""

    def measured(self, settings: Training) -> dict[str, float]:
        """The figures of the validation split after training: of the best epoch with `keep_best`, else of the last."""
        curves = {name.removeprefix("validation_"): of for name, of in self.curves.items() if "validation_" in name}
        epoch = curves["loss"].index(min(curves["loss"])) if settings.keep_best else -1
        return {name: values[epoch] for name, values in curves.items()}


class Descent:
    """Gradient descent on the parameters of a network, by PyTorch's functions `sgd` (Nesterov momentum) and `adam`.

    The classes of `torch.optim` compute the same, but making one imports PyTorch's compiler: 2 s of CPU per process.
    """

    def __init__(self, network: nn.Module, settings: Training) -> None:
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.settings = settings
        names = ("momentum",) if settings.optimizer == "sgd" else ("mean", "square", "steps")
        self.state: dict[str, list[Tensor | None]] = {name: [None] * len(self.parameters) for name in names}
        """Running means of each parameter's gradients and what else the optimiser keeps; None before its first step."""

    def clear(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move every parameter that has a gradient."""
        used = [index for index, parameter in enumerate(self.parameters) if parameter.grad is not None]
        parameters: list[Tensor] = [self.parameters[index] for index in used]
        gradients = [gradient for parameter in parameters if (gradient := parameter.grad) is not None]
        if self.settings.optimizer == "sgd":
            momentum = [self.state["momentum"][index] for index in used]
            sgd(
                parameters,
                gradients,
                momentum,
                weight_decay=self.settings.weight_decay,
                momentum=self.settings.momentum,
                lr=learning_rate,
                dampening=0.0,
                nesterov=self.settings.momentum > 0,
                maximize=False,
            )
            for index, value in zip(used, momentum, strict=True):
                self.state["momentum"][index] = value
        else:
            adam(
                parameters,
                gradients,
                self._kept("mean", used, torch.zeros_like),
                self._kept("square", used, torch.zeros_like),
                [],
                self._kept("steps", used, lambda _: torch.zeros(())),
                amsgrad=False,
                weight_decay=self.settings.weight_decay,
                lr=learning_rate,
                maximize=False,
                beta1=0.9,
                beta2=0.999,
                eps=1e-8,
            )

    def _kept(self, name: str, used: list[int], first: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """What is kept of the parameters in use, begun where there is nothing yet; the caller changes it in place."""
        kept, found = self.state[name], []
        for index in used:
            value = kept[index]
            if value is None:
                value = kept[index] = first(self.parameters[index])
            found.append(value)
        return found


def to_device(data: Data, device: torch.device) -> DeviceData:
    """Copy all splits to the device once; batches are then taken without any transfer."""
    if isinstance(data, ImageData):
        return images.to_device(data, device)
    return sequences.to_device(data, device) if isinstance(data, SequenceData) else text.to_device(data, device)


def prepare_device(name: str, threads: int) -> torch.device:
    """Set the thread count and deterministic algorithms, and return the device.

    On the CPU everything used here is deterministic as it is, and asking for it would import torch's compiler.
    """
    torch.set_num_threads(threads)
    device = torch.device(name)
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first use of cuBLAS
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return device


def train(
    network: nn.Module,
    data: DeviceData,
    settings: Training,
    *,
    watched: Part | None,
    epochs: int,
    schedule_epochs: int,
    seed: int,
    checkpoint: Path,
    identity: str,
    continued: Path | None = None,
    time_limit: float | None = None,
    on_epoch: Callable[[Progress], None] = lambda _: None,
    usage: Callable[[], Usage] = lambda: UNKNOWN,
) -> Progress:
    """Train a network in place on the training split and return its curves.

    The split `watched` is measured after every epoch; its figures are the curves `validation_...`.

    The learning rate is that of `learning_rate`; a cosine goes over the steps of `schedule_epochs` epochs, and a lower
    `epochs` stops earlier on the same curve. Every epoch draws its order, augmentation and dropout from a seed of its
    own, so a training that continues from `checkpoint` equals an uninterrupted one bit for bit. A checkpoint is used
    only if it was made under the same `identity`. `continued` is the finished checkpoint of a shorter training of the
    same network, which is continued. `usage` says what this attempt has taken so far.

    Raises:
        TrainingError: the loss is not finite, or `time_limit` seconds are over.
    """
    move(network, data.device)
    optimizer = Descent(network, settings)
    progress = restore(checkpoint, network, optimizer, identity)
    if progress is None and continued is not None:
        progress = restore(continued, network, optimizer)
        if progress is None:
            raise TrainingError(f"the training to continue is not there: {continued}")
        progress.seconds, progress.usage = 0.0, NOTHING
    progress = progress or Progress(0, 0.0, {})
    earlier = progress.usage
    saved_at = time.monotonic()
    began = saved_at - progress.seconds
    deadline = began + time_limit if time_limit is not None else math.inf
    while progress.epoch < epochs:
        figures = _train_epoch(network, optimizer, data, settings, seed, progress, schedule_epochs, deadline)
        if watched is not None:
            measured = data.measure(network, watched, settings)
            figures |= {f"validation_{name}": value for name, value in measured.items()}
        progress.epoch += 1
        progress.seconds = time.monotonic() - began
        progress.usage = usage().after(earlier)
        if not all(math.isfinite(value) for value in figures.values()):
            raise TrainingError(f"diverged: the loss is not finite in epoch {progress.epoch}")
        for name, value in figures.items():
            progress.curves.setdefault(name, []).append(value)
        losses = progress.curves.get("validation_loss", [])
        if settings.keep_best and losses and losses.index(min(losses)) == len(losses) - 1:
            progress.best = copy.deepcopy(network.state_dict())
        on_epoch(progress)
        if progress.epoch == epochs or time.monotonic() - saved_at >= settings.checkpoint_seconds:
            save(checkpoint, identity, network, optimizer, progress)
            saved_at = time.monotonic()
    if progress.best is not None:
        network.load_state_dict(progress.best)
    return progress


def move(network: nn.Module, device: torch.device) -> None:
    """Put a network on the training device."""
    memory_format = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    network.to(device, memory_format=memory_format)  # type: ignore[call-overload]


def learning_rate(settings: Training, done: float, losses: Sequence[float]) -> float:
    """The learning rate when the share `done` of the schedule's epochs is over.

    A cosine is lr/2 (1 + cos(pi done)) (Loshchilov and Hutter 2017). On a plateau it depends on the validation losses
    of the epochs so far: each one that is not below all before it lowers the rate once.
    """
    if settings.schedule == "cosine":
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    if settings.schedule == "constant":
        return settings.learning_rate
    lowered = sum(loss >= min(losses[:epoch]) for epoch, loss in enumerate(losses) if epoch > 0)
    return settings.learning_rate * settings.plateau_factor**lowered


def _train_epoch(
    network: nn.Module,
    optimizer: Descent,
    data: DeviceData,
    settings: Training,
    seed: int,
    progress: Progress,
    schedule_epochs: int,
    deadline: float,
) -> dict[str, float]:
    """One pass over the training split; loss and error are means over the pass, before each step."""
    device, epoch = data.device, progress.epoch
    generator = torch.Generator(device).manual_seed(seed_of(seed, "epoch", epoch))
    torch.manual_seed(seed_of(seed, "dropout", epoch))
    network.train()
    steps = data.updates(settings)
    if not steps:
        raise TrainingError(f"batch_size is {settings.batch_size}, allowed are fewer rows than the text has tokens")
    loss_sum = torch.zeros((), device=device)
    weights: int | Tensor = 0
    wrong = torch.zeros((), device=device, dtype=torch.int64)
    count = 0
    for number, step in enumerate(data.steps(network, settings, generator)):
        done = (epoch + number / steps) / schedule_epochs
        optimizer.clear()
        step.loss.backward()  # type: ignore[no-untyped-call]
        if settings.gradient_clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
        optimizer.step(learning_rate(settings, done, progress.curves.get("validation_loss", [])))
        # Sums stay on the device: reading them at every step would make it wait for the host.
        loss_sum += step.loss.detach() * step.weight
        weights += step.weight
        wrong += step.wrong
        count += step.items
        if time.monotonic() > deadline:
            raise TrainingError(f"time limit reached in epoch {epoch + 1}")
    return {"train_loss": loss_sum.item() / int(weights), "train_error": wrong.item() / count}


def inherited(path: Path) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The weights of a finished training that others may begin with, and what it measured on the validation split.

    Raises:
        TrainingError: they are not there.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise TrainingError(f"the weights to inherit cannot be read: {path} ({type(error).__name__})") from error
    best = content.get("best")
    progress = Progress(content["epoch"], 0.0, content["curves"], best=best)
    figures = progress.measured(Training(keep_best=best is not None))
    return content["network"] if best is None else best, figures


def save(path: Path, identity: str, network: nn.Module, optimizer: Descent, progress: Progress) -> None:
    """Write a checkpoint as a whole or not at all."""
    content = {
        "identity": identity,
        "network": network.state_dict(),
        **optimizer.state,
        "epoch": progress.epoch,
        "seconds": progress.seconds,
        "usage": tuple(progress.usage),
        "curves": progress.curves,
        "best": progress.best,
    }
    write_tensors(path, content)


def restore(path: Path, network: nn.Module, optimizer: Descent, identity: str | None = None) -> Progress | None:
    """Load a checkpoint into a network and its optimiser; None where there is none to use.

    With `identity` only a checkpoint of that identity is used.
    """
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file; training then starts anew
        log.warning("%s cannot be read (%s): training starts from the beginning", path, error)
        return None
    if identity is not None and content["identity"] != identity:
        log.warning("%s belongs to another candidate: training starts from the beginning", path)
        return None
    network.load_state_dict(content["network"])
    for name, values in optimizer.state.items():
        for index, (parameter, value) in enumerate(zip(optimizer.parameters, content[name], strict=True)):
            values[index] = value if value is None or name == "steps" else value.to(parameter.device)
    usage = Usage(*content["usage"])
    return Progress(content["epoch"], content["seconds"], content["curves"], usage, content.get("best"))


def epochs_in(path: Path) -> int:
    """Epochs a checkpoint has been trained for."""
    return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["epoch"])
