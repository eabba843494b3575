"""Predictors: from measured architectures of a space of genes to the objectives of others.

One interface for all: `fit(name, space, numbers, targets, rng)` gives a function of option numbers. Inputs are masked
one-hot columns (a gene without effect has none), for trees option numbers with -1 for genes without effect.
To add a predictor: one function here, and one line in `PREDICTORS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nas_lib.spaces.genes import GeneSpace, Numbers

Values = NDArray[np.float64]
PredictorName = Literal["ridge", "svr", "stacked", "boosting", "forest", "gp", "mlp"]
FOLDS = 5
FEWEST = 2 * FOLDS
"""Architectures below which nothing is cross-validated."""


@dataclass(frozen=True)
class Fitted:
    """A predictor that has learnt one objective."""

    name: str
    predict: Callable[[Numbers], Values]
    """Option numbers (n, d) -> values (n,)."""


def fit(name: PredictorName, space: GeneSpace, numbers: Numbers, targets: Values, rng: np.random.Generator) -> Fitted:
    """A predictor of one objective from measured architectures: numbers (n, d), targets (n,), standardised inside."""
    make, inputs = PREDICTORS[name]
    centre, scale = float(targets.mean()), float(targets.std()) or 1.0
    model = make(len(numbers), int(rng.integers(2**31))).fit(inputs(space, numbers), (targets - centre) / scale)
    return Fitted(name, lambda others: np.asarray(model.predict(inputs(space, others)) * scale + centre, dtype=float))


def best_name(
    names: tuple[PredictorName, ...], space: GeneSpace, numbers: Numbers, targets: Values, rng: np.random.Generator
) -> PredictorName:
    """The predictor with the best rank correlation (Kendall) on held-out folds; the first where there is too little."""
    from scipy import stats

    if len(numbers) < FEWEST or len(names) == 1:
        return names[0]
    folds = rng.permutation(len(numbers)) % FOLDS
    scores = []
    for name in names:
        predicted = np.empty(len(numbers))
        for fold in range(FOLDS):
            held_out = folds == fold
            predicted[held_out] = fit(name, space, numbers[~held_out], targets[~held_out], rng).predict(
                numbers[held_out]
            )
        scores.append(float(np.nan_to_num(stats.kendalltau(predicted, targets).statistic)))
    return names[int(np.argmax(scores))]


# --- the family ------------------------------------------------------------------------------------


def _one_hot(space: GeneSpace, numbers: Numbers) -> Values:
    return space.one_hot(numbers)


def _places(space: GeneSpace, numbers: Numbers) -> Values:
    return np.where(space.active(numbers), numbers, -1).astype(float)


def _ridge(_: int, __: int) -> Any:
    from sklearn.linear_model import RidgeCV

    return RidgeCV(alphas=(0.1, 0.5, 1, 2, 5, 10))


def _svr(count: int, _: int) -> Any:
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVR

    # With gamma="auto", one over the columns, as in the released code of DyNAS-T.
    model = SVR(kernel="rbf", gamma="auto", epsilon=0.0, cache_size=50)
    if count < FEWEST:
        return model.set_params(C=10)
    return GridSearchCV(model, {"C": [1, 10, 50, 100]}, cv=FOLDS, scoring="neg_mean_absolute_error")


def _stacked(count: int, _: int) -> Any:
    from sklearn.ensemble import StackingRegressor
    from sklearn.linear_model import Ridge
    from sklearn.svm import SVR

    if count < FEWEST:
        return _ridge(count, 0)
    parts = [("ridge", _ridge(count, 0)), ("svr", SVR(kernel="rbf", gamma="auto", C=50, epsilon=0.0))]
    return StackingRegressor(parts, final_estimator=Ridge(alpha=0.1), cv=FOLDS)


def _boosting(_: int, seed: int) -> Any:
    from sklearn.ensemble import GradientBoostingRegressor

    return GradientBoostingRegressor(n_estimators=200, learning_rate=0.1, max_depth=3, subsample=0.8, random_state=seed)


def _forest(_: int, seed: int) -> Any:
    from sklearn.ensemble import ExtraTreesRegressor

    return ExtraTreesRegressor(n_estimators=200, random_state=seed, n_jobs=1)


def _gp(_: int, seed: int) -> Any:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel

    # On one-hot columns the squared distance counts the genes that differ: a kernel on Hamming distances.
    kernel = RBF(3.0, (0.3, 30.0)) + WhiteKernel(1e-2, (1e-6, 1.0))
    return GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed)


def _mlp(_: int, seed: int) -> Any:
    from sklearn.ensemble import BaggingRegressor
    from sklearn.neural_network import MLPRegressor

    member = MLPRegressor((64, 64), solver="lbfgs", alpha=0.1, max_iter=200)
    return BaggingRegressor(member, n_estimators=5, bootstrap=False, random_state=seed, n_jobs=1)


PREDICTORS: Mapping[str, tuple[Callable[[int, int], Any], Callable[[GeneSpace, Numbers], Values]]] = {
    "ridge": (_ridge, _one_hot),
    "svr": (_svr, _one_hot),
    "stacked": (_stacked, _one_hot),
    "boosting": (_boosting, _places),
    "forest": (_forest, _places),
    "gp": (_gp, _one_hot),
    "mlp": (_mlp, _one_hot),
}
"""Name -> what makes it from the number of architectures and a seed, and its inputs."""
