"""Predictors: what each of the family learns, how sure it says it is, and how good that is on real tables."""

from __future__ import annotations

import time
from typing import get_args

import numpy as np
import pytest
from scipy import stats

from nas_lib import predictors
from nas_lib.predictors import PREDICTORS, PredictorName, graph_network
from nas_lib.predictors.graph_process import _bags, _compared, refined
from nas_lib.problems import Problem
from nas_lib.problems.synthetic import Cell
from nas_lib.spaces import graphs
from nas_lib.spaces.genes import Gene, GeneSpace

UNCERTAIN = [name for name, family in PREDICTORS.items() if family.spread is not None]


@pytest.fixture(scope="module")
def cell() -> Problem:
    return Cell(genes=8, options=3, neighbours=0).problem()


def learnt(name: str, problem: Problem, count: int, place: int = 0) -> tuple[predictors.Fitted, np.ndarray, np.ndarray]:
    """A predictor of one objective of a problem, and the rows and values it learnt from."""
    numbers = np.unique(problem.space.draw(count, np.random.default_rng(0)), axis=0)
    targets = problem.evaluate(numbers)[:, place]
    fitted = predictors.fit(name, problem.space, numbers, targets, np.random.default_rng(1))  # type: ignore[arg-type]
    return fitted, numbers, targets


def test_the_family_is_what_configurations_can_name() -> None:
    assert set(get_args(PredictorName)) == set(PREDICTORS)


@pytest.mark.parametrize("name", UNCERTAIN)
def test_who_says_how_sure_it_is_gives_its_own_prediction_and_is_surer_of_what_it_saw(name: str, cell: Problem) -> None:
    fitted, numbers, targets = learnt(name, cell, 60)
    others = cell.space.draw(200, np.random.default_rng(2))
    assert fitted.uncertain is not None
    mean, deviation = fitted.uncertain(others)
    assert mean == pytest.approx(fitted.predict(others))
    assert (deviation >= 0).all() and deviation.mean() < 3 * targets.std()
    assert fitted.uncertain(numbers)[1].mean() < deviation.mean()


def test_the_uncertainty_is_in_the_unit_of_the_targets(cell: Problem) -> None:
    numbers, rng = cell.space.draw(40, np.random.default_rng(0)), np.random.default_rng
    targets = cell.evaluate(numbers)[:, 0]
    once, thousandfold = (predictors.fit("gp", cell.space, numbers, k * targets, rng(1)) for k in (1, 1000))
    others = cell.space.draw(20, rng(2))
    assert once.uncertain is not None and thousandfold.uncertain is not None
    for small, large in zip(once.uncertain(others), thousandfold.uncertain(others), strict=True):
        assert large == pytest.approx(1000 * small, rel=1e-3)


def test_a_model_without_uncertainty_does_not_make_one_up(cell: Problem) -> None:
    assert learnt("ridge", cell, 30)[0].uncertain is None


# --- graphs --------------------------------------------------------------------------------------


def row_of(labels: list[list[int]]) -> graphs.Graphs:
    """Chains of nodes with these labels; -1 is no node."""
    found = np.array(labels)
    return graphs.row(found, found >= 0)


def test_refined_labels_count_as_by_hand() -> None:
    # A -> B -> A and B -> A. At first A occurs 2 and 1 times, B 1 time each: products 5, 3, 2. Then A with nothing
    # before it, B after A and A after B stand against B with nothing before it and A after B: products 3, 1, 2. Then
    # the last A is one after "B after A" in the first and after "B after nothing" in the second: products 3, 0, 2.
    levels = refined(row_of([[0, 1, 0], [1, 0, -1]]))
    bags = _bags(levels)
    products, norms = _compared(bags, levels)
    assert products.tolist() == [[[5, 3], [3, 2]], [[3, 1], [1, 2]], [[3, 0], [0, 2]]]
    assert norms.tolist() == [[5, 2], [3, 2], [3, 2]]


def test_labels_do_not_depend_on_the_order_of_the_nodes() -> None:
    one = graphs.Graphs(np.array([[0, 1, 2]]), np.zeros((1, 3, 3), dtype=bool))
    one.edges[0, 0, 2] = one.edges[0, 1, 2] = True
    order = [2, 0, 1]
    other = graphs.Graphs(one.labels[:, order], one.edges[:, order][:, :, order])
    for first, second in zip(refined(one), refined(other), strict=True):
        assert first[0, order].tolist() == second[0].tolist()


def triangles() -> GeneSpace:
    """Cells in which two paths of two operations lead from input to output: exchanged, they are the same graph."""
    edges = [("in", "left"), ("left", "out"), ("in", "right"), ("right", "out")]
    options = ("none", "skip", "conv", "pool")
    genes = tuple(Gene(name=f"{a}-{b}", options=options) for a, b in edges)
    return GeneSpace("two-paths", genes, graph=graphs.operations_on_edges(edges, [options] * 4, "none"))


@pytest.mark.parametrize("name", ["wl-gp", "gnn"])
def test_equal_graphs_of_different_genes_have_equal_predictions(
    name: PredictorName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_network, "STEPS", 20)
    space, rng = triangles(), np.random.default_rng(0)
    numbers = space.draw(40, rng)
    fitted = predictors.fit(name, space, numbers, rng.normal(size=40), np.random.default_rng(1))
    others = space.draw(30, rng)
    exchanged = others[:, [2, 3, 0, 1]]
    assert (others != exchanged).any()
    assert fitted.predict(exchanged) == pytest.approx(fitted.predict(others), abs=1e-4)
    dead, empty = np.array([[2, 0, 1, 1]]), np.array([[0, 3, 1, 1]])  # half a path does nothing
    assert fitted.predict(dead) == pytest.approx(fitted.predict(empty), abs=1e-5)
    assert np.ptp(fitted.predict(others)) > 0


def kendall(name: PredictorName, problem: Problem, count: int) -> float:
    """Rank correlation on 500 architectures of the first objective."""
    fitted, _, _ = learnt(name, problem, count)
    others = problem.space.draw(500, np.random.default_rng(7))
    return float(stats.kendalltau(fitted.predict(others), problem.evaluate(others)[:, 0]).statistic)


def test_the_process_on_graphs_ranks_better_than_ridge_where_operations_interact() -> None:
    problem = Cell(genes=12, options=4).problem()
    assert kendall("wl-gp", problem, 200) > kendall("ridge", problem, 200) + 0.1


def test_the_network_on_graphs_learns_and_does_so_equally_every_time() -> None:
    problem = Cell(genes=8, options=3).problem()
    found = kendall("gnn", problem, 100)
    assert found > 0.4
    assert kendall("gnn", problem, 100) == found


def test_a_random_generator_of_torch_is_left_alone_by_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(graph_network, "STEPS", 2)

    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    learnt("gnn", Cell(genes=4, options=2).problem(), 10)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("name", ["wl-gp", "gnn"])
def test_few_or_equal_targets_do_no_harm(name: PredictorName, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_network, "STEPS", 20)
    space = triangles()
    two = space.draw(2, np.random.default_rng(0))
    for numbers in (two, np.repeat(two[:1], 5, axis=0)):
        fitted = predictors.fit(name, space, numbers, np.full(len(numbers), 3.0), np.random.default_rng(1))
        assert np.isfinite(fitted.predict(space.draw(10, np.random.default_rng(2)))).all()
        assert fitted.predict(numbers) == pytest.approx(np.full(len(numbers), 3.0), abs=0.5)


def test_a_whole_space_is_predicted_well_below_a_second() -> None:
    edges = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    genes = tuple(Gene(name=f"edge{place}", options=tuple("abcde")) for place in range(6))
    space = GeneSpace("cells", genes, graph=graphs.operations_on_edges(edges, ["abcde"] * 6, "a"))
    rows = space.listed
    assert rows is not None and len(rows) == 15_625
    rng = np.random.default_rng(0)
    fitted = predictors.fit("wl-gp", space, space.draw(100, rng), rng.normal(size=100), rng)
    began = time.process_time()
    fitted.predict(rows)
    assert time.process_time() - began < 2.0, "0.3 s on an idle machine"
