"""The space of recurrent cells and what a search can do in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, StrictInt, field_validator

from nas_lib.records import Genotype
from nas_lib.settings import Settings
from nas_lib.spaces.recurrent.cell import (
    block_count,
    cell_hash,
    cell_of,
    genotype_of,
    isomorphic,
    parameter_count,
    without_empty,
)
from nas_lib.spaces.recurrent.diagram import diagram
from nas_lib.spaces.recurrent.edits import Edits, Record, crossover, mutate, random_cell
from nas_lib.spaces.recurrent.seeds import KNOWN, SEEDS

if TYPE_CHECKING:
    import networkx
    from torch import Tensor

    from nas_lib.spaces.recurrent.network import RecurrentNetwork
    from nas_lib.tasks.data import SequenceShape

Seed = Literal["rnn", "gru", "lstm"]


class RecurrentSpace(Settings):
    """Recurrent cells, changed step by step from known ones (MOE/RNAS)."""

    name: Literal["recurrent"] = "recurrent"
    hidden: StrictInt = Field(default=128, ge=1)
    """Size of the embedding, of x and of the states."""
    layers: StrictInt = Field(default=1, ge=1)
    """Layers of the same cell, each with its own weights."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout after the embedding and after every layer."""
    initial_cells: tuple[Seed, ...] = ("rnn", "gru", "lstm")
    """Known cells that a search starts with, beside random ones."""
    initial_transformations: StrictInt = Field(default=10, ge=1)
    """Most transformations of a random cell; 1 is the fewest."""
    transformations: tuple[StrictInt, StrictInt] = (1, 3)
    """Fewest and most transformations of a child."""
    inheritance: Literal["name", "preserving", "none"] = "name"
    """What a child gets from its parent: the weights of blocks with the same name, the same with new blocks that leave
    the function as it is wherever they can, or nothing."""
    edits: Edits = Edits()
    """Which transformations are drawn, and how."""

    modality: ClassVar[str] = "sequences"

    @field_validator("transformations")
    @classmethod
    def _low_before_high(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= value[0] <= value[1]:
            raise ValueError(f"found {list(value)}, allowed is [fewest, most] with 1 or more")
        return value

    @field_validator("initial_cells")
    @classmethod
    def _cells_differ(cls, value: tuple[Seed, ...]) -> tuple[Seed, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"{list(value)} repeats a cell, allowed are different ones")
        return value

    def operators(self) -> frozenset[str]:
        """See `Space`."""
        offered = {"sample", "seeds", "mutate", "crossover", "size"}
        return frozenset(offered if self.inheritance == "none" else {*offered, "inherit"})

    def seeds(self) -> list[Genotype]:
        """The known cells to start with. Operator `seeds`."""
        return [genotype_of(without_empty(SEEDS[name]())) for name in self.initial_cells]

    def known(self) -> dict[str, Genotype]:
        """All known cells, by name: what a search has to beat. Operator `seeds`."""
        return {name: genotype_of(without_empty(seed())) for name, seed in KNOWN.items()}

    def size(self, genotype: Genotype) -> dict[str, float]:
        """Blocks as published, inputs and outputs included. Operator `size`."""
        return {"blocks": block_count(cell_of(genotype))}

    def sample(self, rng: np.random.Generator) -> Genotype:
        """See `Space`: a basic cell with a random activation and a few transformations."""
        return genotype_of(without_empty(random_cell(rng, self.edits, self.initial_transformations)))

    def mutate(self, genotype: Genotype, rng: np.random.Generator) -> tuple[Genotype, list[dict[str, Any]]]:
        """A child of a cell, and a record of every transformation. Operator `mutate`."""
        count = int(rng.integers(*self.transformations, endpoint=True))
        cell, records = mutate(cell_of(genotype), rng, count, self.edits)
        return genotype_of(without_empty(cell)), [record.plain() for record in records]

    def crossover(
        self, first: Genotype, second: Genotype, rng: np.random.Generator
    ) -> tuple[Genotype, list[dict[str, Any]]]:
        """A child of two cells, and a record of what the second gave. Operator `crossover`.

        Its network inherits from the second parent, then from the first.
        """
        child, record = crossover(cell_of(first), cell_of(second), rng)
        return genotype_of(without_empty(child)), [record.plain()]

    def inherit(
        self, parent: Mapping[str, Tensor], child: RecurrentNetwork, records: Sequence[Mapping[str, Any]]
    ) -> list[str]:
        """Give a child's network what the settings say of its parent's weights. Operator `inherit`.

        Args:
            parent: state dictionary of the parent's network.
            child: network of the child's genotype, as `build` made it.
            records: of the transformations, as `mutate` gave them.

        Returns:
            The names of the weights that did not come from the parent.
        """
        from nas_lib.spaces.recurrent.inheritance import inherit

        return inherit(parent, child, self.inheritance, [Record(**record) for record in records])

    def hash(self, genotype: Genotype) -> str:
        """See `Space`: equal for cells equal but for the names of their blocks."""
        return cell_hash(cell_of(genotype))

    def same(self, first: Genotype, second: Genotype) -> bool:
        """See `Space`: whether two cells are equal but for the names of their blocks."""
        return isomorphic(cell_of(first), cell_of(second))

    def build(self, genotype: Genotype, shape: SequenceShape) -> RecurrentNetwork:
        """See `Space`."""
        from nas_lib.spaces.recurrent.network import RecurrentNetwork

        return RecurrentNetwork(cell_of(genotype), shape, self.hidden, self.layers, self.dropout)

    def describe(self, genotype: Genotype) -> str:
        """For example `LSTM, 26 blocks, 3,385,200 parameters per layer: 5 add, ...`; known cells have their name."""
        cell = cell_of(genotype)
        known = [name for name, seed in KNOWN.items() if isomorphic(without_empty(seed()), cell)]
        counts: dict[str, int] = {}
        for _, block in sorted(cell.blocks.items()):
            for word in (block.operation, block.activation):
                if word:
                    counts[word] = counts.get(word, 0) + 1
        words = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
        parameters = parameter_count(cell, self.hidden)
        size = f"{block_count(cell)} blocks, {parameters:,} parameters per layer: {words}"
        return f"{known[0]}, {size}" if known else size

    def graph(self, genotype: Genotype) -> networkx.DiGraph[int]:
        """See `Space`: the cell from left to right, see `diagram`."""
        return diagram(cell_of(genotype))
