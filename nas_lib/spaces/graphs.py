"""Architectures of genes as directed graphs of labelled nodes, for predictors that learn from those.

A graph of a space is a function of option numbers and of which genes have an effect. Nodes with the same label do the
same, so equal graphs are equal networks, whatever genes they were made from.
"""

from __future__ import annotations

import graphlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Present = NDArray[np.bool_]


@dataclass(frozen=True)
class Graphs:
    """Graphs of n architectures, with room for v nodes each."""

    labels: NDArray[np.int64]
    """What each node does, shape (n, v); -1 where there is no node."""
    edges: Present
    """Whether the output of a node is an input of another: architecture, from, to; shape (n, v, v)."""


Drawn = Callable[[NDArray[np.int64], Present], Graphs]
"""Option numbers in canonical form (n, d), and which genes have an effect (n, d) -> graphs."""


def chain(counts: Sequence[int], order: Sequence[int] | None = None, without: Present | None = None) -> Drawn:
    """Genes in a row, each a node with a label for its place and its option.

    Args:
        counts: Options of each gene (d).
        order: The genes in the order of the row; default: all, as they are. A gene without effect has no node, and its
            neighbours follow each other.
        without: Per gene and option whether it removes the node, shape (d, most options).
    """
    starts, places = np.cumsum([0, *counts[:-1]]), np.arange(len(counts)) if order is None else np.array(order)

    def drawn(numbers: NDArray[np.int64], active: Present) -> Graphs:
        present = active if without is None else active & ~without[np.arange(len(counts)), numbers]
        return row((starts + numbers)[:, places], present[:, places])

    return drawn


def row(labels: NDArray[np.int64], present: Present) -> Graphs:
    """Graphs in which each node (n, v) that is present has an edge to the next one that is."""
    place = present.cumsum(axis=1)
    follows = place[:, None, :] - place[:, :, None] == 1
    return Graphs(np.where(present, labels, -1), follows & present[:, None, :] & present[:, :, None])


def wired(counts: Sequence[int], wires: Sequence[tuple[int, int]]) -> Drawn:
    """A node for each gene that has an effect, labelled by the gene and its option; wires lead from gene to gene."""
    starts = np.cumsum([0, *counts[:-1]])
    wiring = np.zeros((len(counts), len(counts)), dtype=bool)
    for source, target in wires:
        wiring[source, target] = True

    def drawn(numbers: NDArray[np.int64], active: Present) -> Graphs:
        return _among(np.where(active, starts + numbers, -1), wiring)

    return drawn


def operations_on_edges(
    edges: Sequence[tuple[Hashable, Hashable]], options: Sequence[Sequence[Hashable]], without: Hashable = None
) -> Drawn:
    """Each gene is the operation on an edge between two nodes of a cell, which add up what comes in.

    The operations are the nodes here, labelled by their option alone; the cell's nodes without edges into or out of
    them are its inputs and outputs, with a label each. Operations that no input reaches, or that reach no output, are
    left out.

    Args:
        edges: From and to which node the edge of each gene (d) leads.
        options: Those of each gene.
        without: The option that removes an edge.

    Raises:
        ValueError: the edges form a cycle.
    """
    count = len(edges)
    before: dict[Hashable, set[Hashable]] = {}
    for source, target in edges:
        before.setdefault(target, set()).add(source)
    try:
        nodes = list(graphlib.TopologicalSorter(before).static_order())
    except graphlib.CycleError:
        raise ValueError("the edges form a cycle, allowed are those of a graph without any") from None
    starts, ends = {source for source, _ in edges}, {target for _, target in edges}
    inputs = [node for node in nodes if node not in ends]
    outputs = [node for node in nodes if node not in starts]
    ways = [*edges, *((None, node) for node in inputs), *((node, None) for node in outputs)]
    adjacent = np.array(
        [[target is not None and target == source for source, _ in ways] for _, target in ways], dtype=bool
    )
    names = list(dict.fromkeys(option for gene in options for option in gene))
    label_of = np.full((count, max(map(len, options))), -1, dtype=np.int64)
    for gene, its in enumerate(options):
        label_of[gene, : len(its)] = [-1 if option == without else names.index(option) for option in its]
    terminals = len(names) + np.arange(len(inputs) + len(outputs))

    def drawn(numbers: NDArray[np.int64], active: Present) -> Graphs:
        labels = np.where(active, label_of[np.arange(count), numbers], -1)
        labels = np.concatenate([labels, np.tile(terminals, (len(numbers), 1))], axis=1)
        present = labels >= 0
        is_input, is_output = np.zeros((2, len(ways)), dtype=bool)
        is_input[count : count + len(inputs)], is_output[count + len(inputs) :] = True, True
        reached = _reached(present, is_input, adjacent) & _reached(present, is_output, adjacent.T)
        return _among(np.where(reached | is_input | is_output, labels, -1), adjacent)

    return drawn


def _reached(present: Present, first: Present, adjacent: Present) -> Present:
    """Which nodes that are present (n, v) can be reached from the first ones (v,)."""
    reached = present & first
    for _ in range(len(adjacent)):
        further = reached | (present & (reached.astype(np.float32) @ adjacent.astype(np.float32) > 0))
        if (further == reached).all():
            break
        reached = further
    return reached


def _among(labels: NDArray[np.int64], adjacent: Present) -> Graphs:
    """Graphs with the edges (v, v) between nodes (n, v) that are there."""
    present = labels >= 0
    return Graphs(labels, adjacent & present[:, :, None] & present[:, None, :])
