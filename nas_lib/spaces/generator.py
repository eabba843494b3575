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
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

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


DIGITS = 9
"""Decimals of weights, ratios and the ends of ranges."""


def _range(kind: type[int] | type[float], lowest: float, highest: float) -> BeforeValidator:
    """Accepts a number, which is the range from itself to itself, or [low, high]."""
    allowed = f"a {'whole ' if kind is int else ''}number from {lowest} to {highest}, or [low, high]"
    pair: Any = tuple[int, int] if kind is int else tuple[float, float]

    def check(value: object) -> object:
        ends: list[Any] = list(value) if isinstance(value, list | tuple) else [value, value]
        numbers = (int,) if kind is int else (int, float)
        if not (
            len(ends) == 2
            and all(isinstance(end, numbers) and not isinstance(end, bool) for end in ends)
            and lowest <= ends[0] <= ends[1] <= highest
        ):
            raise ValueError(f"found {value!r}, allowed is {allowed}")
        low, high = kind(ends[0]), kind(ends[1])
        return (low, high) if low == high else (round(low, DIGITS), round(high, DIGITS))

    return BeforeValidator(check, json_schema_input_type=kind | pair)


Nodes = Annotated[tuple[int, int], _range(int, 1, 1000)]
Neighbours = Annotated[tuple[int, int], _range(int, 2, 1000)]
Probability = Annotated[tuple[float, float], _range(float, 0, 1)]
Weight = Annotated[tuple[float, float], _range(float, 0, 1000)]
Ratio = Annotated[tuple[float, float], _range(float, 0.001, 1000)]


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
Ranges = Mapping[str, tuple[float, float]]
"""Hyper-parameters of one part of a generator: name -> lowest and highest value."""
Values = dict[str, NDArray[Any]]
"""Hyper-parameters of one part for n generators: name -> array (n,)."""
MIXES = {
    "merge": "merge",
    "operation": "operations",
    "stage ratio": "stage_ratios",
    "channel ratio": "channel_ratios",
}
"""The parts of a generator that come after its levels, weights and ratios: title of their dimensions -> key."""


class Dimension(NamedTuple):
    """One searched number: index and title of its part, hyper-parameter, and its possible values or range."""

    part: int
    title: str
    parameter: str
    low: float
    high: float
    whole: bool
    step: int = 1

    @property
    def name(self) -> str:
        """For people, for example `level 1 nodes` or `operation conv5x5`."""
        return f"{self.title} {self.parameter}"

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

    modality: ClassVar[str] = "images"
    name: Literal["generator"] = "generator"
    levels: tuple[Level, ...] = Field(default=NAGO_LEVELS, min_length=1)
    """Random-graph models, top level first."""
    merge: Mapping[architecture.Merge, Weight] = Field(default={"sum": (1.0, 1.0)}, min_length=1)
    """How often each way to merge several inputs is drawn, per node: sum, concat, attention. Each a number or
    [low, high]; only their proportions count."""
    operations: Mapping[architecture.Operation, Weight] = Field(default={"conv3x3": (1.0, 1.0)}, min_length=1)
    """How often each operation is drawn, per node of the last level. Each a number or [low, high]; only their
    proportions count."""
    stage_ratios: tuple[Ratio, ...] = Field(default=((1.0, 1.0),) * 3, min_length=1)
    """Shares of the top-level nodes in each stage, each a number or [low, high]; every stage halves the resolution.
    A stage that would be left without nodes takes one from the next, or from the one before."""
    channel_ratios: tuple[Ratio, ...] = Field(default=((1.0, 1.0), (2.0, 2.0), (4.0, 4.0)), min_length=1)
    """Widths of the stages in proportion to each other, each a number or [low, high]."""
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
    def _some_weight(cls, value: Mapping[str, tuple[float, float]]) -> Mapping[str, tuple[float, float]]:
        if not any(low > 0 for low, _ in value.values()):
            raise ValueError(f"found {_written(value)}, allowed is at least one weight that is always above 0")
        return value

    @model_validator(mode="after")
    def _has_convolutions(self) -> GeneratorSpace:
        if not any(low > 0 for name, (low, _) in self.operations.items() if name in architecture.KERNELS):
            allowed = ", ".join(architecture.KERNELS)
            raise ValueError(
                f"operations: found {_written(self.operations)}, allowed is at least one of {allowed} with a weight "
                "that is always above 0"
            )
        return self

    @model_validator(mode="after")
    def _stages_are_filled(self) -> GeneratorSpace:
        stages = len(self.stage_ratios)
        if stages != len(self.channel_ratios):
            raise ValueError(
                f"stage_ratios: found {stages} values, allowed is one per channel ratio, "
                f"which are {len(self.channel_ratios)}"
            )
        fewest = self.levels[0].nodes[0]
        if fewest < stages:
            raise ValueError(
                f"stage_ratios: found {stages} values, which leaves a stage without nodes when the top level has "
                f"{fewest}; allowed are at most {fewest}, or a top level of at least {stages} nodes"
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
        offered = {"sample", "redraw", "hash", "build", "graph"}
        return frozenset(offered | {"encode"} if self._dimensions() else offered)

    def sample(self, rng: np.random.Generator) -> Genotype:
        """Uniform hyper-parameters within the ranges, and a draw.

        Those above `max_operations` are redrawn; where they are nearly all, the last one is shrunk as in `decode`.
        """
        for _ in range(SAMPLE_TRIES):
            values = self._decode(rng.random((1, len(self._dimensions()))))
            if not self._excess(values).any():
                break
        return self._genotype(self._acting(values), rng)

    def redraw(self, genotype: Genotype, rng: np.random.Generator) -> Genotype:
        """Another draw of the same generator."""
        return {**genotype, "draw": _fresh_draw(rng)}

    def dimensions(self) -> list[str]:
        """Names of the searched numbers, for example `level 1 nodes`."""
        return [dimension.name for dimension in self._dimensions()]

    def encode(self, genotype: Genotype) -> NDArray[Any]:
        """Searched hyper-parameters scaled to [0, 1], shape (d,); the draw is not a coordinate."""
        parts = [*genotype["levels"], *(_named(genotype[key]) for key in MIXES.values())]
        values = [{key: np.array([value]) for key, value in part.items() if key != "model"} for part in parts]
        point: NDArray[Any] = self._encode(values)[0]
        return point

    def decode(self, point: NDArray[Any], rng: np.random.Generator) -> Genotype:
        """The generator at a point of [0, 1]^d, with a fresh draw.

        Where that generator is larger than `max_operations` allows, nodes are taken from its largest levels. Weights
        and ratios are those that `canonical` describes.
        """
        return self._genotype(self._acting(self._decode(np.atleast_2d(point))), rng)

    def canonical(self, points: NDArray[Any]) -> NDArray[Any]:
        """Points (n, d) that act alike made equal, and snapped to the values they decode to.

        Numbers without effect become their middle: `p` of a complete WS graph or of a one-node ER graph, `k` beyond
        what the nodes allow. Weights and ratios, of which only the proportions count, become as large as their ranges
        allow. Stage ratios become proportional to the nodes they give each stage, where their ranges allow it.
        """
        values = self._acting(self._decode(np.atleast_2d(points)))
        encoded = self._encode(values)
        for index, dimension in enumerate(self._dimensions()):
            if dimension.parameter == "p":
                encoded[_p_is_inert(values[dimension.part]), index] = 0.5
        return encoded

    def values(self, dimension: int, coordinates: NDArray[Any]) -> NDArray[Any]:
        """The hyper-parameter that coordinates (n,) of one dimension stand for, shape (n,)."""
        points = np.full((len(coordinates), len(self._dimensions())), 0.5)
        points[:, dimension] = coordinates
        found = self._dimensions()[dimension]
        return self._decode(points)[found.part][found.parameter]

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
        """For example `WS(8, 4, 0.60) > ER(1, 0.70) > WS(5, 4, 0.20), draw 17`, and the weights and ratios searched."""
        parts = [" > ".join(_level_text(level) for level in genotype["levels"])]
        searched = {dimension.title for dimension in self._dimensions()}
        for title, key in MIXES.items():
            if title in searched:
                parts += [f"{title} {name} {value:.2f}" for name, value in _named(genotype[key]).items()]
        return ", ".join([*parts, f"draw {genotype['draw']}"])

    def graph(self, genotype: Genotype) -> networkx.DiGraph[int]:
        """The flat graph of a genotype, see `architecture.flat_graph`.

        Searched channel ratios are part of the input's label, for graphs that differ in them are not the same.
        """
        flat = architecture.flat_graph(draw_of(genotype))
        if any(dimension.title == "channel ratio" for dimension in self._dimensions()):
            flat.nodes[0]["label"] += f" {genotype['channel_ratios']}"
        return flat

    def _parts(self) -> list[Ranges]:
        """Ranges of all hyper-parameters: of each level, then of the weights and ratios in the order of MIXES."""
        levels = [level.model_dump(exclude={"model"}) for level in self.levels]
        return [*levels, *(_named(getattr(self, key)) for key in MIXES.values())]

    def _dimensions(self) -> list[Dimension]:
        found = []
        titles = [*(f"level {number}" for number in range(1, len(self.levels) + 1)), *MIXES]
        for part, (title, ranges) in enumerate(zip(titles, self._parts(), strict=True)):
            for parameter, (lowest, highest) in ranges.items():
                low, high = lowest, highest
                if parameter == "k":
                    low, high = low // 2 * 2, high // 2 * 2
                if low < high:
                    whole = parameter in {"nodes", "k", "m"}
                    found.append(Dimension(part, title, parameter, low, high, whole, 2 if parameter == "k" else 1))
        return found

    def _decode(self, points: NDArray[Any]) -> list[Values]:
        """Hyper-parameters of each part at points (n, d), as arrays (n,)."""
        values = [{name: np.full(len(points), low) for name, (low, _) in part.items()} for part in self._parts()]
        for dimension, coordinates in zip(self._dimensions(), np.clip(points, 0, 1).T, strict=True):
            found: NDArray[Any]
            if dimension.whole:
                steps = np.minimum((coordinates * dimension.values).astype(int), dimension.values - 1)
                found = int(dimension.low) + dimension.step * steps
            else:
                found = dimension.low + coordinates * (dimension.high - dimension.low)
                found = found.round(6) if dimension.part < len(self.levels) else found
            values[dimension.part][dimension.parameter] = found
        return values

    def _encode(self, values: Sequence[Values]) -> NDArray[Any]:
        """The inverse of `_decode`, whole numbers in the middle of their interval: shape (n, d)."""
        columns = []
        for dimension in self._dimensions():
            found = values[dimension.part][dimension.parameter]
            if dimension.whole:
                columns.append(((found - dimension.low) / dimension.step + 0.5) / dimension.values)
            else:
                columns.append((found - dimension.low) / (dimension.high - dimension.low))
        points: NDArray[Any] = np.array(columns, dtype=float).T
        return points.clip(0, 1)

    def _excess(self, values: Sequence[Values]) -> NDArray[Any]:
        """Which points have more operations than allowed, shape (n,)."""
        operations = np.prod([level["nodes"] for level in values[: len(self.levels)]], axis=0)
        return np.asarray(operations > (self.max_operations or np.inf))

    def _acting(self, values: Sequence[Values]) -> list[Values]:
        """Hyper-parameters as they act: few enough nodes, `k` and `m` within them, one choice of equal proportions."""
        count = len(self.levels)
        ranges = self._parts()[count:]
        levels = [_effective(level) for level in self._shrunk(list(values[:count]))]
        merge, operations, stages, channels = map(_largest, values[count:], ranges)
        stages = _as_stages(stages, ranges[list(MIXES).index("stage ratio")], levels[0]["nodes"])
        return [*levels, merge, operations, stages, channels]

    def _shrunk(self, levels: list[Values]) -> list[Values]:
        """The levels with nodes taken away, one by one where most can go, until the operations are allowed."""
        fewest = np.array([level.nodes[0] for level in self.levels])[:, None]
        while (excess := self._excess(levels)).any():
            nodes = np.array([level["nodes"] for level in levels])
            largest = np.argmax(np.where(nodes > fewest, nodes, 0), axis=0)
            nodes[largest[excess], np.flatnonzero(excess)] -= 1
            levels = [{**level, "nodes": row} for level, row in zip(levels, nodes, strict=True)]
        return levels

    def _genotype(self, values: Sequence[Values], rng: np.random.Generator) -> Genotype:
        parts = [{name: value[0].item() for name, value in part.items()} for part in values]
        merge, operations, stage_ratios, channel_ratios = parts[len(self.levels) :]
        return {
            "levels": [{"model": level.model} | part for level, part in zip(self.levels, parts, strict=False)],
            "merge": merge,
            "operations": operations,
            "stage_ratios": list(stage_ratios.values()),
            "channel_ratios": list(channel_ratios.values()),
            "draw": _fresh_draw(rng),
        }


def _fresh_draw(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _named(mix: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    """Weights by name; ratios by the number of their stage, from 1."""
    return dict(mix) if isinstance(mix, Mapping) else {str(stage): ratio for stage, ratio in enumerate(mix, 1)}


def _written(ranges: Mapping[Any, tuple[float, float]]) -> dict[str, object]:
    """Ranges as the user writes them."""
    return {name: low if low == high else [low, high] for name, (low, high) in ranges.items()}


def _largest(values: Values, ranges: Ranges) -> Values:
    """Weights or ratios scaled up together until one of them is at the end of its range.

    Only their proportions count, so this changes nothing and makes equal what acts alike. A fixed one forbids scaling.
    """
    if all(low == high for low, high in ranges.values()):
        return values
    with np.errstate(divide="ignore"):
        room = np.min([high / values[name] for name, (_, high) in ranges.items() if high > 0], axis=0)
    return {
        name: values[name] if low == high else np.minimum(np.round(values[name] * room, DIGITS), high)
        for name, (low, high) in ranges.items()
    }


def _as_stages(values: Values, ranges: Ranges, nodes: NDArray[Any]) -> Values:
    """Stage ratios (n,) in proportion to the nodes that each stage gets of the top level's `nodes` (n,), and as large
    as their ranges allow; unchanged where the ranges do not contain such ratios."""
    if all(low == high for low, high in ranges.values()):
        return values
    low, high = np.array(list(ranges.values())).T
    ratios = np.array(list(values.values())).T
    counts = np.diff(architecture.stage_ends(nodes, ratios), prepend=0)
    scale = (high / counts).min(axis=1, keepdims=True)
    possible = (low / counts).max(axis=1, keepdims=True) <= scale
    ratios = np.where(possible, np.clip(counts * scale, low, high), ratios)
    return dict(zip(values, ratios.T, strict=True))


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
