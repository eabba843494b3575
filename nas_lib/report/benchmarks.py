"""What the jobs of the workflow took, as Snakemake measured them (`benchmark:` of the rules)."""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

RULES = {"search": "search_inline", "job": "evaluate", "finalist": "retrain"}
"""What a file is named after -> the rule that wrote it, where they differ."""


@dataclass(frozen=True)
class RuleCost:
    """The jobs of one rule. A job that was continued after a kill counts with its last run only."""

    rule: str
    jobs: int
    seconds: float
    """Wall-clock seconds, summed over the jobs."""
    cpu_seconds: float | None
    """User and system, of all processes of the jobs; None where no job ran long enough to be looked at."""
    memory: float | None
    """Bytes, the most that a job had resident; None as above."""


def read(folder: Path) -> list[RuleCost]:
    """The cost per rule, most seconds first; empty where nothing was measured."""
    found: dict[str, list[dict[str, str]]] = {}
    for path in sorted(folder.rglob("*.tsv")):
        stem = re.sub(r"-\d+$", "", path.stem)
        with path.open(newline="") as file:
            found.setdefault(RULES.get(stem, stem), []).extend(csv.DictReader(file, delimiter="\t"))
    costs = []
    for rule, rows in found.items():
        memory = _numbers(row["max_rss"] for row in rows)
        cpu = _numbers(row["cpu_time"] for row in rows)
        costs.append(
            RuleCost(
                rule=rule,
                jobs=len(rows),
                seconds=sum(_numbers(row["s"] for row in rows)),
                cpu_seconds=sum(cpu) if cpu else None,
                memory=max(memory) * 2**20 if memory else None,
            )
        )
    return sorted(costs, key=lambda cost: -cost.seconds)


def _numbers(cells: Iterable[str]) -> list[float]:
    """The numbers among the cells: of a job too short to be looked at there is `-` or `NA`."""
    return [float(cell) for cell in cells if re.fullmatch(r"\d+(\.\d*)?(e[-+]?\d+)?", cell)]
