"""A trained network as others use it: pictures in, logits out, its input normalisation inside."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from nas_lib.evaluation.training import write_tensors


class Classifier(nn.Module):
    """A network with its input normalisation: float32 images (n, c, h, w) in [0, 1] to logits (n, classes)."""

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


class WeightsError(Exception):
    """Weights that cannot be used; the message is one line."""


def save_classifier(path: Path, classifier: Classifier, identity: str) -> None:
    """Write the weights of a classifier, on the CPU. `identity` is the training they come from."""
    weights = {name: tensor.contiguous().cpu() for name, tensor in classifier.state_dict().items()}
    write_tensors(path, {"identity": identity, "state_dict": weights})


def load_classifier(path: Path, network: nn.Module, identity: str) -> Classifier:
    """The classifier whose weights were saved, in evaluation mode on the CPU.

    Raises:
        WeightsError: they are missing, unreadable, or of another training or network.
    """
    if not path.exists():
        raise WeightsError(f"there are no weights ({path.name}): remove the finalist's folder to train it again")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        found, weights = content["identity"], content["state_dict"]
        classifier = Classifier(network, weights["mean"], weights["std"])
        classifier.load_state_dict(weights)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise WeightsError(f"{path.name} cannot be read: {type(error).__name__}") from error
    if found != identity:
        raise WeightsError(f"{path.name} is of another training: remove the finalist's folder to train it again")
    return classifier.eval()
