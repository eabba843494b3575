"""Scores without training of the networks of a search, by its strategy's wish or as an objective.

All networks of a search have the weights of its seed and are scored on one batch of training data, on the CPU in one
thread, so a genotype has the same scores whenever it is asked for.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_lib import journals
from nas_lib.evaluation.objectives import NEGATED, scores_among
from nas_lib.evaluation.settings import Scoring
from nas_lib.randomness import generator, single_thread
from nas_lib.records import Genotype
from nas_lib.scores.names import REVISION
from nas_lib.scores.outcome import Outcome, outcome
from nas_lib.spaces import Space
from nas_lib.tasks.data import Data

if TYPE_CHECKING:
    from nas_lib.scores.batch import Batch

log = logging.getLogger(__name__)


class NotScoredError(Exception):
    """A network has not the score that is an objective. The message is one line."""


@dataclass(frozen=True)
class Scorer:
    """What scores of one search depend on. Data is read when something is scored."""

    space: Space
    data: Callable[[], Data]
    settings: Scoring
    seed: int
    """Of the search."""

    @cached_property
    def _data(self) -> Data:
        return self.data()

    @cached_property
    def _batch(self) -> Batch:
        from nas_lib.scores.batch import batch_of

        rng = generator(self.seed, "scores", "batch")
        return batch_of(self._data, self.settings.batch, rng, self.settings.steps)

    def outcome(self, genotype: Genotype, names: Sequence[str]) -> Outcome:
        """What scores say of a network; whatever goes wrong is part of it."""
        batch, shape = self._batch, self._data.shape
        with single_thread():
            return outcome(partial(self.space.build, genotype, shape), batch, names, self.seed)

    def objectives(self, genotype: Genotype, names: Sequence[str]) -> dict[str, float]:
        """Those of the objectives `names` that are negated scores, with their values.

        Raises:
            NotScoredError: a score does not apply, fails or is not finite.
        """
        if not (wanted := scores_among(names)):
            return {}
        found = self.outcome(genotype, wanted)
        for name in wanted:
            value = found.values.get(name, math.nan)
            if not math.isfinite(value):
                reason = (found.inapplicable | found.failed).get(name, f"is {value}")
                raise NotScoredError(f"score {name}: {reason}")
        return {NEGATED + name: -found.values[name] for name in wanted}


class Entry(Outcome):
    """A line of the journal."""

    network: str
    """See `_digest`."""


@dataclass(frozen=True)
class Journal:
    """What networks scored is kept here, so that none is scored twice, whichever process asks."""

    scorer: Scorer
    path: Path
    head: Mapping[str, Any]
    """All that scores depend on beside genotype, name and formula: a journal with another head is begun anew."""

    @cached_property
    def _known(self) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for each in journals.begin(self.path, {"revision": REVISION, **self.head}, Entry):
            found[each.network] = each.after(found.get(each.network))
        return found

    def __call__(self, genotypes: Sequence[Genotype], names: Sequence[str]) -> np.ndarray:
        """Values (n, k) of genotypes, see `Request.score`: not a number where a score does not apply or fails."""
        found = [self._entry(genotype, names) for genotype in genotypes]
        rows = [[entry.values.get(name, math.nan) for name in names] for entry in found]
        for name in names:
            why = {reason for entry in found if (reason := (entry.inapplicable | entry.failed).get(name))}
            if found and not any(name in entry.values for entry in found):
                log.warning("no network has the score %s: %s", name, "; ".join(sorted(why)[:3]))
        return np.array(rows, dtype=float).reshape(len(genotypes), len(names))

    def _entry(self, genotype: Genotype, names: Sequence[str]) -> Entry:
        """What is known of a network, with these scores."""
        key = _digest(genotype)
        before = self._known.get(key)
        # Unlike in a study what failed is not tried again: a search that goes on must find what it found.
        missing = [name for name in names if before is None or not (name in before or name in before.failed)]
        if not missing and before is not None:
            return before
        made = Entry(network=key, **dict(self.scorer.outcome(genotype, missing)))
        with self.path.open("a") as file:
            journals.add(file, made)
        self._known[key] = made.after(before)
        return self._known[key]


def _digest(genotype: Genotype) -> str:
    """Of the genotype itself: equal architectures with different genotypes may be built in another order."""
    return hashlib.blake2b(json.dumps(genotype, sort_keys=True).encode(), digest_size=16).hexdigest()
