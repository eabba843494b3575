"""The figures of a study as files, and the numbers behind them. Equal results give equal files, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nas_lib.layout import write_text
from nas_lib.report import style
from nas_lib.report.figures import FORMATS, MANY_POINTS, WIDTH, look, save, sentence
from nas_lib.report.score_study.results import SCORE_KINDS, Benchmarked, read, titled
from nas_lib.score_study.analysis import Analysis, Others
from nas_lib.score_study.settings import ScoreStudy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("correlation", "scatter", "costs")
PANELS = 6
"""Scores of which the scatter is shown, the strongest ones."""


def figure_names(study: ScoreStudy) -> list[str]:
    """The files `write_figures` makes, known before anything has run."""
    return [f"{kind}-{title}.{suffix}" for title in study.titles for kind in _kinds(study, title) for suffix in FORMATS]


def _kinds(study: ScoreStudy, title: str) -> list[str]:
    return [*KINDS, *(["others"] if study.settings_of_benchmark(title).chosen_on else [])]


def write_figures(study: ScoreStudy) -> None:
    """Write every figure, and the numbers behind them as tables.

    Raises:
        FileNotFoundError: the analysis of a benchmark is not there yet.
    """
    results = read(study)
    for name, frame in results.tables().items():
        write_text(study.folder.tables / name, frame.to_csv(index=False))
    folder = study.folder.figures
    folder.mkdir(parents=True, exist_ok=True)
    with look():
        for each in results.benchmarks:
            for kind in _kinds(study, each.title):
                save(DRAWN[kind](each), folder / f"{kind}-{each.title}")


def _correlation(each: Benchmarked) -> Figure:
    """Tau of every score over all networks, with its interval and what was published."""
    published = {score: value for score in each.order if (value := each.published(score, "kendall")) is not None}
    return _forest(each, each.analysis, each.order, published, "published")


def _others(each: Benchmarked) -> Figure:
    """The same over the networks on which combinations were not chosen, and tau on those they were chosen on."""
    others = each.analysis.others
    if others is None:
        return sentence("It is not known on which networks combinations were chosen.")
    return _forest(each, others, each.order_of_others, others.taus, "where combinations were chosen")


def _forest(
    each: Benchmarked, found: Analysis | Others, order: Sequence[str], beside: Mapping[str, float], label: str
) -> Figure:
    """Tau of every score, the first on top, and a figure beside it."""
    from matplotlib.figure import Figure

    order = order[::-1]
    if not order:
        return sentence("No score has a correlation: none varies.")
    figure = Figure(figsize=(WIDTH, 1.3 + 0.21 * len(order)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(0, color=style.NEUTRAL, lw=0.8)
    for place, kind in enumerate(SCORE_KINDS):
        its = {
            row: one
            for row, score in enumerate(order)
            if each.kind(score) == kind and (one := found.correlation(score, "all", "kendall"))
        }
        if its:
            taus = np.array([[one.value, one.value - one.low, one.high - one.value] for one in its.values()]).T
            axes.errorbar(
                taus[0],
                [*its],
                xerr=taus[1:].clip(0),
                fmt=style.marker(place)[1],
                ms=4,
                lw=1,
                color=style.colour(place),
                label=kind,
            )
    rows = {row: beside[score] for row, score in enumerate(order) if score in beside}
    if rows:
        axes.scatter([*rows.values()], [*rows], marker="D", s=16, fc="none", ec="black", lw=0.8, label=label)
    axes.set_yticks(range(len(order)), [each.marked(score) for score in order], fontsize=7.5)
    axes.set_xlabel(f"Kendall's τ with {each.analysis.quantity}, 95 % interval; {found.networks:,} networks")
    figure.legend(loc="outside upper left", ncols=4, frameon=False)
    return figure


def _scatter(each: Benchmarked) -> Figure:
    """What was measured over the place by score, for the strongest scores."""
    from matplotlib.figure import Figure

    sizes = [score for score in each.order if each.kind(score) == "mere size"]
    shown = [score for score in each.order if score not in sizes][: PANELS - 1]
    shown += sizes[: PANELS - len(shown)]
    if not shown:
        return sentence("No score has a correlation: none varies.")
    rows = -(-len(shown) // 2)
    figure = Figure(figsize=(WIDTH, 0.6 + 2.2 * rows), layout="constrained")
    grid = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, score in zip(grid, shown, strict=False):
        finite = np.isfinite(each.scored.values[score])
        places, measured = each.places(score), each.scored.measured
        many = len(measured) >= MANY_POINTS
        for chosen, colour in ((finite, style.colour(0)), (~finite, style.colour(1))):
            axes.scatter(places[chosen], measured[chosen], s=4, lw=0, alpha=0.4, color=colour, rasterized=many)
        one = each.analysis.correlation(score, "all", "kendall")
        axes.set_title(f"{titled(score)}, τ = {one.value:.2f}" if one else titled(score), fontsize=8)
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    figure.supxlabel("Place by score (%), the best on the right; not finite: last, in another colour", fontsize=8)
    figure.supylabel(each.analysis.quantity, fontsize=8)
    return figure


def _costs(each: Benchmarked) -> Figure:
    """CPU seconds of each score alone."""
    from matplotlib.figure import Figure

    seconds = dict(reversed(each.seconds.items()))
    if not seconds:
        return sentence("No network could be built.")
    figure = Figure(figsize=(WIDTH, 0.9 + 0.2 * len(seconds)), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([1000 * its for its in seconds.values()], range(len(seconds)), "o", ms=4, color=style.colour(0))
    axes.set_xscale("log")
    axes.set_yticks(range(len(seconds)), [each.marked(score) for score in seconds], fontsize=7.5)
    count = each.costs["network"].nunique()
    axes.set_xlabel(f"CPU milliseconds for one network, each score alone: mean of {count} networks")
    return figure


DRAWN = {"correlation": _correlation, "scatter": _scatter, "costs": _costs, "others": _others}
"""Kind of figure -> what draws it of a benchmark."""
