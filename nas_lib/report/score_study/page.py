"""The page of a study of scores: complete in itself, answers first, evidence after that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from plotly import graph_objects as go

from nas_lib.layout import write_text
from nas_lib.report import provenance, style
from nas_lib.report.charts import MANY_POINTS, layout, rounded, whiskers
from nas_lib.report.page import filled
from nas_lib.report.score_study.results import SCORE_KINDS, Benchmarked, Results, read, titled
from nas_lib.report.summary import counted, listed
from nas_lib.score_study.analysis import (
    COEFFICIENTS,
    FEWEST_RANKED,
    KEPT,
    RANKED,
    RESAMPLES,
    SUBSETS,
    Analysis,
    Coefficient,
    Correlation,
    Gain,
    Others,
)
from nas_lib.score_study.published import DEFECTS, PUBLISHED
from nas_lib.score_study.settings import ScoreStudy


def write_report(study: ScoreStudy) -> None:
    """Write the page of a finished study.

    Raises:
        FileNotFoundError: the analysis of a benchmark is not there yet.
    """
    write_text(study.folder.report, render(read(study)))


def render(results: Results) -> str:
    """The page as HTML."""
    from nas_lib.scores.catalogue import SCORES

    study, numbered = results.study, [*enumerate(results.benchmarks, start=1)]
    every = [*study.names, *study.combinations]
    options = [score for score in every if any(score in each.order for each in results.benchmarks)]
    figures = {f"forest-{number}": _forest(each) for number, each in numbered}
    figures |= {f"others-{number}": _forest_of_others(each) for number, each in numbered if each.analysis.others}
    figures |= {f"scatter-{number}": _scatter(each, f"networks-{number}") for number, each in numbered}
    return filled(
        "score_study/page.html",
        study=study,
        summary=summary(results),
        benchmarks=[_benchmark(number, each) for number, each in numbered],
        options=[(score, titled(score)) for score in options],
        chosen=next((each.strongest for each in results.benchmarks if each.strongest), ""),
        setting=_setting(results),
        formulas={f"{SCORES[name].title} ({name})": SCORES[name].formula for name in study.names}
        | {f"{name} (combination)": f"Mean rank by {_joined(its)}." for name, its in study.combinations.items()},
        charts={key: {part: its.to_plotly_json()[part] for part in ("data", "layout")} for key, its in figures.items()},
        points={f"networks-{number}": _points(each) for number, each in numbered},
        figures_folder=study.folder.figures.name,
        provenance=provenance.facts(study, provenance.tracking_uri(study)),
    )


# --- what it says ----------------------------------------------------------------------------------


def summary(results: Results) -> list[str]:
    """The sentences at the top of the page, each computed from the results."""
    found = []
    for each in results.benchmarks:
        found.append(" ".join([*_strongest(each), *_beaten(each), *_among_the_best(each), *_filter(each)]))
        found += _combined(each)
    return found


def _strongest(each: Benchmarked) -> Iterator[str]:
    networks = f"{each.title}, {each.analysis.networks:,} networks"
    score = each.strongest
    one = score and each.analysis.correlation(score, "all", "kendall")
    if not score or not one:
        yield f"{networks}: sizes apart, no score that applies to all has a τ with {each.analysis.quantity}."
        return
    published = each.published(score, "kendall")
    single = [name for name in each.order if name not in each.combinations]
    beside = "" if published is None else f", published {_signed(published)}"
    yield (
        f"{networks}: of {counted(len(single), 'score')} {titled(score)} agrees most with "
        f"{each.analysis.quantity}: Kendall's τ {_interval(one)}{beside}."
    )
    if not each.claimed(one.value):
        yield "Its sign is the opposite of what its authors claim: the higher it is, the worse the network."


def _beaten(each: Benchmarked) -> Iterator[str]:
    """Whether the strongest score is better than mere sizes."""
    score = each.strongest
    lead = score and each.lead(score, "all")
    size = lead and each.analysis.correlation(lead.baseline, "all", "kendall")
    if not lead or not size:
        return
    of = f"the strongest mere size, {titled(lead.baseline)} (τ {_signed(size.value)})"
    by = f"by {abs(lead.value):.3f} (95 % interval of the difference {_signed(lead.low)} to {_signed(lead.high)})"
    if lead.low > 0:
        yield f"It beats {of}, {by}."
    elif lead.high < 0:
        yield f"It is weaker than {of}, {by}: counting is the better score here."
    else:
        yield f"Nothing says that it differs from {of}: the difference is {_signed(lead.value)} ({_ends(lead)})."


def _among_the_best(each: Benchmarked) -> Iterator[str]:
    """Where the strongest score fails."""
    score = each.strongest
    one = score and each.analysis.correlation(score, "tenth", "kendall")
    whole = score and each.analysis.correlation(score, "all", "kendall")
    if whole and (count := _size(each, SUBSETS["tenth"])) < FEWEST_RANKED:
        yield f"The best tenth are {count} networks: too few to say whether it can tell which of them is better."
    if not one or not whole:
        return
    where = f"Among the best tenth ({one.count:,} networks) its τ is {_interval(one)}"
    if one.low <= 0 <= one.high:
        yield f"{where}: nothing says that it can tell which of them is better."
    elif one.value * whole.value < 0:
        yield f"{where}: the other way round than among all."
    else:
        yield f"{where}: it still tells them apart, {'less' if abs(one.value) < abs(whole.value) else 'no less'}."


def _filter(each: Benchmarked) -> Iterator[str]:
    score = each.strongest
    kept = each.kept(score) if score else {}
    if kept:
        yield (
            f"Keeping the half of the networks with the highest score keeps {_share(kept[0.5])} of the best tenth, "
            f"keeping a tenth {_share(kept[0.1])}."
        )


def _combined(each: Benchmarked) -> Iterator[str]:
    """How each combination ranks, on networks on which it was not chosen if these are known."""
    others = each.analysis.others
    found = others or each.analysis
    where = f"{others.networks:,} networks it was not chosen on" if others else "all networks"
    for name, its in each.combinations.items():
        if not (one := found.correlation(name, "all", "kendall")):
            continue
        gain = others.gain(name, "kendall") if others else None
        kept = each.kept(name, found)
        yield (
            f"Combination {name} ({_joined(its)}), on {where}: Kendall's τ {_interval(one)}.{_against(gain)} Keeping "
            f"the half with the highest mean rank keeps {_share(kept[0.5])} of their best tenth, keeping a tenth "
            f"{_share(kept[0.1])}."
        )


def _against(gain: Gain | None) -> str:
    if not gain:
        return ""
    alone, by = f"{titled(gain.baseline)} alone", f"{_signed(gain.value)} ({_ends(gain)})"
    if gain.low > 0:
        return f" It is better than {alone}, by {by}."
    if gain.high < 0:
        return f" It is worse than {alone}, by {by}."
    return f" Nothing says that it differs from {alone}: the difference is {by}."


# --- tables ----------------------------------------------------------------------------------------


def _benchmark(number: int, each: Benchmarked) -> dict[str, Any]:
    analysis = each.analysis
    several = bool(analysis.seeds)
    heads = ["Score", "Kendall's τ (95 %)", *(["Published τ, ρ, r"] if each.name in PUBLISHED else [])]
    heads += ["Spearman's ρ", "Pearson's r"]
    single = [score for score in analysis.scores if score not in each.combinations]
    seconds = each.frame.groupby(["network", "seed"])["seconds"].first()
    return {
        "number": number,
        "title": each.title,
        "what": " ".join([_counted(each), *analysis.notes]),
        "quantity": analysis.quantity,
        "sign": f"{'Negative' if analysis.better == 'lower' else 'Positive'} is what scores claim.",
        "heads": [*heads, "Networks", "not finite", *(["τ of each seed"] if several else [])],
        "correlations": [_row(each, score) for score in each.order],
        "published": "Published: Serianni and Kalita 2023, computed from their tables."
        if each.name in PUBLISHED
        else "",
        "subsets": [_subsets(each, score) for score in each.order],
        "fewest": FEWEST_RANKED,
        "sizes": listed([f"{_size(each, share):,}" for share in [*SUBSETS.values()][1:]]),
        "baseline": next((titled(lead.baseline) for lead in analysis.leads if lead.subset == "all"), None),
        "costs": [[each.marked(score), f"{1000 * its:.3g}"] for score, its in each.seconds.items()],
        "timed": each.costs["network"].nunique(),
        "together": f"{seconds.mean():.2g} s of CPU for all {len(single)} of one network",
        "troubles": each.troubles(),
        "remarks": DEFECTS.get(each.name, ()),
        "combinations": "; ".join(f"{name}: {_joined(its)}" for name, its in each.combinations.items()),
        "others": each.analysis.others and _of_others(each, each.analysis.others),
    }


def _of_others(each: Benchmarked, others: Others) -> dict[str, Any]:
    """What the page shows of the networks on which combinations were not chosen."""

    def figures(score: str, name: Coefficient) -> list[str]:
        gain = others.gain(score, name)
        beside = [f"{_signed(gain.value)} ({_ends(gain)})" if gain else ""] if name in RANKED else []
        return [_interval(others.correlation(score, "all", name)), *beside]

    coefficients, subsets = [], []
    for score in each.order_of_others:
        coefficients.append([each.marked(score), *(text for name in COEFFICIENTS for text in figures(score, name))])
        kept = each.kept(score, others)
        subsets.append(
            [
                each.marked(score),
                *(_interval(others.correlation(score, subset, "kendall")) for subset in ("half", "tenth")),
                *(_share(kept[share]) for share in KEPT),
            ]
        )
    baseline = next((titled(gain.baseline) for gain in others.gains), None)
    equal = "None of the others is equal to one of these."
    if others.equal:
        equal = f"Of the others {others.equal:,} are left out, for they are equal to one of these."
    chosen = f"Combinations were chosen on {others.chosen:,} networks. {equal} {others.networks:,} remain."
    return {
        "what": chosen if others.chosen else "Combinations were chosen elsewhere, on none of these networks.",
        "coefficients": coefficients,
        "subsets": subsets,
        "baseline": baseline or "a score that does not vary",
    }


def _joined(scores: Iterable[str]) -> str:
    return " + ".join(map(titled, scores))


def _counted(each: Benchmarked) -> str:
    return f"{each.analysis.networks:,} networks, {each.analysis.quantity}: {each.analysis.better} is better."


def _size(each: Benchmarked, share: float) -> int:
    return len(each.scored.best(share))


def _row(each: Benchmarked, score: str) -> list[str]:
    found = {name: each.analysis.correlation(score, "all", name) for name in COEFFICIENTS}
    tau, *others = (_interval(one) for one in found.values())
    published = [each.published(score, name) for name in found]
    beside = ", ".join("none" if value is None else _signed(value) for value in published if any(published))
    whole, taus = found["kendall"], each.analysis.seeds.get(score)
    counts = [f"{whole.count:,}", f"{whole.count - whole.finite:,}"] if whole else ["", ""]
    return [
        each.marked(score),
        tau,
        *([beside] if each.name in PUBLISHED else []),
        *others,
        *counts,
        *([", ".join(map(_signed, taus))] if taus else []),
    ]


def _subsets(each: Benchmarked, score: str) -> list[str]:
    halves = [_interval(each.analysis.correlation(score, subset, "kendall")) for subset in ("half", "tenth")]
    lead = each.lead(score, "all")
    kept = each.kept(score)
    return [
        each.marked(score),
        *halves,
        f"{_signed(lead.value)} ({_ends(lead)})" if lead else "",
        *(_share(kept[share]) for share in KEPT),
    ]


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _interval(one: Correlation | None) -> str:
    return "not defined" if one is None else f"{_signed(one.value)} ({_signed(one.low)} to {_signed(one.high)})"


def _ends(interval: Any) -> str:
    return f"{_signed(interval.low)} to {_signed(interval.high)}"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %" if np.isfinite(value) else "none there"


def _setting(results: Results) -> dict[str, str]:
    study = results.study
    facts = {
        "Scores": f"{len(study.names)}, each on the same batch for all networks, in evaluation mode, without training",
        "Seeds": f"{listed([*map(str, study.seeds)])}; each draws weights and batch, and a network's score is the mean",
        "Not finite": "ranks last in τ and ρ, is left out of r. Networks to which a score does not apply are left out",
        "Intervals": f"95 % percentile bootstrap over networks, {RESAMPLES:,} resamples, the same ones for all scores",
        "Best half, best tenth": "by what was measured; resamples are of these networks",
        "Choice": "The strongest score was chosen on the same networks, so its figure is a little flattering",
    }
    if study.combinations:
        facts["Combinations"] = (
            "rank networks by the mean of the ranks (higher is better) by their scores, not finite lowest, among the "
            "networks that all of these apply to; of networks they were not chosen on, among these alone"
        )
    return facts


# --- charts ----------------------------------------------------------------------------------------


def _forest(each: Benchmarked) -> go.Figure:
    published = {score: value for score in each.order if (value := each.published(score, "kendall")) is not None}
    return _intervals(each, each.analysis, each.order, published, "Published")


def _forest_of_others(each: Benchmarked) -> go.Figure:
    others = each.analysis.others
    taus = others.taus if others else {}
    return _intervals(each, others or each.analysis, each.order_of_others, taus, "Where combinations were chosen")


def _intervals(
    each: Benchmarked, of: Analysis | Others, order: Sequence[str], beside: Mapping[str, float], label: str
) -> go.Figure:
    """Tau of every score, the first on top, and a figure beside it."""
    figure, order = go.Figure(), order[::-1]
    for place, kind in enumerate(SCORE_KINDS):
        its = [score for score in order if each.kind(score) == kind]
        if not its and kind == "combination":
            continue
        found = [one for score in its if (one := of.correlation(score, "all", "kendall"))]
        figure.add_trace(
            go.Scatter(
                x=[rounded(one.value) for one in found],
                y=[*map(each.marked, its)],
                error_x=whiskers([one.estimate for one in found]),
                mode="markers",
                marker={"size": 8, "color": style.colour(place), "symbol": style.marker(place)[0]},
                name=kind.capitalize(),
                hovertemplate="<b>%{y}</b>: τ %{x:.3f}<extra></extra>",
            )
        )
    shown = [score for score in order if score in beside]
    if shown:
        figure.add_trace(
            go.Scatter(
                x=[rounded(beside[score]) for score in shown],
                y=[*map(each.marked, shown)],
                mode="markers",
                marker={"size": 9, "color": style.NEUTRAL, "symbol": "diamond-open", "line": {"width": 2}},
                name=label,
                hovertemplate=f"<b>%{{y}}</b>, {label[0].lower()}{label[1:]}: τ %{{x:.3f}}<extra></extra>",
            )
        )
    x = {"title": f"Kendall's τ with {each.analysis.quantity}", "zeroline": True, "zerolinecolor": style.NEUTRAL}
    y = {"title": "", "type": "category", "categoryorder": "array", "categoryarray": [*map(each.marked, order)]}
    return layout(figure, x, y, height=130 + 24 * len(order))


def _scatter(each: Benchmarked, points: str) -> go.Figure:
    figure, names = go.Figure(), np.array(each.networks)
    measured = np.array([rounded(value) for value in each.scored.measured])
    kind = go.Scattergl if len(measured) >= MANY_POINTS else go.Scatter
    for score in each.order:
        values, places = each.scored.values[score], each.places(score)
        meta = {"strategy": score, "single": True}
        figure.add_trace(
            kind(
                x=[rounded(place) if np.isfinite(value) else None for place, value in zip(places, values, strict=True)],
                y=measured.tolist(),
                customdata=[f"{value:.4g}" for value in values],
                mode="markers",
                marker={"size": 5, "opacity": 0.5, "color": style.colour(0)},
                name=titled(score),
                hovertemplate="<b>%{text}</b><br>score %{customdata}<br>measured %{y:.4g}<extra></extra>",
                meta=meta | {"points": points},
            )
        )
        last = ~np.isfinite(values) & each.scored.applies[score]
        if last.any():
            figure.add_trace(
                kind(
                    x=places[last].tolist(),
                    y=measured[last].tolist(),
                    text=names[last].tolist(),
                    mode="markers",
                    marker={"size": 5, "symbol": "circle-open", "color": style.colour(1)},
                    name="Not finite",
                    hovertemplate="<b>%{text}</b><br>not finite<br>measured %{y:.4g}<extra></extra>",
                    meta=meta,
                )
            )
    x = {"title": "Place by score (%), the best on the right", "range": [-2, 102]}
    return layout(figure, x, {"title": each.analysis.quantity})


def _points(each: Benchmarked) -> dict[str, list[Any]]:
    """See `charts.points`."""
    networks = each.networks
    return {"text": networks, "seed": [0] * len(networks), "full": [True] * len(networks)}
