"""A Gaussian process on graphs, for tens to hundreds of measured architectures.

Labels of nodes are refined as Weisfeiler and Lehman do (Shervashidze et al. 2011): the new label of a node stands for
its own and those of the nodes whose outputs it takes. After h refinements a label says what a node computes from all
that lies up to h steps before it. A graph is the bag of its labels of every refinement, and bags are compared by how
often they have the same labels (Ru et al. 2021, NAS-BOWL, do so with the labels of all refinements alike).

As in `gene_process` the covariance has two parts: one is linear in the counts of labels, the other fades with the
distance between them. Every refinement has a weight of its own in both, found with the others at the maximum of the
posterior, which is how many refinements count is learnt. So does every feature that an architecture has beside its
graph, such as a score without training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas_lib.predictors.gene_process import Values, best_warp, evenly
from nas_lib.spaces.genes import GeneSpace, Numbers
from nas_lib.spaces.graphs import Graphs

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Labels = NDArray[np.uint64]
REFINEMENTS = 2
LEARNT_FROM = 300
"""Most architectures from which weights are learnt; the posterior rests on all."""
STEPS = 30
"""Most iterations of L-BFGS."""
CHUNK = 2000
"""Architectures drawn or predicted at once."""


@dataclass(frozen=True)
class Labelled:
    """Architectures as the labels of their nodes."""

    labels: Labels
    """After 0, 1, ... refinements, shape (refinements + 1, n, v)."""
    features: Values
    """What else is known of them, shape (n, k); k may be 0."""

    def at(self, rows: slice | NDArray[np.int64]) -> Labelled:
        """Some of the architectures."""
        return Labelled(self.labels[:, rows], self.features[rows])


def labels_of(space: GeneSpace, numbers: Numbers) -> Labelled:
    """Labels of the nodes of architectures (n, d), without features."""
    starts = range(0, max(len(numbers), 1), CHUNK)
    labels = [refined(space.graphs(numbers[start : start + CHUNK])) for start in starts]
    return Labelled(np.concatenate(labels, axis=1), np.empty((len(numbers), 0)))


def refined(graphs: Graphs, refinements: int = REFINEMENTS) -> Labels:
    """Labels of nodes after 0, 1, ... refinements, shape (refinements + 1, n, v); 0 where there is no node.

    Labels are numbers of 64 bits that are equal where the labels they stand for are, and otherwise differ but by an
    accident of 1 in 10^19; those of several nodes are added, so their order does not matter.
    """
    present = graphs.labels >= 0
    found = [np.where(present, _mixed(graphs.labels.astype(np.uint64)), np.uint64(0))]
    for _ in range(refinements):
        sent = np.where(present, _mixed(found[-1]), np.uint64(0))
        received = np.zeros_like(sent)
        for node in range(sent.shape[1]):
            received += np.where(graphs.edges[:, node], sent[:, node, None], np.uint64(0))
        found.append(np.where(present, _mixed(found[-1] * np.uint64(3) + received), np.uint64(0)))
    return np.stack(found)


def _mixed(labels: Labels) -> Labels:
    """Every bit of the result depends on all bits of a label (SplitMix64, Steele et al. 2014)."""
    found = labels + np.uint64(0x9E3779B97F4A7C15)
    found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(found ^ (found >> np.uint64(31)))


class GraphProcess:
    """The process of one objective: scikit-learn's `fit` and `predict`, on what `labels_of` gives."""

    def fit(self, inputs: Labelled, targets: Values) -> GraphProcess:
        """Learn from n architectures and their targets (n,), smaller is better."""
        some = evenly(len(targets), LEARNT_FROM)
        self._bags, self._features = _bags(inputs.labels), _standardised(inputs.features)
        parts = self._parts(inputs.features, *_compared(self._bags, inputs.labels))
        inverse = _inverted(parts, self._expected())

        def left_out(warped: Values) -> Values:
            standard = self._standard(warped)
            return np.asarray(standard - inverse @ standard / np.diag(inverse))

        self.warp = best_warp(targets, left_out)
        standard = self._standard(self.warp.of(targets))
        learnt_from = _Parts(parts.linear[:, some[:, None], some], parts.apart[:, some[:, None], some])
        self._weights = _learnt(learnt_from, standard[some], self._expected())
        self._inverse = _inverted(parts, self._weights)
        self._solved = self._inverse @ standard
        return self

    def predict(self, inputs: Labelled) -> Values:
        """Expected targets (n,): the inverse warp of the warped mean."""
        return self.warp.back(self._warped(inputs, deviation=False)[0])

    def uncertain(self, inputs: Labelled) -> tuple[Values, Values]:
        """Expected targets (n,) and half the distance between those one standard deviation up and down, with noise."""
        mean, deviation = self._warped(inputs, deviation=True)
        deviation = np.sqrt(deviation**2 + np.exp(self._weights[-1]) * self._scale**2)
        span = self.warp.back(mean + deviation) - self.warp.back(mean - deviation)
        return self.warp.back(mean), span / 2

    def _standard(self, warped: Values) -> Values:
        self._centre, self._scale = float(warped.mean()), float(warped.std()) or 1.0
        return (warped - self._centre) / self._scale

    def _parts(self, features: Values, products: Values, norms: Values) -> _Parts:
        """Of n architectures with the measured ones: per refinement, then per feature, (refinements + 1 + k, n, m)."""
        parts = _parts(self._bags, products, norms)
        others, own = self._features(features).T[:, :, None], self._features.measured.T[:, None, :]
        apart = (others - own) ** 2 / 2
        return _Parts(np.concatenate([parts.linear, others * own]), np.concatenate([parts.apart, apart]))

    def _expected(self) -> Values:
        return _expected(len(self._bags.words), self._features.measured.shape[1])

    def _warped(self, inputs: Labelled, *, deviation: bool) -> tuple[Values, Values]:
        """Mean and standard deviation (n,) of warped targets, noise left out; what is equal is predicted once."""
        known = np.hstack([np.sort(inputs.labels[-1], axis=1), np.ascontiguousarray(inputs.features).view(np.uint64)])
        _, first, place = np.unique(known, axis=0, return_index=True, return_inverse=True)
        inputs = inputs.at(first)
        mean, variance = np.empty(len(first)), np.ones(len(first))
        for start in range(0, len(first), CHUNK):
            rows = slice(start, start + CHUNK)
            some = inputs.at(rows)
            products, norms = _compared(self._bags, some.labels)
            covariance = _covariance(self._parts(some.features, products, norms), self._weights)
            mean[rows] = covariance @ self._solved
            if deviation:
                explained = ((covariance @ self._inverse) * covariance).sum(axis=1)
                variance[rows] = self._own(some.features, products, norms) - explained
        mean, deviations = mean * self._scale + self._centre, np.sqrt(np.maximum(variance, 1e-12)) * self._scale
        return mean[place.ravel()], deviations[place.ravel()]

    def _own(self, features: Values, products: Values, norms: Values) -> Values:
        """Of n architectures with themselves, noise left out, shape (n,)."""
        levels = len(norms)
        graphs = np.exp(self._weights[:levels]) @ _centred_norms(self._bags, products, norms)
        slopes = np.exp(self._weights[levels : levels + features.shape[1]])
        return np.asarray(graphs + self._features(features) ** 2 @ slopes + np.exp(self._weights[-2]))


@dataclass(frozen=True)
class _Standardised:
    """Features in units of their deviation from their mean, among measured architectures."""

    mean: Values
    deviation: Values
    measured: Values
    """Of the measured architectures, shape (measured, k)."""

    def __call__(self, features: Values) -> Values:
        """Of architectures with features (n, k)."""
        return (features - self.mean) / self.deviation


def _standardised(features: Values) -> _Standardised:
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    return _Standardised(mean, deviation, (features - mean) / deviation)


# --- bags of labels ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bags:
    """Measured architectures as counts of labels, one entry per refinement."""

    words: list[Labels]
    """Labels that occur."""
    counts: list[csr_matrix]
    """How often each architecture has each of them, shape (measured, words)."""
    norms: Values
    """Product of each architecture with itself, shape (refinements + 1, measured)."""
    middle: Values
    """Mean product of each architecture with all, shape (refinements + 1, measured)."""
    linear: Values
    """Mean variance of the centred counts, shape (refinements + 1,)."""
    distance: Values
    """Mean squared distance of two, shape (refinements + 1,)."""


def _bags(labels: Labels) -> _Bags:
    words = [np.unique(level[level != 0]) for level in labels]
    counts = [_counted(level, known) for level, known in zip(labels, words, strict=True)]
    products = np.stack([(one @ one.T).toarray() for one in counts])
    norms = products.diagonal(axis1=1, axis2=2)
    whole = products.mean(axis=(1, 2))
    variance = norms.mean(axis=1) - whole
    linear = np.where(variance > 1e-12, variance, 1.0)
    return _Bags(words, counts, norms, products.mean(axis=1), linear, 2 * linear)


def _counted(labels: Labels, words: Labels) -> csr_matrix:
    """How often each architecture (n, v) has each word; other labels are left out."""
    from scipy.sparse import csr_matrix

    if not len(words):
        return csr_matrix((len(labels), 1))
    places = np.minimum(np.searchsorted(words, labels), len(words) - 1)
    known = words[places] == labels
    rows = np.nonzero(known)[0]
    return csr_matrix((np.ones(len(rows)), (rows, places[known])), shape=(len(labels), len(words)))


def _compared(bags: _Bags, labels: Labels) -> tuple[Values, Values]:
    """Products of architectures with the measured ones (refinements + 1, n, measured), and with themselves."""
    products, norms = [], []
    for level, words, counts in zip(labels, bags.words, bags.counts, strict=True):
        products.append((_counted(level, words) @ counts.T).toarray())
        ordered = np.sort(level, axis=1)
        alike = (ordered[:, :, None] == ordered[:, None, :]) & (ordered != 0)[:, :, None]
        norms.append(alike.sum(axis=(1, 2)).astype(float))
    return np.stack(products), np.stack(norms)


# --- covariance ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Parts:
    """What weights are multiplied with, per refinement and feature; shapes (levels, n, measured)."""

    linear: Values
    """Products of centred counts, in units of which a measured architecture has 1 with itself on average."""
    apart: Values
    """Squared distances between counts, in units of which two measured architectures are 1 apart on average."""


def _parts(bags: _Bags, products: Values, norms: Values) -> _Parts:
    whole = bags.middle.mean(axis=1)[:, None, None]
    centred = products - products.mean(axis=2)[:, :, None] - bags.middle[:, None, :] + whole
    apart = np.maximum(norms[:, :, None] + bags.norms[:, None, :] - 2 * products, 0.0)
    return _Parts(centred / bags.linear[:, None, None], apart / bags.distance[:, None, None])


def _expected(levels: int, features: int) -> Values:
    """Expected logarithms of the weights: linear per refinement and feature, distance likewise, interacting, noise."""
    each = np.concatenate([np.full(levels, -np.log(levels)), np.full(features, -np.log(max(features, 1)))])
    return np.concatenate([each, each, [0.0, np.log(1e-2)]])


def _covariance(parts: _Parts, weights: Values) -> Values:
    """Between n architectures and the measured ones, noise left out."""
    levels = len(parts.linear)
    linear = np.tensordot(np.exp(weights[:levels]), parts.linear, axes=1)
    return np.asarray(linear + _interacting(parts, weights))


def _interacting(parts: _Parts, weights: Values) -> Values:
    levels = len(parts.linear)
    apart = np.tensordot(np.exp(weights[levels : 2 * levels]), parts.apart, axes=1)
    return np.asarray(np.exp(weights[-2] - apart))


def _centred_norms(bags: _Bags, products: Values, norms: Values) -> Values:
    """Products of n architectures with themselves, as in `_Parts.linear`, shape (refinements + 1, n)."""
    centred = norms - 2 * products.mean(axis=2) + bags.middle.mean(axis=1)[:, None]
    return np.asarray(centred / bags.linear[:, None])


def _noise(weights: Values, count: int) -> Values:
    return np.asarray(np.exp(weights[-1]) * np.eye(count))


def _inverted(parts: _Parts, weights: Values) -> Values:
    """The inverse of the covariance of the measured architectures, noise included."""
    from scipy import linalg

    covariance = _covariance(parts, weights) + _noise(weights, parts.linear.shape[1])
    return np.asarray(linalg.cho_solve((linalg.cholesky(covariance, lower=True), True), np.eye(len(covariance))))


def _learnt(parts: _Parts, targets: Values, expected: Values) -> Values:
    """Logarithms of the weights at the maximum of the posterior, from standardised targets (n,).

    Priors, all normal in the logarithm, around `expected`: each weight of a refinement or feature around one over the
    number of these, with deviation 2 in the linear part and 1.5 in the other; the variance of the other around 1 with
    deviation 2; noise around 0.01 of the variance with deviation 2.
    """
    from scipy import linalg, optimize

    count, levels = len(targets), len(parts.linear)
    linear, apart = parts.linear.reshape(levels, -1), parts.apart.reshape(levels, -1)
    deviation = np.concatenate([np.full(levels, 2.0), np.full(levels, 1.5), [2.0, 2.0]])

    def loss(weights: Values) -> tuple[float, Values]:
        interacting = _interacting(parts, weights).ravel()
        covariance = (np.exp(weights[:levels]) @ linear + interacting).reshape(count, count) + _noise(weights, count)
        lower = linalg.cholesky(covariance, lower=True)
        inverse = linalg.cho_solve((lower, True), np.eye(count))
        solved = inverse @ targets
        slope = inverse - np.outer(solved, solved)
        fading = slope.ravel() * interacting
        gradient = 0.5 * np.concatenate(
            [
                np.exp(weights[:levels]) * (linear @ slope.ravel()),
                -np.exp(weights[levels : 2 * levels]) * (apart @ fading),
                [fading.sum(), np.exp(weights[-1]) * np.trace(slope)],
            ]
        )
        off = (weights - expected) / deviation
        value = 0.5 * targets @ solved + np.log(np.diag(lower)).sum() + 0.5 * off @ off
        return float(value), gradient + off / deviation

    bounds = [(-12.0, 5.0)] * (2 * levels) + [(-8.0, 5.0), (np.log(1e-5), 1.0)]
    found = optimize.minimize(loss, expected, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS})
    return np.asarray(found.x)
