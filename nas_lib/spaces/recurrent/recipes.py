"""Cells in the format of NAS-Bench-NLP (Klyuchnikov et al. 2022): node -> {"op": ..., "input": [...]}."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from nas_lib.spaces.recurrent.cell import INPUT, Block, Cell, CellError, ancestors, checked

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
ACTIVATIONS = tuple(name for name in OPERATIONS if name.startswith("activation"))
WEIGHTS = {"linear": 3, "blend": 1, "elementwise_prod": 1, "elementwise_sum": 1}
"""How often each is drawn in a random recipe (NAS-Bench-NLP)."""
INTERMEDIATE = 13
"""Nodes of a random recipe beside its new states, before those without effect go; so was the benchmark drawn."""
THREE_INPUTS = 0.2
"""Share of linear nodes with three inputs, the others have two."""


def from_recipe(recipe: Recipe | str) -> Cell:
    """The cell of a recipe, names kept: states h_prev_i before and h_new_i after a step. A text is read as JSON.

    Raises:
        CellError: an operation is unknown, or it is not a valid cell.
    """
    try:
        nodes: Recipe = json.loads(recipe) if isinstance(recipe, str) else recipe
    except ValueError as error:
        raise CellError(f"recipe: is not JSON ({error})") from None
    if not isinstance(nodes, Mapping):
        raise CellError(f"recipe: found {type(nodes).__name__}, allowed is node -> op and input")
    blocks = {}
    for name, node in nodes.items():
        if not isinstance(node, Mapping) or not isinstance(node.get("input"), list | tuple) or "op" not in node:
            raise CellError(f"node {name}: found {node!r}, allowed are the keys op, input (a list)")
        if node["op"] not in tuple(OPERATIONS):
            raise CellError(f"node {name}: found the op {node['op']!r}, allowed are {', '.join(OPERATIONS)}")
        blocks[name] = Block(tuple(node["input"]), **OPERATIONS[node["op"]])
    count = sum(name.startswith("h_new_") for name in nodes)
    return checked(Cell(blocks, tuple((f"h_prev_{place}", f"h_new_{place}") for place in range(count))))


def is_recipe(found: Any) -> bool:
    """Whether plain data has the form of a recipe: nodes with an op and inputs, a new state among them."""
    nodes = found.values() if isinstance(found, Mapping) else ()
    return "h_new_0" in found and all(isinstance(node, Mapping) and {"op", "input"} <= {*node} for node in nodes)


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


def random_recipe(rng: np.random.Generator, states: int = 2, intermediate: int = INTERMEDIATE) -> Recipe:
    """A random recipe with so many states, with the distribution of NAS-Bench-NLP, drawn until it is valid.

    Nodes are added until there are `states` + `intermediate`. Every linear node is followed by an activation of its
    own; it reads x, states and activations. Other nodes read states and any nodes, never x. The new states are nodes
    drawn without replacement, and nodes on which none of them depends are left out. A recipe is valid if it depends on
    x and on every state, and no new state reads a state directly.
    """
    before = [f"h_prev_{place}" for place in range(states)]
    while True:
        recipe = _random_nodes(rng, before, states + intermediate)
        chosen = rng.choice(list(recipe), states, replace=False).tolist()
        if any(source in before for name in chosen for source in recipe[name]["input"]):
            continue
        names = {name: f"h_new_{place}" for place, name in enumerate(chosen)}
        renamed = {
            names.get(name, name): {"op": node["op"], "input": [names.get(each, each) for each in node["input"]]}
            for name, node in recipe.items()
        }
        needed = ancestors(from_recipe(renamed), names.values())
        if {INPUT, *before} <= needed:
            return {name: node for name, node in renamed.items() if name in needed}


def _random_nodes(rng: np.random.Generator, before: list[str], count: int) -> Recipe:
    """`count` nodes, or one more if the last ones are a linear node and its activation."""
    recipe: Recipe = {}
    activated: list[str] = []
    shares = np.array(list(WEIGHTS.values())) / sum(WEIGHTS.values())
    while len(recipe) < count:
        op = str(rng.choice(list(WEIGHTS), p=shares))
        sources = [INPUT, *before, *activated] if op == "linear" else [*before, *recipe]
        if op == "linear":
            inputs = min(3 if rng.random() < THREE_INPUTS else 2, len(sources))
        else:
            inputs = 3 if op == "blend" else 2
        if inputs > len(sources):
            continue
        name = f"node_{len(recipe)}"
        recipe[name] = {"op": op, "input": rng.choice(sources, inputs, replace=False).tolist()}
        if op == "linear":
            activated.append(f"node_{len(recipe)}")
            recipe[activated[-1]] = {"op": str(rng.choice(ACTIVATIONS)), "input": [name]}
    return recipe
