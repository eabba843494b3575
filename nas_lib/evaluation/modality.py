"""What training asks of the data of a task, whatever they are: images, sequences or running text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from nas_lib.evaluation.deployed import Deployed
from nas_lib.evaluation.settings import Training

Part = Literal["validation", "held_out"]
"""A split that is measured: `held_out` is what a result is of, `validation` is beside it where finalists have one."""


class Step(NamedTuple):
    """The forward pass of one batch, before the network is changed."""

    loss: Tensor
    """What is descended on, a mean; a scalar with its graph."""
    weight: int | Tensor
    """How many numbers `loss` is the mean of: images, time steps or tokens."""
    wrong: Tensor
    """How many of the `items` are wrong."""
    items: int


class DeviceData(Protocol):
    """The data of a task as tensors on the training device."""

    @property
    def device(self) -> torch.device:
        """Where they are."""

    @property
    def has_validation(self) -> bool:
        """Whether there is a validation split beside the held-out one."""

    @property
    def evaluation_batch(self) -> int:
        """Images or sequences that are measured at the same time."""

    def time_steps(self, settings: Training) -> int:
        """Time steps of one item of a batch; 1 for images."""

    def updates(self, settings: Training) -> int:
        """Steps of one epoch."""

    def steps(self, network: nn.Module, settings: Training, generator: torch.Generator) -> Iterator[Step]:
        """The batches of one epoch, passed through the network one by one: the caller steps in between."""

    def measure(self, network: nn.Module, part: Part, settings: Training) -> dict[str, float]:
        """`error`, `loss` and what else there is of a split, with the network in evaluation mode."""

    def further(self, network: nn.Module, settings: Training) -> dict[str, float]:
        """Figures that are reported of a trained network and minimised by nobody."""

    def deployed(self, network: nn.Module) -> Deployed:
        """The network as others use it, with what has to be done to its inputs and outputs."""

    def examples(self, count: int) -> Tensor:
        """Inputs of that from the held-out split, at most so many."""


def precision(settings: Training, device: torch.device) -> torch.autocast:
    """The context a forward pass runs in: bfloat16 where it is asked for and the device computes in it."""
    capable = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, torch.bfloat16, enabled=settings.mixed_precision and capable)


def detached(state: Any) -> Any:
    """The state of a recurrent network, a tensor or nested tuples of them, cut off from its past."""
    if state is None or isinstance(state, Tensor):
        return state if state is None else state.detach()
    return tuple(detached(part) for part in state)
