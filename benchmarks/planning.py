"""Planning a large search: `snakemake -n` with 10,000 candidates in 1,000 rounds.

python benchmarks/planning.py --repetitions 3
"""

import re
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from common import SNAKEMAKE, median, run, show, write_project

ROUNDS = 1000
PROPOSALS = 10


def main(repetitions: Annotated[int, typer.Option(help="Plans per row.")] = 3) -> None:
    rows = []
    for jobs in (8, 10):
        with tempfile.TemporaryDirectory() as folder:
            configuration = {
                "experiment": "planning",
                "task": {"name": "digits"},
                "space": {"name": "generator"},
                "strategies": ["random"],
                "objectives": ["error", "parameters"],
                "budget": {"rounds": ROUNDS, "proposals": PROPOSALS, "jobs": jobs},
            }
            write_project(Path(folder), configuration)
            command = [SNAKEMAKE, "-n", "--configfile", "benchmark.yaml"]
            runs = [run(command, Path(folder)) for _ in range(repetitions)]
        planned = re.search(r"^total\s+(\d+)", runs[0].output, re.MULTILINE)
        rows.append(
            [
                f"{jobs}",
                planned[1] if planned else "?",
                "60 s",
                median([run.wall for run in runs], "s", 1),
                median([run.cpu for run in runs], "s", 1),
                f"{max(run.memory for run in runs):.0f} MiB",
            ]
        )
    show(
        f"Plan of {ROUNDS * PROPOSALS:,} candidates in {ROUNDS:,} rounds",
        ["jobs per round", "jobs planned", "wall time asked at most", "wall time", "CPU time", "peak memory"],
        rows,
        f"Median and quartiles of {repetitions} runs of `snakemake -n`, each a new process.",
    )


if __name__ == "__main__":
    typer.run(main)
