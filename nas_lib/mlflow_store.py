"""MLflow as a place where runs are made from files, whatever they are of.

Runs are never written step by step: a `Projection` says what a run has to be, and `bring_in_line` makes it that. It may
be killed at any point and run again: every projection ends up with exactly one finished run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from filelock import FileLock

from nas_lib.configuration import KINDS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from nas_lib.experiment import Experiment
    from nas_lib.laboratory.settings import Laboratory
    from nas_lib.layout import ComparedFolder
    from nas_lib.predictor_study.settings import PredictorStudy
    from nas_lib.score_study.settings import ScoreStudy

T = TypeVar("T")

ID = "nas.id"
"""Tag: which candidate, search or finalist a run stands for."""
POINTS = "nas.points"
"""Tag: how many of its metric points a run has."""
CONTENT = "nas.content"
"""Tag: digest of what a run has; once a result was replaced it differs from that of the files."""
PARENT = "mlflow.parentRunId"

LOCK_SECONDS = 600
METRICS_PER_BATCH = 800
PARAMS_PER_BATCH = 90
"""MLflow takes at most 1000 metrics, parameters and tags in one call, of these 100 parameters."""

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # By default a dead server is tried for minutes; what it misses is brought in line by the next `sync`.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # A pooled connection would go on writing into a database file that has been deleted.
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",
}
"""Settings of MLflow, where the user made none."""


class TrackingUnavailable(Exception):  # noqa: N818 - a state of the server, not a mistake
    """MLflow cannot be written now. The message is one clear line: where, what happened, what to do."""


@dataclass(frozen=True)
class Synced:
    """What a `sync` did, in runs."""

    created: int = 0
    updated: int = 0
    """They were incomplete."""
    replaced: int = 0
    """Their result in the files is another one now."""
    removed: int = 0
    """Second runs of one candidate, and unfinished ones of candidates that are in no file any more."""
    unchanged: int = 0

    def __str__(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in vars(self).items() if count) or "nothing to show yet"


Outcome = Literal["created", "updated", "replaced", "unchanged"]
Point = tuple[str, float, int, int]
"""Metric, value, Unix time in milliseconds, step."""


@dataclass(frozen=True)
class Projection:
    """A run as the files say it has to be."""

    id: str
    name: str
    status: Literal["FINISHED", "FAILED", "SCHEDULED"]
    started: float
    finished: float
    params: Mapping[str, str]
    points: Sequence[Point]
    """While results stay the same, points are only appended."""
    tags: Mapping[str, str]

    def digest(self, count: int) -> str:
        """Digest of the run with its first `count` points."""
        return digest([self.name, dict(self.params), dict(self.tags), self.points[:count]])


@contextmanager
def writing(of: Experiment | Laboratory | PredictorStudy | ScoreStudy) -> Iterator[tuple[MlflowClient, str]]:
    """A client and the id of what has this name in MLflow, under a lock: the results folder has one writer at a time.

    Raises:
        TrackingUnavailable: the store or server cannot be written.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    results = Path(of.results)
    uri = of.tracking_uri
    try:
        results.mkdir(parents=True, exist_ok=True)
        with FileLock(results / ".tracking.lock", timeout=LOCK_SECONDS):
            client, database = _connect(uri)
            artifacts = (results / "mlartifacts").resolve().as_uri() if database else None
            yield client, _experiment_id(client, of.folder.path.name, artifacts)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        line = f"tracking: {uri}: {_what(error)}; the search goes on, run `{KINDS[of.kind]} track` later"
        raise TrackingUnavailable(re.sub(r"//[^@/\s]+@", "//***@", line)) from error


def bring_all_in_line(of: Laboratory | PredictorStudy | ScoreStudy, wanted: Iterable[Projection]) -> Synced:
    """Make the runs of a comparison what they have to be, and attach report, figures and tables, if there are any.

    Raises:
        TrackingUnavailable: the store or server cannot be written; the next call goes on where this one stopped.
    """
    with writing(of) as (client, folder):
        found, superfluous = existing(client, folder)
        outcomes: Counter[str] = Counter()
        for projection in wanted:
            _, outcome = bring_in_line(client, folder, found.pop(projection.id, None), projection)
            outcomes[outcome] += 1
        if files := report_files(of.folder):
            attach_report(client, folder, found, f"{of.folder.path.name}/report", files)
        for run in superfluous:
            client.delete_run(run.info.run_id)
        return Synced(removed=len(superfluous), **outcomes)


def _connect(uri: str) -> tuple[MlflowClient, bool]:
    """A client, and whether the store is a SQLite file. A new file appears with all its tables or not at all."""
    from mlflow import MlflowClient
    from sqlalchemy.engine import URL, make_url

    if not uri.startswith("sqlite:"):
        return MlflowClient(tracking_uri=uri), False
    database = Path(make_url(uri).database or "mlflow.db")
    if not database.exists():
        database.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=database.parent, prefix=".mlflow.") as partial:
            new = Path(partial) / database.name
            new_uri = URL.create("sqlite", database=str(new)).render_as_string()
            MlflowClient(tracking_uri=new_uri).search_experiments(max_results=1)
            new.replace(database)
    return MlflowClient(tracking_uri=uri), True


def _experiment_id(client: MlflowClient, name: str, artifacts: str | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        return client.create_experiment(name, artifact_location=artifacts)
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _what(error: BaseException) -> str:
    """What went wrong, in one line: the operating system's or the database's own words where there are any."""
    cause = error
    while (deeper := cause.__cause__ or cause.__context__) is not None:
        cause = deeper
    if not isinstance(cause, OSError | sqlite3.Error):
        cause = error
    lines = str(cause).strip().splitlines()
    return lines[0][:300] if lines else type(cause).__name__


def existing(client: MlflowClient, folder: str, identity: str | None = None) -> tuple[dict[str, Run], list[Run]]:
    """The runs made from files, by their identity (all, or the one asked for), and those that are there twice."""
    found: dict[str, Run] = {}
    twice = []
    condition = "" if identity is None else f"tags.`{ID}` = '{identity}'"
    token = None
    while True:
        page = client.search_runs([folder], condition, max_results=1000, page_token=token)
        for run in page:
            tag = run.data.tags.get(ID)
            if tag in found:
                twice.append(run)
            elif tag is not None:
                found[tag] = run
        token = page.token
        if not token:
            return found, twice


def bring_in_line(
    client: MlflowClient, folder: str, run: Run | None, wanted: Projection, parent: str | None = None
) -> tuple[str, Outcome]:
    """Make a run what the files say; returns its id and what was done.

    Any step may be the last one. A run that is found RUNNING gets all its points again: as they have the same times,
    MLflow's stores do not add them twice.
    """
    from mlflow.entities import Metric, Param, RunTag

    outcome: Outcome = "created" if run is None else "updated"
    if run is not None and run.data.tags.get(CONTENT) != wanted.digest(int(run.data.tags.get(POINTS, 0))):
        client.delete_run(run.info.run_id)
        run = None
        outcome = "replaced"
    family = {} if parent is None else {PARENT: parent}
    content = {POINTS: str(len(wanted.points)), CONTENT: wanted.digest(len(wanted.points))}
    if run is None:
        tags = {**wanted.tags, **family, **content, ID: wanted.id}
        run = client.create_run(folder, start_time=ms(wanted.started), run_name=wanted.name, tags=tags)
    new_tags = [RunTag(name, text) for name, text in (family | content).items() if run.data.tags.get(name) != text]
    if run.info.status == wanted.status and not new_tags:
        return run.info.run_id, "unchanged"
    logged = 0 if run.info.status == "RUNNING" else int(run.data.tags[POINTS])
    points = _chunks(wanted.points[logged:], METRICS_PER_BATCH)
    params = _chunks([Param(name, text) for name, text in wanted.params.items()], PARAMS_PER_BATCH)
    for some_points, some_params in zip_longest(points, params, fillvalue=()):
        metrics = [Metric(permitted(name), value, when, step) for name, value, when, step in some_points]
        client.log_batch(run.info.run_id, metrics, some_params)
    if new_tags:
        client.log_batch(run.info.run_id, tags=new_tags)
    if wanted.status == "SCHEDULED":
        client.update_run(run.info.run_id, wanted.status)
    else:
        client.set_terminated(run.info.run_id, wanted.status, ms(wanted.finished))
    return run.info.run_id, outcome


def attach(client: MlflowClient, run: Run, files: Sequence[Path], tag: str) -> None:
    """Make files artifacts of a run, in folders as on disk, unless its tag says that they are already."""
    content = digest([(path.name, hashlib.blake2b(path.read_bytes()).hexdigest()) for path in files])
    if run.data.tags.get(tag) == content:
        return
    for path in files:
        client.log_artifact(run.info.run_id, str(path), path.parent.name if path.suffix != ".html" else None)
    client.set_tag(run.info.run_id, tag, content)


def report_files(places: ComparedFolder) -> list[Path]:
    """The report, the figures and the tables, as far as they exist."""
    folders = (places.figures, places.tables)
    paths = (places.report, *(path for one in folders for path in sorted(one.glob("*"))))
    return [path for path in paths if path.is_file()]


def attach_report(
    client: MlflowClient, folder: str, found: Mapping[str, Run], identity: str, files: Sequence[Path]
) -> None:
    """Make files artifacts of the run `report`."""
    run = found.get(identity) or client.create_run(folder, run_name="report", tags={ID: identity, "kind": "report"})
    attach(client, run, files, CONTENT)
    if run.info.status != "FINISHED":
        client.set_terminated(run.info.run_id)


def permitted(name: str) -> str:
    """A name of a metric or parameter with what MLflow does not permit in one replaced by `_`.

    >>> permitted("accuracy (%)")
    'accuracy ___'
    """
    return re.sub(r"[^\w./: -]", "_", name)


def flat(value: object, name: str = "") -> dict[str, str]:
    """Nested data as name -> text, for example `levels[0]["nodes"]` as `level1.nodes`."""
    if isinstance(value, Mapping):
        parts = [(f"{name}.{key}" if name else str(key), part) for key, part in value.items()]
    elif isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        parts = [(f"{name.removesuffix('s')}{index}", part) for index, part in enumerate(value, 1)]
    else:
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        return {permitted(name): text}
    return {key: text for part_name, part in parts for key, text in flat(part, part_name).items()}


def digest(content: object) -> str:
    """A short digest of plain data."""
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


def ms(seconds: float) -> int:
    """Unix time in milliseconds, as MLflow has it."""
    return int(seconds * 1000)


def _chunks(values: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    return (values[start : start + size] for start in range(0, len(values), size))
