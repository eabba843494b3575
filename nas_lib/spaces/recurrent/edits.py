"""Small changes of cells: the transformations of MOE/RNAS (reference: section 4).

Every change is a function of a cell and a generator that gives a new cell and a record of what it did, or the same cell
and a record that says why it did nothing. Blocks keep their names for life and a new block gets a name that no other
has, so weights can be inherited by name. Unless `legacy` is set, blocks without effect go and every change leaves the
output of a cell dependent on x and on the output before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import Field, StrictBool, field_validator

from nas_lib.settings import Settings
from nas_lib.spaces.recurrent.cell import (
    INPUT,
    WEIGHTED,
    Activation,
    Block,
    Cell,
    Combination,
    Operand,
    ancestors,
    circular,
    connected,
    pruned,
    users,
)
from nas_lib.spaces.recurrent.seeds import basic

Edit = Literal[
    "add_unit",
    "remove_unit",
    "add_connection",
    "add_recurrent_connection",
    "remove_connection",
    "change_combination_connection",
    "change_random_activation",
    "add_gate",
]
Drawn = Literal["none", "identity", "tanh", "sigmoid", "relu", "leaky_relu", "linear", "linear_b"]
"""Activations that can be drawn; `none` is a block that passes its input on."""
Frequency = Annotated[float, Field(ge=0)]
DESTRUCTIVE = ("remove_unit", "remove_connection")
COMBINATIONS: tuple[Combination, ...] = ("add", "elem_mul", "sub")
"""Those that changes draw."""
REDRAWS = 12
"""Draws of a connection, and of a change that would cut the output off, before a change gives up."""

Start = Literal["identity", "zero", "one"]
"""How a new linear block starts if the function is to be preserved: as the identity, at 0, or at 0 with bias 1."""


class Edits(Settings):
    """Which changes are drawn, and how."""

    transformations: Mapping[Edit, Frequency] = Field(
        default={name: float(name != "add_gate") for name in get_args(Edit)}
    )
    """How often each transformation is drawn; only the proportions count. Those left out are never drawn. As in the
    released list `add_gate`, which adds four or five blocks at once, is not drawn unless it is named."""
    activations: Mapping[Drawn, Frequency] = Field(default={name: float(name != "none") for name in get_args(Drawn)})
    """How often each activation of a new block is drawn; only the proportions count. Those left out never are."""
    weighted_connections: StrictBool = False
    """Whether every new connection goes through a linear block. Default: only those from x do, as published; with it
    preserving inheritance can start every new connection at zero."""
    legacy: StrictBool = False
    """Changes as in the released code: blocks without effect stay, outputs may be cut off from inputs, and a new sum
    takes the name of the block it adds to, whose weights are then not inherited."""

    @field_validator("transformations", "activations")
    @classmethod
    def _random_cells_can_be_drawn(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        without = {*DESTRUCTIVE, "none"}
        if not any(each > 0 for name, each in value.items() if name not in without):
            raise ValueError(
                f"found {dict(value)}, allowed is at least one frequency above 0 beside those of "
                "remove_unit, remove_connection and none, which random cells do not begin with"
            )
        return value


LEGACY = Edits(
    transformations={name: 1.0 for name in get_args(Edit) if name not in ("change_random_activation", "add_gate")},
    activations={name: float(name != "leaky_relu") for name in get_args(Drawn)},
    legacy=True,
)
"""What the released code effectively draws (reference: section 4.3)."""


@dataclass(frozen=True)
class Record:
    """What a change did."""

    edit: str
    changed: bool
    text: str
    """For people: what was done, or why nothing was."""
    added: tuple[str, ...] = ()
    """Names of new blocks."""
    removed: tuple[str, ...] = ()
    """Names of blocks that are gone."""
    starts: Mapping[str, Start] = field(default_factory=dict)
    """How new linear blocks must start so that the cell computes what it did before; empty if none can do that."""

    def plain(self) -> dict[str, Any]:
        """The record as JSON-able data."""
        return {
            "edit": self.edit,
            "changed": self.changed,
            "text": self.text,
            "added": list(self.added),
            "removed": list(self.removed),
            "starts": dict(self.starts),
        }


Result = tuple[Cell, Record]


def apply(name: Edit, cell: Cell, rng: np.random.Generator, edits: Edits | None = None) -> Result:
    """One change of a given kind.

    Unless `legacy` is set it is drawn again, up to 12 times, while it would cut the output off x or off the output
    before.
    """
    edits = edits or Edits()
    for _ in range(REDRAWS):
        changed, record = EDITS[name](cell, rng, edits)
        if not record.changed:
            return cell, record
        if not edits.legacy:
            changed = pruned(changed)
        if edits.legacy or connected(changed) or not connected(cell):
            added = tuple(sorted(set(changed.blocks) - set(cell.blocks)))
            removed = tuple(sorted(set(cell.blocks) - set(changed.blocks)))
            return changed, replace(record, added=added, removed=removed)
    return cell, _nothing(name, "it would cut the output off x or off the output before")


def mutate(cell: Cell, rng: np.random.Generator, count: int, edits: Edits | None = None) -> tuple[Cell, list[Record]]:
    """`count` changes, each drawn by the frequencies. It can leave blocks that only pass something on."""
    edits = edits or Edits()
    records = []
    for _ in range(count):
        cell, record = apply(_drawn(edits.transformations, rng), cell, rng, edits)
        records.append(record)
    return (_passing(cell, rng) if edits.legacy else cell), records


def _passing(cell: Cell, rng: np.random.Generator) -> Cell:
    """The cell with what its outputs compute moved to blocks of their own."""
    blocks = dict(cell.blocks)
    for output in cell.outputs:
        if not blocks[output].empty:
            name = _name(blocks, rng)
            blocks[name] = blocks[output]
            blocks[output] = Block((name,))
    return Cell(blocks, cell.states)


def crossover(first: Cell, second: Cell, rng: np.random.Generator) -> Result:
    """The first cell with one block as the second has it, and with what that block reads and the first lacks.

    Blocks of one name come from a common ancestor, so the child inherits from both parents by name. Of the blocks that
    differ one is drawn whose exchange closes no circle and leaves the output dependent on x and on itself before.
    """
    differ = sorted(name for name, block in first.blocks.items() if second.blocks.get(name, block) != block)
    for place in rng.permutation(len(differ)) if first.states == second.states else ():
        blocks = {**first.blocks, differ[place]: second.blocks[differ[place]]}
        waiting = list(blocks[differ[place]].sources)
        while waiting:
            name = waiting.pop()
            if name not in blocks and name in second.blocks:
                blocks[name] = second.blocks[name]
                waiting += blocks[name].sources
        child = Cell(blocks, first.states)
        if not circular(child) and connected(child):
            child = pruned(child)
            added = tuple(sorted(set(child.blocks) - set(first.blocks)))
            removed = tuple(sorted(set(first.blocks) - set(child.blocks)))
            return child, Record("crossover", True, f"{differ[place]} of the second", added=added, removed=removed)
    return first, _nothing("crossover", "no block that both have can be exchanged")


def random_cell(rng: np.random.Generator, edits: Edits | None = None, most: int = 10) -> Cell:
    """A basic cell with a random activation and 1 to `most` changes, none of which removes anything (section 3.2).

    Like seed cells it can hold blocks that only pass something on; see `without_empty`.
    """
    edits = edits or Edits()
    constructive = edits.model_copy(
        update={
            "transformations": {name: each for name, each in edits.transformations.items() if name not in DESTRUCTIVE}
        }
    )
    activation = _drawn({name: each for name, each in edits.activations.items() if name != "none"}, rng)
    cell = basic(activation)
    return mutate(cell, rng, int(rng.integers(1, most, endpoint=True)), constructive)[0]


def _drawn(frequencies: Mapping[Any, float], rng: np.random.Generator) -> Any:
    names = sorted(frequencies)
    weights = np.array([frequencies[name] for name in names])
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


def _one(options: Sequence[Any], rng: np.random.Generator) -> Any:
    return options[int(rng.integers(len(options)))]


def _activation(edits: Edits, rng: np.random.Generator, without: Collection[str] = ()) -> Activation | None:
    """A drawn activation; uniform among all where every one that may be drawn is in `without`."""
    frequencies = {name: each for name, each in edits.activations.items() if name not in without}
    if not sum(frequencies.values()):
        frequencies = {name: 1.0 for name in get_args(Drawn) if name not in (*without, "none")}
    name = _drawn(frequencies, rng)
    return None if name == "none" else name


def _linear(source: str, rng: np.random.Generator, immutable: bool = False) -> Block:
    return Block((source,), activation=_one(WEIGHTED, rng), immutable=immutable)


def _name(blocks: Collection[str], rng: np.random.Generator) -> str:
    """A name no block of this cell has, and hardly any block of any cell: 32 random bits."""
    while True:
        name = f"n{rng.integers(2**32):08x}"
        if name not in blocks:
            return name


def _nothing(edit: str, why: str) -> Record:
    return Record(edit, False, f"nothing: {why}")


def _rewired(
    blocks: Mapping[str, Block], old: str, new: Operand, only: Collection[str] | None = None
) -> dict[str, Block]:
    """The blocks with `new` wherever `old` was read, or by the blocks `only`."""
    return {
        name: replace(block, inputs=tuple(new if each == old else each for each in block.inputs))
        if old in block.inputs and (only is None or name in only)
        else block
        for name, block in blocks.items()
    }


def _ordinary(cell: Cell) -> list[str]:
    """The blocks that are no outputs, sorted by name."""
    return sorted(set(cell.blocks) - set(cell.outputs))


def _add_unit(cell: Cell, rng: np.random.Generator, edits: Edits) -> Result:
    """A new activation on an edge between two blocks, half of the others with a linear block before it.

    Preserved exactly: with a linear block as activation (started as the identity), or with identity or none.
    """
    receivers = _ordinary(cell)
    sources: list[str] = []
    for _ in range(2 if receivers else 0):
        receiver = _one(receivers, rng)
        sources = sorted({each for each in cell.blocks[receiver].sources if each not in cell.inputs})
        if sources:
            break
    if not sources:
        return cell, _nothing("add_unit", "both receivers drawn read inputs of the cell only")
    source = _one(sources, rng)
    name, activation = _name(cell.blocks, rng), _activation(edits, rng)
    blocks = _rewired(cell.blocks, source, name, {receiver})
    blocks[name] = Block((source,), activation=activation)
    starts: dict[str, Start] = {name: "identity"} if activation in WEIGHTED else {}
    before = ""
    if activation not in WEIGHTED and rng.random() < 0.5:
        before = _name(blocks, rng)
        blocks[before] = _linear(source, rng)
        blocks[name] = Block((before,), activation=activation)
        if activation in (None, "identity"):
            starts[before] = "identity"
    words = f"{activation or 'nothing'}{f' of {blocks[before].activation}' if before else ''}"
    return Cell(blocks, cell.states), Record("add_unit", True, f"{words} from {source} to {receiver}", starts=starts)


def _remove_unit(cell: Cell, rng: np.random.Generator, edits: Edits) -> Result:
    """A block without weights or combination is passed over.

    Preserved exactly: with identity as activation.
    """
    found = [
        name
        for name in _ordinary(cell)
        if cell.blocks[name].activation is not None
        and not cell.blocks[name].weighted
        and not cell.blocks[name].immutable
        and len(cell.blocks[name].inputs) == 1
    ]
    if not found:
        return cell, _nothing("remove_unit", "no block is an activation without weights alone")
    name = _one(found, rng)
    block = cell.blocks[name]
    blocks = _rewired(cell.blocks, name, block.inputs[0])
    del blocks[name]
    return Cell(blocks, cell.states), Record("remove_unit", True, f"{block.activation} {name}")


def _add_connection(cell: Cell, rng: np.random.Generator, edits: Edits) -> Result:
    """Another input is added to what a block gives.

    Preserved exactly: where it comes through a linear block (started at zero), from x always.
    """
    return _connected_to("add_connection", sorted(cell.blocks), cell, rng, edits)


def _add_recurrent_connection(cell: Cell, rng: np.random.Generator, edits: Edits) -> Result:
    """Another input is added to a state after the step; preserved as by `add_connection`."""
    return _connected_to("add_recurrent_connection", list(cell.outputs), cell, rng, edits)


def _connected_to(edit: Edit, receivers: Sequence[str], cell: Cell, rng: np.random.Generator, edits: Edits) -> Result:
    sources = sorted({*cell.inputs, *_ordinary(cell)})
    for _ in range(REDRAWS):
        source, receiver = _one(sources, rng), _one(receivers, rng)
        if source not in cell.blocks[receiver].inputs and receiver not in ancestors(cell, [source]):
            break
    else:
        return cell, _nothing(edit, "every pair drawn is connected or would close a circle")
    blocks = dict(cell.blocks)
    given, starts = source, dict[str, Start]()
    if source == INPUT or edits.weighted_connections:
        given = _name(blocks, rng)
        blocks[given] = _linear(source, rng, immutable=source == INPUT)
        starts[given] = "zero"
    blocks = _with_sum(cell, blocks, receiver, given, rng, edits)
    return Cell(blocks, cell.states), Record(edit, True, f"{source} to {receiver}", starts=starts)


def _with_sum(
    cell: Cell, blocks: dict[str, Block], receiver: str, given: str, rng: np.random.Generator, edits: Edits
) -> dict[str, Block]:
    """The blocks with `given` added to what `receiver` gives; a new block is the sum."""
    name = _name(blocks, rng)
    if edits.legacy:
        blocks[name] = blocks[receiver]
        blocks[receiver] = Block((given, name), "add")
    elif receiver in cell.outputs:
        # What an output computes moves to a new block, so that the output only passes the sum on.
        block = blocks[receiver]
        inner: Operand = block.inputs[0]
        if not block.empty:
            inner = _name({*blocks, name}, rng)
            blocks[str(inner)] = block
        blocks[name] = Block((given, inner), "add")
        blocks[receiver] = Block((name,))
    else:
        blocks = _rewired(blocks, receiver, name, users(cell, receiver))
        blocks[name] = Block((given, receiver), "add")
    return blocks


def _remove_connection(cell: Cell, rng: np.random.Generator, edits: Edits) -> Result:
    """A sum is replaced by one of its inputs. Nothing is preserved exactly."""
    found = [
        name
        for name in _ordinary(cell)
        if cell.blocks[name].operation == "add" and cell.blocks[name].activation is None and users(cell, name)
    ]
    if not found:
        return cell, _nothing("remove_connection", "no block is a sum that another one reads")
    name = _one(found, rng)
    kept = _one(cell.blocks[name].sources, rng)
    blocks = _rewired(cell.blocks, name, kept)
    del blocks[name]
    return Cell(blocks, cell.states), Record("remove_connection", True, f"of the sum {name} remains {kept}")


def _change_combination_connection(cell: Cell, rng: np.random.Generator, edits: Edits) -> Result:
    """Another combination of two inputs. Nothing is preserved exactly."""
    found = [name for name in sorted(cell.blocks) if cell.blocks[name].operation in COMBINATIONS]
    if not found:
        return cell, _nothing("change_combination_connection", "no block combines two inputs")
    name = _one(found, rng)
    old = cell.blocks[name].operation
    new = _one([each for each in COMBINATIONS if each != old], rng)
    blocks = {**cell.blocks, name: replace(cell.blocks[name], combination=new)}
    return Cell(blocks, cell.states), Record("change_combination_connection", True, f"{name} from {old} to {new}")


def _change_random_activation(cell: Cell, rng: np.random.Generator, edits: Edits) -> Result:
    """Another activation without weights. Nothing is preserved exactly."""
    found = [
        name
        for name in sorted(cell.blocks)
        if cell.blocks[name].activation is not None and cell.blocks[name].activation not in WEIGHTED
    ]
    if not found:
        return cell, _nothing("change_random_activation", "no block has an activation without weights")
    name = _one(found, rng)
    old = cell.blocks[name].activation
    new = _activation(edits, rng, {str(old), "none", *WEIGHTED})
    blocks = {**cell.blocks, name: replace(cell.blocks[name], activation=new)}
    return Cell(blocks, cell.states), Record("change_random_activation", True, f"{name} from {old} to {new}")


def _add_gate(cell: Cell, rng: np.random.Generator, edits: Edits) -> Result:
    """act(comb(linear, linear)) of two inputs of the cell is added to what gives a state; in `sub` one can be 1.

    Preserved exactly: with every activation but sigmoid, which is not zero at zero, and relu, through which no gradient
    would ever come from there; `1 - linear` only where the linear block has a bias.
    """
    given = {cell.blocks[name].inputs[0] if cell.blocks[name].empty else name for name in cell.outputs}
    found = sorted(str(each) for each in given if each not in cell.inputs)
    if not found:
        return cell, _nothing("add_gate", "the states after the step are those before it")
    attached, combination = _one(found, rng), _one(COMBINATIONS, rng)
    options: list[Operand] = [*cell.inputs, *([1] if combination == "sub" else [])]
    drawn = [options[place] for place in rng.choice(len(options), 2, replace=False)]
    drawn.sort(key=lambda each: isinstance(each, str))
    blocks, inputs = dict(cell.blocks), list[Operand]()
    for each in drawn:
        if isinstance(each, str):
            name = _name(blocks, rng)
            blocks[name] = _linear(each, rng)
            inputs.append(name)
        else:
            inputs.append(each)
    combined = _name(blocks, rng)
    blocks[combined] = Block(tuple(inputs), combination)
    gate = _name(blocks, rng)
    activation = _activation(edits, rng, WEIGHTED)
    blocks[gate] = Block((combined,), activation=activation)
    starts: dict[str, Start] = {}
    linears = [str(each) for each in inputs if isinstance(each, str)]
    if activation not in ("sigmoid", "relu"):
        if len(linears) == 1:
            starts = {linears[0]: "one"} if blocks[linears[0]].biased else {}
        else:
            # Of a product only one factor may be zero, or no gradient would reach either.
            starts = dict.fromkeys(linears[: 1 if combination == "elem_mul" else 2], "zero")
    blocks = _with_sum(cell, blocks, attached, gate, rng, edits)
    text = f"{activation or 'nothing'} of {combination} of {' and '.join(map(str, drawn))} to {attached}"
    return Cell(blocks, cell.states), Record("add_gate", True, text, starts=starts)


EDITS: Mapping[str, Callable[[Cell, np.random.Generator, Edits], Result]] = {
    "add_unit": _add_unit,
    "remove_unit": _remove_unit,
    "add_connection": _add_connection,
    "add_recurrent_connection": _add_recurrent_connection,
    "remove_connection": _remove_connection,
    "change_combination_connection": _change_combination_connection,
    "change_random_activation": _change_random_activation,
    "add_gate": _add_gate,
}
