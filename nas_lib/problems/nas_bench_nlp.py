"""The recurrent cells of NAS-Bench-NLP as a problem: a list of trained recipes, ordered by what they are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from nas_lib.problems.known import MILLION, UNITS
from nas_lib.problems.problem import Problem, ProblemError, Values
from nas_lib.problems.recipes import TrainedRecipe, recipes_file, trained_recipes
from nas_lib.problems.table import read_frame, tabular
from nas_lib.settings import Settings
from nas_lib.spaces.genes import Gene, Numbers
from nas_lib.spaces.graphs import Drawn, Graphs, Present
from nas_lib.spaces.recurrent.cell import INPUT, cell_hash, labelled, order
from nas_lib.spaces.recurrent.recipes import OPERATIONS, Recipe, from_recipe
from nas_lib.tasks.images import DataFolder

STUDY = "snakemake --configfile config/proxies.yaml"
"""The command that makes tables of scores."""


class NASBenchNLP(Settings):
    """NAS-Bench-NLP: recurrent cells trained as language models on the Penn Treebank (Klyuchnikov et al. 2022).

    All 3,371 recipes with a finite loss; those equal but for the names of their nodes are one architecture, of which
    there are 2,833. Loss is that of the test words (nats per word), the only one published, the mean over runs, then
    over equal recipes; parameters of the language model in millions are exact.
    """

    name: Literal["nas-bench-nlp"] = "nas-bench-nlp"
    cost: Literal["parameters"] | None = None
    """The second objective. Default: the loss alone."""
    scores: Path | None = None
    """Table of scores of all recipes that a score study wrote, `RESULTS/STUDY/nas-bench-nlp/scores.parquet`, for
    strategies that filter by them; relative to where the command runs. Default: nothing can be scored."""
    folder: DataFolder = None

    @property
    def title(self) -> str:
        """Name in tables and folders."""
        return f"{self.name}-{self.cost}" if self.cost else self.name

    def file(self) -> Path:
        """The table of recipes. Raises ProblemError: it, or that of scores, is missing."""
        if self.scores is not None and not self.scores.exists():
            raise ProblemError(f"{self.scores}: is missing; {STUDY!r} makes a table of scores")
        return recipes_file(self.folder)

    def problem(self) -> Problem:
        """The problem. Raises ProblemError."""
        self.file()
        recipes = [one for one in trained_recipes(self.folder) if one.runs]
        if not recipes:
            raise ProblemError(f"{recipes_file(self.folder)}: no recipe has a loss")
        genes, rows = _space([one.recipe for one in recipes])
        columns = {"loss": [one.loss for one in recipes]}
        if self.cost:
            columns["parameters"] = [one.parameters / MILLION for one in recipes]
        values = np.array([*columns.values()], dtype=float).T
        references = [float(np.percentile(values[:, 0], 75)), float(values[:, -1].max() * 1.001)]
        return tabular(
            self.title,
            genes,
            rows,
            values,
            [*columns],
            references[: len(columns)],
            [self.cost] if self.cost else [],
            UNITS | {"loss": "nats per word"},
            _graphs([one.recipe for one in recipes], rows),
            {} if self.scores is None else _scores(self.scores, recipes),
        )


def described(recipe: Recipe) -> dict[str, int]:
    """What a recipe is made of, in numbers that alike recipes have alike.

    Nodes of every operation; states; nodes on the longest path within a step; nodes that read x, and that read a state;
    and how many states every operation gives (`new_OPERATION`). On NAS-Bench-NLP the loss of a recipe and of the
    nearest other one have a rank correlation (Spearman) of 0.40.
    """
    cell, nodes = from_recipe(recipe), [*recipe.values()]
    before = {name for name, _ in cell.states}
    length: dict[str, int] = {}
    for name in order(cell):
        length[name] = 1 + max(length.get(source, 0) for source in cell.blocks[name].sources)
    all_operations = Counter(node["op"] for node in nodes)
    new = Counter(recipe[name]["op"] for name in cell.outputs)
    return {
        **{operation: all_operations[operation] for operation in OPERATIONS},
        "states": len(cell.states),
        "longest_path": max(length.values()),
        "reading_x": sum(INPUT in node["input"] for node in nodes),
        "reading_states": sum(not before.isdisjoint(node["input"]) for node in nodes),
        **{f"new_{operation}": new[operation] for operation in OPERATIONS},
    }


def _space(recipes: Sequence[Recipe]) -> tuple[tuple[Gene, ...], Numbers]:
    """Genes and option numbers (n, d) of recipes: their descriptions, and `variant`, a number of each cell among those
    described alike. Recipes that are equal but for the names of their nodes have equal rows."""
    variants: dict[tuple[int, ...], dict[str, int]] = {}
    columns: dict[str, list[int]] = {}
    for recipe in recipes:
        found = described(recipe)
        alike = variants.setdefault(tuple(found.values()), {})
        variant = alike.setdefault(cell_hash(from_recipe(recipe)), len(alike))
        for name, value in {**found, "variant": variant}.items():
            columns.setdefault(name, []).append(value)
    distinct = {name: np.unique(column, return_inverse=True) for name, column in columns.items()}
    genes = tuple(Gene(name=name, options=tuple(options.tolist())) for name, (options, _) in distinct.items())
    return genes, np.stack([places for _, places in distinct.values()], axis=1).astype(np.int64)


def _graphs(recipes: Sequence[Recipe], rows: Numbers) -> Drawn:
    """Recipes at their rows (n, d) as graphs of nodes, labelled by operation and which state they give, x and states.

    Which input of a blend is which is not in them.
    """
    place_of = {row.tobytes(): place for place, row in enumerate(rows)}

    @cache
    def everything() -> Graphs:
        drawn = [labelled(from_recipe(recipe)) for recipe in recipes]
        most = max(map(len, drawn))
        names: dict[str, int] = {}
        labels = np.full((len(drawn), most), -1, dtype=np.int64)
        edges = np.zeros((len(drawn), most, most), dtype=bool)
        for place, graph in enumerate(drawn):
            for node, attributes in graph.nodes(data=True):
                labels[place, node] = names.setdefault(attributes["label"], len(names))
            for source, target in graph.edges:
                edges[place, source, target] = True
        return Graphs(labels, edges)

    def of(numbers: Numbers, _: Present) -> Graphs:
        places = [place_of[row.tobytes()] for row in np.ascontiguousarray(numbers)]
        return Graphs(everything().labels[places], everything().edges[places])

    return of


def _scores(path: Path, recipes: Sequence[TrainedRecipe]) -> Mapping[str, Values]:
    """Score -> values (n,) of recipes, mean over seeds, not finite where a score does not apply or failed.

    Raises:
        ProblemError: it is no such table, or one of other networks.
    """
    columns = ["network", "seed", "score", "value"]
    frame = read_frame(path)
    if missing := [name for name in columns if name not in frame.columns]:
        raise ProblemError(f"{path}: no column {missing[0]!r}, allowed is a table of scores as {STUDY!r} makes it")
    frame = frame[columns].astype({"network": str, "score": str}).drop_duplicates(columns[:3], keep="last")
    table = frame.pivot(index="network", columns=["score", "seed"], values="value")
    names = [str(one.number) for one in recipes]
    if set(table.index) != set(names):
        unknown, lacking = set(table.index) - set(names), set(names) - set(table.index)
        raise ProblemError(
            f"{path}: lacks {len(lacking):,} of {len(names):,} recipes and has {len(unknown):,} other networks, "
            f"allowed is a table of scores of all recipes as {STUDY!r} makes it"
        )
    table = table.loc[names]
    with np.errstate(invalid="ignore"):
        return {name: table[name].to_numpy(dtype=float).mean(axis=1) for name in table.columns.unique("score")}
