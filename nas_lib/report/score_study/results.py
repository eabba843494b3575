"""What the analysis of a study says, read once for the page, the figures and the tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nas_lib.score_study import analysis
from nas_lib.score_study.analysis import TRIVIAL, Analysis, Coefficient, Lead, Scored, Subset
from nas_lib.score_study.measure import TO_BUILD
from nas_lib.score_study.published import PUBLISHED, Published
from nas_lib.score_study.settings import ScoreStudy
from nas_lib.scores import ranks

if TYPE_CHECKING:
    import pandas as pd

TABLES = ("correlations.csv", "kept.csv", "leads.csv", "costs.csv", "scores.csv")


def titled(score: str) -> str:
    """A score as people call it."""
    from nas_lib.scores.catalogue import SCORES

    return "To build the network" if score == TO_BUILD else SCORES[score].title


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
    """See `measure.time_alone`."""

    @cached_property
    def scored(self) -> Scored:
        """Networks, their results and their scores."""
        return analysis.scored(self.frame, self.analysis.better)

    @cached_property
    def order(self) -> list[str]:
        """Scores with a tau, the one furthest from 0 first."""
        found = {score: self.analysis.correlation(score, "all", "kendall") for score in self.analysis.scores}
        return sorted(
            (score for score, one in found.items() if one is not None),
            key=lambda score: -abs(one.value if (one := found[score]) else 0),
        )

    @property
    def strongest(self) -> str | None:
        """The score with the tau furthest from 0 that is no mere size and applies to all networks."""
        candidates = (score for score in self.order if score not in TRIVIAL)
        return next((score for score in candidates if self.scored.applies[score].all()), None)

    def claimed(self, value: float) -> bool:
        """Whether a coefficient has the sign that higher scores for better networks give it."""
        return value < 0 if self.analysis.better == "lower" else value > 0

    def published(self, score: str, coefficient: Coefficient) -> float | None:
        """What was published; None where nothing was."""
        found: Published | None = PUBLISHED.get(self.name, {}).get(score)
        return None if found is None else getattr(found, coefficient)

    def kept(self, score: str) -> dict[float, float]:
        """Share of the networks that is kept -> share of the best tenth among them."""
        return {one.share: one.kept for one in self.analysis.kept if one.score == score}

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
        return [(", ".join(titles), why, count) for (why, count), titles in order]


@dataclass(frozen=True)
class Results:
    """All that the report shows."""

    study: ScoreStudy
    benchmarks: list[Benchmarked]

    def tables(self) -> dict[str, pd.DataFrame]:
        """The numbers, by the name of their file in `TABLES`."""
        import pandas as pd

        correlations, kept, leads, costs, scores = [], [], [], [], []
        for each in self.benchmarks:
            its = {"benchmark": each.title}
            for one in each.analysis.correlations:
                published = each.published(one.score, one.coefficient) if one.subset == "all" else None
                correlations.append(its | one.model_dump() | {"published": published})
            kept += [its | one.model_dump() for one in each.analysis.kept]
            leads += [its | one.model_dump() for one in each.analysis.leads]
            costs.append(each.costs.assign(**its))
            rows = each.frame.set_index(["network", "measured", "seed", "score"])["value"]
            wide = rows.unstack("score", sort=False)
            scores.append(wide.reset_index().assign(**its))
        frames = [*map(pd.DataFrame, (correlations, kept, leads)), *map(pd.concat, (costs, scores))]
        return dict(zip(TABLES, frames, strict=True))


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
                costs=pd.read_parquet(study.folder.costs(title)),
            )
            for title in study.titles
        ],
    )
