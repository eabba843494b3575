"""Trained networks as others use them: pictures in, logits out, or sequences in, outputs out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

Run = Callable[..., tuple[Tensor, ...]]
"""An exported file: its inputs to its outputs."""


class Classifier(nn.Module):
    """A network with its input normalisation: float32 images (n, c, h, w) in [0, 1] to logits (n, classes)."""

    takes: ClassVar[tuple[str, ...]] = ("images",)
    """Names of the inputs of its files."""
    gives: ClassVar[tuple[str, ...]] = ("logits",)
    """Names of the outputs of its files."""
    free: ClassVar[tuple[str, ...]] = ("batch",)
    """Names of the first axes of its inputs, whose sizes its files leave open."""
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

    def exported(self) -> nn.Module:
        """What its files compute."""
        return self

    def arguments(self, images: Tensor) -> tuple[Tensor, ...]:
        """What its files are given for images."""
        return (images,)

    def through(self, run: Run, images: Tensor) -> Tensor:
        """`forward` by a file."""
        return run(images)[0]


class Recurrent(nn.Module):
    """A recurrent network from its zero state: inputs (n, time) or (n, time, features) to its outputs.

    Those of every step, (n, time, outputs), or with `last` those of the last step, (n, outputs). Its files compute one
    step, so that they serve sequences of any length: see `Step`.
    """

    takes: ClassVar[tuple[str, ...]] = ("inputs", "state")
    gives: ClassVar[tuple[str, ...]] = ("outputs", "next_state")
    free: ClassVar[tuple[str, ...]] = ("batch",)

    def __init__(self, network: nn.Module, *, last: bool) -> None:
        super().__init__()
        self.network = network
        self.last = last

    def forward(self, inputs: Tensor) -> Tensor:
        """See the class."""
        outputs: Tensor = self.network(inputs)[0]
        return outputs[:, -1] if self.last else outputs

    def exported(self) -> nn.Module:
        """What its files compute."""
        return Step(self.network)

    @torch.no_grad()
    def arguments(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """What its files are given for the first step of inputs."""
        size = sum(part.shape[-1] for part in _parts(self.network(inputs[:1, :1])[1]))
        return inputs[:, :1], torch.zeros(len(inputs), size)

    def through(self, run: Run, inputs: Tensor) -> Tensor:
        """`forward` by a file, step by step."""
        _, state = self.arguments(inputs)
        outputs = []
        for step in range(inputs.shape[1]):
            output, state = run(inputs[:, step : step + 1], state)
            outputs.append(output)
        return outputs[-1] if self.last else torch.stack(outputs, dim=1)


class Step(nn.Module):
    """One step of a recurrent network: inputs (n, 1) or (n, 1, features) and a state (n, s) to outputs (n, outputs) and
    the next state (n, s). All states of all layers lie side by side; the first one is zero."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        # Block by block where the network can: the whole loop is one operation that no exporter knows.
        run = getattr(self.network, "interpret", self.network)
        parts, structure = tree_flatten(run(inputs)[1])
        pieces = torch.split(state, [part.shape[-1] for part in parts], dim=-1)
        shaped = [piece.reshape(part.shape[:-2] + piece.shape) for piece, part in zip(pieces, parts, strict=True)]
        outputs, after = run(inputs, tree_unflatten(shaped, structure))
        return outputs[:, -1], torch.cat([part.reshape(state.shape[0], -1) for part in _parts(after)], dim=-1)


def _parts(state: Any) -> list[Tensor]:
    """The tensors of a state, each (n, units) or, as those of PyTorch's layers, (1, n, units)."""
    return tree_flatten(state)[0]


class Whole(nn.Module):
    """A network that reads sequences as a whole: inputs (n, time) or (n, time, features) to outputs (n, outputs)."""

    takes: ClassVar[tuple[str, ...]] = ("inputs",)
    gives: ClassVar[tuple[str, ...]] = ("outputs",)
    free: ClassVar[tuple[str, ...]] = ("batch", "time")

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """See the class."""
        outputs: Tensor = self.network(inputs)[0]
        return outputs[:, -1]

    def exported(self) -> nn.Module:
        """What its files compute."""
        return self

    def arguments(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """What its files are given for inputs."""
        return (inputs,)

    def through(self, run: Run, inputs: Tensor) -> Tensor:
        """`forward` by a file."""
        return run(inputs)[0]


@torch.no_grad()
def reads_whole(network: nn.Module, step: Tensor) -> bool:
    """Whether a network of sequences gives, for one step (n, 1) or (n, 1, features), no state to go on with."""
    return network(step)[1] is None


Deployed = Classifier | Recurrent | Whole
"""What leaves the platform: one input, one output, in files that take `takes` and give `gives`."""


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
