"""What scores have to do with what was measured: correlations, and what is kept where the best by score are kept.

A combination of scores is one more score here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from nas_lib import correlation
from nas_lib.correlation import Counts, Estimate, Series, itself, kendall, pearson, ranked, resamples, spearman
from nas_lib.layout import write_json
from nas_lib.randomness import generator
from nas_lib.score_study.benchmarks import Better
from nas_lib.score_study.measure import collect
from nas_lib.score_study.settings import ScoreStudy
from nas_lib.scores import ranks
from nas_lib.scores.names import TRIVIAL

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 2000
"""Of every bootstrap."""
FEWEST_RANKED = 10
"""Networks at least of which a coefficient is given: of two or three any score has a perfect one by chance, and so has
every resample of them."""
Subset = Literal["all", "half", "tenth"]
SUBSETS: Mapping[Subset, float] = {"all": 1.0, "half": 0.5, "tenth": 0.1}
"""Which networks, by the share of the best measured results."""
Coefficient = Literal["kendall", "spearman", "pearson"]
COEFFICIENTS: tuple[Coefficient, ...] = ("kendall", "spearman", "pearson")
Combinations = Mapping[str, Sequence[str]]
"""Name -> scores."""
RANKED: tuple[Coefficient, ...] = ("kendall", "spearman")
"""Those of ranks, in which a combination can be held against a score; their scales differ."""
KEPT = (0.5, 0.25, 0.1)
"""Shares of the networks, the best by score, that are kept."""


class Correlation(BaseModel):
    """A coefficient of a score and what was measured, as they are, with its 95 % interval."""

    score: str
    subset: Subset
    coefficient: Coefficient
    value: float
    low: float
    high: float
    count: int
    """Networks that the score applies to."""
    finite: int
    """Of them those with a finite score. The others rank last; Pearson leaves them out."""

    @property
    def estimate(self) -> Estimate:
        """Value and interval."""
        return Estimate(self.value, self.low, self.high)


class Kept(BaseModel):
    """What remains of the best tenth of the networks where a share of them, the best by a score, is kept."""

    score: str
    share: float
    kept: float
    """Share of the best tenth; of equal scores at the border all have the same chance."""


class Lead(BaseModel):
    """How much further a score's tau is from 0 than that of the strongest mere size, on the same resamples.

    Of scores that apply to all networks of the subset.
    """

    score: str
    baseline: str
    subset: Subset
    value: float
    low: float
    high: float


class Gain(BaseModel):
    """How much better a combination ranks networks than a single score does, on the same resamples.

    The difference of their coefficients, the better networks ranked higher: above 0 the combination is better. Of
    networks to which both apply.
    """

    combination: str
    baseline: str
    subset: Subset
    coefficient: Coefficient
    value: float
    low: float
    high: float


class Others(BaseModel):
    """What scores have to do with the results of networks on which combinations were not chosen.

    As if there were no other networks: combinations take ranks among these, the best are the best of these.
    """

    networks: int
    chosen: int
    """Networks on which combinations were chosen."""
    equal: int
    """Networks that are left out, for they are equal to one of those."""
    correlations: list[Correlation]
    kept: list[Kept]
    gains: list[Gain]
    taus: dict[str, float]
    """Score -> its tau over the networks on which combinations were chosen; only where it is defined."""

    def correlation(self, score: str, subset: Subset, coefficient: Coefficient) -> Correlation | None:
        """One coefficient; None where it is not defined."""
        return _one_of(self.correlations, score, subset, coefficient)

    def gain(self, combination: str, coefficient: Coefficient) -> Gain | None:
        """That over all of these networks; None for single scores, and where it is not defined."""
        wanted = (combination, "all", coefficient)
        return next((one for one in self.gains if (one.combination, one.subset, one.coefficient) == wanted), None)


class Analysis(BaseModel):
    """All of one benchmark."""

    networks: int
    quantity: str
    better: Better
    notes: list[str]
    correlations: list[Correlation]
    kept: list[Kept]
    """Of every score."""
    leads: list[Lead]
    seeds: dict[str, list[float]]
    """Score -> tau of each seed alone, over all networks; none where there is one seed."""
    others: Others | None = None
    """None where it is not known on which networks combinations were chosen."""

    @property
    def scores(self) -> list[str]:
        """All scores that apply to some network."""
        return list(dict.fromkeys(one.score for one in self.kept))

    def correlation(self, score: str, subset: Subset, coefficient: Coefficient) -> Correlation | None:
        """One coefficient; None where it is not defined."""
        return _one_of(self.correlations, score, subset, coefficient)


def _one_of(
    correlations: Sequence[Correlation], score: str, subset: Subset, coefficient: Coefficient
) -> Correlation | None:
    wanted = (score, subset, coefficient)
    return next((one for one in correlations if (one.score, one.subset, one.coefficient) == wanted), None)


@dataclass(frozen=True)
class Scored:
    """The networks of a benchmark."""

    measured: Series
    """(n,)"""
    better: Better
    values: Mapping[str, Series]
    """Score -> its mean over seeds (n,), nan where one is not finite or failed."""
    applies: Mapping[str, NDArray[np.bool_]]
    """Score -> to which networks it applies (n,)."""

    def best(self, share: float) -> NDArray[np.int64]:
        """The best networks by what was measured, (k,) of n."""
        order = np.argsort(self.measured if self.better == "lower" else -self.measured, kind="stable")
        return np.sort(order[: max(1, round(share * len(order)))])

    def only(self, places: NDArray[np.int64]) -> Scored:
        """The same with these networks alone, and with the scores that apply to one of them."""
        names = [name for name, applies in self.applies.items() if applies[places].any()]
        return Scored(
            self.measured[places],
            self.better,
            {name: self.values[name][places] for name in names},
            {name: self.applies[name][places] for name in names},
        )

    def combined(self, combinations: Combinations) -> Scored:
        """With combinations: the mean of the ranks that networks have by each of its scores.

        Among networks to which all of these apply; where they apply to none, there is no such combination.
        """
        values = {name: its for name, its in self.values.items() if name not in combinations}
        applies = {name: self.applies[name] for name in values}
        for name, its in combinations.items():
            both = np.all([self.applies.get(one, np.zeros(len(self.measured), bool)) for one in its], axis=0)
            if both.any():
                values[name], applies[name] = np.full(len(both), np.nan), both
                values[name][both] = np.mean([ranks(self.values[one][both]) for one in its], axis=0)
        return replace(self, values=values, applies=applies)


def write_analysis(study: ScoreStudy, title: str) -> None:
    """Join the tables of all jobs of a benchmark, and write what they say.

    Raises:
        FileNotFoundError: a job is not done yet.
    """
    benchmark = study.chosen(title)
    frame = collect(study, title, benchmark.networks)
    found = scored(frame, benchmark.better, study.combinations)
    correlations, leads = correlate(found)
    analysis = Analysis(
        networks=len(found.measured),
        quantity=benchmark.quantity,
        better=benchmark.better,
        notes=[*benchmark.notes],
        kept=every_kept(found),
        seeds=_of_each_seed(frame, found, study) if len(study.seeds) > 1 else {},
        correlations=correlations,
        leads=leads,
        others=_others(study, title, [network.name for network in benchmark.networks], found),
    )
    write_json(study.folder.analysis(title), analysis.model_dump())


def _others(study: ScoreStudy, title: str, networks: Sequence[str], found: Scored) -> Others | None:
    """See `Others`; None for a benchmark without `chosen_on`."""
    parted, baseline = study.parted(title), study.baseline_of(title)
    if parted is None or baseline is None:
        return None
    chosen, others = (
        found.only(np.flatnonzero([name in names for name in networks])).combined(study.combinations)
        for names in parted
    )
    taus = {
        name: float(coefficients(values[applies], chosen.measured[applies], itself(applies.sum()))["kendall"][0])
        for name, values in chosen.values.items()
        if (applies := chosen.applies[name]).any()
    }
    return Others(
        networks=len(others.measured),
        chosen=len(chosen.measured),
        equal=len(networks) - len(others.measured) - len(chosen.measured),
        correlations=correlate(others)[0],
        kept=every_kept(others),
        gains=gains(others, [*study.combinations], baseline),
        taus={name: tau for name, tau in taus.items() if np.isfinite(tau)},
    )


def scored(frame: pd.DataFrame, better: Better, combinations: Combinations) -> Scored:
    """The table of `measure.table` with one value per network and score or combination.

    Those that apply to none are left out.
    """
    names = list(dict.fromkeys(frame["score"]))
    networks = frame.drop_duplicates("network")
    # Every network has the same seeds, and every seed the same scores, in the same order.
    values = frame["value"].to_numpy(float).reshape(len(networks), -1, len(names))
    applies: NDArray[np.bool_] = np.all(frame["reason"].isna().to_numpy().reshape(values.shape), axis=1)
    with np.errstate(invalid="ignore"):
        means = values.mean(axis=1)
    kept = [place for place in range(len(names)) if applies[:, place].any()]
    return Scored(
        measured=networks["measured"].to_numpy(float),
        better=better,
        values={names[place]: np.where(np.isfinite(means[:, place]), means[:, place], np.nan) for place in kept},
        applies={names[place]: applies[:, place] for place in kept},
    ).combined(combinations)


def correlate(found: Scored) -> tuple[list[Correlation], list[Lead]]:
    """The coefficients and the leads of each score, for all networks, the best half and the best tenth.

    Percentile bootstrap over the networks of a subset, the same resamples for all scores that apply to all of them.
    Coefficients that are not defined, because a score or a result does not vary or there are too few networks, are left
    out.
    """
    correlations: list[Correlation] = []
    leads: list[Lead] = []
    for subset, chosen, counts in _subsets(found):
        taus = {}
        for name, values in found.values.items():
            applies = found.applies[name][chosen]
            its, drawn = values[chosen][applies], counts[:, applies]
            estimates = coefficients(its, found.measured[chosen][applies], drawn)
            for coefficient, each in estimates.items():
                if np.isfinite(each[0]):
                    interval = correlation.percentile_interval(each[0], each[1:])
                    count, finite = len(its), int(np.isfinite(its).sum())
                    correlations.append(
                        Correlation(
                            score=name,
                            subset=subset,
                            coefficient=coefficient,
                            count=count,
                            finite=finite,
                            **vars(interval),
                        )
                    )
            if applies.all() and np.isfinite(estimates["kendall"][0]):
                taus[name] = estimates["kendall"]
        leads += _leads(taus, subset)
    return correlations, leads


def _subsets(found: Scored) -> Iterator[tuple[Subset, NDArray[np.int64], Counts]]:
    """Each subset, its networks (k,), and resamples of them (B, k), the first of which is the subset itself."""
    for subset, share in SUBSETS.items():
        chosen = found.best(share)
        rng = generator(0, "score study", subset)
        yield subset, chosen, np.vstack([itself(len(chosen)), resamples(len(chosen), RESAMPLES, rng)])


def gains(found: Scored, combinations: Sequence[str], baseline: str) -> list[Gain]:
    """The gains of combinations over a score, for all networks, the best half and the best tenth.

    Those that are not defined, because scores or results do not vary, are left out.
    """
    claimed = -1 if found.better == "lower" else 1
    gained = []
    for subset, chosen, counts in _subsets(found):
        for name in combinations:
            if not {name, baseline} <= found.values.keys():
                continue
            both = (found.applies[name] & found.applies[baseline])[chosen]
            measured, drawn = found.measured[chosen][both], counts[:, both]
            own, its = (coefficients(found.values[one][chosen][both], measured, drawn) for one in (name, baseline))
            for coefficient in RANKED:
                gain = claimed * (own[coefficient] - its[coefficient])
                if np.isfinite(gain[0]):
                    interval = vars(correlation.percentile_interval(gain[0], gain[1:]))
                    gained.append(
                        Gain(combination=name, baseline=baseline, subset=subset, coefficient=coefficient, **interval)
                    )
    return gained


def coefficients(values: Series, measured: Series, counts: Counts) -> dict[Coefficient, Series]:
    """All coefficients of scores (n,) and results (n,) in each resample (B, n), each (B,); nan where not defined.

    Scores that are not finite rank last, and have no part in Pearson's. Of fewer than `FEWEST_RANKED` none is defined.
    """
    none = np.full(len(counts), np.nan)
    if len(values) < FEWEST_RANKED:
        return dict.fromkeys(COEFFICIENTS, none)
    first, second = ranked(ranks(values), counts), ranked(measured, counts)
    finite = np.isfinite(values)
    enough = finite.sum() >= FEWEST_RANKED
    linear = pearson(values[finite], measured[finite], counts[:, finite]) if enough else none
    return {"kendall": kendall(first, second, counts), "spearman": spearman(first, second, counts), "pearson": linear}


def _leads(taus: Mapping[str, Series], subset: Subset) -> list[Lead]:
    sizes = [name for name in TRIVIAL if name in taus]
    if not sizes:
        return []
    baseline = max(sizes, key=lambda name: abs(taus[name][0]))
    found = []
    for name, its in taus.items():
        if name not in TRIVIAL:
            lead = np.sign(its[0]) * its - np.sign(taus[baseline][0]) * taus[baseline]
            interval = correlation.percentile_interval(lead[0], lead[1:])
            found.append(Lead(score=name, baseline=baseline, subset=subset, **vars(interval)))
    return found


def every_kept(found: Scored) -> list[Kept]:
    """See `Kept`, of every score and share."""
    return [Kept(score=name, share=share, kept=kept(found, name, share)) for name in found.values for share in KEPT]


def kept(found: Scored, name: str, share: float) -> float:
    """See `Kept`, among the networks that a score applies to."""
    best = np.zeros(len(found.measured), dtype=bool)
    best[found.best(SUBSETS["tenth"])] = True
    applies = found.applies[name]
    return kept_share(ranks(found.values[name][applies]), best[applies], share)


def kept_share(ranked: Series, best: NDArray[np.bool_], share: float) -> float:
    """Expected share of the items (n,) that are `best` among the `share` of highest rank, ties broken by chance.

    >>> kept_share(np.array([4.0, 3.0, 1.5, 1.5]), np.array([True, False, True, False]), 0.75)
    0.75
    """
    room = round(share * len(ranked))
    if not best.any():
        return float("nan")
    border = np.sort(ranked)[::-1][max(room, 1) - 1]
    above, at = ranked > border, ranked == border
    chance = (room - above.sum()) / at.sum()
    return float((best[above].sum() + chance * best[at].sum()) / best.sum())


def _of_each_seed(frame: pd.DataFrame, found: Scored, study: ScoreStudy) -> dict[str, list[float]]:
    """See `Analysis.seeds`."""
    taus: dict[str, list[float]] = {name: [] for name in found.values}
    for _, rows in frame.groupby("seed", sort=False):
        alone = scored(rows, found.better, study.combinations)
        for name, its in taus.items():
            applies = found.applies[name]
            truth = found.measured[applies]
            its.append(float(coefficients(alone.values[name][applies], truth, itself(len(truth)))["kendall"][0]))
    return taus
