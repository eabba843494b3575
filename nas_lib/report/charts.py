"""The interactive charts of the page, as plotly figures without colours of the page: its script adds those."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np
from plotly import graph_objects as go

from nas_lib import pareto
from nas_lib.correlation import Estimate
from nas_lib.records import Evaluation
from nas_lib.report import style
from nas_lib.report.analysis import Analysis, Dependence, Spread
from nas_lib.report.descent import Growth
from nas_lib.report.results import AxisEnd, Band, Results, band, curves_end, end_of, figure_of, staircase

MANY_POINTS = 2000
"""From this many points on they are drawn by the graphics card."""
CURVES = 200
"""Learning curves shown per strategy, evenly from the best to the worst."""
HIGHLIGHTS = 3
"""Best learning curves, shown in bold."""


IMPORTANT = 6
"""Searched numbers whose partial dependence the page shows, the most important ones; the files show all."""


@dataclass(frozen=True)
class Chart:
    """One figure of the page."""

    name: str
    """Letters, digits and hyphens: the identity of its element."""
    figure: dict[str, Any]
    """What plotly draws. The `meta` of a trace says when it is shown: see `Meta`."""


class Meta(TypedDict, total=False):
    """What the filters of the page know of a trace. A trace without it is always shown."""

    strategy: str
    single: bool
    """It is shown only where its strategy is chosen."""
    seed: int
    """It is shown for this seed and for all of them."""
    together: bool
    """It is of all seeds and shown only where no seed is chosen."""
    alone: bool
    """It is shown only where its seed is chosen."""
    points: str
    """Its points are candidates: the key of what `points` knows of them."""


def charts(results: Results, analysis: Analysis) -> list[Chart]:
    """All charts there is data for."""
    figures: dict[str, go.Figure | None] = {}
    if any(evaluation.counts for _, _, evaluation in results.evaluations()):
        for place, (x, y) in enumerate(results.pairs, start=1):
            figures[f"front-{place}"] = _front(results, x, y)
        if not results.pairs:
            figures["best-so-far"] = _best_so_far(results)
        figures["hypervolume"] = _hypervolume(results)
        if results.partial:
            figures["hypervolume-epochs"] = _hypervolume(results, "epochs")
        figures["learning-curves"] = _learning_curves(results)
        figures["foretelling"] = _foretelling(results, analysis)
        if analysis.growth:
            figures["size"] = _size(results, analysis.growth)
        for dependence in analysis.dependences:
            figures |= _dependence(results, analysis.dimensions, dependence)
        figures |= {f"spread-{spread.objective}": _spread(spread) for spread in analysis.spreads}
    return [
        Chart(name.replace("_", "-"), {key: figure.to_plotly_json()[key] for key in ("data", "layout")})
        for name, figure in figures.items()
        if figure is not None
    ]


def points(results: Results) -> dict[str, dict[str, list[Any]]]:
    """What the page knows of candidates, per strategy and side of the front; once for all charts.

    Three lists each: the text shown where the pointer is on a candidate, its seed, and whether it was fully trained.
    """
    describe = results.experiment.space.describe
    return {
        f"{label} {side}": {
            "text": [_text(seed, evaluation, describe) for seed, evaluation in members],
            "seed": [seed for seed, _ in members],
            "full": [evaluation.proposal.full for _, evaluation in members],
        }
        for label in results.histories
        for side, members in _sides(results, label).items()
    }


def _text(seed: int, evaluation: Evaluation, describe: Callable[[dict[str, Any]], str]) -> str:
    proposal = evaluation.proposal
    architecture = "<br>".join(textwrap.wrap(describe(proposal.genotype), 34))
    return f"seed {seed}, round {proposal.round}, slot {proposal.slot}, {proposal.epochs} epochs<br>{architecture}"


def _sides(results: Results, label: str) -> dict[str, list[tuple[int, Evaluation]]]:
    """The successful candidates of a strategy: those on its front over all seeds, and the others."""
    members = {id(evaluation) for evaluation in results.front(label, results.objectives)}
    found: dict[str, list[tuple[int, Evaluation]]] = {"others": [], "front": []}
    for seed, history in results.histories[label].items():
        for evaluation in history:
            if evaluation.ok:
                found["front" if id(evaluation) in members else "others"].append((seed, evaluation))
    return found


def rounded(value: float) -> float | None:
    """Six significant digits are more than a pixel; None, a gap, for what is no number."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def layout(figure: go.Figure, x: dict[str, Any], y: dict[str, Any], **options: Any) -> go.Figure:
    """The figure with its axes; `title` is the text of each."""

    def axis(given: dict[str, Any]) -> dict[str, Any]:
        return {**given, "title": {"text": given["title"]}}

    return figure.update_layout(template=None, xaxis=axis(x), yaxis=axis(y), **options)


def whole(count: int) -> int:
    """The step of an axis from 1 to `count` whose ticks are whole numbers, and about ten."""
    return max(1, count // 10)


def _front(results: Results, x: str, y: str) -> go.Figure:
    """Every successful candidate in two objectives, and what each strategy attains."""

    def value_of(name: str) -> Callable[[Evaluation], float]:
        return lambda evaluation: style.scaled(name, evaluation.objectives[name])

    successful = [evaluation for _, _, evaluation in results.evaluations() if evaluation.ok]
    horizontal, vertical = ([value_of(name)(found) for found in successful] for name in (x, y))
    ends = results.axis_end(x), results.axis_end(y)
    far = end_of(x, horizontal, ends[0]), end_of(y, vertical, ends[1])
    figure = go.Figure()
    for index, label in enumerate(results.histories):
        best, median, worst = (
            staircase([(style.scaled(x, one), style.scaled(y, other)) for one, other in surface], far)
            for surface in results.attainment(label, (x, y))
        )
        seeds = list(results.histories[label])
        if len(seeds) > 1:
            figure.add_trace(area(index, [*best, *reversed(worst)], label))
        figure.add_trace(polyline(index, median, {"strategy": label, "together": True}, label))
        for seed, history in results.histories[label].items():
            if len(seeds) > 1:
                steps = [(value_of(x)(one), value_of(y)(one)) for one in pareto.front(history, (x, y))]
                meta: Meta = {"strategy": label, "seed": seed, "alone": True}
                figure.add_trace(polyline(index, staircase(steps, far), meta, label))
        _add_candidates(figure, results, label, (style.axis(x), value_of(x)), (style.axis(y), value_of(y)))
    return layout(
        figure,
        _measured(x, horizontal, ends[0]),
        _measured(y, vertical, ends[1]),
    )


def _measured(name: str, values: Sequence[float], end: AxisEnd | None) -> dict[str, Any]:
    """The axis of an objective; on a logarithmic one plotly itself would write 2 where 20 is meant."""
    last = end_of(name, values, end)
    kind = style.axis_type([*(value for value in values if value <= last), last])
    if kind == "linear":
        return {"title": style.axis(name), "type": kind} | ({"range": style.limits(values, last)} if end else {})
    decades = range(math.floor(math.log10(min(values))), math.ceil(math.log10(last)) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    axis = {"title": style.axis(name), "type": kind, "tickmode": "array", "tickvals": ticks}
    if end is None:
        return axis
    return axis | {"range": [math.log10(limit) for limit in style.limits(values, last, kind)]}


Vertices = Sequence[tuple[float, float]]


def polyline(index: int, vertices: Vertices, meta: Meta, label: str) -> go.Scatter:
    """A line of a strategy."""
    return go.Scatter(
        x=[rounded(x) for x, _ in vertices],
        y=[rounded(y) for _, y in vertices],
        mode="lines",
        line={"color": style.colour(index), "width": 1.8, "dash": style.dash(index)},
        name=label,
        legendgroup=label,
        showlegend=False,
        hoverinfo="skip",
        meta=meta,
    )


def area(index: int, vertices: Vertices, label: str) -> go.Scatter:
    """An area of a strategy, between the vertices."""
    return go.Scatter(
        x=[rounded(x) for x, _ in vertices],
        y=[rounded(y) for _, y in vertices],
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=faint(style.colour(index)),
        legendgroup=label,
        showlegend=False,
        hoverinfo="skip",
        meta={"strategy": label, "together": True},
    )


def _best_so_far(results: Results) -> go.Figure:
    """With one objective: every successful candidate, and the best value so far with its band over seeds."""
    name = results.objectives[0]
    place = {
        id(evaluation): count
        for seeds in results.histories.values()
        for history in seeds.values()
        for count, evaluation in enumerate(history, start=1)
    }
    figure = go.Figure()
    for label in results.histories:
        _add_band(figure, results, label, results.best_so_far(label), name)
        _add_candidates(
            figure,
            results,
            label,
            ("Evaluation", lambda evaluation: place[id(evaluation)]),
            (style.axis(name), lambda evaluation: style.scaled(name, evaluation.objectives[name])),
        )
    y: dict[str, Any] = {"title": style.axis(name)}
    end = results.axis_end(name)
    if end:
        values = [style.scaled(name, found.objectives[name]) for *_, found in results.evaluations() if found.ok]
        y["range"] = style.limits(values, style.scaled(name, end.at))
    return layout(figure, {"title": "Evaluations"}, y)


Coordinate = tuple[str, Callable[[Evaluation], float]]
"""Title and value."""


def _add_candidates(figure: go.Figure, results: Results, label: str, x: Coordinate, y: Coordinate) -> None:
    """The successful candidates of a strategy: open and small, but filled and large on its front."""
    index = results.labels.index(label)
    symbol, _ = style.marker(index)
    many = sum(1 for _ in results.evaluations()) > MANY_POINTS
    for side, members in _sides(results, label).items():
        on_front = side == "front"
        figure.add_trace(
            (go.Scattergl if many else go.Scatter)(
                x=[rounded(x[1](evaluation)) for _, evaluation in members],
                y=[rounded(y[1](evaluation)) for _, evaluation in members],
                mode="markers",
                marker={
                    "symbol": symbol if on_front else f"{symbol}-open",
                    "color": style.colour(index),
                    "size": 10 if on_front else 4 if many else 7,
                    "opacity": 1 if on_front else 0.75,
                },
                name=label,
                legendgroup=label,
                showlegend=on_front,
                meta={"strategy": label, "points": f"{label} {side}"},
                hovertemplate=f"<b>{label}</b>, %{{text}}<br>{x[0]}: %{{x:,}}<br>{y[0]}: %{{y:,}}<extra></extra>",
            )
        )


def _hypervolume(results: Results, spent: Literal["epochs", "seconds"] | None = None) -> go.Figure:
    figure = go.Figure()
    for label in results.histories:
        _add_band(figure, results, label, results.hypervolumes(label), spent=spent)
    title = spent.capitalize() if spent else "Evaluations"
    return layout(figure, {"title": title}, {"title": "Hypervolume (share of the box)", "rangemode": "tozero"})


def _add_band(
    figure: go.Figure,
    results: Results,
    label: str,
    series: Sequence[Sequence[float]],
    objective: str | None = None,
    spent: Literal["epochs", "seconds"] | None = None,
) -> None:
    """The mean over seeds as a step line, within the range from the lowest to the highest seed; and each seed alone."""
    places = results.spent(label, spent) if spent else None
    found = band(series, places)
    if found is None:
        return
    index, what, shown = results.labels.index(label), spent or "evaluations", objective is None
    over = f"<b>{label}</b><br>after %{{x}} {what}: %{{y:.4g}}"
    scale = style.scaled(objective, 1.0) if objective else 1.0
    together: Meta = {"strategy": label, "together": True}
    add_band(figure, index, label, found, f"{over}, mean over seeds", together, scale=scale, legend=shown)
    seeds = list(results.histories[label])
    for place, (seed, values) in enumerate(zip(seeds, series, strict=True)):
        if len(seeds) > 1:
            figure.add_trace(
                go.Scatter(
                    x=list(places[place] if places else range(1, len(values) + 1)),
                    y=[rounded(scale * value) for value in values],
                    name=label,
                    legendgroup=label,
                    mode="lines",
                    meta={"strategy": label, "seed": seed, "alone": True},
                    line=_stroke(index),
                    showlegend=shown,
                    hovertemplate=f"{over}, seed {seed}<extra></extra>",
                )
            )


def add_band(
    figure: go.Figure,
    index: int,
    label: str,
    found: Band,
    over: str,
    meta: Meta,
    *,
    scale: float = 1.0,
    legend: bool = True,
    shape: Literal["hv", "linear"] = "hv",
    opacity: float = 0.18,
) -> None:
    """The mean of a strategy within its band, times a scale; `over` is shown where the pointer is."""

    def line(values: np.ndarray, **options: Any) -> go.Scatter:
        y = [rounded(scale * value) for value in values]
        x = found.x.tolist()
        return go.Scatter(x=x, y=y, name=label, legendgroup=label, mode="lines", meta=meta, **options)

    edge: dict[str, Any] = {"line": {"width": 0, "shape": shape}, "showlegend": False, "hoverinfo": "skip"}
    figure.add_trace(line(found.low, **edge))
    figure.add_trace(line(found.high, fill="tonexty", fillcolor=faint(style.colour(index), opacity), **edge))
    hover = f"{over}<extra></extra>"
    figure.add_trace(line(found.mean, line=_stroke(index) | {"shape": shape}, showlegend=legend, hovertemplate=hover))


def _stroke(index: int) -> dict[str, Any]:
    return {"color": style.colour(index), "shape": "hv", "width": 2, "dash": style.dash(index)}


def faint(colour: str, opacity: float = 0.18) -> str:
    """A colour for areas."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def _learning_curves(results: Results) -> go.Figure | None:
    """The main measure over epochs; the best candidates in bold. None where nothing was trained for two epochs."""
    figure = go.Figure()
    measure, course = results.measure, f"validation_{results.measure}"
    candidates = []
    for index, label in enumerate(results.histories):
        trained = [
            (value, label, seed, evaluation)
            for seed, history in results.histories[label].items()
            for evaluation in history
            if evaluation.ok and evaluation.proposal.duplicate_of is None
            if len(evaluation.curves.get(course, ())) > 1
            if (value := figure_of(evaluation, measure)) is not None
        ]
        trained.sort(key=lambda candidate: candidate[0])
        candidates += trained
        shown = trained[:: -(-len(trained) // CURVES) or 1]
        for place, seed in enumerate(results.histories[label]):
            x: list[int | None] = []
            y: list[float | None] = []
            for evaluation in (evaluation for *_, of, evaluation in shown if of == seed):
                curve = evaluation.curves[course]
                x += [*range(1, len(curve) + 1), None]
                y += [*(rounded(style.scaled(measure, value)) for value in curve), None]
            figure.add_trace(
                go.Scatter(
                    x=x,
                    y=y,
                    mode="lines",
                    line={"color": style.colour(index), "width": 0.8},
                    opacity=0.45,
                    name=label,
                    legendgroup=label,
                    showlegend=place == 0,
                    hoverinfo="skip",
                    meta={"strategy": label, "seed": seed},
                )
            )
    candidates.sort(key=lambda candidate: candidate[0])
    shown_y = "%{y:.2f} %" if measure == "error" else "%{y:.4g}"
    for dash, (_, label, seed, evaluation) in zip(("solid", "dash", "dot"), candidates[:HIGHLIGHTS], strict=False):
        curve = evaluation.curves[course]
        name = f"{label}, seed {seed}, round {evaluation.proposal.round}, slot {evaluation.proposal.slot}"
        figure.add_trace(
            go.Scatter(
                x=list(range(1, len(curve) + 1)),
                y=[rounded(style.scaled(measure, value)) for value in curve],
                mode="lines+markers",
                line={"width": 2.5, "color": style.colour(results.labels.index(label)), "dash": dash},
                marker={"size": 6},
                name=name,
                hovertemplate=f"{name}<br>epoch %{{x}}: {shown_y}<extra></extra>",
                meta={"strategy": label, "seed": seed},
            )
        )
    if not candidates:
        return None
    longest = max(len(evaluation.curves[course]) for *_, evaluation in candidates)
    vertical: dict[str, Any] = {"title": style.axis(measure), "rangemode": "tozero"}
    if end := curves_end(results):
        vertical["range"] = [0, style.scaled(measure, end.at)]
    return layout(
        figure,
        {"title": "Epochs", "dtick": whole(longest)},
        vertical,
    )


def _size(results: Results, growth: Growth) -> go.Figure:
    """Mean size of the candidates of each round, the median of those that survived it, and size without selection."""
    figure = go.Figure()
    for index, label in enumerate(results.histories):
        found, meta = growth.candidates[label], Meta(strategy=label)
        if found is None:
            continue
        add_band(figure, index, label, found, f"<b>{label}</b><br>round %{{x}}: %{{y:.4g}}, mean", meta, shape="linear")
        figure.data[-1].update(mode="lines+markers", marker={"size": 5, "symbol": style.marker(index)[0]})
        if survivors := growth.survivors[label]:
            line = {"color": style.colour(index), "width": 1.2, "dash": "dot"}
            figure.add_trace(_course(survivors, f"{label}, median of survivors", line, meta))
    if nothing := growth.unselected:
        figure.add_trace(_course(nothing.means, "without selection", {"color": style.NEUTRAL, "dash": "dash"}, {}))
    rounds = results.experiment.budget.rounds
    return layout(
        figure, {"title": "Round", "dtick": whole(rounds)}, {"title": style.axis(growth.figure), "rangemode": "tozero"}
    )


def _course(vertices: Vertices, name: str, line: dict[str, Any], meta: Meta) -> go.Scatter:
    """A line with markers that has its own entry in the legend."""
    return go.Scatter(
        x=[x for x, _ in vertices],
        y=[rounded(y) for _, y in vertices],
        mode="lines+markers",
        line=line,
        marker={"size": 4},
        name=name,
        hovertemplate=f"<b>{name}</b><br>round %{{x}}: %{{y:.4g}}<extra></extra>",
        meta=meta,
    )


def _foretelling(results: Results, analysis: Analysis) -> go.Figure | None:
    """Rank correlation of the main measure after some epochs with that at the end."""
    figure = go.Figure()
    for index, (label, entries) in enumerate(analysis.foretelling.items()):
        values = [entry.correlation for entry in entries]
        if not entries:
            continue
        figure.add_trace(
            go.Scatter(
                x=[entry.epochs for entry in entries],
                y=[rounded(value.value) for value in values],
                error_y=whiskers(values),
                mode="lines+markers",
                line={"color": style.colour(index), "width": 1.5, "dash": style.dash(index)},
                marker={"size": 8, "symbol": style.marker(index)[0]},
                name=f"{label} (n = {entries[0].candidates})",
                hovertemplate=f"<b>{label}</b><br>after %{{x}} epochs: %{{y:.2f}}<extra></extra>",
                meta={"strategy": label},
            )
        )
    if not figure.data:
        return None
    last = results.experiment.budget.epochs
    return layout(
        figure,
        {"title": f"Epochs (of {last})", "dtick": whole(last)},
        {"title": "Rank correlation with the end"},
    )


def whiskers(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Intervals as plotly draws them."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [rounded(one.high - one.value) for one in estimates],
        "arrayminus": [rounded(one.value - one.low) for one in estimates],
        "thickness": 1.2,
        "width": 4,
    }


def _dependence(results: Results, dimensions: Sequence[str], dependence: Dependence) -> dict[str, go.Figure]:
    """The importance of the searched numbers, and how the objective depends on the most important ones."""
    found, name = dependence.found, dependence.objective
    if found is None or dependence.remark:
        return {}
    order = sorted(range(len(dimensions)), key=lambda place: found.importance[place].value)
    figure = go.Figure(
        go.Scatter(
            x=[rounded(found.importance[place].value) for place in order],
            y=[dimensions[place] for place in order],
            error_x=whiskers([found.importance[place] for place in order]),
            mode="markers",
            marker={"size": 9, "color": style.colour(0)},
            hovertemplate="<b>%{y}</b>: %{x:.3f}<extra></extra>",
        )
    )
    title = f"R² lost by shuffling (of {found.r2:.2f})"
    height = 110 + 26 * len(order)
    x = {"title": title, "zeroline": True, "zerolinecolor": "#888888"}
    figures = {f"importance-{name}": layout(figure, x, {"title": ""}, height=height, showlegend=False)}
    bands = [found.dependence[place] for place in order[-IMPORTANT:]]
    low, high = (style.scaled(name, limit) for limit in (min(b.min() for b in bands), max(b.max() for b in bands)))
    margin = 0.05 * (high - low)
    for rank, place in enumerate(reversed(order[-IMPORTANT:]), start=1):
        x = results.experiment.architectures.values(place, found.grids[place]).tolist()
        mean, least, most = ([style.scaled(name, value) for value in row] for row in found.dependence[place])
        figure = go.Figure(
            [
                go.Scatter(
                    x=[rounded(value) for value in (*x, *reversed(x))],
                    y=[rounded(value) for value in (*least, *reversed(most))],
                    mode="lines",
                    line={"width": 0},
                    fill="toself",
                    fillcolor=faint(style.colour(0)),
                    hoverinfo="skip",
                ),
                go.Scatter(
                    x=[rounded(value) for value in x],
                    y=[rounded(value) for value in mean],
                    mode="lines+markers",
                    line={"color": style.colour(0), "width": 2},
                    marker={"size": 4},
                    hovertemplate=f"{dimensions[place]} %{{x}}: %{{y:.4g}}<extra></extra>",
                ),
            ]
        )
        figures[f"dependence-{name}-{rank}"] = layout(
            figure,
            {"title": dimensions[place], "nticks": 5},
            {"title": "", "range": [low - margin, high + margin], "nticks": 5},
            showlegend=False,
        )
    return figures


def _spread(spread: Spread) -> go.Figure:
    """The draws of every generator, in the order of their means."""
    name = spread.objective
    figure = go.Figure()
    draws = [(place, value) for place, values in enumerate(spread.draws, start=1) for value in values]
    means = [float(np.mean(values)) for values in spread.draws]
    for shown, mode, symbol, title in (
        (draws, "markers", "circle-open", "draws"),
        (list(enumerate(means, start=1)), "markers", "line-ew", "mean"),
    ):
        figure.add_trace(
            go.Scatter(
                x=[place for place, _ in shown],
                y=[rounded(style.scaled(name, value)) for _, value in shown],
                mode=mode,
                marker={
                    "symbol": symbol,
                    "size": 7 if title == "draws" else 14,
                    "color": style.colour(0 if title == "draws" else 1),
                    "line": {
                        "width": 1 if title == "draws" else 2.5,
                        "color": style.colour(0 if title == "draws" else 1),
                    },
                },
                name=title,
                hovertemplate=f"generator %{{x}}, {title}: %{{y:.4g}}<extra></extra>",
            )
        )
    return layout(figure, {"title": "Generators, by mean", "dtick": whole(len(means))}, {"title": style.axis(name)})
