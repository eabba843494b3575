"""The nouns of a search as plain data: proposal, evaluation, history.

Everything here is JSON-able and knows nothing of spaces, strategies or training.
"""

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
    """Fidelity: epochs this candidate is trained for, those inherited by `warm_start` included."""
    origin: str = ""
    """How the strategy came to it, for example `initial` or `expected improvement`."""
    warm_start: Candidate | None = None
    """The evaluation whose training it continues, with the same architecture at a higher fidelity."""
    duplicate_of: Candidate | None = None
    """An earlier proposal of the same architecture at the same fidelity: it is not trained again."""

    @property
    def candidate(self) -> Candidate:
        """Its address within the search."""
        return (self.round, self.slot)


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


History = list[Evaluation]
"""Evaluations of one search in the order of (round, slot)."""

WALL_CLOCK_FIELDS = frozenset({"cost", "wall_clock"})


def without_wall_clock(evaluation: Evaluation) -> dict[str, Any]:
    """The part of an evaluation that two equal runs share bit for bit.

    Objectives that are themselves measured times (latency) are the exception: their
    name is listed in `wall_clock`, and they are left out here.
    """
    record = evaluation.model_dump(mode="json", exclude=set(WALL_CLOCK_FIELDS))
    record["objectives"] = {
        name: value for name, value in evaluation.objectives.items() if name not in evaluation.wall_clock
    }
    return record


class Finalist(Record):
    """A member of a search's front, retrained from scratch several times and tested."""

    rank: int
    chosen: Evaluation | None
    """What the search knew of it; None where the front had fewer members than finalists were asked for."""
    repeats: list[Evaluation] = Field(default_factory=list)
    """One per training. `metrics["test_error"]` and `metrics["test_loss"]` are of the test split."""
