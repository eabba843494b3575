"""Scores that are mere sizes. They beat most others in benchmarks, and so belong beside them."""

from __future__ import annotations

from collections.abc import Collection
from graphlib import TopologicalSorter
from typing import Any

import torch
from torch import Tensor, nn

from nas_lib.flops import FlopCounter
from nas_lib.scores.passes import WEIGHTED, NotApplicableError
from nas_lib.scores.probe import Probe
from nas_lib.spaces.recurrent.cell import Cell, live, order
from nas_lib.spaces.recurrent.network import RecurrentNetwork

TRANSPOSING = ("TBackward0", "TransposeBackward0", "PermuteBackward0")
"""What may stand between a weight and the operation that reads it."""


def parameters(probe: Probe) -> float:
    """Numbers in all parameters, shared ones once."""
    return float(sum(parameter.numel() for parameter in probe.network.parameters()))


def flops(probe: Probe) -> float:
    """Floating-point operations of one sample, all time steps of it; matrix products and convolutions, two each."""
    inputs, times = probe.batch.inputs[:1], 1
    if isinstance(probe.network, RecurrentNetwork):
        inputs, times = inputs[:, :1], inputs.shape[1]  # every step costs the same
    with torch.no_grad(), FlopCounter() as counter:  # type: ignore[no-untyped-call]
        probe.network(inputs)
    return float(counter.flops * times)


def depth(probe: Probe) -> float:
    """Of recurrent networks layers times blocks on the longest path through a step; of networks that trace their
    layers their number; of others the most layers with weights that one output depends on in a row."""
    if isinstance(probe.network, RecurrentNetwork):
        cells = probe.network.cells()
        return float(len(cells) * longest_path(cells[0].cell))
    if probe.passed.traces():
        return float(len(probe.passed.traces()))
    weights = {id(weight) for weight in probe.weights()}
    return float(weighted_depth(probe.passed.outputs(), weights))


def width(probe: Probe) -> float:
    """Mean size of the hidden states of recurrent networks and of networks that trace their layers; of others mean
    outputs of layers with weights."""
    if isinstance(probe.network, RecurrentNetwork):
        sizes = [layer.hidden for layer in probe.network.cells()]
    elif probe.passed.traces():
        sizes = [trace.output.shape[-1] for trace in probe.passed.traces()]
    else:
        sizes = [module.weight.shape[0] for module in weighted(probe.network)]
    return sum(sizes) / len(sizes) if sizes else 0.0


def area(probe: Probe) -> float:
    """Depth times width: number of layers times hidden size of transformers, their strongest baseline."""
    return depth(probe) * width(probe)


def nodes(probe: Probe) -> float:
    """Blocks of a recurrent cell on which a state depends; layers with weights of other networks."""
    if isinstance(probe.network, RecurrentNetwork):
        return float(len(live(probe.network.cells()[0].cell)))
    found = len(weighted(probe.network))
    if not found:
        raise NotApplicableError("needs layers with weights, and there are none")
    return float(found)


def weighted(network: nn.Module) -> list[Any]:
    """The linear layers and convolutions of a network."""
    return [module for module in network.modules() if isinstance(module, WEIGHTED)]


def longest_path(cell: Cell) -> int:
    """Most blocks in a row within a step."""
    depths = dict.fromkeys(cell.inputs, 0)
    for name in order(cell):
        depths[name] = 1 + max(depths[source] for source in cell.blocks[name].sources)
    return max(depths[name] for name in live(cell))


def weighted_depth(output: Tensor, weights: Collection[int]) -> int:
    """Most operations with weights in a row on which a tensor depends, by its graph.

    Args:
        weights: `id` of each weight.
    """
    graph: dict[Any, list[Any]] = {}
    waiting = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in graph:
            graph[node] = [source for source, _ in node.next_functions if source is not None]
            waiting += graph[node]
    depths: dict[Any, int] = {}
    for node in TopologicalSorter(graph).static_order():
        reads_weight = node.name() not in TRANSPOSING and any(_is_weight(source, weights) for source in graph[node])
        depths[node] = max((depths[source] for source in graph[node]), default=0) + reads_weight
    return max(depths.values(), default=0)


def _is_weight(node: Any, weights: Collection[int]) -> bool:
    while node.name() in TRANSPOSING:
        node = node.next_functions[0][0]
    return id(getattr(node, "variable", None)) in weights
