"""Tables of measured architectures: a user's own file, described by a few lines of YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from nas_lib.problems.problem import Problem, ProblemError, Values
from nas_lib.settings import Settings
from nas_lib.spaces.genes import Condition, Gene, GeneSpace, Numbers

if TYPE_CHECKING:
    import pandas as pd

BEYOND = 0.1
"""How far beyond the worst point of the front a reference point lies that was not given, as a share of its range."""


class GeneColumns(Settings):
    """Columns of a table that are genes."""

    columns: str
    """Name of a column, or a pattern such as `kernel_*` for several, in the order of the file."""
    ordered: bool | None = None
    """Whether neighbouring options are alike. Default: if all are numbers."""
    active: Condition | None = None
    """When they have an effect. Default: always."""


class ObjectiveColumn(Settings):
    """A column of a table that is an objective."""

    column: str
    """Its name."""
    maximise: bool = False
    """Whether larger is better: it is negated then."""
    reference: float | None = None
    """Reference value of the hypervolume, as in the column. Default: a tenth of the front's range beyond its worst."""
    exact: bool = False
    """Whether it can be computed without measuring, as parameters can: strategies may know it of any architecture."""


class Table(Settings):
    """A CSV or Parquet file with one row per architecture."""

    name: Literal["table"] = "table"
    path: Path
    """The file; relative to where the command runs."""
    title: str = Field(default="", pattern="^([a-z0-9][a-z0-9_-]{0,63})?$")
    """Name in tables and folders. Default: the file's name."""
    genes: tuple[GeneColumns, ...] = Field(min_length=1)
    """Its genes; a bare name or pattern stands for an entry with that alone."""
    objectives: tuple[ObjectiveColumn, ...] = Field(min_length=1)
    """What is minimised; a bare name stands for that column."""

    @model_validator(mode="before")
    @classmethod
    def _titled(cls, content: Any) -> Any:
        if not isinstance(content, Mapping) or content.get("title") or not isinstance(content.get("path"), str | Path):
            return content
        stem = Path(content["path"]).name.split(".")[0].lower()
        return {**content, "title": re.sub("[^a-z0-9_-]+", "-", stem).strip("-_")[:64] or "table"}

    @field_validator("genes", mode="before")
    @classmethod
    def _gene_names_are_enough(cls, value: object) -> object:
        return _filled(value, "columns")

    @field_validator("objectives", mode="before")
    @classmethod
    def _objective_names_are_enough(cls, value: object) -> object:
        return _filled(value, "column")

    def file(self) -> Path:
        """The table. Raises ProblemError: it is missing."""
        if not self.path.exists():
            raise ProblemError(f"{self.path}: is missing")
        return self.path

    def problem(self) -> Problem:
        """The problem.

        Raises:
            ProblemError: the file cannot be read, or lacks a column, or holds what it must not.
        """
        frame = read_frame(self.file())
        columns = [(name, entry) for entry in self.genes for name in _matching(frame, entry.columns, self.path)]
        wanted = [_matching(frame, objective.column, self.path)[0] for objective in self.objectives]
        values = np.array([_numbers_of(frame, name, self.path) for name in wanted], dtype=float).T
        complete = np.isfinite(values).all(axis=1)
        if not complete.any():
            raise ProblemError(f"{self.path}: no row has a number in {', '.join(wanted)}")
        frame, values = frame[complete], values[complete]
        genes = tuple(_gene(frame, name, entry, self.path) for name, entry in columns)
        signs = np.array([-1.0 if objective.maximise else 1.0 for objective in self.objectives])
        given = [
            None if objective.reference is None else sign * objective.reference
            for objective, sign in zip(self.objectives, signs.tolist(), strict=True)
        ]
        exact = [name for name, objective in zip(wanted, self.objectives, strict=True) if objective.exact]
        rows = np.stack([_places(frame, gene) for gene in genes], axis=1)
        return tabular(self.title, genes, rows, values * signs, wanted, given, exact)


def tabular(
    name: str,
    genes: tuple[Gene, ...],
    rows: Numbers,
    values: Values,
    objectives: Sequence[str],
    references: Sequence[float | None],
    exact: Sequence[str] = (),
    units: Mapping[str, str] | None = None,
) -> Problem:
    """The problem of a table: rows of option numbers (n, d) and their values (n, m), all minimised.

    Rows that are the same architecture count once, with their mean. A table without gaps is a whole space; else only
    its rows exist.
    """
    import moocore

    everything = GeneSpace(name, genes)
    plain, place = np.unique(everything.plain(rows), axis=0, return_inverse=True)
    counts = np.bincount(place.ravel())
    means = np.stack([np.bincount(place.ravel(), column) / counts for column in values.T], axis=1)
    listed = everything.listed
    space = everything if listed is not None and len(listed) == len(plain) else GeneSpace(name, genes, plain)
    index = {key: number for number, key in enumerate(space.keys(plain))}

    def evaluate(numbers: Numbers) -> Values:
        return means[[index[key] for key in space.keys(numbers)]]

    front = means[moocore.is_nondominated(means, keep_weakly=False)]
    worst, best = front.max(axis=0), front.min(axis=0)
    inferred = worst + BEYOND * np.where(worst > best, worst - best, np.abs(worst) + 1)
    reference = np.array([inferred[m] if given is None else given for m, given in enumerate(references)], dtype=float)

    def computed(column: int) -> Any:
        return lambda numbers: evaluate(numbers)[:, column]

    return Problem(
        name=name,
        space=space,
        objectives=tuple(objectives),
        evaluate=evaluate,
        reference=reference,
        front=front,
        exact={one: computed(objectives.index(one)) for one in exact},
        units=units or {},
    )


def read_frame(path: Path) -> pd.DataFrame:
    """A CSV (also compressed) or Parquet file.

    Raises:
        ProblemError: it cannot be read.
    """
    import pandas as pd

    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except Exception as error:  # every reader has errors of its own
        raise ProblemError(f"{path}: cannot be read as a table ({str(error).splitlines()[0]})") from None
    if frame.empty:
        raise ProblemError(f"{path}: has no rows")
    return frame


def _filled(value: object, key: str) -> object:
    if not isinstance(value, list | tuple):
        return value
    return [{key: entry} if isinstance(entry, str) else entry for entry in value]


def _matching(frame: pd.DataFrame, pattern: str, path: Path) -> list[str]:
    found = [name for name in map(str, frame.columns) if fnmatchcase(name, pattern)]
    if not found:
        raise ProblemError(f"{path}: no column {pattern!r}; it has {', '.join(map(str, frame.columns[:20]))}")
    return found


def _numbers_of(frame: pd.DataFrame, name: str, path: Path) -> Values:
    import pandas as pd

    try:
        return np.asarray(pd.to_numeric(frame[name]), dtype=float)
    except (ValueError, TypeError) as error:
        raise ProblemError(f"{path}: the objective {name} has values that are no numbers ({error})") from None


def _gene(frame: pd.DataFrame, name: str, entry: GeneColumns, path: Path) -> Gene:
    column = frame[name]
    if column.isna().any():
        row = int(np.flatnonzero(column.isna())[0])
        raise ProblemError(f"{path}: the gene {name} is empty in row {row + 1}")
    values = column.unique().tolist()
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    options = tuple(sorted(values)) if numeric else tuple(sorted(map(str, values)))
    return Gene(name=name, options=options, ordered=entry.ordered, active=entry.active)


def _places(frame: pd.DataFrame, gene: Gene) -> Numbers:
    place = {option: number for number, option in enumerate(gene.options)}
    values = frame[gene.name].tolist()
    return np.array([place[value if gene.numeric else str(value)] for value in values], dtype=np.int64)
