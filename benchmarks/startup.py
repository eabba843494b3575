"""CPU seconds until a process does its work: a worker's first training step, proposals, the check of a configuration.

    python benchmarks/startup.py --repetitions 7

The experiment is config/digits.yaml. Every figure is CPU time (user and system, all threads) of a new process from its
start on, the interpreter and all imports included, so that other work on the machine matters little.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
import yaml
from common import ROOT, median, run, show

FIRST_STEP = """
import os, sys, time
import torch
from nas_lib.cli import main

def first_step(*_):
    print(f"measured {time.process_time()} True", flush=True)
    os._exit(0)

from nas_lib.evaluation import training
training.Descent.step = first_step
main()
"""
"""`python -m nas_lib`, ended where the first gradient has been computed and the parameters would be moved."""

WHOLE = """
import sys, time
from nas_lib.cli import main
try:
    main()
finally:
    print(f"measured {time.process_time()} {'torch' in sys.modules}", flush=True)
"""
"""`python -m nas_lib` to its end."""


def measured(program: str, arguments: list[str], folder: Path) -> tuple[float, bool]:
    """CPU seconds of a process that runs a sub-command, and whether it imported torch."""
    output = run([sys.executable, "-c", program, *arguments], folder).output
    _, seconds, torch = next(line for line in output.splitlines() if line.startswith("measured")).split()
    return float(seconds), torch == "True"


def with_history(content: dict[str, object], rounds: int) -> dict[str, object]:
    """The experiment with candidates that train in a moment, so that a history is made quickly."""
    return content | {
        "experiment": "history",
        "task": {"name": "digits", "train_images": 60, "validation_images": 40},
        "budget": {"rounds": rounds, "proposals": 4, "jobs": 2, "epochs": 1},
    }


def main(
    repetitions: Annotated[int, typer.Option(help="Processes per row.")] = 7,
    rounds: Annotated[int, typer.Option(help="Rounds in the history ParEGO learns from, 4 candidates each.")] = 10,
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shutil.copy(ROOT / "config/digits.yaml", folder / "digits.yaml")
        content = yaml.safe_load((folder / "digits.yaml").read_text())
        (folder / "history.json").write_text(json.dumps(with_history(content, rounds)))
        run([sys.executable, "-m", "nas_lib", "inline", "history.json", "--strategy", "parego", "--seed", "1"], folder)

        address = ["--strategy", "random", "--seed", "1", "--round", "0"]
        later = ["--strategy", "parego", "--seed", "1", "--round", str(rounds)]
        measures = {
            "propose, random, round 0": (WHOLE, ["propose", "digits.yaml", *address], "-"),
            f"propose, parego, round {rounds}": (WHOLE, ["propose", "history.json", *later], "-"),
            "evaluate, to the first training step": (
                FIRST_STEP,
                ["evaluate", "digits.yaml", *address, "--job", "0", "--threads", "1"],
                "4 s",
            ),
            "validate": (WHOLE, ["validate", "digits.yaml"], "-"),
            "(only `import torch`)": (WHOLE.replace("main()", "import torch"), [], "-"),
        }
        seconds: dict[str, list[float]] = {name: [] for name in measures}
        torch = {}
        for _ in range(repetitions):
            for name, (program, arguments, _asked) in measures.items():
                taken, torch[name] = measured(program, arguments, folder)
                seconds[name].append(taken)
    show(
        "CPU time of a new process",
        ["sub-command", "asked at most", "CPU time", "torch imported"],
        [
            [name, asked, median(seconds[name], "s"), "yes" if torch[name] else "no"]
            for name, (_, _, asked) in measures.items()
        ],
        f"Median and quartiles of {repetitions} processes, rows in turn.",
    )


if __name__ == "__main__":
    typer.run(main)
