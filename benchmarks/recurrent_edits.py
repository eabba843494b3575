"""What transformations of recurrent cells do on average, beside the figures of the released code.

python benchmarks/recurrent_edits.py --write docs/results/rnn-edits.md
"""

import sys
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
import torch
import typer
from common import ROOT

from nas_lib.spaces.recurrent.edits import LEGACY, Edit, Edits, random_cell
from nas_lib.spaces.recurrent.inheritance import Inheritance
from nas_lib.spaces.recurrent.statistics import Population, Preservation, drift, population, preservation

WAYS = {"released": LEGACY, "default": Edits(), "weighted": Edits(weighted_connections=True)}
PUBLISHED = {
    "add_unit": ("30 %", "0.55", "1.3", "0"),
    "remove_unit": ("23 %", "0.47", "4.8", "0"),
    "add_connection": ("33 %", "0.68", "6.2", "36 of 198"),
    "remove_connection": ("24 %", "0.52", "0.99", "0"),
    "add_recurrent_connection": ("41 %", "0.67", "9.8", "0"),
    "change_combination_connection": ("17 %", "1.00", "2.1", "0"),
    "add_gate": ("32 %", "0.54", "5.5", "0"),
}
"""Measured with the released code: share of unchanged outputs, median and 90 % of the change, weights lost."""
GENERATIONS = 8


def row(found: Population) -> list[str]:
    """A population as cells of a table."""
    shares = (found.state, found.dead, found.without_input, found.without_state)
    return [
        f"{found.blocks:.1f} ({found.fewest} to {found.most})",
        f"{found.linear:.1f}",
        *(f"{share:.0%}".replace("%", " %") for share in shares),
    ]


def cells_of(found: Preservation) -> list[str]:
    """The statistics of one transformation as cells of a table."""
    return [f"{found.unchanged:.0%}".replace("%", " %"), f"{found.median:.2g}", f"{found.high:.2g}"]


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [columns, ["---"] * len(columns), *rows])


def main(
    cells: Annotated[int, typer.Option(help="Random cells of the initial population.")] = 300,
    drifting: Annotated[int, typer.Option(help="Of these, cells that are changed without selection.")] = 100,
    parents: Annotated[int, typer.Option(help="Random parents beside the three seed cells.")] = 30,
    trials: Annotated[int, typer.Option(help="Changes of each kind per parent.")] = 6,
    write: Annotated[Path | None, typer.Option(help="Markdown file for the tables.")] = None,
) -> None:
    """Print the tables, and write them."""
    torch.manual_seed(0)
    sizes = [["released code, reference", "15.6 (10 to 24)", "3.4", "37 %", "0 %", "", ""]]
    sizes.append([f"released code, reference, after {GENERATIONS} generations", "22.6", "", "", "71 %", "22 %", "14 %"])
    for name, edits in WAYS.items():
        rng = np.random.default_rng(0)
        first = [random_cell(rng, edits) for _ in range(cells)]
        sizes.append([f"{name}, initial", *row(population(first))])
        for clean in (False, True) if name == "released" else (True,):
            last = drift(first[:drifting], GENERATIONS, rng, edits, clean)[-1]
            words = f"{name}, after {GENERATIONS} generations{', empty blocks removed' if clean else ''}"
            sizes.append([words, *row(population(last))])
    effects = []
    ways: list[tuple[str, Inheritance]] = [("released", "name"), ("default", "name"), ("default", "preserving")]
    ways.append(("weighted", "preserving"))
    for edit in get_args(Edit):
        line = [edit, *PUBLISHED.get(edit, ("", "", "", ""))]
        for name, how in ways:
            found = preservation(edit, np.random.default_rng(0), WAYS[name], how, cells=parents, trials=trials)
            line += cells_of(found)
            if name == "released":
                line.append(f"{found.renamed} of {found.tried}")
        effects.append(line)
    columns = ["cells", "blocks, mean (fewest to most)", "linear", "c read", "dead blocks", "without x", "without h"]
    heads = ["transformation", *(f"reference: {each}" for each in ("unchanged", "median", "90 %", "lost"))]
    heads += [f"released: {each}" for each in ("unchanged", "median", "90 %", "lost")]
    for name in ("default, by name", "default, preserving", "weighted, preserving"):
        heads += [f"{name}: {each}" for each in ("unchanged", "median", "90 %")]
    file = Path(sys.argv[0]).resolve().relative_to(ROOT)
    text = f"""# What transformations of recurrent cells do on average

    python {file} --write docs/results/rnn-edits.md

`released`: the six transformations that the released code of MOE/RNAS draws, done as it does them. `default`: all but
`add_gate`, blocks without effect removed, the output never cut off from x and h. `weighted`: every new connection goes
through a linear block. Reference: the released code itself.

## Size without selection

{cells} random initial cells; {drifting} of them for {GENERATIONS} generations, in which every cell is replaced by
a child of one to three transformations. Blocks are counted with inputs, outputs and blocks without effect. `without x`:
the output does not depend on x within a step.

{table(columns, sizes)}

## What one transformation does to the outputs

Relative change of the outputs, ||child - parent|| / ||parent||, over 12 steps at hidden size 32, for the three seed
cells and {parents} random ones, {trials} tries each; unchanged: less than 1e-5. `lost`: another block took the name of
one with weights. `preserving`: new linear blocks start as identity or zero wherever that leaves the function as it is.
Inputs are standard normal here; those of the reference are not known, and medians depend on them and on the cells.

{table(heads, effects)}
"""
    typer.echo(text)
    if write is not None:
        write.write_text(text)


if __name__ == "__main__":
    typer.run(main)
