"""What comes of scoring a network that has still to be built. Whatever goes wrong is part of it."""

from __future__ import annotations

import time
from collections import ChainMap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict

from nas_lib import scores
from nas_lib.randomness import seed_of

if TYPE_CHECKING:
    from torch import nn

    from nas_lib.scores.batch import Batch


class Outcome(BaseModel):
    """What scores say of one network with the weights of one seed."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    values: dict[str, float]
    """Score -> value, higher is better; not finite where the network overflows or shows no variance."""
    inapplicable: dict[str, str]
    """Score -> why it does not apply, in one line."""
    failed: dict[str, str]
    """Score -> what went wrong, in one line; all scores where the network could not be built."""
    seconds: float
    """CPU seconds, to build the network included."""

    def __contains__(self, score: str) -> bool:
        """Whether there is nothing more to learn of a score: what failed is tried again."""
        return score in self.values or score in self.inapplicable

    def after(self, before: Outcome | None) -> Self:
        """The same with what was known of the network before."""
        if before is None:
            return self
        values, inapplicable = before.values | self.values, before.inapplicable | self.inapplicable
        return self.model_copy(
            update={
                "values": values,
                "inapplicable": inapplicable,
                "failed": {
                    name: why
                    for name, why in (before.failed | self.failed).items()
                    if name not in values | inapplicable
                },
                "seconds": before.seconds + self.seconds,
            }
        )


def outcome(build: Callable[[], nn.Module], batch: Batch, names: Sequence[str], seed: int) -> Outcome:
    """Build a network with the weights of a seed and score it."""
    began = time.process_time()
    with same_weights(seed):
        try:
            values, inapplicable, failed = scores_of(build(), batch, names, seed)
        except Exception as error:  # spaces and networks have errors of their own
            values, inapplicable, failed = {}, {}, dict.fromkeys(names, f"cannot be built: {_line(error)}")
    return Outcome(values=values, inapplicable=inapplicable, failed=failed, seconds=time.process_time() - began)


Scores = tuple[dict[str, float], dict[str, str], dict[str, str]]


def scores_of(network: nn.Module, batch: Batch, names: Sequence[str], seed: int) -> Scores:
    """Values, reasons why scores do not apply, and what went wrong; where something did, each score alone."""
    try:
        together = scores.score(network, batch, names, seed)
    except Exception as error:
        if len(names) == 1:
            return {}, {}, {names[0]: _line(error)}
        parts = [scores_of(network, batch, [name], seed) for name in names]
        values, inapplicable, failed = (dict(ChainMap(*its)) for its in zip(*parts, strict=True))
        return values, inapplicable, failed
    return together.values, together.inapplicable, {}


@contextmanager
def same_weights(seed: int) -> Iterator[None]:
    """Torch's global random state as of a seed; afterwards as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "weights"))
        yield


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:300]
