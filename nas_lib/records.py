"""The nouns of a search as plain data: proposal, evaluation, history.

Everything here is JSON-able and knows nothing of spaces, strategies or training.
"""

from collections.abc import Sequence
from itertools import groupby
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Genotype = dict[str, Any]
"""A plain, JSON-able description of one architecture in one space."""

Candidate = tuple[int, int]
"""The address of a candidate within its search: (round, slot)."""


class Record(BaseModel):
    """Immutable data that is written to and read from JSON without loss."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Proposal(Record):
    """One candidate to evaluate, as `propose` wrote it."""

    round: int
    slot: int
    genotype: Genotype
    hash: str
    """Canonical hash of the architecture: equal for equal architectures."""
    epochs: int
    """Fidelity: epochs this candidate is trained for, those of a training that it continues included."""
    origin: str = ""
    """How the strategy came to it, for example `initial` or `expected improvement`."""
    warm_start: Candidate | None = None
    """The evaluation whose training it continues, with the same architecture at a higher fidelity; or, of another
    architecture, its parent, from whose trained weights it begins a training of its own."""
    parents: list[Candidate] = Field(default_factory=list)
    """The candidate whose architecture was changed into this one, then the one it was crossed with, if there is one."""
    changes: list[dict[str, Any]] = Field(default_factory=list)
    """How the architecture of the parent was changed into this one, as the space tells it."""
    scores: dict[str, float] = Field(default_factory=dict)
    """Scores without training by which it was chosen before others: name -> value, higher is better."""
    bracket: int | None = None
    """Which candidates compete for a higher fidelity: those of one bracket. None where there is only one fidelity."""
    full: bool = True
    """Whether `epochs` is the fidelity of a full evaluation; only those can be on a front."""
    duplicate_of: Candidate | None = None
    """An earlier proposal of the same architecture at the same fidelity: it is not trained again."""

    @property
    def candidate(self) -> Candidate:
        """Its address within the search."""
        return (self.round, self.slot)

    def continues(self, other: "Proposal") -> bool:
        """Whether a warm start from another proposal goes on with its training, as of the same architecture."""
        return self.warm_start == other.candidate and self.hash == other.hash


class Cost(Record):
    """What an evaluation took. Wall-clock figures: the only part that differs between two equal runs."""

    seconds: float = 0.0
    """Seconds of training and measuring, interrupted attempts included up to their last checkpoint."""
    epochs: int = 0
    """Epochs trained for this candidate (0 for a duplicate)."""
    energy: float | None = None
    """Joules of the device in those seconds; None where no counter says it of this candidate alone."""
    peak_memory: int | None = None
    """Bytes: on CUDA the most its process had in tensors on the device, on the CPU the most that was resident."""
    started: float = 0.0
    """Unix time at which the evaluation began."""
    finished: float = 0.0
    """Unix time at which the evaluation ended."""


class Evaluation(Record):
    """A proposal and what came of it."""

    proposal: Proposal
    status: Literal["ok", "failed"]
    reason: str = ""
    """Why it failed, in one line; empty when it did not."""
    objectives: dict[str, float] = Field(default_factory=dict)
    """Objective name -> value; every objective is minimised. Empty when it failed."""
    constraints: dict[str, float] = Field(default_factory=dict)
    """Constrained figure -> value minus limit: kept where it is 0 or less. Empty when it failed."""
    metrics: dict[str, float | int | str] = Field(default_factory=dict)
    """Further figures about the network, not minimised."""
    wall_clock: dict[str, float | int | str] = Field(default_factory=dict)
    """Measured times and machine facts, which differ between two equal runs."""
    curves: dict[str, list[float]] = Field(default_factory=dict)
    """Per-epoch series, for example `validation_error`; entry i belongs to epoch i + 1."""
    cost: Cost = Cost()

    @property
    def ok(self) -> bool:
        """Whether it has objectives."""
        return self.status == "ok"

    @property
    def counts(self) -> bool:
        """Whether it can be on a front: it is feasible, and a full evaluation."""
        return self.feasible and self.proposal.full

    @property
    def feasible(self) -> bool:
        """Whether it has objectives and keeps every constraint, as it must to be on a front."""
        return self.ok and all(excess <= 0 for excess in self.constraints.values())


History = list[Evaluation]
"""Evaluations of one search in the order of (round, slot)."""

WALL_CLOCK_FIELDS = frozenset({"cost", "wall_clock"})


def without_wall_clock(evaluation: Evaluation) -> dict[str, Any]:
    """The part of an evaluation that two equal runs share bit for bit.

    Objectives and constraints that are themselves measured times (latency) are the exception: their
    name is listed in `wall_clock`, and they are left out here.
    """
    record = evaluation.model_dump(mode="json", exclude=set(WALL_CLOCK_FIELDS))
    for field in ("objectives", "constraints"):
        values = getattr(evaluation, field)
        record[field] = {name: value for name, value in values.items() if name not in evaluation.wall_clock}
    return record


class Finalist(Record):
    """A member of a search's front, retrained from scratch several times and tested."""

    rank: int
    chosen: Evaluation | None
    """What the search knew of it; None where the front had fewer members than finalists were asked for."""
    repeats: list[Evaluation] = Field(default_factory=list)
    """One per training, network by network; those of one network have the same genotype, and the first network is the
    chosen one. What `metrics` call `test_...`, for example `test_error`, is of the test split."""

    @property
    def exported(self) -> Evaluation | None:
        """The training whose weights are kept and exported: the first one of the chosen network that succeeded,
        whatever its test error."""
        return next((repeat for network in networks_of(self.repeats)[:1] for repeat in network if repeat.ok), None)


def networks_of(repeats: Sequence[Evaluation]) -> list[list[Evaluation]]:
    """The trainings of a finalist, network by network."""
    return [list(trainings) for _, trainings in groupby(repeats, key=lambda repeat: repeat.proposal.genotype)]


def sample_tested(repeats: Sequence[Evaluation], measure: str) -> list[float]:
    """The sample of a measure on the test split a finalist's mean and deviation are of, failed trainings left out.

    One per network, its mean over trainings, where there are several networks; else one per training.
    """
    values = [
        [float(repeat.metrics[f"test_{measure}"]) for repeat in network if repeat.ok]
        for network in networks_of(repeats)
    ]
    return values[0] if len(values) == 1 else [fmean(network) for network in values if network]


class ExportedFile(Record):
    """A file in which a finalist leaves the platform, and how it compares with PyTorch."""

    status: Literal["ok", "failed"]
    reason: str = ""
    """Why there is no such file, in one line; empty where there is one."""
    images: int = 0
    """Validation images or sequences it was compared on."""
    largest_difference: float | None = None
    """Largest absolute difference of an output; None where it could not be compared."""
    share_of_tolerance: float | None = None
    """The largest difference as a share of the one allowed: up to 1 is accepted."""
    other_classes: int = 0
    """Images, or steps of sequences, for which another output was the largest."""


class Export(Record):
    """What became of the export of a finalist."""

    rank: int
    status: Literal["ok", "failed", "absent"]
    """`absent`: the front has fewer members. `failed`: some file could not be made, or differs from PyTorch."""
    reason: str = ""
    files: dict[str, ExportedFile] = Field(default_factory=dict)
    """By name, for example `model.onnx`. A file that failed is not there."""

    @property
    def there(self) -> list[str]:
        """Names of the files that were made and accepted."""
        return [name for name, file in self.files.items() if file.status == "ok"]
