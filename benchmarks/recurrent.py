"""Recurrent cells: the fast way against block by block, and the LSTM cell against PyTorch's own LSTM.

    python benchmarks/recurrent.py --write docs/results/rnn-speed.md

A training step is the forward and the backward pass of one layer over a batch, the loss being the mean of its outputs'
squares. Ways take turns, and ratios are taken within a turn, so that a busy machine slows down all of them alike.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from common import machine, median, show
from torch import Tensor, nn

from nas_lib.spaces.recurrent.cell import Cell, without_empty
from nas_lib.spaces.recurrent.edits import random_cell
from nas_lib.spaces.recurrent.network import CellLayer
from nas_lib.spaces.recurrent.seeds import basic, cornn, gru, lstm

OWN = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}


def first_of(function: Callable[..., tuple[Tensor, object]], *arguments: object) -> Tensor:
    """The outputs of a recurrent layer, without its state."""
    return function(*arguments)[0]


def seconds(step: Callable[[], Tensor], parameters: list[nn.Parameter], device: str, steps: int) -> float:
    """Mean seconds of a training step."""
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = None
        step().square().mean().backward()  # type: ignore[no-untyped-call]
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / steps


def main(
    hidden: Annotated[int, typer.Option(help="Size of states and inputs.")] = 128,
    batch: Annotated[int, typer.Option(help="Sequences per step.")] = 20,
    length: Annotated[int, typer.Option(help="Time steps.")] = 35,
    cells: Annotated[int, typer.Option(help="Random cells.")] = 10,
    turns: Annotated[int, typer.Option(help="Turns of every way.")] = 7,
    steps: Annotated[int, typer.Option(help="Training steps per turn.")] = 3,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    write: Annotated[Path | None, typer.Option(help="Markdown file for the table.")] = None,
) -> None:
    """Print the table, and write it."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    named: list[tuple[str, Cell]] = [("RNN", basic()), ("GRU", gru()), ("LSTM", lstm()), ("coRNN", cornn())]
    named += [(f"random {place}", random_cell(rng)) for place in range(1, cells + 1)]
    values = torch.randn(length, batch, hidden, device=device)
    rows, ratios = [], []
    for name, full in named:
        cell = without_empty(full)
        began = time.perf_counter()
        layer = CellLayer(cell, hidden, hidden)
        made = time.perf_counter() - began
        layer.to(device)
        state = layer.start(batch, values)
        ways = [
            (partial(first_of, layer.interpret, values, state), list(layer.parameters())),
            (partial(first_of, layer, values, state), list(layer.parameters())),
        ]
        if name in OWN:
            own = OWN[name](hidden, hidden).to(device)
            ways.append((partial(first_of, own, values), list(own.parameters())))
        for step, parameters in ways:
            seconds(step, parameters, device, 2)
        times = np.array([[seconds(*way, device, steps) for way in ways] for _ in range(turns)])
        ratios.append(float(np.median(times[:, 0] / times[:, 1])))
        row = [name, str(len(cell.blocks) + len(cell.inputs)), f"{made * 1e3:.1f} ms"]
        row += [median((times[:, way] * 1e3).tolist(), "ms", 1) for way in (0, 1)]
        row.append(median((times[:, 0] / times[:, 1]).tolist(), "", 1))
        row.append(median((times[:, 1] / times[:, 2]).tolist()) if len(ways) > 2 else "")
        rows.append(row)
    columns = ["cell", "blocks", "made in", "block by block", "fast", "times faster", "fast / PyTorch's layer"]
    how = (
        f"Hidden {hidden}, batch {batch}, {length} steps, {device}, {torch.get_num_threads()} thread(s); medians and "
        f"quartiles of {turns} turns of {steps} training steps. Over all cells {min(ratios):.1f} to {max(ratios):.1f} "
        f"times faster, median {np.median(ratios):.1f}. `made in`: from the cell to a network ready to train."
    )
    show("Training steps of recurrent cells", columns, rows, how)
    if write is not None:
        lines = [columns, ["---"] * len(columns), *rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        command = f"    OMP_NUM_THREADS={torch.get_num_threads()} python {' '.join(sys.argv)}"
        write.write_text(f"# How fast recurrent cells train\n\n{command}\n\n{table}\n\n{how}\n{machine()}\n")


if __name__ == "__main__":
    typer.run(main)
