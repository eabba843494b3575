"""Predictors: from measured architectures of a space of genes to the objectives of others.

One interface for all: `fit(name, space, numbers, targets, rng)` gives a function of option numbers. Inputs are masked
one-hot columns (a gene without effect has none), for trees option numbers with -1 for genes without effect. Two learn
from the graphs of architectures, where a space says what these are. All but `gnn` take further features of an
architecture, such as scores without training, beside its genes.
To add a predictor: one function here, and one line in `PREDICTORS`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nas_lib.spaces.genes import GeneSpace, Numbers

Values = NDArray[np.float64]
PredictorName = Literal["ridge", "svr", "stacked", "boosting", "forest", "gp", "mlp", "wl-gp", "gnn"]
FOLDS = 5
CHUNK = 2000
"""Architectures drawn as graphs at once."""
NO_GRAPH = "its architectures are not declared as graphs"
Features = Callable[[Numbers], Values]
"""Option numbers (n, d) -> features (n, k) in [0, 1]."""
FEWEST = 2 * FOLDS
"""Architectures below which nothing is cross-validated."""


@dataclass(frozen=True)
class Fitted:
    """A predictor that has learnt one objective."""

    name: str
    predict: Callable[[Numbers], Values]
    """Option numbers (n, d) -> values (n,)."""
    uncertain: Callable[[Numbers], tuple[Values, Values]] | None = None
    """Option numbers (n, d) -> mean and standard deviation (n,), in units of the targets; None where the model has no
    deviation. A Gaussian process: of what would be measured, noise included. An ensemble: between its members."""


@dataclass(frozen=True)
class Family:
    """How predictors of one name are made and asked."""

    make: Callable[[int, int], Any]
    """Number of architectures, seed -> what has scikit-learn's `fit` and `predict`."""
    inputs: Callable[[GeneSpace, Numbers], Any]
    """What it sees of option numbers (n, d)."""
    spread: Callable[[Any, Any], tuple[Values, Values]] | None = None
    """A fitted model and inputs -> mean and standard deviation (n,)."""
    needs_graph: bool = False
    """Whether it is for spaces alone whose architectures are graphs."""
    extend: Callable[[Any, Values], Any] | None = lambda inputs, features: np.hstack([inputs, features])
    """Inputs and features (n, k) -> inputs with these; None where it takes none."""


def fit(
    name: PredictorName,
    space: GeneSpace,
    numbers: Numbers,
    targets: Values,
    rng: np.random.Generator,
    features: Features | None = None,
) -> Fitted:
    """A predictor of one objective from measured architectures: numbers (n, d), targets (n,), standardised inside.

    `features` are what it sees beside the genes; `takes_features` says which predictors can.
    """
    family = PREDICTORS[name]

    def inputs_of(rows: Numbers) -> Any:
        inputs = family.inputs(space, rows)
        return inputs if features is None or family.extend is None else family.extend(inputs, features(rows))

    centre, scale = float(targets.mean()), float(targets.std()) or 1.0
    model = family.make(len(numbers), int(rng.integers(2**31)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="sklearn")  # an optimum at its bounds is fine
        model.fit(inputs_of(numbers), (targets - centre) / scale)

    def predict(others: Numbers) -> Values:
        return np.asarray(model.predict(inputs_of(others)) * scale + centre, dtype=float)

    if (spread := family.spread) is None:
        return Fitted(name, predict)

    def uncertain(others: Numbers) -> tuple[Values, Values]:
        mean, deviation = spread(model, inputs_of(others))
        return mean * scale + centre, deviation * scale

    return Fitted(name, predict, uncertain)


def suits(name: str, space: GeneSpace) -> bool:
    """Whether a predictor can learn from architectures of a space."""
    return space.graph is not None or not PREDICTORS[name].needs_graph


def takes_features(name: str) -> bool:
    """Whether a predictor can learn from features beside genes."""
    return PREDICTORS[name].extend is not None


def best_name(
    names: tuple[PredictorName, ...],
    space: GeneSpace,
    numbers: Numbers,
    targets: Values,
    rng: np.random.Generator,
    features: Features | None = None,
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
            fitted = fit(name, space, numbers[~held_out], targets[~held_out], rng, features)
            predicted[held_out] = fitted.predict(numbers[held_out])
        scores.append(float(np.nan_to_num(stats.kendalltau(predicted, targets).statistic)))
    return names[int(np.argmax(scores))]


# --- the family ------------------------------------------------------------------------------------


def _one_hot(space: GeneSpace, numbers: Numbers) -> Values:
    return space.one_hot(numbers)


def _places(space: GeneSpace, numbers: Numbers) -> Values:
    return np.where(space.active(numbers), numbers, -1).astype(float)


def _columns(space: GeneSpace, numbers: Numbers) -> Any:
    from nas_lib.predictors.gene_process import columns_of

    return columns_of(space, numbers)


def _labels(space: GeneSpace, numbers: Numbers) -> Any:
    from nas_lib.predictors.graph_process import labels_of

    return labels_of(space, numbers)


def _graphs(space: GeneSpace, numbers: Numbers) -> Any:
    starts = range(0, len(numbers), CHUNK)
    return (space.graphs(numbers[start : start + CHUNK]) for start in starts)


def _extended_columns(columns: Any, features: Values) -> Any:
    from nas_lib.predictors.gene_process import with_features

    return with_features(columns, features)


def _extended_labels(labels: Any, features: Values) -> Any:
    return replace(labels, features=features)


def _gp_spread(model: Any, inputs: Any) -> tuple[Values, Values]:
    return model.uncertain(inputs)  # type: ignore[no-any-return]


def _forest_spread(model: Any, inputs: Values) -> tuple[Values, Values]:
    return between(np.array([tree.predict(inputs) for tree in model.estimators_]))


def _bagging_spread(model: Any, inputs: Values) -> tuple[Values, Values]:
    members = zip(model.estimators_, model.estimators_features_, strict=True)
    return between(np.array([member.predict(inputs[:, columns]) for member, columns in members]))


def _members_spread(model: Any, inputs: Any) -> tuple[Values, Values]:
    return between(model.members(inputs))


def between(predicted: Values) -> tuple[Values, Values]:
    """Mean and standard deviation (n,) between the predictions (members, n) of an ensemble."""
    return predicted.mean(axis=0), predicted.std(axis=0, ddof=1)


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


def _gp(_: int, __: int) -> Any:
    from nas_lib.predictors.gene_process import GeneProcess

    return GeneProcess()


def _mlp(_: int, seed: int) -> Any:
    from sklearn.ensemble import BaggingRegressor
    from sklearn.neural_network import MLPRegressor

    member = MLPRegressor(hidden_layer_sizes=(64, 64), solver="lbfgs", alpha=0.1, max_iter=200)
    return BaggingRegressor(member, n_estimators=5, bootstrap=False, random_state=seed, n_jobs=1)


def _wl_gp(_: int, __: int) -> Any:
    from nas_lib.predictors.graph_process import GraphProcess

    return GraphProcess()


def _gnn(_: int, seed: int) -> Any:
    from nas_lib.predictors.graph_network import GraphNetwork

    return GraphNetwork(seed)


PREDICTORS: Mapping[str, Family] = {
    "ridge": Family(_ridge, _one_hot),
    "svr": Family(_svr, _one_hot),
    "stacked": Family(_stacked, _one_hot),
    "boosting": Family(_boosting, _places),
    "forest": Family(_forest, _places, _forest_spread),
    "gp": Family(_gp, _columns, _gp_spread, extend=_extended_columns),
    "mlp": Family(_mlp, _one_hot, _bagging_spread),
    "wl-gp": Family(_wl_gp, _labels, _gp_spread, needs_graph=True, extend=_extended_labels),
    "gnn": Family(_gnn, _graphs, _members_spread, needs_graph=True, extend=None),
}
