"""Search spaces: what architectures exist.

A space is its settings plus the operators it offers. Strategies use a space only through these
operators, so any strategy works on any space that offers what the strategy needs.
To add a space: one file, and one line in `SpaceSettings`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

import numpy as np
from pydantic import Field

from nas_lib.records import Genotype
from nas_lib.spaces.architecture import TooLargeError
from nas_lib.spaces.generator import GeneratorSpace
from nas_lib.spaces.genes import GeneSpace
from nas_lib.spaces.recurrent.space import RecurrentSpace
from nas_lib.spaces.transformer.space import TransformerSpace

if TYPE_CHECKING:
    import networkx
    from torch import Tensor, nn

__all__ = ["Changing", "Genetic", "Inheriting", "Sized", "Space", "SpaceSettings", "TooLargeError"]

SpaceSettings = Annotated[GeneratorSpace | RecurrentSpace | TransformerSpace, Field(discriminator="name")]
"""The spaces a configuration can name."""


class Space(Protocol):
    """What every space offers. `operators` names these and whatever else it can do."""

    @property
    def name(self) -> str:
        """Name of the space in configurations."""

    modality: ClassVar[str]
    """What its networks take: `images` or `sequences`."""

    def operators(self) -> frozenset[str]:
        """Names of the operators it offers with its present settings, for example `sample`, `encode`.

        `whole` says that its networks read sequences as a whole: they give one answer, not one at every step.
        """

    def sample(self, rng: np.random.Generator) -> Genotype:
        """A random genotype. Operator `sample`."""

    def redraw(self, genotype: Genotype, rng: np.random.Generator) -> Genotype:
        """Another architecture of the same generator. Operator `redraw`."""

    def dimensions(self) -> list[str]:
        """Names of the coordinates of `encode`, without those that have one value only."""

    def encode(self, genotype: Genotype) -> np.ndarray:
        """Coordinates in [0, 1] of a genotype, shape (d,). Operator `encode`."""

    def decode(self, point: np.ndarray, rng: np.random.Generator) -> Genotype:
        """The genotype nearest to a point of [0, 1]^d; what the point leaves open is drawn. Operator `encode`."""

    def canonical(self, points: np.ndarray) -> np.ndarray:
        """The points (n, d) with everything that has no effect set to a constant. Operator `encode`."""

    def values(self, dimension: int, coordinates: np.ndarray) -> np.ndarray:
        """What coordinates (n,) of one dimension stand for, in its own unit, shape (n,). Operator `encode`."""

    def hash(self, genotype: Genotype) -> str:
        """A hash that equal architectures share."""

    def same(self, first: Genotype, second: Genotype) -> bool:
        """Whether two genotypes are exactly the same architecture (settles equal hashes)."""

    def build(self, genotype: Genotype, shape: Any) -> nn.Module:
        """The network for inputs of a `Shape` or `SequenceShape`, initialised from torch's global random state.

        For images a module from images (n, c, h, w) to logits (n, classes). For sequences one from
        `(inputs, state=None)` to outputs (n, time, outputs) and the state, a tensor or nested tuples of them, with
        which the next call goes on. Networks that read sequences whole (`whole`) give their one answer as outputs
        (n, 1, outputs), and None as the state.
        """

    def describe(self, genotype: Genotype) -> str:
        """One line for people."""

    def graph(self, genotype: Genotype) -> networkx.DiGraph[int]:
        """The architecture as a flat graph to draw: node attributes `label`, `kind`, `stage` and `group`."""


class Genetic(Protocol):
    """A space whose genotypes are genes, one choice each. Operator `genes`."""

    @property
    def gene_space(self) -> GeneSpace:
        """The same as a space of genes."""


class Sized(Protocol):
    """A space that counts more of a network than its parameters."""

    def size(self, genotype: Genotype) -> Mapping[str, float]:
        """Further figures of size, for example `blocks`. Operator `size`."""


class Changing(Space, Protocol):
    """A space whose networks are found by changing known ones step by step."""

    def seeds(self) -> list[Genotype]:
        """Known networks that a search begins with. Operator `seeds`."""

    def known(self) -> dict[str, Genotype]:
        """Known networks that a search has to beat, by name. Operator `seeds`."""

    def mutate(self, genotype: Genotype, rng: np.random.Generator) -> tuple[Genotype, list[dict[str, Any]]]:
        """A changed copy, and a record of every change. Operator `mutate`."""

    def crossover(
        self, first: Genotype, second: Genotype, rng: np.random.Generator
    ) -> tuple[Genotype, list[dict[str, Any]]]:
        """The first with a part of the second, and a record of that. Operator `crossover`."""


class Inheriting(Protocol):
    """A space in which a network can begin with weights of another."""

    def inherit(
        self, parent: Mapping[str, Tensor], child: nn.Module, records: Sequence[Mapping[str, Any]]
    ) -> list[str]:
        """Give a built network what fits of the `state_dict` of its parent; `records` are `Proposal.changes`.

        Returns the names of the weights that did not come from the parent. Operator `inherit`.
        """
