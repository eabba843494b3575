"""Transformations of cells and what a child inherits."""

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nas_lib.spaces.recurrent import edits as changes
from nas_lib.spaces.recurrent.cell import Block, Cell, block_count, checked, connected, live, without_empty
from nas_lib.spaces.recurrent.edits import LEGACY, Edit, Edits, apply, crossover, mutate, random_cell
from nas_lib.spaces.recurrent.inheritance import inherit
from nas_lib.spaces.recurrent.network import RecurrentNetwork
from nas_lib.spaces.recurrent.seeds import basic, gru, lstm
from nas_lib.tasks.data import SequenceShape

NAMES: tuple[Edit, ...] = get_args(Edit)
SHAPE = SequenceShape(inputs=3, outputs=2, tokens=False)
SEEDS = {"basic": without_empty(basic()), "gru": without_empty(gru()), "lstm": without_empty(lstm())}
seeds = st.integers(0, 2**32 - 1)


def tries(cell: Cell, edit: Edit, count: int = 300, edits: Edits | None = None) -> list[tuple[Cell, changes.Record]]:
    rng = np.random.default_rng(0)
    return [apply(edit, cell, rng, edits) for _ in range(count)]


@settings(max_examples=40, deadline=None)
@given(seeds, st.lists(st.sampled_from(NAMES), max_size=12))
def test_any_transformations_leave_a_valid_connected_cell_without_dead_blocks(seed: int, names: list[Edit]) -> None:
    rng = np.random.default_rng(seed)
    cell = random_cell(rng)
    for name in names:
        before = cell
        cell, record = apply(name, cell, rng)
        checked(cell)
        assert connected(cell)
        assert live(cell) == set(cell.blocks)
        assert set(record.added) == set(cell.blocks) - set(before.blocks)
        assert set(record.removed) == set(before.blocks) - set(cell.blocks)
        assert record.changed or cell == before
        assert all(len(cell.blocks[state].inputs) == 1 for state in cell.outputs)
    checked(without_empty(cell))


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_released_transformations_leave_a_valid_cell_too(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cell, _ = mutate(random_cell(rng, LEGACY), rng, 10, LEGACY)
    checked(cell)


def test_the_same_generator_gives_the_same_cell() -> None:
    first, second = (random_cell(np.random.default_rng(4)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("edit", "counts"),
    [("remove_unit", (1, 3, 5)), ("remove_connection", (1, 4, 5)), ("change_combination_connection", (1, 8, 8))],
)
def test_blocks_that_a_transformation_can_change_in_the_seed_cells(edit: Edit, counts: tuple[int, ...]) -> None:
    found = []
    for cell in (basic(), gru(), lstm()):
        targets = set()
        for changed, _ in tries(cell, edit, edits=LEGACY):
            targets.add(
                next((name for name in cell.blocks if name not in changed.blocks), "")
                or next(name for name in cell.blocks if cell.blocks[name] != changed.blocks[name])
            )
        found.append(len(targets))
    assert tuple(found) == counts


@pytest.mark.parametrize("edit", ["remove_unit", "remove_connection"])
def test_released_destructive_transformations_remove_one_block(edit: Edit) -> None:
    for cell in SEEDS.values():
        assert {block_count(changed) - block_count(cell) for changed, _ in tries(cell, edit, 50, LEGACY)} == {-1}


def test_a_removed_connection_takes_along_what_nothing_reads_any_more() -> None:
    sizes = {
        block_count(changed) - block_count(SEEDS["gru"]) for changed, _ in tries(SEEDS["gru"], "remove_connection")
    }
    assert min(sizes) < -1


@pytest.mark.parametrize(("name", "share"), [("basic", 0.25), ("gru", 0.125), ("lstm", 0.145)])
def test_add_unit_does_nothing_as_often_as_it_must(name: str, share: float) -> None:
    found = tries(SEEDS[name], "add_unit", 600)
    nothing = [not record.changed for _, record in found]
    assert np.mean(nothing) == pytest.approx(share, abs=0.05)
    twice = [len(record.added) == 2 for _, record in found if record.changed]
    assert np.mean(twice) == pytest.approx(5 / 7 / 2, abs=0.07)


def test_connections_from_x_bring_a_linear_block_that_stays() -> None:
    for changed, record in tries(SEEDS["lstm"], "add_connection"):
        linear = [changed.blocks[name] for name in record.added if changed.blocks[name].weighted]
        assert len(record.added) == 1 + len(linear)
        assert all(block.inputs == ("x",) and block.immutable for block in linear)


def test_a_gate_adds_five_blocks_or_four_with_the_constant() -> None:
    found = [len(record.added) for changed, record in tries(SEEDS["lstm"], "add_gate", 600)]
    assert set(found) == {4, 5}
    assert np.mean([count == 4 for count in found]) == pytest.approx(1 / 6, abs=0.05)


def test_blocks_keep_their_names_when_something_is_added_to_them() -> None:
    for edit in ("add_unit", "add_connection", "add_recurrent_connection", "add_gate"):
        for changed, _ in tries(SEEDS["lstm"], edit, 50):
            for name, block in SEEDS["lstm"].blocks.items():
                assert changed.blocks[name].activation == block.activation
                assert changed.blocks[name].combination == block.combination


def test_a_change_that_can_do_nothing_says_why() -> None:
    cell = Cell({"a": Block(("x", "h"), "elem_mul"), "h_next": Block(("a",)), "c_next": Block(("c",))})
    for edit in ("add_unit", "remove_unit", "remove_connection", "change_random_activation"):
        changed, record = apply(edit, cell, np.random.default_rng(0))
        assert changed is cell
        assert not record.changed
        assert record.text.startswith("nothing: ")


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_a_child_of_two_cells_has_blocks_of_both_and_is_valid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = (mutate(SEEDS["lstm"], rng, 3)[0] for _ in range(2))
    child, record = crossover(first, second, rng)
    checked(child)
    assert connected(child)
    assert all(block in (first.blocks.get(name), second.blocks.get(name)) for name, block in child.blocks.items())
    assert record.changed == (child != first)


def test_equal_cells_and_cells_with_other_states_have_nothing_to_exchange() -> None:
    other = Cell({"h_next": Block(("x", "h"), "add")}, (("h", "h_next"),))
    for second in (lstm(), other):
        child, record = crossover(lstm(), second, np.random.default_rng(0))
        assert (child, record.changed) == (lstm(), False)


def test_a_change_that_would_cut_the_output_off_is_not_made() -> None:
    cell = Cell({"a": Block(("x", "h"), "add"), "h_next": Block(("a",)), "c_next": Block(("c",))})
    changed, record = apply("remove_connection", cell, np.random.default_rng(0))
    assert (changed, record.changed) == (cell, False)
    assert "cut the output off" in record.text


@pytest.mark.parametrize(
    "given",
    [
        {"transformations": {"add_unit": 0}},
        {"transformations": {"add": 1}},
        {"transformations": {"add_unit": 0, "remove_unit": 1}},
        {"activations": {"swish": 1}},
        {"activations": {"none": 1}},
    ],
)
def test_frequencies_are_of_what_exists_and_random_cells_can_begin_with(given: dict[str, dict[str, int]]) -> None:
    with pytest.raises(ValidationError):
        Edits.model_validate(given)


def outputs(network: RecurrentNetwork, inputs: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = network(inputs)[0].detach()
    return result


def changes_of_output(edit: Edit, edits: Edits, count: int = 60) -> list[tuple[changes.Record, Cell, float]]:
    """Per try on the LSTM cell: record, child, and the largest change of the outputs with preserving inheritance."""
    torch.manual_seed(0)
    rng, cell, inputs = np.random.default_rng(0), SEEDS["lstm"], torch.randn(2, 5, 3, dtype=torch.float64)
    parent = RecurrentNetwork(cell, SHAPE, 4).double()
    found = []
    for _ in range(count):
        changed, record = apply(edit, cell, rng, edits)
        child = RecurrentNetwork(changed, SHAPE, 4).double()
        inherit(parent.state_dict(), child, "preserving", [record])
        found.append((record, changed, float((outputs(child, inputs) - outputs(parent, inputs)).abs().max())))
    return found


def test_add_unit_preserves_the_function_with_a_linear_block_or_identity() -> None:
    for record, changed, change in changes_of_output("add_unit", Edits()):
        activations = {changed.blocks[name].activation for name in record.added}
        if activations <= {"linear", "linear_b", "identity"}:
            assert change < 1e-12


@pytest.mark.parametrize("edit", ["add_connection", "add_recurrent_connection"])
def test_weighted_connections_preserve_the_function(edit: Edit) -> None:
    found = changes_of_output(edit, Edits(weighted_connections=True))
    assert all(record.changed for record, _, _ in found)
    assert max(change for _, _, change in found) < 1e-12
    from_x = [change for record, _, change in changes_of_output(edit, Edits(), 120) if record.text.startswith("x to ")]
    assert from_x
    assert max(from_x) < 1e-12


def test_gates_preserve_the_function_wherever_they_can_give_zero() -> None:
    found = changes_of_output("add_gate", Edits())
    preserved = [change for record, _, change in found if record.starts]
    assert len(preserved) > len(found) / 3
    assert max(preserved) < 1e-12
    assert all(
        record.text.startswith(("sigmoid", "relu")) or "of sub of 1" in record.text
        for record, _, _ in found
        if not record.starts
    )


def test_remove_unit_preserves_the_function_with_identity_alone() -> None:
    cell = Cell({**SEEDS["lstm"].blocks, "i": Block(("s_i",), activation="identity")})
    torch.manual_seed(0)
    inputs, parent = torch.randn(2, 5, 3), RecurrentNetwork(cell, SHAPE, 4)
    for changed, record in tries(cell, "remove_unit", 30):
        child = RecurrentNetwork(changed, SHAPE, 4)
        inherit(parent.state_dict(), child)
        assert torch.equal(outputs(child, inputs), outputs(parent, inputs)) == ("identity" in record.text)


@pytest.mark.parametrize("edit", ["remove_connection", "change_combination_connection", "change_random_activation"])
def test_other_transformations_promise_nothing(edit: Edit) -> None:
    assert all(not record.starts and change > 0 for record, _, change in changes_of_output(edit, Edits(), 10))


def test_new_blocks_that_start_at_zero_can_learn() -> None:
    rng, parent = np.random.default_rng(0), RecurrentNetwork(SEEDS["lstm"], SHAPE, 4)
    for _ in range(20):
        changed, record = apply("add_gate", SEEDS["lstm"], rng)
        child = RecurrentNetwork(changed, SHAPE, 4)
        inherit(parent.state_dict(), child, "preserving", [record])
        child(torch.randn(2, 5, 3))[0].square().sum().backward()
        if record.starts and "to ho" in record.text:
            weights = [child.cells()[0].linear(name).weight for name in record.starts]
            assert any(weight.grad is not None and weight.grad.abs().max() > 0 for weight in weights)


def test_a_child_has_its_parents_weights_by_name_and_inheriting_twice_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    parent = RecurrentNetwork(SEEDS["gru"], SHAPE, 4)
    for _ in range(10):
        changed, _ = mutate(SEEDS["gru"], rng, 3)
        child = RecurrentNetwork(changed, SHAPE, 4)
        shapes = {name: tensor.shape for name, tensor in child.state_dict().items()}
        new = inherit(parent.state_dict(), child)
        once = {name: tensor.clone() for name, tensor in child.state_dict().items()}
        assert all(torch.equal(once[name], parent.state_dict()[name]) for name in once if name not in new)
        assert all(name not in parent.state_dict() for name in new)
        inherit(parent.state_dict(), child)
        assert all(torch.equal(once[name], tensor) for name, tensor in child.state_dict().items())
        assert shapes == {name: tensor.shape for name, tensor in child.state_dict().items()}


def test_the_released_sum_takes_the_name_of_a_linear_block_whose_weights_are_lost() -> None:
    parent = RecurrentNetwork(SEEDS["lstm"], SHAPE, 4)

    def lost(edits: Edits) -> int:
        found = 0
        for changed, _ in tries(SEEDS["lstm"], "add_connection", 60, edits):
            child = RecurrentNetwork(changed, SHAPE, 4)
            inherit(parent.state_dict(), child)
            found += len(set(parent.state_dict()) - set(child.state_dict()))
        return found

    assert lost(Edits()) == 0
    assert lost(LEGACY) > 0
