"""The interactive charts of the page, as plotly figures without colours of the page: its script adds those."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from plotly import graph_objects as go

from nas_lib.records import Evaluation
from nas_lib.report import style
from nas_lib.report.results import Results, band, validation_error

MANY_POINTS = 2000
"""From this many points on they are drawn by the graphics card."""
CURVES = 200
"""Learning curves shown per strategy, evenly from the best to the worst."""
HIGHLIGHTS = 3
"""Best learning curves, shown in bold."""


@dataclass(frozen=True)
class Chart:
    """One figure of the page."""

    name: str
    """Letters, digits and hyphens: the identity of its element."""
    figure: dict[str, Any]
    """What plotly draws. The text of a trace with `meta` stands in `texts`."""


def charts(results: Results) -> list[Chart]:
    """All charts there is data for."""
    figures: dict[str, go.Figure | None] = {}
    if any(evaluation.ok for _, _, evaluation in results.evaluations()):
        for number, (x, y) in enumerate(results.pairs, start=1):
            figures[f"front-{number}"] = _front(results, x, y)
        if not results.pairs:
            figures["best-so-far"] = _best_so_far(results)
        figures["hypervolume"] = _hypervolume(results)
        figures["learning-curves"] = _learning_curves(results)
    return [
        Chart(name, {key: figure.to_plotly_json()[key] for key in ("data", "layout")})
        for name, figure in figures.items()
        if figure is not None
    ]


def texts(results: Results) -> dict[str, list[str]]:
    """What is shown when the pointer is on a candidate, per strategy and side of the front; once for all charts."""
    describe = results.experiment.space.describe
    return {
        f"{label} {side}": [_text(seed, evaluation, describe) for seed, evaluation in members]
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


def _number(value: float) -> float | None:
    """Six significant digits are more than a pixel; None, a gap, for what is no number."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _front(results: Results, x: str, y: str) -> go.Figure:
    """Every successful candidate in two objectives, and the front of each strategy as a staircase."""

    def value_of(name: str) -> Callable[[Evaluation], float]:
        return lambda evaluation: style.scaled(name, evaluation.objectives[name])

    figure = go.Figure()
    for index, label in enumerate(results.histories):
        steps = results.front(label, (x, y))
        figure.add_trace(
            go.Scatter(
                x=[_number(value_of(x)(step)) for step in steps],
                y=[_number(value_of(y)(step)) for step in steps],
                mode="lines",
                line={"shape": "hv", "color": style.colour(index), "width": 1.5},
                name=label,
                legendgroup=label,
                showlegend=False,
                hoverinfo="skip",
            )
        )
        _add_candidates(figure, results, label, (style.axis(x), value_of(x)), (style.axis(y), value_of(y)))
    successful = [evaluation for _, _, evaluation in results.evaluations() if evaluation.ok]
    figure.update_layout(
        template=None,
        xaxis={"title": {"text": style.axis(x)}, "type": style.axis_type([value_of(x)(found) for found in successful])},
        yaxis={"title": {"text": style.axis(y)}, "type": style.axis_type([value_of(y)(found) for found in successful])},
    )
    return figure


def _best_so_far(results: Results) -> go.Figure:
    """With one objective: every successful candidate, and the best value so far with its band over seeds."""
    name = results.objectives[0]
    place = {
        id(evaluation): number
        for seeds in results.histories.values()
        for history in seeds.values()
        for number, evaluation in enumerate(history, start=1)
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
    figure.update_layout(
        template=None, xaxis={"title": {"text": "Evaluations"}}, yaxis={"title": {"text": style.axis(name)}}
    )
    return figure


Coordinate = tuple[str, Callable[[Evaluation], float]]
"""Title and value."""


def _add_candidates(figure: go.Figure, results: Results, label: str, x: Coordinate, y: Coordinate) -> None:
    """The successful candidates of a strategy: open and small, but filled and large on its front."""
    index = results.experiment.labels.index(label)
    symbol, _ = style.marker(index)
    many = sum(1 for _ in results.evaluations()) > MANY_POINTS
    for side, members in _sides(results, label).items():
        on_front = side == "front"
        figure.add_trace(
            (go.Scattergl if many else go.Scatter)(
                x=[_number(x[1](evaluation)) for _, evaluation in members],
                y=[_number(y[1](evaluation)) for _, evaluation in members],
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
                meta=f"{label} {side}",
                hovertemplate=f"<b>{label}</b>, %{{text}}<br>{x[0]}: %{{x:,}}<br>{y[0]}: %{{y:,}}<extra></extra>",
            )
        )


def _hypervolume(results: Results) -> go.Figure:
    figure = go.Figure()
    for label in results.histories:
        _add_band(figure, results, label, results.hypervolumes(label))
    figure.update_layout(
        template=None,
        xaxis={"title": {"text": "Evaluations"}},
        yaxis={"title": {"text": "Hypervolume (share of the box)"}, "rangemode": "tozero"},
    )
    return figure


def _add_band(
    figure: go.Figure, results: Results, label: str, series: Sequence[Sequence[float]], objective: str | None = None
) -> None:
    """The mean over seeds as a step line, within the range from the lowest to the highest seed."""
    found = band(series)
    if found is None:
        return
    index = results.experiment.labels.index(label)
    colour = style.colour(index)

    def line(values: Iterable[float], **options: Any) -> go.Scatter:
        y = [_number(style.scaled(objective, value) if objective else value) for value in values]
        return go.Scatter(x=found.evaluations.tolist(), y=y, name=label, legendgroup=label, mode="lines", **options)

    edge: dict[str, Any] = {"line": {"width": 0, "shape": "hv"}, "showlegend": False, "hoverinfo": "skip"}
    figure.add_trace(line(found.low, **edge))
    figure.add_trace(line(found.high, fill="tonexty", fillcolor=_faint(colour), **edge))
    figure.add_trace(
        line(
            found.mean,
            line={"color": colour, "shape": "hv", "width": 2, "dash": "dash" if index % 2 else "solid"},
            showlegend=objective is None,
            hovertemplate=f"<b>{label}</b><br>after %{{x}} evaluations: %{{y:.4g}}, mean over seeds<extra></extra>",
        )
    )


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"


def _learning_curves(results: Results) -> go.Figure | None:
    """Validation error over epochs; the best candidates in bold. None where nothing was trained for two epochs."""
    figure = go.Figure()
    candidates = []
    for index, label in enumerate(results.histories):
        trained = [
            (error, label, seed, evaluation)
            for seed, history in results.histories[label].items()
            for evaluation in history
            if evaluation.ok and evaluation.proposal.duplicate_of is None
            if len(evaluation.curves.get("validation_error", ())) > 1
            if (error := validation_error(evaluation)) is not None
        ]
        trained.sort(key=lambda candidate: candidate[0])
        candidates += trained
        x: list[int | None] = []
        y: list[float | None] = []
        for *_, evaluation in trained[:: -(-len(trained) // CURVES) or 1]:
            curve = evaluation.curves["validation_error"]
            x += [*range(1, len(curve) + 1), None]
            y += [*(_number(100 * value) for value in curve), None]
        figure.add_trace(
            go.Scatter(
                x=x,
                y=y,
                mode="lines",
                line={"color": style.colour(index), "width": 0.8},
                opacity=0.45,
                name=label,
                hoverinfo="skip",
            )
        )
    candidates.sort(key=lambda candidate: candidate[0])
    for dash, (_, label, seed, evaluation) in zip(("solid", "dash", "dot"), candidates[:HIGHLIGHTS], strict=False):
        curve = evaluation.curves["validation_error"]
        name = f"{label}, seed {seed}, round {evaluation.proposal.round}, slot {evaluation.proposal.slot}"
        figure.add_trace(
            go.Scatter(
                x=list(range(1, len(curve) + 1)),
                y=[_number(100 * value) for value in curve],
                mode="lines+markers",
                line={"width": 2.5, "color": style.colour(results.experiment.labels.index(label)), "dash": dash},
                marker={"size": 6},
                name=name,
                hovertemplate=f"{name}<br>epoch %{{x}}: %{{y:.2f}} %<extra></extra>",
            )
        )
    figure.update_layout(
        template=None,
        xaxis={"title": {"text": "Epochs"}},
        yaxis={"title": {"text": "Validation error (%)"}, "rangemode": "tozero"},
    )
    return figure if candidates else None
