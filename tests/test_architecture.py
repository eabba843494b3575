"""Random graphs of graphs and their layers; golden values from the published method (NAGO)."""

from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from nas_lib.evaluation import measures
from nas_lib.records import Genotype
from nas_lib.spaces import architecture
from nas_lib.spaces.generator import GeneratorSpace, draw_of
from nas_lib.tasks.data import Shape

SMALL = Shape(channels=3, height=32, width=32, classes=10)
ALL_MERGES = {"sum": 1.0, "concat": 1.0, "attention": 1.0}
ALL_OPERATIONS = dict.fromkeys([*architecture.KERNELS, *architecture.POOLS], 1.0)


def genotype(*levels: dict[str, object], draw: int = 0, **changes: object) -> Genotype:
    return {
        "levels": [dict(level) for level in levels],
        "merge": {"sum": 1.0},
        "operations": {"conv3x3": 1.0},
        "stage_ratios": [1, 1, 1],
        "channel_ratios": [1, 2, 4],
        "draw": draw,
        **changes,
    }


def ws(nodes: int, k: int, p: float) -> dict[str, object]:
    return {"model": "WS", "nodes": nodes, "k": k, "p": p}


def er(nodes: int, p: float) -> dict[str, object]:
    return {"model": "ER", "nodes": nodes, "p": p}


TRIANGLES = genotype(ws(3, 2, 0.5), er(1, 0.5), ws(3, 2, 0.5))
CIFAR10_OPTIMUM = genotype(ws(8, 4, 0.6), er(1, 0.7), ws(5, 4, 0.2))
"""The generator the paper recommends for CIFAR-10 (Table 3)."""


def longest_path(sources: tuple[tuple[int, ...], ...]) -> int:
    depth: list[int] = []
    for predecessors in sources:
        depth.append(1 + max((depth[source] for source in predecessors), default=0))
    return max(depth)


# --- random graphs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        (3, [0, 1, 2]),
        (4, [0, 0, 1, 2]),
        (5, [0, 0, 1, 1, 2]),
        (6, [0, 0, 1, 1, 2, 2]),
        (7, [0, 0, 0, 1, 1, 2, 2]),
        (8, [0, 0, 0, 1, 1, 1, 2, 2]),
        (9, [0, 0, 0, 1, 1, 1, 2, 2, 2]),
        (10, [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]),
    ],
)
@pytest.mark.parametrize("ratios", [(1, 1, 1), (0.33, 0.33, 0.33)])
def test_stages_are_those_of_the_paper(nodes: int, expected: list[int], ratios: tuple[float, ...]) -> None:
    assert list(architecture.stages(nodes, ratios)) == expected


@given(
    nodes=st.integers(1, 12),
    model=st.sampled_from(["WS", "ER", "BA"]),
    p=st.floats(0, 1),
    k=st.integers(2, 6),
    m=st.integers(1, 4),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=100, deadline=None)
def test_every_random_graph_is_one_acyclic_piece(nodes: int, model: str, p: float, k: int, m: int, seed: int) -> None:
    level = {"model": model, "nodes": nodes, "p": p, "k": k, "m": m}
    sources, _ = architecture.predecessors(level, np.random.default_rng(seed))
    assert all(source < node for node, read in enumerate(sources) for source in read)
    undirected = nx.Graph((source, node) for node, read in enumerate(sources) for source in read)
    assert nodes == 1 or (len(undirected) == nodes and nx.is_connected(undirected))


@pytest.mark.parametrize("p", [7, -0.1, float("nan")])
def test_what_is_no_probability_makes_no_graph(p: float) -> None:
    with pytest.raises(ValueError, match=f"p is {p}, allowed is 0 to 1"):
        architecture.predecessors(er(5, p), np.random.default_rng(0))


@pytest.mark.parametrize(("one", "other"), [(2, 3), (4, 5)])
@pytest.mark.parametrize("nodes", [6, 8, 10])
def test_odd_ring_neighbours_act_as_the_even_number_below(nodes: int, one: int, other: int) -> None:
    graphs = [architecture.predecessors(ws(nodes, k, 0.5), np.random.default_rng(3)) for k in (one, other)]
    assert graphs[0] == graphs[1]


@given(nodes=st.integers(3, 10), k=st.integers(2, 5), p=st.floats(0, 1), seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_ring_has_the_same_number_of_edges_whatever_is_rewired(nodes: int, k: int, p: float, seed: int) -> None:
    sources, joined = architecture.predecessors(ws(nodes, k, p), np.random.default_rng(seed))
    assert joined or sum(map(len, sources)) == nodes * (min(k, nodes - 1) // 2)


@pytest.mark.parametrize(
    ("nodes", "k", "p", "inputs", "outputs", "depth"),
    [
        (5, 2, 0.1, 1.30, 1.16, 4.49),
        (10, 2, 0.5, 3.43, 2.71, 4.90),
        (10, 4, 0.9, 2.25, 2.07, 5.65),
        (8, 4, 0.5, 1.56, 1.39, 6.05),
    ],
)
def test_rings_have_the_published_mean_inputs_outputs_and_depth(
    nodes: int, k: int, p: float, inputs: float, outputs: float, depth: float
) -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        sources, _ = architecture.predecessors(ws(nodes, k, p), rng)
        read = {source for predecessors in sources for source in predecessors}
        found.append((sum(not read_by for read_by in sources), nodes - len(read), longest_path(sources)))
    assert np.mean(found, axis=0) == pytest.approx([inputs, outputs, depth], abs=0.25)


@pytest.mark.parametrize(
    ("nodes", "p", "share"), [(3, 0.1, 0.427), (5, 0.1, 0.784), (10, 0.1, 0.824), (4, 0.2, 0.076), (5, 0.3, 0.0)]
)
def test_random_graphs_that_stay_unconnected_are_as_many_as_theory_says(nodes: int, p: float, share: float) -> None:
    """The share is (1 - C)^30 with C the probability that G(n, p) is connected (Gilbert 1959)."""
    rng = np.random.default_rng(0)
    joined = [architecture.predecessors(er(nodes, p), rng)[1] for _ in range(300)]
    assert np.mean(joined) == pytest.approx(share, abs=0.06)


# --- draws -----------------------------------------------------------------------------------------


def test_a_genotype_alone_decides_its_graph() -> None:
    first = architecture.draw(CIFAR10_OPTIMUM)
    architecture.draw({**CIFAR10_OPTIMUM, "draw": 5})
    assert architecture.draw(CIFAR10_OPTIMUM) == first


def test_draws_of_one_generator_differ() -> None:
    space = GeneratorSpace()
    hashes = {space.hash({**CIFAR10_OPTIMUM, "draw": draw}) for draw in range(8)}
    assert len(hashes) >= 6


def test_cells_of_one_architecture_are_drawn_independently() -> None:
    graph = architecture.draw(genotype(ws(8, 4, 0.5), er(5, 0.5), ws(8, 4, 0.5)))
    assert len({repr(cell) for cell in graph.nodes}) == 8


def test_only_convolutions_end_a_cell() -> None:
    mostly_pools = {"conv3x3": 0.05, "avg_pool3x3": 0.95}
    graph = architecture.draw(genotype(ws(3, 2, 0.5), ws(10, 2, 0.5), operations=mostly_pools))
    for cell in graph.nodes:
        assert isinstance(cell, architecture.Graph)
        assert all(cell.nodes[node] in architecture.KERNELS for node in cell.outputs)


def test_renamed_architectures_have_equal_hashes_and_are_recognised() -> None:
    space = GeneratorSpace()
    other_draw = {**TRIANGLES, "draw": 99}  # triangles leave nothing to chance
    assert space.hash(TRIANGLES) == space.hash(other_draw)
    assert space.same(TRIANGLES, other_draw)


def test_different_architectures_are_told_apart_where_hashes_are_equal() -> None:
    space = GeneratorSpace()
    drawn = [{**CIFAR10_OPTIMUM, "draw": draw} for draw in range(8)]
    for one, other in pairwise(drawn):
        assert space.same(one, other) == (space.hash(one) == space.hash(other))


# --- sizes -----------------------------------------------------------------------------------------


def test_released_base_count_of_the_deterministic_network() -> None:
    assert architecture.released_base(draw_of(TRIANGLES), (1, 2, 4)) == 477


@pytest.mark.parametrize(
    ("budget", "width", "parameters"), [(4_000_000, 91, 4_532_623), (200_000, 20, 316_217), (50_000, 10, 117_637)]
)
def test_released_budget_gives_the_published_width_and_size(budget: int, width: int, parameters: int) -> None:
    plan = GeneratorSpace(parameters=budget, count="released").plan(TRIANGLES, SMALL)
    assert (plan.width, plan.parameters()) == (width, parameters)


def test_cifar10_optimum_has_the_published_compute() -> None:
    plan = GeneratorSpace(count="released").plan(CIFAR10_OPTIMUM, SMALL)
    assert 44 <= plan.width <= 46
    assert plan.flops() / 2 == pytest.approx(0.74e9, rel=0.1)


def test_random_generators_have_the_published_sizes() -> None:
    """Over the ranges of the paper at 4.0 M: about 180 operations, width about 20, total about the limit."""
    space = GeneratorSpace(count="released")
    rng = np.random.default_rng(0)
    plans = [space.plan(space.sample(rng), SMALL) for _ in range(120)]
    assert np.median([plan.operations() for plan in plans]) == pytest.approx(180, rel=0.25)
    assert np.median([plan.width for plan in plans]) == pytest.approx(20, rel=0.25)
    assert np.median([plan.parameters() / 4.0e6 for plan in plans]) == pytest.approx(1.015, abs=0.04)
    assert all(8 <= plan.width <= 91 for plan in plans)


spaces = st.builds(
    GeneratorSpace,
    merge=st.sampled_from([{"sum": 1.0}, ALL_MERGES]),
    operations=st.sampled_from([{"conv3x3": 1.0}, ALL_OPERATIONS]),
    parameters=st.just(200_000),
    head_channels=st.just(64),
    max_operations=st.just(60),
)
shapes = st.sampled_from([Shape(1, 8, 8, 10), Shape(3, 64, 56, 5), Shape(1, 28, 28, 7)])


@given(space=spaces, shape=shapes, seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_counted_parameters_and_flops_are_those_of_the_real_network(
    space: GeneratorSpace, shape: Shape, seed: int
) -> None:
    drawn = space.sample(np.random.default_rng(seed))
    plan = space.plan(drawn, shape)
    with torch.device("meta"):
        network = space.build(drawn, shape)
        with FlopCounterMode(display=False) as counter:
            network.eval()(torch.empty(1, shape.channels, shape.height, shape.width))
    assert measures.parameters(network) == plan.parameters()
    assert counter.get_total_flops() == plan.flops()


@given(space=spaces, seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_the_network_is_the_widest_within_the_budget(space: GeneratorSpace, seed: int) -> None:
    drawn = space.sample(np.random.default_rng(seed))
    plan = space.plan(drawn, SMALL)
    wider = architecture.plan(draw_of(drawn), SMALL, plan.width + 1, drawn["channel_ratios"], 64, 0.2)
    assert plan.parameters() <= space.parameters < wider.parameters()


def test_a_budget_below_the_narrowest_network_is_refused() -> None:
    with pytest.raises(ValueError, match="narrowest network has"):
        GeneratorSpace(parameters=1000).plan(CIFAR10_OPTIMUM, SMALL)
