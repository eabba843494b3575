"""Training one network by the platform and by hand.

    python benchmarks/training.py --workers 2
    python benchmarks/training.py --device cuda --scale 100

platform    nas_lib.evaluation.training.train
plain       a minimal loop on the same tensors: the same optimiser, schedule, batch size, normalisation, no augmentation
DataLoader  the same steps fed by a Dataset of uint8 images that normalises each item, in this process and, with
            `--workers`, also in worker processes

Loops take turns and ratios are taken within a turn, so that a busy machine slows down all of them alike.
"""

import copy
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
import typer
from common import median, show
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from nas_lib.evaluation.images import DeviceImages, to_device
from nas_lib.evaluation.measures import device_name, parameters
from nas_lib.evaluation.settings import Training
from nas_lib.evaluation.training import prepare_device, train
from nas_lib.randomness import generator
from nas_lib.spaces.generator import GeneratorSpace
from nas_lib.tasks.data import ImageData, Shape, Split
from nas_lib.tasks.images import channel_statistics

BATCH = 64

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""Normalised images and labels of one epoch, on the training device."""


class Images(Dataset[tuple[Tensor, int]]):
    """uint8 images that are made tensors one by one, as most training scripts do."""

    def __init__(self, data: ImageData) -> None:
        self.images, self.labels = data.train.images, data.train.labels
        self.mean, self.std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = torch.from_numpy(self.images[index]).float().div(255)
        return image.sub(self.mean).div(self.std), int(self.labels[index])


def loaded(loader: DataLoader[Any], device: torch.device) -> Iterable[tuple[Tensor, Tensor]]:
    for images, labels in loader:
        yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def sliced(data: DeviceImages, steps: int) -> Iterable[tuple[Tensor, Tensor]]:
    for index in torch.randperm(len(data.train), device=data.mean.device).tensor_split(steps):
        yield (data.train.images[index].float() / 255 - data.mean) / data.std, data.train.labels[index]


def by_hand(network: nn.Module, batches: Batches, settings: Training, epochs: int, steps: int) -> None:
    """The minimal loop."""
    device = next(network.parameters()).device
    cuda = device.type == "cuda"
    memory_format = torch.channels_last if cuda else torch.contiguous_format
    network.to(memory_format=memory_format)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / (epochs * steps)))
    )
    network.train()
    for _ in range(epochs):
        for images, labels in batches():
            with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
                loss = F.cross_entropy(network(images.contiguous(memory_format=memory_format)), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()


def by_platform(network: nn.Module, data: DeviceImages, settings: Training, epochs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint.pt"
        train(
            network,
            data,
            settings,
            watched=None,
            epochs=epochs,
            schedule_epochs=epochs,
            seed=0,
            checkpoint=checkpoint,
            identity="benchmark",
        )


def synthetic(shape: Shape, count: int) -> ImageData:
    """Random images and labels."""
    rng = generator(0, "images")
    images = rng.integers(0, 256, (count, shape.channels, shape.height, shape.width), dtype=np.uint8)
    split = Split(images, rng.integers(0, shape.classes, count))
    mean, std = channel_statistics(images)
    return ImageData(split, split, shape, (), mean, std)


def timed(loop: Callable[[nn.Module], None], network: nn.Module, device: torch.device) -> tuple[float, float]:
    """CPU and wall seconds of a loop on a fresh copy of a network."""
    fresh = copy.deepcopy(network).to(device)
    began = time.process_time(), time.perf_counter()
    loop(fresh)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.process_time() - began[0], time.perf_counter() - began[1]


def compare(
    space: GeneratorSpace, data: ImageData, epochs: int, name: str, workers: int, turns: int
) -> list[list[str]]:
    """The rows of one network."""
    device = prepare_device(name, threads=1)
    settings = Training(batch_size=BATCH)
    on_device = to_device(data, device)
    steps = math.ceil(len(data.train) / BATCH)
    network = space.build(space.sample(generator(0, "network")), data.shape)
    by_hand_from = partial(by_hand, settings=settings, epochs=epochs, steps=steps)
    loops: dict[str, Callable[[nn.Module], None]] = {
        "platform": partial(by_platform, data=on_device, settings=settings, epochs=epochs),
        "plain": partial(by_hand_from, batches=partial(sliced, on_device, steps)),
    }
    for count in sorted({0, workers}):
        loader: DataLoader[Any] = DataLoader(
            Images(data), BATCH, shuffle=True, num_workers=count, pin_memory=device.type == "cuda"
        )
        loops[f"DataLoader, {count} workers"] = partial(by_hand_from, batches=partial(loaded, loader, device))
    seconds: dict[str, list[tuple[float, float]]] = {loop: [] for loop in loops}
    for turn in range(1 + turns):
        for loop, train_by in loops.items():
            taken = timed(train_by, network, device)
            if turn > 0:  # the first turn warms up
                seconds[loop].append(taken)
    size = f"{data.shape.height}x{data.shape.width}, {parameters(network):,} parameters"
    platform = np.array(seconds["platform"])
    rows = []
    for loop, pairs in seconds.items():
        cpu_ratio, wall_ratio = (platform / np.array(pairs)).T
        asked = {"platform": "-", "plain": "1.05"}.get(loop, "1")
        cpu = [cpu for cpu, _ in pairs]
        rows.append([size, loop, median(cpu, "s"), asked, median(cpu_ratio, digits=3), median(wall_ratio, digits=3)])
    return rows


def main(
    turns: Annotated[int, typer.Option(help="Turns.")] = 9,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    workers: Annotated[int, typer.Option(help="Worker processes of a second DataLoader; 0: none.")] = 0,
    scale: Annotated[int, typer.Option(help="Times as many images, for a GPU.")] = 1,
) -> None:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    small = GeneratorSpace(parameters=20_000, head_channels=64, max_operations=30)
    level = {"model": "WS", "nodes": 4, "k": 2, "p": 0.5}
    wide = GeneratorSpace.model_validate({"levels": [level], "parameters": 30_000, "head_channels": 128})
    rows = [
        *compare(small, synthetic(Shape(1, 8, 8, 10), 1152 * scale), 6, device, workers, turns),
        *compare(wide, synthetic(Shape(3, 32, 32, 10), 1024 * scale), 2, device, workers, turns),
    ]
    show(
        f"Training on {device_name(torch.device(device))}, one thread, no augmentation",
        ["network", "loop", "CPU time", "platform / loop at most", "in CPU time", "in wall time"],
        rows,
        f"Median and quartiles of {turns} turns, ratios within a turn. CPU time leaves out worker processes and GPUs: "
        "with these, wall time counts.",
    )


if __name__ == "__main__":
    typer.run(main)
