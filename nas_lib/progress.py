"""How far an experiment is, read from its files while other processes write them."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import psutil

from nas_lib import pareto
from nas_lib.experiment import Experiment, Finalists
from nas_lib.records import Candidate, History, Proposal
from nas_lib.search import Search, finished, read_proposals, searches_of

RECENT = 20
"""Evaluations from which the number of busy workers is estimated."""
SHOWN_TRAININGS = 6
PARENT_SECONDS = 1.0
HEARTBEAT_SECONDS = 10.0
MIRROR_SECONDS = 5.0
LONGEST_MIRROR_SECONDS = 300.0
IDLE_FACTOR = 20
"""Looking and mirroring pause for so many times what they took, so that they cost no more than 5 % of a core."""


@dataclass(frozen=True)
class TrainingProgress:
    """A training that has begun and not ended."""

    name: str
    epoch: int
    epochs: int


@dataclass(frozen=True)
class SearchProgress:
    """How far one search is."""

    label: str
    seed: int
    round: int
    """The first unfinished round, counted from 1."""
    rounds: int
    done: int
    """Evaluated candidates, failed ones and duplicates included."""
    total: int
    failed: int
    infeasible: int
    """Trained candidates that break a constraint."""
    duplicates: int
    front: int
    """Members of the front so far."""
    hypervolume: float | None
    """On the scale of what all searches know so far; None before the first feasible one."""
    retrained: int
    retrainings: int
    """Trainings of finalists: those done, and all."""
    trainings: tuple[TrainingProgress, ...]
    work_left: float | None
    """Seconds of one worker still to do, if all takes as long as it did so far; None while nothing is finished."""
    recent: tuple[tuple[float, float], ...]
    """Unix time at which each of the last evaluations ended, and the seconds it took."""


@dataclass
class Known:
    """What was read of one search; kept from look to look, so that no result is read twice."""

    rounds: list[int] = field(default_factory=list)
    """Proposals of each round."""
    waiting: dict[Candidate, Proposal] = field(default_factory=dict)
    finished: dict[Candidate, bool] = field(default_factory=dict)
    """Whether it succeeded, for each finished candidate."""
    infeasible: set[Candidate] = field(default_factory=set)
    duplicates: int = 0
    seconds: float = 0.0
    epochs: int = 0
    recent: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=RECENT))
    front: History = field(default_factory=list)
    points: dict[Candidate, list[float]] = field(default_factory=dict)
    """Objectives of all candidates that count, duplicates too: they give the scale."""
    finalists: int | None = None
    retrained: set[Path] = field(default_factory=set)


def snapshot(experiment: Experiment, known: dict[tuple[str, int], Known] | None = None) -> list[SearchProgress]:
    """How far each search is; `known` is what earlier looks have read, brought up to date."""
    known = {} if known is None else known
    searches = searches_of(experiment)
    for search in searches:
        _look(search, known.setdefault((search.label, search.seed), Known()))
    references = [objective.reference for objective in experiment.objectives]
    points = np.array([point for one in known.values() for point in one.points.values()])
    scale = pareto.box(points, references, experiment.objective_names) if len(points) else None
    return [_progress(search, known[search.label, search.seed], known, scale) for search in searches]


def _look(search: Search, known: Known) -> None:
    """Read what is new."""
    experiment, folder = search.experiment, search.folder
    names = experiment.objective_names
    while len(known.rounds) < experiment.budget.rounds and folder.proposals(len(known.rounds)).exists():
        proposals = read_proposals(folder, len(known.rounds))
        known.rounds.append(len(proposals))
        known.waiting |= {proposal.candidate: proposal for proposal in proposals}
    new = []
    for candidate, proposal in list(known.waiting.items()):
        if proposal.duplicate_of is not None:
            succeeded = known.finished.get(proposal.duplicate_of)
            if succeeded is None:
                continue
            known.duplicates += 1
            if proposal.duplicate_of in known.points:
                known.points[candidate] = known.points[proposal.duplicate_of]
            infeasible = proposal.duplicate_of in known.infeasible
        else:
            evaluation = finished(folder.work(candidate), proposal)
            if evaluation is None:
                continue
            succeeded = evaluation.ok
            infeasible = succeeded and not evaluation.feasible
            if evaluation.counts:
                known.points[candidate] = [evaluation.objectives[name] for name in names]
            new.append(evaluation)
        known.finished[candidate] = succeeded
        known.infeasible |= {candidate} if infeasible else set()
        del known.waiting[candidate]
    known.front = pareto.front([*known.front, *new], names)
    known.seconds += pareto.seconds_of(new)
    known.epochs += sum(evaluation.cost.epochs for evaluation in new)
    known.recent.extend(sorted((evaluation.cost.finished, evaluation.cost.seconds) for evaluation in new))
    if known.finalists is None and folder.finalists.exists():
        known.finalists = len(json.loads(folder.finalists.read_text()))
    known.retrained |= {work for work in _retrainings(search, known) if (work / "evaluation.json").exists()}


def _retrainings(search: Search, known: Known) -> dict[Path, int]:
    """Working folders of the finalists' trainings that are not known to be finished, with their epochs."""
    works = {
        search.folder.retraining(rank, draw, repeat, transfer=bool(transfer)): plan.epochs
        for transfer, plan in enumerate(_plans(search.experiment))
        for rank, draw, repeat in product(range(known.finalists or 0), range(plan.draws), range(plan.repeats))
    }
    return {work: epochs for work, epochs in works.items() if work not in known.retrained}


def _plans(experiment: Experiment) -> list[Finalists]:
    """What each finalist is trained for: on the data of the search, and on the second data set if there is one."""
    return [experiment.finalists, *([experiment.carried.finalists] if experiment.transfer else [])]


def _progress(
    search: Search, known: Known, everything: dict[tuple[str, int], Known], scale: pareto.Scale | None
) -> SearchProgress:
    experiment = search.experiment
    budget, finalists = experiment.budget, search.folder.finalists.parent
    unfinished = {round for round, _ in known.waiting}
    total = sum(known.rounds) + (budget.rounds - len(known.rounds)) * budget.proposals
    ranks = experiment.finalists.count if known.finalists is None else known.finalists
    unfinished_retrainings = _retrainings(search, known)
    epochs_left = sum(unfinished_retrainings.values())
    if known.finalists is None:
        epochs_left = sum(ranks * plan.trainings * plan.epochs for plan in _plans(experiment))
    points = pareto.objective_matrix(known.front, experiment.objective_names)
    name = f"{search.label}-{search.seed}"
    candidates = [
        training
        for (round, slot), proposal in known.waiting.items()
        if proposal.duplicate_of is None
        for training in _training(search.folder.work((round, slot)), f"{name} r{round:02d} s{slot}")
    ]
    retraining = [
        training
        for work in unfinished_retrainings
        for training in _training(work, " ".join([name, "finalist", *work.relative_to(finalists).parts]))
    ]
    # A search without results yet is taken to be like the others; duplicates lower the mean as they cost nothing.
    like = [known] if known.seconds else list(everything.values())
    seconds = sum(one.seconds for one in like)
    per_candidate = seconds / max(1, sum(len(one.finished) for one in like))
    per_epoch = seconds / max(1, sum(one.epochs for one in like))
    candidates_left = total - len(known.finished) - sum(each.epoch / each.epochs for each in candidates)
    epochs_left -= sum(each.epoch for each in retraining)
    return SearchProgress(
        label=search.label,
        seed=search.seed,
        round=min(min(unfinished, default=len(known.rounds)) + 1, budget.rounds),
        rounds=budget.rounds,
        done=len(known.finished),
        total=total,
        failed=sum(not succeeded for succeeded in known.finished.values()),
        infeasible=len(known.infeasible),
        duplicates=known.duplicates,
        front=len(known.front),
        hypervolume=pareto.hypervolume(points, scale) if scale else None,
        retrained=len(known.retrained),
        retrainings=ranks * sum(plan.trainings for plan in _plans(experiment)),
        trainings=(*candidates, *retraining),
        work_left=candidates_left * per_candidate + epochs_left * per_epoch if seconds else None,
        recent=tuple(known.recent),
    )


def _training(work: Path, name: str) -> Iterator[TrainingProgress]:
    """The training in a working folder, if it has finished an epoch."""
    try:
        note = json.loads((work / "epoch.json").read_text())
    except FileNotFoundError:
        return
    yield TrainingProgress(name, note["epoch"], note["epochs"])


# --- words -----------------------------------------------------------------------------------------


def line(search: SearchProgress) -> str:
    """For example `parego seed 1 · round 3/6 · 11/24 candidates, 1 failed · front 5 · hypervolume 0.83`."""
    candidates = f"{search.done}/{search.total} candidates"
    candidates += f", {search.failed} failed" if search.failed else ""
    candidates += f", {search.infeasible} infeasible" if search.infeasible else ""
    candidates += f", {search.duplicates} known before" if search.duplicates else ""
    parts = [f"{search.label} seed {search.seed}", f"round {search.round}/{search.rounds}", candidates]
    if search.hypervolume is not None:
        parts += [f"front {search.front}", f"hypervolume {search.hypervolume:.2f}"]
    if search.retrainings and search.done == search.total:
        parts.append(f"finalist trainings {search.retrained}/{search.retrainings}")
    return " · ".join(parts)


def total_line(experiment: Experiment, searches: Sequence[SearchProgress], cores: int | None = None) -> str:
    """For example `digits · 45/96 candidates, 2 failed · about 12 min left`."""
    failed = sum(search.failed for search in searches)
    candidates = f"{sum(search.done for search in searches)}/{sum(search.total for search in searches)} candidates"
    parts = [experiment.experiment, candidates + (f", {failed} failed" if failed else "")]
    left = seconds_left(experiment, searches, cores)
    if left:
        parts.append(f"about {_duration(left)} left")
    return " · ".join(parts)


def trainings_line(searches: Sequence[SearchProgress]) -> str:
    """For example `training parego-1 r03 s2 epoch 4/20, random-1 r02 s0 epoch 7/20`; empty when none has begun."""
    trainings = [training for search in searches for training in search.trainings]
    shown = [f"{training.name} epoch {training.epoch}/{training.epochs}" for training in trainings[:SHOWN_TRAININGS]]
    more = f" and {len(trainings) - len(shown)} more" if len(trainings) > len(shown) else ""
    return f"training {', '.join(shown)}{more}" if shown else ""


def seconds_left(experiment: Experiment, searches: Sequence[SearchProgress], cores: int | None = None) -> float | None:
    """A rough estimate of the seconds until all candidates and finalists are trained; None while nothing is finished.

    The work left is shared by as many workers as were busy during the last evaluations, at most by those that `cores`
    (default: all) and the jobs of a round allow. No search is faster than its own jobs.
    """
    works = [search.work_left for search in searches if search.work_left is not None]
    recent = sorted(each for search in searches for each in search.recent)[-RECENT:]
    if not works or not recent:
        return None
    jobs = 1 if experiment.budget.inline else experiment.budget.jobs
    most = min((cores or os.cpu_count() or 1) // experiment.resources.threads, jobs * len(searches))
    began = min(finished - seconds for finished, seconds in recent)
    busy = sum(seconds for _, seconds in recent) / max(recent[-1][0] - began, 1e-9)
    return max(sum(works) / max(1.0, min(busy, most)), max(works) / jobs)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


# --- watching --------------------------------------------------------------------------------------


def watch(
    experiment: Experiment, parent: int, every: float = 2.0, *, mirror: bool = True, cores: int | None = None
) -> None:
    """Show progress on stderr until the process `parent` ends or this one gets SIGTERM.

    Every `every` seconds what changed is shown; trainings are shown when nothing else was for a while. With `mirror`
    finished candidates are mirrored to MLflow meanwhile.
    """
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    changed = threading.Event()
    if mirror:
        threading.Thread(target=_mirror, args=(experiment, changed, stop), daemon=True).start()
    known: dict[tuple[str, int], Known] = {}
    shown: dict[tuple[str, int], str] = {}
    trainings = ""
    look_at = last_words = 0.0
    for now in _ticks(parent, stop):
        if now < look_at:
            continue
        searches = snapshot(experiment, known)
        lines = {(search.label, search.seed): line(search) for search in searches}
        new = [text for place, text in lines.items() if shown.get(place) != text]
        if new:
            if any(search.done for search in searches):
                changed.set()
            _say(*new, total_line(experiment, searches, cores))
        elif now - last_words >= HEARTBEAT_SECONDS and (text := trainings_line(searches)) not in {trainings, ""}:
            trainings = text
            _say(trainings)
            new = [trainings]
        if new:
            last_words = now
        shown = lines
        look_at = now + max(every, IDLE_FACTOR * (time.monotonic() - now))


def _ticks(parent: int, stop: threading.Event) -> Iterator[float]:
    """The time, about every second, while the process `parent` lives and nobody asked to stop."""
    try:
        process = psutil.Process(parent)
        # is_running() compares creation times: a new process with the same number is another one.
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            yield time.monotonic()
            if stop.wait(PARENT_SECONDS):
                return
    except psutil.NoSuchProcess:
        return


def _mirror(experiment: Experiment, changed: threading.Event, stop: threading.Event) -> None:
    """Bring MLflow in line whenever there are new results; while that fails, try again at growing intervals."""
    from nas_lib import tracking

    failure = ""
    wait = MIRROR_SECONDS
    while not stop.is_set():
        changed.wait()
        changed.clear()
        began = time.monotonic()
        try:
            tracking.sync(experiment)
        except Exception as error:  # whatever happens to MLflow must not stop the display
            if str(error) != failure:
                failure = str(error)
                _say((failure.splitlines() or [type(error).__name__])[0])
            changed.set()
            wait *= 2
        else:
            failure = ""
            wait = MIRROR_SECONDS
        stop.wait(min(max(wait, IDLE_FACTOR * (time.monotonic() - began)), LONGEST_MIRROR_SECONDS))


def _say(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr, flush=True)
