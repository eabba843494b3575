"""Random search and ParEGO on DTLZ2: share of the best hypervolume, and CPU time per proposal.

    python benchmarks/strategies.py --seeds 5

DTLZ2 (Deb et al. 2002) with 2 objectives and 8 continuous dimensions: its best front is the quarter circle
f1^2 + f2^2 = 1. With the reference point (1.1, 1.1) the best hypervolume is 1.1^2 - pi / 4.
"""

import time
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, cast

import moocore
import numpy as np
import typer
from numpy.typing import NDArray

from nas_lib.randomness import generator
from nas_lib.records import Evaluation, Genotype, History, Proposal
from nas_lib.spaces import Space
from nas_lib.strategies.bayesian import ParEGO
from nas_lib.strategies.random_search import RandomSearch
from nas_lib.strategies.request import Plan, Request, Strategy

OBJECTIVES = ("f1", "f2")
DIMENSIONS = 8
REFERENCE = (1.1, 1.1)
BEST = REFERENCE[0] * REFERENCE[1] - np.pi / 4


@dataclass(frozen=True)
class Cube:
    """The unit cube as a space."""

    name: str = "cube"

    def sample(self, rng: np.random.Generator) -> Genotype:
        return self.decode(rng.random(DIMENSIONS), rng)

    def dimensions(self) -> list[str]:
        return [f"x{index + 1}" for index in range(DIMENSIONS)]

    def encode(self, genotype: Genotype) -> NDArray[Any]:
        return np.array(genotype["x"])

    def decode(self, point: NDArray[Any], rng: np.random.Generator) -> Genotype:
        return {"x": point.tolist()}

    def canonical(self, points: NDArray[Any]) -> NDArray[Any]:
        return points


def dtlz2(x: NDArray[Any]) -> tuple[float, float]:
    """Objectives of a point (d,) of the unit cube."""
    distance = 1 + float(((x[1:] - 0.5) ** 2).sum())
    angle = np.pi / 2 * x[0]
    return distance * float(np.cos(angle)), distance * float(np.sin(angle))


def search(strategy: Strategy, seed: int, evaluations: int, batch: int) -> tuple[float, float]:
    """Share of the best hypervolume after `evaluations`, and CPU seconds per proposal."""
    space = Cube()
    history: History = []
    seconds = 0.0
    for number in range(0, evaluations, batch):
        request = Request(
            space=cast(Space, space),
            objectives=OBJECTIVES,
            history=history,
            pending=[],
            round=number // batch,
            count=min(batch, evaluations - number),
            plan=Plan(rounds=evaluations // batch, proposals=batch, lag=1, epochs=1),
            rng=partial(generator, seed),
        )
        started = time.process_time()
        suggestions = strategy.propose(request)
        seconds += time.process_time() - started
        for slot, suggestion in enumerate(suggestions):
            proposal = Proposal(
                round=request.round, slot=slot, genotype=suggestion.genotype, hash=str(suggestion.genotype), epochs=1
            )
            values = dtlz2(space.encode(suggestion.genotype))
            history.append(
                Evaluation(proposal=proposal, status="ok", objectives=dict(zip(OBJECTIVES, values, strict=True)))
            )
    front = np.array([list(evaluation.objectives.values()) for evaluation in history])
    return moocore.hypervolume(front, ref=REFERENCE) / BEST, seconds / len(history)


def main(
    seeds: Annotated[int, typer.Option(help="Searches per row.")] = 3,
    evaluations: Annotated[int, typer.Option(help="Evaluations per search.")] = 100,
) -> None:
    typer.echo(f"DTLZ2, {evaluations} evaluations, {seeds} seeds, reference point {REFERENCE}")
    typer.echo("strategy  batch  share of best hypervolume  CPU s per proposal")
    for strategy in (RandomSearch(), ParEGO()):
        for batch in (1, 4):
            results = [search(strategy, seed, evaluations, batch) for seed in range(seeds)]
            shares, seconds = np.array(results).T
            typer.echo(
                f"{strategy.name:8}  {batch:5}  {shares.mean():13.3f} +- {shares.std():.3f}  {seconds.mean():18.3f}"
            )


if __name__ == "__main__":
    typer.run(main)
