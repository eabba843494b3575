"""What strategies share that ask for scores without training."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import cast

import numpy as np

from nas_lib.records import Genotype
from nas_lib.settings import UserError
from nas_lib.spaces import Genetic, Space
from nas_lib.strategies.bayesian import Array
from nas_lib.strategies.request import Request

SAMPLE = 200
"""Random architectures that are scored where a strategy has to know how scores are spread over a space."""


def scores_of(request: Request, genotypes: Sequence[Genotype], names: Sequence[str]) -> Array:
    """Scores (n, k) of genotypes, higher is better, NaN where a score does not apply or fails.

    Raises:
        UserError: nothing can be scored here.
    """
    if request.score is None:
        raise UserError(
            f"scores: found {', '.join(names)}, but architectures of the space {request.space.name!r} cannot be "
            "scored here; allowed are strategies without scores"
        )
    values = np.asarray(request.score(genotypes, names), dtype=float).reshape(len(genotypes), len(names))
    return np.where(np.isfinite(values), values, np.nan)


def normalised(scores: Array) -> Array:
    """Scores (n, k) moved and stretched to [0, 1] within every column; NaN stays.

    A column without differences becomes 0.5, so that it differs from whatever stands for what failed.
    """
    known = ~np.isnan(scores)
    low, high = scores.min(axis=0, where=known, initial=np.inf), scores.max(axis=0, where=known, initial=-np.inf)
    varied = high > low
    shares = (scores - np.where(varied, low, 0.0)) / np.where(varied, high - low, 1.0)
    return np.where(varied | ~known, shares, 0.5)


def shares(known: Array) -> Callable[[Array], Array]:
    """The function from scores (n, k) to shares in [0, 1] of the known ones (m, k) that are lower, equal ones by half.

    Between known scores it is linear, so it keeps the order; beyond them it ends. NaN counts as 0, like the worst.
    """
    columns = [_share(column) for column in known.T]
    return lambda scores: np.column_stack(
        [np.empty((len(scores), 0)), *(of(column) for of, column in zip(columns, scores.T, strict=True))]
    )


def _share(known: Array) -> Callable[[Array], Array]:
    """As `shares`, of one score: known (m,)."""
    distinct, counts = np.unique(known[~np.isnan(known)], return_counts=True)
    lacking = len(known) - counts.sum()
    below = (lacking + np.cumsum(counts) - counts / 2) / max(len(known), 1)

    def of(scores: Array) -> Array:
        if not len(distinct):
            return np.zeros(len(scores))
        return np.where(np.isnan(scores), 0.0, np.interp(scores, distinct, below))

    return of


def keys_of(space: Space, genotypes: Sequence[Genotype]) -> list[Hashable]:
    """Per genotype a key that equal architectures share."""
    if "genes" in space.operators():
        genes = cast(Genetic, space).gene_space
        return [*genes.keys(genes.numbers(genotypes))]
    return [space.hash(genotype) for genotype in genotypes]
