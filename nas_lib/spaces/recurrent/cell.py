"""A recurrent cell as data: named blocks that read other blocks, between the states before and after a step.

One step of a cell computes v(b) = act(comb(v(i1), v(i2), ...)) for every block b. The cells of MOE/RNAS (Booysen and
Bosman 2024) have the states h and c and blocks of one or two inputs; the recipes of NAS-Bench-NLP have one to three
states and blocks of up to three inputs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any, Literal, get_args

from nas_lib.records import Genotype
from nas_lib.settings import UserError, shortened
from nas_lib.spaces import architecture

if TYPE_CHECKING:
    import networkx

Combination = Literal["add", "sub", "elem_mul", "blend", "linear"]
Activation = Literal["identity", "tanh", "sigmoid", "relu", "leaky_relu", "linear", "linear_b"]
Operand = str | float
"""Name of a block or an input of the cell, or a constant."""

INPUT = "x"
INPUTS: Mapping[str | None, tuple[int, int | None]] = {
    None: (1, 2),
    "add": (2, 2),
    "sub": (2, 2),
    "elem_mul": (2, 2),
    "blend": (3, 3),
    "linear": (1, None),
}
"""Combination -> fewest and most inputs. Without one, two inputs are added. `blend` is a b + (1 - a) c, `linear` a
matrix for every input, summed, and a bias."""
ORDERED = ("sub", "blend")
"""Combinations that change with the order of their inputs."""
WEIGHTED = ("linear", "linear_b")
"""Activations with weights: a matrix, without and with a bias."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class CellError(UserError):
    """A cell is not one. The message is one line: which block, what was found, what is allowed."""


@dataclass(frozen=True)
class Block:
    """One operation of a cell."""

    inputs: tuple[Operand, ...]
    combination: Combination | None = None
    activation: Activation | None = None
    immutable: bool = False
    """Never removed: the linear block that brings x to a new connection."""

    @property
    def operation(self) -> Combination | None:
        """The combination as it acts."""
        return "add" if self.combination is None and len(self.inputs) == 2 else self.combination

    @property
    def sources(self) -> tuple[str, ...]:
        """The inputs that are not constants."""
        return tuple(each for each in self.inputs if isinstance(each, str))

    @property
    def weighted(self) -> bool:
        """Whether it has weights."""
        return self.combination == "linear" or self.activation in WEIGHTED

    @property
    def biased(self) -> bool:
        """Whether it has a bias."""
        return self.combination == "linear" or self.activation == "linear_b"

    @property
    def empty(self) -> bool:
        """Whether it passes its only input on."""
        return self.operation is None and self.activation is None


@dataclass(frozen=True)
class Cell:
    """Blocks by name. Beside them a cell has its input x and the states before the step, which have no block."""

    blocks: Mapping[str, Block]
    states: tuple[tuple[str, str], ...] = (("h", "h_next"), ("c", "c_next"))
    """Per state its name before the step and the block that gives it after; the first is the output of the cell."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """What blocks can read beside other blocks: x, and the states before the step."""
        return (INPUT, *(before for before, _ in self.states))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The blocks that give the states after the step."""
        return tuple(after for _, after in self.states)


def genotype_of(cell: Cell) -> Genotype:
    """A cell as JSON-able data; `cell_of` reads it."""
    blocks: dict[str, Any] = {}
    for name, block in cell.blocks.items():
        blocks[name] = {"inputs": list(block.inputs)}
        blocks[name] |= {"combination": block.combination} if block.combination else {}
        blocks[name] |= {"activation": block.activation} if block.activation else {}
        blocks[name] |= {"immutable": True} if block.immutable else {}
    return {"states": [list(state) for state in cell.states], "blocks": blocks}


def cell_of(genotype: Genotype) -> Cell:
    """The cell that `genotype_of` wrote.

    Raises:
        CellError: it is not a valid cell.
    """
    if not isinstance(genotype, Mapping) or set(genotype) != {"states", "blocks"}:
        raise CellError(f"cell: found {_short(genotype)}, allowed are the keys blocks and states")
    if not isinstance(genotype["blocks"], Mapping):
        raise CellError(f"cell: found the blocks {_short(genotype['blocks'])}, allowed is one for each name")
    if not isinstance(genotype["states"], list | tuple) or not all(map(_is_pair, genotype["states"])):
        raise CellError(f"cell: found the states {_short(genotype['states'])}, allowed is a list of [before, after]")
    blocks = {}
    for name, given in genotype["blocks"].items():
        keys = set(given) if isinstance(given, Mapping) else set()
        if "inputs" not in keys or not keys <= {"inputs", "combination", "activation", "immutable"}:
            raise CellError(
                f"block {name}: found {_short(given)}, allowed are the keys inputs, combination, activation, immutable"
            )
        if not isinstance(given["inputs"], list | tuple):
            raise CellError(f"block {name}: found the inputs {_short(given['inputs'])}, allowed is a list")
        blocks[name] = Block(**{**given, "inputs": tuple(given["inputs"])})
    return checked(Cell(blocks, tuple((before, after) for before, after in genotype["states"])))


def _short(value: object) -> str:
    """A value as a message quotes it: the keys of data with names."""
    return shortened(f"the keys {sorted(map(str, value))}" if isinstance(value, Mapping) else repr(value), 80)


def _is_pair(state: object) -> bool:
    return isinstance(state, list | tuple) and len(state) == 2 and all(isinstance(name, str) for name in state)


def checked(cell: Cell) -> Cell:
    """The cell itself.

    Raises:
        CellError: a name, a number of inputs, a constant or an operation is wrong, an input does not exist, or the
            blocks read each other in a circle.
    """
    if not cell.states:
        raise CellError("cell: found no state, allowed is one or more")
    known = {*cell.inputs, *cell.blocks}
    for name in (*cell.inputs, *cell.blocks):
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise CellError(f"block {name!r}: allowed in names are letters, digits and _, first no digit")
    for name in cell.inputs:
        if name in cell.blocks:
            raise CellError(f"block {name}: this is an input of the cell, which has no operation")
    for name in cell.outputs:
        if name not in cell.blocks:
            raise CellError(f"cell: found no block {name}, which gives a state after the step")
    if len({*cell.inputs, *cell.outputs}) < 1 + 2 * len(cell.states):
        raise CellError(f"cell: found the states {[list(state) for state in cell.states]}, allowed are different names")
    for name, block in cell.blocks.items():
        _check_block(name, block, known)
    order(cell)
    return cell


def _check_block(name: str, block: Block, known: set[str]) -> None:
    if not isinstance(block.immutable, bool):
        raise CellError(f"block {name}: found {block.immutable!r} for immutable, allowed are true and false")
    if block.combination not in tuple(INPUTS):
        allowed = ", ".join(get_args(Combination))
        raise CellError(f"block {name}: found the combination {block.combination!r}, allowed are {allowed}")
    if block.activation not in (None, *get_args(Activation)):
        allowed = ", ".join(get_args(Activation))
        raise CellError(f"block {name}: found the activation {block.activation!r}, allowed are {allowed}")
    fewest, most = INPUTS[block.combination]
    if not fewest <= len(block.inputs) <= (most or len(block.inputs)):
        allowed = f"{fewest}" if most == fewest else f"{fewest} or more" if most is None else f"{fewest} to {most}"
        raise CellError(
            f"block {name}: found {len(block.inputs)} inputs of {block.combination or 'no combination'}, "
            f"allowed are {allowed}"
        )
    if block.combination == "linear" and block.activation in WEIGHTED:
        raise CellError(f"block {name}: found linear and {block.activation}, allowed is one operation with weights")
    for given in block.inputs:
        if isinstance(given, str):
            if given not in known:
                raise CellError(f"block {name}: found the input {given}, which does not exist")
        elif isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
            raise CellError(f"block {name}: found the input {given!r}, allowed are names and finite numbers")
    if len(block.sources) < len(block.inputs) and (
        block.operation not in ("add", "sub", "elem_mul") or not block.sources
    ):
        raise CellError(
            f"block {name}: found the inputs {list(block.inputs)}, allowed are constants only beside a block, "
            "in add, sub and elem_mul"
        )


def order(cell: Cell) -> list[str]:
    """The names of all blocks, each after those it reads.

    Raises:
        CellError: blocks read each other in a circle.
    """
    sorter = TopologicalSorter(
        {
            name: [source for source in cell.blocks[name].sources if source in cell.blocks]
            for name in sorted(cell.blocks)
        }
    )
    try:
        return list(sorter.static_order())
    except CycleError as error:
        circle = " > ".join(error.args[1])
        raise CellError(f"cell: found blocks that read each other in a circle: {circle}") from None


def circular(cell: Cell) -> bool:
    """Whether blocks read each other in a circle."""
    try:
        order(cell)
    except CellError:
        return True
    return False


def ancestors(cell: Cell, names: Iterable[str]) -> set[str]:
    """All blocks and inputs that the named ones depend on within a step, and these themselves."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            if name in cell.blocks:
                waiting += cell.blocks[name].sources
    return found


def users(cell: Cell, name: str) -> list[str]:
    """The blocks that read a block or an input, sorted by name."""
    return sorted(user for user, block in cell.blocks.items() if name in block.inputs)


def live(cell: Cell) -> set[str]:
    """The blocks on which a state after the step depends."""
    return ancestors(cell, cell.outputs) & set(cell.blocks)


def pruned(cell: Cell) -> Cell:
    """The cell without blocks on which nothing depends."""
    kept = live(cell)
    return Cell({name: block for name, block in cell.blocks.items() if name in kept}, cell.states)


def acting(cell: Cell) -> Cell:
    """The states on which outputs depend, of this step or a later one, and the blocks that these depend on."""
    kept = cell.states[:1]
    while True:
        read = ancestors(cell, [after for _, after in kept])
        more = tuple(state for place, state in enumerate(cell.states) if place == 0 or state[0] in read)
        if more == kept:
            return pruned(Cell(cell.blocks, kept))
        kept = more


def without_empty(cell: Cell) -> Cell:
    """The cell without blocks that only pass something on, except those that give a state."""
    gone = {name for name, block in cell.blocks.items() if block.empty and name not in cell.outputs}

    def source(operand: Operand) -> Operand:
        while isinstance(operand, str) and operand in gone:
            operand = cell.blocks[operand].inputs[0]
        return operand

    blocks = {
        name: Block(tuple(map(source, block.inputs)), block.combination, block.activation, block.immutable)
        for name, block in cell.blocks.items()
        if name not in gone
    }
    return Cell(blocks, cell.states)


def connected(cell: Cell) -> bool:
    """Whether the output of the cell depends, within a step, on x and on the output before."""
    before, after = cell.states[0]
    return {INPUT, before} <= ancestors(cell, [after])


def block_count(cell: Cell) -> int:
    """Blocks as MOE/RNAS counts them: everything, the inputs of the cell and blocks without effect included."""
    return len(cell.inputs) + len(cell.blocks)


def live_count(cell: Cell) -> int:
    """Like `block_count`, without blocks on which no state depends."""
    return len(cell.inputs) + len(live(cell))


def columns(block: Block, hidden: int, inputs: int) -> list[int]:
    """Columns of the matrix of each input of a block with weights, in order; one if they are combined before it."""
    if block.combination != "linear":
        return [inputs if block.inputs == (INPUT,) else hidden]
    return [inputs if source == INPUT else hidden for source in block.inputs]


def parameter_count(cell: Cell, hidden: int, inputs: int | None = None) -> int:
    """Weights and biases of the live blocks, for states of size `hidden` and an x of size `inputs` (default: alike)."""
    blocks = [cell.blocks[name] for name in live(cell)]
    return sum(
        hidden * sum(columns(block, hidden, inputs or hidden)) + hidden * block.biased
        for block in blocks
        if block.weighted
    )


def multigraph(cell: Cell) -> networkx.MultiDiGraph[str]:
    """The cell as a networkx graph: an edge per input with its place as `operand`, the block as attributes."""
    import networkx as nx

    graph: networkx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_nodes_from(cell.inputs)
    for name in order(cell):
        block = cell.blocks[name]
        graph.add_node(name, combination=block.combination, activation=block.activation, immutable=block.immutable)
        for operand, source in enumerate(block.inputs):
            constant = f"{source} of {name}"
            if not isinstance(source, str):
                graph.add_node(constant, value=float(source))
            graph.add_edge(source if isinstance(source, str) else constant, name, operand=operand)
    return graph


def labelled(cell: Cell) -> networkx.DiGraph[int]:
    """The cell as a graph with a `label` on nodes and edges: isomorphic for cells equal but for their names.

    The label of an edge is the places at which the block reads that input, or how often where places do not matter.
    """
    import networkx as nx

    names = [*cell.inputs, *order(cell)]
    number = {name: place for place, name in enumerate(names)}
    output = {name: f"state {place} after" for place, name in enumerate(cell.outputs)}
    graph: networkx.DiGraph[int] = nx.DiGraph()
    for place, name in enumerate(cell.inputs):
        graph.add_node(place, label=INPUT if name == INPUT else f"state {place - 1} before")
    for name in names[len(cell.inputs) :]:
        block = cell.blocks[name]
        constants = [f"{place if block.operation in ORDERED else ''}={float(value):g}"
                     for place, value in enumerate(block.inputs) if not isinstance(value, str)]  # fmt: skip
        words = [output.get(name), block.operation, block.activation, *constants]
        graph.add_node(number[name], label=" ".join(word for word in words if word))
        for source in dict.fromkeys(block.sources):
            places = [str(place) for place, each in enumerate(block.inputs) if each == source]
            label = ",".join(places) if block.operation in ORDERED else str(len(places))
            graph.add_edge(number[source], number[name], label=label)
    return graph


def cell_hash(cell: Cell) -> str:
    """A hash that cells equal but for the names of their blocks share, 32 hexadecimal digits."""
    return architecture.graph_hash(labelled(cell))


def isomorphic(first: Cell, second: Cell) -> bool:
    """Whether two cells are equal but for the names of their blocks."""
    return architecture.isomorphic(labelled(first), labelled(second))
