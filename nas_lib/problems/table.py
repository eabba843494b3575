"""Tables of measured architectures: a user's own file, described by a few lines of YAML."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, field_validator, model_validator

from nas_lib.configuration import SLUG, nearest
from nas_lib.problems.problem import Problem, ProblemError, Values
from nas_lib.settings import Settings
from nas_lib.spaces.genes import Condition, Gene, GeneSpace, Numbers, Option
from nas_lib.spaces.graphs import Drawn, chain, operations_on_edges

if TYPE_CHECKING:
    import pandas as pd

BEYOND = 0.1
"""How far beyond the worst point of the front a reference point lies that was not given, as a share of its range."""
MOST_OPTIONS = 1000
"""Options of a gene: a column with more is rather a number of the row, or something measured."""
LARGEST = 1e100
"""Size of an objective up to which hypervolumes of three of them are numbers."""
NEGATED = "negated"
"""What stands beside the name of an objective that is maximised, in reports."""
RESERVED = ("round", "slot", "hash", "origin", "repeat", "genes")
"""Columns that the history of a search has beside the objectives."""
SEPARATORS = (",", ";", "\t")
FOREIGN = (".json", ".jsonl", ".xls", ".xlsx", ".feather", ".npz", ".pkl")
"""Endings of files that are no table of these, though some can be read as one of a single column."""


Node = Annotated[str, BeforeValidator(lambda name: str(name) if isinstance(name, int) else name)]
"""Name of a node of a cell; numbers are names too."""


class GeneColumns(Settings):
    """Columns of a table that are genes."""

    columns: str
    """Name of a column, or a pattern such as `kernel_*` for several, in the order of the file, objectives left out."""
    ordered: bool | None = None
    """Whether neighbouring options are alike; texts are in alphabetical order. Default: if all are numbers."""
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


class TableGraph(Settings):
    """How the architectures of a table are graphs, for predictors that learn from those."""

    edges: tuple[tuple[Node, Node], ...] | None = Field(default=None, min_length=1)
    """Per gene, in the order of the genes, from and to which node the edge leads whose operation it is. Default: the
    genes are a chain, each acting on what the one before it gives."""
    without: Option | None = None
    """The option that removes the edge, or the link of the chain."""

    @field_validator("without", mode="before")
    @classmethod
    def _an_option_is_one_value(cls, value: object) -> object:
        if not isinstance(value, bool | int | float | str | None):
            raise ValueError(f"found {value!r}, allowed is an option of the genes")
        return value

    def drawn(self, genes: Sequence[Gene]) -> Drawn:
        """The graphs of these genes. Raises ValueError: they do not fit, in words that go on after `graph: `."""
        options = [gene.options for gene in genes]
        everything = sorted({option for its in options for option in its}, key=str)
        if self.without is not None and self.without not in everything:
            shown = ", ".join(map(repr, everything[:20])) + (", ..." if len(everything) > 20 else "")
            raise ValueError(f"without is {self.without!r}, allowed is an option of the genes: {shown}")
        if self.edges is None:
            removed = np.zeros((len(genes), max(map(len, options))), dtype=bool)
            for place, its in enumerate(options):
                removed[place, : len(its)] = [self.without is not None and option == self.without for option in its]
            return chain([*map(len, options)], without=removed)
        if len(self.edges) != len(genes):
            names = ", ".join(gene.name for gene in genes[:20])
            raise ValueError(f"has {len(self.edges)} edges, allowed is one per gene, which are {len(genes)}: {names}")
        return operations_on_edges(self.edges, options, self.without)


class Table(Settings):
    """A CSV or Parquet file with one row per architecture."""

    name: Literal["table"] = "table"
    path: Path
    """The file; relative to where the command runs."""
    title: str = Field(default="", pattern=SLUG)
    """Name in tables and folders. Default: the file's name."""
    genes: tuple[GeneColumns, ...] = Field(min_length=1)
    """Its genes; a bare name or pattern stands for an entry with that alone."""
    objectives: tuple[ObjectiveColumn, ...] = Field(min_length=1)
    """What is minimised; a bare name stands for that column."""

    graph: TableGraph | None = None
    """How its architectures are graphs: `chain`, or a mapping. Default: they are not, and what learns from graphs
    cannot be used."""

    @field_validator("graph", mode="before")
    @classmethod
    def _a_chain_has_no_more_to_say(cls, value: object) -> object:
        if isinstance(value, str) and value != "chain":
            raise ValueError(f"found {value!r}, allowed is 'chain', or a mapping with edges, without")
        return {} if value == "chain" else value

    @model_validator(mode="before")
    @classmethod
    def _titled(cls, content: Any) -> Any:
        return titled(content)

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

    @model_validator(mode="after")
    def _columns_have_one_use(self) -> Table:
        wanted = [objective.column for objective in self.objectives]
        for name in wanted:
            if wanted.count(name) > 1:
                raise ValueError(f"the objective {name} occurs twice, allowed are different columns")
            if name in [entry.columns for entry in self.genes]:
                raise ValueError(f"{name} is a gene and an objective, allowed is one of them")
            if name in RESERVED or name.startswith(("predicted.", "score.")):
                raise ValueError(f"an objective is called {name}, allowed are names other than {', '.join(RESERVED)}")
        return self

    def problem(self) -> Problem:
        """The problem. Rows without a finite number in every objective are left out.

        Raises:
            ProblemError: the file cannot be read, or lacks a column, or holds what it must not.
        """
        frame = read_frame(self.file())
        wanted = [column_of(frame, objective.column, self.path) for objective in self.objectives]
        columns = self._gene_columns(frame, wanted)
        values = np.array([numbers_of(frame, name, self.path) for name in wanted], dtype=float).T
        complete = np.isfinite(values).all(axis=1)
        if not complete.any():
            raise ProblemError(f"{self.path}: no row has a number in {', '.join(wanted)}")
        frame, values = frame[complete], values[complete]
        genes, rows = _genes(frame, columns, self.path)
        signs = np.array([-1.0 if objective.maximise else 1.0 for objective in self.objectives])
        given = [
            None if objective.reference is None else sign * objective.reference
            for objective, sign in zip(self.objectives, signs.tolist(), strict=True)
        ]
        exact = [name for name, objective in zip(wanted, self.objectives, strict=True) if objective.exact]
        values = values * signs
        units = {name: NEGATED for name, sign in zip(wanted, signs, strict=True) if sign < 0}
        problem = tabular(self.title, genes, rows, values, wanted, given, exact, units, graph=self._drawn(genes))
        if problem.space.counts.max() < 2:
            raise ProblemError(
                f"{self.path}: all rows are the same architecture, allowed are two architectures or more"
            )
        front = np.asarray(problem.front)
        if not (front < problem.reference).all(axis=1).any():
            reference, best = (
                ", ".join(f"{name} {value:.6g}" for name, value in zip(wanted, signs * point, strict=True))
                for point in (problem.reference, front.min(axis=0))
            )
            raise ProblemError(
                f"{self.path}: no architecture is better in every objective than the reference point ({reference}), "
                f"allowed is one that some architecture surpasses; the best values are {best}"
            )
        return problem

    def _drawn(self, genes: Sequence[Gene]) -> Drawn | None:
        try:
            return None if self.graph is None else self.graph.drawn(genes)
        except ValueError as error:
            raise ProblemError(f"{self.path}: graph: {error}") from None

    def _gene_columns(self, frame: pd.DataFrame, wanted: Sequence[str]) -> dict[str, GeneColumns]:
        """The column of every gene and the entry that names it."""
        found: dict[str, GeneColumns] = {}
        for entry in self.genes:
            for name in _matching(frame, entry.columns, wanted, self.path):
                if name in found:
                    raise ProblemError(
                        f"{self.path}: the gene {name} is named by {found[name].columns!r} and {entry.columns!r}, "
                        "allowed is one entry"
                    )
                found[name] = entry
        return found


def tabular(
    name: str,
    genes: tuple[Gene, ...],
    rows: Numbers,
    values: Values,
    objectives: Sequence[str],
    references: Sequence[float | None],
    exact: Sequence[str] = (),
    units: Mapping[str, str] | None = None,
    graph: Drawn | None = None,
    scores: Mapping[str, Values] | None = None,
) -> Problem:
    """The problem of a table: rows of option numbers (n, d) and their values (n, m), all minimised; scores are (n,).

    Rows that are the same architecture count once, with their mean. A table without gaps is a whole space; else only
    its rows exist.
    """
    import moocore

    everything = GeneSpace(name, genes, graph=graph)
    plain, place = np.unique(everything.plain(rows), axis=0, return_inverse=True)
    counts = np.bincount(place.ravel())

    def mean(column: Values) -> Values:
        return np.bincount(place.ravel(), column) / counts

    means = np.stack([mean(column) for column in values.T], axis=1)
    listed = everything.listed
    space = everything if listed is not None and len(listed) == len(plain) else replace(everything, rows=plain)
    index = {key: number for number, key in enumerate(space.keys(plain))}

    def looked_up(known: Values) -> Callable[[Numbers], Values]:
        return lambda numbers: known[[index[key] for key in space.keys(numbers)]]

    front = means[moocore.is_nondominated(means, keep_weakly=False)]
    worst, best = front.max(axis=0), front.min(axis=0)
    inferred = worst + BEYOND * np.where(worst > best, worst - best, np.abs(worst) + 1)
    reference = np.array([inferred[m] if given is None else given for m, given in enumerate(references)], dtype=float)

    return Problem(
        name=name,
        space=space,
        objectives=tuple(objectives),
        evaluate=looked_up(means),
        reference=reference,
        front=front,
        exact={one: looked_up(means[:, objectives.index(one)]) for one in exact},
        scores={one: looked_up(mean(column)) for one, column in (scores or {}).items()},
        units=units or {},
    )


def read_frame(path: Path) -> pd.DataFrame:
    """A CSV (also compressed; separated by commas, semicolons or tabs) or Parquet file, its rows numbered from 0.

    In a column of numbers words such as `NaN` and `NA` are missing values; among text they are text.

    Raises:
        ProblemError: it cannot be read.
    """
    import pandas as pd

    if path.suffix.lower() in FOREIGN:
        raise ProblemError(f"{path}: ends in {path.suffix}, allowed are tables as CSV or Parquet")
    try:
        frame = pd.read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    except ProblemError:
        raise
    except UnicodeDecodeError as error:
        raise ProblemError(f"{path}: has the byte 0x{error.object[error.start]:02x}, allowed is UTF-8") from None
    except Exception as error:  # every reader has errors of its own
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ProblemError(f"{path}: cannot be read as a table ({why})") from None
    indices = [name for name in frame.index.names if name is not None and name not in frame.columns]
    frame = frame.reset_index(level=indices).reset_index(drop=True) if indices else frame.reset_index(drop=True)
    if frame.empty:
        raise ProblemError(f"{path}: has no rows below its head, allowed is a table with some")
    return frame


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    def head(separator: str) -> list[str]:
        options: Any = {"header": None, "nrows": 1, "dtype": str, "keep_default_na": False}
        first = pd.read_csv(path, sep=separator, skipinitialspace=True, encoding="utf-8-sig", **options)
        return [str(name).strip() for name in first.iloc[0]]

    heads = {separator: head(separator) for separator in SEPARATORS}
    separator = max(heads, key=lambda each: len(heads[each]))
    names = heads[separator]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ProblemError(f"{path}: the column {twice[0]!r} occurs twice, allowed are different names")
    options: Any = {"sep": separator, "skipinitialspace": True, "low_memory": False, "encoding": "utf-8-sig"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            frame: pd.DataFrame = pd.read_csv(path, index_col=False, **options)
        except pd.errors.ParserWarning:
            raise ProblemError(f"{path}: rows have more values than the head has columns ({len(names)})") from None
    frame.columns = pd.Index(names)
    numeric = frame.select_dtypes("number").columns
    gaps = [
        place
        for place, (name, found) in enumerate(frame.notna().sum().items())
        if found == 0 or (found < len(frame) and name not in numeric)
    ]
    if gaps:
        text = pd.read_csv(path, usecols=gaps, keep_default_na=False, na_values=[""], **options)
        frame[[names[place] for place in gaps]] = text
    for name in frame.select_dtypes(exclude=["number", "bool"]).columns:
        texts = [value for value in frame[name].unique() if isinstance(value, str)]
        if padded := {text: text.strip() for text in texts if text != text.strip()}:
            frame[name] = frame[name].replace(padded)
    return frame


def titled(content: Any) -> Any:
    """Settings with a `path` that have no `title`: with the file's name as one."""
    if not isinstance(content, Mapping) or content.get("title") or not isinstance(content.get("path"), str | Path):
        return content
    stem = Path(content["path"]).name.split(".")[0].lower()
    return {**content, "title": re.sub("[^a-z0-9_-]+", "-", stem).strip("-_")[:64] or "table"}


def _filled(value: object, key: str) -> object:
    if not isinstance(value, list | tuple):
        return value
    return [{key: entry} if isinstance(entry, str) else entry for entry in value]


def column_of(frame: pd.DataFrame, name: str, path: Path) -> str:
    """The name itself. Raises ProblemError: there is no such column."""
    if name in frame.columns:
        return name
    known = list(map(str, frame.columns))
    shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    raise ProblemError(f"{path}: no column {name!r}{nearest(name, known)}; it has {shown}")


def _matching(frame: pd.DataFrame, pattern: str, objectives: Sequence[str], path: Path) -> list[str]:
    """The column of that name, else those that match and are no objectives."""
    matching = [name for name in map(str, frame.columns) if fnmatchcase(name, pattern) and name not in objectives]
    return matching if matching and pattern not in frame.columns else [column_of(frame, pattern, path)]


def numbers_of(frame: pd.DataFrame, name: str, path: Path) -> Values:
    """A column as numbers (n,), nan where it has none. Raises ProblemError: something else is in it."""
    import pandas as pd

    column = frame[name]
    if not pd.api.types.is_numeric_dtype(column):  # also of dates, which would pass as numbers
        column = column.astype(str).where(column.notna())
    values = np.asarray(pd.to_numeric(column, errors="coerce").astype(float))
    wrong = (np.isnan(values) & column.notna().to_numpy()) | (np.isfinite(values) & (np.abs(values) > LARGEST))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ProblemError(
            f"{path}: the objective {name} is {column.tolist()[row]!r} in row {row + 1}, allowed are numbers, with a "
            f"decimal point, up to {LARGEST:g}, or nothing"
        )
    return values


def _genes(frame: pd.DataFrame, columns: Mapping[str, GeneColumns], path: Path) -> tuple[tuple[Gene, ...], Numbers]:
    """The genes, and the option numbers (n, d) of all rows."""
    genes: dict[str, Gene] = {}
    places: dict[str, Numbers] = {}
    effects: dict[str, NDArray[np.bool_]] = {}
    for name, entry in columns.items():
        effects[name] = np.ones(len(frame), dtype=bool)
        if entry.active is not None:
            _check_condition(name, entry.active, genes, path)
            source = genes[entry.active.gene]
            allowed = np.array([option in entry.active.options for option in source.options])
            effects[name] = effects[source.name] & allowed[places[source.name]]
        genes[name], places[name] = _gene(frame, name, entry, effects[name], path)
    return tuple(genes.values()), np.stack([*places.values()], axis=1)


def _gene(
    frame: pd.DataFrame, name: str, entry: GeneColumns, effect: NDArray[np.bool_], path: Path
) -> tuple[Gene, Numbers]:
    """A gene, and the option number (n,) of every row: the first one where it is empty for it has no effect (n,)."""
    import pandas as pd

    def wrong(found: str, rows: pd.Index) -> ProblemError:
        allowed = "finite numbers and text" + ("" if entry.active is None else ", or nothing where it has no effect")
        return ProblemError(f"{path}: the gene {name} is {found} in row {int(rows[0]) + 1}, allowed are {allowed}")

    there = frame[name].notna().to_numpy()
    missing = ~there & (effect | ~there.any())
    if missing.any():
        raise wrong("empty", frame.index[missing])
    column = frame.loc[there, name]
    try:
        codes, distinct = pd.factorize(column)
    except TypeError:
        raise wrong(f"{column.iloc[0]!r}", column.index) from None
    found = _options(list(distinct.tolist()))
    if len(set(found)) > MOST_OPTIONS:
        raise ProblemError(f"{path}: the gene {name} has {len(set(found)):,} options, allowed are {MOST_OPTIONS:,}")
    infinite = np.array([isinstance(option, float) and not np.isfinite(option) for option in found])[codes]
    if infinite.any():
        raise wrong("infinite", column.index[infinite])
    options = tuple(sorted(set(found)))
    place = {option: number for number, option in enumerate(options)}
    numbers = np.zeros(len(frame), dtype=np.int64)
    numbers[there] = np.array([place[option] for option in found], dtype=np.int64)[codes]
    return Gene(name=name, options=options, ordered=entry.ordered, active=entry.active), numbers


def _options(values: list[Any]) -> list[Option]:
    """The values as booleans, whole numbers or numbers, if they all are, else as text."""
    kinds = {bool if isinstance(value, bool) else type(value) for value in values}
    if kinds == {bool}:
        return values
    if not kinds <= {int, float}:
        return [str(value) for value in values]
    whole = all(float(value).is_integer() for value in values)
    return [int(value) for value in values] if whole else values


def _check_condition(name: str, condition: Condition, before: Mapping[str, Gene], path: Path) -> None:
    source = before.get(condition.gene)
    if source is None:
        raise ProblemError(
            f"{path}: the gene {name} depends on {condition.gene!r}, allowed are the genes before it: "
            f"{', '.join(before) or 'none'}"
        )
    known = {(option, isinstance(option, bool)) for option in source.options}
    for option in condition.options:
        if (option, isinstance(option, bool)) not in known:
            raise ProblemError(
                f"{path}: the gene {name} depends on {source.name} being {option!r}, allowed are "
                f"{', '.join(map(repr, source.options[:20]))}{', ...' if len(source.options) > 20 else ''}"
            )
