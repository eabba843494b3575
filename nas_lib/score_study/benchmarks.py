"""Benchmarks of a score study: networks with measured results, and what they are scored on.

To add one: a class like these, and its name in `BenchmarkSettings`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StrictInt, model_validator

from nas_lib.configuration import SLUG
from nas_lib.experiment import misfit
from nas_lib.problems.flexibert import SPACE, published
from nas_lib.problems.problem import ProblemError
from nas_lib.problems.table import column_of, numbers_of, read_frame, titled
from nas_lib.randomness import generator
from nas_lib.settings import Settings, shortened
from nas_lib.spaces import Space, SpaceSettings
from nas_lib.tasks import TaskSettings
from nas_lib.tasks.images import DataFolder

if TYPE_CHECKING:
    from torch import nn

    from nas_lib.scores.batch import Batch

FEWEST = 20
"""Networks of a benchmark at least."""
CLASSES = 2
"""Of the random labels that stand in for a task."""
Better = Literal["lower", "higher"]
Count = Annotated[StrictInt, Field(ge=FEWEST)]
Size = Annotated[StrictInt, Field(ge=2)]


class ChosenOn(Settings):
    """The networks of a benchmark on which combinations of scores were chosen; the others are to confirm them."""

    share: float = Field(ge=0, lt=1)
    """Of the networks; 0: the combinations were chosen elsewhere, and all networks are to confirm them."""
    seed: StrictInt = Field(default=0, ge=0)
    """Draws them."""

    def places(self, count: int) -> NDArray[np.int64]:
        """Places of the chosen ones among so many networks in the benchmark's order, (k,).

        Exactly `numpy.random.default_rng(seed).permutation(count)[: int(share * count)]`, not a generator of the study:
        whoever explores scores by hand can draw the same ones in one line.
        """
        return np.random.default_rng(self.seed).permutation(count)[: int(self.share * count)]


@dataclass(frozen=True)
class Network:
    """One network of a benchmark."""

    name: str
    """Short, for people."""
    genotype: Any
    measured: float
    """What training made of it; the mean where it was trained several times."""


@dataclass(frozen=True)
class Benchmark:
    """Networks, none of them twice, and how they are built and scored."""

    networks: Sequence[Network]
    quantity: str
    """What was measured, with its unit."""
    better: Better
    build: Callable[[Network], nn.Module]
    """Initialised from torch's global random state. May raise anything."""
    batch: Callable[[np.random.Generator], Batch]
    """What all networks of a seed are scored on."""
    notes: Sequence[str] = ()
    """What was merged or left out, as sentences."""
    alike: Callable[[Network], str] | None = None
    """What equal networks share. Default: no two are equal."""

    @property
    def digest(self) -> str:
        """Of the networks and their results."""
        content = [(network.name, network.genotype, network.measured) for network in self.networks]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()

    def only(self, count: int | None) -> Benchmark:
        """The same with so many of the networks, in their order; always the same ones."""
        if count is None or count >= len(self.networks):
            return self
        chosen = generator(0, "score study", "networks").choice(len(self.networks), count, replace=False)
        return replace(self, networks=[self.networks[place] for place in sorted(chosen.tolist())])

    def parted(self, chosen_on: ChosenOn) -> tuple[frozenset[str], frozenset[str]]:
        """Names of the networks that were chosen on, and of the others that are equal to none of these."""
        chosen = {self.networks[place].name for place in chosen_on.places(len(self.networks))}
        alike = self.alike or (lambda network: network.name)
        seen = {alike(network) for network in self.networks if network.name in chosen}
        return frozenset(chosen), frozenset(one.name for one in self.networks if alike(one) not in seen)


class NASBenchNLP(Settings):
    """Recurrent cells trained as language models on Penn Treebank (Klyuchnikov et al. 2022): all that have a loss.

    Scored smaller than they were trained, on random words, which ranks them alike (Serianni and Kalita's data).
    """

    name: Literal["nas-bench-nlp"] = "nas-bench-nlp"
    title: str = Field(default="nas-bench-nlp", pattern=SLUG)
    """Name in tables and folders."""
    networks: Count | None = None
    """Only so many of them, drawn at random. Default: all."""
    chosen_on: ChosenOn | None = None
    """On which of all of them combinations were chosen: figures of the others stand apart."""
    embedding: Size = 64
    """Size of the embedding, and of the last layer."""
    hidden: Size = 96
    """Size of the other layers."""
    layers: StrictInt = Field(default=3, ge=1)
    batch: Size = 25
    """Sequences."""
    steps: Size = 35
    """Words of each."""
    vocabulary: Size = 1000
    """Different words."""
    folder: DataFolder = None

    def benchmark(self) -> Benchmark:
        """The benchmark. Raises ProblemError: the table is missing or damaged."""
        from nas_lib.problems.recipes import trained_recipes

        recipes = trained_recipes(self.folder)
        networks = [Network(str(one.number), one.recipe, one.loss) for one in recipes if one.runs]

        def build(network: Network) -> nn.Module:
            from nas_lib.spaces.recurrent.language_model import language_model
            from nas_lib.spaces.recurrent.recipes import from_recipe

            cell = from_recipe(network.genotype)
            return language_model(cell, self.vocabulary, self.embedding, self.hidden, self.layers)

        def batch(rng: np.random.Generator) -> Batch:
            from nas_lib.scores.batch import random_tokens

            return random_tokens(self.vocabulary, self.batch, self.steps, rng)

        notes = [
            "Recipes that the benchmark holds several times are one network here, its loss the mean of all their runs.",
            f"{len(recipes) - len(networks):,} recipes have no loss, for all their trainings failed, and are left out.",
            "Losses are test losses of the last epoch, the only ones published.",
        ]

        def alike(network: Network) -> str:
            from nas_lib.spaces.recurrent.cell import cell_hash
            from nas_lib.spaces.recurrent.recipes import from_recipe

            return cell_hash(from_recipe(network.genotype))

        return Benchmark(networks, "PTB test loss (nats per word)", "lower", build, batch, notes, alike)


class FlexiBERT(Settings):
    """500 transformer encoders, pretrained and tested on GLUE (Serianni and Kalita 2023), as they were meant to be.

    Scored on random words; scores that need a loss have random labels of two classes.
    """

    name: Literal["flexibert"] = "flexibert"
    title: str = Field(default="flexibert", pattern=SLUG)
    """Name in tables and folders."""
    networks: Count | None = None
    """Only so many of them, drawn at random. Default: all."""
    chosen_on: ChosenOn | None = None
    """On which of all of them combinations were chosen: figures of the others stand apart."""
    batch: Size = 16
    """Sequences."""
    steps: Size = 32
    """Words of each."""
    vocabulary: Size = 1000
    """Different words."""
    folder: DataFolder = None

    def benchmark(self) -> Benchmark:
        """The benchmark. Raises ProblemError: the table is missing or damaged."""
        found = published(self.folder)
        networks = merged(
            (SPACE.hash(one.genotype), Network(SPACE.describe(one.genotype), one.genotype, one.scores["glue"]))
            for one in found
        )

        def build(network: Network) -> nn.Module:
            from nas_lib.tasks.data import SequenceShape

            return SPACE.build(network.genotype, SequenceShape(self.vocabulary, CLASSES, tokens=True))

        def batch(rng: np.random.Generator) -> Batch:
            return _labelled_words(self.vocabulary, self.batch, self.steps, rng)

        return Benchmark(networks, "GLUE score (%)", "higher", build, batch, [*_merging(found, networks)])


class TableBenchmark(Settings):
    """A CSV or Parquet file of one's own: a network and what was measured of it in each row."""

    name: Literal["table"] = "table"
    path: Path
    """The file; relative to where the command runs."""
    title: str = Field(default="", pattern=SLUG)
    """Name in tables and folders. Default: the file's name."""
    genotype: str = "genotype"
    """The column of genotypes of the space, as JSON."""
    measured: str
    """The column of results."""
    better: Better
    """Which results are the better ones."""
    space: SpaceSettings
    """What the genotypes are of."""
    task: TaskSettings | None = None
    """Networks are scored on its training data. Default: on random words, as those of the published benchmarks are;
    only networks of sequences can be."""
    networks: Count | None = None
    """Only so many of them, drawn at random. Default: all."""
    chosen_on: ChosenOn | None = None
    """On which of all of them combinations were chosen: figures of the others stand apart."""
    batch: Size = 64
    """Samples."""
    steps: Size = 35
    """Words of each, of a running text or random."""
    vocabulary: Size = 1000
    """Different words, of random ones."""

    @model_validator(mode="before")
    @classmethod
    def _titled(cls, content: Any) -> Any:
        return titled(content)

    @model_validator(mode="after")
    def _space_and_task_fit(self) -> TableBenchmark:
        if self.task is None and self.space.modality != "sequences":
            raise ValueError(f"networks of the space {self.space.name!r} read no words, allowed is one with a `task`")
        if self.task is not None and (mistake := misfit(self.space, self.task)):
            raise ValueError(mistake)
        return self

    def refuse_missing_table(self) -> None:
        """Raises ProblemError: the table is missing."""
        if not self.path.exists():
            raise ProblemError(f"{self.path}: is missing")

    def benchmark(self) -> Benchmark:
        """The benchmark. Raises ProblemError: the table is missing, or has no such columns or genotypes."""
        self.refuse_missing_table()
        path = self.path
        frame = read_frame(path)
        measured = numbers_of(frame, column_of(frame, self.measured, path), path)
        texts = frame[column_of(frame, self.genotype, path)].tolist()
        known = [
            (row, text, float(value))
            for row, (text, value) in enumerate(zip(texts, measured, strict=True), 1)
            if math.isfinite(value)
        ]
        found = [self._network(path, *each) for each in known]
        networks = merged(found)
        if len(networks) < FEWEST:
            raise ProblemError(
                f"{path}: has {len(networks)} different networks with a result, allowed are {FEWEST} or more"
            )
        without = len(texts) - len(known)

        whole = "whole" in self.space.operators()

        @cache
        def data() -> Any:
            return self.task and self.task.for_search()

        def build(network: Network) -> nn.Module:
            from nas_lib.tasks.data import SequenceShape

            words = SequenceShape(self.vocabulary, CLASSES if whole else self.vocabulary, tokens=True)
            return cast(Space, self.space).build(network.genotype, data().shape if self.task else words)

        def batch(rng: np.random.Generator) -> Batch:
            from nas_lib.scores.batch import batch_of, random_tokens

            if self.task:
                return batch_of(data(), self.batch, rng, self.steps)
            return (_labelled_words if whole else random_tokens)(self.vocabulary, self.batch, self.steps, rng)

        notes = [*_merging(found, networks)]
        if without:
            notes.append(f"{without:,} rows have no finite result and are left out.")
        return Benchmark(networks, self.measured, self.better, build, batch, notes)

    def _network(self, path: Path, row: int, text: object, value: float) -> tuple[str, Network]:
        try:
            genotype = self._genotype(text)
            return self.space.hash(genotype), Network(f"row {row}", genotype, value)
        except Exception as error:  # every space has errors of its own
            why = (str(error).splitlines() or [""])[0]
            example = json.dumps(self.space.sample(generator(0, "score study", "example")))
            found = "nothing" if text is None or str(text) == "nan" else repr(shortened(str(text), 120))
            raise ProblemError(
                f"{path}: row {row}: {self.genotype} cannot be read as a genotype of the space {self.space.name!r} "
                f"({type(error).__name__}: {why}): found {found}, allowed is JSON such as {shortened(example, 120)}"
            ) from None

    def _genotype(self, text: object) -> Any:
        """A genotype as JSON, of recurrent cells also as a recipe of NAS-Bench-NLP. May raise anything."""
        found = json.loads(str(text))
        if self.space.name == "recurrent" and "blocks" not in found:
            from nas_lib.spaces.recurrent.cell import genotype_of
            from nas_lib.spaces.recurrent.recipes import from_recipe, is_recipe

            if is_recipe(found):
                return genotype_of(from_recipe(found))
        return found


BenchmarkSettings = Annotated[NASBenchNLP | FlexiBERT | TableBenchmark, Field(discriminator="name")]
"""What a study can name."""


def _labelled_words(words: int, size: int, steps: int, rng: np.random.Generator) -> Batch:
    """Random words, each sequence with a label that says nothing, as many of each class as can be."""
    import torch

    from nas_lib.scores.batch import random_tokens

    batch = random_tokens(words, size, steps, rng)
    return replace(batch, targets=torch.from_numpy(rng.permutation(np.arange(size) % CLASSES)))


def merged(networks: Iterable[tuple[str, Network]]) -> list[Network]:
    """Networks of the same hash as one, the first, with the mean of their results."""
    groups: dict[str, list[Network]] = {}
    for key, network in networks:
        groups.setdefault(key, []).append(network)
    return [replace(its[0], measured=float(np.mean([each.measured for each in its]))) for its in groups.values()]


def _merging(found: Sequence[object], networks: Sequence[Network]) -> Iterator[str]:
    if repeats := len(found) - len(networks):
        yield f"{repeats} of {len(found):,} repeat an earlier network: each is one here, its result the mean."
