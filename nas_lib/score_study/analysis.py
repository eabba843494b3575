"""What scores have to do with what was measured: correlations, and what is kept where the best by score are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 2000
"""Of every bootstrap."""
Subset = Literal["all", "half", "tenth"]
SUBSETS: Mapping[Subset, float] = {"all": 1.0, "half": 0.5, "tenth": 0.1}
"""Which networks, by the share of the best measured results."""
Coefficient = Literal["kendall", "spearman", "pearson"]
COEFFICIENTS: tuple[Coefficient, ...] = ("kendall", "spearman", "pearson")
KEPT = (0.5, 0.25, 0.1)
"""Shares of the networks, the best by score, that are kept."""
TRIVIAL = ("parameters", "flops", "depth", "width", "depth_x_width", "nodes")
"""Scores that are mere sizes: what every other has to beat."""


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

    @property
    def scores(self) -> list[str]:
        """All scores that apply to some network."""
        return list(dict.fromkeys(one.score for one in self.kept))

    def correlation(self, score: str, subset: Subset, coefficient: Coefficient) -> Correlation | None:
        """One coefficient; None where it is not defined."""
        wanted = (score, subset, coefficient)
        found = (one for one in self.correlations if (one.score, one.subset, one.coefficient) == wanted)
        return next(found, None)


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


def write_analysis(study: ScoreStudy, title: str) -> None:
    """Join the tables of all jobs of a benchmark, and write what they say.

    Raises:
        FileNotFoundError: a job is not done yet.
    """
    benchmark = study.chosen(title)
    frame = collect(study, title, benchmark.networks)
    found = scored(frame, benchmark.better)
    correlations, leads = correlate(found)
    analysis = Analysis(
        networks=len(found.measured),
        quantity=benchmark.quantity,
        better=benchmark.better,
        notes=[*benchmark.notes],
        kept=[Kept(score=name, share=share, kept=kept(found, name, share)) for name in found.values for share in KEPT],
        seeds={name: list(_of_each_seed(frame, found, name)) for name in found.values if len(study.seeds) > 1},
        correlations=correlations,
        leads=leads,
    )
    write_json(study.folder.analysis(title), analysis.model_dump())


def scored(frame: pd.DataFrame, better: Better) -> Scored:
    """The table of `measure.table` with one value per network and score. Scores that apply to none are left out."""
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
    )


def correlate(found: Scored) -> tuple[list[Correlation], list[Lead]]:
    """The coefficients and the leads of each score, for all networks, the best half and the best tenth.

    Percentile bootstrap over the networks of a subset, the same resamples for all scores that apply to all of them.
    Coefficients that are not defined, because a score or a result does not vary, are left out.
    """
    correlations: list[Correlation] = []
    leads: list[Lead] = []
    for subset, share in SUBSETS.items():
        chosen = found.best(share)
        rng = generator(0, "score study", subset)
        counts = np.vstack([itself(len(chosen)), resamples(len(chosen), RESAMPLES, rng)])
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


def coefficients(values: Series, measured: Series, counts: Counts) -> dict[Coefficient, Series]:
    """All coefficients of scores (n,) and results (n,) in each resample (B, n), each (B,); nan where not defined.

    Scores that are not finite rank last, and have no part in Pearson's.
    """
    if len(values) < 2:
        return {coefficient: np.full(len(counts), np.nan) for coefficient in COEFFICIENTS}
    first, second = ranked(ranks(values), counts), ranked(measured, counts)
    finite = np.isfinite(values)
    linear = pearson(values[finite], measured[finite], counts[:, finite]) if finite.sum() > 1 else counts[:, 0] * np.nan
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


def _of_each_seed(frame: pd.DataFrame, found: Scored, name: str) -> Sequence[float]:
    applies = found.applies[name]
    one = itself(int(applies.sum()))
    truth = found.measured[applies]
    taus = []
    for _, rows in frame[frame["score"] == name].groupby("seed", sort=False):
        values = rows["value"].to_numpy(float)[applies]
        taus.append(float(coefficients(values, truth, one)["kendall"][0]))
    return taus
