"""How networks that are changed step by step came about, and how their size moves from round to round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from nas_lib import pareto
from nas_lib.randomness import generator
from nas_lib.records import Evaluation, Genotype, History
from nas_lib.report.results import Band, Results, figure_of
from nas_lib.spaces import Changing, Sized
from nas_lib.strategies.neuroevolution import Neuroevolution

UNSELECTED = 1500
"""Most changes that are made for the networks without selection: about two seconds."""
MOST_UNSELECTED = 20
FEWEST_UNSELECTED = 5
"""Networks without selection whose mean is drawn; fewer say nothing."""


@dataclass(frozen=True)
class Step:
    """A network on the way to another one."""

    evaluation: Evaluation
    changes: list[str]
    """What was changed of the one before, in words; empty for the first."""
    figures: dict[str, float]
    """The main measure and the figures of size."""
    differences: dict[str, float]
    """This minus the one before; empty for the first, and without the measure where not trained equally long."""


def lineage(history: Sequence[Evaluation], member: Evaluation) -> History:
    """The candidates from the initial one to a member, each the parent of the next.

    A copy of an earlier candidate stands for that one; of two parents it is the one that was changed.
    """
    found = {evaluation.proposal.candidate: evaluation for evaluation in history}
    chain = [found.get(member.proposal.duplicate_of or member.proposal.candidate, member)]
    while (parent := next(iter(chain[-1].proposal.parents), None)) in found:
        chain.append(found[parent])
    return chain[::-1]


def has_descent(history: Sequence[Evaluation]) -> bool:
    """Whether some candidate is the changed copy of another one."""
    return any(one.proposal.parents for one in history)


def steps(chain: Sequence[Evaluation], measure: str, sizes: Sequence[str]) -> list[Step]:
    """What each candidate of a lineage did to the main measure and to figures of size."""
    told: list[Step] = []
    for place, evaluation in enumerate(chain):
        figures = {name: value for name in (measure, *sizes) if (value := figure_of(evaluation, name)) is not None}
        before = told[-1] if told else None
        differences = {}
        if before:
            alike = _epochs(before.evaluation) == _epochs(evaluation)
            comparable = figures.keys() & before.figures.keys() - (set() if alike else {measure})
            differences = {name: figures[name] - before.figures[name] for name in figures if name in comparable}
        told.append(Step(evaluation, changes_of(evaluation) if place else [], figures, differences))
    return told


def _epochs(evaluation: Evaluation) -> float:
    """For how long a network was trained itself; less than proposed where a rule of the training shortened it."""
    shortened = figure_of(evaluation, "trained_epochs")
    return evaluation.proposal.epochs if shortened is None else shortened


def changes_of(evaluation: Evaluation) -> list[str]:
    """What was changed of the parent, without what changed nothing."""
    made = [record for record in evaluation.proposal.changes if record.get("changed", True)]
    words = [f"{str(record['edit']).replace('_', ' ')}: {record['text']}" for record in made]
    return words or ["nothing" if evaluation.proposal.warm_start is None else "nothing: trained on"]


def sizes(results: Results) -> list[str]:
    """The figures of size of a space, the one it counts itself first."""
    return ["blocks", "parameters"] if "size" in results.experiment.space.operators() else ["parameters"]


def figures_told(results: Results) -> list[str]:
    """What a lineage tells of its networks."""
    return [results.measure, *sizes(results)]


def size_by_round(results: Results, label: str) -> Band | None:
    """Mean size of the successful candidates of each round, with its range over seeds; None without any."""
    means: dict[int, list[float]] = {}
    for history in results.histories[label].values():
        rounds: dict[int, list[float]] = {}
        for evaluation in history:
            size = figure_of(evaluation, sizes(results)[0]) if evaluation.ok else None
            if size is not None:
                rounds.setdefault(evaluation.proposal.round, []).append(size)
        for round, found in rounds.items():
            means.setdefault(round, []).append(float(np.mean(found)))
    if not means:
        return None
    values = [means[round] for round in sorted(means)]
    mean, low, high = (np.array([float(of(each)) for each in values]) for of in (np.mean, min, max))
    return Band(np.array(sorted(means)), mean, low, high)


def surviving_size(results: Results, label: str) -> list[tuple[int, float]]:
    """Round and median size of the networks that live after it, over all seeds; empty for searches without any."""
    strategy = results.experiment.strategy(label)
    if not isinstance(strategy, Neuroevolution):
        return []
    found: dict[int, list[float]] = {}
    for history in results.histories[label].values():
        for round, alive in strategy.survivors(history, results.objectives).items():
            values = [figure_of(evaluation, sizes(results)[0]) for evaluation in alive]
            found.setdefault(round, []).extend(value for value in values if value is not None)
    return [(round, float(np.median(values))) for round, values in sorted(found.items())]


@dataclass(frozen=True)
class Unselected:
    """Networks that are changed in every round and never selected."""

    networks: int
    means: list[tuple[int, float]]
    """Round and mean size."""


def unselected(results: Results) -> Unselected | None:
    """The initial networks of the first search with descendants, each replaced by its changed copy in every round.

    What size does without selection. None where the space counts no blocks, or where it would take too long.
    """
    space = results.experiment.space
    history = next((one for seeds in results.histories.values() for one in seeds.values() if has_descent(one)), None)
    if history is None or not {"mutate", "size"} <= space.operators():
        return None
    initial = [one.proposal for one in history if one.proposal.origin == "initial"]
    first = max((proposal.round for proposal in initial), default=0)
    rounds = range(first, results.experiment.budget.rounds)
    count = min(len(initial), MOST_UNSELECTED, UNSELECTED // len(rounds))
    if count < FEWEST_UNSELECTED:
        return None
    changing = cast(Changing, space)
    networks: list[Genotype] = [proposal.genotype for proposal in initial[:count]]
    means = []
    for round in rounds:
        if round > first:
            rng = generator(0, "unselected", round)
            networks = [changing.mutate(network, rng)[0] for network in networks]
        means.append((round, float(np.mean([cast(Sized, space).size(network)["blocks"] for network in networks]))))
    return Unselected(count, means)


@dataclass(frozen=True)
class Growth:
    """How size moves from round to round."""

    figure: str
    """What is counted, for example `blocks`."""
    candidates: dict[str, Band | None]
    """Strategy label -> see `size_by_round`."""
    survivors: dict[str, list[tuple[int, float]]]
    """Strategy label -> see `surviving_size`."""
    unselected: Unselected | None


def growth(results: Results) -> Growth | None:
    """All of it, of spaces whose networks are changed step by step; None of others."""
    if "mutate" not in results.experiment.space.operators():
        return None
    return Growth(
        figure=sizes(results)[0],
        candidates={label: size_by_round(results, label) for label in results.labels},
        survivors={label: surviving_size(results, label) for label in results.labels},
        unselected=unselected(results),
    )


def members(results: Results) -> Iterator[tuple[str, int, int | None, Evaluation]]:
    """Strategy, seed, rank as finalist where it is one, and each member of the front of searches with descendants."""
    for label, seeds in results.histories.items():
        for seed, history in seeds.items():
            if not has_descent(history):
                continue
            ranks = {
                one.chosen.proposal.candidate: one.rank
                for one in results.finalists
                if (one.strategy, one.seed) == (label, seed)
            }
            for member in pareto.front(history, results.objectives):
                yield label, seed, ranks.get(member.proposal.candidate), member
