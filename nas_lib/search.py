"""The loop of every method: history, propose, evaluate, append.

`propose` is a pure function; the other functions connect it with the files of a search, so that any of them can be
killed at any time and run again. One job per worker and round (the workflow) and one process for all rounds
(`run_inline`) go through the same functions and give the same history.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from functools import partial as partial_of
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, cast

from filelock import FileLock, Timeout
from pydantic import ValidationError

from nas_lib import pareto
from nas_lib.evaluation.objectives import scores_among
from nas_lib.evaluation.scoring import Journal, Scorer
from nas_lib.experiment import ATTEMPTS, Experiment, settings_of
from nas_lib.layout import SearchFolder, write_frame, write_json, write_records, write_text
from nas_lib.randomness import generator, seed_of
from nas_lib.records import Candidate, Cost, Evaluation, Finalist, History, Proposal
from nas_lib.spaces import Space
from nas_lib.strategies.filtered import proposed
from nas_lib.strategies.neuroevolution import KnownNetworks
from nas_lib.strategies.request import Request, Suggestion
from nas_lib.tasks.data import Data

if TYPE_CHECKING:
    import pandas as pd

    from nas_lib.evaluation.candidate import Bench
    from nas_lib.evaluation.training import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Search:
    """One search: a strategy of an experiment with one seed."""

    experiment: Experiment
    label: str
    seed: int

    @property
    def folder(self) -> SearchFolder:
        """Where its files lie."""
        return self.experiment.folder.search(self.label, self.seed)

    @property
    def keeps_weights(self) -> bool:
        """Whether later proposals may continue a finished training, or begin with its weights."""
        return self.experiment.strategy(self.label).keeps_weights

    def model_name(self, rank: int) -> str:
        """Name of a finalist's model, on its card and in MLflow's registry."""
        return f"{self.experiment.experiment}-{self.label}-seed-{self.seed}-finalist-{rank}"


def searches_of(experiment: Experiment) -> list[Search]:
    """All searches of an experiment, seed by seed within each strategy."""
    return [Search(experiment, label, seed) for label in experiment.labels for seed in experiment.seeds]


# --- propose ---------------------------------------------------------------------------------------


def propose(search: Search, round: int, history: History, pending: Sequence[Proposal]) -> list[Proposal]:
    """The proposals of a round, from the evaluations of the rounds up to round - lag and the proposals since."""
    experiment = search.experiment
    request = Request(
        space=experiment.architectures,
        objectives=experiment.objective_names,
        references=[objective.reference for objective in experiment.objectives],
        limits=experiment.limits,
        history=history,
        pending=pending,
        round=round,
        count=experiment.budget.plan.proposals,
        plan=experiment.budget.plan,
        rng=partial_of(generator, search.seed),
        score=score_of(search),
    )
    suggestions = _expanded(search, round, proposed(experiment.strategy(search.label), request))
    earlier: dict[tuple[str, int], list[Proposal]] = defaultdict(list)
    known = {proposal.candidate: proposal for proposal in [*(each.proposal for each in history), *pending]}
    for proposal in known.values():
        if proposal.duplicate_of is None:
            earlier[proposal.hash, proposal.epochs].append(proposal)

    def original_of(candidate: Candidate) -> Candidate:
        return known[candidate].duplicate_of or candidate

    proposals: list[Proposal] = []
    for slot, suggestion in enumerate(suggestions):
        proposal = Proposal(
            round=round,
            slot=slot,
            genotype=suggestion.genotype,
            hash=experiment.space.hash(suggestion.genotype),
            epochs=suggestion.epochs or experiment.budget.epochs,
            origin=suggestion.origin,
            warm_start=suggestion.warm_start and original_of(suggestion.warm_start),
            parents=[original_of(parent) for parent in suggestion.parents],
            changes=list(suggestion.changes),
            scores=dict(suggestion.scores),
            bracket=suggestion.bracket,
            full=(suggestion.epochs or experiment.budget.epochs) == experiment.budget.epochs,
        )
        same_hash = earlier[proposal.hash, proposal.epochs]
        original = _same(experiment.architectures, proposal, same_hash)
        if original is None:
            same_hash.append(proposal)
        else:
            proposal = proposal.model_copy(update={"duplicate_of": original.candidate})
        known[proposal.candidate] = proposal
        if epochs_of(known.values()) > (experiment.budget.total_epochs or math.inf):
            break
        proposals.append(proposal)
    return proposals


def scorer_of(search: Search) -> Scorer:
    """What scores networks of a search."""
    experiment = search.experiment
    return Scorer(experiment.architectures, experiment.task.for_search, experiment.scoring, search.seed)


def score_of(search: Search) -> Journal:
    """Scores of networks of a search, see `Request.score`; its folder keeps them."""
    experiment, settings = search.experiment, settings_of(search.experiment, search.label)
    head = {"task": settings["task"], "space": settings["space"]}
    head |= {"scoring": experiment.scoring.model_dump(), "seed": search.seed}
    return Journal(scorer_of(search), search.folder.scores, head)


def epochs_of(proposals: Iterable[Proposal]) -> int:
    """Epochs that have to be trained for some proposals, without those of trainings that are continued.

    The proposals of all warm starts must be among them.
    """
    known = {proposal.candidate: proposal for proposal in proposals}
    new = [proposal for proposal in known.values() if proposal.duplicate_of is None]
    before = [known[proposal.warm_start] if proposal.warm_start else None for proposal in new]
    continued = sum(one.epochs for proposal, one in zip(new, before, strict=True) if one and proposal.continues(one))
    return sum(proposal.epochs for proposal in new) - continued


def _expanded(search: Search, round: int, suggestions: Sequence[Suggestion]) -> list[Suggestion]:
    """Every suggestion, followed by the further draws of its generator that the budget asks for."""
    space, draws = search.experiment.architectures, search.experiment.budget.draws
    expanded = []
    for suggestion in suggestions:
        expanded.append(suggestion)
        for _ in range(1, draws):
            rng = generator(search.seed, "redraw", round, len(expanded))
            expanded.append(replace(suggestion, genotype=space.redraw(suggestion.genotype, rng), scores={}))
    return expanded


def _same(space: Space, proposal: Proposal, others: Iterable[Proposal]) -> Proposal | None:
    """The first of `others` that is exactly the same architecture: equal hashes alone do not prove it."""
    for other in others:
        if other.genotype == proposal.genotype or space.same(other.genotype, proposal.genotype):
            return other
    return None


def propose_round(search: Search, round: int) -> None:
    """Write the proposals of a round.

    Raises:
        FileNotFoundError: an earlier round it builds on is not there yet.
    """
    known = round - search.experiment.budget.lag + 1
    history = read_history(search.folder, range(max(0, known)))
    pending = [
        proposal for earlier in range(max(0, known), round) for proposal in read_proposals(search.folder, earlier)
    ]
    began = time.perf_counter(), time.process_time()
    proposals = propose(search, round, history, pending)
    took = {"seconds": time.perf_counter() - began[0], "cpu_seconds": time.process_time() - began[1]}
    if round == 0:
        write_json(search.folder.settings, settings_of(search.experiment, search.label))
    write_json(search.folder.proposing(round), took)
    write_json(search.folder.proposals(round), [proposal.model_dump(mode="json") for proposal in proposals])


# --- evaluate --------------------------------------------------------------------------------------


GetBench = Callable[[], "Bench"]
"""Loads data and takes a device at the first call, so that a job with nothing to do needs neither."""


@contextmanager
def lazy_bench(experiment: Experiment, *, finalists: bool = False) -> Iterator[GetBench]:
    """The bench of a job; its device is free again afterwards."""
    with ExitStack() as stack:

        @cache
        def bench() -> Bench:
            from nas_lib.evaluation import meters, training
            from nas_lib.evaluation.candidate import Bench
            from nas_lib.evaluation.devices import claimed

            resources = experiment.resources
            claim = stack.enter_context(claimed(resources.devices, resources.gpu_slots))
            device = training.prepare_device(claim.device, resources.threads)
            data = experiment.task.for_finalists() if finalists else experiment.task.for_search()
            return Bench(
                space=experiment.architectures,
                data=training.to_device(data, device),
                shape=data.shape,
                training=experiment.finalist_training if finalists else experiment.training,
                latency=experiment.latency,
                source=data if scores_among(experiment.objective_names) else None,
                objectives=experiment.objective_names,
                limits=experiment.limits,
                schedule_epochs=experiment.finalists.epochs if finalists else experiment.budget.epochs,
                time_limit=None if finalists else experiment.budget.time_limit,
                claim=claim,
                counters=meters.counters(claim.device),
            )

        yield bench


def evaluate_job(search: Search, round: int, job: int, bench: GetBench, attempt: int = 1) -> None:
    """Evaluate the proposals of a round whose slot is `job` modulo the number of jobs, and write them.

    Each finished evaluation is on disk at once; a job that is run again goes on after the last one.
    """

    scorer = replace(scorer_of(search), data=lambda: cast(Data, bench().source))

    def run(proposal: Proposal) -> Evaluation:
        from nas_lib.evaluation import candidate

        work = search.folder.work(proposal.candidate)
        start = warm_start_of(search.folder, proposal)
        continued = start is not None and proposal.continues(start)
        begins_with = [] if start is None or continued else [start.candidate, *proposal.parents[1:]]
        return candidate.evaluate(
            bench(),
            proposal,
            seed=seed_of(search.seed, "train", *_begun_as(search.folder, proposal)),
            checkpoint=checkpoint_of(work),
            continued=checkpoint_of(search.folder.work(start.candidate)) if start and continued else None,
            parents=[checkpoint_of(search.folder.work(parent)) for parent in begins_with],
            scorer=scorer,
            on_epoch=lambda progress: report_epoch(work, proposal, progress),
        )

    evaluations = [
        once(search.folder.work(proposal.candidate), proposal, run, attempt, keep=search.keeps_weights)
        for proposal in read_proposals(search.folder, round)
        if proposal.slot % search.experiment.budget.jobs == job and proposal.duplicate_of is None
    ]
    write_records(search.folder.job(round, job), evaluations)


def _begun_as(folder: SearchFolder, proposal: Proposal) -> Candidate:
    """The candidate whose training a proposal continues, over all warm starts: they have one stream of randomness."""
    while (before := warm_start_of(folder, proposal)) is not None and proposal.continues(before):
        proposal = before
    return proposal.candidate


def warm_start_of(folder: SearchFolder, proposal: Proposal) -> Proposal | None:
    """The proposal whose training another continues, or with whose weights it begins."""
    if proposal.warm_start is None:
        return None
    round, slot = proposal.warm_start
    return read_proposals(folder, round)[slot]


def checkpoint_of(work: Path) -> Path:
    """Where the training of a candidate can be continued."""
    return work / "checkpoint.pt"


def once(
    work: Path, proposal: Proposal, run: Callable[[Proposal], Evaluation], attempt: int = 1, keep: bool = False
) -> Evaluation:
    """The evaluation of a proposal, made exactly once however many processes ask for it.

    A lock per candidate is held while it is trained; the operating system frees it when its owner dies. Whoever gets it
    then finds the result, or continues from the last checkpoint.
    """
    done = finished(work, proposal)
    if done is not None:
        return done
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        owner = _read(work / "owner") or "another process"
        log.warning("candidate %s is being trained by %s: waiting for it", proposal.candidate, owner)
        lock.acquire()
    try:
        done = finished(work, proposal)
        if done is not None:
            return done
        if (work / "evaluation.json").exists():
            log.warning("%s/evaluation.json is damaged or of another proposal: it is made anew", work)
        write_text(work / "owner", f"process {os.getpid()} on {os.uname().nodename}")
        given_up = _given_up(work, proposal, attempt)
        try:
            result = given_up or run(proposal)
        except Exception:
            # Data, device or disk, not the candidate, which returns its own failures: no death of its process.
            (work / "attempt.json").unlink(missing_ok=True)
            raise
        write_text(work / "evaluation.json", result.model_dump_json() + "\n")
        for name in ("epoch.json", "attempt.json", "owner", *(() if keep else ("checkpoint.pt",))):
            (work / name).unlink(missing_ok=True)
        log.info("candidate %s: %s", proposal.candidate, result.reason or "ok")
        return result
    finally:
        lock.release()


def _given_up(work: Path, proposal: Proposal, attempt: int) -> Evaluation | None:
    """A failure where the process died in every attempt at this candidate without finishing an epoch in between."""
    epoch = _epoch(work)
    before = json.loads(_read(work / "attempt.json") or "{}")
    died = 1 + before.get("died", 0) if before and attempt > 1 and before["epoch"] == epoch else 0
    write_json(work / "attempt.json", {"epoch": epoch, "died": died})
    if died + 1 < ATTEMPTS:
        return None
    reason = f"its process died {died} times in a row without finishing an epoch (out of memory?)"
    return Evaluation(proposal=proposal, status="failed", reason=reason, cost=Cost(finished=time.time()))


def finished(work: Path, proposal: Proposal) -> Evaluation | None:
    """The evaluation of a proposal; None where there is none, or only a damaged one or one of another proposal."""
    try:
        evaluation = Evaluation.model_validate_json((work / "evaluation.json").read_text())
    except (FileNotFoundError, ValidationError):
        return None
    return evaluation if evaluation.proposal == proposal else None


def report_epoch(work: Path, proposal: Proposal, progress: Progress) -> None:
    """Leave a note of how far a training is, for the progress display."""
    note = json.dumps({"epoch": progress.epoch, "epochs": proposal.epochs})
    write_text(work / "epoch.json", note, durable=False)


def _epoch(work: Path) -> int:
    return int(json.loads(_read(work / "epoch.json") or '{"epoch": 0}')["epoch"])


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


# --- history ---------------------------------------------------------------------------------------


def read_proposals(folder: SearchFolder, round: int) -> list[Proposal]:
    """The proposals of a round, in the order of their slots."""
    return [Proposal.model_validate(entry) for entry in json.loads(folder.proposals(round).read_text())]


def read_history(folder: SearchFolder, rounds: Iterable[int], *, partial: bool = False) -> History:
    """The evaluations of some rounds; a duplicate gets the result of its original, at no cost.

    With `partial` what is not finished yet is left out.

    Raises:
        FileNotFoundError: without `partial`, an evaluation is missing.
    """
    found: dict[Candidate, Evaluation] = {}
    for round in rounds:
        if partial and not folder.proposals(round).exists():
            continue
        written = cache(partial_of(_written, folder, round))
        for proposal in read_proposals(folder, round):
            if proposal.duplicate_of is None:
                evaluation = finished(folder.work(proposal.candidate), proposal) or written().get(proposal.candidate)
            else:
                original = found.get(proposal.duplicate_of)
                evaluation = original and original.model_copy(update={"proposal": proposal, "cost": Cost()})
            if evaluation is not None:
                found[proposal.candidate] = evaluation
            elif not partial:
                raise FileNotFoundError(f"candidate {proposal.candidate} of {folder.path} is not evaluated yet")
    return list(found.values())


def _written(folder: SearchFolder, round: int) -> dict[Candidate, Evaluation]:
    """What the jobs of a round have written: all that is left where the candidates' own folders were cleaned away."""
    lines = [line for path in folder.round(round).glob("job-*.jsonl") for line in path.read_text().splitlines()]
    evaluations = [Evaluation.model_validate_json(line) for line in lines]
    return {evaluation.proposal.candidate: evaluation for evaluation in evaluations}


def collect(search: Search) -> None:
    """Write the whole history as a table, and its front."""
    experiment = search.experiment
    history = read_history(search.folder, range(experiment.budget.rounds))
    write_frame(search.folder.history, table(history))
    members = pareto.front(history, experiment.objective_names)
    write_json(search.folder.front, [member.model_dump(mode="json") for member in members])


def table(history: History) -> pd.DataFrame:
    """One row per evaluation; nested parts as JSON, one column per objective and metric."""
    import pandas as pd

    rows = []
    for evaluation in history:
        proposal = evaluation.proposal
        rows.append(
            {
                "round": proposal.round,
                "slot": proposal.slot,
                "hash": proposal.hash,
                "epochs": proposal.epochs,
                "origin": proposal.origin,
                "warm_start": json.dumps(proposal.warm_start),
                "parents": json.dumps(proposal.parents),
                "changes": json.dumps(proposal.changes),
                "bracket": proposal.bracket,
                "full": proposal.full,
                "duplicate_of": json.dumps(proposal.duplicate_of),
                "status": evaluation.status,
                "reason": evaluation.reason,
                "feasible": evaluation.feasible,
                **{f"objective.{name}": value for name, value in evaluation.objectives.items()},
                **{f"constraint.{name}": value for name, value in evaluation.constraints.items()},
                **{f"metric.{name}": value for name, value in evaluation.metrics.items()},
                **{f"score.{name}": value for name, value in proposal.scores.items()},
                "genotype": json.dumps(proposal.genotype),
                "curves": json.dumps(evaluation.curves),
                "wall_clock": json.dumps(evaluation.wall_clock),
                **{f"cost.{name}": value for name, value in evaluation.cost.model_dump().items()},
            }
        )
    return pd.DataFrame(rows)


def run_inline(search: Search, attempt: int = 1) -> None:
    """All rounds of a search in this process. What is finished already is not done again."""
    budget = search.experiment.budget
    with lazy_bench(search.experiment) as bench:
        for round in range(budget.rounds):
            if not search.folder.proposals(round).exists():
                propose_round(search, round)
            for job in range(budget.jobs):
                evaluate_job(search, round, job, bench, attempt)
    collect(search)


# --- finalists -------------------------------------------------------------------------------------


def select_finalists(search: Search) -> None:
    """Choose which members of the front are retrained: those that together keep most of its hypervolume.

    Members beyond the reference point keep none. Of known networks all are chosen, whether they are on their front or
    not: they are what others are held against.
    """
    experiment = search.experiment
    count, names = experiment.finalists.count, experiment.objective_names
    history = read_history(search.folder, range(experiment.budget.rounds))
    if isinstance(experiment.strategy(search.label), KnownNetworks):
        chosen = [evaluation for evaluation in history if evaluation.ok][:count]
    else:
        scale = pareto.scale_of([history], names, [objective.reference for objective in experiment.objectives])
        members = _evaluations_in(search.folder.front)
        chosen = pareto.spread_selection(members, names, count, scale.reference if scale else None)
    write_json(search.folder.finalists, [evaluation.model_dump(mode="json") for evaluation in chosen])


def _evaluations_in(path: Path) -> History:
    return [Evaluation.model_validate(entry) for entry in json.loads(path.read_text())]


def retrain_finalist(search: Search, rank: int, bench: GetBench, attempt: int = 1) -> None:
    """Retrain the finalist of a rank from scratch and test it: `draws` networks, each `repeats` times.

    Draw 0 is the network that the search chose; the others are fresh draws of its generator. The weights of its first
    training that succeeds are kept: the test split has no part in which that is.
    """
    _train_finalist(search, rank, bench, attempt, "retrain", search.folder.weights(rank))


def transfer_finalist(search: Search, rank: int, bench: GetBench, attempt: int = 1) -> None:
    """The same on the second data set, with a bench of `Experiment.carried`; no weights are kept."""
    carried = replace(search, experiment=search.experiment.carried)
    settings = settings_of(carried.experiment, search.label)
    # In the proposal, so that results made with other settings are not taken for these.
    digest = hashlib.blake2b(json.dumps([settings["task"], settings["training"]]).encode(), digest_size=4).hexdigest()
    origin = f"transfer to {carried.experiment.task.name} ({digest})"
    _train_finalist(carried, rank, bench, attempt, origin, transfer=True)


def _train_finalist(
    search: Search,
    rank: int,
    bench: GetBench,
    attempt: int,
    origin: str,
    weights: Path | None = None,
    transfer: bool = False,
) -> None:
    settings = search.experiment.finalists
    target = search.folder.transfer(rank) if transfer else search.folder.finalist(rank)
    selection = _evaluations_in(search.folder.finalists)
    if rank >= len(selection):
        write_records(target, [Finalist(rank=rank, chosen=None)])
        return
    chosen = selection[rank]

    repeats: list[Evaluation] = []
    for draw, repeat in product(range(settings.draws), range(settings.repeats)):
        genotype, space = chosen.proposal.genotype, search.experiment.architectures
        if draw > 0:
            genotype = space.redraw(genotype, generator(search.seed, "finalist draw", chosen.proposal.hash, draw))
        proposal = Proposal(
            round=chosen.proposal.round,
            slot=repeat,
            genotype=genotype,
            hash=space.hash(genotype) if draw > 0 else chosen.proposal.hash,
            epochs=settings.epochs,
            origin=origin,
        )
        work = search.folder.retraining(rank, draw, repeat, transfer=transfer)
        # Networks of one generator may be equal: seeds are addressed by the finalist and the draw.
        purpose = "transfer" if transfer else "retrain"
        seed = seed_of(search.seed, purpose, chosen.proposal.hash, draw, repeat)
        kept = weights if draw == 0 and not any(earlier.ok for earlier in repeats) else None
        repeats.append(once(work, proposal, partial_of(_retrain, bench, work, seed, kept), attempt))
    write_records(target, [Finalist(rank=rank, chosen=chosen, repeats=repeats)])


def _retrain(bench: GetBench, work: Path, seed: int, weights: Path | None, proposal: Proposal) -> Evaluation:
    from nas_lib.evaluation import candidate

    return candidate.retrain(
        bench(),
        proposal,
        seed=seed,
        checkpoint=checkpoint_of(work),
        weights=weights,
        on_epoch=lambda progress: report_epoch(work, proposal, progress),
    )


def read_finalists(search: Search, *, transfer: bool = False) -> list[Finalist]:
    """The finalists of a search that have been retrained so far, best first in the first objective.

    With `transfer` those trained on the second data set.
    """
    if transfer and search.experiment.transfer is None:
        return []
    path = search.folder.transfer if transfer else search.folder.finalist
    paths = [path(rank) for rank in range(search.experiment.finalists.count)]
    finalists = [Finalist.model_validate_json(path.read_text()) for path in paths if path.exists()]
    return [finalist for finalist in finalists if finalist.chosen is not None]
