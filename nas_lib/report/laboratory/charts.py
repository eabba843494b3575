"""The interactive charts of the page of a laboratory, as plotly figures without colours of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from plotly import graph_objects as go

from nas_lib.report import style
from nas_lib.report.charts import Meta, add_band, area, layout, polyline, rounded
from nas_lib.report.laboratory.results import Results, axis, evaluations, heading
from nas_lib.report.results import staircase

FEW = 3
"""Up to so many strategies the bands of all attainment surfaces are shown at once."""
QUIET = "#888888"
"""Of what belongs to no strategy; readable on a white and a dark page."""


def charts(results: Results) -> dict[str, dict[str, Any]]:
    """Name (the identity of its element) -> what plotly draws; names end with the number of the problem, from 1."""
    figures: dict[str, go.Figure] = {"proposing": _proposing(results)}
    for number, (title, problem) in enumerate(results.problems.items(), start=1):
        figures[f"hypervolume-{number}"] = _hypervolume(results, title)
        if len(problem["objectives"]) == 2:
            figures[f"attainment-{number}"] = _attainment(results, title)
        figures[f"targets-{number}"] = _targets(results, title)
        if results.best:
            figures[f"best-{number}"] = _best(results, title)
        for place, name in enumerate(results.foretold(title), start=1):
            figures[f"foretold-{number}-{place}"] = _foretold(results, title, name)
    return {name: {key: figure.to_plotly_json()[key] for key in ("data", "layout")} for name, figure in figures.items()}


def _hypervolume(results: Results, title: str) -> go.Figure:
    figure = go.Figure()
    for index, label in enumerate(results.labels):
        over = f"<b>{label}</b><br>after %{{x}} evaluations: %{{y:.4g}}"
        found, opacity = results.hypervolume(title, label), style.opacity(len(results.labels))
        add_band(figure, index, label, found, over, {"strategy": label}, opacity=opacity)
    return layout(figure, {"title": "Distinct evaluations"}, {"title": "Hypervolume (share)"})


def _attainment(results: Results, title: str) -> go.Figure:
    """Median attainment surfaces, each within its band from best to worst, and the front as points."""
    problem, window = results.problems[title], results.window(title)
    figure = go.Figure()
    for index, label in enumerate(results.labels):
        best, median, worst = (
            staircase(surface.tolist(), (window[0][1], window[1][1])) for surface in results.attainment(title, label)
        )
        meta: Meta = {"strategy": label}
        faint = area(index, [*best, *reversed(worst)], label)
        if len(results.labels) > FEW:
            faint.update(meta={**meta, "single": True})
        figure.add_trace(faint)
        figure.add_trace(polyline(index, median, meta, label).update(showlegend=True))
    x, y = np.array(problem["front"]).T.tolist()
    known = "exact front" if problem["denominator"]["exact"] else "front of all searches"
    figure.add_trace(
        go.Scatter(
            x=[rounded(value) for value in x],
            y=[rounded(value) for value in y],
            mode="markers",
            marker={"size": 4, "color": QUIET},
            name=known,
            hovertemplate=f"{known}<br>%{{x}}, %{{y}}<extra></extra>",
        )
    )
    horizontal, vertical = (axis(problem, name) for name in problem["objectives"])
    return layout(
        figure, {"title": horizontal, "range": list(window[0])}, {"title": vertical, "range": list(window[1])}
    )


def _targets(results: Results, title: str) -> go.Figure:
    """Evaluations to every level: a row per level and strategy; a triangle at the budget where it was not reached."""
    targets, budget = results.problems[title]["targets"], results.laboratory.budget.evaluations
    figure = go.Figure()
    step = 0.6 / len(results.labels)
    for index, label in enumerate(results.labels):
        found = [target["strategies"][label] for target in targets]
        rows = [row - 0.15 + step * index for row in range(len(targets))]
        medians = [one["median"] for one in found]
        shown: dict[str, Any] = {
            "y": rows,
            "mode": "markers",
            "name": label,
            "legendgroup": label,
            "text": [f"{target['name']}: {evaluations(one)}" for target, one in zip(targets, found, strict=True)],
            "hovertemplate": f"<b>{label}</b><br>%{{text}}<extra></extra>",
            "meta": {"strategy": label},
        }
        marker = {"size": 9, "color": style.colour(index), "symbol": style.marker(index)[0]}
        figure.add_trace(go.Scatter(x=medians, error_x=_ends(found, budget), marker=marker, **shown))
        missed = [budget if median is None else None for median in medians]
        marker = {**marker, "symbol": "triangle-right-open"}
        figure.add_trace(go.Scatter(x=missed, marker=marker, showlegend=False, **shown))
    vertical = {"title": "", "showticklabels": False, "range": [len(targets) - 0.5, -0.6], "dtick": 1, "tick0": -0.5}
    heads = [
        {
            "text": heading(target),
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
            "y": row - 0.5,
        }
        | {"yanchor": "top", "showarrow": False}
        for row, target in enumerate(targets)
    ]
    height = 140 + len(targets) * max(50, 13 * len(results.labels) + 24)
    horizontal = {"title": "Distinct evaluations", "range": [0, 1.04 * budget]}
    return layout(figure, horizontal, vertical, height=height, annotations=heads)


def _ends(found: Sequence[Mapping[str, Any]], budget: int) -> dict[str, Any]:
    """The intervals of evaluations to a level as plotly draws them, open ones up to the budget."""
    pairs = [(one["median"] or 0, one["low"] or one["median"] or 0, one["high"] or budget) for one in found]
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - median if one["low"] else 0 for one, (median, _, high) in zip(found, pairs, strict=True)],
        "arrayminus": [median - low for median, low, _ in pairs],
        "thickness": 1.2,
        "width": 0,
    }


def _best(results: Results, title: str) -> go.Figure:
    """Share of searches that have found none of the best, over evaluations."""
    figure = go.Figure()
    for index, label in enumerate(results.labels):
        over = f"<b>{label}</b><br>after %{{x}} evaluations: %{{y:.2f}}"
        opacity = style.opacity(len(results.labels))
        add_band(figure, index, label, results.unfound(title, label), over, {"strategy": label}, opacity=opacity)
    return layout(figure, {"title": "Distinct evaluations"}, {"title": "Searches without success", "range": [0, 1.02]})


def _foretold(results: Results, title: str, objective: str) -> go.Figure:
    """Rank correlation of the predictions of an objective with what was then measured, per round."""
    figure = go.Figure()
    for label, found in results.foretold(title)[objective].items():
        over = f"<b>{label}</b><br>round %{{x}}: %{{y:.2f}}, mean over seeds"
        index = results.labels.index(label)
        add_band(figure, index, label, found, over, {"strategy": label}, shape="linear")
        marks = {"size": 6, "symbol": style.marker(index)[0]}  # a line of a single round would not be seen
        figure.data[-1].update(mode="lines+markers", marker=marks)
    return layout(
        figure,
        {"title": "Round", "dtick": max(1, results.laboratory.budget.plan.rounds // 10)},
        {"title": f"Kendall's tau, {objective}", "rangemode": "tozero"},
    )


def _proposing(results: Results) -> go.Figure:
    """CPU seconds per proposal, a mark per problem."""
    figure = go.Figure()
    for index, label in enumerate(results.labels):
        figure.add_trace(
            go.Scatter(
                x=[rounded(results.proposing(title, label)) for title in results.problems],
                y=[label] * len(results.problems),
                mode="markers",
                marker={"size": 9, "color": style.colour(index), "symbol": f"{style.marker(index)[0]}-open"},
                text=list(results.problems),
                hovertemplate=f"<b>{label}</b>, %{{text}}<br>%{{x:.2g}} s per proposal<extra></extra>",
                meta={"strategy": label},
            )
        )
    return layout(
        figure,
        {"title": "CPU seconds per proposal", "type": "log", "dtick": 1},
        {"title": "", "autorange": "reversed"},
        height=110 + 28 * len(results.labels),
        showlegend=False,
    )
