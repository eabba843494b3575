"""Scores without training as inputs of predictors, and as the prior mean of Bayesian optimisation."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from nas_lib import predictors
from nas_lib.laboratory import search as laboratory
from nas_lib.laboratory.search import search
from nas_lib.laboratory.settings import LaboratoryBudget, unfit
from nas_lib.predictors import PREDICTORS, PredictorName, gene_process
from nas_lib.predictors.gene_process import Columns, with_features
from nas_lib.predictors.graph_process import GraphProcess, Labelled
from nas_lib.problems import Problem
from nas_lib.problems.synthetic import Cell
from nas_lib.records import Genotype, History
from nas_lib.settings import UserError
from nas_lib.spaces.genes import Numbers
from nas_lib.strategies import asked_scores, bayesian, content_of, linas
from nas_lib.strategies.bayesian import BayesianOptimization, ParEGO
from nas_lib.strategies.coverage import Coverage
from nas_lib.strategies.linas import LINAS
from nas_lib.strategies.request import Request
from nas_lib.strategies.scored import SAMPLE, shares
from tests.scored import request_in
from tests.test_coverage import error_of_the_gradient

TAKING = [name for name in PREDICTORS if predictors.takes_features(name) and name != "mlp"]
"""But the slowest, which has the same columns as others."""


def luck(numbers: Numbers) -> np.ndarray:
    """A number of every architecture that genes do not tell."""
    return np.array([np.random.default_rng(row).random() for row in numbers])


def lottery() -> Problem:
    """1,024 cells whose error is luck, which the score `telling` shows, but for every tenth; `deaf` applies to none."""
    problem = Cell(genes=5, options=4).problem()

    def values(numbers: Numbers) -> np.ndarray:
        return np.column_stack([luck(numbers), problem.evaluate(numbers)[:, 1]])

    def telling(numbers: Numbers) -> np.ndarray:
        return np.where(luck(numbers) > 0.9, np.nan, -1e6 * luck(numbers) ** 3)

    scores = {"telling": telling, "deaf": lambda numbers: np.full(len(numbers), -np.inf)}
    return replace(problem, evaluate=values, scores=scores, reference=np.array([1.0, problem.reference[1]]))


def alone(problem: Problem) -> Problem:
    """The first objective of a problem."""
    return replace(
        problem,
        objectives=problem.objectives[:1],
        evaluate=lambda numbers: problem.evaluate(numbers)[:, :1],
        reference=problem.reference[:1],
        front=None,
        exact={},
    )


# --- scores as shares --------------------------------------------------------------------------------


def test_a_share_is_that_of_the_known_scores_that_are_lower_with_ties_by_half_and_failures_last() -> None:
    of = shares(np.array([[1.0], [3.0], [3.0], [np.nan]]))
    # 1 is above the failed one and half of itself: 1.5 / 4. 3 is above two, and half of itself and its equal: 3 / 4.
    asked = np.array([[1.0], [3.0], [2.0], [-1e6], [9.0], [np.nan]])
    assert of(asked)[:, 0].tolist() == pytest.approx([0.375, 0.75, 0.5625, 0.375, 0.75, 0.0])


def test_a_score_that_applies_to_nothing_says_nothing() -> None:
    assert shares(np.full((3, 2), np.nan))(np.ones((4, 2))).tolist() == [[0.0, 0.0]] * 4


# --- predictors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TAKING)
def test_predictors_learn_from_features_what_genes_do_not_tell(name: PredictorName) -> None:
    space, rng = lottery().space, np.random.default_rng(0)
    numbers, others = space.draw(60, rng), space.draw(200, rng)

    def kendall(features: predictors.Features | None) -> float:
        fitted = predictors.fit(name, space, numbers, luck(numbers), np.random.default_rng(1), features)
        return float(stats.kendalltau(fitted.predict(others), luck(others)).statistic)

    assert kendall(lambda rows: np.column_stack([1 - luck(rows), np.zeros(len(rows))])) > max(0.5, kendall(None) + 0.3)


def test_features_are_ordered_genes_in_interactions_and_have_linear_weights_of_their_own() -> None:
    from sklearn.gaussian_process.kernels import RBF, DotProduct

    rng = np.random.default_rng(1)
    rows, others = rng.normal(size=(20, 4)), rng.normal(size=(6, 4))
    rows -= rows.mean(axis=0)
    inputs = with_features(Columns(rows[:, :2], np.array([0, 1])), rows[:, 2:])
    assert inputs.genes.tolist() == [0, 1, 2, 3]
    targets, distances, linear = rng.normal(size=20), np.array([0.5, 1.0, 2.0, 0.1]), np.array([0.7, 3.0])
    weights = gene_process._Weights(distances, noise=0.1, interacting=1.5, additive=0.6, features=linear)
    posterior = gene_process._posterior(inputs, targets, weights)
    # exp(-w d^2) is an RBF of length (2 w)^-1/2; products of genes count 2 / 2, those of features in their deviations.
    scale = np.concatenate([np.sqrt([0.6, 0.6]), np.sqrt(linear) / rows[:, 2:].std(axis=0)])
    apart, product = RBF((2 * distances) ** -0.5), DotProduct(1e-9)

    def covariance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.asarray(1.5 * apart(one, other) + product(one * scale, other * scale))

    inverse = np.linalg.inv(covariance(rows, rows) + 0.1 * np.eye(20))
    across = covariance(others, rows)
    assert posterior.mean([others]) == pytest.approx(across @ inverse @ targets)
    variance = np.diag(covariance(others, others) - across @ inverse @ across.T)
    assert posterior.deviation([others]) == pytest.approx(np.sqrt(variance))


def test_the_gradient_of_the_fit_with_features_is_that_of_its_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    inputs = with_features(Columns(rng.normal(size=(12, 3)), np.array([0, 0, 1])), rng.random((12, 2)))
    assert error_of_the_gradient(inputs, rng.normal(size=12), rng, monkeypatch) < 1e-4


def test_equal_graphs_of_different_features_are_told_apart_and_the_effect_goes_beyond_what_was_seen() -> None:
    labels = np.ones((3, 30, 2), dtype=np.uint64)
    features = np.random.default_rng(0).random((30, 1)) / 2
    process = GraphProcess().fit(Labelled(labels, features), 4 * features[:, 0])
    mean, deviation = process.uncertain(Labelled(labels[:, :2], np.array([[0.25], [0.8]])))
    assert mean == pytest.approx([1.0, 3.2], abs=0.15)
    assert 0 < deviation[0] < deviation[1]


# --- strategies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [LINAS(population=20, predictor="ridge"), Coverage()], ids=lambda each: each.name)
def test_with_a_telling_score_they_choose_what_they_else_cannot_know(strategy: LINAS | Coverage) -> None:
    problem = lottery() if strategy.name == "linas" else alone(lottery())

    def error(features: Sequence[str]) -> float:
        changed = strategy.model_copy(update={"features": tuple(features)})
        history, _ = search(problem, changed, 1, LaboratoryBudget(evaluations=30, batch=10))
        return float(np.median([each.objectives["error"] for each in history[20:]]))

    assert error(["telling", "deaf"]) < 0.1
    assert error([]) > 0.25


class Counter:
    """A score that counts what it is asked for."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.asked: set[str] = set()

    def __call__(self, genotypes: Sequence[Genotype], names: Sequence[str]) -> np.ndarray:
        self.asked |= {str(genotype) for genotype in genotypes}
        return laboratory._scores(self.problem, genotypes, names)


def request_of(problem: Problem, history: History, score: Counter | None, round: int = 2) -> Request:
    return request_in(problem, history, score, round, count=5)


@pytest.mark.parametrize(
    "strategy",
    [LINAS(population=20, predictor="ridge", features=("telling",)), Coverage(features=("telling",))],
    ids=lambda each: each.name,
)
def test_where_scores_cost_only_a_shortlist_is_scored_beside_a_sample_that_stays(
    strategy: LINAS | Coverage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linas, "POOL", 50)
    monkeypatch.setattr("nas_lib.strategies.coverage.POOL", 50)
    problem = lottery()
    history, _ = search(problem, Coverage(), 1, LaboratoryBudget(evaluations=20, batch=20))
    score = Counter(problem)
    proposed = strategy.propose(request_of(problem, history, score))
    assert len(proposed) == 5
    assert len(score.asked) <= SAMPLE + len(history) + 50
    assert {str(each.genotype) for each in proposed} <= score.asked
    first = set(score.asked)
    strategy.propose(request_of(problem, history, score, round=3))
    assert len(score.asked - first) <= 50


def test_without_anything_that_scores_there_is_one_clear_line() -> None:
    problem = lottery()
    history, _ = search(problem, Coverage(), 1, LaboratoryBudget(evaluations=20, batch=20))
    with pytest.raises(UserError, match=r"^scores: found telling, but architectures of the space .* cannot be scored"):
        Coverage(features=("telling",)).propose(request_of(problem, history, None))


def test_a_predictor_that_takes_no_features_is_refused() -> None:
    with pytest.raises(ValidationError, match="found features with the predictor gnn, which takes none, allowed are"):
        LINAS(predictor="gnn", features=("synflow",))


@pytest.mark.parametrize(
    "strategy", [Coverage(features=("synflo",)), ParEGO(prior="synflo")], ids=lambda each: each.name
)
def test_names_of_features_and_priors_are_checked(strategy: Coverage | ParEGO) -> None:
    assert asked_scores(strategy) == ["synflo"]
    assert "no score 'synflo', which mine asks for" in str(unfit("cell", lottery(), "mine", strategy))


def test_searches_without_features_or_priors_are_told_by_the_settings_they_always_had() -> None:
    assert set(content_of(Coverage())) == {"name", "label", "initial", "batch", "caution"}
    assert set(content_of(BayesianOptimization())) == {"name", "label", "initial", "exploration"}
    assert content_of(ParEGO(prior="synflow"))["prior"] == "synflow"


# --- the prior mean of Bayesian optimisation -----------------------------------------------------------


def test_the_trend_is_a_ridge_on_what_is_foretold() -> None:
    trend = bayesian._trend(lambda points: points[:, 0], np.array([[0.0], [1.0]]), np.array([-3.0, 3.0]))
    # Standardised -1 and 1: the slope is (3 + 3) / (2 + 1).
    assert trend(np.array([[0.0], [0.5], [1.0]])).tolist() == pytest.approx([-2.0, 0.0, 2.0])
    assert bayesian._trend(None, np.zeros((2, 1)), np.ones(2))(np.ones((3, 1))).tolist() == [0, 0, 0]


def test_a_prior_that_tells_the_objective_is_followed() -> None:
    made = alone(Cell(genes=8, options=4, neighbours=0).problem())
    problem = replace(made, scores={"telling": lambda rows: -made.evaluate(rows)[:, 0]})

    def best(prior: str | None) -> float:
        strategy = BayesianOptimization(initial=6, prior=prior)
        history, _ = search(problem, strategy, 1, LaboratoryBudget(evaluations=8, batch=2))
        return min(each.objectives["error"] for each in history)

    everything = made.evaluate(made.space.draw(2000, np.random.default_rng(0)))[:, 0]
    assert best("telling") < np.quantile(everything, 0.02)
    assert best("telling") < best(None)
