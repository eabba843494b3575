"""Tree-structured Parzen estimators, by Optuna: propose what is likelier among the good than among the rest.

Watanabe 2023 (arXiv 2304.11127) describes it as Optuna has it; for several objectives "good" are the first by
non-dominated rank and hypervolume contribution (MOTPE, Ozaki et al. 2022, JAIR 73). With its default settings this is
the sampler that Optuna 5 uses when a study with several objectives names none.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, StrictBool, StrictInt

from nas_lib.records import Evaluation
from nas_lib.spaces.genes import GeneSpace, Numbers
from nas_lib.strategies.bayesian import initial_design, objective_values
from nas_lib.strategies.evolution import space_of, suggested, taken
from nas_lib.strategies.request import Request, Suggestion
from nas_lib.strategies.settings import StrategyBase

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, Trial

TRIES = 10
"""Times a proposal is asked for again that turned out to be known."""


class TPE(StrategyBase):
    """A study of Optuna, made anew from the history at every call."""

    name: Literal["tpe"] = "tpe"
    initial: StrictInt = Field(default=10, ge=2)
    """Random architectures to begin with."""
    multivariate: StrictBool | None = None
    """Whether genes are drawn jointly, not one by one. Default, as in Optuna: with one objective."""
    repeats: StrictBool = False
    """Whether architectures that are known may be proposed again, as Optuna by itself does."""

    needs: ClassVar[frozenset[str]] = frozenset({"genes"})
    objectives: ClassVar[tuple[int, int | None]] = (1, None)
    keeps_weights: ClassVar[bool] = False

    def propose(self, request: Request) -> list[Suggestion]:
        """The initial sample, then what Optuna asks for."""
        suggestions = initial_design(request, self.initial)
        wanted = request.count - len(suggestions)
        if wanted == 0:
            return suggestions
        space, seed = space_of(request), int(request.rng("tpe", request.round).integers(2**31))
        with _quiet():
            study = _study(request, suggestions, self.multivariate, seed)
            rows = _asked(study, space, wanted, set() if self.repeats else taken(request))
        return suggestions + suggested(request, lambda *_: rows, len(suggestions), "tpe", repeats=self.repeats)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Optuna tells of its studies; its verbosity as before afterwards."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _study(request: Request, started: Sequence[Suggestion], multivariate: bool | None, seed: int) -> Study:
    """The study of a request: what is known, what failed, and what is under way."""
    import optuna
    from optuna.trial import TrialState

    space = space_of(request)
    study = optuna.create_study(
        directions=["minimize"] * len(request.objectives),
        sampler=optuna.samplers.TPESampler(seed=seed, multivariate=multivariate),
    )
    rows = space.numbers([evaluation.proposal.genotype for evaluation in request.history])
    values = objective_values(request.history, request.objectives)
    under_way = [*(proposal.genotype for proposal in request.pending), *(each.genotype for each in started)]
    study.add_trials(
        [
            *(
                _finished(space, row, value, evaluation)
                for row, value, evaluation in zip(rows, values.tolist(), request.history, strict=True)
            ),
            *(_trial(space, row, state=TrialState.RUNNING) for row in space.numbers(under_way)),
        ]
    )
    return study


def _finished(space: GeneSpace, row: Numbers, values: list[float], evaluation: Evaluation) -> FrozenTrial:
    from optuna.trial import TrialState

    if not np.isfinite(values).all():
        return _trial(space, row, state=TrialState.FAIL)
    return _trial(space, row, state=TrialState.COMPLETE, values=values, constraints=dict(evaluation.constraints))


def _trial(space: GeneSpace, row: Numbers, **facts: Any) -> FrozenTrial:
    """A trial whose parameters are the genes of a row that have an effect."""
    from optuna.trial import create_trial

    genes = np.flatnonzero(space.active(row[None])[0]).tolist()
    names = [space.genes[place].name for place in genes]
    distributions = dict(zip(names, (_distribution(space, place) for place in genes), strict=True))
    return create_trial(params=dict(zip(names, row[genes].tolist(), strict=True)), distributions=distributions, **facts)


def _distribution(space: GeneSpace, place: int) -> BaseDistribution:
    """Of option numbers: whole numbers where neighbouring options are alike, else categories."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    count = int(space.counts[place])
    return IntDistribution(0, count - 1) if space.genes[place].is_ordered else CategoricalDistribution(range(count))


def _asked(study: Study, space: GeneSpace, count: int, known: set[bytes]) -> Numbers:
    """Up to `count` rows (n, d) that Optuna asks for, each moved to an architecture that exists and is not `known`.

    Whatever was asked for stays under way, and so makes its neighbourhood less likely for those that follow.
    """
    found = []
    for _ in range(count):
        for _ in range(TRIES):
            row = space.existing(_suggested(study.ask(), space)[None])[0]
            (key,) = space.keys(row[None])
            if key not in known:
                found.append(row)
                break
    return np.array(found, dtype=np.int64).reshape(len(found), len(space.genes))


def _suggested(trial: Trial, space: GeneSpace) -> Numbers:
    """A row (d,); genes without effect are not asked for."""
    row = np.zeros(len(space.genes), dtype=np.int64)
    for place, gene in enumerate(space.genes):
        if space.active(row[None])[0, place]:
            row[place] = trial._suggest(gene.name, _distribution(space, place))
    return row
