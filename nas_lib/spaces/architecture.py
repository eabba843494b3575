"""Graphs of graphs: drawn, cut into stages, sized and flattened. No torch here.

Section numbers below are those of NAGO's rules: nodes are ordered by their index, an edge runs from
the lower to the higher one; nodes without predecessors share the graph's input, the outputs of nodes
without successors are averaged.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nas_lib.randomness import seed_of

if TYPE_CHECKING:
    import networkx

    from nas_lib.records import Genotype
    from nas_lib.tasks.data import Shape

Merge = Literal["sum", "concat", "attention"]
Operation = Literal["conv3x3", "conv5x5", "conv1x1", "conv3x1", "conv1x3", "avg_pool3x3", "avg_pool5x5"]

KERNELS: dict[str, tuple[int, int]] = {
    "conv3x3": (3, 3),
    "conv5x5": (5, 5),
    "conv1x1": (1, 1),
    "conv3x1": (3, 1),
    "conv1x3": (1, 3),
}
"""Kernel sizes of the convolutions; all have stride 1, same padding and a bias."""
POOLS: dict[str, int] = {"avg_pool3x3": 3, "avg_pool5x5": 5}


class TooLargeError(ValueError):
    """Even the narrowest network of an architecture is above the parameter budget."""


ER_TRIES = 30
WS_TRIES = 200
LARGE_IMAGE = 40
"""From this many pixels on the stem halves the resolution twice."""
ROUNDING = 1e-5
"""Share of a node by which rounded stage ratios may miss a whole number of nodes."""
NARROWEST = 1
WIDEST = 4096
PROBES = (8, 16, 32)
"""Widths at which parameters are counted to find the one that fits a budget."""


@dataclass(frozen=True)
class Graph:
    """A directed acyclic graph whose nodes are graphs or operations."""

    predecessors: tuple[tuple[int, ...], ...]
    """Per node the nodes it reads, ascending."""
    merges: tuple[Merge, ...]
    """Per node how it merges several inputs."""
    nodes: tuple[Graph | Operation, ...]
    stages: tuple[int, ...] = ()
    """Per node its stage; only at the top level, empty below."""
    joined: bool = False
    """Whether the random graph was not connected within its tries, so that components were joined."""

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        """Nodes that read the graph's input."""
        return tuple(node for node, sources in enumerate(self.predecessors) if not sources)

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        """Nodes nobody reads; in a graph of one node that node."""
        read = {source for sources in self.predecessors for source in sources}
        return tuple(node for node in range(len(self.nodes)) if node not in read)


def draw(genotype: Genotype) -> Graph:
    """The architecture of a genotype. Every graph in it has a random stream of its own, addressed by its path,
    so that the result does not depend on the order of construction."""
    return _draw_level(genotype, depth=0, path=())


def _draw_level(genotype: Genotype, depth: int, path: tuple[int, ...]) -> Graph:
    level = genotype["levels"][depth]
    rng = np.random.default_rng(seed_of(genotype["draw"], "graph", *path))
    sources, joined = predecessors(level, rng)
    count = len(sources)
    merges = _picks(genotype["merge"], count, rng)
    last = depth == len(genotype["levels"]) - 1
    if last:
        read = {source for nodes in sources for source in nodes}
        convolutions = {name: share for name, share in genotype["operations"].items() if name in KERNELS}
        drawn = zip(_picks(genotype["operations"], count, rng), _picks(convolutions, count, rng), strict=True)
        nodes: tuple[Any, ...] = tuple(any_of if node in read else conv for node, (any_of, conv) in enumerate(drawn))
    else:
        nodes = tuple(_draw_level(genotype, depth + 1, (*path, node)) for node in range(count))
    return Graph(
        predecessors=sources,
        merges=merges,
        nodes=nodes,
        stages=stages(count, genotype["stage_ratios"]) if depth == 0 else (),
        joined=joined,
    )


def _picks(shares: Mapping[str, float], count: int, rng: np.random.Generator) -> tuple[Any, ...]:
    """`count` independent draws of a name, each as often as its share says."""
    names = sorted(shares)
    if len(names) == 1:
        return (names[0],) * count
    weights = np.array([shares[name] for name in names], dtype=float)
    return tuple(names[index] for index in rng.choice(len(names), size=count, p=weights / weights.sum()))


def predecessors(level: Mapping[str, Any], rng: np.random.Generator) -> tuple[tuple[tuple[int, ...], ...], bool]:
    """Edges of one random graph, oriented from lower to higher index, as the predecessors of each node.

    A graph that is still not connected after its tries is joined: an edge between the lowest nodes of successive
    components. The second value says whether that was needed.

    Raises:
        ValueError: p is no probability, which only a genotype from outside can have.
    """
    import networkx as nx

    nodes, p = level["nodes"], level.get("p", 0)
    if not 0 <= p <= 1:  # true for NaN
        raise ValueError(f"p is {p}, allowed is 0 to 1")
    if nodes == 1:
        return ((),), False
    if level["model"] == "WS":
        graph = _connected_ws(nodes, max(2, min(level["k"], nodes - 1)), level["p"], rng)
    elif level["model"] == "ER":
        for _ in range(ER_TRIES):
            graph = nx.gnp_random_graph(nodes, level["p"], seed=int(rng.integers(2**31)))
            if nx.is_connected(graph):
                break
    else:
        graph = nx.barabasi_albert_graph(nodes, min(level["m"], nodes - 1), seed=int(rng.integers(2**31)))
    components = sorted(nx.connected_components(graph), key=min)
    for before, after in pairwise(components):
        graph.add_edge(min(before), min(after))
    sources = tuple(tuple(sorted(other for other in graph[node] if other < node)) for node in range(nodes))
    return sources, len(components) > 1


def _connected_ws(nodes: int, k: int, p: float, rng: np.random.Generator) -> networkx.Graph[int]:
    import networkx as nx

    seed = int(rng.integers(2**31))
    try:
        graph: networkx.Graph[int] = nx.connected_watts_strogatz_graph(nodes, k, p, tries=WS_TRIES, seed=seed)
    except nx.NetworkXError:
        graph = nx.watts_strogatz_graph(nodes, k, p, seed=seed)
    return graph


def stages(nodes: int, ratios: Sequence[float]) -> tuple[int, ...]:
    """The stage of each top-level node: the smallest s with i < (r_0 + ... + r_s) * nodes, ratios normalised.

    A stage that would stay empty takes one node from the next one, or from the one before where there is none. Three
    nodes thus are one each, whatever the ratios (section 2.5). `nodes` must be at least as many as the ratios.
    """
    ends = stage_ends(np.array([nodes]), np.array([ratios], dtype=float))[0]
    return tuple(np.searchsorted(ends, np.arange(nodes), side="right").tolist())


def stage_ends(nodes: NDArray[np.int_], ratios: NDArray[np.float64]) -> NDArray[np.int_]:
    """How many of `nodes` (n,) are in each stage and those before it, for ratios (n, stages): (n, stages)."""
    thresholds = np.cumsum(ratios, axis=1) / np.sum(ratios, axis=1, keepdims=True) * nodes[:, None]
    wanted = np.ceil(thresholds - ROUNDING).astype(int)
    ends = [np.zeros_like(nodes)]
    for stage, end in enumerate(wanted.T):
        after = len(wanted.T) - 1 - stage
        ends.append(np.clip(end, ends[-1] + 1, nodes - after))
    return np.stack(ends[1:], axis=1)


# --- the layers of a network -----------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """How one node turns its inputs into its output."""

    merge: Merge
    sources: tuple[int, ...]
    widths: tuple[int, ...]
    """Channels of each source; of the graph's input where there is none."""
    width: int
    """Channels after merging."""
    out: int
    """Channels it gives."""
    body: Body | Operation
    size: tuple[int, int]
    """(height, width) of its tensors; inputs of other sizes, which only occur at the top level, are pooled to it."""


@dataclass(frozen=True)
class Body:
    """A graph with the widths of all its tensors."""

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    out: int
    """Channels of the averaged output."""
    size: tuple[int, int]
    """(height, width) of the output: at the top level the smallest among the output nodes, to which all are pooled."""


@dataclass(frozen=True)
class Plan:
    """Everything that is needed to build a network, and to count what it costs."""

    shape: Shape
    width: int
    """Channels of the stem and of the first stage."""
    body: Body
    head_channels: int
    dropout: float

    def parameters(self) -> int:
        """Trainable numbers of the whole network, exactly."""
        return sum(layer.parameters for layer in layers(self))

    def flops(self) -> int:
        """Floating-point operations of one image, two per multiply-add; convolutions and the classifier only,
        the convention of `torch.utils.flop_counter`."""
        return sum(layer.flops for layer in layers(self))

    def operations(self) -> int:
        """Number of operation nodes."""
        return sum(1 for _ in operations(self.body))


@dataclass(frozen=True)
class Layer:
    """What one layer costs."""

    parameters: int
    flops: int = 0


def separable_stem(shape: Shape) -> bool:
    """Whether images are large enough for the stem that halves the resolution twice."""
    return min(shape.height, shape.width) >= LARGE_IMAGE


def stage_size(shape: Shape, stage: int) -> tuple[int, int]:
    """Pixels (height, width) of the cells of a stage (section 2.6): halved per stage, and twice by a large stem."""
    halvings = stage + (2 if separable_stem(shape) else 0)
    return max(1, shape.height >> halvings), max(1, shape.width >> halvings)


def plan(
    graph: Graph, shape: Shape, width: int, channel_ratios: Sequence[float], head_channels: int, dropout: float
) -> Plan:
    """The layers of the network of a graph at a width (sections 2.6 and 2.7).

    Only the proportions of the ratios count: the first stage is `width` wide, the others to the nearest channel.
    """
    widths = [max(1, round(channel_ratios[stage] * width / channel_ratios[0])) for stage in graph.stages]
    sizes = [stage_size(shape, stage) for stage in graph.stages]
    body = _plan_graph(graph, width, widths, sizes)
    return Plan(shape, width, body, head_channels, dropout)


def _plan_graph(graph: Graph, entering: int, targets: Sequence[int], sizes: Sequence[tuple[int, int]]) -> Body:
    """Widths of a graph that `entering` channels enter, whose node i aims at targets[i] channels and has sizes[i]."""
    nodes: list[Node] = []
    for index, (sources, merge, content) in enumerate(zip(graph.predecessors, graph.merges, graph.nodes, strict=True)):
        widths = tuple(nodes[source].out for source in sources) or (entering,)
        width = sum(widths) if merge == "concat" else widths[-1]
        out = targets[index]
        body: Body | Operation
        if isinstance(content, Graph):
            inside = len(content.nodes)
            body = _plan_graph(content, width, [out] * inside, [sizes[index]] * inside)
            out = body.out
        else:
            body = content
            out = width if content in POOLS else out
        nodes.append(Node(merge, sources, widths, width, out, body, sizes[index]))
    outputs = graph.outputs
    smallest = min(sizes[index] for index in outputs)
    return Body(tuple(nodes), outputs, nodes[outputs[-1]].out, smallest)


def graphs(graph: Graph) -> Iterator[Graph]:
    """A graph and all graphs within it."""
    yield graph
    for node in graph.nodes:
        if isinstance(node, Graph):
            yield from graphs(node)


def operations(body: Body) -> Iterator[Node]:
    """All operation nodes, depth first."""
    for node in body.nodes:
        if isinstance(node.body, Body):
            yield from operations(node.body)
        else:
            yield node


def layers(plan: Plan) -> Iterator[Layer]:
    """The cost of every layer with parameters, in the order of execution."""
    shape, width = plan.shape, plan.width
    full = (shape.height, shape.width)
    if separable_stem(shape):
        half, quarter = (_halved(full), _halved(_halved(full)))
        narrow = max(1, width // 2)
        yield from _separable(shape.channels, narrow, half)
        yield Layer(2 * narrow)
        yield from _separable(narrow, width, quarter)
        yield Layer(2 * width)
    else:
        yield _convolution(shape.channels, width, 9, full)
        yield Layer(2 * width)
        yield _convolution(width, width, 9, full)
        yield Layer(2 * width)
    yield from _body_layers(plan.body)
    size = plan.body.size
    for index in plan.body.outputs:
        out = plan.body.nodes[index].out
        if out != plan.body.out:
            yield _convolution(out, plan.body.out, 1, size)
    yield _convolution(plan.body.out, plan.head_channels, 1, size)
    yield Layer(2 * plan.head_channels)
    yield Layer((plan.head_channels + 1) * shape.classes, 2 * plan.head_channels * shape.classes)


def _body_layers(body: Body) -> Iterator[Layer]:
    for node in body.nodes:
        if len(node.sources) > 1 and node.merge != "concat":
            for width in node.widths:
                if width != node.width:
                    yield _convolution(width, node.width, 1, node.size)
                else:
                    yield Layer(1)
            if node.merge == "attention":
                yield Layer(1)
        if isinstance(node.body, Body):
            yield from _body_layers(node.body)
        elif node.body in KERNELS:
            height, width = KERNELS[node.body]
            yield _convolution(node.width, node.out, height * width, node.size)
            yield Layer(2 * node.out)


def _convolution(inputs: int, outputs: int, kernel: int, size: tuple[int, int]) -> Layer:
    weights = inputs * outputs * kernel
    return Layer(weights + outputs, 2 * weights * size[0] * size[1])


def _separable(inputs: int, outputs: int, size: tuple[int, int]) -> Iterator[Layer]:
    """A depthwise 3x3 and a pointwise convolution, both with bias."""
    yield Layer(inputs * 9 + inputs, 2 * inputs * 9 * size[0] * size[1])
    yield _convolution(inputs, outputs, 1, size)


def _halved(size: tuple[int, int]) -> tuple[int, int]:
    return (size[0] + 1) // 2, (size[1] + 1) // 2


RELEASED_UNIT = 1000
"""Width at which operation weights are counted, so that ratios need not be whole."""


def released_base(graph: Graph, channel_ratios: Sequence[float]) -> float:
    """Operation weights at width 1, the released code's measure of size (section 2.11)."""
    targets = [round(channel_ratios[stage] / channel_ratios[0] * RELEASED_UNIT) for stage in graph.stages]
    body = _plan_graph(graph, RELEASED_UNIT, targets, [(1, 1)] * len(targets))
    return sum(_released_weights(node) for node in operations(body)) / RELEASED_UNIT**2


def _released_weights(node: Node) -> int:
    kernel = KERNELS.get(str(node.body), (0, 0))
    return kernel[0] * kernel[1] * node.width * node.out


def widest(
    graph: Graph,
    shape: Shape,
    *,
    channel_ratios: Sequence[float],
    head_channels: int,
    dropout: float,
    budget: int,
    count: Literal["network", "released"] = "network",
) -> Plan:
    """The widest network within a parameter budget.

    `network` counts every parameter and searches the width from where a parabola through three counts meets the budget,
    for the count grows about quadratically with it;
    `released` is int(sqrt(budget / base)) as in the released code, which counts operation weights only.

    Raises:
        TooLargeError: even the narrowest network is above the budget.
    """

    def at(width: int) -> Plan:
        return plan(graph, shape, width, channel_ratios, head_channels, dropout)

    if count == "released":
        width = int((budget / released_base(graph, channel_ratios)) ** 0.5)
        if width < NARROWEST:
            raise TooLargeError(f"the budget of {budget} parameters is below that of the narrowest network")
        return at(width)
    square, linear, constant = np.polyfit(PROBES, [at(width).parameters() for width in PROBES], 2)
    meeting = (-linear + max(0.0, linear**2 - 4 * square * (constant - budget)) ** 0.5) / (2 * square)
    found = at(int(np.clip(meeting, NARROWEST, WIDEST)))
    while found.parameters() > budget:
        if found.width == NARROWEST:
            least = found.parameters()
            raise TooLargeError(f"the narrowest network has {least} parameters, allowed are {budget}")
        found = at(found.width - 1)
    while found.width < WIDEST and (wider := at(found.width + 1)).parameters() <= budget:
        found = wider
    return found


# --- the flat graph --------------------------------------------------------------------------------


def flat_graph(graph: Graph) -> networkx.DiGraph[int]:
    """The architecture as one directed graph of operations, merges and averages.

    Node attributes: `label` (what the node does, equal for equal behaviour), `kind` (input, operation, merge,
    mean), `stage` and `group` (the path of the graph it belongs to). Edge attribute: `label`, the role of an input
    where inputs have roles. Two genotypes are the same architecture exactly if their flat
    graphs are isomorphic with these labels.
    """
    import networkx as nx

    widths_differ = any(content in POOLS for part in graphs(graph) for content in part.nodes)

    def edge_label(merge: Merge, rank: int, count: int) -> str:
        """The role of an input: the first one makes the mask of an attention; the last one decides the width, which
        matters only where pooling lets widths differ within a cell."""
        if merge == "attention" and rank == 0:
            return "first"
        return "last" if merge != "concat" and widths_differ and rank == count - 1 else ""

    flat: networkx.DiGraph[int] = nx.DiGraph()

    def add(kind: str, label: str, stage: int, group: tuple[int, ...], sources: Sequence[tuple[int, str]]) -> int:
        name = flat.number_of_nodes()
        flat.add_node(name, kind=kind, label=f"{label}@{stage}", stage=stage, group=group)
        for source, edge in sources:
            flat.add_edge(source, name, label=edge)
        return name

    def place(part: Graph, entering: int, stage: int, path: tuple[int, ...]) -> int:
        given: list[int] = []
        for index, (sources, merge, content) in enumerate(zip(part.predecessors, part.merges, part.nodes, strict=True)):
            at = part.stages[index] if part.stages else stage
            if len(sources) > 1:
                edges = [(given[source], edge_label(merge, rank, len(sources))) for rank, source in enumerate(sources)]
                tensor = add("merge", merge, at, path, edges)
            else:
                tensor = given[sources[0]] if sources else entering
            if isinstance(content, Graph):
                given.append(place(content, tensor, at, (*path, index)))
            else:
                given.append(add("operation", content, at, path, [(tensor, "")]))
        outputs = part.outputs
        if len(outputs) == 1:
            return given[outputs[0]]
        at = part.stages[outputs[-1]] if part.stages else stage
        return add("mean", "mean", at, path, [(given[node], "") for node in outputs])

    entry = add("input", "input", 0, (), [])
    end = place(graph, entry, 0, ())
    add("output", "output", 0, (), [(end, "")])
    return flat


def graph_hash(flat: networkx.DiGraph[int]) -> str:
    """Weisfeiler-Lehman hash over labels of nodes and edges, 32 hexadecimal digits."""
    import networkx as nx

    with warnings.catch_warnings():
        # networkx says at every call that releases before 3.5 gave other values.
        warnings.filterwarnings("ignore", message="The hashes produced for", category=UserWarning)
        digest: str = nx.weisfeiler_lehman_graph_hash(flat, node_attr="label", edge_attr="label", iterations=4)
    return digest


def isomorphic(first: networkx.DiGraph[int], second: networkx.DiGraph[int]) -> bool:
    """Whether two flat graphs are equal up to the names of their nodes."""
    import networkx as nx

    def same_label(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        return bool(one["label"] == other["label"])

    return bool(nx.is_isomorphic(first, second, node_match=same_label, edge_match=same_label))
