"""A problem of the laboratory: architectures whose objectives are known at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nas_lib.settings import UserError
from nas_lib.spaces.genes import GeneSpace, Numbers

Values = NDArray[np.float64]


class ProblemError(UserError):
    """A table cannot be used. The message is one clear line: file, what was found, what is expected."""


@dataclass(frozen=True)
class Problem:
    """What is searched, and what is minimised."""

    name: str
    space: GeneSpace
    objectives: tuple[str, ...]
    """Names, all minimised."""
    evaluate: Callable[[Numbers], Values]
    """Rows of option numbers (n, d) of existing architectures -> objectives (n, m)."""
    reference: Values
    """Reference point of the hypervolume, shape (m,)."""
    front: Values | None = None
    """The exact front (k, m), where it is known."""
    exact: Mapping[str, Callable[[Numbers], Values]] = field(default_factory=dict)
    """Objectives that cost nothing to compute, such as FLOPs: name -> rows (n, d) to values (n,)."""
    scores: Mapping[str, Callable[[Numbers], Values]] = field(default_factory=dict)
    """What networks score without training: name -> rows (n, d) to values (n,), higher is better."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Unit of an objective, where it is known, or that it is negated: for axes."""
