"""Problems that need no data: test functions on a grid, and a cell whose genes interact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from pydantic import Field, StrictInt

from nas_lib.problems.problem import Problem, Values
from nas_lib.randomness import generator
from nas_lib.settings import Settings
from nas_lib.spaces.genes import MOST_LISTED, Condition, Gene, GeneSpace, Numbers
from nas_lib.spaces.graphs import wired


class Grid(Settings):
    """A test function of Zitzler, Deb and Thiele (2000) or Deb et al. (2005) whose variables have a few values each."""

    name: Literal["grid"] = "grid"
    function: Literal["zdt1", "zdt2", "zdt3", "dtlz2"] = "zdt1"
    """Which function. ZDT have two objectives."""
    genes: StrictInt = Field(default=10, ge=2)
    """Variables."""
    options: StrictInt = Field(default=8, ge=2)
    """Values of each, evenly spaced over [0, 1]."""
    objectives: StrictInt = Field(default=2, ge=2, le=5)
    """Of `dtlz2`."""

    @property
    def title(self) -> str:
        """Name in tables and folders."""
        objectives = f"-{self.objectives}" if self.function == "dtlz2" else ""
        return f"{self.function}-{self.genes}x{self.options}{objectives}"

    def file(self) -> None:
        """It needs none."""

    def problem(self) -> Problem:
        """The problem."""
        values = tuple(number / (self.options - 1) for number in range(self.options))
        space = GeneSpace("grid", tuple(Gene(name=f"x{place}", options=values) for place in range(self.genes)))
        count = self.objectives if self.function == "dtlz2" else 2

        def evaluate(numbers: Numbers) -> Values:
            return _FUNCTIONS[self.function](numbers / (self.options - 1), count)

        return Problem(
            name=self.title,
            space=space,
            front=self._front(evaluate),
            objectives=tuple(f"f{place}" for place in range(1, count + 1)),
            evaluate=evaluate,
            reference=np.full(count, 2.5) if self.function == "dtlz2" else np.array([1.1, 6.0]),
        )

    def _front(self, evaluate: Callable[[Numbers], Values]) -> Values | None:
        """The front, of the rows whose variables that only add to all objectives are at their best value.

        None: there are too many.
        """
        import moocore

        angles, rest = (self.objectives - 1, (self.options - 1) // 2) if self.function == "dtlz2" else (1, 0)
        if self.options**angles > MOST_LISTED:
            return None
        rows = np.indices((self.options,) * angles).reshape(angles, -1).T
        values = evaluate(np.pad(rows, ((0, 0), (0, self.genes - angles)), constant_values=rest))
        return np.asarray(values[moocore.is_nondominated(values, keep_weakly=False)])


def _zdt(x: Values, shape: str) -> Values:
    first = x[:, 0]
    g = 1 + 9 * x[:, 1:].mean(axis=1)
    ratio = first / g
    second = {"1": 1 - np.sqrt(ratio), "2": 1 - ratio**2, "3": 1 - np.sqrt(ratio) - ratio * np.sin(10 * np.pi * first)}
    return np.stack([first, g * second[shape]], axis=1)


def _dtlz2(x: Values, count: int) -> Values:
    angles, rest = x[:, : count - 1] * np.pi / 2, x[:, count - 1 :]
    radius = 1 + ((rest - 0.5) ** 2).sum(axis=1)
    columns = []
    for place in range(count):
        value = radius * np.cos(angles[:, : count - 1 - place]).prod(axis=1)
        columns.append(value * np.sin(angles[:, count - 1 - place]) if place else value)
    return np.stack(columns, axis=1)


_FUNCTIONS = {
    "zdt1": lambda x, _: _zdt(x, "1"),
    "zdt2": lambda x, _: _zdt(x, "2"),
    "zdt3": lambda x, _: _zdt(x, "3"),
    "dtlz2": _dtlz2,
}


class Cell(Settings):
    """A made-up cell space in which operations help or harm each other, and some decide whether others count.

    Gene i is the operation on edge i. A random table says what it is worth together with those of `neighbours` other
    edges (Kauffman's NK landscape). An edge of the second half counts only while its partner in the first half has
    another operation than the first. The cost is additive. As a graph the cell shows which operations act on which, not
    how. Nothing here is anybody's benchmark: it stands for spaces
    whose genes interact.
    """

    name: Literal["cell"] = "cell"
    genes: StrictInt = Field(default=12, ge=4)
    """Edges."""
    options: StrictInt = Field(default=4, ge=2)
    """Operations of each edge."""
    neighbours: StrictInt = Field(default=1, ge=0, le=3)
    """How many other genes the worth of one depends on."""
    seed: StrictInt = Field(default=0, ge=0)
    """Draws the landscape."""

    @property
    def title(self) -> str:
        """Name in tables and folders."""
        neighbours = f"-k{self.neighbours}" if self.neighbours != 1 else ""
        return f"cell-{self.genes}x{self.options}{neighbours}" + (f"-{self.seed}" if self.seed else "")

    def file(self) -> None:
        """It needs none."""

    def problem(self) -> Problem:
        """The problem."""
        rng = generator(self.seed, "cell", self.genes, self.options, self.neighbours)
        worth = rng.uniform(size=(self.genes, *[self.options] * (self.neighbours + 1)))
        price = rng.uniform(0.1, 1.0, size=(self.genes, self.options))
        others = [
            rng.choice([o for o in range(self.genes) if o != place], self.neighbours, replace=False)
            for place in range(self.genes)
        ]
        operations = tuple(f"op{option}" for option in range(self.options))
        half = -(-self.genes // 2)
        edges = tuple(
            Gene(
                name=f"edge{place}",
                options=operations,
                active=Condition(gene=f"edge{place - half}", options=operations[1:]) if place >= half else None,
            )
            for place in range(self.genes)
        )
        wires = [(source, place) for place in range(self.genes) for source in others[place].tolist()]
        wires += [(place - half, place) for place in range(half, self.genes)]
        space = GeneSpace("cell", edges, graph=wired([self.options] * self.genes, wires))

        def cost(numbers: Numbers) -> Values:
            return np.asarray((price[np.arange(self.genes), numbers] * space.active(numbers)).sum(axis=1))

        def evaluate(numbers: Numbers) -> Values:
            plain, active = space.plain(numbers), space.active(numbers)
            total = np.zeros(len(numbers))
            for place in range(self.genes):
                found = worth[place][(plain[:, place], *(plain[:, other] for other in others[place]))]
                total += found * active[:, place]
            return np.stack([1 - total / self.genes, cost(numbers)], axis=1)

        return Problem(
            name=self.title,
            space=space,
            objectives=("error", "cost"),
            evaluate=evaluate,
            reference=np.array([0.7, float(price.max(axis=1).sum()) * 1.001]),
            exact={"cost": cost},
        )
