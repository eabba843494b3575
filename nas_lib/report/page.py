"""The report: one HTML page, complete in itself, that answers first and shows its evidence after that."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, cast

import jinja2
import numpy as np
from plotly.offline import get_plotlyjs

from nas_lib import pareto
from nas_lib.evaluation.objectives import QUANTITIES
from nas_lib.experiment import Experiment
from nas_lib.layout import write_text
from nas_lib.records import Evaluation
from nas_lib.report import benchmarks, descent, drawing, provenance, style
from nas_lib.report.analysis import Analysis, Dependence, Spread, analyse
from nas_lib.report.charts import CURVES, HIGHLIGHTS, IMPORTANT, charts, points
from nas_lib.report.results import AxisEnd, Results, Retrained, curves_end, mean_and_sd, read, winners_compared
from nas_lib.report.statistics import FORESTS
from nas_lib.report.summary import counted, listed, measure_title, summary, untestable
from nas_lib.search import Search
from nas_lib.spaces import Changing

DRAWINGS_SHOWN = 6
"""Graphs of finalists that are not folded away."""
FAILURES_SHOWN = 200
FEWEST_RANKED = 3
"""Finalists from which on a rank correlation is given."""
TRUSTED = 0.3
"""Below this R² the page calls what a surrogate says a hint."""


def write_report(experiment: Experiment) -> None:
    """Write the page of a finished experiment.

    Raises:
        FileNotFoundError: a result it needs is not there yet.
    """
    write_text(experiment.folder.report, render(read(experiment)))


def render(results: Results) -> str:
    """The page as HTML."""
    experiment = results.experiment
    analysis = analyse(results)
    growth = analysis.growth
    drawings, known = _drawings(results), _known(results.experiment)
    figures = {chart.name: chart.figure for chart in charts(results, analysis)}
    return filled(
        "page.html",
        experiment=experiment,
        description=experiment.description,
        finished=_last_finish(results),
        summary=summary(results),
        seeds=counted(len(experiment.seeds), "seed"),
        setting=_setting(experiment),
        items=experiment.task.items,
        stepwise=experiment.task.modality == "sequences",
        finalists_validate=experiment.task.finalists_validate,
        numbers="encode" in experiment.space.operators(),
        beyond=_beyond(results),
        beyond_curves=_beyond_curves(results),
        lineages=_lineages(results),
        lineage_heads=[QUANTITIES[name].title for name in descent.figures_told(results)],
        size=QUANTITIES[growth.figure].title.lower() if growth else "",
        unselected=growth.unselected.networks if growth and growth.unselected else 0,
        survivors=growth is not None and any(growth.survivors.values()),
        fronts=[name for name in figures if name.startswith(("front-", "best-so-far"))],
        charts=figures,
        points=points(results),
        filters=bool(figures) and (results.partial or max(len(experiment.labels), len(experiment.seeds)) > 1),
        partial=results.partial,
        box=_box(results),
        hypervolumes=_hypervolumes(results),
        untestable=untestable(len(experiment.seeds), len(experiment.labels) - 1),
        dependences=[_dependence(analysis, dependence, figures) for dependence in analysis.dependences],
        dimensions=len(analysis.dimensions),
        important=IMPORTANT,
        forests=FORESTS,
        spreads=[_spread(spread) for spread in analysis.spreads],
        finalists=[_finalist(finalist, known) for finalist in results.finalists],
        winners=_winners(results),
        measure=QUANTITIES[results.measure].title,
        tested=style.tested(QUANTITIES[results.measure].title),
        drawings=drawings,
        drawings_shown=DRAWINGS_SHOWN,
        levels=any(drawing["levels"] for drawing in drawings),
        models=[_model(experiment, finalist) for finalist in results.finalists if finalist.export],
        transfer=_transfer(results),
        finalist_heads=[QUANTITIES[name].title for name in results.objectives],
        curves=CURVES,
        highlights=HIGHLIGHTS,
        failures=_failures(results),
        failures_shown=FAILURES_SHOWN,
        costs=_costs(results),
        rules=_rules(results.experiment),
        devices=_devices(results),
        provenance=provenance.facts(experiment, provenance.tracking_uri(experiment)),
        figures_folder=experiment.folder.figures.name,
    )


def filled(template: str, **content: Any) -> str:
    """A page of the package with its style and scripts in it; `charts` and `points` are what the script draws."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nas_lib", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment.get_template(template).render(
        style=_packaged("page.css"), script=_packaged("page.js"), plotly=get_plotlyjs(), **content
    )


def _packaged(name: str) -> str:
    return (resources.files("nas_lib.report") / name).read_text()


def _trainings(results: Results) -> list[Evaluation]:
    """All that was trained, candidates and finalists."""
    searched = [found for _, _, found in results.evaluations() if found.proposal.duplicate_of is None]
    return searched + [
        repeat for finalist in results.finalists for repeat in (*finalist.repeats, *finalist.transferred)
    ]


def _last_finish(results: Results) -> str | None:
    times = [evaluation.cost.finished for evaluation in _trainings(results) if evaluation.cost.finished]
    return f"{datetime.fromtimestamp(max(times), UTC):%Y-%m-%d %H:%M} UTC" if times else None


def _devices(results: Results) -> list[str]:
    return sorted({str(found.wall_clock["device"]) for found in _trainings(results) if "device" in found.wall_clock})


def _setting(experiment: Experiment) -> dict[str, str]:
    """What was searched on what, for people: name -> one line."""
    budget, finalists = experiment.budget, experiment.finalists
    data = _data(experiment)
    networks = f"{finalists.draws} networks of each generator, " if finalists.draws > 1 else ""
    objectives = []
    for objective in experiment.objectives:
        reference = (
            _inferred(objective.name)
            if objective.reference is None
            else style.text(objective.name, objective.reference)
        )
        objectives.append(f"{style.axis(objective.name)}, reference {reference}")
    limits = "; ".join(
        f"{style.axis(name)} at most {style.text(name, limit)}" for name, limit in experiment.limits.items()
    )
    return {
        "Task": f"{experiment.task.name}{data}",
        "Space": f"{experiment.space.name} (its settings are in the configuration below)",
        "Strategies": ", ".join(experiment.labels),
        "Objectives": "; ".join(objectives),
        **({"Constraints": limits} if limits else {}),
        "Budget of a search": (
            f"{budget.evaluations} candidates: {budget.rounds} rounds of {budget.proposals}, "
            f"up to {budget.epochs} epochs each"
        ),
        "Seeds": f"{', '.join(map(str, experiment.seeds))} (n = {len(experiment.seeds)})",
        "Finalists": (
            f"up to {finalists.count} of each search, {networks}each trained anew {counted(finalists.repeats, 'time')} "
            f"for {finalists.epochs} epochs"
            if finalists.count
            else "none"
        ),
    }


def _data(experiment: Experiment) -> str:
    """Sizes of the splits, as the step `data` found them."""
    path = experiment.folder.data
    if not path.exists():
        return ""
    data = json.loads(path.read_text())
    shape, items = data["shape"], data.get("items", "images")
    if items == "images":
        what = f"{shape['classes']} classes, {shape['height']} x {shape['width']} pixels"
    else:
        what = f"{shape['inputs']:,} {'symbols' if shape['tokens'] else 'features'}, {shape['outputs']:,} outputs"
    return f": {what}; {data['train']:,} training, {data['validation']:,} validation and {data['test']:,} test {items}"


def _inferred(name: str) -> str:
    worst = "the worst within the outer fence" if name in pareto.UNBOUNDED else "the worst value"
    return f"a tenth of the range beyond {worst}"


def _box(results: Results) -> list[tuple[str, str, str, str]] | None:
    """Per objective its title, best value, reference value and where the reference comes from."""
    comparison = results.comparison
    if comparison["reference"] is None:
        return None
    return [
        (
            QUANTITIES[name].title,
            style.text(name, ideal),
            style.text(name, reference),
            "configured" if given else _inferred(name),
        )
        for name, ideal, reference, given in zip(
            comparison["objectives"],
            comparison["ideal"],
            comparison["reference"],
            comparison["reference_given"],
            strict=True,
        )
    ]


def _lineages(results: Results) -> list[dict[str, Any]]:
    """How each finalist of searches with descendants came about, step by step."""
    names, describe, found = descent.figures_told(results), results.experiment.space.describe, []
    for finalist in results.finalists:
        history = results.histories[finalist.strategy][finalist.seed]
        if not descent.has_descent(history):
            continue
        chain = descent.steps(descent.lineage(history, finalist.chosen), results.measure, descent.sizes(results))
        found.append(
            {
                "name": finalist.name,
                "steps": counted(len(chain) - 1, "step"),
                "course": ", ".join(
                    f"{measure_title(name)} {style.text(name, chain[0].figures[name])} to "
                    f"{style.text(name, chain[-1].figures[name])}"
                    for name in names
                    if name in chain[0].figures and name in chain[-1].figures
                ),
                "rows": [
                    (
                        f"round {step.evaluation.proposal.round}, slot {step.evaluation.proposal.slot}",
                        step.changes or [f"begins as {describe(step.evaluation.proposal.genotype)}"],
                        [_changed(step, name) for name in names],
                    )
                    for step in chain
                ],
            }
        )
    return found


def _changed(step: descent.Step, name: str) -> tuple[str, str]:
    """The figure of a network, and its difference to the one before."""
    value, difference = step.figures.get(name), step.differences.get(name)
    return (
        "unknown" if value is None else style.text(name, value),
        "" if difference is None else style.difference(name, difference),
    )


def _beyond(results: Results) -> list[str]:
    """Per objective whose axis is cut a sentence that says where and how many candidates lie outside."""
    ends = {name: results.axis_end(name) for name in results.objectives}
    return [_cut(name, end, "candidate") for name, end in ends.items() if end is not None]


def _beyond_curves(results: Results) -> str:
    """The same of the learning curves; empty where their axis is not cut."""
    end = curves_end(results)
    return _cut(results.measure, end, "curve") if end is not None else ""


def _cut(name: str, end: AxisEnd, noun: str) -> str:
    outside = counted(end.beyond, noun)
    return f"The axis of the {measure_title(name)} ends {end.rule}, at {style.text(name, end.at)}; outside: {outside}."


def tested(test: Mapping[str, float] | None) -> tuple[str, str]:
    """Corrected p and effect size of a test; none for the baseline."""
    return (f"{test['p_holm']:.3g}", style.signed(test["effect"], 2)) if test else ("baseline", "baseline")


def _winners(results: Results) -> list[tuple[str, ...]]:
    """Per strategy the test error, or other main measure, of its winners, difference to the baseline, test, effect and
    number of searches."""
    found = winners_compared(results).get(f"test_{results.measure}")
    if found is None or len(results.labels) < 2:
        return []
    rows: list[tuple[str, ...]] = []
    for label in results.labels:
        difference = found["differences"].get(label)
        rows.append(
            (
                label,
                style.interval(found["final"][label], partial(style.text, results.measure)),
                style.interval(difference, partial(style.difference, results.measure)) if difference else "baseline",
                *tested(found["tests"].get(label)),
                f"{found['final'][label]['count']}",
            )
        )
    return rows


def _hypervolumes(results: Results) -> list[tuple[str, ...]]:
    """Per strategy its final hypervolume, difference to the baseline, test, effect, rank, front's size and seeds."""
    comparison = results.comparison
    rows: list[tuple[str, ...]] = []
    for label, final in comparison["final"].items():
        difference = comparison["differences"].get(label)
        rows.append(
            (
                label,
                style.interval(final, lambda value: f"{value:.3f}"),
                style.interval(difference, style.signed) if difference else "baseline",
                *tested(comparison["tests"].get(label)),
                f"{comparison['ranks'][label]:.2f}",
                f"{len(results.front(label, results.objectives))}",
                f"{final['count']}",
            )
        )
    return rows


def _dependence(analysis: Analysis, dependence: Dependence, figures: Iterable[str]) -> dict[str, Any]:
    """What the page says of an objective and the searched numbers."""
    name = dependence.objective.replace("_", "-")
    shown = {"name": name, "title": QUANTITIES[dependence.objective].title, "remark": dependence.remark}
    if dependence.found is None or dependence.remark:
        return shown
    certain = [
        dimension
        for dimension, estimate in zip(analysis.dimensions, dependence.found.importance, strict=True)
        if estimate.low > 0
    ]
    return shown | {
        "axis": style.axis(dependence.objective),
        "r2": f"{dependence.found.r2:.2f}",
        "candidates": dependence.candidates,
        "generators": dependence.generators,
        "trust": (f"the interval of {listed(certain)} lies above 0." if certain else "no single number stands out.")
        if dependence.found.r2 >= TRUSTED
        else "little, so read what follows as a hint at most.",
        "charts": [chart for chart in figures if re.fullmatch(rf"dependence-{name}-\d+", chart)],
    }


def _spread(spread: Spread) -> dict[str, str]:
    """What the page says of the draws of equal generators in one objective."""
    parts = spread.components
    name, title = spread.objective, QUANTITIES[spread.objective].title

    def sd(variance: float) -> str:
        return style.text(name, variance**0.5)

    return {
        "name": name.replace("_", "-"),
        "title": title,
        "line": (
            f"{title}: {parts.groups} generators, {parts.members} draws. Standard deviation between generators "
            f"{sd(parts.between)}, within {sd(parts.within)}; intraclass correlation {parts.icc.value:.2f} (95 % CI "
            f"{parts.icc.low:.2f} to {parts.icc.high:.2f}). {spread.caveat}"
        ),
    }


def _known(experiment: Experiment) -> dict[str, str]:
    """Hash and name of the known networks of a space; empty where it has none."""
    space = experiment.space
    if "seeds" not in space.operators():
        return {}
    return {space.hash(genotype): name for name, genotype in cast(Changing, space).known().items()}


def _finalist(finalist: Retrained, known: Mapping[str, str]) -> dict[str, Any]:
    values, measure = finalist.test_values, finalist.measure
    mean, sd = mean_and_sd(values) if values else (None, None)
    failed = [repeat.reason for repeat in finalist.repeats if not repeat.ok]
    return {
        "name": finalist.name,
        "known": known.get(finalist.chosen.proposal.hash),
        "hash": finalist.chosen.proposal.hash,
        "objectives": [style.text(name, value) for name, value in finalist.chosen.objectives.items()],
        "mean": "none" if mean is None else style.text(measure, mean),
        "sd": "none" if sd is None else style.text(measure, sd),
        "count": len(values)
        if finalist.networks == 1
        else f"{finalist.networks} networks x {len(finalist.repeats) // finalist.networks}",
        "failed": f"{len(failed)} of {len(finalist.repeats)} trainings failed" if failed else "",
        "seconds": style.duration(pareto.seconds_of(finalist.repeats)),
    }


def _model(experiment: Experiment, finalist: Retrained) -> dict[str, Any]:
    """Links to the files of an exported finalist, relative to the page, and its name in MLflow's registry."""
    search = Search(experiment, finalist.strategy, finalist.seed)
    folder, export = search.folder.model(finalist.rank), finalist.export
    names = [*(export.there if export else []), "card.md", "card.json", "weights.pt", "examples.npz"]
    reason = export.reason if export else ""
    return {
        "name": finalist.name,
        "registered": search.model_name(finalist.rank) if export and "model.onnx" in export.there else None,
        "files": [
            (name, (folder / name).relative_to(experiment.folder.path).as_posix())
            for name in names
            if (folder / name).exists()
        ],
        "difference": _difference(finalist),
        "failed": provenance.without_paths(reason),
        "state": _state_size(folder / "examples.npz"),
    }


def _state_size(examples: Path) -> int | None:
    """Numbers in the state that files of one step take; None where they take none."""
    if not examples.exists():
        return None
    with np.load(examples, allow_pickle=False) as arrays:
        return int(arrays["state"].shape[1]) if "state" in arrays.files else None


def _difference(finalist: Retrained) -> str:
    onnx = finalist.export and finalist.export.files.get("model.onnx")
    if not onnx or onnx.largest_difference is None or onnx.share_of_tolerance is None:
        return "not compared"
    return f"{onnx.largest_difference:.1e} ({100 * onnx.share_of_tolerance:.2g} %, n = {onnx.images})"


def _transfer(results: Results) -> dict[str, Any] | None:
    """The finalists on both data sets, and how alike they rank there."""
    from scipy import stats

    if results.experiment.transfer is None:
        return None

    first, second = results.measure, results.experiment.carried.measure

    def shown(measure: str, values: Sequence[float]) -> tuple[str, int]:
        if not values:
            return "none", 0
        mean, sd = mean_and_sd(values)
        return style.text(measure, mean) + ("" if sd is None else f" ± {style.text(measure, sd)}"), len(values)

    both = [(one.test_values, one.transfer_values) for one in results.finalists]
    means = [(mean_and_sd(here)[0], mean_and_sd(there)[0]) for here, there in both if here and there]
    correlation = None
    if len(means) >= FEWEST_RANKED and all(len(set(column)) > 1 for column in zip(*means, strict=True)):
        correlation = f"{float(stats.spearmanr(*zip(*means, strict=True)).statistic):.2f}"
    return {
        "task": results.experiment.transfer.task.name,
        "heads": [
            f"{style.tested(QUANTITIES[measure].title)} on {task.name}"
            for measure, task in ((first, results.experiment.task), (second, results.experiment.transfer.task))
        ],
        "epochs": results.experiment.transfer.epochs,
        "rows": [
            (one.name, *shown(first, here), *shown(second, there))
            for one, (here, there) in zip(results.finalists, both, strict=True)
        ],
        "count": len(means),
        "correlation": correlation,
    }


def _drawings(results: Results) -> list[dict[str, Any]]:
    """Each architecture among the finalists once, with the finalists that have it."""
    space = results.experiment.space
    found: dict[str, dict[str, Any]] = {}
    for finalist in results.finalists:
        genotype = finalist.chosen.proposal.genotype
        identity = finalist.chosen.proposal.hash
        if identity not in found:
            graph, title = space.graph(genotype), space.describe(genotype)
            found[identity] = {
                "hash": identity,
                "title": title,
                "nodes": graph.number_of_nodes(),
                "names": [],
                "svg": drawing.svg(graph, title),
                "levels": drawing.levels_svg(graph, f"{title}, level by level"),
            }
        found[identity]["names"].append(finalist.name)
    return list(found.values())


def _failures(results: Results) -> dict[str, Any]:
    """Every failure with its place and reason, and how often each reason occurs."""
    describe = results.experiment.space.describe
    rows = [
        (f"{label}, seed {seed}, round {found.proposal.round}, slot {found.proposal.slot}", found)
        for label, seed, found in results.evaluations()
        if not found.ok
    ]
    rows += [
        (f"{finalist.name}, {kind} {repeat.proposal.slot}", repeat)
        for finalist in results.finalists
        for kind, repeats in (("training", finalist.repeats), ("transfer", finalist.transferred))
        for repeat in repeats
        if not repeat.ok
    ]
    reasons = Counter(provenance.without_paths(found.reason) for _, found in rows)
    return {
        "count": len(rows),
        "reasons": reasons.most_common(),
        "rows": [
            (where, describe(found.proposal.genotype), provenance.without_paths(found.reason))
            for where, found in rows[:FAILURES_SHOWN]
        ],
    }


def _costs(results: Results) -> list[tuple[str, ...]]:
    """Per strategy and in all: candidates, trainings, cache hits, failures, epochs, time of search and finalists,
    energy and peak memory of both."""

    def row(name: str, evaluations: Sequence[Evaluation], finalists: Iterable[Retrained]) -> tuple[str, ...]:
        hits = sum(found.proposal.duplicate_of is not None for found in evaluations)
        repeats = [repeat for finalist in finalists for repeat in (*finalist.repeats, *finalist.transferred)]
        return (
            name,
            f"{len(evaluations):,}",
            f"{len(evaluations) - hits:,}",
            f"{hits:,}",
            f"{sum(not found.ok for found in evaluations):,}",
            f"{sum(found.cost.epochs for found in evaluations):,}",
            style.duration(pareto.seconds_of(evaluations)),
            style.duration(pareto.seconds_of(repeats)),
            *_usage([*(found for found in evaluations if found.proposal.duplicate_of is None), *repeats]),
        )

    rows = [
        row(label, results.pooled(label), [one for one in results.finalists if one.strategy == label])
        for label in results.histories
    ]
    return [*rows, row("all", [found for _, _, found in results.evaluations()], results.finalists)]


def _usage(trained: Sequence[Evaluation]) -> tuple[str, str]:
    """Energy in all and the highest peak of memory, as far as they are known."""
    energies = [found.cost.energy for found in trained if found.cost.energy is not None]
    peaks = [found.cost.peak_memory for found in trained if found.cost.peak_memory is not None]
    known = "" if len(energies) == len(trained) else f" (known of {len(energies)} of {len(trained)})"
    return (
        f"{style.energy(sum(energies))}{known}" if energies else "unknown",
        style.memory(max(peaks)) if peaks else "unknown",
    )


def _rules(experiment: Experiment) -> list[tuple[str, ...]]:
    """Per rule of the workflow: jobs, seconds, CPU seconds and memory, as Snakemake measured them."""
    return [
        (
            cost.rule,
            f"{cost.jobs:,}",
            style.duration(cost.seconds),
            "too short" if cost.cpu_seconds is None else style.duration(cost.cpu_seconds),
            "too short" if cost.memory is None else style.memory(cost.memory),
        )
        for cost in benchmarks.read(experiment.folder.benchmarks)
    ]
