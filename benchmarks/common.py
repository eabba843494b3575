"""What the benchmarks share: a copy of the workflow to run, measured child processes, and the table they print."""

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import typer
import yaml

ROOT = Path(__file__).parent.parent
SNAKEMAKE = str(Path(sys.executable).with_name("snakemake"))


@dataclass(frozen=True)
class Run:
    """A child process that has ended well."""

    output: str
    wall: float
    """Seconds."""
    cpu: float
    """Seconds, user and system, of the process and of those it waited for."""
    memory: float
    """MiB, the most that was resident."""


def run(command: Sequence[str], folder: Path) -> Run:
    """Run a command on one thread per process and measure it.

    Raises:
        SystemExit: it failed; its output is shown.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "output.log").open("w+") as log:
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        log.seek(0)
        output = log.read()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{output}\n{command} ended with {process.returncode}")
    return Run(output, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def write_project(folder: Path, configuration: Mapping[str, Any]) -> None:
    """A copy of the workflow in an empty folder, with a configuration `benchmark.yaml`."""
    for part in ("Snakefile", "workflow", "profiles", "environment.yml"):
        source = ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
    (folder / "benchmark.yaml").write_text(yaml.safe_dump(dict(configuration)))


def median(values: Sequence[float], unit: str = "", digits: int = 2) -> str:
    """Median and quartiles in words."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    space = " " if unit else ""
    return f"{middle:.{digits}f}{space}{unit} ({low:.{digits}f} to {high:.{digits}f})"


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], how: str) -> None:
    """Print one table with the conditions it was measured under."""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    lines = [columns, ["-" * width for width in widths], *rows]
    typer.echo(f"\n{title}\n")
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        typer.echo(f"| {' | '.join(cells)} |")
    typer.echo(f"\n{how}\n{machine()}")


def machine() -> str:
    """The machine in words, and how busy it was."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "snakemake"))
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {packages}; "
        f"load over 1, 5 and 15 minutes at the end: {load}"
    )
