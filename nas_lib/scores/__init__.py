"""Scores of networks without training: one forward and one backward pass of a batch instead of a training.

A score is a line in `catalogue.SCORES`. Scores of one call share passes; what a score needs decides which are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas_lib.settings import UserError

if TYPE_CHECKING:
    from torch import nn

    from nas_lib.scores.batch import Batch


class ScoreError(UserError):
    """A score does not exist, or there is nothing to score on; the message is one line."""


@dataclass(frozen=True)
class Scored:
    """What scores say of one network."""

    values: dict[str, float]
    """Score -> value, higher is better; not finite where the network overflows or shows no variance."""
    inapplicable: dict[str, str]
    """Score -> why it does not apply, in one line."""


def score(network: nn.Module, batch: Batch, names: Sequence[str], seed: int = 0) -> Scored:
    """Score a network as it is on a batch, in evaluation mode, with as few passes as the scores need together.

    The network is left as it was. The same seed gives the same values; global random states are not used.

    Raises:
        ScoreError: a score does not exist.
    """
    import torch

    from nas_lib.scores.catalogue import SCORES
    from nas_lib.scores.passes import NotApplicableError
    from nas_lib.scores.probe import evaluating, probes

    for name in names:
        if name not in SCORES:
            near = get_close_matches(name, SCORES, 1)
            raise ScoreError(f"score {name!r}: allowed are {', '.join(near or SCORES)}")
    values, inapplicable = {}, {}
    with evaluating(network):
        for name, probe in probes(network, batch, {name: SCORES[name].needs for name in names}, seed).items():
            try:
                with torch.set_grad_enabled(probe.graph):
                    values[name] = SCORES[name].compute(probe)
            except NotApplicableError as reason:
                inapplicable[name] = str(reason)
    return Scored(values, inapplicable)


def ranks(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks (n,) of the values of one score, the best highest, equal ones alike; those not finite share the lowest."""
    found = np.asarray(values, dtype=float)
    _, places, counts = np.unique(np.where(np.isfinite(found), found, -np.inf), return_inverse=True, return_counts=True)
    ranked: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranked
