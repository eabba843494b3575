"""An encoder as a flat graph to draw (see `Space.graph`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas_lib.spaces.transformer.encoder import ATTENTION, CONVOLUTION, TRANSFORM, Encoder

if TYPE_CHECKING:
    import networkx

ENDS, FEED_FORWARD = 0, 1
FAMILIES = {ATTENTION: 2, TRANSFORM: 3, CONVOLUTION: 4}
"""Colours."""
NAMES = {
    ENDS: "embedding, sums and answer",
    FEED_FORWARD: "feed-forward, its width",
    FAMILIES[ATTENTION]: "self-attention x heads",
    FAMILIES[TRANSFORM]: "transform x heads",
    FAMILIES[CONVOLUTION]: "attention and convolution x heads",
}


def diagram(encoder: Encoder) -> networkx.DiGraph[int]:
    """The encoder from its input to its answer: of each layer the operation, the feed-forward stacks, and two sums.

    Node attributes: see `Space.graph`; `stage` is the colour. Norms, and the maps to and from the hidden size, are left
    out.
    """
    import networkx as nx

    graph: networkx.DiGraph[int] = nx.DiGraph()
    used = {ENDS, FEED_FORWARD, *(FAMILIES[layer.family] for layer in encoder.layers)}
    graph.graph["stages"] = {stage: name for stage, name in NAMES.items() if stage in used}
    graph.graph["notes"] = ["add: and layer normalisation"]

    def add(kind: str, label: str, stage: int, *sources: int) -> int:
        number = graph.number_of_nodes()
        graph.add_node(number, kind=kind, label=label, stage=stage, group=())
        graph.add_edges_from((source, number) for source in sources)
        return number

    value = add("operation", "embed", ENDS, add("input", "input", ENDS))
    for layer in encoder.layers:
        mixed = add("operation", f"{layer.operation} x {layer.heads}", FAMILIES[layer.family], value)
        value = inner = add("merge", "add", ENDS, value, mixed)
        for _ in range(layer.stacks):
            inner = add("operation", str(layer.feed_forward), FEED_FORWARD, inner)
        value = add("merge", "add", ENDS, value, inner)
    add("output", "output", ENDS, add("operation", "mean", ENDS, value))
    return graph
