"""Drawing and sizing large networks: sample, draw the graphs, hash, count parameters and FLOPs.

    python benchmarks/generator.py --networks 200

Genotypes are from the ranges of NAGO (4 million parameters, 32x32 images), those of 150 to 210 operations only.
"""

from time import process_time
from typing import Annotated

import numpy as np
import typer
from common import show
from numpy.typing import NDArray

from nas_lib.randomness import generator
from nas_lib.spaces.generator import GeneratorSpace, draw_of
from nas_lib.tasks.data import Shape

SHAPE = Shape(channels=3, height=32, width=32, classes=10)
FEWEST, MOST = 150, 210
PARTS = ("sample", "draw the graphs", "hash", "choose the width", "count parameters and FLOPs")


def parts(space: GeneratorSpace, seed: int) -> NDArray[np.float64] | None:
    """CPU milliseconds of each of PARTS for the network of a seed; None where its size is not asked for."""
    rng = generator(seed, "benchmark")
    clock = [process_time()]
    genotype = space.sample(rng)
    clock.append(process_time())
    if not FEWEST <= np.prod([level["nodes"] for level in genotype["levels"]]) <= MOST:
        return None
    draw_of(genotype)
    clock.append(process_time())
    space.hash(genotype)
    clock.append(process_time())
    plan = space.plan(genotype, SHAPE)
    clock.append(process_time())
    plan.parameters()
    plan.flops()
    clock.append(process_time())
    return 1000 * np.diff(clock)


def main(networks: Annotated[int, typer.Option(help="Networks to draw and size.")] = 200) -> None:
    space = GeneratorSpace()
    found: list[NDArray[np.float64]] = []
    seed = 0
    while len(found) <= networks:
        times = parts(space, seed)
        found += [] if times is None else [times]
        seed += 1
    measured = np.array(found[1:])  # the first one imports networkx
    columns = [*zip(PARTS, measured.T, strict=True), ("together", measured.sum(1))]
    show(
        f"One network of {FEWEST} to {MOST} operations",
        ["part", "median asked at most", "median", "90th percentile"],
        [
            [
                name,
                "50 ms" if name == "together" else "-",
                f"{np.median(values):.1f} ms",
                f"{np.quantile(values, 0.9):.1f} ms",
            ]
            for name, values in columns
        ],
        f"CPU time of one process, one core, {networks} networks.",
    )


if __name__ == "__main__":
    typer.run(main)
