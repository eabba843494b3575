"""Image classification on the training device: batches, augmentation, loss and error."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nas_lib.evaluation.deployed import Classifier
from nas_lib.evaluation.modality import Part, Step, precision
from nas_lib.evaluation.settings import Training
from nas_lib.tasks.data import ImageData, Split

EVALUATION_BATCH = 1024


@dataclass(frozen=True)
class DeviceSplit:
    """A split as tensors on the training device: images uint8, labels int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class DeviceImages:
    """The data of an image task as tensors on the training device."""

    train: DeviceSplit
    held_out: DeviceSplit
    mean: Tensor
    std: Tensor
    """Shape (1, channels, 1, 1), of pixels scaled to [0, 1]."""
    has_validation: bool = False
    evaluation_batch: int = EVALUATION_BATCH

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.train.labels.device

    def time_steps(self, settings: Training) -> int:
        """Images have none: 1."""
        return 1

    def updates(self, settings: Training) -> int:
        """Steps of one epoch."""
        return math.ceil(len(self.train) / settings.batch_size)

    def steps(self, network: nn.Module, settings: Training, generator: torch.Generator) -> Iterator[Step]:
        """All training images in a random order, augmented, in batches whose sizes differ by at most one."""
        memory_format = torch.channels_last if self.device.type == "cuda" else torch.contiguous_format
        autocast = precision(settings, self.device)
        order = torch.randperm(len(self.train), generator=generator, device=generator.device)
        for index in order.tensor_split(self.updates(settings)):
            images = augment(self.normalised(self.train.images[index]), settings, generator)
            labels = self.train.labels[index]
            with autocast:
                logits = network(images.contiguous(memory_format=memory_format))
                loss = F.cross_entropy(logits, labels, label_smoothing=settings.label_smoothing)
            yield Step(loss, len(labels), (logits.detach().argmax(1) != labels).sum(), len(labels))

    @torch.no_grad()
    def measure(self, network: nn.Module, part: Part, settings: Training) -> dict[str, float]:
        """Share of images misclassified and mean cross-entropy on the held-out split."""
        network.eval()
        autocast = precision(settings, self.device)
        split = self.held_out
        wrong = 0.0
        loss = 0.0
        for start in range(0, len(split), EVALUATION_BATCH):
            images, labels = (each[start : start + EVALUATION_BATCH] for each in (split.images, split.labels))
            with autocast:
                logits = network(self.normalised(images)).float()
            wrong += (logits.argmax(1) != labels).sum().item()
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
        return {"error": wrong / len(split), "loss": loss / len(split)}

    def further(self, network: nn.Module, settings: Training) -> dict[str, float]:
        """Nothing."""
        return {}

    def deployed(self, network: nn.Module) -> Classifier:
        """The network with its input normalisation."""
        return Classifier(network, self.mean, self.std)

    def examples(self, count: int) -> Tensor:
        """Held-out images as float32 in [0, 1]."""
        return self.held_out.images[:count].float() / 255

    def normalised(self, images: Tensor) -> Tensor:
        """uint8 images as float32 with mean 0 and variance 1 per channel."""
        return images.float().div_(255).sub_(self.mean).div_(self.std)


def to_device(data: ImageData, device: torch.device) -> DeviceImages:
    """Copy all splits to the device once; batches are then taken without any transfer."""

    def move(split: Split) -> DeviceSplit:
        return DeviceSplit(torch.from_numpy(split.images).to(device), torch.from_numpy(split.labels).to(device))

    def per_channel(values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)

    return DeviceImages(move(data.train), move(data.held_out), per_channel(data.mean), per_channel(data.std))


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
