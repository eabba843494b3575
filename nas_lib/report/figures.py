"""The figures as files, for papers and for Snakemake's own report. Equal results give equal files, byte for byte."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nas_lib.experiment import Experiment
from nas_lib.layout import write_text
from nas_lib.records import Evaluation
from nas_lib.report import drawing, style
from nas_lib.report.results import Results, Retrained, band, mean_and_sd, read
from nas_lib.report.summary import counted

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
    plots = ["front", "hypervolume", *(["finalists"] if experiment.finalists.count else [])]
    return [f"{plot}.{suffix}" for plot in plots for suffix in FORMATS] + list(_drawings(experiment).values())


def _drawings(experiment: Experiment) -> dict[tuple[str, int, int], str]:
    """Strategy label, seed and rank of a finalist -> the file with its graph."""
    return {
        (label, seed, rank): f"graph-{label}-seed-{seed}-finalist-{rank}.svg"
        for label in experiment.labels
        for seed in experiment.seeds
        for rank in range(experiment.finalists.count)
    }


def write_figures(experiment: Experiment) -> None:
    """Write the front, hypervolume over evaluations, the finalists' test errors and graphs.

    Raises:
        FileNotFoundError: a result it needs is not there yet.
    """
    import matplotlib as mpl

    results = read(experiment)
    folder = experiment.folder.figures
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "nas", "axes.spines.top": False, "axes.spines.right": False, "font.size": 9}):
        _save(_front(results), folder / "front")
        _save(_hypervolume(results), folder / "hypervolume")
        if experiment.finalists.count:
            _save(_finalists(results), folder / "finalists")
    found = {(finalist.strategy, finalist.seed, finalist.rank): finalist for finalist in results.finalists}
    for place, name in _drawings(experiment).items():
        write_text(folder / name, _drawing(experiment, found.get(place)))


def _drawing(experiment: Experiment, finalist: Retrained | None) -> str:
    if finalist is None:
        return EMPTY
    genotype = finalist.chosen.proposal.genotype
    return drawing.svg(experiment.space.graph(genotype), f"{finalist.name}: {experiment.space.describe(genotype)}")


def _save(figure: Figure, path: Path) -> None:
    for suffix in FORMATS:
        date = "CreationDate" if suffix == "pdf" else "Date"
        figure.savefig(path.with_suffix(f".{suffix}"), metadata={date: None})


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 3.8 * count), layout="constrained")
    return figure, [figure.add_subplot(count, 1, panel) for panel in range(1, count + 1)]


def _sentence(words: str) -> Figure:
    """A figure that says why there is none."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 1))
    figure.text(0.5, 0.5, words, ha="center", va="center")
    return figure


def _front(results: Results) -> Figure:
    """Every candidate and the front of each strategy, per pair of objectives; with one objective the best so far."""
    if not any(evaluation.ok for _, _, evaluation in results.evaluations()):
        return _sentence("No candidate succeeded.")
    figure, panels = _panels(max(1, len(results.pairs)))
    if not results.pairs:
        name = results.objectives[0]
        for label in results.histories:
            _draw_band(panels[0], results, label, results.best_so_far(label), name)
        _label(panels[0], "Evaluations", style.axis(name))
    else:
        for panel, (x, y) in zip(panels, results.pairs, strict=True):
            _draw_front(panel, results, x, y)
    return figure


def _draw_front(axes: Axes, results: Results, x: str, y: str) -> None:
    for index, label in enumerate(results.histories):
        _, marker = style.marker(index)
        colour = style.colour(index)
        candidates = [evaluation for evaluation in results.pooled(label) if evaluation.ok]
        front = results.front(label, results.objectives)
        steps = results.front(label, (x, y))

        def values(name: str, evaluations: Sequence[Evaluation]) -> list[float]:
            return [style.scaled(name, evaluation.objectives[name]) for evaluation in evaluations]

        (points,) = axes.plot(
            values(x, candidates), values(y, candidates), marker, mfc="none", mec=colour, ms=4, alpha=0.6
        )
        points.set_rasterized(len(candidates) > MANY_POINTS)
        axes.step(values(x, steps), values(y, steps), where="post", color=colour, lw=1.2)
        axes.plot(
            values(x, front),
            values(y, front),
            marker,
            color=colour,
            ms=6,
            label=f"{label}, {_seeds(results)}, front filled",
        )
    successful = [evaluation for _, _, evaluation in results.evaluations() if evaluation.ok]
    axes.set_xscale(style.axis_type([evaluation.objectives[x] for evaluation in successful]))
    axes.set_yscale(style.axis_type([evaluation.objectives[y] for evaluation in successful]))
    _label(axes, style.axis(x), style.axis(y))


def _seeds(results: Results) -> str:
    return counted(len(results.experiment.seeds), "seed")


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, borderaxespad=0.2)


def _hypervolume(results: Results) -> Figure:
    if results.comparison["reference"] is None:
        return _sentence("No candidate succeeded.")
    figure, (axes,) = _panels(1)
    for label in results.histories:
        _draw_band(axes, results, label, results.hypervolumes(label))
    axes.set_ylim(bottom=0)
    _label(axes, "Evaluations", "Hypervolume (share of the box)")
    return figure


def _draw_band(
    axes: Axes, results: Results, label: str, series: Sequence[Sequence[float]], objective: str | None = None
) -> None:
    """The mean over seeds within the range from the lowest to the highest seed."""
    found = band(series)
    if found is None:
        return
    index = results.experiment.labels.index(label)
    scale = 1.0 if objective is None else style.scaled(objective, 1.0)
    colour = style.colour(index)
    dashes = "--" if index % 2 else "-"
    axes.step(
        found.evaluations,
        scale * found.mean,
        where="post",
        color=colour,
        ls=dashes,
        label=f"{label}, mean and range of {_seeds(results)}",
    )
    axes.fill_between(
        found.evaluations, scale * found.low, scale * found.high, step="post", color=colour, alpha=0.18, lw=0
    )


def _finalists(results: Results) -> Figure:
    """Test error of every network, or training of the only one, with mean and standard deviation of each finalist."""
    tested = [finalist for finalist in results.finalists if finalist.test_errors]
    if not tested:
        return _sentence("No finalist was trained successfully.")
    figure, (axes,) = _panels(1)
    figure.set_size_inches(WIDTH, 1.2 + 0.3 * len(tested))
    what = "training" if results.experiment.finalists.draws == 1 else "network"
    for row, finalist in enumerate(tested):
        index = results.experiment.labels.index(finalist.strategy)
        errors = [100 * error for error in finalist.test_errors]
        mean, sd = mean_and_sd(errors)
        axes.plot(errors, [row] * len(errors), "|", color=style.colour(index), ms=9)
        axes.errorbar(mean, row, xerr=sd, fmt=style.marker(index)[1], color=style.colour(index), ms=5, capsize=3)
    axes.set_yticks(range(len(tested)), [f"{finalist.name} (n = {len(finalist.test_errors)})" for finalist in tested])
    axes.invert_yaxis()
    axes.set_xlabel(f"Test error (%): each {what}, mean and standard deviation")
    return figure
