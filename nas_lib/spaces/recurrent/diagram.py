"""A cell as a flat graph to draw (see `Space.graph`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from nas_lib.spaces.recurrent.cell import INPUT, WEIGHTED, Block, Cell, order, users

if TYPE_CHECKING:
    import networkx

COMBINATION, ACTIVATION, LINEAR = range(3)
"""Colours."""


class AddNode(Protocol):
    """Adds a node that reads others, and gives its number."""

    def __call__(self, kind: str, label: str, stage: int, *sources: int) -> int:
        """See the class."""


def diagram(cell: Cell) -> networkx.DiGraph[int]:
    """The cell from its inputs to its outputs, every operation a node.

    A block with a combination and an activation is two nodes. `a - b` is the sum of a and the negated b; operations
    with a constant have it in their label; of `blend` the input that decides passes `gate`, the one taken where that is
    0 passes `else`. Inputs that nothing reads are left out. Node attributes: see `Space.graph`; `stage` is the colour.
    """
    import networkx as nx

    short = {before: _short(cell, place) for place, (before, _) in enumerate(cell.states)}
    graph: networkx.DiGraph[int] = nx.DiGraph()
    graph.graph["stages"] = {COMBINATION: "combination", ACTIVATION: "activation", LINEAR: "with weights"}
    read = [before for before in short if users(cell, before)]
    graph.graph["notes"] = [
        "x: input",
        *([f"{', '.join(short[before] for before in read)}: before the step"] if read else []),
        f"{', '.join(f'{word}′' for word in short.values())}: after it",
        f"output: {next(iter(short.values()))}′",
    ]

    def add(kind: str, label: str, stage: int, *sources: int) -> int:
        number = graph.number_of_nodes()
        graph.add_node(number, kind=kind, label=label, stage=stage, group=())
        graph.add_edges_from((source, number) for source in sources)
        return number

    number = {
        name: add("input", short.get(name, name), COMBINATION)
        for name in cell.inputs
        if name == INPUT or users(cell, name)
    }
    outputs = {after: short[before] for before, after in cell.states}
    for name in order(cell):
        block = cell.blocks[name]
        value = number[block.sources[0]] if block.operation is None else _combined(block, number, add)
        if block.activation is not None:
            colour = LINEAR if block.activation in WEIGHTED else ACTIVATION
            value = add("operation", block.activation, colour, value)
        elif block.empty and name not in outputs:
            value = add("operation", "pass", COMBINATION, value)
        number[name] = value
    for name, word in outputs.items():
        add("output", f"{word}′", COMBINATION, number[name])
    return graph


def _short(cell: Cell, place: int) -> str:
    """A state's name without what all have in common."""
    name = cell.states[place][0]
    return f"h{place}" if name.startswith("h_prev") else name


def _combined(block: Block, number: dict[str, int], add: AddNode) -> int:
    """The node that gives the combination of a block's inputs."""
    sources = [number[source] for source in block.sources]
    if block.operation == "linear":
        return add("operation", "linear", LINEAR, *sources)
    if block.operation == "blend":
        gate, given, other = sources
        gate = add("operation", "gate", COMBINATION, gate)
        return add("merge", "blend", COMBINATION, gate, given, add("operation", "else", COMBINATION, other))
    if len(sources) == 1:
        return add("operation", _with_constant(block), COMBINATION, *sources)
    if block.operation == "sub":
        sources[1] = add("merge", "negate", COMBINATION, sources[1])
    if len(set(sources)) == 1:
        return add("operation", "double" if block.operation == "add" else "square", COMBINATION, sources[0])
    return add("merge", "multiply" if block.operation == "elem_mul" else "add", COMBINATION, *sources)


def _with_constant(block: Block) -> str:
    """For example `1 −` or `× 0.5`."""
    constant = next(f"{float(each):g}" for each in block.inputs if not isinstance(each, str))
    if block.operation == "sub":
        return f"{constant} −" if isinstance(block.inputs[1], str) else f"− {constant}"
    return f"{'+' if block.operation == 'add' else '×'} {constant}"
