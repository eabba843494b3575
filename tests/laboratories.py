"""Laboratories whose searches are made up: the files they would have written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nas_lib.laboratory.settings import Laboratory, parse
from nas_lib.layout import write_json

UNLISTED_GRID = {"name": "grid", "function": "dtlz2", "objectives": 3, "genes": 3, "options": 400}
"""A problem with three objectives, too large to know its front."""


def a_table(folder: Path) -> Path:
    """Four by four architectures with the front (0, 3), (1, 2), (2, 1), (3, 0): it dominates 1 + 2 + 3 + 4 = 10 of the
    16 units below (4, 4)."""
    path = folder / "staircase.csv"
    rows = [{"a": a, "b": b, "loss": a + b, "cost": 3 - a + b} for a in range(4) for b in range(4)]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def a_laboratory(folder: Path, **changes: Any) -> Laboratory:
    """`good` against `random` on one table with a known front, 4 evaluations each and 2 seeds."""
    objectives = [{"column": "loss", "reference": 4}, {"column": "cost", "reference": 4}]
    content = {
        "laboratory": "made-up",
        "results": str(folder / "results"),
        "problems": [
            {"name": "table", "path": str(a_table(folder)), "genes": ["a", "b"], "objectives": objectives},
        ],
        "strategies": [{"name": "nsga2", "label": "good"}, "random"],
        "budget": {"evaluations": 4, "batch": 2},
        "seeds": [1, 2],
    }
    return parse(content | changes, "made up")


def write_search(
    laboratory: Laboratory,
    title: str,
    label: str,
    seed: int,
    points: np.ndarray | Sequence[tuple[float, ...]],
    *,
    repeats: tuple[int, ...] = (),
    predicted: np.ndarray | None = None,
) -> None:
    """The files of a search that measured the points (n, m) in this order; the rows `repeats` had been measured before,
    the first objective was predicted as given (NaN: not at all), and each round took 0.5 s."""
    values = np.array(points, dtype=float)
    names = laboratory.problem(title).objectives
    batch = laboratory.budget.batch
    frame = pd.DataFrame(values, columns=list(names))
    frame.insert(0, "round", np.arange(len(values)) // batch)
    frame.insert(1, "repeat", [row in repeats for row in range(len(values))])
    for place, name in enumerate(names):
        frame[f"predicted.{name}"] = predicted if predicted is not None and place == 0 else np.nan
    folder = laboratory.folder.search(title, label, seed)
    folder.path.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(folder.history, index=False)
    write_json(
        folder.rounds, {"proposing_seconds": [0.5] * -(-len(values) // batch), "started": 1e9, "finished": 1e9 + 9}
    )
