"""Architectures drawn from left to right as SVG: Sugiyama's layered layout, boxes within boxes.

Every group of nodes is laid out alone, in a box, and then stands as one item in the graph around it. Colours are
chosen so that a drawing can be read on a white and on a dark page.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_lib.report.style import stage_colour

if TYPE_CHECKING:
    import networkx

Item = Hashable
"""A node (its number), a box (its path), a side of the box ("in", "out"), a bend of an edge ("bend", source, layer)."""
Point = tuple[float, float]

LEGIBLE_NODES = 150
"""Larger graphs are drawn without letters: dots, and boxes of the top level only."""
NAMED_NODES = 40
"""In larger graphs operations show a number instead of their name."""
SYMBOLS = {"sum": "+", "input": "in", "output": "out", "add": "+", "multiply": "×", "negate": "−"}
"""What a round node shows; other inputs and outputs show their label, and other nodes its first letter."""
BOXES = ("operation", "graph")
"""Kinds of nodes that are boxes; a `graph` stands for all that is in it."""
NEUTRAL = "#BBBBBB"
SWEEPS = 8
"""Passes over the layers that order and align them; more change little."""


@dataclass(frozen=True)
class Look:
    """Sizes in pixels, and what is written."""

    operation: tuple[float, float]
    """Width and height."""
    dot: float
    """Width and height of merges, means, input and output."""
    gap: float
    """Between items of one layer, and between a box and what is in it."""
    between: float
    """Between layers; twice as much between layers of boxes."""
    operations: Mapping[str, str]
    """What is written on each operation; nothing where there is only one, or no room."""
    small: bool = False
    """Whether nodes are too small for letters, and only outer boxes are drawn."""


def _look(graph: networkx.DiGraph[int]) -> Look:
    words = _words(graph, *BOXES)
    if graph.number_of_nodes() > LEGIBLE_NODES:
        return Look(operation=(6, 6), dot=4, gap=3, between=7, operations=dict.fromkeys(words, ""), small=True)
    if _words(graph, "graph"):
        return Look(operation=(24, 18), dot=15, gap=8, between=18, operations=dict(zip(words, words, strict=True)))
    if len(words) < 2:
        return Look(operation=(15, 15), dot=15, gap=8, between=15, operations=dict.fromkeys(words, ""))
    if graph.number_of_nodes() > NAMED_NODES:
        numbers = {word: str(number) for number, word in enumerate(words, start=1)}
        return Look(operation=(15, 15), dot=15, gap=8, between=15, operations=numbers)
    width = 6 * max(map(len, words)) + 12
    return Look(operation=(width, 18), dot=15, gap=8, between=18, operations=dict(zip(words, words, strict=True)))


@dataclass
class Placed:
    """A laid-out group; the origin is its upper left corner."""

    width: float
    height: float
    entry: float = 0.0
    """Height at which edges come in on the left side."""
    exit: float = 0.0
    """Height at which edges leave on the right side."""
    nodes: dict[int, Point] = field(default_factory=dict)
    """Centres."""
    boxes: list[tuple[Point, Placed, int]] = field(default_factory=list)
    """Upper left corner, content and depth of the boxes in it, outer ones first."""
    edges: list[tuple[Point, Point]] = field(default_factory=list)

    def insert(self, box: Placed, corner: Point, depth: int) -> None:
        """Put a box and all that is in it at a corner."""

        def moved(point: Point) -> Point:
            return point[0] + corner[0], point[1] + corner[1]

        self.boxes.append((corner, box, depth))
        self.boxes += [(moved(inner_corner), inner, inner_depth) for inner_corner, inner, inner_depth in box.boxes]
        self.nodes |= {node: moved(centre) for node, centre in box.nodes.items()}
        self.edges += [(moved(start), moved(end)) for start, end in box.edges]


def svg(graph: networkx.DiGraph[int], title: str) -> str:
    """An SVG drawing of a flat graph (see `Space.graph`), complete in itself, with a legend below."""
    look = _look(graph)
    placed = _place(graph, list(graph), (), look)
    legend, legend_width = _legend(graph, look, placed.height + 20)
    return _framed(_shapes(graph, placed, look) + legend, max(placed.width, legend_width), placed.height + 28, title)


def levels_svg(graph: networkx.DiGraph[int], title: str) -> str:
    """The levels of a flat graph (see `levels`) side by side, complete in itself; empty with one level only."""
    content, x, height = "", 0.0, 0.0
    for name, level in levels(graph).items():
        look = _look(level)
        placed = _place(level, list(level), (), look)
        heading = f'<text y="8" fill="currentColor">{escape(name)}</text>'
        shapes = f'<g transform="translate(0 22)">{_shapes(level, placed, look)}</g>'
        content += f'<g transform="translate({x:.0f} 0)">{heading}{shapes}</g>'
        x += max(placed.width, 5.5 * len(name)) + 40
        height = max(height, placed.height + 22)
    return content and _framed(content, x - 40, height, title)


def _framed(content: str, width: float, height: float, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + 12:.0f}" height="{height + 12:.0f}" '
        f'viewBox="-6 -6 {width + 12:.0f} {height + 12:.0f}" role="img" font-family="sans-serif" font-size="10">'
        f"<title>{escape(title)}</title>{content}</svg>\n"
    )


def _shapes(graph: networkx.DiGraph[int], placed: Placed, look: Look) -> str:
    """Boxes, edges and nodes of a laid-out graph."""
    boxes = "".join(
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="4"/>'
        for (x, y), box, depth in placed.boxes
        if not look.small or depth == 0
    )
    edges = "".join(_curve(start, end) for start, end in placed.edges)
    nodes = "".join(_node(graph.nodes[node], centre, look) for node, centre in placed.nodes.items())
    return (
        f'<g fill="#888888" fill-opacity=".08" stroke="#888888" stroke-opacity=".6" stroke-width=".7">{boxes}</g>'
        f'<path d="{edges}" fill="none" stroke="#888888" stroke-width="{0.6 if look.small else 1.1}"/>'
        f'<g text-anchor="middle">{nodes}</g>'
    )


def levels(graph: networkx.DiGraph[int]) -> dict[str, networkx.DiGraph[int]]:
    """Each level of a flat graph by itself, as graphs to draw: the top one, then one graph of each level below.

    The graph shown of a level is the one with most operations inside the graph shown before. What it holds in its turn
    stands as one node of the kind `graph`, labelled with the number of its operations. Empty where there is one
    level only.
    """
    found: dict[str, networkx.DiGraph[int]] = {}
    path: tuple[int, ...] = ()
    while True:
        place = f"inside its node {path[-1] + 1}" if path else "the whole from above"
        found[f"Level {len(path) + 1}, {place}"] = _level(graph, path)
        inner = Counter(
            attributes["group"][: len(path) + 1]
            for _, attributes in graph.nodes(data=True)
            if attributes["kind"] == "operation" and attributes["group"][: len(path)] == path
            if len(attributes["group"]) > len(path)
        )
        if not inner:
            return found if path else {}
        path = inner.most_common(1)[0][0]


def _level(graph: networkx.DiGraph[int], path: tuple[int, ...]) -> networkx.DiGraph[int]:
    """The graph of a path, each graph in it as one node."""
    import networkx as nx

    members: dict[Item, list[int]] = defaultdict(list)
    for node, attributes in graph.nodes(data=True):
        group = attributes["group"]
        if group[: len(path)] == path:
            members[node if len(group) == len(path) else group[: len(path) + 1]].append(node)
    stage = min(graph.nodes[node]["stage"] for nodes in members.values() for node in nodes)

    def look(item: Item) -> dict[str, Any]:
        if isinstance(item, int):
            return {**graph.nodes[item], "group": ()}
        if item in members:
            inside = [graph.nodes[node] for node in members[item]]
            count = sum(attributes["kind"] == "operation" for attributes in inside)
            return {"kind": "graph", "label": str(count), "stage": inside[-1]["stage"], "group": ()}
        return {"kind": f"{item}put", "label": f"{item}put", "stage": stage, "group": ()}

    quotient = _quotient(graph, members)
    number = {item: place for place, item in enumerate(quotient)}
    level: networkx.DiGraph[int] = nx.DiGraph()
    level.add_nodes_from((number[item], look(item)) for item in quotient)
    level.add_edges_from((number[source], number[target]) for source, target in quotient.edges)
    return level


def _place(graph: networkx.DiGraph[int], nodes: Sequence[int], path: tuple[int, ...], look: Look) -> Placed:
    """Lay out the nodes of the group `path`, its inner groups first."""
    depth = len(path)
    members: dict[Item, list[int]] = defaultdict(list)
    for node in nodes:
        group = graph.nodes[node]["group"]
        members[node if len(group) == depth else group[: depth + 1]].append(node)
    (first, *others) = members
    if isinstance(first, tuple) and not others:
        return _place(graph, nodes, first, look)
    boxes = {item: _place(graph, found, item, look) for item, found in members.items() if isinstance(item, tuple)}
    last = [item for item in members if isinstance(item, int) and graph.nodes[item]["kind"] == "output"]
    layers, edges = _layered(_quotient(graph, members), [item for item in last if not any(graph.successors(item))])

    def size(item: Item) -> tuple[float, float]:
        if item in boxes:
            return boxes[item].width, boxes[item].height
        if isinstance(item, int):
            return look.operation if graph.nodes[item]["kind"] in BOXES else (look.dot, look.dot)
        return 0.0, 0.0

    layers = _ordered(layers, edges)
    sizes = {item: size(item) for layer in layers for item in layer}
    middle = _aligned(layers, edges, {item: height for item, (_, height) in sizes.items()}, look.gap)
    padding = look.gap if depth else 0.0
    shift = padding - min(middle[item] - sizes[item][1] / 2 for item in sizes)
    height = shift + max(middle[item] + sizes[item][1] / 2 for item in sizes) + padding
    placed = Placed(width=0.0, height=height)
    starts: dict[Item, Point] = {}
    ends: dict[Item, Point] = {}
    between = look.between * (2 if boxes else 1)
    for layer in layers:
        column = max(sizes[item][0] for item in layer)
        near, far = placed.width, placed.width + column
        for item in layer:
            item_width, item_height = sizes[item]
            x, y = near + (column - item_width) / 2, shift + middle[item]
            entry = leave = y
            if isinstance(item, int):
                placed.nodes[item] = (x + item_width / 2, y)
            elif item in boxes:
                top = y - item_height / 2
                entry, leave = top + boxes[item].entry, top + boxes[item].exit
                placed.insert(boxes[item], (x, top), depth)
            # Edges are curved between the columns only; within its column an edge is straight and meets nothing.
            ends[item], starts[item] = (near, entry), (far, leave)
            placed.edges += [(ends[item], (x, entry)), ((x + item_width, leave), starts[item])]
        placed.width = far + between
    placed.width -= between
    placed.edges += [(starts[source], ends[target]) for source, target in edges]
    if depth:
        placed.entry, placed.exit = ends["in"][1], starts["out"][1]
    return placed


def _quotient(graph: networkx.DiGraph[int], members: Mapping[Item, Sequence[int]]) -> networkx.DiGraph[Item]:
    """The graph of the items of a group, with its sides "in" and "out" where edges cross them."""
    import networkx as nx

    item_of = {node: item for item, nodes in members.items() for node in nodes}
    quotient: networkx.DiGraph[Item] = nx.DiGraph()
    quotient.add_nodes_from(members)
    for node, item in item_of.items():
        for source in graph.predecessors(node):
            if item_of.get(source, "in") != item:
                quotient.add_edge(item_of.get(source, "in"), item)
        if any(target not in item_of for target in graph.successors(node)):
            quotient.add_edge(item, "out")
    return quotient


def _layered(
    quotient: networkx.DiGraph[Item], last: Collection[Item] = ()
) -> tuple[list[list[Item]], list[tuple[Item, Item]]]:
    """Layers by longest path, and edges that each lead to the next layer; the items `last`, which lead nowhere, are in
    the last one.

    Longer edges are bent in every layer they cross; the edges of one source share their bends.
    """
    import networkx as nx

    layers: list[list[Item]] = [list(layer) for layer in nx.topological_generations(quotient)]
    layers = [[item for item in layer if item not in last] for layer in layers[:-1]] + [layers[-1]]
    layers[-1] += [item for item in last if item not in layers[-1]]
    level = {item: number for number, layer in enumerate(layers) for item in layer}
    edges: dict[tuple[Item, Item], None] = {}
    for source, target in quotient.edges:
        before = source
        for number in range(level[source] + 1, level[target]):
            bend = ("bend", source, number)
            if (before, bend) not in edges:
                layers[number].append(bend)
                edges[before, bend] = None
            before = bend
        edges[before, target] = None
    return layers, list(edges)


def _neighbours(edges: Sequence[tuple[Item, Item]]) -> tuple[dict[Item, list[Item]], dict[Item, list[Item]]]:
    before, after = defaultdict(list), defaultdict(list)
    for source, target in edges:
        before[target].append(source)
        after[source].append(target)
    return before, after


def _ordered(layers: Sequence[Sequence[Item]], edges: Sequence[tuple[Item, Item]]) -> list[list[Item]]:
    """The layers ordered by the barycentre of their neighbours, forwards and backwards, against crossings."""
    before, after = _neighbours(edges)
    ordered = [list(layer) for layer in layers]
    for sweep in range(SWEEPS):
        neighbours = before if sweep % 2 == 0 else after
        place = {item: (rank + 0.5) / len(layer) for layer in ordered for rank, item in enumerate(layer)}
        for layer in ordered if sweep % 2 == 0 else reversed(ordered):
            wanted = {item: np.mean([place[other] for other in neighbours[item] or [item]]) for item in layer}
            layer.sort(key=wanted.__getitem__)
            place |= {item: (rank + 0.5) / len(layer) for rank, item in enumerate(layer)}
    return ordered


def _aligned(
    layers: Sequence[Sequence[Item]], edges: Sequence[tuple[Item, Item]], heights: Mapping[Item, float], gap: float
) -> dict[Item, float]:
    """Vertical centres: each item as near to the mean of its neighbours as order and gaps within its layer allow.

    The nearest such places are an isotonic regression.
    """
    from scipy.optimize import isotonic_regression

    before, after = _neighbours(edges)
    centres: dict[Item, float] = {item: 0.0 for layer in layers for item in layer}
    for sweep in range(SWEEPS):
        neighbours = before if sweep % 2 == 0 else after
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            tall = np.array([heights[item] + gap for item in layer])
            offsets = np.cumsum(tall) - tall / 2
            wanted = [np.mean([centres[other] for other in neighbours[item] or [item]]) for item in layer]
            places = isotonic_regression(np.array(wanted) - offsets).x + offsets
            centres |= dict(zip(layer, places.tolist(), strict=True))
    return centres


def _word(attributes: Mapping[str, Any]) -> str:
    """A node's label without the stage that follows it."""
    return str(attributes["label"]).partition("@")[0]


def _words(graph: networkx.DiGraph[int], *kinds: str) -> list[str]:
    return sorted({_word(attributes) for _, attributes in graph.nodes(data=True) if attributes["kind"] in kinds})


def _node(attributes: Mapping[str, Any], centre: Point, look: Look) -> str:
    x, y = centre
    word, kind = _word(attributes), attributes["kind"]
    fill = NEUTRAL if kind in {"input", "output"} else stage_colour(attributes["stage"])
    if kind in BOXES:
        width, height = look.operation
        corner = f'x="{x - width / 2:.1f}" y="{y - height / 2:.1f}"'
        mark = f'<rect {corner} width="{width:g}" height="{height:g}" rx="1.5" fill="{fill}"/>'
        shown = look.operations[word]
    else:
        mark = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{look.dot / 2:g}" fill="{fill}"/>'
        shown = SYMBOLS.get(word, word if kind in {"input", "output"} else word[:1])
    if look.small or not shown:
        return mark
    return f'{mark}<text x="{x:.1f}" y="{y + 3.2:.1f}">{escape(shown)}</text>'


def _curve(start: Point, end: Point) -> str:
    if start == end:
        return ""
    if start[1] == end[1]:
        return f"M{start[0]:.1f} {start[1]:.1f}H{end[0]:.1f}"
    half = (start[0] + end[0]) / 2
    return f"M{start[0]:.1f} {start[1]:.1f}C{half:.1f} {start[1]:.1f} {half:.1f} {end[1]:.1f} {end[0]:.1f} {end[1]:.1f}"


def _legend(graph: networkx.DiGraph[int], look: Look, y: float) -> tuple[str, float]:
    """Colours of the stages and the symbols that occur, in one line; and how wide it is.

    A graph's attributes can say what colours mean, if not stages (`stages`: number -> name), and more (`notes`).
    """
    stages = {attributes["stage"] for _, attributes in graph.nodes(data=True)}
    round_nodes = _words(graph, "merge", "mean")
    names = graph.graph.get("stages", {})
    entries = [(stage_colour(stage), names.get(stage, f"stage {stage + 1}")) for stage in sorted(stages)]
    entries += [("", note) for note in graph.graph.get("notes", ())]
    plain = [word for word, shown in look.operations.items() if not shown]
    if plain:
        entries.append(("", f"square: {', '.join(plain)}"))
    entries += [("", f"{shown} {word}") for word, shown in look.operations.items() if shown not in {"", word}]
    if look.small:
        entries.append(("", f"dot: {', '.join(round_nodes)}"))
    else:
        entries += [("", f"{SYMBOLS.get(word, word[:1])} {word}") for word in round_nodes]
    parts, x = [], 0.0
    for colour, words in entries:
        if colour:
            parts.append(f'<rect x="{x:.0f}" y="{y - 8:.0f}" width="9" height="9" fill="{colour}"/>')
            x += 13
        parts.append(f'<text x="{x:.0f}" y="{y:.0f}">{escape(words)}</text>')
        x += 6 * len(words) + 14
    return f'<g fill="currentColor">{"".join(parts)}</g>', x
