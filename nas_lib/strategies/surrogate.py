"""A Gaussian process of a figure that differs between the draws of one generator, with the noise of a draw anywhere.

How much the draws of a generator differ depends on its hyper-parameters (Ru, Esperança, Carlucci 2020, section 3.3 and
Table 1). Where enough points were drawn more than once, a second process learns the logarithm of the noise variance
from the sample variances (Goldberg, Williams, Bishop 1998, NIPS; with repeats: Ankenman, Nelson, Staum 2010, Operations
Research 58(2)). Otherwise the noise is one number, that of the largest posterior density.

Covariance and priors are those of Hvarfner, Hellsten, Nardi (2024, ICML, "Vanilla Bayesian optimization performs great
in high dimensions") and of BoTorch: squared exponential, one length scale per coordinate. They are fitted here, with
the gradient in closed form, because that takes a tenth of the time of automatic differentiation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nas_lib.strategies.bayesian import Array

LEAST_REPEATED = 10
"""Points with two or more draws from which the noise is learnt as a function of the point."""
LEAST_NOISE = 1e-5
"""Noise variance of standardised values below which draws are taken to be equal."""
LENGTH_PRIOR = (np.sqrt(2.0), np.sqrt(3.0))
"""Mean and deviation of the logarithm of a length scale in one dimension; the mean grows by log(d) / 2."""
NOISE_PRIOR = (-4.0, 1.0)
"""Mean and deviation of the logarithm of the noise variance."""
STARTS = ((0.0, -6.0), (1.0, -4.0))
"""Logarithms of the length scales and of the noise variance from which a fit begins; the better end is taken."""
OPTIONS = {"maxiter": 100}


@dataclass(frozen=True)
class Process:
    """A Gaussian process of constant mean, given noisy values."""

    points: Array
    """Shape (n, d)."""
    values: Array
    noise: Array
    """Noise variances of the values, shape (n,)."""
    lengths: Array
    """Length scales, shape (d,)."""
    signal: float = 1.0
    """Variance before anything is known."""

    @property
    def mean(self) -> float:
        """The likeliest mean: that of the values, weighted by what each says (generalised least squares)."""
        return _weighted_mean(self._factor, self.values)

    @cached_property
    def _factor(self) -> Any:
        from scipy.linalg import cho_factor

        return cho_factor(self.signal * _correlation(self.points, self.points, self.lengths) + np.diag(self.noise))

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and variance (k,) of the process, without noise, at points (k, d)."""
        from scipy.linalg import cho_solve

        between = self.signal * _correlation(points, self.points, self.lengths)
        expected = self.mean + between @ cho_solve(self._factor, self.values - self.mean)
        variance = self.signal - (between * cho_solve(self._factor, between.T).T).sum(axis=1)
        return expected, np.maximum(variance, 1e-12)


def _weighted_mean(factor: Any, values: Array) -> float:
    """The generalised least-squares mean of values (n,) with a covariance of this Cholesky factor."""
    from scipy.linalg import cho_solve

    weights = cho_solve(factor, np.ones(len(values)))
    return float(weights @ values / weights.sum())


def _correlation(first: Array, second: Array, lengths: Array) -> Array:
    """exp(-r^2 / 2) of points (n, d) and (k, d), r their distance in length scales."""
    from scipy.spatial.distance import cdist

    return np.asarray(np.exp(-0.5 * cdist(first / lengths, second / lengths, "sqeuclidean")))


def fit(
    points: Array, values: Array, noise: Array | None = None, signal: float = 1.0, shortest: float = 0.02
) -> Process:
    """The process of the largest posterior density for standardised values (n,) at points (n, d).

    The noise variance is one number that is fitted too, unless its values (n,) are given. No length scale is below
    `shortest`.
    """
    from scipy.optimize import minimize

    dimensions = points.shape[1]
    bounds = [(np.log(shortest), np.log(100.0))] * dimensions + [(np.log(LEAST_NOISE), 0.0)] * (noise is None)
    starts = [[length] * dimensions + [level] * (noise is None) for length, level in STARTS]

    def loss(logs: Array) -> tuple[float, Array]:
        return _negative_log_posterior(points, values, noise, signal, logs)

    found = [minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=OPTIONS) for start in starts]
    best = min(found, key=lambda result: result.fun).x
    variances = np.full(len(points), np.exp(best[-1])) if noise is None else noise
    return Process(points, values, variances, np.exp(best[:dimensions]), signal)


def _negative_log_posterior(
    points: Array, values: Array, noise: Array | None, signal: float, logs: Array
) -> tuple[float, Array]:
    """Minus the logarithm of likelihood times priors, and its gradient, in the logarithms of length scales and noise.

    The likelihood and its gradient are equations 2.30 and 5.9 of Rasmussen and Williams (2006), at the likeliest mean.
    """
    from scipy.linalg import cho_factor, cho_solve

    count, dimensions = points.shape
    lengths = np.exp(logs[:dimensions])
    covariance = signal * _correlation(points, points, lengths)
    variances = np.full(count, np.exp(logs[-1])) if noise is None else noise
    factor = cho_factor(covariance + np.diag(variances + 1e-9), lower=True)
    residuals = values - _weighted_mean(factor, values)
    weights = cho_solve(factor, residuals)
    likelihood = -0.5 * residuals @ weights - np.log(np.diag(factor[0])).sum()
    inner = np.outer(weights, weights) - cho_solve(factor, np.eye(count))
    moved = inner * covariance
    squares = moved.sum(axis=1) @ points**2 - np.einsum("ia,ij,ja->a", points, moved, points, optimize=True)
    gradient = squares / lengths**2
    means = np.full(dimensions, LENGTH_PRIOR[0] + np.log(dimensions) / 2)
    deviations = np.full(dimensions, LENGTH_PRIOR[1])
    if noise is None:
        gradient = np.append(gradient, 0.5 * np.trace(inner) * np.exp(logs[-1]))
        means, deviations = np.append(means, NOISE_PRIOR[0]), np.append(deviations, NOISE_PRIOR[1])
    # Log-normal: its density falls with the value itself too.
    prior = -logs.sum() - 0.5 * (((logs - means) / deviations) ** 2).sum()
    return float(-likelihood - prior), -gradient + 1 + (logs - means) / deviations**2


@dataclass(frozen=True)
class Draws:
    """Standardised values by the distinct points they were drawn at."""

    points: Array
    """Shape (g, d)."""
    means: Array
    variances: Array
    """Sample variances, NaN where there is one draw; shape (g,), like the means."""
    counts: Array


def by_point(points: Array, values: Array) -> Draws:
    """The values (n,) at equal points (n, d) taken together; equal is what agrees in nine digits."""
    _, first, group = np.unique(points.round(9), axis=0, return_index=True, return_inverse=True)
    group = group.ravel()
    counts = np.bincount(group).astype(float)
    means = np.bincount(group, values) / counts
    squares = np.bincount(group, (values - means[group]) ** 2)
    variances = np.where(counts > 1, squares / np.maximum(counts - 1, 1), np.nan)
    return Draws(points[first], means, variances, counts)


@dataclass(frozen=True)
class Surrogate:
    """A fitted process of the mean over draws, and the noise of a single draw."""

    process: Process
    """Given the mean of the draws at each distinct point."""
    noise: Callable[[Array], Array]
    """Points (n, d) -> noise variances (n,) of one draw."""

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and variance (n,) of one new draw at points (n, d)."""
        mean, variance = self.process.predict(points)
        return mean, variance + self.noise(points)


def learn(points: Array, values: Array, *, heteroscedastic: bool = True, shortest: float = 0.02) -> Surrogate:
    """The surrogate of standardised values (n,) at points (n, d).

    Its noise depends on the point only if that is wanted and enough points were drawn repeatedly.
    """
    draws = by_point(points, values)
    noise = noise_of_draws(draws) if heteroscedastic else None
    if noise is None:
        fitted = fit(points, values, shortest=shortest)
        constant = float(fitted.noise[0])
        process = Process(draws.points, draws.means, constant / draws.counts, fitted.lengths)
        return Surrogate(process, lambda points: np.full(len(points), constant))
    return Surrogate(fit(draws.points, draws.means, noise(draws.points) / draws.counts, shortest=shortest), noise)


def noise_of_draws(draws: Draws) -> Callable[[Array], Array] | None:
    """The noise variance as a function of the point; None with fewer than `LEAST_REPEATED` repeated points.

    With v degrees of freedom the logarithm of a sample variance is on average that of the variance plus
    psi(v/2) - log(v/2), and varies by psi'(v/2) (Bartlett and Kendall 1946): the first is taken off, the second is the
    noise of the second process. What the logarithms vary beyond it is the signal.
    """
    from scipy.special import digamma, polygamma

    repeated = draws.counts > 1
    if repeated.sum() < LEAST_REPEATED:
        return None
    half = (draws.counts[repeated] - 1) / 2
    logs = np.log(np.maximum(draws.variances[repeated], LEAST_NOISE)) - digamma(half) + np.log(half)
    spread = polygamma(1, half)
    mean = float(np.average(logs, weights=1 / spread))
    signal = max(float(np.mean((logs - mean) ** 2 - spread)), 0.01)
    process = fit(draws.points[repeated], logs, spread, signal)
    return lambda points: np.maximum(np.exp(process.predict(points)[0]), LEAST_NOISE)
