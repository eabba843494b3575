"""Files -> MLflow. The files of an experiment are the truth; its runs in MLflow are made from them, and only here.

Nothing that trains knows of MLflow, so a tracking server that is down stops nothing. `sync` may be killed at any point
and run again: every candidate ends up with exactly one finished run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nas_lib import pareto
from nas_lib.experiment import Experiment
from nas_lib.export import read_export
from nas_lib.mlflow_store import (
    CONTENT,
    ID,
    Point,
    Projection,
    Synced,
    attach,
    attach_report,
    bring_in_line,
    digest,
    existing,
    flat,
    ms,
    report_files,
    writing,
)
from nas_lib.records import Candidate, Evaluation, Finalist, Genotype, History, sample_tested
from nas_lib.search import Search, read_finalists, read_history, read_proposals, searches_of

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.types import Schema

ATTACHED = "nas.attached"
"""Tag: digest of the figures attached to the run of a search."""
OF_EVERY_SEARCH = ("front", "hypervolume", "learning-curves", "ranks")
"""Figures of the whole experiment that the run of each search has, beside the drawings of its own finalists."""

LONGEST_REASON = 1000

ONNX = "model.onnx"
CURRENT = "current"
"""Alias of the version of a registered model that is in line with the files."""


def prepare(experiment: Experiment) -> None:
    """Create the store (SQLite) and the experiment in MLflow.

    Raises:
        TrackingUnavailable: the store or server cannot be written.
    """
    with writing(experiment):
        pass


def sync(experiment: Experiment) -> Synced:
    """Bring the runs in MLflow in line with the files: one per search, candidate and retrained finalist.

    Raises:
        TrackingUnavailable: the store or server cannot be written; the next `sync` goes on where this one stopped.
    """
    with writing(experiment) as (client, folder):
        found, superfluous = existing(client, folder)
        outcomes: Counter[str] = Counter()
        for search in searches_of(experiment):
            history = read_history(search.folder, range(experiment.budget.rounds), partial=True)
            if not history:
                continue
            wanted = _of_search(search, history)
            parent, outcome = bring_in_line(client, folder, found.pop(wanted.id, None), wanted)
            outcomes[outcome] += 1
            for wanted in (*_of_candidates(search, history), *_of_finalists(search)):
                _, outcome = bring_in_line(client, folder, found.pop(wanted.id, None), wanted, parent)
                outcomes[outcome] += 1
        superfluous += [run for run in found.values() if run.info.status == "RUNNING"]
        for run in superfluous:
            client.delete_run(run.info.run_id)
        return Synced(removed=len(superfluous), **outcomes)


def log_report(experiment: Experiment) -> None:
    """Attach report, figures and tables, as far as they exist, to the run `report`, and to each search its own figures.

    Raises:
        TrackingUnavailable: the store or server cannot be written.
    """
    files = report_files(experiment.folder)
    if not files:
        return
    with writing(experiment) as (client, folder):
        found, _ = existing(client, folder)
        attach_report(client, folder, found, f"{experiment.experiment}/report", files)
        for search in searches_of(experiment):
            own = re.compile(rf"({'|'.join(OF_EVERY_SEARCH)}|(graph|levels)-{search.label}-seed-{search.seed}-.*)\.svg")
            if (parent := found.get(_identity(search))) is not None:
                attach(client, parent, [path for path in files if own.fullmatch(path.name)], ATTACHED)


def register(experiment: Experiment) -> int:
    """Register the ONNX file of every exported finalist as a model of its own; returns how many versions were new.

    A version is made when the files are others than those of all versions before; the alias `current` is on the version
    that is in line with the files. It is loaded without pickles.

    Raises:
        TrackingUnavailable: the store or server cannot be written.
    """
    exported = [
        (search, rank)
        for search in searches_of(experiment)
        for rank in range(experiment.finalists.count)
        if (export := read_export(search, rank)) is not None and ONNX in export.there
    ]
    if not exported:
        return 0
    with writing(experiment) as (client, folder), _as_default(experiment.tracking_uri):
        runs, _ = existing(client, folder)
        logged = _logged_models(client, folder)
        return sum(_register(client, folder, runs, logged, search, rank) for search, rank in exported)


@contextmanager
def _as_default(uri: str) -> Iterator[None]:
    """Make a store MLflow's default for a while: every registry looks up models in the default one."""
    import mlflow

    variable = "MLFLOW_TRACKING_URI"
    before = os.environ.get(variable)
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
        if before is not None:
            os.environ[variable] = before


def _logged_models(client: MlflowClient, folder: str) -> dict[str, LoggedModel]:
    """The complete models made from files, by their content; what a killed process left half made is removed."""
    found = {}
    token = None
    while True:
        page = client.search_logged_models([folder], page_token=token)
        for model in page:
            if CONTENT in model.tags and model.status == "READY":
                found[model.tags[CONTENT]] = model
            elif CONTENT in model.tags:
                client.delete_logged_model(model.model_id)
        token = page.token
        if not token:
            return found


def _register(
    client: MlflowClient,
    folder: str,
    runs: Mapping[str, Run],
    logged: Mapping[str, LoggedModel],
    search: Search,
    rank: int,
) -> bool:
    """Bring a registered model in line with its files; whether that took a new version."""
    files, name, identity = search.folder.model(rank), search.model_name(rank), _finalist_identity(search, rank)
    parts = [files / part for part in (ONNX, "card.json", "examples.npz")]
    content = digest([hashlib.blake2b(path.read_bytes()).hexdigest() for path in parts])
    card = (files / "card.md").read_text()
    found = client.search_registered_models(f"name = '{name}'")
    registered = found[0] if found else client.create_registered_model(name, {ID: identity}, identity)
    versions = client.search_model_versions(f"name = '{name}'")
    version = next((version for version in versions if version.tags.get(CONTENT) == content), None)
    new = version is None
    if version is None:
        run = runs[identity].info.run_id if identity in runs else None
        figures, measure = json.loads((files / "card.json").read_text()), search.experiment.measure
        shown = {
            f"test_{measure}_mean": f"{figures['test'][f'{measure}_mean']:.6g}",
            **{key: str(figures["architecture"][key]) for key in ("hash", "parameters", "flops", "activation_memory")},
        }
        model = logged.get(content) or _log_model(
            client, folder, run, files, name, {ID: identity, CONTENT: content}, shown
        )
        version = client.create_model_version(
            name,
            model.artifact_location,
            run,
            tags={ID: identity, CONTENT: content, **shown},
            description=card,
            model_id=model.model_id,
        )
    if str(registered.aliases.get(CURRENT)) != str(version.version):
        client.set_registered_model_alias(name, CURRENT, version.version)
    return new


def _log_model(
    client: MlflowClient,
    folder: str,
    run: str | None,
    files: Path,
    name: str,
    tags: dict[str, str],
    params: dict[str, str],
) -> LoggedModel:
    """The ONNX file as MLflow's model, with its signature and one of its inputs as example."""
    from importlib.metadata import version

    import mlflow.onnx
    import numpy as np
    import onnx
    from mlflow.models import ModelSignature

    with np.load(files / "examples.npz", allow_pickle=False) as examples:
        arrays = {name: examples[name] for name in examples.files}
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model"
        network = onnx.load(files / ONNX)
        inputs = {each.name: arrays[each.name] for each in network.graph.input}
        example = {name: array[:1] for name, array in inputs.items()}
        mlflow.onnx.save_model(
            network,
            path,
            signature=ModelSignature(
                _schema(network.graph.input, arrays), _schema(network.graph.output, arrays, named=True)
            ),
            input_example=example if len(example) > 1 else next(iter(example.values())),
            pip_requirements=[
                f"{package}=={version(package)}" for package in ("mlflow", "onnx", "onnxruntime", "numpy")
            ],
            onnx_execution_providers=["CPUExecutionProvider"],
            save_as_external_data=False,
        )
        shutil.copy(files / "card.md", path)
        model = client.create_logged_model(folder, name, run, tags, params, model_type="finalist")
        client.log_model_artifacts(model.model_id, str(path))
    return client.finalize_logged_model(model.model_id, "READY")


def _schema(values: Sequence[Any], arrays: Mapping[str, np.ndarray], *, named: bool = False) -> Schema:
    """What an ONNX file takes or gives, sizes that it leaves open as -1; an only value has a name only if `named`."""
    from mlflow.types import Schema, TensorSpec

    return Schema(
        [
            TensorSpec(
                arrays[each.name].dtype,
                [-1 if size.dim_param else size.dim_value for size in each.type.tensor_type.shape.dim],
                each.name if named or len(values) > 1 else None,
            )
            for each in values
        ]
    )


# --- what runs have to be --------------------------------------------------------------------------


def _of_search(search: Search, history: History) -> Projection:
    """The parent run: the configuration, and how the search went over the evaluations that have no gap before them.

    It is SCHEDULED while evaluations are missing: a search that nobody continues must not stay RUNNING for ever.
    """
    experiment = search.experiment
    done, complete = _without_gaps(search, history)
    points: list[Point] = []
    times: list[int] = []
    failed = infeasible = 0
    front: History = []
    names = experiment.objective_names
    for step, evaluation in enumerate(done, 1):
        failed += not evaluation.ok
        infeasible += evaluation.ok and not evaluation.feasible
        front = pareto.front([*front, evaluation], names)
        times.append(max([*times[-1:], ms(evaluation.cost.finished)]))
        figures: dict[str, float] = {
            "candidates": step,
            "failed": failed,
            "infeasible": infeasible,
            "front_size": len(front),
        }
        figures |= {f"best_{name}": min(one.objectives[name] for one in front) for name in names if front}
        points += [(name, value, times[-1], step) for name, value in figures.items()]
    if complete:
        trace = _hypervolumes(search, len(done))
        points += [("hypervolume", value, times[step], step + 1) for step, value in enumerate(trace)]
    strategy = experiment.strategy(search.label)
    configuration = experiment.model_dump(
        mode="json", exclude={"description", "strategies", "seeds", "results", "resources", "tracking"}
    ) | {"strategy": strategy.model_dump(mode="json"), "seed": search.seed}
    trained = [evaluation.cost for evaluation in history if evaluation.cost.started]
    return Projection(
        id=_identity(search),
        name=f"{search.label}-{search.seed}",
        status="FINISHED" if complete else "SCHEDULED",
        started=min((cost.started for cost in trained), default=0.0),
        finished=max((cost.finished for cost in trained), default=0.0),
        params=flat(configuration),
        points=points,
        tags={
            "kind": "search",
            "strategy": search.label,
            "seed": str(search.seed),
            "task": experiment.task.name,
            "space": experiment.space.name,
            "objectives": ", ".join(names),
        },
    )


def _without_gaps(search: Search, history: History) -> tuple[History, bool]:
    """The evaluations before the first missing one, and whether none is missing in any round."""
    found = {evaluation.proposal.candidate: evaluation for evaluation in history}
    done: History = []
    for round in range(search.experiment.budget.rounds):
        if not search.folder.proposals(round).exists():
            return done, False
        for proposal in read_proposals(search.folder, round):
            if proposal.candidate not in found:
                return done, False
            done.append(found[proposal.candidate])
    return done, True


def _hypervolumes(search: Search, evaluations: int) -> list[float]:
    """The hypervolume after each evaluation, once all searches are done: only then is its scale known."""
    path = search.experiment.folder.comparison
    entries = json.loads(path.read_text())["searches"] if path.exists() else []
    for entry in entries:
        if (entry["strategy"], entry["seed"], entry["evaluations"]) == (search.label, search.seed, evaluations):
            return [float(value) for value in entry["hypervolume"]]
    return []


def _of_candidates(search: Search, history: History) -> Iterator[Projection]:
    costs = {evaluation.proposal.candidate: evaluation.cost for evaluation in history}
    for evaluation in history:
        proposal = evaluation.proposal
        # A duplicate took no time of its own: it is shown where its original ended.
        cost = evaluation.cost if proposal.duplicate_of is None else costs[proposal.duplicate_of]
        started = cost.started if proposal.duplicate_of is None and cost.started else cost.finished
        related: dict[str, Sequence[Candidate | None]] = {
            "duplicate_of": [proposal.duplicate_of],
            "warm_start": [proposal.warm_start],
            "parents": proposal.parents,
        }
        yield Projection(
            id=f"{_identity(search)}/round-{proposal.round}/slot-{proposal.slot}",
            name=f"{search.label}-{search.seed} r{proposal.round:02d} s{proposal.slot}",
            status="FINISHED" if evaluation.ok else "FAILED",
            started=started,
            finished=cost.finished,
            params=_params(proposal.genotype, proposal.epochs, proposal.origin),
            points=_candidate_points(evaluation, started, cost.finished),
            tags={
                "kind": "candidate",
                "strategy": search.label,
                "seed": str(search.seed),
                "round": str(proposal.round),
                "slot": str(proposal.slot),
                "hash": proposal.hash,
                "origin": proposal.origin,
                "status": evaluation.status,
                "feasible": str(evaluation.feasible).lower(),
                "reason": evaluation.reason[:LONGEST_REASON],
                **({} if proposal.bracket is None else {"bracket": str(proposal.bracket)}),
                **{name: _places(others) for name, others in related.items() if any(others)},
                **{name: value for name, value in evaluation.wall_clock.items() if isinstance(value, str)},
                "mlflow.note.content": search.experiment.space.describe(proposal.genotype),
            },
        )


def _places(candidates: Iterable[Candidate | None]) -> str:
    return ", ".join(f"round {candidate[0]} slot {candidate[1]}" for candidate in candidates if candidate is not None)


def _candidate_points(evaluation: Evaluation, started: float, finished: float) -> list[Point]:
    """The curves, one step per epoch, and the figures of the end at the last epoch."""
    epochs = evaluation.proposal.epochs
    points: list[Point] = []
    curves = evaluation.curves if evaluation.proposal.duplicate_of is None else {}
    for name, values in curves.items():
        for epoch, value in enumerate(values, 1):
            points.append((name, value, ms(started + (finished - started) * epoch / len(values)), epoch))
    figures = {
        **evaluation.metrics,
        **evaluation.wall_clock,
        **evaluation.objectives,
        **{f"constraint.{name}": excess for name, excess in evaluation.constraints.items()},
        **{f"score.{name}": value for name, value in evaluation.proposal.scores.items()},
        **_cost(evaluation),
    }
    return points + [
        (name, float(value), ms(finished), epochs)
        for name, value in figures.items()
        if not isinstance(value, str) and name not in curves
    ]


def _cost(evaluation: Evaluation) -> dict[str, float]:
    """Seconds, and joules and bytes where they are known."""
    cost = evaluation.cost.model_dump(include={"seconds", "energy", "peak_memory"})
    return {name: float(value) for name, value in cost.items() if value is not None}


def _of_finalists(search: Search) -> Iterator[Projection]:
    """The finalists on the task of the search, and those on the second one."""
    for finalist in read_finalists(search):
        yield _of_finalist(search, finalist, "finalist", search.experiment.task.name)
    for finalist in read_finalists(search, transfer=True):
        yield _of_finalist(search, finalist, "transfer", search.experiment.carried.task.name)


def _of_finalist(search: Search, finalist: Finalist, kind: Literal["finalist", "transfer"], task: str) -> Projection:
    """A finalist: figures of every training (step = its number, network by network), mean and standard deviation of
    its main measure on the test split over its networks, or over trainings where there is one network."""
    proposal = finalist.repeats[0].proposal
    costs = [evaluation.cost for evaluation in finalist.repeats]
    finished = max(cost.finished for cost in costs)
    points = [
        (name, float(value), ms(evaluation.cost.finished), step)
        for step, evaluation in enumerate(finalist.repeats)
        for name, value in {**evaluation.metrics, **_cost(evaluation)}.items()
        if not isinstance(value, str)
    ]
    measure = (search.experiment.carried if kind == "transfer" else search.experiment).measure
    sample = sample_tested(finalist.repeats, measure)
    if sample:
        points.append((f"test_{measure}_mean", statistics.fmean(sample), ms(finished), 0))
    if len(sample) > 1:
        points.append((f"test_{measure}_sd", statistics.stdev(sample), ms(finished), 0))
    return Projection(
        id=_finalist_identity(search, finalist.rank, kind),
        name=f"{search.label}-{search.seed} {kind} {finalist.rank}",
        status="FINISHED" if sample else "FAILED",
        started=min(cost.started for cost in costs),
        finished=finished,
        params=_params(proposal.genotype, proposal.epochs, proposal.origin),
        points=points,
        tags={
            "kind": kind,
            "task": task,
            "strategy": search.label,
            "seed": str(search.seed),
            "rank": str(finalist.rank),
            "round": str(proposal.round),
            "hash": proposal.hash,
            "status": "ok" if sample else "failed",
            "reason": "; ".join(sorted({e.reason for e in finalist.repeats if not e.ok}))[:LONGEST_REASON],
            "mlflow.note.content": search.experiment.space.describe(proposal.genotype),
        },
    )


def _identity(search: Search) -> str:
    return f"{search.experiment.experiment}/{search.label}/seed-{search.seed}"


def _finalist_identity(search: Search, rank: int, kind: str = "finalist") -> str:
    return f"{_identity(search)}/{kind}-{rank}"


def _params(genotype: Genotype, epochs: int, origin: str) -> dict[str, str]:
    return {**flat(genotype), "epochs": str(epochs), "origin": origin}
