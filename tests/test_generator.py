"""Searched distributions and ratios of generators: what acts alike is one point, and every point is a network."""

from typing import Any

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
EVERYTHING = GeneratorSpace.model_validate(
    {
        "merge": {"sum": [0.1, 1], "concat": [0, 1], "attention": [0, 2]},
        "operations": {"conv3x3": [0.1, 1], "conv1x1": [0, 1], "avg_pool3x3": [0, 1]},
        "stage_ratios": [[0.1, 1], [0.1, 1], [0.1, 2]],
        "channel_ratios": [[0.5, 4], [1, 4], [1, 8]],
        "parameters": 100_000,
        "head_channels": 32,
        "max_operations": 50,
    }
)
HALF = GeneratorSpace.model_validate(
    {
        "merge": {"sum": 1, "concat": [0, 1]},
        "operations": {"conv3x3": [0.2, 0.3], "conv5x5": 0},
        "stage_ratios": [1, [0.5, 2], 0.33],
        "channel_ratios": [1, [1.5, 2.5], 4],
    }
)
spaces = st.sampled_from([EVERYTHING, HALF, GeneratorSpace()])


def without_draw(genotype: Genotype) -> Genotype:
    return {key: value for key, value in genotype.items() if key != "draw"}


def decoded(space: GeneratorSpace, point: Any) -> Genotype:
    return without_draw(space.decode(np.asarray(point), np.random.default_rng(0)))


def points_of(space: GeneratorSpace, seed: int, count: int = 20) -> Any:
    """Points of which some coordinates lie at the ends of their ranges, as an optimiser likes to propose them."""
    points = np.random.default_rng(seed).random((count, len(space.dimensions())))
    return np.clip(points * 1.4 - 0.2, 0, 1)


def test_searched_weights_and_ratios_are_dimensions_with_readable_names() -> None:
    assert GeneratorSpace().dimensions() == [
        *("level 1 nodes", "level 1 k", "level 1 p", "level 2 nodes", "level 2 p"),
        *("level 3 nodes", "level 3 k", "level 3 p"),
    ]
    assert EVERYTHING.dimensions()[8:] == [
        *("merge sum", "merge concat", "merge attention"),
        *("operation conv3x3", "operation conv1x1", "operation avg_pool3x3"),
        *("stage ratio 1", "stage ratio 2", "stage ratio 3"),
        *("channel ratio 1", "channel ratio 2", "channel ratio 3"),
    ]
    assert HALF.dimensions()[8:] == ["merge concat", "operation conv3x3", "stage ratio 2", "channel ratio 2"]


@given(space=spaces, seed=st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_a_genotype_survives_its_coordinates(space: GeneratorSpace, seed: int) -> None:
    drawn = space.sample(np.random.default_rng(seed))
    assert decoded(space, space.encode(drawn)) == without_draw(drawn)


@given(space=spaces, seed=st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_canonical_points_are_those_of_their_genotypes_and_stay_as_they_are(space: GeneratorSpace, seed: int) -> None:
    points = points_of(space, seed)
    canonical = space.canonical(points)
    assert canonical.min() >= 0
    assert canonical.max() <= 1
    np.testing.assert_array_equal(space.canonical(canonical), canonical)
    for point, equal in zip(points, canonical, strict=True):
        encoded = space.encode(space.decode(point, np.random.default_rng(0)))
        np.testing.assert_array_equal(space.canonical(encoded[None])[0], equal)


@given(space=spaces, seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_a_canonical_point_acts_as_the_point_it_stands_for(space: GeneratorSpace, seed: int) -> None:
    point = points_of(space, seed, 1)
    first, second = (decoded(space, each[0]) for each in (point, space.canonical(point)))
    nodes = first["levels"][0]["nodes"]
    assert architecture.stages(nodes, first["stage_ratios"]) == architecture.stages(nodes, second["stage_ratios"])
    for key in ("merge", "operations", "stage_ratios", "channel_ratios"):
        assert first[key] == second[key]


@given(seed=st.integers(0, 10**6), factor=st.floats(0.3, 0.99), mix=st.sampled_from(["merge", "operation", "channel"]))
@settings(max_examples=50, deadline=None)
def test_weights_and_ratios_that_are_scaled_alike_are_one_point(seed: int, factor: float, mix: str) -> None:
    low = 1e-3
    space = GeneratorSpace.model_validate(
        {
            "merge": {"sum": [low, 1], "concat": [0, 1], "attention": [0, 1]},
            "operations": {"conv3x3": [low, 1], "conv1x1": [0, 1], "avg_pool3x3": [0, 1]},
            "channel_ratios": [[low, 1]] * 3,
        }
    )
    lows = np.array([low, 0, 0] if mix != "channel" else [low] * 3)
    where = [name.startswith(mix) for name in space.dimensions()]
    weights = 0.1 + 0.9 * np.random.default_rng(seed).random(3)
    points = np.full((2, len(where)), 0.5)
    for row, scaled in enumerate((weights, weights * factor)):
        points[row, where] = np.clip((np.maximum(scaled, lows) - lows) / (1 - lows), 0, 1)
    first, second = space.canonical(points)
    np.testing.assert_allclose(first, second, rtol=0, atol=3e-9)  # decimals kept
    assert first[where].max() == 1


@given(nodes=st.integers(3, 40), seed=st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_every_stage_has_nodes_whatever_the_ratios(nodes: int, seed: int) -> None:
    ratios = np.exp(np.random.default_rng(seed).normal(0, 3, 3))
    found = architecture.stages(nodes, ratios.tolist())
    assert list(found) == sorted(found)
    assert (len(found), set(found)) == (nodes, {0, 1, 2})


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [((1, 100, 1), [0, 1, 1, 1, 2]), ((100, 1, 1), [0, 0, 0, 1, 2]), ((1, 1, 100), [0, 1, 2, 2, 2])],
)
def test_a_stage_without_nodes_takes_one(ratios: tuple[float, ...], expected: list[int]) -> None:
    assert list(architecture.stages(5, ratios)) == expected


def test_stage_ratios_that_cut_the_top_level_alike_are_one_point() -> None:
    top = {"model": "WS", "nodes": 8, "k": 4, "p": 0.5}
    space = GeneratorSpace.model_validate({"levels": [top, top], "stage_ratios": [[0.1, 1]] * 3})
    points = np.random.default_rng(0).random((500, 3))
    cuts = [architecture.stages(8, (0.1 + 0.9 * point).tolist()) for point in points]
    canonical = {
        cut: {tuple(row) for row, at in zip(space.canonical(points), cuts, strict=True) if at == cut} for cut in cuts
    }
    assert len(canonical) > 10
    assert all(len(rows) == 1 for rows in canonical.values())


@given(seed=st.integers(0, 10**6))
@settings(max_examples=5, deadline=None)
def test_networks_of_searched_ratios_are_counted_exactly_and_run(seed: int) -> None:
    drawn = EVERYTHING.sample(np.random.default_rng(seed))
    plan = EVERYTHING.plan(drawn, SMALL)
    with torch.device("meta"):
        network = EVERYTHING.build(drawn, SMALL)
        with FlopCounterMode(display=False) as counter:
            network.eval()(torch.empty(1, 3, 32, 32))
    assert measures.parameters(network) == plan.parameters() <= EVERYTHING.parameters
    assert counter.get_total_flops() == plan.flops()


def test_only_the_proportions_of_channel_ratios_count() -> None:
    drawn = GeneratorSpace().sample(np.random.default_rng(0))
    plans = [
        architecture.plan(draw_of(drawn), SMALL, 12, ratios, 64, 0.2) for ratios in ((1, 2, 4), (2, 4, 8), (0.5, 1, 2))
    ]
    assert plans[0] == plans[1] == plans[2]
    assert architecture.released_base(draw_of(drawn), (1, 2, 4)) == architecture.released_base(
        draw_of(drawn), (2, 4, 8)
    )


def test_equal_graphs_of_other_searched_widths_are_other_architectures() -> None:
    first = HALF.sample(np.random.default_rng(0))
    second = {**first, "channel_ratios": [1.0, 2.25, 4.0]}
    assert first["channel_ratios"] != second["channel_ratios"]
    assert HALF.hash(first) != HALF.hash(second)
    assert not HALF.same(first, second)
    assert HALF.same(first, {**first})


def test_operations_are_drawn_as_often_as_their_weights_say() -> None:
    levels = [{"model": "WS", "nodes": 300, "k": 4, "p": 0.5}]
    space = GeneratorSpace.model_validate(
        {"levels": levels, "operations": {"conv3x3": [3, 4], "conv1x1": 1}, "merge": {"sum": 1, "concat": [2, 3]}}
    )
    graph = draw_of(space.decode(np.zeros(2), np.random.default_rng(0)))
    assert np.mean([node == "conv3x3" for node in graph.nodes]) == pytest.approx(3 / 4, abs=0.08)
    assert np.mean([merge == "concat" for merge in graph.merges]) == pytest.approx(2 / 3, abs=0.08)


def test_a_redrawn_generator_is_the_same_generator() -> None:
    drawn = EVERYTHING.sample(np.random.default_rng(0))
    again = EVERYTHING.redraw(drawn, np.random.default_rng(1))
    assert without_draw(again) == without_draw(drawn)
    assert again["draw"] != drawn["draw"]
    assert EVERYTHING.redraw(drawn, np.random.default_rng(1)) == again
    assert not EVERYTHING.same(drawn, again)


def test_searched_weights_and_ratios_are_described() -> None:
    drawn = {**HALF.decode(np.full(12, 0.5), np.random.default_rng(0)), "draw": 7}
    words = HALF.describe(drawn)
    assert ", merge sum 1.00, merge concat 0.50, operation conv3x3 0.30, operation conv5x5 0.00, stage ratio 1" in words
    assert words.endswith(", channel ratio 1 1.00, channel ratio 2 2.00, channel ratio 3 4.00, draw 7")
    assert "merge" not in GeneratorSpace().describe(drawn)
