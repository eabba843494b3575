"""Predictors: what each of the family learns, how sure it says it is, and how good that is on real tables."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from nas_lib import predictors
from nas_lib.predictors import PREDICTORS, PredictorName
from nas_lib.problems import Problem
from nas_lib.problems.synthetic import Cell

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
