"""Where every file of an experiment lies. Rules, commands, tracking and report all ask here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from nas_lib.records import Candidate

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SearchFolder:
    """The files of one search: one strategy with one seed."""

    path: Path

    @property
    def settings(self) -> Path:
        """What the search was begun with."""
        return self.path / "settings.json"

    def round(self, round: int) -> Path:
        """Folder of a round."""
        return self.path / f"round-{round}"

    def proposals(self, round: int) -> Path:
        """What a round tries."""
        return self.round(round) / "proposals.json"

    def proposing(self, round: int) -> Path:
        """What making the proposals of a round took."""
        return self.round(round) / "proposing.json"

    def job(self, round: int, job: int) -> Path:
        """The evaluations of one job of a round, one per line."""
        return self.round(round) / f"job-{job}.jsonl"

    def work(self, candidate: Candidate) -> Path:
        """Working folder of one candidate: lock, checkpoint, and the evaluation as soon as it is finished."""
        return self.round(candidate[0]) / f"candidate-{candidate[1]}"

    @property
    def scores(self) -> Path:
        """Journal of what networks score without training."""
        return self.path / "scores.jsonl"

    @property
    def history(self) -> Path:
        """All evaluations as a table."""
        return self.path / "history.parquet"

    @property
    def front(self) -> Path:
        """The non-dominated evaluations."""
        return self.path / "front.json"

    @property
    def finalists(self) -> Path:
        """The members of the front that are retrained."""
        return self.path / "finalists" / "selection.json"

    def finalist(self, rank: int) -> Path:
        """A retrained and tested finalist."""
        return self.path / "finalists" / str(rank) / "result.json"

    def transfer(self, rank: int) -> Path:
        """A finalist trained from scratch and tested on the second task."""
        return self.path / "finalists" / str(rank) / "transfer.json"

    def retraining(self, rank: int, draw: int, repeat: int, *, transfer: bool = False) -> Path:
        """Working folder of one training of a finalist; draw 0 is the network that the search chose."""
        network = f"draw-{draw}-" if draw > 0 else ""
        return self.finalist(rank).parent / ("transfer" if transfer else "") / f"{network}repeat-{repeat}"

    def model(self, rank: int) -> Path:
        """Folder of all that is needed to use a finalist elsewhere."""
        return self.path / "finalists" / str(rank) / "model"

    def weights(self, rank: int) -> Path:
        """The weights of the training that is exported, with the input normalisation."""
        return self.model(rank) / "weights.pt"

    def export(self, rank: int) -> Path:
        """What became of the export of a finalist."""
        return self.model(rank) / "export.json"


@dataclass(frozen=True)
class ComparedFolder:
    """The files that an experiment and a laboratory have alike: what compares their searches."""

    path: Path

    @property
    def comparison(self) -> Path:
        """Statistics over all searches."""
        return self.path / "comparison.json"

    @property
    def figures(self) -> Path:
        """Folder of the figures."""
        return self.path / "figures"

    @property
    def tables(self) -> Path:
        """Folder of the numbers behind the figures."""
        return self.path / "tables"

    @property
    def benchmarks(self) -> Path:
        """Folder of what Snakemake measured of its jobs."""
        return self.path / "benchmarks"

    @property
    def tracking(self) -> Path:
        """What was last brought in line in MLflow."""
        return self.path / "tracking.json"

    @property
    def report(self) -> Path:
        """The report, one self-contained page."""
        return self.path / "report.html"


@dataclass(frozen=True)
class ExperimentFolder(ComparedFolder):
    """The files of one experiment."""

    @property
    def configuration(self) -> Path:
        """The experiment as it runs, defaults filled in."""
        return self.path / "experiment.json"

    def search(self, strategy: str, seed: int) -> SearchFolder:
        """The files of one search."""
        return SearchFolder(self.path / strategy / f"seed-{seed}")

    @property
    def data(self) -> Path:
        """What the data check found: sizes of the splits, shape, class names."""
        return self.path / "data.json"


@dataclass(frozen=True)
class TrialFolder:
    """The files of one search of the laboratory: one strategy on one problem with one seed."""

    path: Path

    @property
    def history(self) -> Path:
        """All evaluations as a table, repeats included."""
        return self.path / "history.parquet"

    @property
    def rounds(self) -> Path:
        """CPU seconds of each round's proposals, and when the search began and ended. Written last."""
        return self.path / "rounds.json"


@dataclass(frozen=True)
class LaboratoryFolder(ComparedFolder):
    """The files of one comparison in the laboratory."""

    @property
    def configuration(self) -> Path:
        """The laboratory as it runs, defaults filled in."""
        return self.path / "laboratory.json"

    def search(self, problem: str, strategy: str, seed: int | str) -> TrialFolder:
        """The files of one search."""
        return TrialFolder(self.path / problem / strategy / f"seed-{seed}")


@dataclass(frozen=True)
class StudyFolder(ComparedFolder):
    """The files of one study of predictors."""

    @property
    def configuration(self) -> Path:
        """The study as it runs, defaults filled in."""
        return self.path / "predictor_study.json"

    def measurements(self, problem: str) -> Path:
        """All measurements of a problem as a table."""
        return self.path / problem / "measurements.parquet"

    def journal(self, problem: str) -> Path:
        """The measurements of a problem as they are made, one per line, after a line that says of what they are."""
        return self.path / problem / "journal.jsonl"


@dataclass(frozen=True)
class ScoreFolder(ComparedFolder):
    """The files of one study of scores."""

    @property
    def configuration(self) -> Path:
        """The study as it runs, defaults filled in."""
        return self.path / "score_study.json"

    def journal(self, benchmark: str, job: int) -> Path:
        """The networks that one job has scored, one per line, after a line that says of what they are."""
        return self.path / benchmark / f"job-{job}.jsonl"

    def share(self, benchmark: str, job: int) -> Path:
        """The scores of one job as a table."""
        return self.path / benchmark / f"job-{job}.parquet"

    def costs(self, benchmark: str) -> Path:
        """What each score costs alone, as a table."""
        return self.path / benchmark / "costs.parquet"

    def scores(self, benchmark: str) -> Path:
        """The scores of all networks of a benchmark as a table."""
        return self.path / benchmark / "scores.parquet"

    def analysis(self, benchmark: str) -> Path:
        """What the scores of a benchmark have to do with what was measured."""
        return self.path / benchmark / "analysis.json"


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a file as a whole or not at all: a reader never sees half of it, a kill leaves the old one.

    With `durable` it is on disk when this returns, so that a power failure cannot undo it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as Parquet, as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of this process alone: one of a run that was killed may still be at it.
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    frame.to_parquet(partial, index=False)
    partial.replace(path)


def write_json(path: Path, content: object) -> None:
    """Write plain data as JSON."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_records(path: Path, records: Iterable[BaseModel]) -> None:
    """One record per line (JSON Lines)."""
    write_text(path, "".join(record.model_dump_json() + "\n" for record in records))
