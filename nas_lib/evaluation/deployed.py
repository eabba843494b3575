"""Trained networks as others use them: pictures in, logits out, or sequences in, outputs out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class Classifier(nn.Module):
    """A network with its input normalisation: float32 images (n, c, h, w) in [0, 1] to logits (n, classes)."""

    names: ClassVar[tuple[str, str]] = ("images", "logits")
    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor) -> None:
        """`mean` and `std` of the pixels trained on, shape (1, c, 1, 1)."""
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes)."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits


class Recurrent(nn.Module):
    """A recurrent network from its zero state: inputs (n, time) or (n, time, features) to its outputs.

    Those of every step, (n, time, outputs), or with `last` those of the last step, (n, outputs).
    """

    names: ClassVar[tuple[str, str]] = ("inputs", "outputs")

    def __init__(self, network: nn.Module, *, last: bool) -> None:
        super().__init__()
        self.network = network
        self.last = last

    def forward(self, inputs: Tensor) -> Tensor:
        """See the class."""
        outputs: Tensor = self.network(inputs)[0]
        return outputs[:, -1] if self.last else outputs


Deployed = Classifier | Recurrent
"""What leaves the platform: one input, one output, called `names`."""


class WeightsError(Exception):
    """Weights that cannot be used; the message is one line."""


def save_model(path: Path, model: Deployed, identity: str) -> None:
    """Write the weights of a model, on the CPU. `identity` is the training they come from."""
    weights = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    write_tensors(path, {"identity": identity, "state_dict": weights})


def load_model(path: Path, model: Deployed, identity: str) -> Deployed:
    """A model with the weights that were saved, in evaluation mode on the CPU.

    Raises:
        WeightsError: they are missing, unreadable, or of another training or network.
    """
    if not path.exists():
        raise WeightsError(f"there are no weights ({path.name}): remove the finalist's folder to train it again")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        found = content["identity"]
        model.load_state_dict(content["state_dict"])
    except Exception as error:  # torch raises many kinds for a damaged file
        raise WeightsError(f"{path.name} cannot be read: {type(error).__name__}") from error
    if found != identity:
        raise WeightsError(f"{path.name} is of another training: remove the finalist's folder to train it again")
    return model.eval()


def write_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain data as a whole or not at all, to be read with `weights_only=True`."""
    temporary = path.with_suffix(".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.save(content, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
