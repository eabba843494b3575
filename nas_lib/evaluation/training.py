"""Training of image classifiers, on CPU and CUDA from one code path."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.optim.sgd import sgd

from nas_lib.evaluation.meters import NOTHING, UNKNOWN, Usage
from nas_lib.evaluation.settings import Training
from nas_lib.randomness import seed_of
from nas_lib.tasks.data import ImageData, Split

EVALUATION_BATCH = 1024
log = logging.getLogger(__name__)


class TrainingError(Exception):
    """A training that gives no result; the message is the reason that is recorded."""


@dataclass(frozen=True)
class DeviceSplit:
    """A split as tensors on the training device: images uint8, labels int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class DeviceData:
    """The data of a task as tensors on the training device."""

    train: DeviceSplit
    held_out: DeviceSplit
    mean: Tensor
    std: Tensor
    """Shape (1, channels, 1, 1), of pixels scaled to [0, 1]."""


@dataclass
class Progress:
    """How far a training is; what a checkpoint holds beside the weights."""

    epoch: int
    seconds: float
    curves: dict[str, list[float]]
    usage: Usage = NOTHING


class Descent:
    """Stochastic gradient descent with Nesterov momentum on the parameters of a network, by PyTorch's function `sgd`.

    The class `torch.optim.SGD` computes the same, but making one imports PyTorch's compiler: 2 s of CPU per process.
    """

    def __init__(self, network: nn.Module, settings: Training) -> None:
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.momentum: list[Tensor | None] = [None] * len(self.parameters)
        """The running mean of each parameter's gradients; None before the first step."""
        self.settings = settings

    def clear(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move every parameter that has a gradient."""
        used = [index for index, parameter in enumerate(self.parameters) if parameter.grad is not None]
        momentum = [self.momentum[index] for index in used]
        sgd(
            [self.parameters[index] for index in used],
            [gradient for index in used if (gradient := self.parameters[index].grad) is not None],
            momentum,
            weight_decay=self.settings.weight_decay,
            momentum=self.settings.momentum,
            lr=learning_rate,
            dampening=0.0,
            nesterov=self.settings.momentum > 0,
            maximize=False,
        )
        for index, value in zip(used, momentum, strict=True):
            self.momentum[index] = value


def to_device(data: ImageData, device: torch.device) -> DeviceData:
    """Copy all splits to the device once; batches are then taken without any transfer."""

    def move(split: Split) -> DeviceSplit:
        return DeviceSplit(torch.from_numpy(split.images).to(device), torch.from_numpy(split.labels).to(device))

    def per_channel(values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)

    return DeviceData(move(data.train), move(data.held_out), per_channel(data.mean), per_channel(data.std))


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
    validation: DeviceSplit | None,
    epochs: int,
    schedule_epochs: int,
    seed: int,
    checkpoint: Path,
    identity: str,
    inherit: Path | None = None,
    time_limit: float | None = None,
    on_epoch: Callable[[Progress], None] = lambda _: None,
    usage: Callable[[], Usage] = lambda: UNKNOWN,
) -> Progress:
    """Train a network in place on `data.train` and return its curves.

    With `validation` the error and loss on that split are measured after every epoch.

    The learning rate follows lr/2 (1 + cos(pi t / T)) over the steps of `schedule_epochs` epochs (Loshchilov and
    Hutter 2017); a lower `epochs` stops earlier on the same curve. Every epoch draws its order, augmentation and
    dropout from a seed of its own, so a training that continues from `checkpoint` equals an uninterrupted one bit for
    bit. A checkpoint is used only if it was made under the same `identity`. `inherit` is the finished checkpoint of a
    shorter training of the same network, which is continued. `usage` says what this attempt has taken so far.

    Raises:
        TrainingError: the loss is not finite, or `time_limit` seconds are over.
    """
    device = data.train.labels.device
    network.to(device, memory_format=_memory_format(device))  # type: ignore[call-overload]
    optimizer = Descent(network, settings)
    progress = restore(checkpoint, network, optimizer, identity)
    if progress is None and inherit is not None:
        progress = restore(inherit, network, optimizer)
        if progress is None:
            raise TrainingError(f"the training to continue is not there: {inherit}")
        progress.seconds, progress.usage = 0.0, NOTHING
    progress = progress or Progress(0, 0.0, {})
    earlier = progress.usage
    saved_at = time.monotonic()
    began = saved_at - progress.seconds
    deadline = began + time_limit if time_limit is not None else math.inf
    while progress.epoch < epochs:
        figures = _train_epoch(network, optimizer, data, settings, seed, progress.epoch, schedule_epochs, deadline)
        if validation is not None:
            figures["validation_error"], figures["validation_loss"] = measure(network, validation, data, settings)
        progress.epoch += 1
        progress.seconds = time.monotonic() - began
        progress.usage = usage().after(earlier)
        if not all(math.isfinite(value) for value in figures.values()):
            raise TrainingError(f"diverged: the loss is not finite in epoch {progress.epoch}")
        for name, value in figures.items():
            progress.curves.setdefault(name, []).append(value)
        on_epoch(progress)
        if progress.epoch == epochs or time.monotonic() - saved_at >= settings.checkpoint_seconds:
            save(checkpoint, identity, network, optimizer, progress)
            saved_at = time.monotonic()
    return progress


def _train_epoch(
    network: nn.Module,
    optimizer: Descent,
    data: DeviceData,
    settings: Training,
    seed: int,
    epoch: int,
    schedule_epochs: int,
    deadline: float,
) -> dict[str, float]:
    """One pass over the training images; loss and error are means over the pass, before each step."""
    device = data.train.labels.device
    memory_format = _memory_format(device)
    autocast = precision(settings, device)
    generator = torch.Generator(device).manual_seed(seed_of(seed, "epoch", epoch))
    torch.manual_seed(seed_of(seed, "dropout", epoch))
    network.train()
    count = len(data.train)
    steps = math.ceil(count / settings.batch_size)
    loss_sum = torch.zeros((), device=device)
    wrong = torch.zeros((), device=device, dtype=torch.int64)
    for step, index in enumerate(_batches(count, steps, generator)):
        done = (epoch + step / steps) / schedule_epochs
        learning_rate = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
        images = augment(normalised(data.train.images[index], data), settings, generator)
        labels = data.train.labels[index]
        with autocast:
            logits = network(images.contiguous(memory_format=memory_format))
            loss = F.cross_entropy(logits, labels, label_smoothing=settings.label_smoothing)
        optimizer.clear()
        loss.backward()  # type: ignore[no-untyped-call]
        if settings.gradient_clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
        optimizer.step(learning_rate)
        # Sums stay on the device: reading them at every step would make it wait for the host.
        loss_sum += loss.detach() * len(labels)
        wrong += (logits.detach().argmax(1) != labels).sum()
        if time.monotonic() > deadline:
            raise TrainingError(f"time limit reached in epoch {epoch + 1}")
    return {"train_loss": loss_sum.item() / count, "train_error": wrong.item() / count}


def _memory_format(device: torch.device) -> torch.memory_format:
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def _batches(count: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """A random order of all images in `steps` batches whose sizes differ by at most one."""
    order = torch.randperm(count, generator=generator, device=generator.device)
    yield from order.tensor_split(steps)


def normalised(images: Tensor, data: DeviceData) -> Tensor:
    """uint8 images as float32 with mean 0 and variance 1 per channel."""
    return images.float().div_(255).sub_(data.mean).div_(data.std)


def augment(images: Tensor, settings: Training, generator: torch.Generator) -> Tensor:
    """Random crops, flips and cutout, drawn for each image of a batch (n, c, h, w), on its device."""
    count, _, height, width = images.shape
    device = images.device

    def draw(high: int) -> Tensor:
        return torch.randint(high, (count, 1), generator=generator, device=device)

    if settings.crop_padding:
        pad = settings.crop_padding
        padded = F.pad(images, (pad, pad, pad, pad))
        rows = draw(2 * pad + 1) + torch.arange(height, device=device)
        columns = draw(2 * pad + 1) + torch.arange(width, device=device)
        which = torch.arange(count, device=device)[:, None, None]
        images = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if settings.horizontal_flip:
        flipped = draw(2).bool().view(-1, 1, 1, 1)
        images = torch.where(flipped, images.flip(3), images)
    if settings.cutout:
        before = settings.cutout // 2
        row = torch.arange(height, device=device) - draw(height) + before
        column = torch.arange(width, device=device) - draw(width) + before
        inside_row = (row >= 0) & (row < settings.cutout)
        inside_column = (column >= 0) & (column < settings.cutout)
        images = images.masked_fill((inside_row[:, :, None] & inside_column[:, None, :])[:, None], 0.0)
    return images


def precision(settings: Training, device: torch.device) -> torch.autocast:
    """The context a forward pass runs in: bfloat16 where it is asked for and the device computes in it."""
    capable = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, torch.bfloat16, enabled=settings.mixed_precision and capable)


@torch.no_grad()
def measure(network: nn.Module, split: DeviceSplit, data: DeviceData, settings: Training) -> tuple[float, float]:
    """Share of images misclassified and mean cross-entropy on a split."""
    network.eval()
    autocast = precision(settings, split.labels.device)
    wrong = 0.0
    loss = 0.0
    for start in range(0, len(split), EVALUATION_BATCH):
        images, labels = (part[start : start + EVALUATION_BATCH] for part in (split.images, split.labels))
        with autocast:
            logits = network(normalised(images, data)).float()
        wrong += (logits.argmax(1) != labels).sum().item()
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
    return wrong / len(split), loss / len(split)


def save(path: Path, identity: str, network: nn.Module, optimizer: Descent, progress: Progress) -> None:
    """Write a checkpoint as a whole or not at all."""
    content = {
        "identity": identity,
        "network": network.state_dict(),
        "momentum": optimizer.momentum,
        "epoch": progress.epoch,
        "seconds": progress.seconds,
        "usage": tuple(progress.usage),
        "curves": progress.curves,
    }
    write_tensors(path, content)


def write_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain data as a whole or not at all, to be read with `weights_only=True`."""
    temporary = path.with_suffix(".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.save(content, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
    for index, (parameter, value) in enumerate(zip(optimizer.parameters, content["momentum"], strict=True)):
        optimizer.momentum[index] = value if value is None else value.to(parameter.device)
    return Progress(content["epoch"], content["seconds"], content["curves"], Usage(*content["usage"]))


def epochs_in(path: Path) -> int:
    """Epochs a checkpoint has been trained for."""
    return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["epoch"])
