"""Running text on the training device: batches that follow each other, with the state carried between them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nas_lib.evaluation.deployed import Recurrent
from nas_lib.evaluation.modality import Part, Step, detached, precision
from nas_lib.evaluation.settings import Training
from nas_lib.tasks.data import TextData

EVALUATION_ROWS = 10
"""Rows in which a text is measured at the same time, each from a zero state."""
EXAMPLE_STEPS = 10
"""Tokens of the pieces on which an exported network is compared."""
NOTHING = -100
"""The target where there is none."""


@dataclass(frozen=True)
class DeviceText:
    """The splits of a text as tokens, int64 (tokens,), on the training device."""

    train: Tensor
    held_out: Tensor
    validation: Tensor | None
    evaluation_batch: int = EVALUATION_ROWS

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.train.device

    @property
    def has_validation(self) -> bool:
        """Whether there is a validation split beside the held-out one."""
        return self.validation is not None

    def time_steps(self, settings: Training) -> int:
        """Tokens of a row between two updates."""
        return settings.steps

    def updates(self, settings: Training) -> int:
        """Steps of one epoch."""
        return math.ceil(((len(self.train) - 1) // settings.batch_size) / settings.steps)

    def steps(self, network: nn.Module, settings: Training, generator: torch.Generator) -> Iterator[Step]:
        """The text in `batch_size` rows, `steps` tokens of each at a time; the state begins at zero.

        Tokens that do not fill all rows, at the end, are left out.
        """
        length = (len(self.train) - 1) // settings.batch_size
        used = length * settings.batch_size
        inputs = self.train[:used].view(settings.batch_size, length)
        targets = self.train[1 : used + 1].view(settings.batch_size, length)
        state: Any = None
        for start in range(0, length, settings.steps):
            window = slice(start, start + settings.steps)
            with precision(settings, self.device):
                outputs, state = network(inputs[:, window], detached(state))
                outputs, wanted = outputs.flatten(0, 1), targets[:, window].flatten()
                loss = F.cross_entropy(outputs, wanted, label_smoothing=settings.label_smoothing)
            yield Step(loss, len(wanted), (outputs.detach().argmax(1) != wanted).sum(), len(wanted))

    @torch.no_grad()
    def measure(self, network: nn.Module, part: Part, settings: Training) -> dict[str, float]:
        """Over every token but the first: share not expected most, mean loss in nats, and perplexity, its exponential.

        The text is cut into a few rows that follow each other without gaps; each row begins with a zero state.
        """
        network.eval()
        text = self.validation if part == "validation" else self.held_out
        if text is None:
            raise ValueError("there is no validation split beside the held-out one")
        count = len(text) - 1
        length = math.ceil(count / EVALUATION_ROWS)
        missing = EVALUATION_ROWS * length - count
        inputs = F.pad(text[:-1], (0, missing)).view(EVALUATION_ROWS, length)
        targets = F.pad(text[1:], (0, missing), value=NOTHING).view(EVALUATION_ROWS, length)
        state: Any = None
        total = wrong = 0.0
        for start in range(0, length, settings.steps):
            window = slice(start, start + settings.steps)
            with precision(settings, self.device):
                outputs, state = network(inputs[:, window], state)
            outputs, wanted = outputs.float().flatten(0, 1), targets[:, window].flatten()
            total += F.cross_entropy(outputs, wanted, ignore_index=NOTHING, reduction="sum").item()
            wrong += ((outputs.argmax(1) != wanted) & (wanted != NOTHING)).sum().item()
        loss = total / count
        return {"error": wrong / count, "loss": loss, "perplexity": math.exp(loss) if loss < 700 else math.inf}

    def further(self, network: nn.Module, settings: Training) -> dict[str, float]:
        """Nothing."""
        return {}

    def deployed(self, network: nn.Module) -> Recurrent:
        """The network from its zero state."""
        return Recurrent(network, last=False)

    def examples(self, count: int) -> Tensor:
        """Pieces of the held-out text."""
        count = min(count, len(self.held_out) // EXAMPLE_STEPS)
        return self.held_out[: count * EXAMPLE_STEPS].view(count, EXAMPLE_STEPS)


def to_device(data: TextData, device: torch.device) -> DeviceText:
    """Copy all splits to the device once."""
    train, held_out = (torch.from_numpy(text).to(device) for text in (data.train, data.held_out))
    return DeviceText(
        train, held_out, None if data.validation is None else torch.from_numpy(data.validation).to(device)
    )
