"""The measurements of a study: what a predictor makes of architectures it has not seen.

Every measurement is written at once into a journal, so one that is made is never made again: a study that was killed
goes on where it was, and one with more predictors, sizes or seeds keeps what it has.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from pydantic import BaseModel

from nas_lib import journals, predictors
from nas_lib.layout import write_frame
from nas_lib.predictor_study.settings import PredictorStudy
from nas_lib.predictors import PredictorName
from nas_lib.problems import Problem, ProblemError
from nas_lib.problems.problem import Values
from nas_lib.randomness import generator
from nas_lib.spaces.genes import GeneSpace, Numbers

log = logging.getLogger(__name__)

DRAWN = 256
"""Architectures drawn at once where a space is not listed."""
DRAWINGS = 200
"""Times in a row they may be known already."""


class Measurement(BaseModel):
    """One predictor, learnt from so many architectures of one seed, on those held out."""

    objective: str
    predictor: PredictorName
    size: int
    seed: int
    held_out: int
    """Architectures it was measured on."""
    kendall: float
    """Rank correlation (tau-b) of prediction and truth; 0 where one of them does not vary."""
    spearman: float
    """Likewise, Spearman's rho."""
    mape: float | None
    """Mean absolute error as a percentage of the true value, over values other than 0; None where all are 0."""
    fit_seconds: float
    """CPU seconds of learning."""
    predict_seconds: float
    """CPU seconds of predicting what was held out."""

    @property
    def case(self) -> tuple[str, str, int, int]:
        """What was measured."""
        return self.objective, self.predictor, self.size, self.seed


@dataclass(frozen=True)
class Sample:
    """What all predictors of one seed see, all architectures different."""

    numbers: Numbers
    """To learn from, shape (n, d)."""
    values: Values
    """Their objectives (n, m)."""
    others: Numbers
    """Held out, shape (k, d)."""
    truth: Values
    """Their objectives (k, m)."""


def run(study: PredictorStudy, title: str) -> None:
    """Make the measurements of one problem that are not there yet, then write them all as a table.

    Raises:
        ProblemError: the table cannot be used.
    """
    import pandas as pd

    problem, journal = study.checked_problem(title), study.folder.journal(title)
    head = _head(study, title, problem)
    found = {one.case: one for one in journals.begin(journal, head, Measurement)}
    wanted = [*_cases(study, problem)]
    missing = [case for case in wanted if case not in found]
    log.info("%s: %d measurements, %d of them made before", title, len(wanted), len(wanted) - len(missing))
    sample_of = lru_cache(maxsize=1)(
        lambda seed: sample(problem, title, seed, max(study.sizes), held_out(study, problem))
    )
    warm: set[str] = set()
    with journal.open("a") as file:
        for case in missing:
            _, name, _, seed = case
            if name not in warm:  # what a first use imports is no cost of learning
                measure(problem, sample_of(seed), *case)
                warm.add(name)
            found[case] = measure(problem, sample_of(seed), *case)
            journals.add(file, found[case])
    rows = [{"problem": title} | found[case].model_dump() for case in wanted]
    write_frame(study.folder.measurements(title), pd.DataFrame(rows))


def _cases(study: PredictorStudy, problem: Problem) -> Iterator[tuple[str, PredictorName, int, int]]:
    for seed in study.seeds:
        for objective in study.objectives_of(problem):
            for size in study.sizes:
                for name in study.predictors:
                    yield objective, name, size, seed


def held_out(study: PredictorStudy, problem: Problem) -> int:
    """How many architectures of a problem are held out: as configured, or what the largest size leaves."""
    listed = problem.space.listed
    return study.held_out if listed is None else min(study.held_out, len(listed) - max(study.sizes))


def _head(study: PredictorStudy, title: str, problem: Problem) -> dict[str, Any]:
    """What measurements depend on beside their own settings: if it changes, they are worthless."""
    file = study.settings_of_problem(title).file()
    return {
        "problem": study.problem_content(title),
        "table": file and hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest(),
        "held_out": held_out(study, problem),
    }


def measure(problem: Problem, sample: Sample, objective: str, name: PredictorName, size: int, seed: int) -> Measurement:
    """Learn from the first `size` architectures of the sample of a seed, and measure on those held out."""
    place = problem.objectives.index(objective)
    numbers, targets = sample.numbers[:size], sample.values[:size, place]
    rng = generator(seed, "predictor study", problem.name, objective, name, size)
    began = time.process_time()
    fitted = predictors.fit(name, problem.space, numbers, targets, rng)
    learnt = time.process_time()
    predicted = fitted.predict(sample.others)
    ended = time.process_time()
    return Measurement(
        objective=objective,
        predictor=name,
        size=size,
        seed=seed,
        held_out=len(sample.others),
        fit_seconds=learnt - began,
        predict_seconds=ended - learnt,
        **agreement(predicted, sample.truth[:, place]),
    )


def agreement(predicted: Values, truth: Values) -> dict[str, float | None]:
    """Kendall's tau-b, Spearman's rho and the mean absolute percentage error of predictions (n,)."""
    from scipy import stats

    varies = bool(np.ptp(predicted) > 0 and np.ptp(truth) > 0)
    apart = truth != 0
    return {
        "kendall": float(stats.kendalltau(predicted, truth).statistic) if varies else 0.0,
        "spearman": float(stats.spearmanr(predicted, truth).statistic) if varies else 0.0,
        "mape": float(100 * np.abs(predicted / np.where(apart, truth, 1.0) - 1)[apart].mean()) if apart.any() else None,
    }


def sample(problem: Problem, title: str, seed: int, most: int, held_out: int) -> Sample:
    """Architectures to learn from and others to measure on, which follow from title and seed alone.

    Those held out do not depend on how many there are to learn from, and of those a smaller number is the first of a
    larger one.

    Raises:
        ProblemError: the space has too few architectures.
    """
    space = problem.space
    if (listed := space.listed) is not None:
        order = generator(seed, "predictor study", title).permutation(len(listed))
        numbers, others = listed[order[:most]], listed[order[len(listed) - held_out :]]
    else:
        others = _drawn(space, held_out, generator(seed, "predictor study", title, "held out"), set())
        rng = generator(seed, "predictor study", title, "learnt from")
        numbers = _drawn(space, most, rng, set(space.keys(others)))
    return Sample(numbers, problem.evaluate(numbers), others, problem.evaluate(others))


def _drawn(space: GeneSpace, count: int, rng: np.random.Generator, known: set[bytes]) -> Numbers:
    """Different architectures (count, d) that are not known; the first ones do not depend on their number."""
    found: dict[bytes, Numbers] = {}
    failed = 0
    while len(found) < count:
        rows, before = space.draw(DRAWN, rng), len(found)
        found.update(
            (key, row) for key, row in zip(space.keys(rows), rows, strict=True) if key not in known and key not in found
        )
        failed = failed + 1 if len(found) == before else 0
        if failed == DRAWINGS:
            raise ProblemError(f"{space.name}: has fewer than {count} architectures that differ, needed are as many")
    return np.array(list(found.values())[:count])
