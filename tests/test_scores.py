"""Scores without training: formulas against values computed by hand, and what they do with networks of every space."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nas_lib.scores import ScoreError, ranks, score
from nas_lib.scores.batch import Batch, batch_of, loss_of, random_tokens
from nas_lib.scores.catalogue import SCORES
from nas_lib.scores.formulas import (
    alignment,
    cosine_score,
    covariance_score,
    fading_score,
    kernel_of,
    log_determinant,
    recall_score,
)
from nas_lib.spaces.generator import ErdosRenyi, GeneratorSpace
from nas_lib.spaces.recurrent.language_model import language_model
from nas_lib.spaces.recurrent.network import RecurrentNetwork
from nas_lib.spaces.recurrent.recipes import from_recipe
from nas_lib.spaces.transformer.space import TransformerSpace
from nas_lib.tasks.data import SequenceShape, Shape, TextData

ZERO = 99_988.48707
"""What one zero eigenvalue costs."""
ATTENTION = ("head_importance", "head_confidence", "softmax_confidence", "synaptic_diversity")


def language(seed: int = 0, **sizes: int) -> RecurrentNetwork:
    torch.manual_seed(seed)
    return language_model(from_recipe(TWO_STATES), **{"words": 50, "embedding": 6, "hidden": 8, **sizes})


TWO_STATES = {
    "n": {"op": "linear", "input": ["x", "h_prev_0", "h_prev_1"]},
    "h_new_0": {"op": "activation_tanh", "input": ["n"]},
    "h_new_1": {"op": "blend", "input": ["n", "h_new_0", "h_prev_1"]},
}
TOKENS = random_tokens(50, 4, 10, np.random.default_rng(0))


# --- formulas --------------------------------------------------------------------------------------


def two_rows(correlation: float) -> Tensor:
    """Two rows with exactly this correlation."""
    first, second = torch.tensor([1.0, -1, 1, -1]).double(), torch.tensor([1.0, 1, -1, -1]).double()
    return torch.stack([first, correlation * first + math.sqrt(1 - correlation**2) * second])


@pytest.mark.parametrize(("correlation", "value"), [(0.0, -2.0), (0.5, -2.3789668), (0.9, -8.8646872)])
def test_covariance_score_of_two_rows(correlation: float, value: float) -> None:
    assert covariance_score(two_rows(correlation)) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(("count", "value"), [(2, -99_989.680), (4, -299_967.098), (50, -4_899_439.799)])
def test_covariance_score_of_equal_rows_is_that_of_zero_eigenvalues(count: int, value: float) -> None:
    rows = torch.randn(1, 7, generator=torch.Generator().manual_seed(0)).repeat(count, 1)
    assert covariance_score(rows) == pytest.approx(value, rel=1e-4)


def test_covariance_score_of_uncorrelated_rows_is_their_number() -> None:
    hadamard = torch.ones(1, 1)
    for _ in range(4):
        hadamard = torch.cat([torch.cat([hadamard, hadamard], 1), torch.cat([hadamard, -hadamard], 1)])
    assert covariance_score(hadamard[1:]) == pytest.approx(-15, rel=1e-6)


rows_of = st.integers(0, 10_000).map(
    lambda seed: torch.randn(5, 30, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
)


@settings(max_examples=20, deadline=None)
@given(rows_of, st.integers(0, 1000))
def test_covariance_score_does_not_see_order_scale_shift_or_sign(rows: Tensor, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    value = covariance_score(rows)
    assert value <= -5 + 1e-9
    changed = rows[torch.randperm(5, generator=generator)][:, torch.randperm(30, generator=generator)]
    changed = changed * torch.tensor([2.0, -1, 0.1, -30, 1])[:, None] + torch.arange(5)[:, None]
    assert covariance_score(changed) == pytest.approx(value, rel=1e-6)
    assert covariance_score(torch.cat([rows, -rows[:1]])) == pytest.approx(value - ZERO, rel=0.01)


@pytest.mark.parametrize("broken", [0.0, math.nan, math.inf])
def test_a_row_without_variance_or_an_overflow_is_not_finite_and_no_exception(broken: float) -> None:
    rows = torch.randn(3, 9)
    rows[1] = broken
    assert math.isnan(covariance_score(rows))
    assert math.isnan(cosine_score(rows * 0 if broken == 0 else rows))


def test_a_constant_row_has_no_variance_whatever_its_mean_is_rounded_to() -> None:
    rows = torch.randn(3, 70, dtype=torch.float64)
    rows[1] = 0.1
    assert math.isnan(covariance_score(rows))


def test_cosine_score_is_a_half_for_parallel_and_1_for_orthogonal_rows() -> None:
    row = torch.randn(1, 20)
    assert cosine_score(torch.cat([row, -row, 3 * row])) == pytest.approx(0.5, abs=1e-9)
    assert cosine_score(torch.eye(6)) == 1


def test_the_kernel_counts_bits_in_common_and_equal_codes_are_minus_infinity() -> None:
    codes = torch.tensor([[1, 0, 1], [1, 1, 1]]).bool()
    assert kernel_of(codes).tolist() == [[3, 2], [2, 3]]
    assert log_determinant(kernel_of(codes)) == pytest.approx(math.log(5))
    assert log_determinant(kernel_of(codes[[0, 0]])) == -math.inf


def test_alignment_is_1_for_the_label_matrix_scaled_and_shifted() -> None:
    classes = torch.tensor([0, 1, 1, 2, 0])
    same = (classes[:, None] == classes[None]).double()
    assert alignment(3 * same + 7, classes) == pytest.approx(1)
    kernel = torch.randn(5, 5, dtype=torch.float64)
    order = torch.tensor([4, 2, 0, 1, 3])
    assert alignment(10 * kernel, classes) == pytest.approx(alignment(kernel[order][:, order], classes[order]))
    assert math.isnan(alignment(kernel, classes * 0))


def shifted(steps: int, back: list[int]) -> tuple[Tensor, Tensor]:
    """Random inputs (30, steps, 2), and features that are those so many positions earlier, side by side."""
    inputs = torch.randn(30, steps, 2, generator=torch.Generator().manual_seed(0))
    return inputs, torch.cat([inputs.roll(each, dims=1) for each in back], dim=-1)


def test_recall_counts_the_inputs_that_a_linear_readout_finds() -> None:
    found, missing = math.log(1.01), math.log(0.01)
    for back in ([0], [1], [0, 1], [0, 1, 2, 3]):
        expected = len(back) * found + (4 - len(back)) * missing
        assert recall_score(*shifted(40, back)) == pytest.approx(expected, abs=0.5), back
    assert recall_score(*shifted(40, [4])) == pytest.approx(4 * missing, abs=0.5), "too long ago"


def test_recall_does_not_see_scale_shift_or_a_feature_that_never_varies() -> None:
    inputs, features = shifted(30, [0, 2])
    changed = torch.cat([features * torch.tensor([3.0, -1, 0.2, 100]) - 7, torch.ones(30, 30, 1)], dim=-1)
    assert recall_score(inputs, changed) == pytest.approx(recall_score(inputs, features), rel=1e-6)
    assert math.isnan(recall_score(inputs, features * math.inf))
    assert math.isnan(recall_score(inputs * 0, features))


@pytest.mark.parametrize(("factor", "value"), [(1.0, 0.0), (0.5, 5 * math.log(0.5)), (2.0, -5 * math.log(2))])
def test_gradients_that_fade_or_grow_lose_by_what_five_positions_change(factor: float, value: float) -> None:
    back = torch.arange(9, -1, -1)
    gradients = torch.ones(3, 10, 4) * factor ** back[None, :, None]
    assert fading_score(gradients) == pytest.approx(value)
    gradients[:, -1] = 0
    assert fading_score(gradients) == -math.inf


def test_a_cell_that_answers_a_step_late_has_no_gradient_memory() -> None:
    late = {
        "now": {"op": "linear", "input": ["x", "h_prev_1"]},
        "h_new_1": {"op": "activation_tanh", "input": ["now"]},
        "then": {"op": "linear", "input": ["h_prev_0", "h_prev_1"]},
        "h_new_0": {"op": "activation_tanh", "input": ["then"]},
    }
    network = language_model(from_recipe(late), words=50, embedding=6, hidden=8)
    assert score(network, TOKENS, ["gradient_memory"]).values["gradient_memory"] == -math.inf
    assert -20 < score(language(seed=2), TOKENS, ["gradient_memory"]).values["gradient_memory"] < 0


def test_scores_of_sequences_say_what_they_need() -> None:
    found = score(nn.Linear(2, 2), Batch(torch.ones(3, 2)), ["recall", "gradient_memory"])
    assert set(found.inapplicable) == {"recall", "gradient_memory"}
    short = random_tokens(50, 4, 5, np.random.default_rng(0))
    found = score(language(), short, ["recall", "gradient_memory"])
    assert found.inapplicable == {
        "recall": "needs 3 sequences or more, of more than 8 positions",
        "gradient_memory": "needs sequences of more than 5 positions",
    }


def test_not_finite_values_rank_last() -> None:
    assert ranks([2.0, math.nan, -5.0, math.inf, 2.0]).tolist() == [4.5, 1.5, 3.0, 1.5, 4.5]


# --- by hand ---------------------------------------------------------------------------------------


class Small(nn.Module):
    """y = b . relu(A x), in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
        self.first.weight.data = torch.tensor([[1.0, -2], [3, 1]])
        self.second.weight.data = torch.tensor([[2.0, -1]])
        self.double()

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, 2) to (n, 1)."""
        out: Tensor = self.second(torch.relu(self.first(inputs)))
        return out


def test_scores_of_a_small_network_by_hand() -> None:
    # x = (3, 1): A x = (1, 10), y = -8; target -7, L = (y + 7)^2 = 1, dL/dy = -2.
    batch = Batch(torch.tensor([[3.0, 1]]).double(), torch.tensor([[-7.0]]).double())
    names = ["snip", "plain", "gradient_norm", "fisher", "grasp", "synaptic_saliency", "synflow", "nodes", "depth"]
    found = score(Small(), batch, names).values
    # dL/db = (-2, -20); dL/dA = -2 (2, -1)' (3, 1) = ((-12, -4), (6, 2)).
    assert found["snip"] == pytest.approx((4 + 20) + (12 + 8 + 18 + 2))
    assert found["plain"] == pytest.approx(-4 + 20 + (-12 + 8 + 18 + 2))
    assert found["gradient_norm"] == pytest.approx(math.sqrt(4 + 400) + math.sqrt(144 + 16 + 36 + 4))
    # Outputs of layers: A x with dL/d(Ax) = -2 (2, -1), y with -2.
    assert found["fisher"] == pytest.approx(0.5 * ((1 * -4) ** 2 + (10 * 2) ** 2 + (-8 * -2) ** 2))
    # w . dy/dw with dy/dw of degree 2 in w; features are the outputs, y = -8.
    assert found["synaptic_saliency"] == pytest.approx(8 * ((2 + 10) + (2 * 3 + 4 * 1 + 3 * 3 + 1)))
    # |A| 1 = (3, 4), |b| = (2, 1): R = 10, and sum abs(w dR/dw) = R once per layer.
    assert found["synflow"] == pytest.approx(2 * 10)
    assert found["nodes"] == found["depth"] == 2
    # L = (w' M w + 7)^2: H g by finite differences of the gradient.
    network = Small()
    weights = list(network.parameters())

    def gradient() -> list[Tensor]:
        return list(torch.autograd.grad(loss_of(network(batch.inputs), torch.tensor([[-7.0]]).double()), weights))

    before = gradient()
    for weight, direction in zip(weights, before, strict=True):
        weight.data += 1e-6 * direction
    curved = [(b - a) / 1e-6 for a, b in zip(before, gradient(), strict=True)]
    expected = -sum(float((w.detach() * c).sum()) for w, c in zip(Small().parameters(), curved, strict=True))
    assert found["grasp"] == pytest.approx(expected, rel=1e-4)


def test_activation_distance_of_a_small_network_by_hand() -> None:
    # Codes of A x: (1, 1) and (0, 1), one bit of two in common.
    batch = Batch(torch.tensor([[3.0, 1], [0, 1]]).double())
    assert score(Small(), batch, ["activation_distance"]).values["activation_distance"] == pytest.approx(math.log(3))


# --- recurrent networks ----------------------------------------------------------------------------

RECIPES: dict[str, Any] = {
    "A": {"n": ("linear", "x", "h_prev_0"), "h_new_0": ("activation_tanh", "n")},
    "B": {
        "n2": ("linear", "x", "h_prev_0"),
        "n3": ("activation_leaky_relu", "n2"),
        "n9": ("linear", "x", "n3"),
        "h_new_0": ("activation_sigm", "n9"),
    },
    "C": {
        "n2": ("linear", "h_prev_1", "x"),
        "n8": ("linear", "h_prev_0", "x"),
        "h_new_0": ("activation_sigm", "n8"),
        "h_new_1": ("activation_leaky_relu", "n2"),
    },
    "D": {
        "h_new_1": ("activation_tanh", "n12"),
        "n12": ("linear", "h_new_0", "h_prev_1"),
        "n3": ("linear", "h_prev_0", "x"),
        "h_new_0": ("activation_leaky_relu", "n3"),
    },
}
MEASURED = {
    "A": ((-754, -629), (-1510, -973), (-926, -526)),
    "B": ((-1.21e6, -1.05e6), (-4.22e6, -4.02e6), (-4.78e6, -4.66e6)),
    "C": ((-6.82e5, -6.46e5), (-4.02e6, -3.98e6), (-4.95e6, -4.84e6)),
    "D": ((-389, -292), (-2109, -1596), (-6151, -2926)),
}
"""Recipe -> ranges of the hidden covariance of each layer over five seeds, at E64 H96 B25 T35 (independent program)."""


def recipe_network(name: str, *, words: int = 1000, embedding: int = 64, hidden: int = 96) -> RecurrentNetwork:
    nodes = {node: {"op": op, "input": inputs} for node, (op, *inputs) in RECIPES[name].items()}
    torch.manual_seed(0)
    return language_model(from_recipe(nodes), words, embedding, hidden)


def test_hidden_covariance_of_four_recipes_of_the_benchmark() -> None:
    batch = random_tokens(1000, 25, 35, np.random.default_rng(0))
    found = {}
    for name, layers in MEASURED.items():
        values = score(recipe_network(name), batch, [f"hidden_covariance_{layer}" for layer in (1, 2, 3)]).values
        for value, (low, high) in zip(values.values(), layers, strict=True):
            assert 2 * low < value < high / 2, name
        found[name] = values["hidden_covariance_1"]
    assert min(found["A"], found["D"]) > -1e4 > -1e5 > found["C"] > found["B"]


def test_hidden_covariance_reads_the_states_before_each_step_and_their_first_one_alone() -> None:
    network = language()
    values = network.encoder(TOKENS.inputs.T)
    for place, layer in enumerate(network.cells()):
        steps = list(layer.steps(values, layer.start(4, values)))
        fed = torch.stack([torch.zeros(4, layer.hidden), *[states[0] for states in steps[:-1]]])
        rows = torch.stack([fed[:, :, unit].flatten() for unit in range(layer.hidden)])
        name = f"hidden_covariance_{place + 1}"
        assert score(network, TOKENS, [name]).values[name] == pytest.approx(covariance_score(rows), rel=1e-3)
        values = torch.stack([states[0] for states in steps])


@pytest.mark.parametrize("size", [3, 9])
def test_hidden_covariance_correlates_units_whatever_the_batch(size: int) -> None:
    # A cell with one state for all units: rank 1, so that each unit but one costs 1e5.
    network = recipe_network("A", words=20, embedding=5, hidden=7)
    for layer in network.cells():
        for parameter in layer.parameters():
            parameter.data[:] = parameter.data[:1]
    batch = random_tokens(20, size, 12, np.random.default_rng(1))
    values = score(network, batch, ["hidden_covariance_1", "hidden_covariance_last"]).values
    assert values["hidden_covariance_1"] == pytest.approx(-6 * ZERO, rel=1e-3)
    assert values["hidden_covariance_last"] == pytest.approx(-4 * ZERO, rel=1e-3)


def test_layers_that_nobody_asks_for_are_not_run() -> None:
    network = language()
    network.layers[1].forward = None  # type: ignore[assignment]
    assert "hidden_covariance_1" in score(network, TOKENS, ["hidden_covariance_1"]).values
    with pytest.raises(TypeError):
        score(network, TOKENS, ["hidden_covariance_2"])


def test_the_jacobian_has_one_row_per_sequence_that_the_others_do_not_touch() -> None:
    network, batch = language(), random_tokens(50, 3, 4, np.random.default_rng(2))
    entered = network.encoder(batch.inputs.T).detach().requires_grad_()
    values = entered
    for layer in network.cells():
        values, _ = layer(values, layer.start(3, values))
    jacobian = torch.autograd.grad(values.sum(), entered)[0].transpose(0, 1).flatten(1)
    found = score(network, batch, ["jacobian_covariance", "jacobian_cosine"]).values
    assert found["jacobian_covariance"] == pytest.approx(covariance_score(jacobian), rel=1e-3)
    assert found["jacobian_cosine"] == pytest.approx(cosine_score(jacobian), rel=1e-4)
    other = score(recipe_network("A", words=50, embedding=6, hidden=8), batch, list(found)).values
    assert other["jacobian_covariance"] != pytest.approx(found["jacobian_covariance"], rel=1e-2)


def test_hidden_saliency_follows_states_through_later_steps() -> None:
    """h' = h + x W with one unit: h_t is an output itself, and part of all later ones."""
    cell = from_recipe(
        {"n": {"op": "linear", "input": ["x", "x"]}, "h_new_0": {"op": "elementwise_sum", "input": ["n", "h_prev_0"]}}
    )
    network = RecurrentNetwork(cell, SequenceShape(1, 1, tokens=False), 1)
    batch = Batch(torch.ones(1, 4, 1))
    states = next(layer.detach().flatten() for layer, _ in network.through(batch.inputs))
    expected = sum(abs(float(state)) * (4 - step) for step, state in enumerate(states[:-1]))
    assert score(network, batch, ["hidden_saliency"]).values["hidden_saliency"] == pytest.approx(expected)


def test_activation_distance_reads_all_activations_of_all_steps() -> None:
    network, codes = language(), []
    values = network.encoder(TOKENS.inputs.T)
    for layer in network.cells():
        steps = list(layer.steps(values, layer.start(4, values)))
        values = torch.stack([states[0] for states in steps])
        codes.append(values.transpose(0, 1).flatten(1) > 0)
    expected = log_determinant(kernel_of(torch.cat(codes, 1)))
    assert score(network, TOKENS, ["activation_distance"]).values["activation_distance"] == pytest.approx(expected)


def test_sigmoids_count_by_the_sign_of_their_input() -> None:
    nodes = {"n": {"op": "linear", "input": ["x", "h_prev_0"]}, "h_new_0": {"op": "activation_sigm", "input": ["n"]}}
    network = RecurrentNetwork(from_recipe(nodes), SequenceShape(3, 1, tokens=False), 8)
    found = score(network, Batch(torch.randn(3, 5, 3)), ["activation_distance"])
    assert math.isfinite(found.values["activation_distance"]), "constant codes would have no determinant"


# --- networks of every space -----------------------------------------------------------------------


class Heads(nn.Module):
    """One layer of self-attention that shows what it computes."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.count = heads
        self.query, self.key, self.value, self.project = (nn.Linear(hidden, hidden) for _ in range(4))

    def operation_linears(self) -> list[nn.Linear]:
        """All of its layers."""
        return [self.query, self.key, self.value, self.project]

    def trace(self, values: Tensor) -> "Shown":
        """(n, time, hidden)."""
        query, key, value = (
            linear(values).unflatten(-1, (self.count, -1)).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        attention = (query @ key.mT / math.sqrt(query.shape[-1])).softmax(-1)
        heads = attention @ value
        return Shown(heads, attention, values + torch.tanh(self.project(heads.transpose(1, 2).flatten(-2))))


@dataclass(frozen=True)
class Shown:
    """What a layer computes."""

    heads: Tensor
    attention: Tensor | None
    output: Tensor


class Attending(nn.Module):
    """Tokens to classes by two layers of attention."""

    def __init__(self, words: int = 50, hidden: int = 8, classes: int = 3, heads: int = 2) -> None:
        super().__init__()
        self.embedding, self.decoder = nn.Embedding(words, hidden), nn.Linear(hidden, classes)
        self.layers = nn.ModuleList(Heads(hidden, heads) for _ in range(2))

    def encoder_layers(self) -> list[Any]:
        """The layers."""
        return list(self.layers)

    def traced(self, inputs: Tensor) -> tuple[Tensor, list[Shown]]:
        """Outputs, and what the layers show."""
        values, shown = self.embedding(inputs), []
        for layer in self.encoder_layers():
            shown.append(layer.trace(values))
            values = shown[-1].output
        return self.decoder(values.mean(1)), shown

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, classes)."""
        return self.traced(inputs)[0]


def attending() -> tuple[nn.Module, Batch]:
    torch.manual_seed(0)
    return Attending(), Batch(TOKENS.inputs, torch.tensor([0, 1, 2, 1]))


def convolving() -> tuple[nn.Module, Batch]:
    space = GeneratorSpace(
        levels=(ErdosRenyi(model="ER", nodes=4, p=0.7),), parameters=3000, head_channels=8,
        operations={"conv3x3": 1.0, "avg_pool3x3": 1.0}, merge={"sum": 1.0, "concat": 1.0, "attention": 1.0},
    )  # fmt: skip
    torch.manual_seed(0)
    network = space.build(space.sample(np.random.default_rng(0)), Shape(3, 16, 16, classes=4))
    return network, Batch(torch.randn(5, 3, 16, 16), torch.tensor([0, 1, 2, 3, 1]))


def recurring() -> tuple[nn.Module, Batch]:
    return language(seed=2), TOKENS  # others saturate, and have no gradients


SPACES = {"recurrent": recurring, "generator": convolving, "attention": attending}


@pytest.mark.parametrize("space", SPACES)
def test_every_score_gives_a_number_or_one_line(space: str) -> None:
    network, batch = SPACES[space]()
    found = score(network, batch, list(SCORES))
    assert set(found.values) | set(found.inapplicable) == set(SCORES)
    assert all("\n" not in reason for reason in found.inapplicable.values())
    hidden = {name for name in SCORES if name.startswith("hidden_covariance")}
    lacking = {
        "recurrent": set(ATTENTION),
        "generator": {*ATTENTION, *hidden, "hidden_saliency", "recall", "gradient_memory"},
        "attention": {"hidden_saliency", "hidden_covariance_3", "gradient_memory"},
    }
    assert set(found.inapplicable) == lacking[space]
    assert all(math.isfinite(value) for value in found.values.values()), found.values


def test_gradients_of_an_encoder_are_those_of_its_answer_and_not_of_rounding() -> None:
    torch.manual_seed(0)
    space = TransformerSpace(hidden=(16,), layers=(2,), heads=(2,), feed_forward=(16,), stacks=(1,))
    network = space.build(space.sample(np.random.default_rng(0)), SequenceShape(50, 3, tokens=True))
    names = ["jacobian_covariance", "jacobian_cosine", "synaptic_saliency", "gradient_memory"]
    single = score(network, TOKENS, names)
    assert score(network.double(), TOKENS, names).values == pytest.approx(single.values, rel=1e-3)
    why = "needs an answer at the last position, and TransformerNetwork shows none"
    assert single.inapplicable == {"gradient_memory": why}


@pytest.mark.parametrize("space", SPACES)
def test_scores_of_one_call_are_those_of_single_calls_and_leave_the_network_as_it_was(space: str) -> None:
    network, batch = SPACES[space]()
    network.train()
    next(network.parameters()).requires_grad_(False)
    before, state = copy.deepcopy(network.state_dict()), torch.random.get_rng_state()
    together = score(network, batch, list(SCORES)).values
    for name, value in together.items():
        alone = score(network, batch, [name]).values[name]
        assert alone == pytest.approx(value, rel=1e-2, abs=1e-6), name
    assert score(network, batch, list(SCORES)).values == together
    assert torch.equal(torch.random.get_rng_state(), state)
    assert network.training
    assert not next(network.parameters()).requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_scores_of_attention_by_hand() -> None:
    network, batch = attending()
    with torch.no_grad():
        _, shown = network.traced(batch.inputs)  # type: ignore[operator]
    found = score(network, batch, ATTENTION).values
    softmax = sum(float(shown[layer].attention[:, head].max(-1).values.mean()) for layer in (0, 1) for head in (0, 1))
    assert found["softmax_confidence"] == pytest.approx(softmax)
    heads = sum(float(shown[layer].heads[:, head].max(1).values.mean()) for layer in (0, 1) for head in (0, 1))
    assert found["head_confidence"] == pytest.approx(heads)
    # A factor of 1 per sample and head, and the gradient with respect to it.
    outputs, shown = network.traced(batch.inputs)  # type: ignore[operator]
    loss = loss_of(outputs, torch.tensor([0, 1, 2, 1]))
    pulls = torch.autograd.grad(loss, [layer.heads for layer in shown], retain_graph=True)
    importance = sum(
        float((layer.heads[n, head] * pull[n, head]).sum().abs().detach() / 4)
        for layer, pull in zip(shown, pulls, strict=True) for n in range(4) for head in (0, 1)
    )  # fmt: skip
    assert found["head_importance"] == pytest.approx(importance)
    matrices = [linear.weight for layer in network.encoder_layers() for linear in layer.operation_linears()]  # type: ignore[operator]
    diversity = sum(
        float((torch.linalg.svdvals(matrix).sum() * torch.linalg.svdvals(pull).sum()).detach())
        for matrix, pull in zip(matrices, torch.autograd.grad(loss, matrices), strict=True)
    )
    assert found["synaptic_diversity"] == pytest.approx(diversity, rel=1e-4)


def test_sizes_of_a_transformer_are_layers_times_hidden_size() -> None:
    network, batch = attending()
    found = score(network, batch, ["depth", "width", "depth_x_width", "parameters"]).values
    assert found == {"depth": 2, "width": 8, "depth_x_width": 16, "parameters": 50 * 8 + 8 * 72 + 27}


def test_a_network_that_overflows_has_values_that_are_not_finite() -> None:
    network = language()
    for parameter in network.parameters():
        parameter.data *= 1e30
    found = score(network, TOKENS, list(SCORES))
    assert set(found.inapplicable) == set(ATTENTION)
    assert not math.isfinite(found.values["snip"])


def test_lga_of_a_linear_network_by_hand() -> None:
    # Gradients of the summed outputs are the inputs twice and two ones: J J' = 2 x x' + 2.
    network = nn.Linear(2, 2)
    inputs, targets = torch.tensor([[1.0, 0], [1, 1], [0, -2]]), torch.tensor([0, 0, 1])
    expected = alignment(2 * inputs @ inputs.T + 2, targets)
    assert score(network, Batch(inputs, targets), ["lga"]).values["lga"] == pytest.approx(expected)
    one_class = score(network, Batch(inputs, targets * 0), ["lga"])
    assert one_class.inapplicable == {"lga": "needs samples of two classes or more, and the batch has one"}


def test_scores_without_targets_or_activations_say_so() -> None:
    found = score(nn.Linear(2, 2), Batch(torch.ones(3, 2)), ["snip", "lga", "activation_distance", "parameters"])
    assert found.values == {"parameters": 6}
    assert found.inapplicable["snip"] == "needs targets, and the batch has none"
    assert found.inapplicable["activation_distance"] == "needs activation functions, and Linear shows none"


def test_an_unknown_score_is_one_line() -> None:
    with pytest.raises(ScoreError, match="score 'snap': allowed are snip"):
        score(nn.Linear(2, 2), Batch(torch.ones(3, 2)), ["snap"])


def test_every_score_has_a_formula_and_sources_are_named() -> None:
    assert all(len(each.formula) > 20 and "\n" not in each.formula for each in SCORES.values())


def test_flops_of_a_sequence_are_those_of_all_its_steps() -> None:
    # Per step: one matrix (8, 6 + 8 + 8) and two more layers of the cell, and the decoder; two per multiply-add.
    network = recipe_network("A", words=50, embedding=6, hidden=8)
    per_step = 2 * (8 * (6 + 8) + 8 * (8 + 8) + 6 * (8 + 6) + 6 * 50)
    assert score(network, TOKENS, ["flops"]).values["flops"] == 10 * per_step


def test_sizes_of_a_network_for_images_are_those_of_its_plan() -> None:
    space = GeneratorSpace(levels=(ErdosRenyi(model="ER", nodes=3, p=1.0),), parameters=3000, head_channels=8)
    shape, genotype = Shape(3, 16, 16, classes=4), space.sample(np.random.default_rng(0))
    batch = Batch(torch.randn(2, 3, 16, 16), torch.tensor([0, 3]))
    found = score(space.build(genotype, shape), batch, ["parameters", "flops", "depth", "nodes"]).values
    plan = space.plan(genotype, shape)
    assert (found["parameters"], found["flops"]) == (plan.parameters(), plan.flops())
    # Two convolutions of the stem, three operations in a row, two layers of the head; beside them a convolution that
    # widens what the first operation gives for the last one.
    assert (found["depth"], found["nodes"]) == (7, 8)


def test_fisher_of_a_convolution_by_hand() -> None:
    # a = 2 x per pixel, L = (sum of a - 0)^2: dL/da = 2 sum(a), sum over pixels of a dL/da = 2 sum(a)^2.
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Flatten(), nn.Linear(3, 1, bias=False))
    nn.init.constant_(next(network[0].parameters()), 2)
    nn.init.constant_(next(network[2].parameters()), 1)
    batch = Batch(torch.tensor([1.0, 2, 3]).view(1, 1, 1, 3), torch.zeros(1, 1))
    found = score(network, batch, ["fisher"]).values["fisher"]
    assert found == pytest.approx(2 * 0.5 * (2 * 12**2) ** 2), "both layers have the same product"


# --- batches ---------------------------------------------------------------------------------------


def test_the_loss_of_a_whole_is_that_of_the_last_real_step() -> None:
    outputs, targets, lengths = torch.randn(2, 5, 3), torch.tensor([0, 2]), torch.tensor([2, 5])
    expected = nn.functional.cross_entropy(torch.stack([outputs[0, 1], outputs[1, 4]]), targets)
    assert float(loss_of(outputs, targets, lengths)) == pytest.approx(float(expected))
    numbers = torch.randn(2, 5, 3)
    padded = torch.stack([*(outputs - numbers)[0, :2], *(outputs - numbers)[1]]).square().mean()
    assert float(loss_of(outputs, numbers, lengths)) == pytest.approx(float(padded))


def test_a_batch_of_text_is_made_of_pieces_with_their_next_tokens() -> None:
    text = TextData(np.arange(100), np.arange(5), SequenceShape(100, 100, tokens=True), ())
    batch = batch_of(text, 3, np.random.default_rng(0), steps=7)
    assert batch.inputs.shape == (3, 7)
    assert batch.targets is not None
    assert torch.equal(batch.inputs + 1, batch.targets)
    with pytest.raises(
        ScoreError, match=r"^steps: found 100, allowed are fewer than the training text has tokens, 100$"
    ):
        batch_of(text, 3, np.random.default_rng(0), steps=100)


def test_random_tokens_follow_zipf() -> None:
    tokens = random_tokens(10, 100, 100, np.random.default_rng(0)).inputs
    shares = np.bincount(tokens.flatten().numpy(), minlength=10) / 10_000
    assert shares[0] / shares[4] == pytest.approx(5, rel=0.15)
