"""What the searches of an experiment found, on one scale: hypervolume over evaluations, across seeds."""

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
    """Hypervolume of every search over its evaluations, and how each strategy differs from the last one in the list.

    Hypervolume is the share of the box between the best values seen in the experiment and the reference point.
    Strategies of one seed share initial sample and training seeds, so differences are taken per seed (paired) and
    tested by Wilcoxon's signed ranks; ranks are of final hypervolumes within a seed, 1 is the largest.
    """
    histories = histories_of(experiment)
    names = experiment.objective_names
    references = [objective.reference for objective in experiment.objectives]
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
    baseline = experiment.labels[-1]
    differences = {
        label: [values[seed] - final[baseline][seed] for seed in experiment.seeds]
        for label, values in final.items()
        if label != baseline
    }
    ranks = pareto.mean_ranks([[final[label][seed] for label in experiment.labels] for seed in experiment.seeds])
    return {
        "objectives": names,
        "ideal": scale.ideal.tolist() if scale else None,
        "reference": scale.reference.tolist() if scale else None,
        "reference_given": [value is not None for value in references],
        "searches": searches,
        "final": {label: vars(pareto.mean_interval(list(values.values()))) for label, values in final.items()},
        "baseline": baseline,
        "differences": {label: vars(pareto.mean_interval(values)) for label, values in differences.items()},
        "tests": {label: vars(pareto.signed_rank_test(values)) for label, values in differences.items()},
        "ranks": dict(zip(experiment.labels, ranks, strict=True)),
    }
