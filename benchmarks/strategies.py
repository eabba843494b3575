"""Random search, ParEGO and expected hypervolume improvement on DTLZ2: share of the best hypervolume, and CPU time.

    python benchmarks/strategies.py --seeds 5

DTLZ2 (Deb et al. 2002) with 2 objectives and 8 continuous dimensions: its best front is the quarter circle
f1^2 + f2^2 = 1. With the reference point (1.1, 1.1) the best hypervolume is 1.1^2 - pi / 4.
"""

import time
from collections.abc import Sequence
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
from nas_lib.strategies.nehvi import NEHVI
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


def search(
    strategy: Strategy, seed: int, evaluations: int, batch: int, references: Sequence[float | None]
) -> tuple[float, float, float]:
    """Share of the best hypervolume after `evaluations`, CPU seconds per proposal, and those of the last round."""
    space = Cube()
    history: History = []
    seconds: list[float] = []
    for number in range(0, evaluations, batch):
        request = Request(
            space=cast(Space, space),
            objectives=OBJECTIVES,
            references=references,
            history=history,
            pending=[],
            round=number // batch,
            count=min(batch, evaluations - number),
            plan=Plan(rounds=evaluations // batch, proposals=batch, lag=1, epochs=1),
            rng=partial(generator, seed),
        )
        started = time.process_time()
        suggestions = strategy.propose(request)
        seconds.append(time.process_time() - started)
        for slot, suggestion in enumerate(suggestions):
            proposal = Proposal(
                round=request.round, slot=slot, genotype=suggestion.genotype, hash=str(suggestion.genotype), epochs=1
            )
            values = dtlz2(space.encode(suggestion.genotype))
            history.append(
                Evaluation(proposal=proposal, status="ok", objectives=dict(zip(OBJECTIVES, values, strict=True)))
            )
    front = np.array([list(evaluation.objectives.values()) for evaluation in history])
    share = moocore.hypervolume(front, ref=REFERENCE) / BEST
    return share, sum(seconds) / len(history), seconds[-1] / len(suggestions)


def main(
    seeds: Annotated[int, typer.Option(help="Searches per row.")] = 3,
    evaluations: Annotated[int, typer.Option(help="Evaluations per search.")] = 100,
    batches: Annotated[list[int] | None, typer.Option("--batch", help="Proposals per round.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Names of the strategies; default: all.")] = None,
) -> None:
    # Not counted: what a process imports once.
    search(NEHVI(initial=2), 0, 4, 2, ())
    typer.echo(f"DTLZ2, {evaluations} evaluations, {seeds} seeds, hypervolume with the reference point {REFERENCE}")
    typer.echo("strategy  reference  batch  share of best hypervolume  CPU s per proposal  at the end  share per CPU s")
    for strategy in (RandomSearch(), ParEGO(), NEHVI()):
        if only and strategy.name not in only:
            continue
        for known in (False, True) if strategy.name == "nehvi" else (False,):
            for batch in batches or (1, 4):
                references = REFERENCE if known else ()
                results = [search(strategy, seed, evaluations, batch, references) for seed in range(seeds)]
                shares, seconds, last = np.array(results).T
                typer.echo(
                    f"{strategy.name:8}  {'given' if known else 'inferred':9}  {batch:5}  "
                    f"{shares.mean():14.3f} +- {shares.std():.3f}  {seconds.mean():18.3f}  {last.mean():10.3f}  "
                    f"{(shares / (seconds * evaluations)).mean():15.4f}"
                )


if __name__ == "__main__":
    typer.run(main)
