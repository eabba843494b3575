"""What the analysis of a study says, read once for the page, the figures and the tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel

from nas_lib.score_study import analysis
from nas_lib.score_study.analysis import (
    Analysis,
    Coefficient,
    Combinations,
    Correlation,
    Gain,
    Kept,
    Lead,
    Others,
    Scored,
    Subset,
)
from nas_lib.score_study.measure import costs
from nas_lib.score_study.published import PUBLISHED, Published
from nas_lib.score_study.settings import TO_BUILD, ScoreStudy
from nas_lib.scores import ranks
from nas_lib.scores.names import TRIVIAL

if TYPE_CHECKING:
    import pandas as pd

TABLES = (
    "correlations.csv",
    "kept.csv",
    "leads.csv",
    "others_correlations.csv",
    "others_kept.csv",
    "others_gains.csv",
    "costs.csv",
    "scores.csv",
)

Row = Correlation | Kept | Lead | Gain

Kind = Literal["score", "mere size", "combination"]
SCORE_KINDS: tuple[Kind, ...] = ("score", "mere size", "combination")
MARKS: Mapping[Kind, str] = {"score": "", "mere size": " †", "combination": " ‡"}


def titled(score: str) -> str:
    """A score as people call it; a combination by its name."""
    from nas_lib.scores.catalogue import SCORES

    if score == TO_BUILD:
        return "To build the network"
    return SCORES[score].title if score in SCORES else score


@dataclass(frozen=True)
class Benchmarked:
    """One benchmark."""

    title: str
    name: str
    """Of the kind of benchmark, under which figures were published."""
    analysis: Analysis
    frame: pd.DataFrame
    """See `measure.table`."""
    costs: pd.DataFrame
    """See `measure.costs`."""
    combinations: Combinations

    @cached_property
    def scored(self) -> Scored:
        """Networks, their results and their scores."""
        return analysis.scored(self.frame, self.analysis.better, self.combinations)

    @cached_property
    def order(self) -> list[str]:
        """Scores with a tau, the one furthest from 0 first."""
        return _furthest_first(self.analysis, self.analysis.scores)

    @cached_property
    def order_of_others(self) -> list[str]:
        """Scores with a tau over the networks on which combinations were not chosen, the one furthest from 0 first."""
        others = self.analysis.others
        return _furthest_first(others, self.analysis.scores) if others else []

    def kind(self, score: str) -> Kind:
        """What a score is."""
        return "combination" if score in self.combinations else "mere size" if score in TRIVIAL else "score"

    @property
    def strongest(self) -> str | None:
        """The single score with the tau furthest from 0 that is no mere size and applies to all networks."""
        candidates = (score for score in self.order if self.kind(score) == "score")
        return next((score for score in candidates if self.scored.applies[score].all()), None)

    def claimed(self, value: float) -> bool:
        """Whether a coefficient has the sign that higher scores for better networks give it."""
        return value < 0 if self.analysis.better == "lower" else value > 0

    def published(self, score: str, coefficient: Coefficient) -> float | None:
        """What was published; None where nothing was."""
        found: Published | None = PUBLISHED.get(self.name, {}).get(score)
        return None if found is None else getattr(found, coefficient)

    def marked(self, score: str) -> str:
        """A score as people call it, sizes with †, combinations with ‡."""
        return f"{titled(score)}{MARKS[self.kind(score)]}"

    def kept(self, score: str, of: Analysis | Others | None = None) -> dict[float, float]:
        """Share of the networks that is kept -> share of the best tenth among them; of all networks, or others."""
        return {one.share: one.kept for one in (of or self.analysis).kept if one.score == score}

    def lead(self, score: str, subset: Subset) -> Lead | None:
        """Over the strongest mere size; None for these, or without any."""
        found = (one for one in self.analysis.leads if (one.score, one.subset) == (score, subset))
        return next(found, None)

    def places(self, score: str) -> np.ndarray:
        """Place of each network by a score, in per cent, the best last; (n,), nan where it does not apply."""
        applies = self.scored.applies[score]
        places = np.full(len(applies), np.nan)
        ranked = ranks(self.scored.values[score][applies])
        places[applies] = 100 * (ranked - 0.5) / max(len(ranked), 1)
        return places

    @property
    def networks(self) -> list[str]:
        """Their names, in order."""
        return [*dict.fromkeys(self.frame["network"])]

    @property
    def seconds(self) -> dict[str, float]:
        """Score, or `build` -> mean CPU seconds for one network, the cheapest first."""
        found = self.costs.groupby("score")["seconds"].mean().sort_values()
        return {str(score): float(its) for score, its in found.items()}

    def troubles(self) -> list[tuple[str, str, int]]:
        """Scores, why there is no value or none that is finite, and of how many networks, the most first."""
        networks: dict[tuple[str, str], set[str]] = {}
        columns = (self.frame[name].tolist() for name in ("network", "score", "value", "reason", "failure"))
        for network, score, value, reason, failure in zip(*columns, strict=True):
            if not np.isfinite(value):
                why = next((text for text in (reason, failure) if isinstance(text, str)), "is not finite")
                networks.setdefault((why, score), set()).add(network)
        scores: dict[tuple[str, int], list[str]] = {}
        for (why, score), its in networks.items():
            scores.setdefault((why, len(its)), []).append(titled(score))
        order = sorted(scores.items(), key=lambda entry: -entry[0][1])
        found = [(", ".join(titles), why, count) for (why, count), titles in order]
        for name, combines in self.combinations.items():
            if name not in self.analysis.scores:
                lacking = [titled(score) for score in combines if score not in self.analysis.scores]
                what = f"{' and '.join(lacking)} applies to none" if lacking else "no network has all of its scores"
                found.append((self.marked(name), f"does not apply, for {what}", self.analysis.networks))
        return found


def _columns(model: type[BaseModel]) -> list[str]:
    return ["benchmark", *model.model_fields, "combines"]


def _furthest_first(found: Analysis | Others, scores: Sequence[str]) -> list[str]:
    taus = {score: one.value for score in scores if (one := found.correlation(score, "all", "kendall"))}
    return sorted(taus, key=lambda score: -abs(taus[score]))


@dataclass(frozen=True)
class Results:
    """All that the report shows."""

    study: ScoreStudy
    benchmarks: list[Benchmarked]

    def tables(self) -> dict[str, pd.DataFrame]:
        """The numbers, by the name of their file in `TABLES`."""
        import pandas as pd

        correlations, costs, scores = [], [], []
        for each in self.benchmarks:
            its = {"benchmark": each.title}
            for one in each.analysis.correlations:
                published = each.published(one.score, one.coefficient) if one.subset == "all" else None
                correlations.append(self._row(each, one) | {"published": published})
            costs.append(each.costs.assign(**its, combines=each.costs["score"].map(self._combines)))
            rows = each.frame.set_index(["network", "measured", "seed", "score"])["value"]
            wide = rows.unstack("score", sort=False).reset_index()
            ranked = {
                name: wide["network"].map(dict(zip(each.networks, each.scored.values[name], strict=True)))
                for name in self.study.combinations
                if name in each.scored.values
            }
            scores.append(wide.assign(**ranked, **its))
        analyses = [(each, each.analysis) for each in self.benchmarks]
        others = [(each, found) for each, found in ((each, one.others) for each, one in analyses) if found]
        frames = [
            pd.DataFrame(correlations, columns=[*_columns(Correlation), "published"]),
            self._frame(Kept, ((each, one) for each, found in analyses for one in found.kept)),
            self._frame(Lead, ((each, one) for each, found in analyses for one in found.leads)),
            self._frame(Correlation, ((each, one) for each, found in others for one in found.correlations)),
            self._frame(Kept, ((each, one) for each, found in others for one in found.kept)),
            self._frame(Gain, ((each, one) for each, found in others for one in found.gains)),
            pd.concat(costs),
            pd.concat(scores),
        ]
        return dict(zip(TABLES, frames, strict=True))

    def _frame(self, model: type[BaseModel], rows: Iterable[tuple[Benchmarked, Row]]) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame([self._row(each, one) for each, one in rows], columns=_columns(model))

    def _row(self, each: Benchmarked, one: Row) -> dict[str, Any]:
        name = one.combination if isinstance(one, Gain) else one.score
        return {"benchmark": each.title, **one.model_dump(), "combines": self._combines(name)}

    def _combines(self, score: str) -> str:
        """The scores of a combination; empty for a single one."""
        return " ".join(self.study.combinations.get(score, ()))


def read(study: ScoreStudy) -> Results:
    """Read the analysis of a finished study.

    Raises:
        FileNotFoundError: that of a benchmark is not there yet.
    """
    import pandas as pd

    return Results(
        study,
        [
            Benchmarked(
                title=title,
                name=study.settings_of_benchmark(title).name,
                analysis=Analysis.model_validate_json(study.folder.analysis(title).read_text()),
                frame=pd.read_parquet(study.folder.scores(title)),
                costs=costs(study, title),
                combinations=study.combinations,
            )
            for title in study.titles
        ],
    )
