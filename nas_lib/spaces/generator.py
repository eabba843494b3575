"""Hierarchical random-graph generators (NAGO, Ru et al. 2020; RandWire, Xie et al. 2019).

A genotype is the hyper-parameters of a random-graph generator and the number of one draw from it. The
architecture is a graph of graphs: every node of the top level holds a graph of the next level, and the
nodes of the last level are operations. Any number of levels is allowed, each Watts-Strogatz (WS),
Erdos-Renyi (ER) or Barabasi-Albert (BA): one level is RandWire, WS-ER-WS is NAGO.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, StrictInt, field_validator, model_validator

from nas_lib.records import Genotype
from nas_lib.settings import Settings
from nas_lib.spaces import architecture

if TYPE_CHECKING:
    import networkx
    from torch import nn

    from nas_lib.tasks.data import Shape


def _range(kind: type[int] | type[float], lowest: float, highest: float) -> BeforeValidator:
    """Accepts a number, which is the range from itself to itself, or [low, high]."""
    allowed = f"a {'whole ' if kind is int else ''}number from {lowest} to {highest}, or [low, high]"

    def check(value: object) -> object:
        ends: list[Any] = list(value) if isinstance(value, list | tuple) else [value, value]
        numbers = (int,) if kind is int else (int, float)
        if not (
            len(ends) == 2
            and all(isinstance(end, numbers) and not isinstance(end, bool) for end in ends)
            and lowest <= ends[0] <= ends[1] <= highest
        ):
            raise ValueError(f"found {value!r}, allowed is {allowed}")
        return tuple(kind(end) for end in ends)

    return BeforeValidator(check)


Nodes = Annotated[tuple[int, int], _range(int, 1, 1000)]
Neighbours = Annotated[tuple[int, int], _range(int, 2, 1000)]
Probability = Annotated[tuple[float, float], _range(float, 0, 1)]
Weight = Annotated[float, Field(ge=0)]


class WattsStrogatz(Settings):
    """A ring in which every node is joined to its `k` nearest, each edge then rewired with probability `p`."""

    model: Literal["WS"]
    nodes: Nodes
    """Nodes of one graph: a number or [low, high]."""
    k: Neighbours
    """Neighbours on the ring: a number or [low, high]. Odd values act as the even one below."""
    p: Probability
    """Rewiring probability: a number or [low, high]."""


class ErdosRenyi(Settings):
    """Every pair of nodes is joined with probability `p`."""

    model: Literal["ER"]
    nodes: Nodes
    """Nodes of one graph: a number or [low, high]."""
    p: Probability
    """Edge probability: a number or [low, high]."""


class BarabasiAlbert(Settings):
    """Nodes are added one by one, each joined to `m` earlier ones, preferably to those with many edges."""

    model: Literal["BA"]
    nodes: Nodes
    """Nodes of one graph: a number or [low, high]."""
    m: Nodes
    """Edges a new node brings: a number or [low, high]."""


Level = Annotated[WattsStrogatz | ErdosRenyi | BarabasiAlbert, Field(discriminator="model")]


log = logging.getLogger(__name__)
SAMPLE_TRIES = 1000
Values = dict[str, NDArray[Any]]
"""Hyper-parameters of one level for n generators: name -> array (n,)."""


class Dimension(NamedTuple):
    """One searched number: level index, hyper-parameter, and its possible values or range."""

    level: int
    parameter: str
    low: float
    high: float
    whole: bool
    step: int = 1

    @property
    def name(self) -> str:
        """For people, for example `level 1 nodes`."""
        return f"level {self.level + 1} {self.parameter}"

    @property
    def values(self) -> int:
        """How many values a whole-numbered dimension has."""
        return int(self.high - self.low) // self.step + 1


NAGO_LEVELS: tuple[Level, ...] = (
    WattsStrogatz(model="WS", nodes=(3, 10), k=(2, 5), p=(0.1, 0.9)),
    ErdosRenyi(model="ER", nodes=(1, 10), p=(0.1, 0.9)),
    WattsStrogatz(model="WS", nodes=(3, 10), k=(2, 5), p=(0.1, 0.9)),
)
"""Ranges of the paper (reference: NAGO, section 2.1)."""


class GeneratorSpace(Settings):
    """Networks drawn from hierarchical random-graph generators."""

    name: Literal["generator"] = "generator"
    levels: tuple[Level, ...] = Field(default=NAGO_LEVELS, min_length=1)
    """Random-graph models, top level first."""
    merge: Mapping[architecture.Merge, Weight] = Field(default={"sum": 1.0}, min_length=1)
    """How often each way to merge several inputs is drawn, per node: sum, concat, attention."""
    operations: Mapping[architecture.Operation, Weight] = Field(default={"conv3x3": 1.0}, min_length=1)
    """How often each operation is drawn, per node of the last level."""
    stage_ratios: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(1.0, 1.0, 1.0), min_length=1)
    """Shares of the top-level nodes in each stage; every stage halves the resolution."""
    channel_ratios: tuple[Annotated[StrictInt, Field(ge=1)], ...] = Field(default=(1, 2, 4), min_length=1)
    """Width of each stage as a multiple of the first one's."""
    parameters: StrictInt = Field(default=4_000_000, ge=1)
    """Parameter budget: networks are made as wide as it allows."""
    count: Literal["network", "released"] = "network"
    """What the budget counts: the whole network, or operation weights only as in the released code."""
    head_channels: StrictInt = Field(default=1280, ge=1)
    """Channels of the last 1x1 convolution. Take fewer at small budgets, where 1280 would be most of the network."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout before the classifier."""
    max_operations: StrictInt | None = Field(default=None, ge=1)
    """Genotypes with more operations (product of the nodes of all levels) are not sampled. Default: no limit."""

    @field_validator("merge", "operations")
    @classmethod
    def _some_weight(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        if sum(value.values()) <= 0:
            raise ValueError(f"found {dict(value)}, allowed is at least one weight above 0")
        return value

    @model_validator(mode="after")
    def _has_convolutions(self) -> GeneratorSpace:
        if not any(weight > 0 for name, weight in self.operations.items() if name in architecture.KERNELS):
            allowed = ", ".join(architecture.KERNELS)
            raise ValueError(f"operations: found {dict(self.operations)}, allowed is at least one of {allowed}")
        return self

    @model_validator(mode="after")
    def _stages_are_filled(self) -> GeneratorSpace:
        if len(self.stage_ratios) != len(self.channel_ratios):
            raise ValueError(
                f"stage_ratios: found {len(self.stage_ratios)} values, allowed is one per channel ratio, "
                f"which are {len(self.channel_ratios)}"
            )
        low, high = self.levels[0].nodes
        last = len(self.stage_ratios) - 1
        for nodes in range(low, high + 1):
            if set(architecture.stages(nodes, self.stage_ratios)) != set(range(last + 1)):
                raise ValueError(
                    f"stage_ratios: found {list(self.stage_ratios)}, which leaves a stage without nodes when the top "
                    f"level has {nodes}; allowed are ratios that fill all {last + 1} stages for every number of nodes"
                )
        return self

    @model_validator(mode="after")
    def _limit_is_reachable(self) -> GeneratorSpace:
        fewest = int(np.prod([level.nodes[0] for level in self.levels]))
        if self.max_operations is not None and fewest > self.max_operations:
            raise ValueError(
                f"max_operations: found {self.max_operations}, allowed is at least {fewest}, "
                "the product of the fewest nodes of all levels"
            )
        return self

    def operators(self) -> frozenset[str]:
        """Names of the operators it offers; `encode` needs something to search."""
        offered = {"sample", "hash", "build", "graph"}
        return frozenset(offered | {"encode"} if self._dimensions() else offered)

    def sample(self, rng: np.random.Generator) -> Genotype:
        """Uniform hyper-parameters within the ranges, and a draw.

        Those above `max_operations` are redrawn; where they are nearly all, the last one is shrunk as in `decode`.
        """
        for _ in range(SAMPLE_TRIES):
            levels = self._decode(rng.random((1, len(self._dimensions()))))
            if not self._excess(levels).any():
                break
        return self._genotype(self._shrunk(levels), rng)

    def dimensions(self) -> list[str]:
        """Names of the searched numbers, for example `level 1 nodes`."""
        return [dimension.name for dimension in self._dimensions()]

    def encode(self, genotype: Genotype) -> NDArray[Any]:
        """Searched hyper-parameters scaled to [0, 1], shape (d,); the draw is not a coordinate."""
        levels = [
            {key: np.array([value]) for key, value in level.items() if key != "model"} for level in genotype["levels"]
        ]
        point: NDArray[Any] = self._encode(levels)[0]
        return point

    def decode(self, point: NDArray[Any], rng: np.random.Generator) -> Genotype:
        """The generator at a point of [0, 1]^d, with a fresh draw.

        Where that generator is larger than `max_operations` allows, nodes are taken from its largest levels.
        """
        return self._genotype(self._shrunk(self._decode(np.atleast_2d(point))), rng)

    def canonical(self, points: NDArray[Any]) -> NDArray[Any]:
        """Points (n, d) snapped to the values they decode to, numbers without effect set to their middle.

        Without effect are: `p` of a complete WS graph or of a one-node ER graph, `k` beyond what the nodes allow.
        """
        levels = [_effective(level) for level in self._shrunk(self._decode(np.atleast_2d(points)))]
        encoded = self._encode(levels)
        for index, dimension in enumerate(self._dimensions()):
            if dimension.parameter == "p":
                encoded[_p_is_inert(levels[dimension.level]), index] = 0.5
        return encoded

    def values(self, dimension: int, coordinates: NDArray[Any]) -> NDArray[Any]:
        """The hyper-parameter that coordinates (n,) of one dimension stand for, shape (n,)."""
        points = np.full((len(coordinates), len(self._dimensions())), 0.5)
        points[:, dimension] = coordinates
        found = self._dimensions()[dimension]
        return self._decode(points)[found.level][found.parameter]

    def hash(self, genotype: Genotype) -> str:
        """Weisfeiler-Lehman hash of the flat graph (networkx): equal for isomorphic architectures."""
        return architecture.graph_hash(self.graph(genotype))

    def same(self, first: Genotype, second: Genotype) -> bool:
        """Whether the flat graphs of two genotypes are isomorphic."""
        return architecture.isomorphic(self.graph(first), self.graph(second))

    def build(self, genotype: Genotype, shape: Shape) -> nn.Module:
        """The network of a genotype, as wide as the parameter budget allows.

        Raises:
            TooLargeError: the budget is below that of the narrowest network.
        """
        from nas_lib.spaces.network import GraphNetwork

        joined = sum(part.joined for part in architecture.graphs(draw_of(genotype)))
        if joined:
            log.info("%d of its random graphs were not connected and had to be joined", joined)
        return GraphNetwork(self.plan(genotype, shape))

    def plan(self, genotype: Genotype, shape: Shape) -> architecture.Plan:
        """The layers of the network of a genotype, with their widths, without torch."""
        return architecture.widest(
            draw_of(genotype),
            shape,
            channel_ratios=tuple(genotype["channel_ratios"]),
            head_channels=self.head_channels,
            dropout=self.dropout,
            budget=self.parameters,
            count=self.count,
        )

    def describe(self, genotype: Genotype) -> str:
        """For example `WS(8, 4, 0.60) > ER(1, 0.70) > WS(5, 4, 0.20), draw 17`."""
        return " > ".join(_level_text(level) for level in genotype["levels"]) + f", draw {genotype['draw']}"

    def graph(self, genotype: Genotype) -> networkx.DiGraph[int]:
        """The flat graph of a genotype, see `architecture.flat_graph`."""
        return architecture.flat_graph(draw_of(genotype))

    def _dimensions(self) -> list[Dimension]:
        found = []
        for index, level in enumerate(self.levels):
            for parameter in ("nodes", "k", "m", "p"):
                if not hasattr(level, parameter):
                    continue
                low, high = getattr(level, parameter)
                step = 2 if parameter == "k" else 1
                if parameter == "k":
                    low, high = low // 2 * 2, high // 2 * 2
                if low < high:
                    found.append(Dimension(index, parameter, low, high, parameter != "p", step))
        return found

    def _decode(self, points: NDArray[Any]) -> list[Values]:
        """Hyper-parameters of each level at points (n, d), as arrays (n,)."""
        count = len(points)
        levels: list[Values] = []
        for level in self.levels:
            fixed = level.model_dump(exclude={"model"})
            levels.append({parameter: np.full(count, low) for parameter, (low, _) in fixed.items()})
        for dimension, coordinates in zip(self._dimensions(), np.clip(points, 0, 1).T, strict=True):
            if dimension.whole:
                steps = np.minimum((coordinates * dimension.values).astype(int), dimension.values - 1)
                values = int(dimension.low) + dimension.step * steps
            else:
                values = np.round(dimension.low + coordinates * (dimension.high - dimension.low), 6)
            levels[dimension.level][dimension.parameter] = values
        return levels

    def _encode(self, levels: Sequence[Values]) -> NDArray[Any]:
        """The inverse of `_decode`, whole numbers in the middle of their interval: shape (n, d)."""
        columns = []
        for dimension in self._dimensions():
            values = levels[dimension.level][dimension.parameter]
            if dimension.whole:
                columns.append(((values - dimension.low) / dimension.step + 0.5) / dimension.values)
            else:
                columns.append((values - dimension.low) / (dimension.high - dimension.low))
        points: NDArray[Any] = np.array(columns, dtype=float).T
        return points.clip(0, 1)

    def _excess(self, levels: Sequence[Values]) -> NDArray[Any]:
        """Which points have more operations than allowed, shape (n,)."""
        operations = np.prod([level["nodes"] for level in levels], axis=0)
        return np.asarray(operations > (self.max_operations or np.inf))

    def _shrunk(self, levels: list[Values]) -> list[Values]:
        """The levels with nodes taken away, one by one where most can go, until the operations are allowed."""
        fewest = np.array([level.nodes[0] for level in self.levels])[:, None]
        while (excess := self._excess(levels)).any():
            nodes = np.array([level["nodes"] for level in levels])
            largest = np.argmax(np.where(nodes > fewest, nodes, 0), axis=0)
            nodes[largest[excess], np.flatnonzero(excess)] -= 1
            levels = [{**level, "nodes": row} for level, row in zip(levels, nodes, strict=True)]
        return levels

    def _genotype(self, levels: Sequence[Values], rng: np.random.Generator) -> Genotype:
        return {
            "levels": [
                {"model": level.model} | {name: value[0].item() for name, value in _effective(values).items()}
                for level, values in zip(self.levels, levels, strict=True)
            ],
            "merge": dict(self.merge),
            "operations": dict(self.operations),
            "stage_ratios": list(self.stage_ratios),
            "channel_ratios": list(self.channel_ratios),
            "draw": int(rng.integers(2**31)),
        }


def _effective(level: Values) -> Values:
    """The hyper-parameters of a level as they act: `k` even and within the nodes, `m` below them."""
    level = dict(level)
    if "k" in level:
        level["k"] = np.maximum(2, np.minimum(level["k"], level["nodes"] - 1) // 2 * 2)
    if "m" in level:
        level["m"] = np.maximum(1, np.minimum(level["m"], level["nodes"] - 1))
    return level


def _p_is_inert(level: Values) -> NDArray[Any]:
    """Where `p` has no effect: one node, or a ring that is complete already."""
    inert: NDArray[Any] = level["nodes"] == 1
    if "k" in level:
        inert = inert | (level["k"] >= level["nodes"] - 1)
    return inert


def _level_text(level: Mapping[str, Any]) -> str:
    values = [value for key, value in level.items() if key != "model"]
    numbers = [f"{value:.2f}" if isinstance(value, float) else str(value) for value in values]
    return f"{level['model']}({', '.join(numbers)})"


def draw_of(genotype: Genotype) -> architecture.Graph:
    """The graph of graphs a genotype stands for; only the genotype decides it."""
    return _drawn(json.dumps(genotype, sort_keys=True))


@lru_cache(maxsize=8)
def _drawn(genotype: str) -> architecture.Graph:
    """Kept for the last few genotypes, because hash, plan and drawing ask in turn."""
    return architecture.draw(json.loads(genotype))
