"""A Gaussian process of a figure that differs between the draws of one generator, with the noise of a draw anywhere.

How much the draws of a generator differ depends on its hyper-parameters (Ru, Esperança, Carlucci 2020, section 3.3 and
Table 1). Where enough points were drawn more than once, a second process learns the logarithm of the noise variance
from the sample variances (Goldberg, Williams, Bishop 1998, NIPS; with repeats: Ankenman, Nelson, Staum 2010, Operations
Research 58(2)). Otherwise the noise is one number, that of the largest likelihood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nas_lib.strategies.bayesian import Array, fit, posterior

if TYPE_CHECKING:
    from sklearn.gaussian_process.kernels import Kernel

LEAST_REPEATED = 10
"""Points with two or more draws from which the noise is learnt as a function of the point."""
LEAST_NOISE = 1e-6
"""Noise variance of standardised values below which draws are taken to be equal."""


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

    kernel: Kernel
    """Constant times Matern, without noise."""
    noise: Callable[[Array], Array]
    """Points (n, d) -> noise variances (n,) of one draw."""
    draws: Draws

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and variance (n,) of one new draw at points (n, d)."""
        noise = self.noise(self.draws.points) / self.draws.counts
        process = posterior(self.kernel, noise, self.draws.points, self.draws.means)
        mean, deviation = process.predict(points, return_std=True)
        return mean, deviation**2 + self.noise(points)


def learn(points: Array, values: Array, *, heteroscedastic: bool = True) -> Surrogate:
    """The surrogate of standardised values (n,) at points (n, d).

    Its noise depends on the point only if that is wanted and enough points were drawn repeatedly.
    """
    draws = by_point(points, values)
    noise = noise_of_draws(draws) if heteroscedastic else None
    if noise is not None:
        kernel, _ = fit(draws.points, draws.means, noise(draws.points) / draws.counts)
        return Surrogate(kernel, noise, draws)
    kernel, constant = fit(points, values)
    return Surrogate(kernel, lambda points: np.full(len(points), float(constant)), draws)


def noise_of_draws(draws: Draws) -> Callable[[Array], Array] | None:
    """The noise variance as a function of the point; None with fewer than `LEAST_REPEATED` repeated points.

    With v degrees of freedom the logarithm of a sample variance is on average that of the variance plus
    psi(v/2) - log(v/2), and varies by psi'(v/2) (Bartlett and Kendall 1946): the first is taken off, the second is the
    noise of the second process.
    """
    from scipy.special import digamma, polygamma

    repeated = draws.counts > 1
    if repeated.sum() < LEAST_REPEATED:
        return None
    points, half = draws.points[repeated], (draws.counts[repeated] - 1) / 2
    logs = np.log(np.maximum(draws.variances[repeated], LEAST_NOISE)) - digamma(half) + np.log(half)
    mean, deviation = logs.mean(), logs.std() or 1.0
    targets, spread = (logs - mean) / deviation, polygamma(1, half) / deviation**2
    process = posterior(*fit(points, targets, spread), points, targets)
    return lambda points: np.exp(mean + deviation * process.predict(points))
