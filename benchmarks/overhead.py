"""What the platform costs beside training: a whole search by `snakemake`, whose candidates train for about 20 seconds.

    python benchmarks/overhead.py

overhead = (wall time of snakemake - seconds of training / workers) / wall time

Wall time is that of `snakemake` in an empty folder, asked for the history and the MLflow store: start, plan, data
check, creation of the store, proposals, a new process per job, measuring the networks, mirroring to MLflow, collecting,
end. Training is `cost.seconds` of all candidates. They cost about the same (10 nodes, only the rewiring differs), so
that what is left is the platform's and not one worker waiting for the other's larger network; what they wait all the
same is shown.
With a lag above 1 that is an upper bound, for a worker may go on with the next round.
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import psutil
import typer
from common import SNAKEMAKE, run, show, write_project

from nas_lib.experiment import parse
from nas_lib.search import Search, run_inline

EXPERIMENT: dict[str, Any] = {
    "experiment": "overhead",
    "task": {"name": "digits"},
    "space": {
        "name": "generator",
        "levels": [{"model": "WS", "nodes": 10, "k": 4, "p": [0.1, 0.9]}],
        "parameters": 30000,
        "head_channels": 64,
    },
    "strategies": ["random"],
    "objectives": ["error", "flops"],
    "training": {"batch_size": 64},
    "finalists": {"count": 0},
}
HISTORY = Path("results/overhead/random/seed-1/history.parquet")
STORE = Path("results/overhead/tracking-store.done")


def seconds_per_epoch(folder: Path) -> float:
    """Of one candidate, trained for a few epochs in this process."""
    budget = {"rounds": 1, "proposals": 1, "jobs": 1, "epochs": 4}
    search = Search(parse({**EXPERIMENT, "results": str(folder), "budget": budget}, "overhead"), "random", 1)
    run_inline(search)
    history = pd.read_parquet(search.folder.history)
    return float(history["cost.seconds"].sum() / history["cost.epochs"].sum())


def busy_seconds() -> float:
    """CPU seconds all cores have worked since the machine was started."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system


def main(
    seconds: Annotated[float, typer.Option(help="Seconds a candidate should train for.")] = 20,
    rounds: Annotated[int, typer.Option(help="Rounds.")] = 4,
    proposals: Annotated[int, typer.Option(help="Candidates per round: a batch as in NAGO.")] = 8,
    workers: Annotated[int, typer.Option(help="Workers: cores, and jobs per round.")] = 2,
    lag: Annotated[int, typer.Option(help="budget.lag")] = 2,
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        epochs = max(1, round(seconds / seconds_per_epoch(folder / "calibration")))
        budget = {"rounds": rounds, "proposals": proposals, "jobs": workers, "lag": lag, "epochs": epochs}
        write_project(folder, {**EXPERIMENT, "budget": budget})
        command = [SNAKEMAKE, "--configfile", "benchmark.yaml", "--cores", str(workers), str(HISTORY), str(STORE)]
        began, busy = time.time(), busy_seconds()
        search = run(command, folder)
        busy = busy_seconds() - busy
        history = pd.read_parquet(folder / HISTORY)
    training = history["cost.seconds"]
    overhead = search.wall - training.sum() / workers
    before = history["cost.started"].min() - began
    after = began + search.wall - history["cost.finished"].max()
    ends = history.groupby([history["round"], history["slot"] % workers])["cost.finished"].max().groupby("round")
    waiting = (ends.max() - ends.mean()).sum()
    other = (busy - search.cpu) / (search.wall * (psutil.cpu_count() or 1))
    figures = {
        "wall time": f"{search.wall:.1f} s",
        "training of one candidate": f"{training.mean():.1f} s ({training.min():.1f} to {training.max():.1f})",
        "overhead (asked: at most 10 %)": f"{overhead / search.wall:.1%}",
        "overhead in seconds": f"{overhead:.1f} s",
        "- before the first candidate": f"{before:.1f} s",
        "- after the last candidate": f"{after:.1f} s",
        "- a worker without work while another trains, per round": f"{waiting / rounds:.1f} s",
        "- the rest, per round": f"{(overhead - before - after - waiting) / rounds:.1f} s",
        "CPU time of the search, training included": f"{search.cpu:.1f} s",
        "CPU time of other work on the machine, of all cores": f"{other:.0%}",
    }
    show(
        f"A search of {rounds} rounds of {proposals} candidates, {workers} workers, lag {lag}, {epochs} epochs",
        ["figure", "measured"],
        [[name, value] for name, value in figures.items()],
        f"One search, wall time. Mean and range over {len(history)} candidates, {(training == 0).sum()} duplicates.",
    )


if __name__ == "__main__":
    typer.run(main)
