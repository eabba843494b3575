"""The figures of a study as files, and the numbers behind them. Equal results give equal files, byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas_lib.layout import write_text
from nas_lib.predictor_study.settings import PredictorStudy
from nas_lib.report import style
from nas_lib.report.figures import FORMATS, WIDTH, look, save
from nas_lib.report.predictor_study.results import QUANTITIES, TABLES, Results, read
from nas_lib.report.summary import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = {"correlation": ("kendall", "spearman"), "error": ("mape",), "seconds": ("fit_seconds", "predict_seconds")}
"""Kind of a figure -> what it shows of every objective."""


def figure_names(study: PredictorStudy) -> list[str]:
    """The files `write_figures` makes, known before anything has run."""
    return [f"{kind}-{title}.{suffix}" for title in study.titles for kind in KINDS for suffix in FORMATS]


def write_figures(study: PredictorStudy) -> None:
    """Write every figure, and the numbers behind them as tables.

    Raises:
        FileNotFoundError: measurements of a problem are not there yet.
    """
    import pandas as pd

    results = read(study)
    for name, frame in zip(TABLES, (results.measurements, pd.DataFrame(results.means())), strict=True):
        write_text(study.folder.tables / name, frame.to_csv(index=False))
    folder = study.folder.figures
    folder.mkdir(parents=True, exist_ok=True)
    with look():
        for title in study.titles:
            for kind in KINDS:
                save(_drawn(results, title, kind), folder / f"{kind}-{title}")


def _drawn(results: Results, title: str, kind: str) -> Figure:
    """A panel per objective and quantity: means over training-set size within their intervals."""
    from matplotlib.figure import Figure

    cases = [case for case in results.cases if case[0] == title]
    quantities = KINDS[kind]
    figure = Figure(figsize=(WIDTH, 3.0 * len(cases) + 0.9), layout="constrained")
    grid = figure.subplots(len(cases), len(quantities), sharex=True, squeeze=False)
    for case, row in zip(cases, grid, strict=True):
        for quantity, axes in zip(quantities, row, strict=True):
            _draw(axes, results, case, quantity)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=5, frameon=False)
    seeds = counted(len(results.study.seeds), "seed")
    interval = ", 95 % interval (t)" if len(results.study.seeds) > 1 else ""
    figure.supxlabel(
        f"Architectures learnt from. {title}: mean of {seeds}{interval}, on {results.held_out(title):,} held out",
        fontsize=8,
    )
    return figure


def _draw(axes: Axes, results: Results, case: tuple[str, str], quantity: str) -> None:
    for index, predictor in enumerate(results.study.predictors):
        band = results.band(case, predictor, quantity)
        if band is None:
            continue
        colour, mark = style.colour(index), style.marker(index)[1]
        axes.plot(
            band.x, band.mean, color=colour, ls=style.LINES[style.dash(index)], marker=mark, ms=4, label=predictor
        )
        opacity = style.opacity(len(results.study.predictors))
        axes.fill_between(band.x, band.low, band.high, color=colour, alpha=opacity, lw=0)
    axes.set_xscale("log")
    if quantity.endswith("seconds"):
        axes.set_yscale("log")
    axes.set_xticks(sorted(results.study.sizes), [str(size) for size in sorted(results.study.sizes)])
    axes.minorticks_off()
    axes.set_ylabel(f"{case[1]}: {QUANTITIES[quantity]}", fontsize=7.5)
