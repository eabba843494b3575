"""The objectives a search can minimise, with their units.

To add an objective: one line here, and its measurement in `measures.py`. Scores without training need none.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from nas_lib.scores.names import NAMES
from nas_lib.settings import Settings

FigureName = Literal["error", "loss", "perplexity", "parameters", "blocks", "flops", "activation_memory", "latency"]
NEGATED = "negated_"
"""Scores are the better the higher, so objectives are their negatives, and say so."""

MEASURES = frozenset({"error", "loss", "perplexity"})
"""Those that are measured on a split; which of them there are is up to the task. The others are costs."""


@dataclass(frozen=True)
class Quantity:
    """What an objective measures, for axes and tables."""

    title: str
    unit: str
    wall_clock: bool = False
    """Whether it is a measured time, so that two equal runs differ in it."""

    @property
    def axis(self) -> str:
        """Label of an axis."""
        return f"{self.title} ({self.unit})"


QUANTITIES: dict[str, Quantity] = {
    "error": Quantity("Validation error", "share"),
    "loss": Quantity("Validation loss", "mean"),
    "perplexity": Quantity("Validation perplexity", "per token"),
    "parameters": Quantity("Parameters", "count"),
    "blocks": Quantity("Blocks", "count"),
    "flops": Quantity("FLOPs of one forward pass", "per image or step"),
    "activation_memory": Quantity("Activation memory", "bytes per image or step"),
    "latency": Quantity("Latency, median", "ms per pass or step", wall_clock=True),
    **{NEGATED + name: Quantity(f"Negated {name.replace('_', ' ')}", "score of a batch") for name in NAMES},
}

if TYPE_CHECKING:
    ObjectiveName = str
else:
    ObjectiveName = Literal[(*QUANTITIES,)]


def scores_among(objectives: Iterable[str]) -> list[str]:
    """The scores without training that are among objectives.

    >>> scores_among(["error", "negated_synflow"])
    ['synflow']
    """
    return [name.removeprefix(NEGATED) for name in objectives if name.startswith(NEGATED)]


def needs_training(figures: Iterable[str]) -> bool:
    """Whether any of the figures is measured on a split, and so of a trained network."""
    return not MEASURES.isdisjoint(figures)


class Objective(Settings):
    """One figure to minimise."""

    name: ObjectiveName
    """`error`: share of validation images misclassified after training, of sequences that are not wholly right, or of
    tokens not expected most. `loss`: what is descended on, on the validation split: cross-entropy in nats, or squared
    error. `perplexity`: of running text, the exponential of that. `parameters`: trainable numbers of the whole
    network. `blocks`: of spaces that count them. `flops`: floating-point operations of one forward pass of one image or
    one time step, two per multiply-add, convolutions and matrix products only. `activation_memory`: bytes of the
    float32 outputs of all layers for one image, or of all operations for one time step. `latency`: median milliseconds
    of one forward pass, of a recurrent network of one time step, see `latency`. All three are of a whole sequence, as
    long as those trained on, for networks that read it at once. `negated_SCORE`: minus a score without training (see
    `scoring`), for scores are the better the higher."""
    reference: float | None = None
    """Reference point of the hypervolume, in the objective's unit: above 0, of a negated score any number. Default: a
    tenth of the range seen beyond the worst value seen, of a loss or perplexity without those far beyond the others."""

    @model_validator(mode="after")
    def _reference_can_be_reached(self) -> Self:
        if self.reference is not None and self.reference <= 0 and not scores_among([self.name]):
            raise ValueError(f"reference is {self.reference:g}, allowed is more than 0")
        return self


class Constraint(Settings):
    """A limit that a network has to keep to be on a front."""

    name: FigureName
    """What is limited: any of the figures that can be objectives but scores, whether or not it is one."""
    at_most: float = Field(gt=0)
    """The largest value that is allowed, in the unit of the figure."""
