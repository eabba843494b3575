"""The page of a study of predictors: complete in itself, answers first, evidence after that."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from plotly import graph_objects as go

from nas_lib.layout import write_text
from nas_lib.pareto import Interval
from nas_lib.predictor_study.settings import PredictorStudy
from nas_lib.report import provenance, style
from nas_lib.report.charts import add_band, layout
from nas_lib.report.page import filled
from nas_lib.report.predictor_study.results import QUANTITIES, Results, read
from nas_lib.report.summary import counted, listed

CHARTED = {"kendall": "low", "mape": "low", "fit_seconds": "low"}
"""Quantities that have a chart, and how high it is."""


def write_report(study: PredictorStudy) -> None:
    """Write the page of a finished study.

    Raises:
        FileNotFoundError: measurements of a problem are not there yet.
    """
    write_text(study.folder.report, render(read(study)))


def render(results: Results) -> str:
    """The page as HTML."""
    study = results.study
    figures = {
        f"{quantity.replace('_', '-')}-{number}": _chart(results, case, quantity)
        for number, case in enumerate(results.cases, start=1)
        for quantity in CHARTED
    }
    return filled(
        "predictor_study/page.html",
        study=study,
        summary=summary(results),
        setting=_setting(results),
        seeds=counted(len(study.seeds), "seed"),
        several=len(study.seeds) > 1,
        cases=[_case(results, number, case) for number, case in enumerate(results.cases, start=1)],
        sizes=sorted(study.sizes),
        charts=figures,
        points={},
        figures_folder=study.folder.figures.name,
        provenance=provenance.facts(study, provenance.tracking_uri(study)),
    )


def summary(results: Results) -> list[str]:
    """The sentences at the top of the page, each computed from the results."""
    return [_measured(results), *_first(results), *_slowest(results)]


def _measured(results: Results) -> str:
    study = results.study
    return (
        f"{counted(len(study.predictors), 'predictor')} ({listed(list(study.predictors))}) learnt "
        f"{counted(len(results.cases), 'objective')} of {counted(len(study.titles), 'problem')} from "
        f"{listed([str(size) for size in sorted(study.sizes)])} architectures, with "
        f"{counted(len(study.seeds), 'seed')} each: {counted(len(results.measurements), 'measurement')}."
    )


def _first(results: Results) -> Iterator[str]:
    """How often each predictor ranks best, or not significantly worse, at the smallest and the largest size."""
    names = results.study.predictors
    if len(names) < 2:
        yield "Only one predictor was measured, so nothing says whether it is better than another."
        return
    for size in sorted({min(results.study.sizes), max(results.study.sizes)}):
        wins = {name: sum(results.best(case, size)[name] for case in results.cases) for name in names}
        order = sorted(wins, key=lambda name: -wins[name])
        shares = [f"{name} {wins[name]} of {len(results.cases)}" for name in order if wins[name]]
        yield (
            f"Learnt from {size} architectures, the highest mean rank correlation (Kendall), or one not significantly "
            f"below it, has: {listed(shares)}."
        )


def _slowest(results: Results) -> Iterator[str]:
    largest = max(results.study.sizes)
    rows = results.measurements[results.measurements["size"] == largest]
    seconds = rows.groupby("predictor")["fit_seconds"].mean().sort_values()
    if len(seconds) > 1:
        yield (
            f"To learn from {largest} architectures takes {seconds.index[0]} {seconds.iloc[0]:.2g} s of CPU and "
            f"{seconds.index[-1]} {seconds.iloc[-1]:.2g} s on average."
        )


def _setting(results: Results) -> dict[str, str]:
    study = results.study
    held_out = [f"{title} {results.held_out(title):,}" for title in study.titles]
    return {
        "Predictors": ", ".join(study.predictors),
        "Problems": ", ".join(study.titles),
        "Learnt from": f"{', '.join(map(str, sorted(study.sizes)))} architectures, smaller sets within larger ones",
        "Measured on": f"architectures held out: {', '.join(held_out)}",
        "Seeds": (
            f"{', '.join(map(str, study.seeds))} (n = {len(study.seeds)}); all predictors of a seed see the same "
            "architectures"
        ),
    }


def _chart(results: Results, case: tuple[str, str], quantity: str) -> dict[str, Any]:
    figure = go.Figure()
    names = results.study.predictors
    for index, name in enumerate(names):
        band = results.band(case, name, quantity)
        if band is not None:
            over = f"<b>{name}</b><br>from %{{x}} architectures: %{{y:.3g}}"
            meta: Any = {"strategy": name}
            add_band(figure, index, name, band, over, meta, shape="linear", opacity=style.opacity(len(names)))
    sizes = sorted(results.study.sizes)
    scale = {"type": "log", "dtick": 1} if quantity.endswith("seconds") else {}
    ends = [math.log10(sizes[0]) - 0.03, math.log10(sizes[-1]) + 0.03]
    ticks = {"type": "log", "range": ends, "tickvals": sizes, "ticktext": [*map(str, sizes)]}
    layout(
        figure,
        {"title": "Architectures learnt from", **ticks},
        {"title": QUANTITIES[quantity], **scale},
    )
    return {key: figure.to_plotly_json()[key] for key in ("data", "layout")}


def _case(results: Results, number: int, case: tuple[str, str]) -> dict[str, Any]:
    study, sizes = results.study, sorted(results.study.sizes)
    best = {size: results.best(case, size) for size in sizes}
    rows = []
    for name in study.predictors:
        cells = [
            _interval(results.mean(case, name, size, "kendall"), 2) + (" *" if best[size][name] else "")
            for size in sizes
        ]
        rows.append([name, *cells])
    largest = []
    for name in study.predictors:
        found = {quantity: results.mean(case, name, sizes[-1], quantity) for quantity in QUANTITIES}
        seconds = [f"{one.mean:.2g} s" if (one := found[key]) else "" for key in ("fit_seconds", "predict_seconds")]
        largest.append([name, _interval(found["spearman"], 2), _interval(found["mape"], 2), *seconds])
    return {
        "number": number,
        "title": case[0],
        "objective": case[1],
        "held_out": f"{results.held_out(case[0]):,}",
        "kendall": rows,
        "largest": largest,
    }


def _interval(found: Interval | None, digits: int) -> str:
    if found is None:
        return "not defined"
    return style.interval(vars(found), f"{{:.{digits}f}}".format) if found.count > 1 else f"{found.mean:.{digits}f}"
