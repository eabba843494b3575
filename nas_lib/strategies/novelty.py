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

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StrictInt

from nas_lib.records import Genotype
from nas_lib.spaces import Changing, Genetic, Space
from nas_lib.strategies.bayesian import Array, around
from nas_lib.strategies.evolution import one_changed
from nas_lib.strategies.request import Request, Suggestion
from nas_lib.strategies.scored import keys_of, normalised, scores_of
from nas_lib.strategies.settings import StrategyBase

Indices = NDArray[np.int64]
STEP = 0.1
"""Standard deviation of the change of a point, in units of the coordinates."""


class MTFPDNS(StrategyBase):
    """Novelty search on the Pareto dominance of scores without training."""

    name: Literal["mtf-pdns"] = "mtf-pdns"
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
        proposals = [*(evaluation.proposal for evaluation in request.history), *request.pending]
        taken = set(keys_of(request.space, [proposal.genotype for proposal in proposals]))
        archive = _searched(self, met, taken)
        left: Indices = np.setdiff1d(np.arange(len(met.places)), met.known(taken))
        chosen: Indices = np.setdiff1d(archive, left)
        layer, origin = np.intersect1d(archive, left), "archive"
        suggestions: list[Suggestion] = []
        while len(suggestions) < request.count and len(left):
            wanted = request.count - len(suggestions)
            spread = spread_first(layer, chosen, met.scores)[:wanted]
            suggestions += [Suggestion(met.genotypes[place], origin) for place in spread]
            chosen, left = np.concatenate([chosen, spread]), np.setdiff1d(left, layer)
            layer, origin = left[non_dominated(met.scores[left])], "next front"
        return suggestions


@dataclass
class _Met:
    """Every architecture a search met, once, with its scores."""

    request: Request
    names: Sequence[str]
    genotypes: list[Genotype] = field(default_factory=list)
    places: dict[Hashable, int] = field(default_factory=dict)
    """Key -> place in `genotypes`."""
    scores: Array = field(init=False)
    """Shape (n, k), higher is better, NaN where one failed."""

    def __post_init__(self) -> None:
        self.scores = np.empty((0, len(self.names)))

    def places_of(self, genotypes: Sequence[Genotype]) -> Indices:
        """The place of each genotype; new ones are scored."""
        keys = keys_of(self.request.space, genotypes)
        new: list[Genotype] = []
        for key, genotype in zip(keys, genotypes, strict=True):
            if key not in self.places:
                self.places[key] = len(self.places)
                new.append(genotype)
        if new:
            self.genotypes += new
            self.scores = np.vstack([self.scores, scores_of(self.request, new, self.names)])
        return np.array([self.places[key] for key in keys], dtype=np.int64)

    def known(self, keys: Collection[Hashable]) -> Indices:
        """The places of those that have one of these keys."""
        return np.array([place for key, place in self.places.items() if key in keys], dtype=np.int64)


def _searched(settings: MTFPDNS, met: _Met, taken: Collection[Hashable]) -> Indices:
    """The places of the archive after all generations; more of them while it lacks members that are not `taken`."""
    request = met.request
    population = met.places_of(
        [request.space.sample(request.rng("initial", 0, slot)) for slot in range(settings.population)]
    )
    archive = updated(population[:0], population, met.scores)
    for generation in range(2 * settings.generations):
        if generation >= settings.generations and len(np.setdiff1d(archive, met.known(taken))) >= request.count:
            break
        rng = request.rng("novelty", generation)
        children = met.places_of(varied(request.space, [met.genotypes[place] for place in population], rng))
        candidates = np.concatenate([population, children])
        archive = updated(archive, candidates, met.scores)
        population = winners(candidates, novelty(candidates, archive, met.scores), rng)
    return archive


def non_dominated(scores: Array) -> NDArray[np.bool_]:
    """Which rows of scores (n, k) no other row dominates; equal rows do not dominate each other, NaN is the worst."""
    import moocore

    if not len(scores):
        return np.empty(0, dtype=bool)
    return np.asarray(moocore.is_nondominated(np.where(np.isnan(scores), np.inf, -scores), keep_weakly=True))


def updated(archive: Indices, candidates: Indices, scores: Array) -> Indices:
    """The archive with candidates, each once, less those that are dominated; all are rows of scores (n, k)."""
    members = np.unique(np.concatenate([archive, candidates]))
    return np.asarray(members[non_dominated(scores[members])])


def novelty(candidates: Indices, archive: Indices, scores: Array) -> Array:
    """The mean distance (c,) of candidates to the archive, negative for those that are not members of it.

    Of scores (n, k) stretched to [0, 1] among candidates and archive; a member's distance to itself counts as 0.
    """
    from scipy.spatial.distance import cdist

    compared = np.unique(np.concatenate([candidates, archive]))
    points = np.nan_to_num(normalised(scores[compared]))
    rows, members = np.searchsorted(compared, candidates), np.searchsorted(compared, archive)
    distance = cdist(points[rows], points[members]).mean(axis=1)
    return np.asarray(np.where(np.isin(candidates, archive), distance, -distance))


def winners(candidates: Indices, worth: Array, rng: np.random.Generator) -> Indices:
    """The better of each pair that a random order of candidates (2n,) makes, shape (n,)."""
    pairs = rng.permutation(len(candidates)).reshape(-1, 2)
    return np.asarray(candidates[np.where(worth[pairs[:, 0]] >= worth[pairs[:, 1]], pairs[:, 0], pairs[:, 1])])


def spread_first(others: Indices, before: Indices, scores: Array) -> Indices:
    """The others in an order in which each is the farthest from the nearest of those before it (Gonzalez 1985).

    With none before, the first is that of the largest mean distance to all others. Distances as in `novelty`.
    """
    from scipy.spatial.distance import cdist

    compared = np.concatenate([others, before])
    points = np.nan_to_num(normalised(scores[compared]))
    points, behind = points[: len(others)], points[len(others) :]
    between = cdist(points, points)
    nearest = cdist(points, behind).min(axis=1) if len(before) else between.mean(axis=1)
    order: list[int] = []
    for turn in range(len(others)):
        order.append(int(nearest.argmax()))
        nearest = between[order[-1]] if not turn and not len(before) else np.minimum(nearest, between[order[-1]])
        nearest[order] = -1
    return np.asarray(others[order])


def varied(space: Space, parents: Sequence[Genotype], rng: np.random.Generator) -> list[Genotype]:
    """One child of each parent: by genes, by the space's own edits, by coordinates, or else a random architecture."""
    offered = space.operators()
    if "genes" in offered:
        genes = cast(Genetic, space).gene_space
        rows = genes.numbers(parents)
        crossed = np.where(rng.random(rows.shape) < 0.5, rows, rows[rng.permutation(len(rows))])
        return [genes.genotype(row) for row in genes.existing(one_changed(genes, crossed, rng))]
    if "mutate" in offered:
        return [cast(Changing, space).mutate(parent, rng)[0] for parent in parents]
    if "encode" in offered:
        points = np.array([space.encode(parent) for parent in parents])
        crossed = np.where(rng.random(points.shape) < 0.5, points, points[rng.permutation(len(points))])
        return [space.decode(point, rng) for point in around(crossed, 1, STEP, rng)]
    return [space.sample(rng) for _ in parents]
