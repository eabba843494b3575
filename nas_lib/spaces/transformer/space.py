"""The space of transformer encoders and what a search can do in it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, StrictInt, field_validator, model_validator

from nas_lib.records import Genotype
from nas_lib.settings import Settings
from nas_lib.spaces.genes import Condition, Gene, GeneSpace, Numbers, Option
from nas_lib.spaces.graphs import chain
from nas_lib.spaces.transformer.encoder import (
    Encoder,
    Layer,
    encoder_of,
    heads_mistake,
    operation_mistake,
)

if TYPE_CHECKING:
    import networkx

    from nas_lib.spaces.transformer.network import TransformerNetwork
    from nas_lib.tasks.data import SequenceShape

Sizes = tuple[StrictInt, ...]
Record = dict[str, Any]


class TransformerSpace(Settings):
    """Transformer encoders, layer by layer, as FlexiBERT has them; the defaults are the space of Serianni and Kalita
    (2023)."""

    name: Literal["transformer"] = "transformer"
    hidden: Sizes = Field(default=(128, 256), min_length=1)
    """Sizes that can be chosen of what goes from layer to layer."""
    layers: Sizes = Field(default=(2, 4), min_length=1)
    """Numbers of layers that can be chosen."""
    operations: tuple[str, ...] = Field(
        default=("SA-SDP", "SA-WMA", "LT-DFT", "LT-DCT", "DSC-5", "DSC-9"), min_length=1
    )
    """What can be chosen for each layer. SA-SDP: self-attention, scaled dot product. SA-WMA: self-attention, weighted
    multiplicative. LT-DFT and LT-DCT: Fourier and cosine transform. DSC-k: half of the heads attend, the other half are
    span-based dynamic convolutions over k tokens, k odd (ConvBERT)."""
    heads: Sizes = Field(default=(2, 4), min_length=1)
    """Numbers of heads that can be chosen for each layer; each divides every hidden size."""
    feed_forward: Sizes = Field(default=(512, 1024), min_length=1)
    """Widths of the feed-forward part that can be chosen for each layer."""
    stacks: Sizes = Field(default=(1, 3), min_length=1)
    """Numbers of layers of the feed-forward part that can be chosen for each layer."""
    embedding: StrictInt = Field(default=128, ge=2)
    """Size of the embedding of a symbol, or of the encoding of a vector; a linear layer follows where it is not the
    hidden size."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout of the embedding, of attention, and before every sum with what a block was given."""

    deviation: float = Field(default=0.02, gt=0)
    """Standard deviation of the weights at the start. Default: that of BERT."""

    modality: ClassVar[str] = "sequences"

    @field_validator("hidden", "layers", "heads", "feed_forward", "stacks")
    @classmethod
    def _at_least_one(cls, value: Sizes) -> Sizes:
        if min(value) < 1 or len(set(value)) < len(value):
            raise ValueError(f"found {list(value)}, allowed are different whole numbers of 1 or more")
        return tuple(sorted(value))

    @field_validator("operations")
    @classmethod
    def _known_operations(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if mistake := next(filter(None, map(operation_mistake, value)), None):
            raise ValueError(mistake)
        if len(set(value)) < len(value):
            raise ValueError(f"found {list(value)}, allowed are different operations")
        return value

    @model_validator(mode="after")
    def _heads_fit(self) -> TransformerSpace:
        found = (
            heads_mistake(hidden, operation, heads)
            for hidden in self.hidden
            for operation in self.operations
            for heads in self.heads
        )
        if mistake := next(filter(None, found), None):
            raise ValueError(f"heads: {mistake}")
        return self

    @cached_property
    def gene_space(self) -> GeneSpace:
        """The same as a space of genes, see `Genetic`."""
        genes = [Gene(name="hidden", options=self.hidden), Gene(name="layers", options=self.layers)]
        for number in range(1, max(self.layers) + 1):
            enough = tuple(count for count in self.layers if count >= number)
            active = None if len(enough) == len(self.layers) else Condition(gene="layers", options=enough)
            options: dict[str, tuple[Option, ...]] = {
                "operation": self.operations,
                "heads": self.heads,
                "feed-forward": self.feed_forward,
                "stacks": self.stacks,
            }
            genes += [Gene(name=f"{name} {number}", options=its, active=active) for name, its in options.items()]
        return GeneSpace(self.name, tuple(genes), graph=chain([len(gene.options) for gene in genes]))

    @property
    def architectures(self) -> int:
        """How many different ones there are."""
        layer = len(self.operations) * len(self.heads) * len(self.feed_forward) * len(self.stacks)
        return len(self.hidden) * sum(int(layer**count) for count in self.layers)

    def operators(self) -> frozenset[str]:
        """See `Space`."""
        offered = {"seeds", "mutate", "crossover", "size", "whole"}
        return self.gene_space.operators() | offered

    # --- as a space of genes -----------------------------------------------------------------------

    def sample(self, rng: np.random.Generator) -> Genotype:
        """See `Space`: every choice uniform, the number of layers before what they are."""
        return self.gene_space.sample(rng)

    def dimensions(self) -> list[str]:
        """See `Space`."""
        return self.gene_space.dimensions()

    def encode(self, genotype: Genotype) -> np.ndarray:
        """See `Space`."""
        return self.gene_space.encode(genotype)

    def decode(self, point: np.ndarray, rng: np.random.Generator) -> Genotype:
        """See `Space`."""
        return self.gene_space.decode(point, rng)

    def canonical(self, points: np.ndarray) -> np.ndarray:
        """See `Space`."""
        return self.gene_space.canonical(points)

    def values(self, dimension: int, coordinates: np.ndarray) -> np.ndarray:
        """See `Space`."""
        return self.gene_space.values(dimension, coordinates)

    def hash(self, genotype: Genotype) -> str:
        """See `Space`: equal for genotypes that differ only in layers they do not have."""
        return self.gene_space.hash(genotype)

    def same(self, first: Genotype, second: Genotype) -> bool:
        """See `Space`."""
        return self.gene_space.same(first, second)

    # --- changes -----------------------------------------------------------------------------------

    def seeds(self) -> list[Genotype]:
        """See `known`. Operator `seeds`."""
        return list(self.known().values())

    def known(self) -> dict[str, Genotype]:
        """For each operation, by name, the largest encoder of it alone: plain, like FNet, like ConvBERT.

        Operator `seeds`.
        """
        largest = (max(self.heads), max(self.feed_forward), max(self.stacks))
        return {
            operation: self.genotype(Encoder(max(self.hidden), (Layer(operation, *largest),) * max(self.layers)))
            for operation in self.operations
        }

    def genotype(self, encoder: Encoder) -> Genotype:
        """The genotype of an encoder of this space; genes of layers it does not have are the first option.

        Raises:
            KeyError: an option that the space does not have.
        """
        genes: list[Option] = [encoder.hidden, len(encoder.layers)]
        for layer in encoder.layers:
            genes += [layer.operation, layer.heads, layer.feed_forward, layer.stacks]
        genes += [gene.options[0] for gene in self.gene_space.genes[len(genes) :]]
        return self._plain(self.gene_space.numbers([{"genes": genes}]))

    def mutate(self, genotype: Genotype, rng: np.random.Generator) -> tuple[Genotype, list[Record]]:
        """One gene that has an effect set to another option, both drawn uniformly; layers that this adds are drawn too.

        Operator `mutate`.
        """
        space, before = self.gene_space, self.gene_space.numbers([genotype])
        changeable = np.flatnonzero(space.active(before)[0] & (space.counts > 1))
        if not len(changeable):
            return genotype, []
        gene, after = int(rng.choice(changeable)), before.copy()
        after[0, gene] = (before[0, gene] + rng.integers(1, space.counts[gene])) % space.counts[gene]
        after = np.where(space.active(before), after, rng.integers(space.counts, size=after.shape))
        options = space.genes[gene].options
        text = f"{space.genes[gene].name} from {options[before[0, gene]]} to {options[after[0, gene]]}"
        return self._plain(after), [{"edit": "change_gene", "text": text}]

    def crossover(self, first: Genotype, second: Genotype, rng: np.random.Generator) -> tuple[Genotype, list[Record]]:
        """The first with each gene that has an effect in both as in the second with probability 1/2. Operator
        `crossover`."""
        space, numbers = self.gene_space, self.gene_space.numbers([first, second])
        taken = space.active(numbers).all(axis=0) & (rng.random(len(space.genes)) < 0.5)
        names = [gene.name for gene, its in zip(space.genes, taken & (numbers[0] != numbers[1]), strict=True) if its]
        record = {"edit": "crossover", "text": ", ".join(names), "changed": bool(names)}
        return self._plain(np.where(taken, numbers[1], numbers[0])[None]), [record]

    def _plain(self, numbers: Numbers) -> Genotype:
        return self.gene_space.genotype(self.gene_space.plain(numbers)[0])

    # --- networks ----------------------------------------------------------------------------------

    def size(self, genotype: Genotype) -> dict[str, float]:
        """Blocks: an operation each layer, and its feed-forward stacks. Operator `size`."""
        return {"blocks": sum(1 + layer.stacks for layer in encoder_of(genotype).layers)}

    def build(self, genotype: Genotype, shape: SequenceShape) -> TransformerNetwork:
        """See `Space`; it reads sequences whole. Raises EncoderError: an option that no encoder has."""
        from nas_lib.spaces.transformer.network import TransformerNetwork

        return TransformerNetwork(encoder_of(genotype), shape, self.embedding, self.dropout, self.deviation)

    def describe(self, genotype: Genotype) -> str:
        """For example `256 wide, 2 layers: SA-SDP x 4 + 1 x 512, LT-DCT x 2 + 3 x 1024`."""
        encoder = encoder_of(genotype)
        words = ", ".join(
            f"{layer.operation} x {layer.heads} + {layer.stacks} x {layer.feed_forward}" for layer in encoder.layers
        )
        return f"{encoder.hidden} wide, {len(encoder.layers)} layers: {words}"

    def graph(self, genotype: Genotype) -> networkx.DiGraph[int]:
        """See `Space`: the encoder from left to right, see `diagram`."""
        from nas_lib.spaces.transformer.diagram import diagram

        return diagram(encoder_of(genotype))
