"""Architectures as a list of genes, each with a few options: what chains of blocks, cells and tables have in common.

Inside, an architecture is a row of option numbers (d,); arrays of several are (n, d), int64. A genotype is the list of
the options themselves, `{"genes": [...]}`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from nas_lib.records import Genotype
from nas_lib.settings import Settings
from nas_lib.spaces.graphs import Drawn, Graphs

Option = StrictBool | StrictInt | StrictFloat | StrictStr
Numbers = NDArray[np.int64]
MOST_LISTED = 100_000
"""Architectures up to which a whole space is listed."""
BLOCK, ROWS = 256, 2048
"""Architectures and rows whose distances are computed at once: few enough to stay in the cache."""


class Condition(Settings):
    """When a gene has an effect."""

    gene: str
    """An earlier gene."""
    options: tuple[Option, ...] = Field(min_length=1)
    """Its options with which the gene has one."""


class Gene(Settings):
    """One choice."""

    name: str
    options: tuple[Option, ...] = Field(min_length=1)
    """What can be chosen."""
    ordered: bool | None = None
    """Whether neighbouring options are alike. Default: if all are numbers."""
    active: Condition | None = None
    """When it has an effect. Default: always."""

    @property
    def numeric(self) -> bool:
        """Whether all options are numbers."""
        return all(isinstance(option, int | float) and not isinstance(option, bool) for option in self.options)

    @property
    def is_ordered(self) -> bool:
        """Whether neighbouring options are alike."""
        return self.numeric if self.ordered is None else self.ordered

    @model_validator(mode="after")
    def _options_differ(self) -> Gene:
        if len(set(self.options)) < len(self.options):
            raise ValueError(f"options of {self.name} are {list(self.options)}, allowed are different ones")
        return self


@dataclass(frozen=True)
class GeneSpace:
    """All architectures of some genes, or those of a list of rows alone."""

    name: str
    genes: tuple[Gene, ...]
    rows: Numbers | None = None
    """Option numbers (n, d) of the architectures that exist. None: every combination does."""
    graph: Drawn | None = None
    """How its architectures are drawn as graphs; see `graphs`. None: they are not."""

    def operators(self) -> frozenset[str]:
        """See `Space`."""
        return frozenset({"sample", "encode", "genes"} | ({"list"} if self.listed is not None else set()))

    @property
    def gene_space(self) -> GeneSpace:
        """Itself, see `Genetic`."""
        return self

    @cached_property
    def counts(self) -> Numbers:
        """Options of each gene, shape (d,)."""
        return np.array([len(gene.options) for gene in self.genes])

    # --- option numbers --------------------------------------------------------------------------

    def numbers(self, genotypes: Sequence[Genotype]) -> Numbers:
        """Option numbers (n, d) of genotypes."""
        rows = [
            [place[option] for place, option in zip(self._places, each["genes"], strict=True)] for each in genotypes
        ]
        return np.array(rows, dtype=np.int64).reshape(len(rows), len(self.genes))

    @cached_property
    def _places(self) -> list[dict[Option, int]]:
        """Per gene, option -> its number."""
        return [{option: place for place, option in enumerate(gene.options)} for gene in self.genes]

    def genotype(self, row: Numbers) -> Genotype:
        """The genotype of one row of option numbers."""
        return {"genes": [gene.options[number] for gene, number in zip(self.genes, row.tolist(), strict=True)]}

    def active(self, numbers: Numbers) -> NDArray[np.bool_]:
        """Which genes have an effect, shape (n, d). A gene whose condition names an inactive gene has none."""
        found = np.ones(numbers.shape, dtype=bool)
        for place, source, allowed in self._conditions:
            found[:, place] = found[:, source] & allowed[numbers[:, source]]
        return found

    @cached_property
    def _conditions(self) -> list[tuple[int, int, NDArray[np.bool_]]]:
        """Per conditional gene its place, that of the gene it depends on, and with which options it has an effect."""
        names = [gene.name for gene in self.genes]
        found = []
        for place, gene in enumerate(self.genes):
            if gene.active is not None:
                source = names.index(gene.active.gene)
                allowed = [option in gene.active.options for option in self.genes[source].options]
                found.append((place, source, np.array(allowed)))
        return found

    def plain(self, numbers: Numbers) -> Numbers:
        """The rows with genes that have no effect at their first option: equal architectures become equal rows."""
        return np.where(self.active(numbers), numbers, 0)

    def keys(self, numbers: Numbers) -> list[bytes]:
        """Per row a key that equal architectures, and no others, share."""
        return [row.tobytes() for row in np.ascontiguousarray(self.plain(numbers).astype(np.int16))]

    def graphs(self, numbers: Numbers) -> Graphs:
        """The architectures (n, d) as graphs. Raises TypeError: those of this space are none."""
        if self.graph is None:
            raise TypeError(f"architectures of {self.name} are not drawn as graphs")
        return self.graph(self.plain(numbers), self.active(numbers))

    @cached_property
    def size(self) -> int:
        """How many rows there are, equal architectures counted each."""
        return prod(self.counts.tolist()) if self.rows is None else len(self.rows)

    @property
    def listed(self) -> Numbers | None:
        """Every architecture once, in canonical form, shape (n, d). None: there are too many."""
        return None if self.rows is None and self.size > MOST_LISTED else self._listed

    @cached_property
    def _listed(self) -> Numbers:
        if self.rows is None:
            steps = np.cumprod([1, *self.counts[:0:-1]])[::-1]
            rows = np.arange(self.size)[:, None] // steps % self.counts
        else:
            rows = self.rows
        return np.unique(self.plain(rows.astype(np.int64)), axis=0)

    @cached_property
    def _row_of(self) -> dict[bytes, int]:
        """Key -> row of `_listed`."""
        return {key: row for row, key in enumerate(self.keys(self._listed))}

    def existing(self, numbers: Numbers, without: Collection[bytes] = ()) -> Numbers:
        """Per row the nearest architecture that exists: itself where every combination does.

        Distance: per gene with an effect in either, the share of the options' range apart (ordered) or 1 (not). Where
        only some combinations exist, those whose key is in `without` are passed over as long as there are others.
        """
        numbers = self.plain(numbers)
        if self.rows is None:
            return numbers
        found = np.array([-1 if key in without else self._row_of.get(key, -1) for key in self.keys(numbers)], dtype=int)
        missing = np.flatnonzero(found < 0)
        taken = [self._row_of[key] for key in without if key in self._row_of]
        for start in range(0, len(missing), BLOCK):
            block = missing[start : start + BLOCK]
            found[block] = self._nearest(numbers[block], taken)
        return np.asarray(self._listed[found])

    def _nearest(self, numbers: Numbers, taken: list[int]) -> Numbers:
        """Per row (n, d) that of `_listed` at the least distance; of several, the first that is not `taken`."""
        shares = []
        for gene, column in zip(self.genes, numbers.T, strict=True):
            apart = np.abs(np.arange(len(gene.options))[:, None] - column)
            share = apart / max(len(gene.options) - 1, 1) if gene.is_ordered else apart > 0
            shares.append(share.astype(np.float32))
        least, nearest = np.full(len(numbers), np.inf), np.zeros(len(numbers), dtype=np.int64)
        penalty = np.zeros(len(self._listed), dtype=np.float32)
        penalty[taken] = len(self.genes) + 1
        for start in range(0, len(self._listed), ROWS):
            rows = self._listed[start : start + ROWS]
            distance = np.repeat(penalty[start : start + ROWS, None], len(numbers), axis=1)
            for column, share in enumerate(shares):
                distance += share.take(rows[:, column], axis=0)
            best = distance.argmin(axis=0)
            found = distance[best, np.arange(len(numbers))]
            nearest = np.where(found < least, best + start, nearest)
            least = np.minimum(least, found)
        return nearest

    def draw(self, count: int, rng: np.random.Generator) -> Numbers:
        """`count` rows, every gene uniform, or uniform among the rows that exist."""
        if self.rows is not None:
            return self._listed[rng.integers(len(self._listed), size=count)]
        return self.plain(rng.integers(self.counts, size=(count, len(self.genes))))

    def one_hot(self, numbers: Numbers) -> NDArray[np.float64]:
        """One column per option of every gene, shape (n, sum of counts); all 0 for a gene without effect."""
        active, starts = self.active(numbers), np.cumsum(self.counts) - self.counts
        columns = np.zeros((len(numbers), int(self.counts.sum())))
        rows, genes = np.nonzero(active)
        columns[rows, starts[genes] + numbers[rows, genes]] = 1.0
        return columns

    # --- what every space offers -----------------------------------------------------------------

    def sample(self, rng: np.random.Generator) -> Genotype:
        """See `Space`."""
        return self.genotype(self.draw(1, rng)[0])

    @cached_property
    def _coordinates(self) -> list[tuple[int, int | None]]:
        """Gene and option of every coordinate of `encode`; option None: the place among ordered options."""
        found: list[tuple[int, int | None]] = []
        for place, gene in enumerate(self.genes):
            count = len(gene.options)
            if count > 1:
                found += (
                    [(place, None)] if gene.is_ordered or count == 2 else [(place, option) for option in range(count)]
                )
        return found

    def dimensions(self) -> list[str]:
        """See `Space`: one per ordered gene, one per option of others."""
        return [
            self.genes[gene].name if option is None else f"{self.genes[gene].name}={self.genes[gene].options[option]}"
            for gene, option in self._coordinates
        ]

    def points(self, numbers: Numbers) -> NDArray[np.float64]:
        """Coordinates (n, dimensions) in [0, 1] of rows."""
        numbers = self.plain(numbers)
        columns = [
            numbers[:, gene] / (self.counts[gene] - 1) if option is None else numbers[:, gene] == option
            for gene, option in self._coordinates
        ]
        return np.asarray(np.array(columns, dtype=float).T.reshape(len(numbers), len(columns)))

    def _numbers_at(self, points: NDArray[np.float64]) -> Numbers:
        numbers = np.zeros((len(points), len(self.genes)), dtype=np.int64)
        columns: dict[int, list[int]] = {}
        for column, (gene, option) in enumerate(self._coordinates):
            if option is None:
                numbers[:, gene] = np.rint(points[:, column] * (self.counts[gene] - 1))
            else:
                columns.setdefault(gene, []).append(column)
        for gene, own in columns.items():
            numbers[:, gene] = points[:, own].argmax(axis=1)
        return numbers

    def encode(self, genotype: Genotype) -> NDArray[np.float64]:
        """See `Space`."""
        return np.asarray(self.points(self.numbers([genotype]))[0])

    def decode(self, point: NDArray[np.float64], rng: np.random.Generator) -> Genotype:
        """See `Space`."""
        return self.genotype(self.existing(self._numbers_at(point[None]))[0])

    def canonical(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """See `Space`."""
        return self.points(self.existing(self._numbers_at(points)))

    def values(self, dimension: int, coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
        """See `Space`: the numbers of a numeric gene, else the coordinates as they are."""
        gene, option = self._coordinates[dimension]
        if option is not None or not self.genes[gene].numeric:
            return coordinates
        options = np.array(self.genes[gene].options, dtype=float)
        return np.asarray(np.interp(coordinates * (len(options) - 1), np.arange(len(options)), options))

    def hash(self, genotype: Genotype) -> str:
        """See `Space`."""
        return hashlib.blake2b(self.keys(self.numbers([genotype]))[0], digest_size=8).hexdigest()

    def same(self, first: Genotype, second: Genotype) -> bool:
        """See `Space`."""
        one, other = self.keys(self.numbers([first, second]))
        return one == other

    def describe(self, genotype: Genotype) -> str:
        """See `Space`: the options of genes that have an effect."""
        numbers = self.numbers([genotype])
        shown: list[Any] = [
            f"{gene.name} {option}" if has_effect else None
            for gene, option, has_effect in zip(self.genes, genotype["genes"], self.active(numbers)[0], strict=True)
        ]
        return ", ".join(filter(None, shown))
