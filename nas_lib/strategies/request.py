"""What a strategy is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from nas_lib.records import Candidate, Genotype, History, Proposal

if TYPE_CHECKING:
    from nas_lib.spaces import Space
    from nas_lib.strategies.settings import Filter


@dataclass(frozen=True)
class Plan:
    """What a search may spend."""

    rounds: int
    proposals: int
    """Most suggestions of a round."""
    lag: int
    """The suggestions of round r are made from the rounds up to r - lag."""
    epochs: int
    """Fidelity of a full evaluation."""


@dataclass(frozen=True)
class Request:
    """One call of a strategy: what is known, and what is wanted."""

    space: Space
    objectives: Sequence[str]
    """Names of the objectives, all minimised."""
    history: History
    """Finished evaluations it may learn from, in order, failed ones included."""
    pending: Sequence[Proposal]
    """Proposals made earlier whose evaluations are not in `history` yet."""
    round: int
    count: int
    """How many suggestions are wanted: one per slot 0 .. count - 1 of the round."""
    plan: Plan
    rng: Callable[..., np.random.Generator]
    """`rng(purpose, *where)`: the generator for this place; equal places give equal draws. What is drawn
    at `rng("initial", round, slot)` is shared by all strategies of one seed."""
    references: Sequence[float | None] = ()
    """Reference value of each objective, None where it is to be inferred; empty means None for all."""
    exact: Mapping[str, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)
    """Objectives that cost nothing to compute: name -> option numbers (n, d) to values (n,). For spaces of genes."""
    score: Callable[[Sequence[Genotype], Sequence[str]], np.ndarray] | None = None
    """Genotypes and names of scores without training -> values (n, k), higher is better, not finite where a score does
    not apply or fails; equal questions have equal answers. None: nothing can be scored here."""
    free_scores: bool = False
    """Whether scores cost nothing, as those of a table: strategies may ask for those of thousands of architectures."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Constrained figure -> its largest allowed value. `Evaluation.constraints` holds by how much it is exceeded."""


@dataclass(frozen=True)
class Suggestion:
    """A genotype a strategy wants evaluated."""

    genotype: Genotype
    origin: str
    epochs: int | None = None
    """Fidelity; None means the plan's full `epochs`."""
    warm_start: Candidate | None = None
    """The evaluation whose training it continues at a higher fidelity, or the parent whose weights it begins with."""
    parents: Sequence[Candidate] = ()
    """The evaluation whose architecture was changed into it, then the one it was crossed with, if there is one."""
    changes: Sequence[dict[str, Any]] = ()
    """How the parent was changed into it, as the space tells it."""
    bracket: int | None = None
    """Number of the bracket whose candidates compete with it."""
    predicted: Mapping[str, float] = field(default_factory=dict)
    """What the strategy expects of objectives: name -> value. Empty where it expects nothing."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Finite scores without training by which it was chosen: name -> value, higher is better."""


class Strategy(Protocol):
    """What every strategy offers."""

    @property
    def name(self) -> str:
        """Name of the strategy in configurations."""

    @property
    def filter(self) -> Filter | None:
        """Which of its suggestions are kept before training; None: all."""

    needs: ClassVar[frozenset[str]]
    """Operators the space must offer."""
    objectives: ClassVar[tuple[int, int | None]]
    """Fewest and most objectives it can handle (None: no limit)."""
    keeps_weights: ClassVar[bool]
    """Whether it proposes warm starts, so that trained weights must be kept."""

    def propose(self, request: Request) -> list[Suggestion]:
        """At most `request.count` suggestions; fewer when it has finished. A pure function of the request."""
