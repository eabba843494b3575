"""A Gaussian process on genes, for tens to hundreds of measured architectures.

The covariance of two architectures has two parts. One is linear in the options, so it stands for additive effects
(chains of blocks). The other is `exp(-sum_g w_g d_g)` over the genes g, with d_g in [0, 1] how far apart their options
are: interactions, which fade with every gene in which the two differ (the exponential kernel on categories of Couto
2005, and of Wan et al. 2021, CASMOPOLITAN). All weights have priors, as a fit of 45 weights to 20 points would need
(maximum a posteriori, as Hvarfner et al. 2024 advise for many dimensions).

Features, such as scores without training, are columns of their own: ordered genes in the interactions, and in the
linear part each with a weight of its own, so that a score that foretells the objective becomes its learnt prior mean.

Errors of architectures are skewed: a few are far worse than the rest, and how bad they are is of no interest. So
targets go through one of `WARPS`: the one under which each measured architecture is best foretold from all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from nas_lib.spaces.genes import GeneSpace, Numbers

Values = NDArray[np.float64]
MANY_OPTIONS = 12
"""Ordered genes with more options than this are compared by their place alone, not also by being equal."""
LEARNT_FROM = 300
"""Most architectures from which weights are learnt; the posterior rests on all."""
COMPARED_ON = 120
"""Most architectures on which warps are compared."""
LEAST_SCALE = 0.01
"""Median minus best, in standard deviations, below which it is no unit: rounding errors would be stretched."""
STEPS = 40
"""Most iterations of L-BFGS."""
CHUNK = 5000
"""Architectures predicted at once."""


@dataclass(frozen=True)
class Columns:
    """Architectures as numbers: the squared distance of two rows within the columns of a gene is d_g."""

    values: Values
    """Shape (n, columns)."""
    genes: NDArray[np.int64]
    """Which gene each column belongs to, numbered without gaps, shape (columns,)."""
    features: int = 0
    """How many of the columns, the last ones, are features; each counts as a gene in `genes`."""


def columns_of(space: GeneSpace, numbers: Numbers) -> Columns:
    """Columns of architectures (n, d). A gene without effect has all options at 0 and an ordered place of 1/2.

    Unordered: d is 1 where the options differ (1/2 where one gene has no effect). Ordered: half of that, and half the
    square of how far apart the places are, as a share of all.
    """
    active = space.active(numbers)
    columns: list[Values] = []
    genes: list[int] = []
    for place, gene in enumerate(space.genes):
        count = len(gene.options)
        if count < 2:
            continue
        equality = 0.0 if gene.is_ordered and count > MANY_OPTIONS else 0.5 if gene.is_ordered else 1.0
        if equality:
            columns += [
                np.sqrt(equality / 2) * ((numbers[:, place] == option) & active[:, place]) for option in range(count)
            ]
        if gene.is_ordered:
            position = np.where(active[:, place], numbers[:, place] / (count - 1), 0.5)
            columns.append(np.sqrt(1 - equality) * position)
        genes += [place] * (len(columns) - len(genes))
    if not columns:
        return Columns(np.zeros((len(numbers), 1)), np.zeros(1, dtype=np.int64))
    return Columns(np.array(columns, dtype=float).T, np.unique(genes, return_inverse=True)[1])


def with_features(columns: Columns, features: Values) -> Columns:
    """Columns of the same architectures and, after them, features (n, k) in [0, 1]: d is the square of how far apart
    two are, as for ordered genes of many options."""
    count = features.shape[1]
    genes = np.concatenate([columns.genes, columns.genes.max() + 1 + np.arange(count)])
    return Columns(np.hstack([columns.values, features]), genes, count)


@dataclass(frozen=True)
class Warp:
    """A monotone function of targets and its inverse (of a flat part: its better end)."""

    name: str
    of: Callable[[Values], Values]
    back: Callable[[Values], Values]


def warp(name: str, targets: Values) -> Warp:
    """A warp fitted to targets, smaller is better. z is the distance to the median in units of median minus best, or of
    the standard deviation where half of the targets are next to the best.

    - `none`: z;
    - `clip`: all that is worse than z = 1 counts as 1;
    - `soft`: z up to the median, log(1 + z) above it;
    - `log`: log(1 + 4 (z + 1)), which spreads the best.
    """
    best, middle, spread = float(targets.min()), float(np.median(targets)), float(targets.std())
    scale = middle - best if middle - best > LEAST_SCALE * spread else spread or 1.0

    def standard(values: Values) -> Values:
        return (values - middle) / scale

    def back(values: Values) -> Values:
        return values * scale + middle

    forms: Mapping[str, tuple[Callable[[Values], Values], Callable[[Values], Values]]] = {
        "none": (lambda z: z, lambda v: v),
        "clip": (lambda z: np.minimum(z, 1.0), lambda v: v),
        "soft": (
            lambda z: np.where(z > 0, np.log1p(np.maximum(z, 0.0)), z),
            lambda v: np.where(v > 0, np.expm1(np.maximum(v, 0.0)), v),
        ),
        "log": (lambda z: np.log1p(4 * np.maximum(z + 1, -0.2)), lambda v: np.expm1(v) / 4 - 1),
    }
    forward, inverse = forms[name]
    return Warp(name, lambda values: forward(standard(values)), lambda values: back(inverse(values)))


WARPS = ("none", "clip", "soft", "log")


def best_warp(targets: Values, left_out: Callable[[Values], Values], some: NDArray[np.int64] | None = None) -> Warp:
    """The warp of targets (n,) under which they, and the better half of them, are best ranked by `left_out`.

    Args:
        targets: What is warped.
        left_out: Warped targets (n,) -> what is foretold of each from all others, of those at `some` (default: all).
        some: The places on which warps are compared.
    """
    from scipy import stats

    chosen = targets if some is None else targets[some]
    better = chosen <= np.median(chosen)
    scores = []
    for name in WARPS:
        foretold = left_out(warp(name, targets).of(targets))
        agreement = [stats.kendalltau(foretold[which], chosen[which]).statistic for which in (slice(None), better)]
        scores.append(float(np.nan_to_num(agreement).sum()))
    return warp(WARPS[int(np.argmax(scores))], targets)


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """At most so many of the places 0 .. count - 1, evenly, the last one included."""
    return np.unique(np.linspace(count - 1, 0, min(count, most)).round().astype(np.int64))


class GeneProcess:
    """The process of one objective: scikit-learn's `fit` and `predict`, on `Columns`."""

    def fit(self, inputs: Columns, targets: Values) -> GeneProcess:
        """Learn from n architectures and their targets (n,), smaller is better."""
        self._middle = inputs.values.mean(axis=0)
        inputs = replace(inputs, values=inputs.values - self._middle)
        self._choose_warp(inputs, targets)
        weights = self._weights_of(inputs, self.warp.of(targets))
        self._posterior = _posterior(inputs, self._standard(self.warp.of(targets)), weights)
        return self

    def predict(self, inputs: Columns) -> Values:
        """Expected targets (n,): the inverse warp of the warped mean."""
        return self.warp.back(self.mean(inputs))

    def uncertain(self, inputs: Columns) -> tuple[Values, Values]:
        """Expected targets (n,) and half the distance between those one standard deviation up and down, with noise."""
        mean = self.mean(inputs)
        deviation = np.sqrt(self.deviation(inputs) ** 2 + self._posterior.weights.noise * self._scale**2)
        span = self.warp.back(mean + deviation) - self.warp.back(mean - deviation)
        return self.warp.back(mean), span / 2

    def mean(self, inputs: Columns) -> Values:
        """Mean (n,) of warped targets: much quicker than with the deviation."""
        return self._posterior.mean(self._chunks(inputs)) * self._scale + self._centre

    def deviation(self, inputs: Columns) -> Values:
        """Standard deviation (n,) of warped targets, noise left out."""
        return self._posterior.deviation(self._chunks(inputs)) * self._scale

    def _chunks(self, inputs: Columns) -> Iterator[Values]:
        starts = range(0, len(inputs.values), CHUNK)
        return (inputs.values[start : start + CHUNK] - self._middle for start in starts)

    def _choose_warp(self, inputs: Columns, targets: Values) -> None:
        some = evenly(len(targets), COMPARED_ON)
        part = replace(inputs, values=inputs.values[some])

        def left_out(warped: Values) -> Values:
            weights = self._weights_of(part, warped[some])
            return _posterior(part, self._standard(warped[some]), weights).left_out

        self.warp = best_warp(targets, left_out, some)

    def _weights_of(self, inputs: Columns, warped: Values) -> _Weights:
        self._centre, self._scale = float(warped.mean()), float(warped.std()) or 1.0
        some = evenly(len(warped), LEARNT_FROM)
        return _learnt(replace(inputs, values=inputs.values[some]), self._standard(warped)[some])

    def _standard(self, warped: Values) -> Values:
        return (warped - self._centre) / self._scale


@dataclass(frozen=True)
class _Weights:
    genes: Values
    """w_g, shape (genes,)."""
    noise: float
    interacting: float
    """Variance of the exponential part."""
    additive: float
    """Variance of the linear part."""
    features: Values = field(default_factory=lambda: np.empty(0))
    """Variance of the linear part of each feature, shape (features,)."""


def _learnt(inputs: Columns, targets: Values) -> _Weights:
    """Weights at the maximum of the posterior, from standardised targets (n,).

    Priors, all normal in the logarithm: w_g around 2 / genes (so that two random architectures are about e^-1 alike)
    with deviation 1; noise around 0.01 of the variance with deviation 2; the two variances around 1 with deviation 2;
    those of features around 1 / features with deviation 2.
    """
    from scipy import linalg, optimize

    count, genes, features = len(targets), int(inputs.genes.max()) + 1, inputs.features
    columns = [inputs.values[:, inputs.genes == gene] for gene in range(genes)]
    distances = np.stack([_squared(own, own) for own in columns]).reshape(genes, -1)
    linear, identity = _linear(inputs.values, inputs), np.eye(count)
    own = _features(inputs.values, inputs).T
    effects = (own[:, :, None] * own[:, None, :]).reshape(features, count * count)
    prior = np.full(features, -np.log(max(features, 1)))
    expected = np.concatenate([np.full(genes, np.log(2 / genes)), [np.log(1e-2), 0.0, 0.0], prior])
    deviation = np.concatenate([np.full(genes, 1.0), [2.0, 2.0, 2.0], np.full(features, 2.0)])

    def loss(logarithms: Values) -> tuple[float, Values]:
        weights, (noise, interacting, additive) = np.exp(logarithms[:genes]), np.exp(logarithms[genes : genes + 3])
        slopes = np.exp(logarithms[genes + 3 :])
        alike = interacting * np.exp(-(weights @ distances)).reshape(count, count)
        covariance = alike + additive * linear + noise * identity
        if features:
            covariance += (slopes @ effects).reshape(count, count)
        lower = linalg.cholesky(covariance, lower=True)
        inverse = linalg.cho_solve((lower, True), identity)
        solved = inverse @ targets
        slope = inverse - np.outer(solved, solved)
        gradient = np.empty(genes + 3 + features)
        gradient[:genes] = -0.5 * weights * (distances @ (slope * alike).ravel())
        gradient[genes + 3 :] = 0.5 * slopes * (effects @ slope.ravel())
        gradient[genes : genes + 3] = (
            0.5 * noise * np.trace(slope),
            0.5 * (slope * alike).sum(),
            0.5 * additive * (slope * linear).sum(),
        )
        apart = (logarithms - expected) / deviation
        value = 0.5 * targets @ solved + np.log(np.diag(lower)).sum() + 0.5 * apart @ apart
        return float(value), gradient + apart / deviation

    bounds = [(-12.0, 4.0)] * genes + [(np.log(1e-5), 1.0), (-8.0, 5.0), (-8.0, 5.0)]
    bounds += [(-8.0, 5.0)] * features
    found = optimize.minimize(loss, expected, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS})
    weights = np.exp(found.x)
    noise, interacting, additive = (float(weight) for weight in weights[genes : genes + 3])
    return _Weights(weights[:genes], noise, interacting, additive, features=weights[genes + 3 :])


@dataclass(frozen=True)
class _Posterior:
    inputs: Columns
    """Measured architectures, centred."""
    weights: _Weights
    lower: Values
    """Cholesky factor of the covariance of the measured architectures, noise included."""
    solved: Values
    left_out: Values
    """Mean of each measured architecture given all others (Rasmussen and Williams 2006, equation 5.12)."""

    def mean(self, chunks: Iterable[Values]) -> Values:
        """At rows, in chunks of shape (n, columns)."""
        parts = [_covariance(rows, self.inputs, self.weights) @ self.solved for rows in chunks]
        return np.concatenate([np.empty(0), *parts])

    def deviation(self, chunks: Iterable[Values]) -> Values:
        """At rows, in chunks of shape (n, columns)."""
        from scipy import linalg

        parts = [np.empty(0)]
        for rows in chunks:
            own = self.weights.interacting + self.weights.additive * _norm(rows, self.inputs)
            own = own + _features(rows, self.inputs) ** 2 @ self.weights.features
            covariance = _covariance(rows, self.inputs, self.weights)
            explained = linalg.solve_triangular(self.lower, covariance.T, lower=True)
            parts.append(np.sqrt(np.maximum(own - (explained**2).sum(axis=0), 1e-12)))
        return np.concatenate(parts)


def _posterior(inputs: Columns, targets: Values, weights: _Weights) -> _Posterior:
    from scipy import linalg

    covariance = _covariance(inputs.values, inputs, weights) + weights.noise * np.eye(len(targets))
    lower = linalg.cholesky(covariance, lower=True)
    inverse = linalg.cho_solve((lower, True), np.eye(len(targets)))
    solved = inverse @ targets
    return _Posterior(inputs, weights, lower, solved, targets - solved / np.diag(inverse))


def _covariance(rows: Values, inputs: Columns, weights: _Weights) -> Values:
    """Between rows (n, columns) and the measured architectures, shape (n, measured)."""
    scale = np.sqrt(weights.genes)[inputs.genes]
    apart = _squared(rows * scale, inputs.values * scale)
    interacting = weights.interacting * np.exp(-apart)
    covariance = interacting + weights.additive * _linear(rows, inputs)
    if inputs.features:
        covariance += (_features(rows, inputs) * weights.features) @ _features(inputs.values, inputs).T
    return np.asarray(covariance)


def _squared(rows: Values, others: Values) -> Values:
    """Squared distances (n, m) of rows (n, columns) to others (m, columns)."""
    norms = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None]
    return np.asarray(np.maximum(norms - 2 * rows @ others.T, 0.0))


def _linear(rows: Values, inputs: Columns) -> Values:
    """Products (n, measured) of centred rows with the measured ones, in units of which a random one has about 1;
    features left out."""
    genes, scale = _genes(inputs)
    return np.asarray(rows[:, genes] @ inputs.values[:, genes].T * scale)


def _norm(rows: Values, inputs: Columns) -> Values:
    """The product of each row with itself, in the same units, shape (n,)."""
    genes, scale = _genes(inputs)
    return np.asarray((rows[:, genes] ** 2).sum(axis=1) * scale)


def _genes(inputs: Columns) -> tuple[slice, float]:
    """The columns that are no features, and two over the number of their genes."""
    return slice(inputs.values.shape[1] - inputs.features), 2 / (int(inputs.genes.max()) + 1 - inputs.features)


def _features(rows: Values, inputs: Columns) -> Values:
    """Features of centred rows in units of their deviation among the measured ones, shape (n, features)."""
    first = inputs.values.shape[1] - inputs.features
    deviation = inputs.values[:, first:].std(axis=0)
    return np.asarray(rows[:, first:] / np.where(deviation > 0, deviation, 1.0))
