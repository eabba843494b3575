"""Sequences on the training device: formal languages, sums, texts with labels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nas_lib.evaluation.deployed import Recurrent, Whole, reads_whole
from nas_lib.evaluation.modality import Part, Step, precision
from nas_lib.evaluation.settings import Training
from nas_lib.tasks.data import SequenceData, Sequences

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class DeviceSplit:
    """A split as tensors on the training device, as `Sequences` says."""

    inputs: Tensor
    targets: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def taken(self, index: Tensor | slice) -> DeviceSplit:
        """Some of the sequences."""
        return DeviceSplit(self.inputs[index], self.targets[index], self.lengths[index])


@dataclass(frozen=True)
class DeviceSequences:
    """The data of a task of sequences as tensors on the training device."""

    train: DeviceSplit
    held_out: DeviceSplit
    validation: DeviceSplit | None
    beyond: DeviceSplit | None
    tolerance: float | None
    evaluation_batch: int = EVALUATION_BATCH

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.train.inputs.device

    @property
    def has_validation(self) -> bool:
        """Whether there is a validation split beside the held-out one."""
        return self.validation is not None

    def time_steps(self, settings: Training) -> int:
        """Time steps of a sequence."""
        return self.train.inputs.shape[1]

    def updates(self, settings: Training) -> int:
        """Steps of one epoch."""
        return math.ceil(len(self.train) / settings.batch_size)

    def steps(self, network: nn.Module, settings: Training, generator: torch.Generator) -> Iterator[Step]:
        """All training sequences in a random order, in batches whose sizes differ by at most one."""
        order = torch.randperm(len(self.train), generator=generator, device=generator.device)
        for index in order.tensor_split(self.updates(settings)):
            batch = self.train.taken(index)
            outputs = passed(network, batch, settings)
            loss, weight = loss_of(outputs, batch, settings.label_smoothing)
            yield Step(loss / weight, weight, wrong(outputs.detach(), batch, self.tolerance), len(batch))

    def measure(self, network: nn.Module, part: Part, settings: Training) -> dict[str, float]:
        """Share of sequences that are not wholly right, and the mean loss."""
        split = self.validation if part == "validation" else self.held_out
        if split is None:
            raise ValueError("there is no validation split beside the held-out one")
        return self._measured(network, split, settings)

    def further(self, network: nn.Module, settings: Training) -> dict[str, float]:
        """The same of sequences longer than those trained on: how the network generalises."""
        if self.beyond is None:
            return {}
        measured = self._measured(network, self.beyond, settings)
        return {f"generalisation_{name}": value for name, value in measured.items() if math.isfinite(value)}

    def deployed(self, network: nn.Module) -> Recurrent | Whole:
        """The network from its zero state; with targets of the last step only, its last output."""
        if reads_whole(network, self.examples(1)[:, :1]):
            return Whole(network)
        return Recurrent(network, last=self.train.targets.ndim < 3)

    def examples(self, count: int) -> Tensor:
        """Held-out sequences."""
        return self.held_out.inputs[:count]

    @torch.no_grad()
    def _measured(self, network: nn.Module, split: DeviceSplit, settings: Training) -> dict[str, float]:
        network.eval()
        mistakes = total = 0.0
        weights = 0
        for start in range(0, len(split), EVALUATION_BATCH):
            batch = split.taken(slice(start, start + EVALUATION_BATCH))
            outputs = passed(network, batch, settings)
            loss, weight = loss_of(outputs, batch, 0.0)
            total += loss.item()
            weights += int(weight)
            mistakes += wrong(outputs, batch, self.tolerance).item()
        return {"error": mistakes / len(split), "loss": total / weights}


def to_device(data: SequenceData, device: torch.device) -> DeviceSequences:
    """Copy all splits to the device once."""

    def move(split: Sequences) -> DeviceSplit:
        return DeviceSplit(
            *(torch.from_numpy(array).to(device) for array in (split.inputs, split.targets, split.lengths))
        )

    validation, beyond = (None if split is None else move(split) for split in (data.validation, data.beyond))
    return DeviceSequences(move(data.train), move(data.held_out), validation, beyond, data.tolerance)


def passed(network: nn.Module, batch: DeviceSplit, settings: Training) -> Tensor:
    """The outputs that count: of every step, float32 (n, time, outputs), or of the last one, (n, outputs)."""
    with precision(settings, batch.inputs.device):
        outputs: Tensor = network(batch.inputs)[0]
    return (outputs if batch.targets.ndim == 3 else outputs[:, -1]).float()


def loss_of(outputs: Tensor, batch: DeviceSplit, label_smoothing: float) -> tuple[Tensor, int | Tensor]:
    """The sum of losses over all numbers or labels that count, and how many these are.

    Cross-entropy of classes in nats; squared error of numbers.
    """
    if not batch.targets.is_floating_point():
        loss = F.cross_entropy(outputs, batch.targets, label_smoothing=label_smoothing, reduction="sum")
        return loss, len(batch)
    squares = (outputs - batch.targets).square()
    if outputs.ndim < 3:
        return squares.sum(), squares.numel()
    inside = _inside(batch)
    return (squares.sum(2) * inside).sum(), inside.sum() * squares.shape[2]


def wrong(outputs: Tensor, batch: DeviceSplit, tolerance: float | None) -> Tensor:
    """How many sequences are not right in every output that counts, see `SequenceData.tolerance`."""
    if not batch.targets.is_floating_point():
        return (outputs.argmax(1) != batch.targets).sum()
    if tolerance is None:
        mistakes = (outputs > 0.5) != (batch.targets > 0.5)
    else:
        # Not `>`: what is not a number is wrong.
        mistakes = ~((outputs - batch.targets).abs() <= tolerance)
    if outputs.ndim == 3:
        mistakes = mistakes.any(2) & _inside(batch)
    return mistakes.any(1).sum()


def _inside(batch: DeviceSplit) -> Tensor:
    """Which steps are no padding, (n, time)."""
    return torch.arange(batch.inputs.shape[1], device=batch.lengths.device) < batch.lengths[:, None]
