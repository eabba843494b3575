"""Noisy expected hypervolume improvement: its noise, its scales, and what it leaves as it was."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import moocore
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import approx_fprime

from nas_lib.records import Evaluation
from nas_lib.strategies.nehvi import NEHVI, scale_of
from nas_lib.strategies.random_search import RandomSearch
from nas_lib.strategies.request import Strategy
from nas_lib.strategies.surrogate import Process, _negative_log_posterior, by_point, learn, noise_of_draws
from tests.test_strategies import (
    Array,
    ToySpace,
    as_proposal,
    history_at,
    make_request,
    points_of,
    random_history,
    run,
)

# --- noise of the draws of one generator -------------------------------------------------------------


def spread(points: Array) -> Array:
    """Standard deviation of the draws at points (n, 2): from 0.01 to 0.5 along the first coordinate."""
    return np.asarray(0.01 * 50 ** points[:, 0])


def drawn(count: int, draws: int, deviation: Callable[[Array], Array], seed: int) -> tuple[Array, Array]:
    """`draws` noisy values of a wave at each of `count` random points: points and values, one row per draw."""
    rng = np.random.default_rng(seed)
    points = np.repeat(rng.random((count, 2)), draws, axis=0)
    values = np.sin(4 * points[:, 0]) + points[:, 1] ** 2 + deviation(points) * rng.normal(size=len(points))
    return points, values


def negative_log_likelihood(training: tuple[Array, Array], test: tuple[Array, Array], heteroscedastic: bool) -> float:
    """Mean over the test values, with values standardised by the training values."""
    mean, deviation = training[1].mean(), training[1].std()
    surrogate = learn(training[0], (training[1] - mean) / deviation, heteroscedastic=heteroscedastic)
    expected, variance = surrogate.predict(test[0])
    residuals = (test[1] - mean) / deviation - expected
    return float(np.mean(0.5 * np.log(2 * np.pi * variance) + residuals**2 / (2 * variance)))


@pytest.mark.parametrize("seed", range(3))
def test_noise_that_depends_on_the_point_predicts_new_draws_better(seed: int) -> None:
    training, test = drawn(40, 3, spread, seed), drawn(200, 1, spread, 100 + seed)
    better = negative_log_likelihood(training, test, heteroscedastic=True)
    assert better < negative_log_likelihood(training, test, heteroscedastic=False) - 0.2


@pytest.mark.parametrize("seed", range(3))
def test_where_the_noise_is_the_same_everywhere_little_is_lost(seed: int) -> None:
    def constant(points: Array) -> Array:
        return np.full(len(points), 0.2)

    training, test = drawn(40, 3, constant, seed), drawn(200, 1, constant, 100 + seed)
    lost = negative_log_likelihood(training, test, True) - negative_log_likelihood(training, test, False)
    assert lost < 0.1


def test_the_learnt_noise_is_that_of_the_draws() -> None:
    points, values = drawn(60, 4, spread, 0)
    noise = noise_of_draws(by_point(points, values))
    assert noise is not None
    at = np.array([[0.1, 0.5], [0.5, 0.5], [0.9, 0.5]])
    np.testing.assert_allclose(np.log(noise(at)), np.log(spread(at) ** 2), atol=1.0)


@pytest.mark.parametrize("known", [False, True], ids=["fitted noise", "given noise"])
def test_the_gradient_of_the_fit_is_that_of_its_loss(known: bool) -> None:
    points, values = drawn(15, 1, spread, 0)
    noise = spread(points) ** 2 if known else None
    logs = np.array([-0.5, 0.7] if known else [-0.5, 0.7, -3.0])

    def loss(logs: Array) -> float:
        return _negative_log_posterior(points, values, noise, 1.0, logs)[0]

    _, gradient = _negative_log_posterior(points, values, noise, 1.0, logs)
    np.testing.assert_allclose(gradient, approx_fprime(logs, loss, 1e-6), rtol=1e-4)


def test_the_process_predicts_as_the_textbook_does() -> None:
    # Values 0 and 2 far apart with noise 1: half of what they differ from their mean remains, and exp(-1/2) of that one
    # length scale away.
    process = Process(np.array([[0.0], [50.0]]), np.array([0.0, 2.0]), np.ones(2), np.array([0.5]))
    mean, variance = process.predict(np.array([[50.0], [50.5], [25.0]]))
    np.testing.assert_allclose(mean, [1.5, 1 + 0.5 * np.exp(-0.5), 1])
    np.testing.assert_allclose(variance, [0.5, 1 - 0.5 * np.exp(-1), 1])


def test_too_few_repeated_points_give_one_noise_for_all() -> None:
    points, values = drawn(9, 3, spread, 0)
    single, more = drawn(20, 1, spread, 1)
    surrogate = learn(np.vstack([points, single]), np.concatenate([values, more]))
    assert len(np.unique(surrogate.noise(np.random.default_rng(0).random((5, 2))))) == 1


def test_draws_of_one_point_by_hand() -> None:
    draws = by_point(np.array([[0.5, 0.1], [0.2, 0.3], [0.5, 0.1]]), np.array([1.0, 5.0, 4.0]))
    np.testing.assert_array_equal(draws.points, [[0.2, 0.3], [0.5, 0.1]])
    np.testing.assert_array_equal(draws.means, [5.0, 2.5])
    np.testing.assert_array_equal(draws.variances, [np.nan, 4.5])
    np.testing.assert_array_equal(draws.counts, [1, 2])


def test_repeated_draws_are_learnt_from_as_one_point() -> None:
    # Three draws at each of 12 points; the point with the lucky draw is no better than its neighbours.
    rng = np.random.default_rng(0)
    points = np.repeat(rng.random((12, 4)), 3, axis=0)
    values = [(x + e, 1 - x + e) for x, e in zip(points[:, 0], rng.normal(0, 0.02, 36), strict=True)]
    batch = points_of(NEHVI(initial=4).propose(make_request(history_at(points, values))))
    assert len(np.unique(batch, axis=0)) == 4


# --- scales ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "logarithmic"),
    [
        (np.exp(np.random.default_rng(0).normal(9, 2, 40)), True),
        (np.random.default_rng(0).normal(9, 2, 40), False),
        (np.cos(np.minimum(np.linspace(0, 2.5, 40), np.pi / 2)), False),
        (np.array([0.0, 10.0, 1e6]), False),
        (np.full(5, 3.0), False),
    ],
    ids=["orders of magnitude", "normal", "many near zero", "zero", "constant"],
)
def test_figures_are_learnt_on_the_scale_that_is_less_skewed(values: NDArray[np.float64], logarithmic: bool) -> None:
    scale = scale_of(values)
    assert scale.logarithmic == logarithmic
    there = scale.standardised(values)
    np.testing.assert_allclose(there.mean(), 0, atol=1e-9)
    np.testing.assert_allclose(scale.figures(torch.from_numpy(there)).numpy(), values, rtol=1e-9, atol=1e-9)


# --- what it proposes --------------------------------------------------------------------------------


def test_pending_proposals_of_earlier_rounds_are_kept_away_from() -> None:
    history = random_history(count=24)
    first = NEHVI(initial=4).propose(make_request(history, count=2))
    pending = [as_proposal(suggestion.genotype, 8, slot) for slot, suggestion in enumerate(first)]
    second = NEHVI(initial=4).propose(make_request(history, count=2, pending=pending))
    distance = np.abs(points_of(first)[:, None] - points_of(second)[None]).max(axis=2)
    assert distance.min() > 0.01


def test_a_reference_point_says_which_part_of_the_front_counts() -> None:
    # Along the front f0 = x^2, f1 = (x - 1)^2; only what is better than 0.05 in f0 counts.
    request = make_request(random_history(count=30), count=4)
    batch = points_of(NEHVI(initial=4).propose(replace(request, references=[0.05, 1.5])))
    assert batch[:, 0].max() < 0.35


def test_a_constraint_on_an_objective_needs_no_process_of_its_own() -> None:
    def limited(evaluation: Evaluation) -> Evaluation:
        return evaluation.model_copy(update={"constraints": {"f0": evaluation.objectives["f0"] - 0.25}})

    history = [limited(evaluation) for evaluation in random_history(count=30)]
    batch = points_of(NEHVI(initial=4).propose(replace(make_request(history), limits={"f0": 0.25})))
    assert (batch[:, 0] ** 2 + (batch[:, 1] - 0.5) ** 2).max() < 0.3


def test_three_objectives() -> None:
    history = random_history(lambda point: [point[0], point[1], 2 - point[0] - point[1]], 16)
    assert len(NEHVI(initial=4).propose(make_request(history, 3, count=2))) == 2


def test_random_numbers_and_threads_of_the_process_are_left_alone() -> None:
    request = make_request(random_history(), count=1)
    torch.manual_seed(5)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    first = NEHVI(initial=4).propose(request)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert NEHVI(initial=4).propose(request) == first


def test_only_this_strategy_needs_torch() -> None:
    code = (
        "import sys\n"
        "from tests.test_strategies import ParEGO, make_request, random_history\n"
        "ParEGO(initial=4).propose(make_request(random_history(), count=1))\n"
        "print(sorted({'torch', 'botorch', 'gpytorch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_it_beats_random_search_in_hypervolume() -> None:
    def hypervolume(strategy: Strategy) -> float:
        space = ToySpace(width=5, levels=3)
        return float(moocore.hypervolume(run(strategy, front, 48, 0, space, references=[1.5, 1.5]), ref=[1.5, 1.5]))

    def front(point: Array) -> Sequence[float]:
        loss = 1 + float(((point[1:5] - 0.5) ** 2).sum())
        return (loss * np.cos(np.pi / 2 * point[0]), loss * np.sin(np.pi / 2 * point[0]))

    assert hypervolume(NEHVI()) > hypervolume(RandomSearch()) + 0.1
