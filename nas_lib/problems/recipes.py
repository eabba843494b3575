"""The recipes of NAS-Bench-NLP and what came of them."""

from __future__ import annotations

import gzip
import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_lib.problems.known import there
from nas_lib.problems.problem import ProblemError
from nas_lib.spaces.recurrent.cell import CellError
from nas_lib.spaces.recurrent.recipes import Recipe, from_recipe


@dataclass(frozen=True)
class TrainedRecipe:
    """One recipe of the benchmark, its runs merged (Klyuchnikov et al. 2022, arXiv 2006.07116)."""

    number: int
    """Smallest of the ids under which it was trained."""
    recipe: Recipe
    parameters: int
    """Of the whole language model: 10,000 words, embedding 400, hidden 600, 3 layers."""
    loss: float
    """Mean test loss after the last epoch on the Penn Treebank over the runs that ended, nats per token; nan if none
    did. No validation loss is published."""
    runs: int
    """Runs that ended."""
    failures: int
    """Runs without a finite loss."""
    published: Mapping[str, float]
    """Scores as published with the benchmark of Serianni and Kalita (2023); empty where they have none."""


def recipes_file(folder: Path | None = None) -> Path:
    """The table of recipes in the folder of all data sets. Raises ProblemError: it is missing."""
    source = "the repositories fmsnew/nas-bench-nlp-release and aaronserianni/training-free-nas, joined by recipe"
    return there(folder, "nas-bench-nlp/ptb_recipes.json.gz", source)


def trained_recipes(folder: Path | None = None) -> list[TrainedRecipe]:
    """All recipes, each once, those whose runs all failed included.

    Args:
        folder: of all data sets. Default: as for other tables.

    Raises:
        ProblemError: the table is missing or cannot be read.
    """
    path = recipes_file(folder)
    try:
        rows = json.loads(gzip.decompress(path.read_bytes()))
        found = [_row(row) for row in rows]
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, CellError) as error:
        raise ProblemError(f"{path}: cannot be read as recipes of NAS-Bench-NLP ({error})") from None
    return found


def _row(row: Mapping[str, Any]) -> TrainedRecipe:
    from_recipe(row["recipe"])
    losses = [loss for loss in map(float, row["ptb_test_loss"]) if math.isfinite(loss)]
    return TrainedRecipe(
        number=row["id"],
        recipe=row["recipe"],
        parameters=row["num_params"],
        loss=statistics.fmean(losses) if losses else math.nan,
        runs=len(losses),
        failures=row["failed_runs"],
        published=row["authors_metrics"] or {},
    )
