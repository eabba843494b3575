"""MTF-PDNS: novelty search among scores without training; what is evaluated is its elitist archive.

Vo and Luong 2024 (GECCO, arXiv 2407.20656), "Pareto dominance-based novelty search". The archive holds the
architectures met so far of which none is better in one score and as good in all others. A population is selected by
novelty: who is in the archive should be far from it, who is not near it. What differs from the released code:

- An axis that is constant among population and archive counts nothing, instead of dividing by zero.
- The variation is that of the space: uniform crossover and one gene at random (two-point crossover, and every gene with
  probability 1 / genes), the space's edits, or crossed points and normal steps.
- Tournaments are between neighbours in one random order, so everyone takes part in one.
- Members of the archive are trained, those first that lie farthest from the ones before. Where all were, the search
  goes on for as many generations again; what then lacks are the next fronts of all that it met.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StrictInt

from nas_lib.records import Genotype
from nas_lib.settings import Settings
from nas_lib.spaces import Changing, Genetic, Space
from nas_lib.strategies.bayesian import Array, around
from nas_lib.strategies.evolution import one_changed
from nas_lib.strategies.request import Request, Suggestion
from nas_lib.strategies.scored import keys_of, normalised, scores_of

Indices = NDArray[np.int64]
STEP = 0.1
"""Standard deviation of the change of a point, in units of the coordinates."""


class MTFPDNS(Settings):
    """Novelty search on the Pareto dominance of scores without training."""

    name: Literal["mtf-pdns"] = "mtf-pdns"
    label: str = ""
    """Name of this search in folders, tables and plots; default: the strategy's name."""
    scores: tuple[str, ...] = Field(min_length=2)
    """Scores that span the space in which architectures are novel. Sizes can be among them."""
    population: StrictInt = Field(default=20, ge=2)
    """Architectures that are varied in a generation, and children they have."""
    generations: StrictInt = Field(default=50, ge=1)
    """Generations before anything is trained, and at most again where all members of the archive were."""

    needs: ClassVar[frozenset[str]] = frozenset({"sample"})
    objectives: ClassVar[tuple[int, int | None]] = (1, None)
    keeps_weights: ClassVar[bool] = False

    def propose(self, request: Request) -> list[Suggestion]:
        """Members of the archive that were not proposed, then those of the next fronts."""
        met = _Met(request, self.scores)
        taken = _taken(request)
        archive = _searched(request, met, self, taken)
        left = np.array([place for place, key in enumerate(met.places) if key not in taken], dtype=np.int64)
        distances = normalised(met.scores)
        chosen: Indices = np.setdiff1d(archive, left)
        before, layer, origin = len(chosen), np.intersect1d(archive, left), "archive"
        suggestions: list[Suggestion] = []
        while len(suggestions) < request.count and len(left):
            wanted = request.count - len(suggestions)
            spread = spread_first(distances, chosen, layer)[:wanted]
            suggestions += [Suggestion(met.genotypes[place], origin) for place in spread]
            chosen, left = np.concatenate([chosen, spread]), np.setdiff1d(left, layer)
            layer, origin = left[non_dominated(met.scores[left])], "next front"
        return suggestions
