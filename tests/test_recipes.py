"""Recipes of NAS-Bench-NLP: the language model around them, random ones, and the table of trained ones."""

import gzip
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_lib.problems import ProblemError
from nas_lib.problems.recipes import trained_recipes
from nas_lib.spaces.recurrent.cell import CellError
from nas_lib.spaces.recurrent.language_model import language_model
from nas_lib.spaces.recurrent.recipes import OPERATIONS, Recipe, from_recipe, random_recipe

PLAIN: Recipe = {
    "n": {"op": "linear", "input": ["x", "h_prev_0"]},
    "h_new_0": {"op": "activation_tanh", "input": ["n"]},
}


def gates(count: int) -> Recipe:
    """So many linear nodes of x and the state, added up."""
    recipe: Recipe = {f"n{place}": {"op": "linear", "input": ["x", "h_prev_0"]} for place in range(count)}
    for place in range(1, count):
        before = f"s{place - 1}" if place > 1 else "n0"
        recipe[f"s{place}"] = {"op": "elementwise_sum", "input": [before, f"n{place}"]}
    return recipe | {"h_new_0": {"op": "activation_tanh", "input": [list(recipe)[-1]]}}


@pytest.mark.parametrize(("linear", "parameters"), [(1, 5_731_600), (3, 9_174_800), (4, 10_896_400)])
def test_language_models_have_the_published_parameters(linear: int, parameters: int) -> None:
    with torch.device("meta"):
        network = language_model(from_recipe(gates(linear)))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_a_language_model_has_layers_of_hidden_hidden_and_embedding_size_and_starts_as_published() -> None:
    torch.manual_seed(0)
    network = language_model(from_recipe(PLAIN), words=300, embedding=16, hidden=25)
    assert [(layer.inputs, layer.hidden) for layer in network.cells()] == [(16, 25), (25, 25), (25, 16)]
    assert network.decoder.weight is network.encoder.weight
    assert 0.099 < network.decoder.weight.abs().max() <= 0.1
    for layer in network.cells():
        for parameter in layer.parameters():
            assert 0.8 / math.sqrt(layer.hidden) < parameter.abs().max() <= 1 / math.sqrt(layer.hidden)
    outputs, states = network(torch.zeros(2, 3, dtype=torch.int64))
    assert outputs.shape == (2, 3, 300)
    assert [layer[0].shape for layer in states] == [(2, 25), (2, 25), (2, 16)]


def test_cells_that_read_x_without_weights_have_no_language_model() -> None:
    recipe: Recipe = {"h_new_0": {"op": "elementwise_sum", "input": ["x", "h_prev_0"]}}
    with pytest.raises(CellError, match="reads x of size 400 without weights, allowed is size 600"):
        language_model(from_recipe(recipe))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(3, 13))
def test_random_recipes_are_valid(seed: int, states: int, intermediate: int) -> None:
    recipe = random_recipe(np.random.default_rng(seed), states, intermediate)
    assert recipe == random_recipe(np.random.default_rng(seed), states, intermediate)
    before = {f"h_prev_{place}" for place in range(states)}
    assert {name for name in recipe if name.startswith("h_new")} == {f"h_new_{place}" for place in range(states)}
    assert len(recipe) <= states + intermediate + 1
    assert {"x", *before} <= {source for node in recipe.values() for source in node["input"]}
    read = {source for node in recipe.values() for source in node["input"]}
    for name, node in recipe.items():
        assert len(set(node["input"])) == len(node["input"])
        assert not (name.startswith("h_new") and before & set(node["input"]))
        assert name in read or name.startswith("h_new")
        assert "x" not in node["input"] or node["op"] == "linear"
        if node["op"] == "linear":
            assert all(
                source not in recipe or recipe[source]["op"].startswith("activation") for source in node["input"]
            )
            assert len(node["input"]) in (2, 3)
    network = language_model(from_recipe(recipe), words=5, embedding=2, hidden=3)
    assert network(torch.zeros(1, 2, dtype=torch.int64))[0].isfinite().all()


def test_random_recipes_have_operations_as_often_as_the_benchmark() -> None:
    rng = np.random.default_rng(0)
    recipes = [random_recipe(rng, 2) for _ in range(150)]
    counts = Counter(node["op"] for recipe in recipes for node in recipe.values())
    shares = {op: counts[op] / counts.total() for op in OPERATIONS}
    assert shares["linear"] == pytest.approx(0.456, abs=0.03)
    assert shares["activation_tanh"] == pytest.approx(0.134, abs=0.03)
    assert shares["blend"] == pytest.approx(0.038, abs=0.02)
    three = [len(node["input"]) == 3 for recipe in recipes for node in recipe.values() if node["op"] == "linear"]
    assert np.mean(three) == pytest.approx(0.2, abs=0.05)


ROW: dict[str, Any] = {
    "id": 7,
    "recipe_ids": [7, 9, 11],
    "recipe": PLAIN,
    "num_params": 5_731_600,
    "ptb_test_loss": [5.0, 5.2],
    "failed_runs": 1,
    "authors_metrics": None,
}


def write(folder: Path, rows: object) -> None:
    (folder / "nas-bench-nlp").mkdir()
    (folder / "nas-bench-nlp" / "ptb_recipes.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))


def test_the_table_merges_runs_and_keeps_failures(tmp_path: Path) -> None:
    failed = {**ROW, "id": 8, "ptb_test_loss": [], "failed_runs": 3}
    write(tmp_path, [ROW, failed])
    first, second = trained_recipes(tmp_path)
    assert (first.number, first.runs, first.failures) == (7, 2, 1)
    assert first.loss == pytest.approx(5.1)
    assert math.isnan(second.loss)
    assert (second.runs, second.failures) == (0, 3)


def test_a_table_that_is_missing_or_something_else_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"ptb_recipes\.json\.gz: is missing; put it there by hand, from"):
        trained_recipes(tmp_path)
    write(tmp_path, [{**ROW, "recipe": {"h_new_0": {"op": "conv", "input": ["x"]}}}])
    with pytest.raises(ProblemError, match=r"cannot be read as recipes of NAS-Bench-NLP .*found the op 'conv'"):
        trained_recipes(tmp_path)


def test_the_published_table_has_its_known_counts(shared_data: Path) -> None:
    recipes = trained_recipes(shared_data)
    assert len({recipe.number for recipe in recipes}) == len(recipes) == 4114
    assert sum(math.isfinite(recipe.loss) for recipe in recipes) == 3371
    assert sum(bool(recipe.published) for recipe in recipes) == 2956
