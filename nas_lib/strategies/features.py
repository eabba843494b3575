"""Scores without training as inputs of predictors: as ranks among architectures whose scores are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas_lib.predictors import Features
from nas_lib.spaces.genes import Numbers
from nas_lib.strategies.bayesian import Array
from nas_lib.strategies.evolution import known, space_of
from nas_lib.strategies.request import Request
from nas_lib.strategies.scored import SAMPLE, scores_of, shares


def features_of(request: Request, names: Sequence[str]) -> Features | None:
    """Option numbers (n, d) -> scores as shares (n, k) in [0, 1]; None without names.

    A share is that of architectures that score less, as in `shares`: among all of the space where scores are free and
    it is listed, else among a random sample, the same in every round, and what is measured.
    """
    if not names:
        return None
    space, (measured, _) = space_of(request), known(request)

    found: dict[bytes, Array] = {}

    def scores(rows: Numbers) -> Array:
        keys = space.keys(rows)
        new = {key: row for key, row in zip(keys, rows, strict=True) if key not in found}
        if new:
            values = scores_of(request, [space.genotype(row) for row in new.values()], names)
            found.update(zip(new, values, strict=True))
        return np.array([found[key] for key in keys]).reshape(len(rows), len(names))

    if request.free_scores and space.listed is not None:
        reference = space.listed
    else:
        reference = np.concatenate([space.draw(SAMPLE, request.rng("scored sample")), measured])
    of = shares(scores(reference))
    return lambda rows: of(scores(rows))
