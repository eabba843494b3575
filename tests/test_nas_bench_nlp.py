"""NAS-Bench-NLP as a problem of the laboratory: a list of recipes, alike ones near each other, and their scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nas_lib import predictors
from nas_lib.laboratory.search import search
from nas_lib.laboratory.settings import LaboratoryBudget, Target, load, parse
from nas_lib.problems import Problem, ProblemError
from nas_lib.problems.nas_bench_nlp import NASBenchNLP, described
from nas_lib.spaces.recurrent.recipes import Recipe
from nas_lib.strategies.evolution import AgeingEvolution
from tests.test_recipes import PLAIN, ROW, gates, write

RENAMED = {
    "other": {"op": "linear", "input": ["x", "h_prev_0"]},
    "h_new_0": {"op": "activation_tanh", "input": ["other"]},
}
"""`PLAIN` with another name."""


def chained(first: str, second: str) -> Recipe:
    """Linear nodes one after the other, with activations of which the last one gives the state."""
    return {
        "n0": {"op": "linear", "input": ["x", "h_prev_0"]},
        "a0": {"op": f"activation_{first}", "input": ["n0"]},
        "n1": {"op": "linear", "input": ["a0", "h_prev_0"]},
        "a1": {"op": f"activation_{second}", "input": ["n1"]},
        "n2": {"op": "linear", "input": ["a1", "h_prev_0"]},
        "h_new_0": {"op": "activation_leaky_relu", "input": ["n2"]},
    }


ROWS: list[dict[str, Any]] = [
    {**ROW, "id": 1, "recipe": PLAIN, "ptb_test_loss": [5.0], "num_params": 2_000_000},
    {**ROW, "id": 2, "recipe": RENAMED, "ptb_test_loss": [5.25], "num_params": 2_000_000},
    {**ROW, "id": 3, "recipe": gates(2), "ptb_test_loss": [], "failed_runs": 3},
    {**ROW, "id": 4, "recipe": gates(3), "ptb_test_loss": [4.5, 4.75], "num_params": 6_000_000},
    {**ROW, "id": 5, "recipe": gates(6), "ptb_test_loss": [6.0], "num_params": 9_000_000},
    {**ROW, "id": 6, "recipe": chained("tanh", "sigm"), "ptb_test_loss": [5.5], "num_params": 5_000_000},
    {**ROW, "id": 7, "recipe": chained("sigm", "tanh"), "ptb_test_loss": [5.75], "num_params": 5_000_000},
]
ALIKE = (5.5, 5.75)
"""Losses of two different recipes that are described alike."""
LOSSES = {5.125: (1, 2), 4.625: (4,), 6.0: (5,), 5.5: (6,), 5.75: (7,)}
"""Loss of an architecture -> its recipes."""
SCORED = (1, 2, 4, 5, 6, 7)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, ROWS)
    return tmp_path


def scores(folder: Path, networks: tuple[int, ...] = SCORED) -> Path:
    """A table as a score study writes it: score `a` is the number of the recipe plus the seed, `b` is missing once."""
    rows = [
        {"network": str(network), "measured": 5.0, "seed": seed, "score": score, "value": value}
        for network in networks
        for seed in (0, 1)
        for score, value in (("a", network + seed), ("b", np.nan if (network, seed) == (4, 1) else 1.0))
    ]
    path = folder / "scores.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return path


def by_loss(problem: Problem) -> dict[float, np.ndarray]:
    """Loss -> option numbers (d,) of the architecture."""
    assert problem.space.listed is not None
    return {float(problem.evaluate(row[None])[0, 0]): row for row in problem.space.listed}


def test_recipes_with_a_loss_are_architectures_those_equal_but_for_names_one_with_their_mean(folder: Path) -> None:
    problem = NASBenchNLP(folder=folder).problem()
    assert sorted(by_loss(problem)) == sorted(LOSSES)
    assert (problem.objectives, problem.units["loss"], problem.exact) == (("loss",), "nats per word", {})
    assert problem.front is not None
    assert problem.front.tolist() == [[4.625]]


def test_different_recipes_that_are_described_alike_are_different_architectures(folder: Path) -> None:
    problem = NASBenchNLP(folder=folder).problem()
    one, other = (problem.space.genotype(by_loss(problem)[loss])["genes"] for loss in ALIKE)
    assert one[:-1] == other[:-1]
    assert (problem.space.genes[-1].name, {one[-1], other[-1]}) == ("variant", {0, 1})


def test_parameters_are_a_second_objective_that_is_exact(folder: Path) -> None:
    settings = NASBenchNLP(folder=folder, cost="parameters")
    problem = settings.problem()
    assert (settings.title, problem.objectives) == ("nas-bench-nlp-parameters", ("loss", "parameters"))
    assert problem.space.listed is not None
    found = problem.evaluate(problem.space.listed)
    assert dict(found.tolist())[4.625] == 6.0
    assert problem.exact["parameters"](problem.space.listed).tolist() == found[:, 1].tolist()
    assert problem.reference.tolist() == pytest.approx([np.percentile([5, 5.25, 4.625, 6, 5.5, 5.75], 75), 9.009])


def test_a_recipe_is_described_by_what_it_is_made_of() -> None:
    found = described(gates(3))
    assert {name: value for name, value in found.items() if value} == {
        "linear": 3,
        "elementwise_sum": 2,
        "activation_tanh": 1,
        "states": 1,
        "longest_path": 4,
        "reading_x": 3,
        "reading_states": 3,
        "new_activation_tanh": 1,
    }


def test_the_nearest_recipe_that_is_not_taken_stands_for_one_that_does_not_exist(folder: Path) -> None:
    problem = NASBenchNLP(folder=folder).problem()
    space, row = problem.space, by_loss(problem)[4.625][None]
    nearby = row.copy()
    nearby[0, [gene.name for gene in space.genes].index("linear")] -= 1
    assert space.existing(nearby).tolist() == row.tolist()
    other = space.existing(nearby, without=space.keys(row))
    assert problem.evaluate(other)[0, 0] == 5.125, "one gate is nearer to three than six are"


def test_recipes_are_graphs_of_nodes_x_and_states(folder: Path) -> None:
    problem = NASBenchNLP(folder=folder).problem()
    row = by_loss(problem)
    graphs = problem.space.graphs(np.array([row[5.125], row[4.625], *(row[loss] for loss in ALIKE)]))
    assert (graphs.labels >= 0).sum(axis=1).tolist() == [4, 2 + 3 + 2 + 1, 8, 8]
    assert graphs.edges.sum(axis=(1, 2)).tolist() == [3, 2 * 3 + 2 * 2 + 1, 9, 9]
    assert sorted(graphs.labels[2]) == sorted(graphs.labels[3]), "nodes that do the same have the same label"
    assert predictors.suits("wl-gp", problem.space)


def test_scores_are_the_mean_over_seeds_and_equal_recipes_and_missing_where_one_is(folder: Path) -> None:
    problem = NASBenchNLP(folder=folder, scores=scores(folder)).problem()
    for loss, row in by_loss(problem).items():
        assert problem.scores["a"](row[None]).tolist() == [np.mean(LOSSES[loss]) + 0.5]
        assert np.isnan(problem.scores["b"](row[None])).tolist() == [loss == 4.625]
    assert NASBenchNLP(folder=folder).problem().scores == {}


def test_scores_that_cannot_be_used_are_one_line_with_the_command_that_makes_them(folder: Path) -> None:
    command = "'snakemake --configfile config/proxies.yaml' makes"
    with pytest.raises(ProblemError, match=rf"nowhere\.parquet: is missing; {command} a table of scores"):
        NASBenchNLP(folder=folder, scores=folder / "nowhere.parquet").file()
    with pytest.raises(
        ProblemError, match=rf"lacks 4 of 6 recipes and has 0 other networks, allowed is .* {command} it"
    ):
        NASBenchNLP(folder=folder, scores=scores(folder, (1, 2))).problem()
    pd.DataFrame({"network": ["1"], "seed": [0], "value": [1.0]}).to_parquet(folder / "scores.parquet")
    with pytest.raises(ProblemError, match=r"scores\.parquet: no column 'score', allowed is a table of scores"):
        NASBenchNLP(folder=folder, scores=folder / "scores.parquet").problem()


def test_searches_depend_on_the_content_of_the_scores_and_not_on_where_they_lie(folder: Path) -> None:
    def laboratory(path: Path | None) -> Any:
        problem = {"name": "nas-bench-nlp", "folder": str(folder), "scores": str(path) if path else None}
        return parse({"laboratory": "tiny", "problems": [problem], "strategies": ["random"]}, "made up")

    here, there, without = (laboratory(path) for path in (folder / "a.parquet", folder / "b.parquet", None))
    assert here.tables_of("nas-bench-nlp") == [folder / "a.parquet"]
    assert without.tables_of("nas-bench-nlp") == []
    settings = [one.settings_of_search("nas-bench-nlp", "random") for one in (here, there, without)]
    assert len(set(settings)) == 1


def test_a_strategy_searches_recipes_by_their_loss_alone(folder: Path) -> None:
    problem = NASBenchNLP(folder=folder).problem()
    history, _ = search(problem, AgeingEvolution(population=2, sample=2), 1, LaboratoryBudget(evaluations=5, batch=1))
    assert sorted(one.objectives["loss"] for one in history if not one.proposal.duplicate_of) == sorted(LOSSES)


def test_the_shipped_study_of_a_filter_is_valid() -> None:
    study = load(Path(__file__).parent.parent / "config/studies/laboratory-filter.yaml")
    assert study.labels[-2:] == ["ageing", "random"]
    assert (study.target, len(study.seeds)) == (Target(share=0.01), 30)
    assert [bool(strategy.filter) for strategy in study.strategies] == [True] * 5 + [False] * 4


def test_neighbours_among_the_published_recipes_are_alike(shared_data: Path) -> None:
    problem = NASBenchNLP(folder=shared_data).problem()
    space = problem.space
    assert space.listed is not None
    assert len(space.listed) == 2833
    assert problem.front is not None
    assert problem.front[0, 0] == pytest.approx(4.436, abs=5e-4)
    rows = space.listed[np.random.default_rng(0).choice(2833, 800, replace=False)]
    nearest = np.vstack([space.existing(row[None], without=space.keys(row[None])) for row in rows])
    losses, others = problem.evaluate(rows)[:, 0], problem.evaluate(nearest)[:, 0]
    assert stats.spearmanr(losses, others).statistic > 0.3
