"""Cells as data: counts, validation, equality, recipes, and the space around them."""

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_lib.report.drawing import svg
from nas_lib.spaces.recurrent.cell import (
    Block,
    Cell,
    CellError,
    block_count,
    cell_hash,
    cell_of,
    checked,
    genotype_of,
    isomorphic,
    live_count,
    multigraph,
    parameter_count,
    pruned,
    without_empty,
)
from nas_lib.spaces.recurrent.edits import random_cell
from nas_lib.spaces.recurrent.recipes import from_recipe, to_recipe
from nas_lib.spaces.recurrent.seeds import basic, cornn, gru, lstm
from nas_lib.spaces.recurrent.space import RecurrentSpace
from nas_lib.tasks.data import SequenceShape

PLAIN = {"h_next": Block(("a",)), "c_next": Block(("c",))}


@pytest.mark.parametrize(
    ("cell", "blocks", "cleaned", "weighted", "parameters"),
    [(basic(), 10, 9, 2, 846_300), (gru(), 23, 22, 6, 2_538_900), (lstm(), 26, 26, 8, 3_385_200)],
)
def test_initial_cells_have_the_published_counts(
    cell: Cell, blocks: int, cleaned: int, weighted: int, parameters: int
) -> None:
    assert block_count(cell) == live_count(cell) == blocks
    assert block_count(without_empty(cell)) == cleaned
    assert sum(block.weighted for block in cell.blocks.values()) == weighted
    assert parameter_count(cell, 650) == parameters


@pytest.mark.parametrize(("seed", "parameters"), [("rnn", 34_180), ("gru", 100_228), ("lstm", 133_252)])
def test_whole_networks_have_the_published_counts(seed: Any, parameters: int) -> None:
    space = RecurrentSpace(hidden=128, initial_cells=(seed,))
    network = space.build(space.seeds()[0], SequenceShape(inputs=4, outputs=4, tokens=False))
    assert sum(each.numel() for each in network.parameters()) == parameters


def test_dead_blocks_count_as_blocks_but_not_as_live_ones() -> None:
    cell = Cell({**lstm().blocks, "dead": Block(("x",), activation="linear")})
    assert (block_count(cell), live_count(cell)) == (27, 26)
    assert pruned(cell) == lstm()
    assert parameter_count(cell, 8) == parameter_count(lstm(), 8)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({"a": Block(("b",)), **PLAIN}, "block a: found the input b, which does not exist"),
        ({"a": Block(("x", "h", "c"), "add"), **PLAIN}, "block a: found 3 inputs of add, allowed are 2"),
        ({"a": Block(("x", "h"), "blend"), **PLAIN}, "block a: found 2 inputs of blend, allowed are 3"),
        ({"a": Block(("x",), activation="swish"), **PLAIN}, "found the activation 'swish', allowed are identity, tanh"),  # type: ignore[arg-type]
        ({"a": Block(("x", "h"), "div"), **PLAIN}, "found the combination 'div', allowed are add, sub"),  # type: ignore[arg-type]
        ({"a": Block((1, 2), "add"), **PLAIN}, "allowed are constants only beside a block"),
        ({"a": Block((1, "x", "h"), "blend"), **PLAIN}, "allowed are constants only beside a block"),
        ({"a": Block((float("nan"), "x"), "add"), **PLAIN}, "allowed are names and finite numbers"),
        ({"a": Block(("x",), "linear", "linear_b"), **PLAIN}, "allowed is one operation with weights"),
        ({"a": Block(("b",)), "b": Block(("a",)), **PLAIN}, "read each other in a circle"),
        ({"a": Block(("x",)), "h_next": Block(("a",))}, "found no block c_next"),
        ({"a.b": Block(("x",)), "a": Block(("x",)), **PLAIN}, "allowed in names are letters"),
        ({"a": Block(("x",)), "x": Block(("a",)), **PLAIN}, "block x: this is an input of the cell"),
    ],
)
def test_what_is_wrong_with_a_cell_is_one_line(blocks: dict[str, Block], message: str) -> None:
    with pytest.raises(CellError) as error:
        checked(Cell(blocks))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_many_reconverging_paths_are_no_circle() -> None:
    blocks, before = {}, "x"
    for place in range(60):
        blocks[f"t{place}"] = Block((before,), activation="tanh")
        blocks[f"r{place}"] = Block((before,), activation="relu")
        before = f"s{place}"
        blocks[before] = Block((f"t{place}", f"r{place}"), "add")
    checked(Cell({**blocks, "h_next": Block((before,)), "c_next": Block(("c",))}))


def test_genotypes_are_json_and_lose_nothing() -> None:
    for cell in (basic(), gru(), lstm(), cornn(), random_cell(np.random.default_rng(0))):
        assert cell_of(json.loads(json.dumps(genotype_of(cell)))) == cell


STATES, OUTPUT = [["h", "h_next"]], {"h_next": {"inputs": ["x"]}}


@pytest.mark.parametrize(
    ("genotype", "message"),
    [
        ([1], "cell: found [1], allowed are the keys blocks and states"),
        ({"blocks": OUTPUT}, "cell: found the keys ['blocks'], allowed are the keys blocks and states"),
        ({"states": STATES, "blocks": []}, "cell: found the blocks [], allowed is one for each name"),
        ({"states": "h", "blocks": OUTPUT}, "cell: found the states 'h', allowed is a list of [before, after]"),
        ({"states": [["h"]], "blocks": OUTPUT}, "allowed is a list of [before, after]"),
        ({"states": STATES, "blocks": {"h_next": {"from": ["x"]}}}, "block h_next: found the keys ['from'], allowed"),
        ({"states": STATES, "blocks": {"h_next": {"inputs": "x"}}}, "block h_next: found the inputs 'x', allowed is a"),
        ({"states": STATES, "blocks": OUTPUT | {1: {"inputs": ["x"]}}}, "block 1: allowed in names are letters"),
        ({"states": STATES, "blocks": {"h_next": {"inputs": ["x"], "combination": []}}}, "found the combination []"),
        ({"states": STATES, "blocks": {"h_next": {"inputs": ["x"], "immutable": 2}}}, "found 2 for immutable"),
    ],
)
def test_data_that_are_no_cell_say_so_in_one_line(genotype: Any, message: str) -> None:
    with pytest.raises(CellError) as error:
        cell_of(genotype)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("{", "recipe: is not JSON"),
        ("[]", "recipe: found list, allowed is node -> op and input"),
        ({"h_new_0": {"input": ["x"]}}, "node h_new_0: found {'input': ['x']}, allowed are the keys op, input"),
        ({"h_new_0": {"op": "linear", "input": "x"}}, "allowed are the keys op, input (a list)"),
        ({"h_new_0": {"op": "swish", "input": ["x"]}}, "node h_new_0: found the op 'swish', allowed are linear"),
        ({"h_new_0": {"op": "linear", "input": ["y"]}}, "block h_new_0: found the input y, which does not exist"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_one_line(recipe: Any, message: str) -> None:
    with pytest.raises(CellError) as error:
        from_recipe(recipe)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def renamed(cell: Cell, rng: np.random.Generator) -> Cell:
    """The same cell with other names, another order of blocks, and swapped inputs where order does not matter."""
    inner = [name for name in cell.blocks if name not in cell.outputs]
    names = dict(zip(inner, (f"m{place}" for place in rng.permutation(len(inner))), strict=True))
    blocks = {}
    for name in rng.permutation(list(cell.blocks)).tolist():
        block = cell.blocks[name]
        inputs = tuple(names.get(str(each), each) for each in block.inputs)
        if block.operation in ("add", "elem_mul") and rng.random() < 0.5:
            inputs = inputs[::-1]
        blocks[names.get(name, name)] = Block(inputs, block.combination, block.activation, block.immutable)
    return Cell(blocks, cell.states)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_names_and_order_do_not_matter_for_the_hash(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cell = random_cell(rng)
    other = renamed(cell, rng)
    assert cell_hash(cell) == cell_hash(other)
    assert isomorphic(cell, other)


def test_order_matters_for_sub_and_sharing_matters() -> None:
    def cell(inputs: tuple[Any, ...], combination: Any = "sub") -> Cell:
        linear = {name: Block(("x",), activation="linear") for name in ("l", "k") if name in inputs}
        return Cell({**linear, "a": Block(inputs, combination), **PLAIN})

    for first, second in (
        (cell(("x", "h")), cell(("h", "x"))),
        (cell((1, "h")), cell(("h", 1))),
        (cell((1, "h")), cell((2, "h"))),
        (cell(("l", "l"), "add"), cell(("l", "k"), "add")),
        (cell(("x", "h", "c"), "blend"), cell(("h", "x", "c"), "blend")),
        (cell(("h",), None), cell(("c",), None)),
    ):
        assert cell_hash(first) != cell_hash(second)
        assert not isomorphic(first, second)
    assert cell_hash(cell(("x", "h"), "add")) == cell_hash(cell(("h", "x"), "add"))


def test_the_multigraph_keeps_parallel_edges_in_order() -> None:
    cell = Cell(
        {"a": Block(("x", "x"), "sub"), "b": Block((1, "a"), "sub"), "h_next": Block(("b",)), "c_next": Block(("c",))}
    )
    graph = multigraph(cell)
    assert nx.is_directed_acyclic_graph(graph)
    assert sorted(data["operand"] for data in graph.get_edge_data("x", "a").values()) == [0, 1]
    assert graph.nodes["1 of b"]["value"] == 1


def test_a_recipe_becomes_a_cell_and_the_same_recipe_again() -> None:
    recipe = {
        "a": {"op": "linear", "input": ["x", "h_prev_0", "h_prev_1"]},
        "h_new_0": {"op": "activation_tanh", "input": ["a"]},
        "h_new_1": {"op": "blend", "input": ["h_new_0", "h_prev_1", "a"]},
    }
    cell = from_recipe(json.dumps(recipe))
    assert cell.states == (("h_prev_0", "h_new_0"), ("h_prev_1", "h_new_1"))
    assert to_recipe(cell) == recipe
    with pytest.raises(CellError, match="found the op 'conv', allowed are linear, blend"):
        from_recipe({"h_new_0": {"op": "conv", "input": ["x"]}})
    with pytest.raises(CellError, match="found no operation"):
        to_recipe(basic())


def test_all_recipes_of_the_benchmark_survive_and_have_the_published_parameters(shared_data: Path) -> None:
    words, embedding, hidden = 10_000, 400, 600
    with gzip.open(shared_data / "nas-bench-nlp" / "ptb_recipes.json.gz", "rt") as file:
        rows = json.load(file)
    for row in rows:
        cell = from_recipe(row["recipe"])
        assert to_recipe(cell) == row["recipe"]
        layers = [(hidden, embedding), (hidden, hidden), (embedding, hidden)]
        count = words * embedding + words + sum(parameter_count(cell, *sizes) for sizes in layers)
        assert count == row["num_params"]


def test_the_space_samples_changes_builds_and_describes() -> None:
    space = RecurrentSpace(hidden=6, layers=2, initial_cells=("gru", "lstm"), inheritance="preserving")
    rng = np.random.default_rng(0)
    parent = space.seeds()[1]
    assert space.describe(parent).startswith("LSTM, 26 blocks, 336 parameters per layer")
    child, records = space.mutate(parent, rng)
    assert 1 <= len(records) <= 3
    json.dumps([child, records])
    shape = SequenceShape(inputs=5, outputs=3, tokens=True)
    network = space.build(child, shape)
    new = space.inherit(space.build(parent, shape).state_dict(), network, records)
    assert "encoder.weight" not in new
    outputs, state = network(torch.zeros(2, 4, dtype=torch.int64))
    assert outputs.shape == (2, 4, 3)
    assert len(state) == 2
    assert space.same(parent, parent)
    assert not space.same(parent, space.seeds()[0])
    assert space.sample(np.random.default_rng(3)) == space.sample(np.random.default_rng(3))
    checked(cell_of(space.sample(rng)))


def test_a_drawing_shows_what_a_cell_reads_and_gives() -> None:
    space = RecurrentSpace()
    drawing = svg(space.graph(genotype_of(lstm())), "LSTM")
    words = re.findall(">([^<]+)</text>", drawing)
    assert {"x", "h", "c", "h′", "c′", "tanh", "sigmoid", "output: h′"} <= set(words)
    assert words.count("linear_b") == 8
    graph = space.graph(genotype_of(gru()))
    assert "1 −" in {graph.nodes[node]["label"] for node in graph}


def test_changing_cells_needs_no_torch_and_running_them_no_compiler() -> None:
    program = (
        "import sys, numpy as np\n"
        "from nas_lib.spaces.recurrent.space import RecurrentSpace\n"
        "space, rng = RecurrentSpace(hidden=4), np.random.default_rng(0)\n"
        "cell, _ = space.mutate(space.sample(rng), rng)\n"
        "print('torch' in sys.modules)\n"
        "from nas_lib.tasks.data import SequenceShape\n"
        "import torch\n"
        "space.build(cell, SequenceShape(3, 2, False))(torch.zeros(1, 2, 3))[0].sum().backward()\n"
        "print('sympy' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
