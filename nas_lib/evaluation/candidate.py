"""One candidate from proposal to evaluation: build, train, measure. Whatever goes wrong becomes a result."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from nas_lib.evaluation import measures, training
from nas_lib.evaluation.classifier import Classifier, save_classifier
from nas_lib.evaluation.settings import Latency, Training
from nas_lib.randomness import seed_of
from nas_lib.records import Cost, Evaluation, Proposal
from nas_lib.spaces import Space, TooLargeError
from nas_lib.tasks.data import Shape

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bench:
    """Everything the evaluations of one job share: data on the device and settings."""

    space: Space
    data: training.DeviceData
    shape: Shape
    training: Training
    latency: Latency
    objectives: Sequence[str]
    limits: Mapping[str, float]
    """Constrained figure -> its largest allowed value."""
    schedule_epochs: int
    """Epochs over which the learning rate falls to 0."""
    time_limit: float | None = None


def evaluate(
    bench: Bench,
    proposal: Proposal,
    *,
    seed: int,
    checkpoint: Path,
    inherit: Path | None = None,
    on_epoch: Callable[[training.Progress], None] = lambda _: None,
) -> Evaluation:
    """Train a proposal on the training split and measure its objectives on the validation split.

    `checkpoint` is where its training continues after a kill; `inherit` is the finished checkpoint of its warm start.
    Every failure is returned as an evaluation with its reason.
    """
    return _recorded(proposal, lambda: _evaluate(bench, proposal, seed, checkpoint, inherit, on_epoch))


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

    `bench.data` is the finalists' data: training and validation images together, test images held out. `weights` is
    where the trained network is written, as a `Classifier`.
    """

    def run() -> Evaluation:
        network, progress = _trained(bench, proposal, seed, checkpoint, None, on_epoch, validate=False)
        error, loss = training.measure(network, bench.data.held_out, bench.data, bench.training)
        if weights is not None:
            save_classifier(weights, Classifier(network, bench.data.mean, bench.data.std), identity(proposal))
        return Evaluation(
            proposal=proposal,
            status="ok",
            metrics={"test_error": error, "test_loss": loss, **_size(network, bench)},
            wall_clock={"device": measures.device_name(bench.data.train.labels.device)},
            curves=progress.curves,
            cost=Cost(seconds=progress.seconds, epochs=progress.epoch),
        )

    return _recorded(proposal, run)


def _evaluate(
    bench: Bench,
    proposal: Proposal,
    seed: int,
    checkpoint: Path,
    inherit: Path | None,
    on_epoch: Callable[[training.Progress], None],
) -> Evaluation:
    inherited = 0 if inherit is None else training.epochs_in(inherit)
    network, progress = _trained(bench, proposal, seed, checkpoint, inherit, on_epoch, validate=True)
    size = _size(network, bench)
    wall_clock: dict[str, float | int | str] = {"device": measures.device_name(bench.data.train.labels.device)}
    if "latency" in {*bench.objectives, *bench.limits}:
        wall_clock |= measures.latency(network, bench.shape, bench.latency)
    figures = {"error": progress.curves["validation_error"][-1], **size, **wall_clock}
    return Evaluation(
        proposal=proposal,
        status="ok",
        objectives={name: float(figures[name]) for name in bench.objectives},
        constraints={name: float(figures[name]) - limit for name, limit in bench.limits.items()},
        metrics={"error": figures["error"], **size},
        wall_clock=wall_clock,
        curves=progress.curves,
        cost=Cost(seconds=progress.seconds, epochs=progress.epoch - inherited),
    )


def _trained(
    bench: Bench,
    proposal: Proposal,
    seed: int,
    checkpoint: Path,
    inherit: Path | None,
    on_epoch: Callable[[training.Progress], None],
    validate: bool,
) -> tuple[nn.Module, training.Progress]:
    torch.manual_seed(seed_of(seed, "weights"))
    network = bench.space.build(proposal.genotype, bench.shape)
    progress = training.train(
        network,
        bench.data,
        bench.training,
        validation=bench.data.held_out if validate else None,
        epochs=proposal.epochs,
        schedule_epochs=max(bench.schedule_epochs, proposal.epochs),
        seed=seed,
        checkpoint=checkpoint,
        identity=identity(proposal),
        inherit=inherit,
        time_limit=bench.time_limit,
        on_epoch=on_epoch,
    )
    return network, progress


def identity(proposal: Proposal) -> str:
    """What a checkpoint must belong to, so that a training may continue from it."""
    return proposal.model_dump_json()


def _size(network: nn.Module, bench: Bench) -> dict[str, int]:
    cost = measures.forward_cost(network, bench.shape)
    return {
        "parameters": measures.parameters(network),
        "flops": cost.flops,
        "activation_memory": cost.activation_memory,
    }


def _recorded(proposal: Proposal, run: Callable[[], Evaluation]) -> Evaluation:
    """The result of `run`, or its failure as a result, with the times at which it began and ended."""
    started = time.time()
    began = time.monotonic()
    try:
        result = run()
    except (training.TrainingError, TooLargeError) as error:
        result = Evaluation(proposal=proposal, status="failed", reason=_one_line(error))
    except (torch.OutOfMemoryError, MemoryError):
        result = Evaluation(proposal=proposal, status="failed", reason="out of memory")
    except OSError:
        raise  # the disk, not the candidate
    except torch.AcceleratorError as error:
        # The device context is gone, and every later candidate of this process would fail: a new one must go on.
        raise SystemExit(f"candidate {proposal.candidate}: {_one_line(error)}") from error
    except Exception as error:
        # A candidate that breaks in an unforeseen way must not stop the search; the log keeps the traceback.
        log.exception("candidate %s", proposal.candidate)
        memory = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
        reason = "out of memory" if memory else f"{type(error).__name__}: {_one_line(error)}"
        result = Evaluation(proposal=proposal, status="failed", reason=reason)
    with contextlib.suppress(RuntimeError):
        torch.cuda.empty_cache()
    cost = result.cost if result.ok else Cost(seconds=time.monotonic() - began)
    return result.model_copy(update={"cost": cost.model_copy(update={"started": started, "finished": time.time()})})


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
