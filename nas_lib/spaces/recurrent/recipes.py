"""Cells in the format of NAS-Bench-NLP (Klyuchnikov et al. 2022): node -> {"op": ..., "input": [...]}."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nas_lib.spaces.recurrent.cell import Block, Cell, CellError, checked

Recipe = dict[str, dict[str, Any]]

OPERATIONS: Mapping[str, dict[str, Any]] = {
    "linear": {"combination": "linear"},
    "blend": {"combination": "blend"},
    "elementwise_prod": {"combination": "elem_mul"},
    "elementwise_sum": {"combination": "add"},
    "activation_tanh": {"activation": "tanh"},
    "activation_sigm": {"activation": "sigmoid"},
    "activation_leaky_relu": {"activation": "leaky_relu"},
}
"""Operation of a recipe -> what it is as a block."""


def from_recipe(recipe: Recipe | str) -> Cell:
    """The cell of a recipe, names kept: states h_prev_i before and h_new_i after a step. A text is read as JSON.

    Raises:
        CellError: an operation is unknown, or it is not a valid cell.
    """
    nodes: Recipe = json.loads(recipe) if isinstance(recipe, str) else recipe
    blocks = {}
    for name, node in nodes.items():
        if node["op"] not in OPERATIONS:
            raise CellError(f"node {name}: found the op {node['op']!r}, allowed are {', '.join(OPERATIONS)}")
        blocks[name] = Block(tuple(node["input"]), **OPERATIONS[node["op"]])
    count = sum(name.startswith("h_new_") for name in nodes)
    return checked(Cell(blocks, tuple((f"h_prev_{place}", f"h_new_{place}") for place in range(count))))


def to_recipe(cell: Cell) -> Recipe:
    """The recipe of a cell; its states are renamed to h_prev_i and h_new_i.

    Raises:
        CellError: a block has an operation that recipes do not have.
    """
    renamed: dict[str, str] = {}
    for place, (before, after) in enumerate(cell.states):
        renamed |= {before: f"h_prev_{place}", after: f"h_new_{place}"}
    recipe: Recipe = {}
    for name, block in cell.blocks.items():
        plain = {
            key: value
            for key, value in (("combination", block.operation), ("activation", block.activation))
            if value is not None
        }
        if plain == {"activation": "linear_b"}:
            plain = {"combination": "linear"}
        found = [op for op, own in OPERATIONS.items() if own == plain]
        if not found or len(block.sources) < len(block.inputs):
            words = " of ".join(plain[key] for key in ("activation", "combination") if key in plain)
            raise CellError(
                f"block {name}: found {words or 'no operation'} with the inputs {list(block.inputs)}, allowed in "
                f"recipes are {', '.join(OPERATIONS)} of nodes"
            )
        inputs = [renamed.get(source, source) for source in block.sources]
        recipe[renamed.get(name, name)] = {"op": found[0], "input": inputs}
    return recipe
