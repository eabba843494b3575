"""Ways to train one network faster, compared with the loop of the platform.

    python benchmarks/speed.py --device cuda
    python benchmarks/speed.py --device cpu --parameters 100000 --head 128 --batch 32 --steps 3

The network is the generator that its paper found best on CIFAR-10, WS(8,5,0.6) > ER(1,0.7) > WS(5,4,0.2) (NAGO).
Every way starts from the same weights and sees the same batches; the loss after `--check` steps must be that of the
platform's loop within a tolerance (few steps: rounding grows with every one). Ways take turns, and ratios are taken
within a turn, so that a busy machine slows down all of them alike. A way that a machine or a version of torch does
not support is a row that says so.
"""

import copy
import multiprocessing
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
import typer
from common import median, show
from torch import Tensor, nn

from nas_lib.evaluation.measures import device_name, forward_cost, parameters
from nas_lib.evaluation.training import prepare_device
from nas_lib.randomness import generator
from nas_lib.spaces.generator import GeneratorSpace
from nas_lib.tasks.data import Shape

SHAPE = Shape(3, 32, 32, 10)
IMAGES = 4096
LEVELS = [
    {"model": "WS", "nodes": 8, "k": 5, "p": 0.6},
    {"model": "ER", "nodes": 1, "p": 0.7},
    {"model": "WS", "nodes": 5, "k": 4, "p": 0.2},
]
BACKWARD = 3
"""FLOPs of a training step per FLOP of the forward pass: gradients by inputs and by weights cost one pass each."""
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}
"""Largest relative difference of the loss; the wider one where either loop computes in bfloat16."""
PEAKS = {
    "H200": 989,
    "H100 PCIe": 756,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "A10G": 70,
    "A10": 125,
    "L4": 121,
    "RTX 4090": 165,
    "RTX 3090": 71,
    "T4": 65,
    "V100": 125,
}
"""TFLOP/s of dense bfloat16 (float16 where there is none) with float32 sums, as the vendor states them."""

Step = Callable[[Tensor], Tensor]
"""Trains on the images of an index (n,) and returns the loss, still on the device."""


@dataclass(frozen=True)
class Way:
    """How to take a step."""

    channels_last: bool = False
    bfloat16: bool = False
    optimizer: Literal["default", "for-loop", "foreach", "fused"] = "default"
    compile: str = ""
    """Mode of `torch.compile`; empty: eager."""
    graph: bool = False
    """The whole step as one CUDA graph."""
    autotune: bool = False
    """cuDNN measures which of its algorithms is fastest."""


def ways(device: torch.device) -> tuple[Way, dict[str, Way]]:
    """What the platform does on a device, and the alternatives, most of which change one thing."""
    if device.type == "cpu":
        return Way(), {
            "channels-last": Way(channels_last=True),
            "foreach optimiser": Way(optimizer="foreach"),
            "fused optimiser": Way(optimizer="fused"),
            "torch.compile": Way(compile="default"),
        }
    same = partial(Way, channels_last=True, bfloat16=True)
    return same(), {
        "float32, contiguous": Way(),
        "float32, channels-last": Way(channels_last=True),
        "bfloat16, contiguous": Way(bfloat16=True),
        "optimiser as a loop": same(optimizer="for-loop"),
        "fused optimiser": same(optimizer="fused"),
        "cuDNN autotuned": same(autotune=True),
        "torch.compile": same(compile="default"),
        "torch.compile, reduce-overhead": same(compile="reduce-overhead"),
        "CUDA graph": same(graph=True),
        "CUDA graph, fused": same(graph=True, optimizer="fused"),
        "CUDA graph, fused, autotuned": same(graph=True, optimizer="fused", autotune=True),
        "CUDA graph, fused, torch.compile": same(graph=True, optimizer="fused", compile="default"),
    }


@dataclass(frozen=True)
class Work:
    """What is trained: a network, images (IMAGES, 3, 32, 32) uint8 and labels on the device, batch size."""

    network: nn.Module
    images: Tensor
    labels: Tensor
    batch: int

    def batches(self) -> Iterator[Tensor]:
        """Indices without end, the same ones at every call."""
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(0)).to(self.labels.device)
        while True:
            yield from order[: len(order) // self.batch * self.batch].split(self.batch)  # type: ignore[no-untyped-call]


def work(device: torch.device, budget: int, head: int, batch: int) -> Work:
    space = GeneratorSpace.model_validate({"levels": LEVELS, "parameters": budget, "head_channels": head, "dropout": 0})
    rng = generator(0, "speed")
    torch.manual_seed(0)
    network = space.build(space.sample(rng), SHAPE)
    images = torch.from_numpy(rng.integers(0, 256, (IMAGES, 3, 32, 32), dtype=np.uint8)).to(device)
    labels = torch.from_numpy(rng.integers(0, 10, IMAGES)).to(device)
    return Work(network, images, labels, batch)


def stepper(way: Way, given: Work) -> Step:
    """The training step of a way, on a copy of the network."""
    device = given.labels.device
    memory_format = torch.channels_last if way.channels_last else torch.contiguous_format
    network = copy.deepcopy(given.network).to(device, memory_format=memory_format)  # type: ignore[call-overload]
    network.train()
    chosen = {} if way.optimizer == "default" else {name: way.optimizer == name for name in ("foreach", "fused")}
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4, nesterov=True, **chosen
    )
    model = torch.compile(network, mode=way.compile) if way.compile else network

    def take(index: Tensor) -> Tensor:
        images = given.images[index].float().div_(255).sub_(0.5).div_(0.25)
        with torch.autocast(device.type, torch.bfloat16, enabled=way.bfloat16):
            logits = model(images.contiguous(memory_format=memory_format))
        loss = F.cross_entropy(logits.float(), given.labels[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return captured(take, optimizer, given.batch, device) if way.graph else take


def captured(take: Step, optimizer: torch.optim.Optimizer, batch: int, device: torch.device, warm_up: int = 3) -> Step:
    """The step as one CUDA graph: its first calls run as they are, the next one records, and all others replay."""
    index = torch.zeros(batch, dtype=torch.int64, device=device)
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    graph = torch.cuda.CUDAGraph()
    recorded: list[Tensor] = []
    calls = 0

    def call(wanted: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        index.copy_(wanted)
        if calls <= warm_up:
            side.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(side):
                loss = take(index)
            torch.cuda.current_stream(device).wait_stream(side)
            return loss
        if not recorded:
            optimizer.zero_grad(set_to_none=True)
            with torch.cuda.graph(graph):
                recorded.append(take(index))
        graph.replay()
        return recorded[0].clone()

    return call


@dataclass
class Runner:
    """A way with its step ready to be timed, and what was found."""

    way: Way
    step: Step
    loss: float
    """After the steps of the check."""
    ready: float
    """Seconds the steps of the check took: compiling and recording included."""
    seconds: list[float] = field(default_factory=list)


def started(way: Way, given: Work, check: int) -> Runner:
    began = time.perf_counter()
    torch.backends.cudnn.benchmark = way.autotune
    step = stepper(way, given)
    losses = [step(index) for index, _ in zip(given.batches(), range(check), strict=False)]
    loss = losses[-1].item()
    return Runner(way, step, loss, time.perf_counter() - began)


def timed(step: Step, given: Work, steps: int) -> float:
    """Seconds per step."""
    synchronise(given.labels.device)
    began = time.perf_counter()
    for index, _ in zip(given.batches(), range(steps), strict=False):
        step(index)
    synchronise(given.labels.device)
    return (time.perf_counter() - began) / steps


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compare(
    given: Work, steps: int, check: int, turns: int, peak: float | None, skip: Sequence[str]
) -> list[list[str]]:
    """One row per way, those to skip left out."""
    usual, others = ways(given.labels.device)
    others = {name: way for name, way in others.items() if name not in skip}
    runners: dict[str, Runner] = {}
    rows = {}
    for name, way in {"platform": usual, **others}.items():
        try:
            runners[name] = started(way, given, check)
        except Exception as error:  # what this machine or version cannot do is a finding
            lines = str(error).strip().splitlines() or [type(error).__name__]
            reason = re.sub(r"/\S*/", "", lines[0])[:80]
            rows[name] = [name, "-", "-", "-", "-", f"does not run here: {reason}"]
        typer.echo(f"{name} is ready", err=True)
    for turn in range(1 + turns):
        for runner in runners.values():
            torch.backends.cudnn.benchmark = runner.way.autotune
            seconds = timed(runner.step, given, steps)
            if turn > 0:  # the first turn warms up
                runner.seconds.append(seconds)
    platform = runners["platform"]
    flops = BACKWARD * forward_cost(copy.deepcopy(given.network), SHAPE).flops
    for name, runner in runners.items():
        speed = given.batch / np.array(runner.seconds)
        ratio = np.array(platform.seconds) / np.array(runner.seconds)
        difference = abs(runner.loss / platform.loss - 1)
        tolerance = TOLERANCE["bfloat16" if usual.bfloat16 or runner.way.bfloat16 else "float32"]
        verdict = "equal" if difference <= tolerance else "NOT EQUAL"
        share = f"{np.median(speed) * flops / (1e12 * peak):.1%}" if peak else "-"
        rows[name] = [
            name,
            median(speed.tolist(), digits=0),
            "1" if runner is platform else median(ratio.tolist()),
            share,
            f"{runner.ready:.1f} s",
            f"{verdict}: {difference:.1e}, allowed {tolerance:.0e}",
        ]
    return [rows[name] for name in ("platform", *others)]


def several(device: str, size: tuple[int, int, int], counts: Sequence[int], steps: int, turns: int) -> list[list[str]]:
    """Candidates trained at the same time, one process each, by the platform's way."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(max(counts))]
    processes = [context.Process(target=candidate, args=(end, device, size, steps)) for _, end in pipes]
    for process in processes:
        process.start()
    for pipe, _ in pipes:
        pipe.recv()
    speeds: dict[int, list[float]] = {count: [] for count in counts}
    for turn in range(1 + turns):
        for count in counts:
            for pipe, _ in pipes[:count]:
                pipe.send(True)
            seconds = [pipe.recv() for pipe, _ in pipes[:count]]
            if turn > 0:
                speeds[count].append(sum(size[2] / each for each in seconds))
    for pipe, _ in pipes:
        pipe.send(False)
    for process in processes:
        process.join()
    one = np.array(speeds[counts[0]])
    return [
        [str(count), median(speed, digits=0), median((np.array(speed) / one).tolist())]
        for count, speed in speeds.items()
    ]


def candidate(pipe: Connection, device: str, size: tuple[int, int, int], steps: int) -> None:
    """A process that trains `steps` steps whenever it is told to and answers with the seconds per step."""
    here = prepare_device(device, threads=1)
    given = work(here, *size)
    step = stepper(ways(here)[0], given)
    timed(step, given, 2)
    pipe.send(True)
    while pipe.recv():
        pipe.send(timed(step, given, steps))


def siblings(device: torch.device, width: int, batch: int, turns: int) -> list[list[str]]:
    """Forward and backward pass of k equal operations, one by one and as one grouped convolution."""
    bfloat16 = ways(device)[0].bfloat16
    rows = []
    for stage in range(3):
        channels, side = width * 2**stage, 16 // 2**stage
        for count in (2, 4):
            torch.manual_seed(0)
            apart = [operation(channels, 1).to(device) for _ in range(count)]
            joined = operation(count * channels, count).to(device)
            with torch.no_grad():
                for target, *parts in zip(joined.parameters(), *(each.parameters() for each in apart), strict=True):
                    target.copy_(torch.cat(parts))
            images = torch.randn(batch, count * channels, side, side, device=device, requires_grad=True)

            def one_by_one(images: Tensor = images, apart: list[nn.Sequential] = apart, count: int = count) -> Tensor:
                parts = images.chunk(count, 1)
                return torch.cat([each(part) for each, part in zip(apart, parts, strict=True)], 1)

            def together(images: Tensor = images, joined: nn.Sequential = joined) -> Tensor:
                output: Tensor = joined(images)
                return output

            passes = [partial(there_and_back, way, device, bfloat16) for way in (one_by_one, together)]
            first, second = (each() for each in passes)
            difference = ((first - second).abs().max() / first.abs().max()).item()
            ratios = []
            for turn in range(1 + turns):
                taken = []
                for each in passes:
                    synchronise(device)
                    began = time.perf_counter()
                    for _ in range(10):
                        each()
                    synchronise(device)
                    taken.append(time.perf_counter() - began)
                if turn > 0:
                    ratios.append(taken[0] / taken[1])
            rows.append([f"{channels} x {side} x {side}", str(count), median(ratios), f"{difference:.0e}"])
    return rows


def operation(channels: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1, groups=groups), nn.BatchNorm2d(channels)
    )


def there_and_back(way: Callable[[], Tensor], device: torch.device, bfloat16: bool) -> Tensor:
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        output = way()
    output.float().square().mean().backward()  # type: ignore[no-untyped-call]
    return output.detach().float()


def peak_of(name: str) -> float | None:
    """TFLOP/s of a card in the table."""
    return next((peak for card, peak in PEAKS.items() if card in name), None)


def main(
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cuda",
    budget: Annotated[int, typer.Option("--parameters", help="Parameter budget of the network.")] = 4_000_000,
    head: Annotated[int, typer.Option(help="Channels of its last convolution.")] = 1280,
    batch: Annotated[int, typer.Option(help="Images per step.")] = 96,
    steps: Annotated[int, typer.Option(help="Steps per way and turn.")] = 30,
    check: Annotated[int, typer.Option(min=5, help="Steps after which the loss is compared.")] = 5,
    turns: Annotated[int, typer.Option(help="Turns.")] = 7,
    processes: Annotated[str, typer.Option(help="Candidates at the same time, the first one to compare with.")] = "",
    skip: Annotated[list[str] | None, typer.Option(help="Ways to leave out, for example torch.compile.")] = None,
    peak: Annotated[float | None, typer.Option(help="Peak of the card in TFLOP/s; default: from a table.")] = None,
) -> None:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    here = prepare_device(device, threads=1)
    counts = [int(count) for count in (processes or ("1,2,4" if here.type == "cuda" else "1,2")).split(",")]
    given = work(here, budget, head, batch)
    peak = peak or peak_of(device_name(here))
    at_once = several(device, (budget, head, batch), counts, steps, turns)
    how = f"Median and quartiles of {turns} turns of {steps} steps, ratios within a turn."
    size = f"{parameters(given.network):,} parameters, batch {batch}, {device_name(here)}, one thread per process"
    show(
        f"Ways to train: {size}",
        ["way", "images/s", "speed / platform", "share of peak", "first steps", f"loss after {check} steps"],
        compare(given, steps, check, turns, peak, skip or []),
        f"{how} Peak: {peak} TFLOP/s." if peak else f"{how} The peak of this device is not known (--peak).",
    )
    show(f"Candidates at the same time: {size}", ["candidates", "images/s together", "speed / one"], at_once, how)
    width = next(each.out_channels for each in given.network.modules() if isinstance(each, nn.Conv2d))
    show(
        f"Sibling operations (ReLU, 3x3 convolution, batch normalisation): batch {batch}, {device_name(here)}",
        ["channels x pixels", "siblings", "speed of one grouped convolution / one by one", "difference"],
        siblings(here, max(1, width), batch, turns),
        f"Forward and backward pass; median and quartiles of {turns} turns of 10, ratios within a turn. Largest "
        "difference of an output relative to the largest output.",
    )


if __name__ == "__main__":
    typer.run(main)
