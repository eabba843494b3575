"""Networks of cells: equal to PyTorch's own for its cells, and the fast way equal to block by block."""

import weakref
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from nas_lib.evaluation import measures
from nas_lib.spaces.recurrent.cell import Block, Cell, CellError, acting, checked, parameter_count
from nas_lib.spaces.recurrent.network import CellLayer, RecurrentNetwork, detached
from nas_lib.spaces.recurrent.plan import Bias, Chain, Part, Product, Slot, Sum, plan
from nas_lib.spaces.recurrent.seeds import basic, cornn, gru, lstm
from nas_lib.tasks.data import SequenceShape

STEPS, BATCH, HIDDEN = 7, 5, 8
GATES = {"rnn": [""], "gru": ["_r", "_z", "_n"], "lstm": ["_i", "_f", "_m", "_o"]}
"""Suffixes of our linear blocks, in the order in which PyTorch stacks its gates."""


def with_weights_of(reference: nn.RNNBase, layer: CellLayer, gates: list[str]) -> None:
    weights = dict(reference.named_parameters())
    for ours, theirs in (("wx", "ih"), ("wh", "hh")):
        for gate, weight, bias in zip(
            gates, weights[f"weight_{theirs}_l0"].chunk(len(gates)), weights[f"bias_{theirs}_l0"].chunk(len(gates)),
            strict=True,
        ):  # fmt: skip
            layer.linear(f"{ours}{gate}").weight.data.copy_(weight)
            layer.linear(f"{ours}{gate}").bias.data.copy_(bias)


@pytest.mark.parametrize(
    ("name", "cell", "kind"), [("rnn", basic(), nn.RNN), ("gru", gru(), nn.GRU), ("lstm", lstm(), nn.LSTM)]
)
def test_seed_cells_with_the_weights_of_pytorchs_layers_compute_the_same(name: str, cell: Cell, kind: Any) -> None:
    torch.manual_seed(0)
    reference, layer = kind(HIDDEN, HIDDEN), CellLayer(cell, HIDDEN, HIDDEN)
    with_weights_of(reference, layer, GATES[name])
    values = torch.randn(STEPS, BATCH, HIDDEN)
    h, c = torch.randn(BATCH, HIDDEN), torch.randn(BATCH, HIDDEN)
    expected, after = reference(values, (h[None], c[None]) if name == "lstm" else h[None])
    last_h, last_c = after if name == "lstm" else (after, c[None])
    for run in (layer, layer.interpret):
        outputs, states = run(values, (h, c))
        torch.testing.assert_close(outputs, expected, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(states, (last_h[0], last_c[0]), atol=1e-6, rtol=1e-5)


def test_cornn_moves_like_its_formula() -> None:
    layer = CellLayer(cornn(step=0.1, stiffness=2.0, damping=3.0), HIDDEN, HIDDEN)
    values, y, z = torch.randn(STEPS, BATCH, HIDDEN), torch.zeros(BATCH, HIDDEN), torch.zeros(BATCH, HIDDEN)
    outputs, _ = layer(values, (y, z))
    for step, u in enumerate(values):
        z = z + 0.1 * (torch.tanh(layer.linear("drive")(torch.cat([u, z, y], -1))) - 2 * y - 3 * z)
        y = y + 0.1 * z
        torch.testing.assert_close(outputs[step], y)


OPERATIONS: list[tuple[Any, Any]] = [
    *(("add", activation) for activation in (None, "tanh", "identity", "linear", "relu")),
    *((combination, activation) for combination in ("sub", "elem_mul") for activation in (None, "sigmoid", "linear_b")),
    ("blend", None), ("blend", "leaky_relu"), ("linear", None), ("linear", "tanh"), ("linear", "sigmoid"),
    *((None, activation) for activation in (None, "tanh", "sigmoid", "relu", "leaky_relu", "linear", "linear_b")),
]  # fmt: skip


@st.composite
def cells(draw: st.DrawFn) -> Cell:
    """Any valid cell: dead blocks, states that depend on nothing or on x alone, the same input twice, constants."""
    names = ["x", "h", "c"]
    blocks: dict[str, Block] = {}
    for place in range(draw(st.integers(0, 12))):
        combination, activation = draw(st.sampled_from(OPERATIONS))
        count = {"blend": 3, None: 1}.get(combination, 2)
        inputs: list[str | float] = [draw(st.sampled_from(names)) for _ in range(count)]
        if combination in ("add", "sub", "elem_mul") and draw(st.integers(0, 4)) == 0:
            inputs[draw(st.integers(0, 1))] = draw(st.sampled_from([1, 0.5, -2, 0]))
        blocks[f"b{place}"] = Block(tuple(inputs), combination, activation)
        names.append(f"b{place}")
    for state in ("h_next", "c_next"):
        blocks[state] = Block((draw(st.sampled_from(names)),))
    return checked(Cell(blocks))


def with_gradients(layer: CellLayer, run: object, values: Tensor, states: list[Tensor]) -> list[Tensor]:
    """Outputs, states, and the gradients of a weighted sum of them by everything there is."""
    assert callable(run)
    inputs = [tensor.clone().requires_grad_() for tensor in (values, *states)]
    outputs, after = run(inputs[0], inputs[1:])
    after = [after[place] for place in layer.acting]
    torch.manual_seed(1)
    total = sum((torch.randn_like(tensor) * tensor).sum() for tensor in (outputs, *after))
    assert isinstance(total, Tensor)
    sources = [*inputs, *layer.parameters()]
    found = torch.autograd.grad(total, sources, allow_unused=True)
    gradients = [
        torch.zeros_like(source) if each is None else each for source, each in zip(sources, found, strict=True)
    ]
    return [outputs, *after, *gradients]


def twice_from_x() -> Cell:
    """x starts the product of a group, and a static product reads another product of x: pieces of one tensor. The tanh,
    and a second reader of what it reads, keep them from being multiplied into one matrix."""
    blocks = {
        "wx": Block(("x",), None, "linear_b"),
        "uh": Block(("h",), None, "linear_b"),
        "s": Block(("wx", "uh"), "add", "tanh"),
        "us": Block(("s",), None, "linear"),
        "vx": Block(("x",), None, "linear_b"),
        "vvx": Block(("vx",), None, "linear"),
        "a": Block(("us", "vvx"), "add"),
        "b": Block(("a", "vx"), "sub"),
        "h_next": Block(("b",)),
        "c_next": Block(("c",)),
    }
    return checked(Cell(blocks))


@settings(max_examples=60, deadline=None)
@given(cells(), st.integers(1, 4))
@example(twice_from_x(), 3)
def test_the_fast_way_equals_block_by_block_with_all_gradients(cell: Cell, steps: int) -> None:
    torch.manual_seed(0)
    layer = CellLayer(cell, 3, 3).double()
    values = torch.randn(steps, 2, 3, dtype=torch.float64)
    states = [torch.randn(2, 3, dtype=torch.float64) for _ in range(2)]
    fast = with_gradients(layer, layer, values, states)
    slow = with_gradients(layer, layer.interpret, values, states)
    torch.testing.assert_close(fast, slow)


@settings(max_examples=20, deadline=None)
@given(cells())
def test_a_repeated_pass_gives_the_same_bits(cell: Cell) -> None:
    torch.manual_seed(0)
    layer = CellLayer(cell, HIDDEN, HIDDEN)
    values, states = torch.randn(STEPS, BATCH, HIDDEN), [torch.randn(BATCH, HIDDEN) for _ in range(2)]
    first, again = (with_gradients(layer, layer, values, states) for _ in range(2))
    torch.testing.assert_close(first, again, rtol=0, atol=0, equal_nan=True)


def test_a_subtracted_product_is_one_with_the_negative_matrix() -> None:
    blocks = {
        "wx": Block(("x",), None, "linear_b"),
        "uh": Block(("h",), None, "linear"),
        "d": Block(("wx", "uh"), "sub", "tanh"),
        "h_next": Block(("d",)),
        "c_next": Block(("c",)),
    }
    found = plan(acting(Cell(blocks)))
    (negative,) = found.inner
    assert negative == Product((Chain((("uh", 0),), -1.0),), "h")
    assert [each for each in found.loop.values() if isinstance(each, Sum)] == [Sum((negative,))]


def test_linear_blocks_in_a_row_are_one_product_and_so_are_added_ones_that_read_the_same() -> None:
    blocks = {
        "wx": Block(("x",), None, "linear_b"),
        "uh": Block(("h",), None, "linear"),
        "s": Block(("wx", "uh"), "sub"),
        "v": Block(("s",), None, "linear"),
        "vh": Block(("h",), None, "linear"),
        "t": Block(("v", "vh"), "add", "tanh"),
        "h_next": Block(("t",)),
        "c_next": Block(("c",)),
    }
    v, wx, uh, vh = (((name, 0),) for name in ("v", "wx", "uh", "vh"))
    (group,) = plan(acting(Cell(blocks))).groups
    start = Part((Product((Chain(wx + v),), "x"),), (Bias(Chain(v), "wx"),))
    assert group.slots == (Slot(Product((Chain(uh + v, -1.0), Chain(vh)), "h"), start),)


def test_a_linear_block_after_a_gate_stays_a_product_of_its_own() -> None:
    blocks = {
        "wx": Block(("x",), None, "linear_b"),
        "uh": Block(("h",), None, "linear"),
        "g": Block(("wx", "uh"), "elem_mul", "linear"),
        "h_next": Block(("g",)),
        "c_next": Block(("c",)),
    }
    assert [group.source for group in plan(acting(Cell(blocks))).groups] == ["h", "g before"]


class Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """How many operations PyTorch does."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        self.operations += 1
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize(("cell", "operations"), [(basic(), 2), (gru(), 5), (lstm(), 7)])
def test_a_step_more_takes_few_operations_more(cell: Cell, operations: int) -> None:
    layer = CellLayer(cell, HIDDEN, HIDDEN)
    found = []
    for steps in (3, 4):
        values = torch.randn(steps, BATCH, HIDDEN)
        with Counted() as counted:
            layer(values, layer.start(BATCH, values))
        found.append(counted.operations)
    assert found[1] - found[0] == operations


def test_states_that_no_output_needs_stay_as_they_were() -> None:
    blocks = {**basic().blocks, "c_more": Block(("c", "a"), "add"), "c_next": Block(("c_more",))}
    layer = CellLayer(Cell(blocks), HIDDEN, HIDDEN)
    values, c = torch.randn(STEPS, BATCH, HIDDEN), torch.randn(BATCH, HIDDEN)
    outputs, states = layer(values, (c, c))
    expected, others = layer.interpret(values, (c, c))
    torch.testing.assert_close((outputs, states[0]), (expected, others[0]))
    assert torch.equal(states[1], c)


@pytest.mark.parametrize("tokens", [True, False])
def test_states_carried_over_make_one_sequence_of_two_pieces(tokens: bool) -> None:
    torch.manual_seed(0)
    network = RecurrentNetwork(lstm(), SequenceShape(inputs=6, outputs=3, tokens=tokens), HIDDEN, layers=2)
    inputs = torch.randint(6, (BATCH, STEPS)) if tokens else torch.randn(BATCH, STEPS, 6)
    whole, end = network(inputs)
    assert whole.shape == (BATCH, STEPS, 3)
    first, state = network(inputs[:, :3])
    second, last = network(inputs[:, 3:], detached(state))
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(last, end)
    torch.testing.assert_close(network.interpret(inputs)[0], whole)
    for parameter in network.parameters():
        parameter.grad = None
    second.sum().backward()
    assert all(each.grad is not None for each in network.parameters())
    assert all(not each.requires_grad for layer in detached(state) for each in layer)


def test_weights_start_as_stated() -> None:
    network = RecurrentNetwork(gru(), SequenceShape(inputs=50, outputs=9, tokens=True), 64)
    assert isinstance(network.encoder, nn.Embedding)
    assert 0.045 < network.encoder.weight.abs().max() <= 0.05
    assert 0.045 < network.decoder.weight.abs().max() <= 0.05
    assert not network.decoder.bias.any()
    for parameter in network.layers.parameters():
        assert 0.11 < parameter.abs().max() <= 0.125


def test_every_weight_of_a_seed_cell_learns() -> None:
    for cell in (basic(), gru(), lstm(), cornn()):
        network = RecurrentNetwork(cell, SequenceShape(inputs=3, outputs=2, tokens=False), HIDDEN)
        network(torch.randn(BATCH, STEPS, 3))[0].square().sum().backward()
        assert all(each.grad is not None and each.grad.abs().max() > 0 for each in network.parameters())
        assert sum(each.numel() for each in network.layers.parameters()) == parameter_count(cell, HIDDEN)


def test_dropout_acts_in_training_only() -> None:
    network = RecurrentNetwork(basic(), SequenceShape(inputs=3, outputs=2, tokens=False), HIDDEN, dropout=0.5)
    inputs = torch.randn(BATCH, STEPS, 3)
    assert not torch.equal(network(inputs)[0], network(inputs)[0])
    network.eval()
    assert torch.equal(network(inputs)[0], network(inputs)[0])


def test_an_input_of_another_size_is_read_through_weights_only() -> None:
    layer = CellLayer(cornn(), inputs=5, hidden=HIDDEN)
    values = torch.randn(STEPS, BATCH, 5)
    state = layer.start(BATCH, values)
    torch.testing.assert_close(layer(values, state)[0], layer.interpret(values, state)[0])
    with pytest.raises(CellError, match="block a: reads x of size 5 without weights, allowed is size 8"):
        CellLayer(Cell({"a": Block(("x", "h"), "add"), "h_next": Block(("a",)), "c_next": Block(("c",))}), 5, HIDDEN)


def test_gradients_of_a_backward_pass_free_what_it_kept() -> None:
    layer = CellLayer(lstm(), HIDDEN, HIDDEN)
    values = torch.randn(STEPS, BATCH, HIDDEN)
    outputs, _ = layer(values, layer.start(BATCH, values))
    kept = weakref.ref(outputs)
    del outputs
    assert kept() is None, "a circle of references would hold every batch until the next garbage collection"


@pytest.mark.parametrize(("cell", "matrices"), [(basic(), 2), (gru(), 6), (lstm(), 8)], ids=["rnn", "gru", "lstm"])
def test_the_flops_of_a_step_are_those_of_its_matrices_encoder_and_decoder(cell: Cell, matrices: int) -> None:
    shape = SequenceShape(4, 4, tokens=False)
    network = RecurrentNetwork(cell, shape, HIDDEN)
    by_hand = 2 * (matrices * HIDDEN * HIDDEN + 4 * HIDDEN + HIDDEN * 4)
    assert measures.forward_cost(network, shape).flops == by_hand


@pytest.mark.parametrize("tokens", [True, False])
def test_mixed_precision_leaves_cells_in_single_precision(tokens: bool) -> None:
    torch.manual_seed(0)
    network = RecurrentNetwork(lstm(), SequenceShape(inputs=4, outputs=4, tokens=tokens), HIDDEN, layers=2)
    inputs = torch.randint(4, (BATCH, STEPS)) if tokens else torch.randn(BATCH, STEPS, 4)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, state = network(inputs)
        network(inputs, detached(state))[0].float().square().sum().backward()
    torch.testing.assert_close(mixed.float(), network(inputs)[0], atol=2e-3, rtol=0.05)
    assert {tensor.dtype for layer in state for tensor in layer} == {torch.float32}
    assert all(parameter.grad is not None for parameter in network.parameters())
