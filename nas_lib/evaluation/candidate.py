"""One candidate from proposal to evaluation: build, train, measure. Whatever goes wrong becomes a result."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from nas_lib.evaluation import measures, training
from nas_lib.evaluation.deployed import save_model
from nas_lib.evaluation.devices import Claim
from nas_lib.evaluation.meters import Counter, Meter
from nas_lib.evaluation.modality import DeviceData, Part
from nas_lib.evaluation.objectives import needs_training
from nas_lib.evaluation.scoring import NotScoredError, Scorer
from nas_lib.evaluation.settings import Latency, Training
from nas_lib.randomness import seed_of
from nas_lib.records import Cost, Evaluation, Genotype, Proposal
from nas_lib.spaces import Inheriting, Sized, Space, TooLargeError
from nas_lib.tasks.data import Data, SequenceShape, Shape

log = logging.getLogger(__name__)
OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True)
class Bench:
    """Everything the evaluations of one job share: data on the device and settings."""

    space: Space
    data: DeviceData
    shape: Shape | SequenceShape
    training: Training
    latency: Latency
    objectives: Sequence[str]
    limits: Mapping[str, float]
    """Constrained figure -> its largest allowed value."""
    schedule_epochs: int
    """Epochs over which the learning rate falls to 0."""
    time_limit: float | None = None
    source: Data | None = None
    """The data as they were read, where scores are objectives."""
    claim: Claim | None = None
    """The slot of the device; None: the device is not shared with anybody who asks for one."""
    counters: Sequence[Counter] = ()
    """Of the energy of the device."""


def evaluate(
    bench: Bench,
    proposal: Proposal,
    *,
    seed: int,
    checkpoint: Path,
    continued: Path | None = None,
    parents: Sequence[Path] = (),
    scorer: Scorer | None = None,
    on_epoch: Callable[[training.Progress], None] = lambda _: None,
) -> Evaluation:
    """Train a proposal on the training split and measure its objectives on the validation split.

    It is not trained where neither objectives nor constraints need that. `scorer` is what objectives that are scores
    come from.

    `checkpoint` is where its training continues after a kill; `continued` is the finished checkpoint of a shorter
    training of the same network, `parents` those of the networks with whose weights it begins, the first one first.
    Every failure is returned as an evaluation with its reason.
    """

    def run(meter: Meter) -> Evaluation:
        scored = scorer.objectives(proposal.genotype, bench.objectives) if scorer else {}
        if not needs_training([*bench.objectives, *bench.limits]):
            return _untrained(bench, proposal, scored, meter)
        return _evaluate(bench, proposal, seed, checkpoint, continued, parents, on_epoch, meter, scored)

    return _recorded(bench, proposal, run)


def retrain(
    bench: Bench,
    proposal: Proposal,
    *,
    seed: int,
    checkpoint: Path,
    weights: Path | None = None,
    on_epoch: Callable[[training.Progress], None] = lambda _: None,
) -> Evaluation:
    """Train a finalist from scratch and read the test split once, at the end.

    `bench.data` is the finalists' data, with the test split held out. `weights` is where the trained network is
    written, as others use it.
    """

    def run(meter: Meter) -> Evaluation:
        torch.manual_seed(seed_of(seed, "weights"))
        network = bench.space.build(proposal.genotype, bench.shape)
        watched: Part | None = "validation" if bench.data.has_validation else None
        progress = _train(bench, network, proposal, seed, checkpoint, on_epoch, meter, watched=watched)
        measured = bench.data.measure(network, "held_out", bench.training)
        further = bench.data.further(network, bench.training)
        if weights is not None:
            save_model(weights, bench.data.deployed(network), identity(proposal))
        return Evaluation(
            proposal=proposal,
            status="ok",
            metrics={f"test_{name}": value for name, value in measured.items()}
            | further
            | _size(network, bench, proposal.genotype),
            wall_clock={"device": measures.device_name(bench.data.device)},
            curves=progress.curves,
            cost=Cost(seconds=progress.seconds, epochs=progress.epoch, **progress.usage._asdict()),
        )

    return _recorded(bench, proposal, run)


def _evaluate(
    bench: Bench,
    proposal: Proposal,
    seed: int,
    checkpoint: Path,
    continued: Path | None,
    parents: Sequence[Path],
    on_epoch: Callable[[training.Progress], None],
    meter: Meter,
    scored: Mapping[str, float],
) -> Evaluation:
    torch.manual_seed(seed_of(seed, "weights"))
    network = bench.space.build(proposal.genotype, bench.shape)
    epochs, notes = _inherit(bench, network, proposal, parents) if parents else (proposal.epochs, {})
    trained_before = 0 if continued is None else training.epochs_in(continued)
    progress = _train(
        bench,
        network,
        proposal,
        seed,
        checkpoint,
        on_epoch,
        meter,
        watched="held_out",
        epochs=epochs,
        continued=continued,
    )
    measured = progress.measured(bench.training)
    result = _costs(bench, proposal, network, {**measured, **scored})
    further = bench.data.further(network, bench.training)
    return result.model_copy(
        update={
            "metrics": {**measured, **further, **result.metrics, **notes},
            "curves": progress.curves,
            "cost": Cost(seconds=progress.seconds, epochs=progress.epoch - trained_before, **progress.usage._asdict()),
        }
    )


def _untrained(bench: Bench, proposal: Proposal, scored: Mapping[str, float], meter: Meter) -> Evaluation:
    """What is known of a network without training it."""
    began = time.monotonic()
    network = bench.space.build(proposal.genotype, bench.shape)
    training.move(network, bench.data.device)
    result = _costs(bench, proposal, network, scored)
    cost = Cost(seconds=time.monotonic() - began, **meter.usage()._asdict())
    return result.model_copy(update={"cost": cost})


def _costs(bench: Bench, proposal: Proposal, network: nn.Module, known: Mapping[str, float]) -> Evaluation:
    """An evaluation with the objectives and constraints that are `known` or do not depend on training."""
    size = _size(network, bench, proposal.genotype)
    wall_clock: dict[str, float | int | str] = {"device": measures.device_name(bench.data.device)}
    if "latency" in {*bench.objectives, *bench.limits}:
        wall_clock |= measures.latency(network, bench.shape, bench.latency)
    figures = {**known, **size, **wall_clock}
    return Evaluation(
        proposal=proposal,
        status="ok",
        objectives={name: float(figures[name]) for name in bench.objectives},
        constraints={name: float(figures[name]) - limit for name, limit in bench.limits.items()},
        metrics=size,
        wall_clock=wall_clock,
    )


def _inherit(
    bench: Bench, network: nn.Module, proposal: Proposal, parents: Sequence[Path]
) -> tuple[int, dict[str, float | int]]:
    """Give a network what fits of its parents' weights; for how many epochs it is then trained, and why.

    What both have is the first parent's, with whose figures the network is compared. A training that continues after a
    kill comes here again and finds the same.
    """
    space = cast(Inheriting, bench.space)
    for mate in parents[1:]:
        space.inherit(training.inherited(mate)[0], network, ())
    state, figures = training.inherited(parents[0])
    space.inherit(state, network, proposal.changes)
    rule = bench.training.early_stop
    if rule is None:
        return proposal.epochs, {}
    training.move(network, bench.data.device)
    before = bench.data.measure(network, "held_out", bench.training)[rule.figure]
    near = before - figures[rule.figure] < rule.threshold  # false for NaN
    epochs = min(rule.short_epochs, proposal.epochs) if near else proposal.epochs
    notes = {f"parent_{rule.figure}": figures[rule.figure], "trained_epochs": epochs}
    return epochs, notes | ({f"inherited_{rule.figure}": before} if math.isfinite(before) else {})


def _train(
    bench: Bench,
    network: nn.Module,
    proposal: Proposal,
    seed: int,
    checkpoint: Path,
    on_epoch: Callable[[training.Progress], None],
    meter: Meter,
    *,
    watched: Part | None,
    epochs: int | None = None,
    continued: Path | None = None,
) -> training.Progress:
    """Train a network that is built; fewer `epochs` than proposed have a schedule of their own."""
    epochs = epochs or proposal.epochs
    return training.train(
        network,
        bench.data,
        bench.training,
        watched=watched,
        epochs=epochs,
        schedule_epochs=epochs if epochs < proposal.epochs else max(bench.schedule_epochs, epochs),
        seed=seed,
        checkpoint=checkpoint,
        identity=identity(proposal),
        continued=continued,
        time_limit=bench.time_limit,
        on_epoch=on_epoch,
        usage=meter.usage,
    )


def identity(proposal: Proposal) -> str:
    """What a checkpoint must belong to, so that a training may continue from it."""
    # Without what it did not have when the first weights were kept.
    later = ("parents", "changes", "scores")
    return proposal.model_dump_json(exclude={name for name in later if not getattr(proposal, name)})


def _size(network: nn.Module, bench: Bench, genotype: Genotype) -> dict[str, float | int]:
    cost = measures.forward_cost(network, bench.shape)
    space = bench.space
    counted = cast(Sized, space).size(genotype) if "size" in space.operators() else {}
    return dict(counted) | {
        "parameters": measures.parameters(network),
        "flops": cost.flops,
        "activation_memory": cost.activation_memory,
    }


def _recorded(bench: Bench, proposal: Proposal, run: Callable[[Meter], Evaluation]) -> Evaluation:
    """The result of `run` where it has room, or its failure as a result."""
    if bench.claim is None or bench.claim.device == "cpu":
        return _attempt(bench, proposal, run)
    device = bench.data.device
    return with_room(
        bench.claim,
        needed=lambda: _memory_needed(bench, proposal),
        free=lambda: torch.cuda.mem_get_info(device)[0],
        run=lambda: _attempt(bench, proposal, run),
    )


def with_room(
    claim: Claim, needed: Callable[[], int], free: Callable[[], int], run: Callable[[], Evaluation]
) -> Evaluation:
    """Run beside the other jobs of a device where there is room, and else alone.

    `needed` and `free` are bytes; they are asked only where there may be other jobs. What runs out of memory beside
    others is run once more, alone.
    """
    if claim.slots == 1:
        return run()
    if needed() > free():
        log.info("there is no room for it beside the other jobs on %s: waiting to be alone", claim.device)
        with claim.alone():
            return run()
    was_alone = claim.witness()
    result = run()
    if result.reason != OUT_OF_MEMORY or was_alone():
        return result
    log.warning("out of memory beside the other jobs on %s: once more, alone", claim.device)
    with claim.alone():
        result = run()
    return result.model_copy(update={"wall_clock": {**result.wall_clock, "retried": "out of memory beside other jobs"}})


def _memory_needed(bench: Bench, proposal: Proposal) -> int:
    """See `measures.training_memory`; 0 for a network that cannot be built, which its attempt will say."""
    try:
        with torch.device("meta"):
            network = bench.space.build(proposal.genotype, bench.shape)
    except TooLargeError:
        return 0
    data, settings = bench.data, bench.training
    return measures.training_memory(network, bench.shape, settings, data.evaluation_batch, data.time_steps(settings))


def _attempt(bench: Bench, proposal: Proposal, run: Callable[[Meter], Evaluation]) -> Evaluation:
    """The result of `run`, or its failure as a result, with its cost."""
    started = time.time()
    began = time.monotonic()
    meter = Meter(bench.claim, bench.counters)
    try:
        result = run(meter)
    except (training.TrainingError, TooLargeError, NotScoredError) as error:
        result = Evaluation(proposal=proposal, status="failed", reason=_one_line(error))
    except (torch.OutOfMemoryError, MemoryError):
        result = Evaluation(proposal=proposal, status="failed", reason=OUT_OF_MEMORY)
    except OSError:
        raise  # the disk, not the candidate
    except torch.AcceleratorError as error:
        # The device context is gone, and every later candidate of this process would fail: a new one must go on.
        raise SystemExit(f"candidate {proposal.candidate}: {_one_line(error)}") from error
    except Exception as error:
        # A candidate that breaks in an unforeseen way must not stop the search; the log keeps the traceback.
        log.exception("candidate %s", proposal.candidate)
        memory = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
        reason = OUT_OF_MEMORY if memory else f"{type(error).__name__}: {_one_line(error)}"
        result = Evaluation(proposal=proposal, status="failed", reason=reason)
    with contextlib.suppress(RuntimeError):
        torch.cuda.empty_cache()
    cost = result.cost if result.ok else Cost(seconds=time.monotonic() - began, **meter.usage()._asdict())
    return result.model_copy(update={"cost": cost.model_copy(update={"started": started, "finished": time.time()})})


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
