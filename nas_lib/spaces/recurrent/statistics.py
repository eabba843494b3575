"""What transformations do on average: to the size of cells without selection, and to what they compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nas_lib.spaces.recurrent.cell import INPUT, Cell, ancestors, block_count, live, users, without_empty
from nas_lib.spaces.recurrent.edits import Edit, Edits, apply, mutate, random_cell
from nas_lib.spaces.recurrent.inheritance import Inheritance, inherit
from nas_lib.spaces.recurrent.network import RecurrentNetwork
from nas_lib.spaces.recurrent.seeds import SEEDS
from nas_lib.tasks.data import SequenceShape

UNCHANGED = 1e-5
"""Relative change of outputs that counts as none."""
SMALLEST = 1e-12
"""The norm of a parent's outputs is taken as at least this."""
PASSING = "c_pass"
"""The block of seed cells that passes the last state on."""


@dataclass(frozen=True)
class Population:
    """Some cells in numbers; shares are of all cells."""

    blocks: float
    """Mean."""
    fewest: int
    most: int
    linear: float
    """Mean of blocks with weights."""
    state: float
    """Share in which the last state is read by more than what passes it on."""
    dead: float
    """Share with blocks on which no state depends."""
    without_input: float
    """Share whose output does not depend on x within a step."""
    without_state: float
    """Share whose output does not depend on the output before."""


def population(cells: Sequence[Cell]) -> Population:
    """Cells in numbers."""
    sizes = [block_count(cell) for cell in cells]
    reached = [ancestors(cell, [cell.outputs[0]]) for cell in cells]
    return Population(
        blocks=float(np.mean(sizes)),
        fewest=min(sizes),
        most=max(sizes),
        linear=float(np.mean([sum(block.weighted for block in cell.blocks.values()) for cell in cells])),
        state=float(np.mean([_reads_last_state(cell) for cell in cells])),
        dead=float(np.mean([len(live(cell)) < len(cell.blocks) for cell in cells])),
        without_input=float(np.mean([INPUT not in found for found in reached])),
        without_state=float(
            np.mean([cell.states[0][0] not in found for cell, found in zip(cells, reached, strict=True)])
        ),
    )


def _reads_last_state(cell: Cell) -> bool:
    before, after = cell.states[-1]
    return bool(set(users(cell, before)) - {PASSING} - ({after} if cell.blocks[after].empty else set()))


def drift(
    cells: Sequence[Cell], generations: int, rng: np.random.Generator, edits: Edits, clean: bool = True
) -> list[list[Cell]]:
    """Cells changed without selection: per generation every cell replaced by its child of one to three changes.

    Args:
        clean: whether blocks that only pass something on are removed from children.
    """
    found = [list(cells)]
    for _ in range(generations):
        children = [mutate(cell, rng, int(rng.integers(1, 3, endpoint=True)), edits)[0] for cell in found[-1]]
        found.append([without_empty(child) if clean else child for child in children])
    return found


@dataclass(frozen=True)
class Preservation:
    """What one kind of change does to outputs with inherited weights."""

    tried: int
    """Changes that were not without effect on the cell."""
    unchanged: float
    """Share of them that left the outputs as they were, up to 1e-5 of their norm."""
    median: float
    """Of the relative change of the outputs, ||child - parent|| / ||parent||."""
    high: float
    """90th percentile of it."""
    renamed: int
    """Changes after which another block has the name of one with weights, which were therefore not inherited."""


def preservation(
    edit: Edit,
    rng: np.random.Generator,
    edits: Edits,
    how: Inheritance = "name",
    *,
    cells: int = 30,
    trials: int = 6,
    hidden: int = 32,
    steps: int = 12,
    batch: int = 4,
) -> Preservation:
    """How outputs change with one change of the seed cells and some random ones (reference: section 6.2).

    Weights are drawn from torch's global random state. Parents whose own outputs overflow are left out.
    """
    parents = [seed() for seed in SEEDS.values()] + [random_cell(rng, edits) for _ in range(cells)]
    shape = SequenceShape(inputs=hidden, outputs=1, tokens=False)
    ratios, renamed = [], 0
    for parent in parents:
        network = RecurrentNetwork(parent, shape, hidden)
        inputs = torch.randn(steps, batch, hidden)
        layer = network.cells()[0]
        with torch.no_grad():
            expected, _ = layer(inputs, layer.start(batch, inputs))
        if not expected.isfinite().all():
            continue
        for _ in range(trials):
            changed, record = apply(edit, parent, rng, edits)
            if not record.changed:
                continue
            child = RecurrentNetwork(changed, shape, hidden)
            inherit(network.state_dict(), child, how, [record])
            own = child.cells()[0]
            with torch.no_grad():
                found, _ = own(inputs, own.start(batch, inputs))
            ratio = float((found - expected).norm() / expected.norm().clamp_min(SMALLEST))
            ratios.append(ratio if np.isfinite(ratio) else np.inf)
            renamed += any(
                block.weighted and name in changed.blocks and not changed.blocks[name].weighted
                for name, block in parent.blocks.items()
            )
    return Preservation(
        tried=len(ratios),
        unchanged=float(np.mean(np.array(ratios) < UNCHANGED)),
        median=float(np.quantile(ratios, 0.5, method="lower")),
        high=float(np.quantile(ratios, 0.9, method="lower")),
        renamed=renamed,
    )
