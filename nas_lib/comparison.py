"""What searches found, on one scale: hypervolume over evaluations, across seeds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nas_lib import pareto
from nas_lib.experiment import Experiment
from nas_lib.records import History
from nas_lib.search import Search, read_history


def histories_of(experiment: Experiment, *, partial: bool = False) -> dict[str, dict[int, History]]:
    """Strategy label -> seed -> history."""
    rounds = range(experiment.budget.rounds)
    return {
        label: {
            seed: read_history(Search(experiment, label, seed).folder, rounds, partial=partial)
            for seed in experiment.seeds
        }
        for label in experiment.labels
    }


def compare(experiment: Experiment) -> dict[str, Any]:
    """The searches of an experiment: see `compare_histories`."""
    references = [objective.reference for objective in experiment.objectives]
    return compare_histories(histories_of(experiment), experiment.objective_names, references)


def compare_histories(
    histories: Mapping[str, Mapping[int, History]], names: Sequence[str], references: Sequence[float | None]
) -> dict[str, Any]:
    """Hypervolume of every search over its evaluations, and how each strategy differs from the last one.

    `histories` is strategy label -> seed -> history. Hypervolume is the share of the box between the best values seen
    and the reference point. Ranks are of final hypervolumes within a seed, 1 is the largest.
    """
    scale = pareto.scale_of([h for seeds in histories.values() for h in seeds.values()], names, references)
    searches = []
    final: dict[str, dict[int, float]] = {label: {} for label in histories}
    for label, seeds in histories.items():
        for seed, history in seeds.items():
            trace = pareto.hypervolume_trace(history, names, scale) if scale else []
            final[label][seed] = trace[-1] if trace else 0.0
            searches.append(
                {
                    "strategy": label,
                    "seed": seed,
                    "hypervolume": trace,
                    "epochs": np.cumsum([evaluation.cost.epochs for evaluation in history]).tolist(),
                    "evaluations": len(history),
                    "failed": sum(not evaluation.ok for evaluation in history),
                    "infeasible": sum(evaluation.ok and not evaluation.feasible for evaluation in history),
                    "duplicates": sum(evaluation.proposal.duplicate_of is not None for evaluation in history),
                    "front": len(pareto.front(history, names)),
                    "seconds": pareto.seconds_of(history),
                }
            )
    ranks = pareto.mean_ranks([list(row) for row in zip(*(values.values() for values in final.values()), strict=True)])
    return {
        "objectives": list(names),
        "ideal": scale.ideal.tolist() if scale else None,
        "reference": scale.reference.tolist() if scale else None,
        "reference_given": [value is not None for value in references],
        "searches": searches,
        "ranks": dict(zip(histories, ranks, strict=True)),
        **paired(final),
    }


def paired(
    values: Mapping[str, Mapping[int, float]],
    interval: Callable[[Sequence[float]], pareto.Interval] = pareto.mean_interval,
) -> dict[str, Any]:
    """Mean of every strategy over its seeds, and its difference to the last strategy (baseline) over common seeds.

    `values` is strategy label -> seed -> value. Searches of one seed share initial sample and training seeds, so
    differences are taken per seed and tested by Wilcoxon's signed ranks; `p_holm` is corrected for the number of
    strategies that are compared with the baseline. `interval` gives the intervals of means.
    """
    baseline = list(values)[-1]
    differences = {
        label: [value - values[baseline][seed] for seed, value in seeds.items() if seed in values[baseline]]
        for label, seeds in values.items()
        if label != baseline
    }
    tests = {label: pareto.signed_rank_test(found) for label, found in differences.items() if found}
    corrected = pareto.holm([test.p for test in tests.values()])
    return {
        "baseline": baseline,
        "final": {label: vars(interval(list(seeds.values()))) for label, seeds in values.items() if seeds},
        "differences": {label: vars(interval(found)) for label, found in differences.items() if found},
        "tests": {
            label: {**vars(test), "p_holm": p} for (label, test), p in zip(tests.items(), corrected, strict=True)
        },
    }
