"""Architectures as graphs: what nodes and edges stand for, which are equal, and what tables may declare."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nas_lib.configuration import ConfigurationError
from nas_lib.laboratory.settings import parse
from nas_lib.problems import Problem, ProblemError
from nas_lib.problems.known import EDGES, OPERATIONS, _macro_graphs
from nas_lib.problems.synthetic import Cell, Grid
from nas_lib.spaces.genes import Condition, Gene, GeneSpace
from nas_lib.spaces.graphs import Graphs, chain, operations_on_edges

TRIANGLE = (("in", "middle"), ("middle", "out"), ("in", "out"))
CELL_OPTIONS = ("none", "skip", "conv")


def links(graphs: Graphs, row: int = 0) -> set[tuple[int, int]]:
    """The edges of one architecture, as pairs of nodes."""
    return {(int(a), int(b)) for a, b in zip(*np.nonzero(graphs.edges[row]), strict=True)}


def cell(*operations: str) -> Graphs:
    drawn = operations_on_edges(TRIANGLE, [CELL_OPTIONS] * 3, "none")
    numbers = np.array([[CELL_OPTIONS.index(operation) for operation in operations]])
    return drawn(numbers, np.ones((1, 3), dtype=bool))


def test_operations_on_edges_are_nodes_between_input_and_output() -> None:
    graphs = cell("conv", "skip", "conv")
    assert graphs.labels.tolist() == [[2, 1, 2, 3, 4]], "three operations, the input, the output"
    assert links(graphs) == {(0, 1), (3, 0), (3, 2), (1, 4), (2, 4)}


def test_operations_that_nothing_reaches_or_that_reach_nothing_are_left_out() -> None:
    graphs = cell("none", "conv", "skip")
    assert graphs.labels.tolist() == [[-1, -1, 1, 3, 4]]
    assert links(graphs) == {(3, 2), (2, 4)}
    assert cell("conv", "none", "skip").labels.tolist() == graphs.labels.tolist()
    assert links(cell("conv", "none", "none")) == set(), "an input and an output that are not joined"


def test_genes_without_effect_leave_the_chain_and_their_neighbours_follow_each_other() -> None:
    genes = (
        Gene(name="a", options=("x", "y")),
        Gene(name="b", options=("x", "y"), active=Condition(gene="a", options=("y",))),
        Gene(name="c", options=("x", "y")),
    )
    space = GeneSpace("chain", genes, graph=chain([2, 2, 2]))
    graphs = space.graphs(np.array([[0, 1, 1], [1, 1, 1]]))
    assert graphs.labels.tolist() == [[0, -1, 5], [1, 3, 5]]
    assert links(graphs, 0) == {(0, 2)}
    assert links(graphs, 1) == {(0, 1), (1, 2)}


def test_the_wiring_of_the_made_up_cell_shows_what_the_worth_of_an_operation_depends_on() -> None:
    space = Cell(genes=6, options=3, neighbours=1).problem().space
    graphs = space.graphs(np.ones((1, 6), dtype=np.int64))
    incoming = graphs.edges[0].sum(axis=0)
    assert (incoming >= 1).all(), "each has a neighbour, and those of the second half a partner"
    assert {(0, 3), (1, 4), (2, 5)} <= links(graphs)


def test_networks_of_nas_bench_macro_that_differ_in_where_a_stage_does_nothing_are_one_graph() -> None:
    numbers = np.array([*itertools.product(range(3), repeat=8)])
    graphs = _macro_graphs(numbers, np.ones(numbers.shape, dtype=bool))
    rows = [tuple(label for label in row if label >= 0) for row in graphs.labels.tolist()]
    assert len(set(rows)) == 3969, "the number of different networks that its authors give"


def test_mirrored_cells_of_nas_bench_201_have_the_same_nodes_in_the_same_order_of_work() -> None:
    drawn = operations_on_edges(EDGES, [OPERATIONS] * 6, "none")
    skip, conv = OPERATIONS.index("skip_connect"), OPERATIONS.index("nor_conv_3x3")
    numbers = np.array([[conv, 0, 0, 0, skip, 0], [0, conv, 0, 0, 0, skip]])  # by node 1, by node 2
    graphs = drawn(numbers, np.ones(numbers.shape, dtype=bool))
    ways = [
        {(graphs.labels[row, a], graphs.labels[row, b]) for a, b in links(graphs, row)} for row in range(len(numbers))
    ]
    assert ways[0] == ways[1] == {(5, conv), (conv, skip), (skip, 6)}


def test_a_space_without_graphs_says_so() -> None:
    with pytest.raises(TypeError, match="grid are not drawn as graphs"):
        Grid(genes=3, options=3).problem().space.graphs(np.zeros((1, 3), dtype=np.int64))


# --- tables --------------------------------------------------------------------------------------


def a_table(folder: Path, graph: Any) -> Problem:
    """All cells of three edges, each of them with a loss."""
    path = folder / "cells.csv"
    rows = [
        {"a": a, "b": b, "c": c, "loss": place, "cost": -place}
        for place, (a, b, c) in enumerate(itertools.product(CELL_OPTIONS, repeat=3))
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    table = {"name": "table", "path": str(path), "genes": ["a", "b", "c"], "objectives": ["loss", "cost"]}
    content = {"laboratory": "x", "problems": [table | {"graph": graph}], "strategies": ["random"]}
    return parse(content, "x.yaml").problem("cells")


def test_a_table_declares_a_chain_or_the_edges_of_a_cell(tmp_path: Path) -> None:
    row = np.array([[0, 1, 2]])  # conv, none, skip: options are in alphabetical order
    assert a_table(tmp_path, "chain").space.graphs(row).labels.tolist() == [[0, 4, 8]]
    assert a_table(tmp_path, {"without": "none"}).space.graphs(row).labels.tolist() == [[0, -1, 8]]
    cells = a_table(tmp_path, {"edges": [[0, 1], [1, 2], [0, 2]], "without": "none"}).space.graphs(row)
    assert cells.labels.tolist() == [[-1, -1, 2, 3, 4]]
    assert a_table(tmp_path, None).space.graph is None


@pytest.mark.parametrize(
    ("graph", "line"),
    [
        ("tree", "x.yaml: problems.0.graph: found 'tree', allowed is 'chain', or a mapping with edges, without"),
        ({"edge": 1}, "x.yaml: problems.0.graph.edge: unknown key (did you mean 'edges'?); allowed are edges, without"),
        ({"without": ["a"]}, "x.yaml: problems.0.graph.without: found ['a'], allowed is an option of the genes"),
        ({"edges": [[0, 1]]}, "cells.csv: graph: has 1 edges, allowed is one per gene, which are 3: a, b, c"),
        ({"edges": [[0, 1], [1, 0], [0, 2]]}, "cells.csv: graph: the edges form a cycle, allowed are those of a graph"),
        (
            {"without": "nothing"},
            "graph: without is 'nothing', allowed is an option of the genes: 'conv', 'none', 'skip'",
        ),
    ],
)
def test_a_wrong_graph_is_one_clear_line(tmp_path: Path, graph: Any, line: str) -> None:
    with pytest.raises((ConfigurationError, ProblemError)) as caught:
        a_table(tmp_path, graph)
    (found,) = str(caught.value).splitlines()
    assert line in found
