"""What the measurements of a study say, read once for the page, the figures and the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_lib import pareto
from nas_lib.pareto import Interval
from nas_lib.predictor_study.settings import PredictorStudy
from nas_lib.report.results import Band

if TYPE_CHECKING:
    import pandas as pd

TABLES = ("measurements.csv", "means.csv")
QUANTITIES = {
    "kendall": "Rank correlation (Kendall's τ)",
    "spearman": "Rank correlation (Spearman's ρ)",
    "mape": "Mean absolute error (%)",
    "fit_seconds": "CPU seconds to learn",
    "predict_seconds": "CPU seconds to predict",
}
"""What is measured, as axes call it."""


@dataclass(frozen=True)
class Results:
    """All that the report shows."""

    study: PredictorStudy
    measurements: pd.DataFrame
    """One row per measurement of every problem; see `nas_lib.predictor_study.measure.Measurement`."""

    @property
    def cases(self) -> list[tuple[str, str]]:
        """Problem and objective, in order."""
        pairs = self.measurements[["problem", "objective"]].drop_duplicates()
        return [(str(title), str(objective)) for title, objective in pairs.itertuples(index=False)]

    def values(self, case: tuple[str, str], predictor: str, size: int, quantity: str) -> np.ndarray:
        """One value per seed; fewer where it is not defined."""
        rows = self.measurements
        chosen = (
            (rows["problem"] == case[0])
            & (rows["objective"] == case[1])
            & (rows["predictor"] == predictor)
            & (rows["size"] == size)
        )
        return rows.loc[chosen, quantity].dropna().to_numpy(dtype=float)

    def mean(self, case: tuple[str, str], predictor: str, size: int, quantity: str) -> Interval | None:
        """Mean over seeds with its 95 % interval (Student's t, within the range of a correlation); None without any."""
        values = self.values(case, predictor, size, quantity)
        if not len(values):
            return None
        found = pareto.mean_interval(values.tolist())
        lowest, highest = (-1.0, 1.0) if quantity in {"kendall", "spearman"} else (0.0, np.inf)
        return Interval(found.mean, max(found.low, lowest), min(found.high, highest), found.count)

    def band(self, case: tuple[str, str], predictor: str, quantity: str) -> Band | None:
        """Means over sizes within their intervals; seconds, which are drawn on a logarithmic axis, have no extent."""
        found = {size: self.mean(case, predictor, size, quantity) for size in sorted(self.study.sizes)}
        there = {size: one for size, one in found.items() if one is not None}
        if not there:
            return None
        ends = ("mean", "mean", "mean") if quantity.endswith("seconds") else ("mean", "low", "high")
        mean, low, high = (np.array([getattr(one, end) for one in there.values()]) for end in ends)
        return Band(np.array([*there]), mean, low, high)

    def held_out(self, title: str) -> int:
        """Architectures of a problem on which predictors were measured."""
        rows = self.measurements
        return int(rows.loc[rows["problem"] == title, "held_out"].max())

    def best(self, case: tuple[str, str], size: int) -> dict[str, bool]:
        """Whether each predictor has the highest mean Kendall, or one that is not significantly lower.

        Not lower: the interval of the paired differences to the highest, seed by seed, holds 0.
        """
        names: tuple[str, ...] = self.study.predictors
        values = {name: self.values(case, name, size, "kendall") for name in names}
        first = max(values, key=lambda name: float(values[name].mean()))
        found = {}
        for name, own in values.items():
            lost = pareto.mean_interval((values[first] - own).tolist())
            found[name] = name == first or lost.low <= 0
        return found

    def means(self) -> list[dict[str, Any]]:
        """One row per problem, objective, predictor, size and quantity."""
        rows = []
        for case in self.cases:
            for predictor in self.study.predictors:
                for size in self.study.sizes:
                    for quantity in QUANTITIES:
                        found = self.mean(case, predictor, size, quantity)
                        row = {"problem": case[0], "objective": case[1], "predictor": predictor, "size": size}
                        row |= {"held_out": self.held_out(case[0]), "quantity": quantity}
                        if found is not None:
                            row |= {"seeds": found.count, "mean": found.mean, "low": found.low, "high": found.high}
                        rows.append(row)
        return rows


def read(study: PredictorStudy) -> Results:
    """Read the measurements of a finished study.

    Raises:
        FileNotFoundError: measurements of a problem are not there yet.
    """
    import pandas as pd

    return Results(
        study,
        pd.concat([pd.read_parquet(study.folder.measurements(title)) for title in study.titles], ignore_index=True),
    )
