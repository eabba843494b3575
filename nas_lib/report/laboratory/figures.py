"""The figures of a laboratory as files. Equal results give equal files, byte for byte."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_lib import pareto
from nas_lib.laboratory.settings import Laboratory
from nas_lib.report import style
from nas_lib.report.figures import FORMATS, WIDTH, draw_band, label_axes, look, save, sentence, with_panels
from nas_lib.report.laboratory.results import Results, axis, heading, read
from nas_lib.report.laboratory.tables import write_tables
from nas_lib.report.results import staircase
from nas_lib.report.summary import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
"""Panels side by side."""
INK = "#010203"
"""Black of the diagram of ranks, which a page replaces by the colour of its text."""


def figure_names(laboratory: Laboratory) -> list[str]:
    """The files `write_figures` makes, known before anything has run."""
    kinds = ["hypervolume", "attainment", "targets", "foretold", *(["best"] if laboratory.target else [])]
    plots = ["ranks", "proposing", *(f"{kind}-{title}" for title in laboratory.titles for kind in kinds)]
    return [f"{plot}.{suffix}" for plot in plots for suffix in FORMATS]


def write_figures(laboratory: Laboratory) -> None:
    """Write every figure, and the numbers behind them as tables.

    Raises:
        FileNotFoundError: a search or the comparison is not there yet.
    """
    results = read(laboratory)
    write_tables(results)
    folder = laboratory.folder.figures
    folder.mkdir(parents=True, exist_ok=True)
    with look():
        save(_ranks(results), folder / "ranks")
        save(_proposing(results), folder / "proposing")
        for title in results.problems:
            save(_hypervolume(results, title), folder / f"hypervolume-{title}")
            save(_attainment(results, title), folder / f"attainment-{title}")
            save(_targets(results, title), folder / f"targets-{title}")
            if results.best:
                save(_best(results, title), folder / f"best-{title}")
            save(_foretold(results, title), folder / f"foretold-{title}")


def ranks_svg(results: Results) -> str:
    """The diagram of ranks as an SVG element in the colours of the page it stands in."""
    file = io.BytesIO()
    with look():
        _ranks(results).savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    text = file.getvalue().decode()
    return text[text.index("<svg") :].replace(INK, "currentColor")


def _seeds(results: Results) -> str:
    return counted(len(results.laboratory.seeds), "seed")


def _hypervolume(results: Results, title: str) -> Figure:
    figure, (axes,) = with_panels(1)
    for index, label in enumerate(results.labels):
        found = results.hypervolume(title, label)
        draw_band(axes, index, label, found, opacity=style.opacity(len(results.labels)))
    interval = ", 95 % bootstrap interval" if len(results.laboratory.seeds) > 1 else ""
    label_axes(axes, "Distinct evaluations", _share(results, title), f"{title}: mean of {_seeds(results)}{interval}")
    return figure


def _share(results: Results, title: str) -> str:
    """Title of the axis of hypervolume."""
    exact = results.problems[title]["denominator"]["exact"]
    return f"Hypervolume (share of the {'exact front' if exact else 'best known front'})"


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    """Panels side by side that share their axes."""
    from matplotlib.figure import Figure

    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH, 2.2 * rows + 0.5), layout="constrained")
    grid = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, grid[:count]


def _attainment(results: Results, title: str) -> Figure:
    """What each strategy attains, one panel per strategy, with the front as points."""
    problem = results.problems[title]
    if len(problem["objectives"]) != 2:
        return sentence(f"{title} has {len(problem['objectives'])} objectives: surfaces are drawn for two.")
    x, y = problem["objectives"]
    front = np.array(problem["front"])
    window = results.window(title)
    corner = window[0][1], window[1][1]
    figure, grid = _grid(len(results.labels))
    for index, (axes, label) in enumerate(zip(grid, results.labels, strict=True)):
        colour = style.colour(index)
        best, median, worst = (staircase(surface.tolist(), corner) for surface in results.attainment(title, label))
        axes.fill(*zip(*best, *reversed(worst), strict=True), color=colour, alpha=0.25, lw=0)
        axes.plot(*zip(*median, strict=True), color=colour, lw=1.3)
        axes.plot(front[:, 0], front[:, 1], ".", color="#666666", ms=2)
        axes.set(xlim=window[0], ylim=window[1], title=label)
    figure.supxlabel(axis(problem, x), fontsize=9)
    figure.supylabel(axis(problem, y), fontsize=9)
    known = "exact front" if problem["denominator"]["exact"] else "front of all searches"
    figure.suptitle(
        f"{title}, {_seeds(results)}. Line: median attainment; band: best to worst seed; points: {known}",
        fontsize=7.5,
        color="#555555",
        x=0.01,
        ha="left",
    )
    return figure


def _targets(results: Results, title: str) -> Figure:
    """Evaluations to every level, a row per strategy; an arrow where the median lies beyond the budget."""
    from matplotlib.figure import Figure

    targets, budget = results.problems[title]["targets"], results.laboratory.budget.evaluations
    columns = min(COLUMNS, len(targets))
    rows = -(-len(targets) // columns)
    figure = Figure(figsize=(WIDTH, rows * (0.7 + 0.17 * len(results.labels)) + 0.5), layout="constrained")
    grid = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for axes, target in zip(grid, targets, strict=False):
        for row, label in enumerate(results.labels):
            found, colour = target["strategies"][label], style.colour(row)
            if found["low"] is not None:
                axes.plot([found["low"], found["high"] or budget], [row, row], color=colour, lw=1.2)
            if found["median"] is None:
                axes.plot(budget, row, ">", mfc="none", mec=colour, ms=6)
            else:
                axes.plot(found["median"], row, style.marker(row)[1], color=colour, ms=5)
        axes.set_title(textwrap.fill(heading(target), 26), fontsize=7.5)
        axes.set_yticks(range(len(results.labels)), results.labels)
        axes.set(xlim=(0, 1.06 * budget), ylim=(len(results.labels) - 0.5, -0.5))
        axes.grid(axis="x", color="#dddddd", lw=0.6)
    for axes in grid[len(targets) :]:
        axes.set_visible(False)
    figure.supxlabel(
        f"Distinct evaluations to the level of hypervolume: median of {_seeds(results)}, 95 % interval\n"
        f"arrow: fewer than half reached it within {budget}",
        fontsize=8,
    )
    figure.suptitle(title, fontsize=8, color="#555555", x=0.01, ha="left")
    return figure


def _best(results: Results, title: str) -> Figure:
    """Share of searches that have found none of the best, over evaluations."""
    figure, (axes,) = with_panels(1)
    for index, label in enumerate(results.labels):
        draw_band(axes, index, label, results.unfound(title, label), opacity=style.opacity(len(results.labels)))
    axes.set_ylim(0, 1.02)
    note = f"{title}: share of {_seeds(results)}, 95 % confidence interval"
    label_axes(axes, "Distinct evaluations", f"Searches that found none of {results.best}", note)
    return figure


def _foretold(results: Results, title: str) -> Figure:
    """Rank correlation of predictions with what was then measured, one panel per objective."""
    found = results.foretold(title)
    if not found:
        return sentence(f"{title}: no strategy recorded predictions that could be ranked.")
    figure, panels = with_panels(len(found))
    figure.set_size_inches(WIDTH, 2.9 * len(found))
    for axes, (name, bands) in zip(panels, found.items(), strict=True):
        for label, band in bands.items():
            index = results.labels.index(label)
            colour, line = style.colour(index), style.LINES[style.dash(index)]
            axes.plot(band.x, band.mean, color=colour, ls=line, marker=style.marker(index)[1], ms=4, label=label)
            axes.fill_between(band.x, band.low, band.high, color=colour, alpha=0.18, lw=0)
        axes.axhline(0, color="#888888", lw=0.8)
        axes.locator_params(axis="x", integer=True)
        note = f"{title}: predictions of {name}, mean and range of {_seeds(results)}"
        label_axes(axes, "Round", "Rank correlation (Kendall)", note)
    return figure


def _proposing(results: Results) -> Figure:
    """CPU seconds per proposal of every strategy, a mark per problem."""
    figure, (axes,) = with_panels(1)
    figure.set_size_inches(WIDTH, 0.9 + 0.26 * len(results.labels))
    for row, label in enumerate(results.labels):
        seconds = [results.proposing(title, label) for title in results.problems]
        axes.plot(seconds, [row] * len(seconds), style.marker(row)[1], mfc="none", mec=style.colour(row), ms=6)
    axes.set_xscale("log")
    axes.set_yticks(range(len(results.labels)), results.labels)
    axes.set_ylim(len(results.labels) - 0.5, -0.5)
    axes.grid(axis="x", color="#dddddd", lw=0.6)
    axes.set_xlabel(f"CPU seconds per proposal: each problem, mean of {_seeds(results)}")
    return figure


def _ranks(results: Results) -> Figure:
    """Critical-difference diagrams (Demšar 2006), one per checkpoint."""
    from matplotlib.figure import Figure

    overall = results.comparison["overall"]
    if len(results.labels) < 2:
        return sentence("Ranks need two strategies.")
    checkpoints = overall["checkpoints"]
    side = -(-len(results.labels) // 2)
    groups = [
        pareto.alike(list(checkpoint["ranks"].values()), checkpoint["critical_difference"])
        for checkpoint in checkpoints
    ]
    heights = [0.6 + 0.22 * len(found) + 0.5 * side for found in groups]
    figure = Figure(figsize=(WIDTH, 0.36 * sum(height + 1.7 for height in heights)), layout="constrained")
    panels = figure.subplots(
        len(checkpoints), 1, squeeze=False, height_ratios=[height + 1.7 for height in heights]
    ).flat
    for axes, checkpoint, joined, height in zip(panels, checkpoints, groups, heights, strict=True):
        _draw_ranks(axes, checkpoint, joined, height, overall["blocks"])
    return figure


def _draw_ranks(
    axes: Axes, checkpoint: dict[str, Any], groups: Sequence[Sequence[int]], height: float, blocks: int
) -> None:
    """An axis of mean ranks, best on the left; strategies hang from it, bars join those that are alike."""
    ranks, difference = checkpoint["ranks"], checkpoint["critical_difference"]
    labels, count = list(ranks), len(ranks)
    order = sorted(range(count), key=lambda place: ranks[labels[place]])
    axes.set(xlim=(1 - 0.32 * count, count + 0.32 * count), ylim=(height, -1.7))
    axes.set_axis_off()
    axes.plot([1, count], [0, 0], color=INK, lw=1)
    for tick in range(1, count + 1):
        axes.plot([tick, tick], [0, -0.12], color=INK, lw=1)
        axes.text(tick, -0.2, str(tick), ha="center", va="bottom", color=INK, fontsize=8)
    for row, group in enumerate(groups):
        ends = [ranks[labels[group[0]]] - 0.04, ranks[labels[group[-1]]] + 0.04]
        axes.plot(ends, [0.3 + 0.22 * row] * 2, color=INK, lw=3, solid_capstyle="butt")
    below = 0.55 + 0.22 * len(groups)
    left = -(-count // 2)
    for place, strategy in enumerate(order):
        rank, colour = ranks[labels[strategy]], style.colour(strategy)
        row, edge = (place, 1 - 0.06 * count) if place < left else (count - 1 - place, count + 0.06 * count)
        depth = below + 0.5 * row
        axes.plot([rank, rank, edge], [0, depth, depth], color=colour, lw=1.2)
        axes.plot(rank, 0, style.marker(strategy)[1], color=colour, ms=5, clip_on=False)
        side, step = ("right", -0.1) if place < left else ("left", 0.1)
        axes.text(edge + step, depth, f"{labels[strategy]} {rank:.2f}", ha=side, va="center", color=INK, fontsize=8)
    axes.plot([1, 1 + difference], [-1.0, -1.0], color=INK, lw=1.5, marker="|", ms=5)
    test = checkpoint["friedman"]
    words = f"critical difference {difference:.2f}; after {checkpoint['evaluations']} evaluations, {blocks} blocks"
    words += f"; Friedman p = {test['p']:.2g}" if test else ""
    axes.text(1, -1.15, words, ha="left", va="bottom", color=INK, fontsize=8)
