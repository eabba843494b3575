"""What the evaluations say about the search space: which numbers matter, how draws vary, what early epochs foretell."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from nas_lib.correlation import Estimate
from nas_lib.evaluation.objectives import QUANTITIES
from nas_lib.records import Evaluation
from nas_lib.report.descent import Growth, growth
from nas_lib.report.results import Results
from nas_lib.report.statistics import (
    Components,
    Sensitivity,
    rank_correlation,
    sensitivity,
    variance_components,
)

FEWEST_GENERATORS = 20
"""Different points of the space below which no surrogate is fitted."""
FEW_GENERATORS = 10
"""Generators drawn several times below which an intraclass correlation and its interval mean little."""
FEWEST_CANDIDATES = 5
"""Fully trained candidates below which no rank correlation is computed."""


@dataclass(frozen=True)
class Dependence:
    """How one objective depends on the searched numbers."""

    objective: str
    candidates: int
    generators: int
    """Different points of the space among the candidates."""
    found: Sensitivity | None
    """None where no surrogate could be fitted."""
    remark: str
    """Why nothing is shown, in a sentence; empty where the surrogate knows something."""


@dataclass(frozen=True)
class Spread:
    """How the draws of equal generators vary in one objective."""

    objective: str
    draws: list[list[float]]
    """One list per generator with several draws, by mean ascending."""
    components: Components

    @property
    def caveat(self) -> str:
        """What a reader must know of the components; empty where there are enough generators."""
        few = self.components.groups < FEW_GENERATORS
        return "So few generators tell little: the interval is too narrow." if few else ""


@dataclass(frozen=True)
class Foretelling:
    """How well the order of candidates after some epochs foretells their order at the end."""

    epochs: int
    correlation: Estimate
    candidates: int


@dataclass(frozen=True)
class Analysis:
    """All of it."""

    dimensions: list[str]
    """Names of the searched numbers."""
    dependences: list[Dependence]
    """One per objective."""
    spreads: list[Spread]
    """One per objective; empty where no two generators were drawn from several times."""
    foretelling: dict[str, list[Foretelling]]
    """Strategy label -> one entry per number of epochs before the last."""
    growth: Growth | None
    """None of spaces whose networks are not changed step by step."""


def analyse(results: Results) -> Analysis:
    """Compute everything from the evaluations."""
    space = results.experiment.architectures
    searched = "encode" in space.operators()
    candidates = different(results)
    points = np.empty((0, 0))
    groups = np.empty(0, dtype=int)
    if searched and candidates:
        points = space.canonical(np.array([space.encode(one.proposal.genotype) for one in candidates]))
        groups = np.unique(points, axis=0, return_inverse=True)[1].ravel()
    return Analysis(
        dimensions=space.dimensions() if searched else [],
        dependences=[_dependence(name, candidates, points, groups) for name in results.objectives] if searched else [],
        spreads=_spreads(results.objectives, candidates, groups) if searched and candidates else [],
        foretelling={label: _foretelling(results, label) for label in results.histories},
        growth=growth(results),
    )


def different(results: Results) -> list[Evaluation]:
    """The full evaluations of all searches; those with equal genotype and objectives once.

    The strategies of one seed begin with the same candidates, which would otherwise count several times.
    """
    found = {
        json.dumps([evaluation.proposal.genotype, evaluation.objectives], sort_keys=True): evaluation
        for _, _, evaluation in results.evaluations()
        if evaluation.counts and evaluation.proposal.duplicate_of is None
    }
    return list(found.values())


def _dependence(name: str, candidates: list[Evaluation], points: np.ndarray, groups: np.ndarray) -> Dependence:
    values = np.array([one.objectives[name] for one in candidates])
    generators = len(np.unique(groups))
    title = QUANTITIES[name].title
    found = None
    if generators < FEWEST_GENERATORS:
        remark = (
            f"{title}: {generators} different points of the space were fully trained; fewer than {FEWEST_GENERATORS} "
            "are too few to tell which of the searched numbers matter."
        )
    elif np.ptp(values) == 0:
        remark = f"{title} has the same value for all candidates, so nothing matters for it."
    else:
        found = sensitivity(points, values, groups)
        remark = ""
        if found.r2 <= 0:
            remark = (
                f"{title}: the surrogate explains nothing of candidates it has not seen (R² = {found.r2:.2f}, "
                f"{len(candidates)} candidates), so what it says about the searched numbers would be noise. "
                "It is not shown."
            )
    return Dependence(name, len(candidates), generators, found, remark)


def _spreads(objectives: list[str], candidates: list[Evaluation], groups: np.ndarray) -> list[Spread]:
    members = [
        [one for one, group in zip(candidates, groups, strict=True) if group == name] for name in np.unique(groups)
    ]
    drawn = [found for found in members if len({json.dumps(one.proposal.genotype) for one in found}) > 1]
    if len(drawn) < 2:
        return []
    spreads = []
    for name in objectives:
        draws = sorted(([one.objectives[name] for one in found] for found in drawn), key=np.mean)
        spreads.append(Spread(name, draws, variance_components(draws)))
    return spreads


def _foretelling(results: Results, label: str) -> list[Foretelling]:
    """Over the fully trained candidates of all seeds: their main measure after e epochs against that at the end."""
    curves = [
        curve
        for evaluation in results.pooled(label)
        if evaluation.counts and evaluation.proposal.duplicate_of is None
        if len(curve := evaluation.curves.get(f"validation_{results.measure}", [])) == evaluation.proposal.epochs > 1
    ]
    if len(curves) < FEWEST_CANDIDATES:
        return []
    entries = []
    for epochs in range(1, len(curves[0])):
        correlation = rank_correlation([curve[epochs - 1] for curve in curves], [curve[-1] for curve in curves])
        if correlation is not None:
            entries.append(Foretelling(epochs, correlation, len(curves)))
    return entries
