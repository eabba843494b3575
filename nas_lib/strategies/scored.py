"""What strategies share that ask for scores without training."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import cast

import numpy as np

from nas_lib.records import Genotype
from nas_lib.settings import UserError
from nas_lib.spaces import Genetic, Space
from nas_lib.strategies.bayesian import Array
from nas_lib.strategies.request import Request


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


def keys_of(space: Space, genotypes: Sequence[Genotype]) -> list[Hashable]:
    """Per genotype a key that equal architectures share."""
    if "genes" in space.operators():
        genes = cast(Genetic, space).gene_space
        return [*genes.keys(genes.numbers(genotypes))]
    return [space.hash(genotype) for genotype in genotypes]
