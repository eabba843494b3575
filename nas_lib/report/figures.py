"""The figures as files, for papers and for Snakemake's own report. Equal results give equal files, byte for byte."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from nas_lib import pareto
from nas_lib.evaluation.objectives import QUANTITIES
from nas_lib.experiment import Experiment
from nas_lib.layout import write_text
from nas_lib.records import Evaluation
from nas_lib.report import drawing, style
from nas_lib.report.analysis import Analysis, analyse
from nas_lib.report.descent import Growth
from nas_lib.report.results import Band, Results, Retrained, band, curves_end, end_of, mean_and_sd, read, staircase
from nas_lib.report.summary import counted
from nas_lib.report.tables import write_tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("svg", "pdf")
WIDTH = 6.4
"""Inches."""
EMPTY = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="420" height="30" font-family="sans-serif" font-size="12">'
    '<text x="4" y="20">No finalist of this rank: the front has fewer members.</text></svg>\n'
)
"""The drawing of a finalist that does not exist."""
MANY_POINTS = 2000
"""From this many points on they are stored as an image."""


def figure_names(experiment: Experiment) -> list[str]:
    """The files `write_figures` makes, known before anything has run."""
    plots = [
        "front",
        "hypervolume",
        "hypervolume-epochs",
        "hypervolume-seconds",
        "ranks",
        "importance",
        "dependence",
        "draws",
        "learning-curves",
        "foretelling",
        *(["finalists"] if experiment.finalists.count else []),
        *(["size"] if "mutate" in experiment.space.operators() else []),
    ]
    drawings = list(_drawings(experiment).values())
    return [f"{plot}.{suffix}" for plot in plots for suffix in FORMATS] + drawings + [*map(_levels, drawings)]


def _levels(drawing: str) -> str:
    """The file with the levels of the graph of another file."""
    return drawing.replace("graph-", "levels-", 1)


def _drawings(experiment: Experiment) -> dict[tuple[str, int, int], str]:
    """Strategy label, seed and rank of a finalist -> the file with its graph."""
    return {
        (label, seed, rank): f"graph-{label}-seed-{seed}-finalist-{rank}.svg"
        for label in experiment.labels
        for seed in experiment.seeds
        for rank in range(experiment.finalists.count)
    }


def write_figures(experiment: Experiment) -> None:
    """Write every figure, the finalists' graphs, and the numbers behind them as tables.

    Raises:
        FileNotFoundError: a result it needs is not there yet.
    """
    results = read(experiment)
    analysis = analyse(results)
    write_tables(results, analysis)
    folder = experiment.folder.figures
    write_comparison_figures(results, folder)
    with look():
        save(_hypervolume(results, "epochs"), folder / "hypervolume-epochs")
        save(_importance(analysis), folder / "importance")
        save(_dependence(results, analysis), folder / "dependence")
        save(_draws(analysis), folder / "draws")
        save(_learning_curves(results), folder / "learning-curves")
        save(_foretelling(results, analysis), folder / "foretelling")
        if analysis.growth:
            save(_size(results, analysis.growth), folder / "size")
    found = {(finalist.strategy, finalist.seed, finalist.rank): finalist for finalist in results.finalists}
    for place, name in _drawings(experiment).items():
        whole, levels = _drawn(experiment, found.get(place))
        write_text(folder / name, whole)
        write_text(folder / _levels(name), levels)


def write_comparison_figures(results: Results, folder: Path) -> None:
    """Write the figures that hold searches against each other; they know nothing of the space."""
    folder.mkdir(parents=True, exist_ok=True)
    with look():
        save(_front(results), folder / "front")
        save(_hypervolume(results), folder / "hypervolume")
        save(_hypervolume(results, "seconds"), folder / "hypervolume-seconds")
        save(_ranks(results), folder / "ranks")
        if results.experiment.finalists.count:
            save(_finalists(results), folder / "finalists")


def look() -> AbstractContextManager[None]:
    """How every figure looks; equal ones have equal bytes."""
    import matplotlib as mpl

    return mpl.rc_context({"svg.hashsalt": "nas", "axes.spines.top": False, "axes.spines.right": False, "font.size": 9})


def _drawn(experiment: Experiment, finalist: Retrained | None) -> tuple[str, str]:
    """The drawing of a finalist's graph, and of its levels."""
    if finalist is None:
        return EMPTY, EMPTY
    genotype = finalist.chosen.proposal.genotype
    graph, title = experiment.space.graph(genotype), f"{finalist.name}: {experiment.space.describe(genotype)}"
    whole = drawing.svg(graph, title)
    return whole, drawing.levels_svg(graph, f"{title}, level by level") or whole


def save(figure: Figure, path: Path) -> None:
    """Write a figure in all formats, without its date."""
    for suffix in FORMATS:
        date = "CreationDate" if suffix == "pdf" else "Date"
        figure.savefig(path.with_suffix(f".{suffix}"), metadata={date: None})


def with_panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure of panels one above the other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 3.8 * count), layout="constrained")
    return figure, [figure.add_subplot(count, 1, panel) for panel in range(1, count + 1)]


def sentence(words: str) -> Figure:
    """A figure that says why there is none."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 0.8 + 0.2 * words.count("\n")))
    figure.text(0.5, 0.5, words, ha="center", va="center")
    return figure


def _front(results: Results) -> Figure:
    """Every candidate and the front of each strategy, per pair of objectives; with one objective the best so far."""
    if not any(evaluation.counts for _, _, evaluation in results.evaluations()):
        return sentence("No candidate succeeded.")
    figure, panels = with_panels(max(1, len(results.pairs)))
    if not results.pairs:
        name = results.objectives[0]
        for label in results.histories:
            _draw_band(panels[0], results, label, results.best_so_far(label), name)
        if end := results.axis_end(name):
            shown = [style.scaled(name, found.objectives[name]) for *_, found in results.evaluations() if found.ok]
            panels[0].set_ylim(*style.limits(shown, style.scaled(name, end.at)))
        label_axes(panels[0], "Evaluations", style.axis(name), _ranged(results))
    else:
        for panel, (x, y) in zip(panels, results.pairs, strict=True):
            _draw_front(panel, results, x, y)
    return figure


def _draw_front(axes: Axes, results: Results, x: str, y: str) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    def values(name: str, evaluations: Sequence[Evaluation]) -> list[float]:
        return [style.scaled(name, evaluation.objectives[name]) for evaluation in evaluations]

    successful = [evaluation for _, _, evaluation in results.evaluations() if evaluation.ok]
    ends = {name: results.axis_end(name) for name in (x, y)}
    far = end_of(x, values(x, successful), ends[x]), end_of(y, values(y, successful), ends[y])
    for index, label in enumerate(results.histories):
        _, marker = style.marker(index)
        colour = style.colour(index)
        candidates = [evaluation for evaluation in results.pooled(label) if evaluation.counts]
        partial = [evaluation for evaluation in results.pooled(label) if evaluation.ok and not evaluation.counts]
        front = results.front(label, results.objectives)
        best, median, worst = (
            staircase([(style.scaled(x, one), style.scaled(y, other)) for one, other in surface], far)
            for surface in results.attainment(label, (x, y))
        )
        for shown, size, opacity in ((candidates, 4, 0.6), (partial, 2, 0.35)):
            (points,) = axes.plot(
                values(x, shown), values(y, shown), marker, mfc="none", mec=colour, mew=0.7, ms=size, alpha=opacity
            )
            points.set_rasterized(len(shown) > MANY_POINTS)
        if len(results.histories[label]) > 1:
            axes.fill(*zip(*best, *reversed(worst), strict=True), color=colour, alpha=0.15, lw=0)
        axes.plot(*zip(*median, strict=True), color=colour, lw=1.3, ls=style.LINES[style.dash(index)])
        axes.plot(values(x, front), values(y, front), marker, color=colour, ms=6, label=label)
    for axis, name, last, set_scale, set_limits in (
        (axes.xaxis, x, far[0], axes.set_xscale, axes.set_xlim),
        (axes.yaxis, y, far[1], axes.set_yscale, axes.set_ylim),
    ):
        found = values(name, successful)
        kind = style.axis_type([*(value for value in found if value <= last), last])
        set_scale(kind)
        if ends[name] is not None:
            set_limits(*style.limits(found, last, kind))
        if kind == "log":
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_locator(NullLocator())
    note = f"{_seeds(results)}; filled: front of all seeds. {_attained(results)}"
    titles = {name: style.axis(name) + (f"\n{end.beyond} beyond the axis" if end else "") for name, end in ends.items()}
    label_axes(axes, titles[x], titles[y], note)


def _attained(results: Results) -> str:
    if len(results.experiment.seeds) < 2:
        return "Line: the front"
    return "Line: median attainment; band: best to worst seed"


def _seeds(results: Results) -> str:
    return counted(len(results.experiment.seeds), "seed")


def label_axes(axes: Axes, x: str, y: str, note: str = "") -> None:
    """Titles of the axes, a legend above, and what marks mean in a line at the top."""
    axes.set(xlabel=x, ylabel=y)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.06), ncols=4, frameon=False, borderaxespad=0)
    axes.text(0, 1.015, note, transform=axes.transAxes, fontsize=7.5, color="#555555")


def _hypervolume(results: Results, spent: Literal["epochs", "seconds"] | None = None) -> Figure:
    if results.comparison["reference"] is None:
        return sentence("No candidate succeeded.")
    figure, (axes,) = with_panels(1)
    for label in results.histories:
        _draw_band(axes, results, label, results.hypervolumes(label), spent=spent)
    axes.set_ylim(bottom=0)
    titles = {
        "epochs": "Epochs of training",
        "seconds": "Seconds of proposing, training and measuring",
        None: "Evaluations",
    }
    label_axes(axes, titles[spent], "Hypervolume (share of the box)", _ranged(results))
    return figure


def _ranged(results: Results) -> str:
    """What line and band of a figure over seeds are."""
    several = len(results.experiment.seeds) > 1
    return f"Mean and range of {_seeds(results)}" if several else "1 seed, so no range"


def _draw_band(
    axes: Axes,
    results: Results,
    label: str,
    series: Sequence[Sequence[float]],
    objective: str | None = None,
    spent: Literal["epochs", "seconds"] | None = None,
) -> None:
    """The mean over seeds within the range from the lowest to the highest seed."""
    found = band(series, results.spent(label, spent) if spent else None)
    if found is not None:
        draw_band(axes, results.labels.index(label), label, found, style.scaled(objective, 1.0) if objective else 1.0)


def draw_band(axes: Axes, index: int, label: str, found: Band, scale: float = 1.0, opacity: float = 0.18) -> None:
    """The mean of a strategy within its band, times a scale."""
    colour = style.colour(index)
    line = style.LINES[style.dash(index)]
    axes.step(found.x, scale * found.mean, where="post", color=colour, ls=line, label=label)
    axes.fill_between(found.x, scale * found.low, scale * found.high, step="post", color=colour, alpha=opacity, lw=0)


def _ranks(results: Results) -> Figure:
    """Rank of the final hypervolume of each strategy in every seed, and their mean."""
    ranks = results.comparison["ranks"]
    if results.comparison["reference"] is None or len(ranks) < 2:
        return sentence("Ranks need two strategies and a candidate that succeeded.")
    figure, (axes,) = with_panels(1)
    figure.set_size_inches(WIDTH, 1.4 + 0.35 * len(ranks))
    finals = {
        (search["strategy"], search["seed"]): search["hypervolume"][-1] if search["hypervolume"] else 0.0
        for search in results.comparison["searches"]
    }
    table = [pareto.mean_ranks([[finals[label, seed] for label in ranks]]) for seed in results.experiment.seeds]
    for row, label in enumerate(ranks):
        single = [entry[row] for entry in table]
        steps = [0.08 * (place - (len(single) - 1) / 2) / max(1, len(single) / 5) for place in range(len(single))]
        axes.plot(single, [row + step for step in steps], "|", color=style.colour(row), ms=8)
        axes.plot(ranks[label], row, style.marker(row)[1], color=style.colour(row), ms=7)
    tests = results.comparison["tests"]
    axes.set_yticks(
        range(len(ranks)),
        [f"{label} (p = {tests[label]['p_holm']:.2g})" if label in tests else f"{label} (baseline)" for label in ranks],
    )
    axes.set(xlim=(0.9, len(ranks) + 0.1), ylim=(-0.5, len(ranks) - 0.5))
    axes.set_xticks(range(1, len(ranks) + 1))
    axes.invert_yaxis()
    axes.set_xlabel(
        f"Rank of the final hypervolume (1: largest): each of {_seeds(results)} and the mean\n"
        f"p: Wilcoxon's signed ranks against the baseline{', corrected by Holm' if len(tests) > 1 else ''}"
    )
    return figure


def _importance(analysis: Analysis) -> Figure:
    """Permutation importance of every searched number, one panel per objective."""
    shown = [(one, one.found) for one in analysis.dependences if one.found is not None and not one.remark]
    if not shown:
        return sentence(_remarks(analysis))
    figure, panels = with_panels(len(shown))
    figure.set_size_inches(WIDTH, len(shown) * (1.2 + 0.22 * len(analysis.dimensions)))
    for axes, (dependence, found) in zip(panels, shown, strict=True):
        order = np.argsort([one.value for one in found.importance])
        values = [found.importance[place] for place in order]
        spans = [[one.value - one.low for one in values], [one.high - one.value for one in values]]
        axes.errorbar(
            [one.value for one in values],
            range(len(order)),
            xerr=spans,
            fmt="o",
            color=style.colour(0),
            ms=5,
            capsize=3,
        )
        axes.axvline(0, color="#888888", lw=0.8)
        axes.set_yticks(range(len(order)), [analysis.dimensions[place] for place in order])
        axes.set_xlabel(
            f"{QUANTITIES[dependence.objective].title}: R² lost by shuffling, of {found.r2:.2f}\n"
            f"(n = {dependence.candidates} candidates, 95 % bootstrap interval)"
        )
    return figure


def _remarks(analysis: Analysis) -> str:
    remarks = [one.remark for one in analysis.dependences]
    words = "\n".join("\n".join(textwrap.wrap(remark, 100)) for remark in remarks)
    return words or "The space has no numbers to search."


def _dependence(results: Results, analysis: Analysis) -> Figure:
    """Partial dependence of each objective (rows of panels) on every searched number."""
    from matplotlib.figure import Figure

    shown = [(one.objective, one.found) for one in analysis.dependences if one.found is not None and not one.remark]
    if not shown:
        return sentence(_remarks(analysis))
    columns = min(4, len(analysis.dimensions))
    rows = -(-len(analysis.dimensions) // columns)
    figure = Figure(figsize=(WIDTH, 1.75 * rows * len(shown)), layout="constrained")
    for part, (name, found) in zip(figure.subfigures(len(shown), 1, squeeze=False).flat, shown, strict=True):
        panels = part.subplots(rows, columns, sharey=True, squeeze=False).flat
        part.supylabel(style.axis(name), fontsize=9)
        for place, axes in enumerate(panels):
            if place >= len(analysis.dimensions):
                axes.set_visible(False)
                continue
            x = results.experiment.architectures.values(place, found.grids[place])
            mean, low, high = (style.scaled(name, 1.0) * row for row in found.dependence[place])
            axes.plot(x, mean, ".-", color=style.colour(0), lw=1.2, ms=3)
            axes.fill_between(x, low, high, color=style.colour(0), alpha=0.18, lw=0)
            axes.set_xlabel(analysis.dimensions[place])
    return figure


def _draws(analysis: Analysis) -> Figure:
    """The draws of each generator, by mean; one panel per objective."""
    if not analysis.spreads:
        return sentence("No two points of the space were drawn from several times.")
    figure, panels = with_panels(len(analysis.spreads))
    for axes, spread in zip(panels, analysis.spreads, strict=True):
        for place, values in enumerate(spread.draws, start=1):
            scaled = [style.scaled(spread.objective, value) for value in values]
            axes.plot([place] * len(scaled), scaled, "o", mfc="none", color=style.colour(0), ms=4, mew=0.8)
            axes.plot(place, np.mean(scaled), "_", color=style.colour(1), ms=10, mew=2)
        axes.locator_params(axis="x", integer=True)
        parts, icc = spread.components, spread.components.icc
        axes.set(
            xlabel=f"{parts.groups} generators by mean (bar), {parts.members} draws; intraclass correlation "
            f"{icc.value:.2f} (95 % CI {icc.low:.2f} to {icc.high:.2f})" + f"\n{spread.caveat}" * bool(spread.caveat),
            ylabel=style.axis(spread.objective),
        )
    return figure


def _learning_curves(results: Results) -> Figure:
    """The main measure over epochs of all candidates that were trained for two or more, one panel per strategy."""
    from matplotlib.figure import Figure

    scale = style.scaled(results.measure, 1.0)
    curves = {
        label: [
            np.array(curve)
            for evaluation in results.pooled(label)
            if evaluation.ok and evaluation.proposal.duplicate_of is None
            if len(curve := evaluation.curves.get(f"validation_{results.measure}", [])) > 1
        ]
        for label in results.histories
    }
    if not any(curves.values()):
        return sentence("No candidate was trained for two epochs or more.")
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(WIDTH, 2.6 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for index, (axes, (label, found)) in enumerate(zip(panels, curves.items(), strict=False)):
        for course in found:
            axes.plot(range(1, len(course) + 1), scale * course, color=style.colour(index), lw=0.6, alpha=0.4)
        axes.set_title(f"{label} (n = {len(found)})", fontsize=9)
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
    panels[0].locator_params(axis="x", integer=True)
    figure.supxlabel("Epochs", fontsize=9)
    end = curves_end(results)
    if end:
        panels[0].set_ylim(0, scale * end.at)
    beyond = f"\n{counted(end.beyond, 'curve')} beyond the axis" if end else ""
    figure.supylabel(style.axis(results.measure) + beyond, fontsize=9)
    return figure


def _size(results: Results, growth: Growth) -> Figure:
    """Mean size of the candidates of each round, the median of those that survived it, and size without selection."""
    if not any(growth.candidates.values()):
        return sentence("No candidate succeeded.")
    figure, (axes,) = with_panels(1)
    for index, (label, sizes) in enumerate(growth.candidates.items()):
        colour = style.colour(index)
        if sizes is not None:
            line = style.LINES[style.dash(index)]
            axes.plot(sizes.x, sizes.mean, color=colour, ls=line, marker=".", ms=4, label=label)
            axes.fill_between(sizes.x, sizes.low, sizes.high, color=colour, alpha=0.15, lw=0)
        if survivors := growth.survivors[label]:
            axes.plot(*zip(*survivors, strict=True), ":", color=colour, lw=1, label=f"{label}, survivors")
    if nothing := growth.unselected:
        axes.plot(*zip(*nothing.means, strict=True), "--", color=style.NEUTRAL, label="no selection")
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="x", integer=True)
    note = f"Candidates of each round. {_ranged(results)}. Survivors: median"
    label_axes(axes, "Round", style.axis(growth.figure), note)
    return figure


def _foretelling(results: Results, analysis: Analysis) -> Figure:
    """Rank correlation of the early and final main measure, per strategy."""

    if not any(analysis.foretelling.values()):
        what = "errors" if results.measure == "error" else "values"
        return sentence(f"Too few candidates were trained for two epochs or more to correlate early and final {what}.")
    figure, (axes,) = with_panels(1)
    figure.set_size_inches(WIDTH, 2.8)
    for index, (label, entries) in enumerate(analysis.foretelling.items()):
        values = [entry.correlation for entry in entries]
        if entries:
            axes.errorbar(
                [entry.epochs + 0.04 * index for entry in entries],
                [one.value for one in values],
                yerr=[[one.value - one.low for one in values], [one.high - one.value for one in values]],
                fmt=style.marker(index)[1],
                ls=style.LINES[style.dash(index)],
                color=style.colour(index),
                ms=5,
                capsize=3,
                label=f"{label} (n = {entries[0].candidates})",
            )
    axes.locator_params(axis="x", integer=True)
    epochs = results.experiment.budget.epochs
    label_axes(
        axes,
        f"Epochs (of {epochs})",
        "Rank correlation with the end",
        "Spearman, 95 % bootstrap interval over candidates",
    )
    return figure


def _finalists(results: Results) -> Figure:
    """The test error, or other main measure, of every network, or training of the only one, with mean and standard
    deviation of each finalist."""
    tested = [finalist for finalist in results.finalists if finalist.test_values]
    if not tested:
        return sentence("No finalist was trained successfully.")
    figure, (axes,) = with_panels(1)
    figure.set_size_inches(WIDTH, 1.2 + 0.3 * len(tested))
    what = "training" if results.experiment.finalists.draws == 1 else "network"
    for row, finalist in enumerate(tested):
        index = results.labels.index(finalist.strategy)
        values = [style.scaled(results.measure, value) for value in finalist.test_values]
        mean, sd = mean_and_sd(values)
        axes.plot(values, [row] * len(values), "|", color=style.colour(index), ms=9)
        axes.errorbar(mean, row, xerr=sd, fmt=style.marker(index)[1], color=style.colour(index), ms=5, capsize=3)
    axes.set_yticks(range(len(tested)), [f"{finalist.name} (n = {len(finalist.test_values)})" for finalist in tested])
    axes.invert_yaxis()
    axes.set_xlabel(f"{style.tested(style.axis(results.measure))}: each {what}, mean and standard deviation")
    return figure
