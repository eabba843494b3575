"""The PyTorch network of an architecture."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas_lib.spaces.architecture import Node
from nas_lib.spaces.generator import NAGO_LEVELS, GeneratorSpace, WattsStrogatz
from nas_lib.spaces.network import GraphNetwork, MergeModule, NodeModule, pooled
from nas_lib.tasks.data import Shape
from tests.test_architecture import ALL_MERGES, ALL_OPERATIONS, TRIANGLES

DIGITS = Shape(channels=1, height=8, width=8, classes=10)


def merge_of(kind: str, widths: tuple[int, ...]) -> MergeModule:
    width = sum(widths) if kind == "concat" else widths[-1]
    return MergeModule(Node(kind, tuple(range(len(widths))), widths, width, width, "conv3x3", (5, 5)))  # type: ignore[arg-type]


@given(seed=st.integers(0, 10**6), everything=st.booleans())
@settings(max_examples=12, deadline=None)
def test_every_draw_of_the_paper_ranges_trains_all_its_parameters(seed: int, everything: bool) -> None:
    space = GeneratorSpace(
        merge=ALL_MERGES if everything else {"sum": 1.0},
        operations=ALL_OPERATIONS if everything else {"conv3x3": 1.0},
        parameters=60_000,
        head_channels=32,
        max_operations=80,
    )
    torch.manual_seed(seed)
    network = space.build(space.sample(np.random.default_rng(seed)), DIGITS)
    logits = network(torch.rand(4, 1, 8, 8))
    logits.square().sum().backward()
    assert logits.shape == (4, 10)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_flat_and_hierarchical_generators_are_configurations_of_one_space() -> None:
    flat = GeneratorSpace(levels=(WattsStrogatz(model="WS", nodes=(32, 32), k=(4, 4), p=(0.75, 0.75)),))
    nested = GeneratorSpace(levels=(*NAGO_LEVELS[:1], *NAGO_LEVELS), max_operations=300)
    randwire = GeneratorSpace(
        levels=(
            WattsStrogatz(model="WS", nodes=(3, 3), k=(2, 2), p=(0, 0)),
            WattsStrogatz(model="WS", nodes=(32, 32), k=(4, 4), p=(0.75, 0.75)),
        )
    )
    for space, operations in ((flat, 32), (randwire, 96), (nested, None)):
        plan = space.plan(space.sample(np.random.default_rng(0)), DIGITS)
        assert operations is None or plan.operations() == operations
        assert GraphNetwork(plan).eval()(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_stages_have_halved_maps_and_widened_channels() -> None:
    plan = GeneratorSpace(parameters=200_000).plan(TRIANGLES, Shape(3, 32, 32, 10))
    assert [node.size for node in plan.body.nodes] == [(32, 32), (16, 16), (8, 8)]
    assert [node.out for node in plan.body.nodes] == [plan.width, 2 * plan.width, 4 * plan.width]
    large = GeneratorSpace(parameters=200_000).plan(TRIANGLES, Shape(3, 224, 224, 10))
    assert [node.size for node in large.body.nodes] == [(56, 56), (28, 28), (14, 14)]


def test_the_body_averages_the_outputs_nobody_reads() -> None:
    levels = (WattsStrogatz(model="WS", nodes=(10, 10), k=(2, 2), p=(0.9, 0.9)),)
    space = GeneratorSpace(levels=levels, parameters=60_000, head_channels=16)
    genotype = space.sample(np.random.default_rng(0))
    several = (
        drawn
        for drawn in ({**genotype, "draw": draw} for draw in range(50))
        if len(space.plan(drawn, DIGITS).body.outputs) >= 2
    )
    network = space.build(next(several), DIGITS).eval()
    assert isinstance(network, GraphNetwork)
    given: dict[int, torch.Tensor] = {}
    for index, node in enumerate(network.body.nodes):
        node.register_forward_hook(lambda _module, _inputs, output, index=index: given.update({index: output}))
    entering = network.stem(torch.rand(2, 1, 8, 8))
    with torch.no_grad():
        found = network.body(entering)
        expected = []
        for index in network.body.outputs:
            part = pooled(given[index], network.body.size)
            expected.append(network.body.widen[str(index)](part) if str(index) in network.body.widen else part)
    assert torch.allclose(found, sum(expected) / len(expected))  # type: ignore[arg-type]


def test_sum_of_equal_widths_starts_as_a_scaled_sum() -> None:
    first, second = torch.rand(2, 4, 5, 5), torch.rand(2, 4, 5, 5)
    expected = torch.tensor(1.0).sigmoid() * (first + second)
    assert torch.allclose(merge_of("sum", (4, 4))([first, second]), expected)


def test_sum_widens_by_a_convolution_without_scalar() -> None:
    merge = merge_of("sum", (2, 4))
    assert merge.weights.numel() == 1
    assert isinstance(merge.widen["0"], nn.Conv2d)


def test_concat_stacks_channels() -> None:
    first, second = torch.rand(2, 3, 5, 5), torch.rand(2, 4, 5, 5)
    assert torch.equal(merge_of("concat", (3, 4))([first, second]), torch.cat([first, second], 1))


def test_attention_follows_its_formula() -> None:
    first, second, third = torch.rand(3, 2, 4, 5, 5)
    gate = torch.tensor(1.0).sigmoid()
    total = gate * second + gate * third
    mask = (first - first.min()) / (first.max() - first.min())
    expected = gate * total + total * mask
    assert torch.allclose(merge_of("attention", (4, 4, 4))([first, second, third]), expected, atol=1e-6)


def test_a_single_input_passes_unchanged() -> None:
    node = NodeModule(Node("sum", (0,), (4,), 4, 4, "avg_pool3x3", size=(5, 5)))
    assert node.merge is None


@pytest.mark.parametrize("size", [(4, 4), (3, 3), (8, 8)])
def test_pooling_equals_adaptive_pooling(size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, 8, 8)
    assert torch.allclose(pooled(images, size), nn.functional.adaptive_avg_pool2d(images, size))
