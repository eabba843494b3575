"""What a network costs: parameters, FLOPs, activation memory, latency."""

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas_lib.evaluation.deployed import reads_whole
from nas_lib.evaluation.settings import Latency, Training
from nas_lib.flops import FlopCounter, numbers
from nas_lib.tasks.data import SequenceShape, Shape


def parameters(network: nn.Module) -> int:
    """Trainable numbers of the whole network."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


@dataclass(frozen=True)
class ForwardCost:
    """Cost of one forward pass: of one image, of one time step of one sequence, or, of a network that reads sequences
    as a whole, of one sequence as long as those trained on."""

    flops: int
    """Two per multiply-add; convolutions and matrix products only, as `torch.utils.flop_counter` counts."""
    activation_memory: int
    """Bytes: the outputs of all layers (modules without children) as float32, summed; for sequences those of all
    operations, for recurrent cells are not made of layers."""


def blank(shape: Shape | SequenceShape, batch: int, device: torch.device, steps: int = 1) -> Tensor:
    """Inputs of zeros: images, or so many time steps of sequences; symbols that are no padding."""
    if isinstance(shape, Shape):
        return torch.zeros(batch, shape.channels, shape.height, shape.width, device=device)
    if shape.tokens:
        symbol = 1 if shape.padding == 0 else 0
        return torch.full((batch, steps), symbol, dtype=torch.int64, device=device)
    return torch.zeros(batch, steps, shape.inputs, device=device)


def steps_at_once(network: nn.Module, shape: Shape | SequenceShape) -> int:
    """Time steps of one forward pass: those of a sequence for a network that reads them as a whole, else 1.

    Raises:
        ValueError: it reads sequences as a whole, and the shape does not say how long they are.
    """
    if isinstance(shape, Shape) or not reads_whole(network, blank(shape, 1, next(network.parameters()).device)):
        return 1
    if shape.length is None:
        raise ValueError("the task does not say how long its sequences are, which the network reads as a whole")
    return shape.length


@contextmanager
def _unfused() -> Iterator[None]:
    """Without the libraries whose recurrent layers are one operation, of which nobody counts the matrix products."""
    before = torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled
    try:
        torch.backends.mkldnn.set_flags(_enabled=False)  # type: ignore[no-untyped-call]
        torch.backends.cudnn.enabled = False
        yield
    finally:
        torch.backends.mkldnn.set_flags(_enabled=before[0])  # type: ignore[no-untyped-call]
        torch.backends.cudnn.enabled = before[1]


@torch.no_grad()
def forward_cost(network: nn.Module, shape: Shape | SequenceShape) -> ForwardCost:
    """Run one blank image, time step or sequence through the network and count. Leaves it in evaluation mode."""
    network.eval()
    steps = steps_at_once(network, shape)
    elements = 0

    def count(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Any) -> None:
        nonlocal elements
        elements += numbers(output)

    leaves = [module for module in network.modules() if next(module.children(), None) is None]
    hooks = [leaf.register_forward_hook(count) for leaf in leaves]
    device = next(network.parameters()).device
    try:
        with (
            nullcontext() if isinstance(shape, Shape) else _unfused(),
            FlopCounter() as counter,  # type: ignore[no-untyped-call]
        ):
            network(blank(shape, 1, device, steps))
    finally:
        for hook in hooks:
            hook.remove()
    if isinstance(shape, SequenceShape):
        # What a second sequence adds: copies of weights are no activations.
        with FlopCounter() as two:  # type: ignore[no-untyped-call]
            network(blank(shape, 2, device, steps))
        with FlopCounter() as one:  # type: ignore[no-untyped-call]
            network(blank(shape, 1, device, steps))
        elements = two.elements - one.elements
    return ForwardCost(flops=int(counter.flops), activation_memory=4 * elements)


EVALUATION_SHARE = 0.3
"""Of the outputs of all layers, those that live at the same time where no gradient is wanted: 0.12 to 0.28 measured."""


def training_memory(
    network: nn.Module,
    shape: Shape | SequenceShape,
    settings: Training,
    evaluation_batch: int,
    time_steps: int = 1,
) -> int:
    """An estimate of the bytes that training a network takes on its device; `network` may be on the device `meta`.

    Weights, gradients and what the optimiser keeps, 4 bytes each, and activations: the outputs of all layers for a
    batch, as most of them are kept for the backward pass, or what lives at the same time in the larger batches of an
    evaluation; those of a time step as often as there are steps. As float32; with bfloat16 activations take about half.
    What PyTorch keeps for the backward pass was measured (`saved_tensors_hooks`, CPU, float32, images) to be 0.82 to
    1.25 times the estimate. Data, the context of the device and the workspaces of its libraries come on top.
    """
    kept = 4 if settings.optimizer == "adam" else 3 if settings.momentum else 2
    activations = forward_cost(network, shape).activation_memory * time_steps // steps_at_once(network, shape)
    return int(
        4 * kept * parameters(network) + activations * max(settings.batch_size, EVALUATION_SHARE * evaluation_batch)
    )


@torch.no_grad()
def latency(network: nn.Module, shape: Shape | SequenceShape, settings: Latency) -> Mapping[str, float | int | str]:
    """Milliseconds of one forward pass: of images, of one time step of a recurrent network that continues another, or
    of sequences as long as those trained on that a network reads as a whole.

    Median (`latency`), 10th and 90th percentile, and how they were measured.
    """
    network.eval()
    device = next(network.parameters()).device
    steps = steps_at_once(network, shape)
    inputs = [blank(shape, settings.batch_size, device, steps)]
    of = "a forward pass" if isinstance(shape, Shape) else "a sequence"
    if isinstance(shape, SequenceShape) and steps == 1:
        inputs.append(network(*inputs)[1])
        of = "a time step"
    times = []
    for repetition in range(settings.warm_up + settings.repetitions):
        _wait(device)
        began = time.perf_counter()
        network(*inputs)
        _wait(device)
        if repetition >= settings.warm_up:
            times.append(1000 * (time.perf_counter() - began))
    deciles = statistics.quantiles(times, n=10)
    return {
        "latency": statistics.median(times),
        "latency_p10": deciles[0],
        "latency_p90": deciles[-1],
        "latency_of": of,
        "latency_batch_size": settings.batch_size,
        "latency_warm_up": settings.warm_up,
        "latency_repetitions": settings.repetitions,
        "latency_device": device_name(device),
        "latency_threads": torch.get_num_threads(),
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """The name of the device for people, for example `cpu` or that of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
