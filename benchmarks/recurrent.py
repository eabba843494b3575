"""Recurrent cells: the fast way against block by block, and the LSTM cell against PyTorch's own LSTM.

    python benchmarks/recurrent.py --write docs/results/rnn-speed.md

Measured is the cell: the forward pass of one layer over a batch and the backward pass from a fixed gradient of its
outputs. Beside it stands a training step of a language model: embedding, layer, decoder, cross entropy, gradients
clipped, SGD. On a CPU with one thread times are those of the process, else of the clock. Ways take turns, and ratios
are taken within a turn, so that a busy machine slows down all of them alike.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from common import machine, median, show
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from nas_lib.spaces.recurrent.cell import Cell, without_empty
from nas_lib.spaces.recurrent.edits import random_cell
from nas_lib.spaces.recurrent.network import CellLayer, RecurrentNetwork
from nas_lib.spaces.recurrent.seeds import basic, cornn, gru, lstm
from nas_lib.tasks.data import SequenceShape

OWN = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}


VOCABULARY = 1000
CLIP = 0.25
Step = Callable[[], object]


def seconds(step: Step, device: str, steps: int) -> float:
    """Mean seconds of a step after one to warm up: of the process with one thread on a CPU, else of the clock."""
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    began = clock()
    for _ in range(steps):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return (clock() - began) / steps


def passes(layer: nn.Module, run: Callable[..., tuple[Tensor, object]], gradient: Tensor, *given: object) -> Step:
    """Forward and backward pass of a layer."""

    def step() -> None:
        layer.zero_grad()
        run(*given)[0].backward(gradient)  # type: ignore[no-untyped-call]

    return step


def training(network: RecurrentNetwork, run: Callable[..., tuple[Tensor, object]], tokens: Tensor) -> Step:
    """A training step of a language model."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)

    def step() -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(run(tokens[:, :-1])[0].flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()

    return step


def products(layer: CellLayer, values: Tensor) -> Step:
    """The matrix products of the fast way alone, in both directions: no loop over its plan can be faster."""
    (length, batch, _), hidden = values.shape, layer.hidden
    plan = layer.made.plan
    widths = [hidden * len(group.slots) for group in plan.groups]
    before = [hidden * sum(map(len, runs)) for runs in layer.runs.values()]
    matrices = {width: torch.randn(width, hidden, device=values.device) for width in {*widths, *before}}
    columns = {width: torch.randn(length, batch, width, device=values.device) for width in {*widths, *before}}

    def step() -> None:
        for width in before:
            F.linear(values, matrices[width])
        for place in range(length):
            for width in widths:
                columns[width][place].addmm_(values[place], matrices[width].t(), beta=0)
        for _ in range(length):
            for width in widths:
                torch.mm(columns[width][0], matrices[width])
        for width in [*before, *widths]:
            columns[width].flatten(0, 1).t() @ values.flatten(0, 1)

    return step


def main(
    hidden: Annotated[int, typer.Option(help="Size of states and inputs.")] = 128,
    batch: Annotated[int, typer.Option(help="Sequences per step.")] = 20,
    length: Annotated[int, typer.Option(help="Time steps.")] = 35,
    cells: Annotated[int, typer.Option(help="Random cells.")] = 10,
    turns: Annotated[int, typer.Option(help="Turns of every way.")] = 7,
    steps: Annotated[int, typer.Option(help="Passes of a way in a turn.")] = 3,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    write: Annotated[Path | None, typer.Option(help="Markdown file for the table.")] = None,
) -> None:
    """Print the table, and write it."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    named: list[tuple[str, Cell]] = [("RNN", basic()), ("GRU", gru()), ("LSTM", lstm()), ("coRNN", cornn())]
    named += [(f"random {place}", random_cell(rng)) for place in range(1, cells + 1)]
    values, gradient = torch.randn(2, length, batch, hidden, device=device)
    shape = SequenceShape(inputs=VOCABULARY, outputs=VOCABULARY, tokens=True)
    tokens = torch.randint(VOCABULARY, (batch, length + 1), device=device)
    rows, ratios = [], []
    for name, full in named:
        cell = without_empty(full)
        began = time.process_time()
        layer = CellLayer(cell, hidden, hidden)
        made = time.process_time() - began
        layer.to(device)
        state = layer.start(batch, values)
        network = RecurrentNetwork(cell, shape, hidden).to(device)
        ways = [
            passes(layer, layer.interpret, gradient, values, state),
            passes(layer, layer, gradient, values, state),
            products(layer, values),
            training(network, network.interpret, tokens),
            training(network, network, tokens),
        ]
        if name in OWN:
            own = OWN[name](hidden, hidden).to(device)
            ways.append(passes(own, own, gradient, values))
        times = np.array([[seconds(way, device, steps) for way in ways] for _ in range(turns)])
        slow, fast, least = times[:, :3].T
        ratios.append(float(np.median(slow / fast)))
        row = [name, str(len(cell.blocks) + len(cell.inputs)), f"{made * 1e3:.1f} ms"]
        row += [median((each * 1e3).tolist(), "ms", 1) for each in (slow, fast)]
        row += [median((slow / each).tolist(), "", 1) for each in (fast, least)]
        row.append(median((times[:, 3] / times[:, 4]).tolist(), "", 1))
        row.append(median((fast / times[:, 5]).tolist()) if len(ways) > 5 else "")
        rows.append(row)
    columns = ["cell", "blocks", "made in", "block by block", "fast", "times faster", "products alone: times faster"]
    columns += ["training step: times faster", "fast / PyTorch's layer"]
    how = (
        f"Hidden {hidden}, batch {batch}, {length} steps, {device}, {torch.get_num_threads()} thread(s); medians and "
        f"quartiles of {turns} turns of {steps} passes forward and back. Over all cells {min(ratios):.1f} to "
        f"{max(ratios):.1f} times faster, median {np.median(ratios):.1f}. `made in`: from the cell to a layer ready to "
        f"train. The training step is that of a language model of {VOCABULARY} words."
    )
    show("Recurrent cells forward and back", columns, rows, how)
    if write is not None:
        lines = [columns, ["---"] * len(columns), *rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        command = f"    OMP_NUM_THREADS={torch.get_num_threads()} python {' '.join(sys.argv)}"
        write.write_text(f"# How fast recurrent cells train\n\n{command}\n\n{table}\n\n{how}\n{machine()}\n")


if __name__ == "__main__":
    typer.run(main)
