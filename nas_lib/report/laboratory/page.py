"""The page of a laboratory: complete in itself, answers first, evidence after that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from nas_lib.laboratory.settings import Laboratory
from nas_lib.layout import write_text
from nas_lib.report import provenance, style
from nas_lib.report.laboratory.charts import FEW, charts
from nas_lib.report.laboratory.figures import ranks_svg
from nas_lib.report.laboratory.results import Results, axis, evaluations, heading, read, speed_up
from nas_lib.report.page import filled, tested
from nas_lib.report.summary import SIGNIFICANT, counted, listed, untestable


def write_report(laboratory: Laboratory) -> None:
    """Write the page of a finished laboratory.

    Raises:
        FileNotFoundError: a search or the comparison is not there yet.
    """
    write_text(laboratory.folder.report, render(read(laboratory)))


def render(results: Results) -> str:
    """The page as HTML."""
    laboratory = results.laboratory
    figures = charts(results)
    return filled(
        "laboratory/page.html",
        laboratory=laboratory,
        summary=summary(results),
        setting=_setting(results),
        seeds=counted(len(laboratory.seeds), "seed"),
        several=len(laboratory.seeds) > 1,
        strategies=len(laboratory.labels),
        checkpoints=results.comparison["checkpoints"],
        blocks=results.comparison["overall"]["blocks"],
        ranks_drawing=ranks_svg(results) if len(laboratory.labels) > 1 else "",
        ranks=_ranks(results),
        pairs=_pairs(results),
        problems=[_problem(results, number, title, figures) for number, title in enumerate(results.problems, start=1)],
        proposing=_proposing(results),
        best=results.best,
        baseline=results.comparison["baseline"],
        untestable=untestable(len(laboratory.seeds), len(laboratory.labels) - 1),
        few=FEW,
        charts=figures,
        points={},
        figures_folder=laboratory.folder.figures.name,
        provenance=provenance.facts(laboratory, provenance.tracking_uri(laboratory)),
    )


def summary(results: Results) -> list[str]:
    """The sentences at the top of the page, each computed from the results."""
    return [_searched(results), *_ranked(results), *_first(results), *_against_the_baseline(results), *_found(results)]


def _searched(results: Results) -> str:
    laboratory = results.laboratory
    searches = [search for problem in results.problems.values() for search in problem["searches"]]
    repeats = sum(search["repeats"] for search in searches)
    measured = sum(search["evaluations"] for search in searches)
    return (
        f"{counted(len(laboratory.labels), 'strategy', 'strategies')} ({listed(laboratory.labels)}) searched "
        f"{counted(len(results.problems), 'problem')} ({listed(list(results.problems))}) with "
        f"{counted(len(laboratory.seeds), 'seed')} each: {counted(len(searches), 'search', 'searches')} of up to "
        f"{laboratory.budget.evaluations} distinct evaluations, {measured:,} in all. "
        + (
            f"{counted(repeats, 'proposal')} repeated an architecture of the same search, which costs nothing and "
            "counts for nothing."
            if repeats
            else "No proposal repeated an architecture of the same search."
        )
    )


def _ranked(results: Results) -> Iterator[str]:
    overall = results.comparison["overall"]
    last = overall["checkpoints"][-1]
    ranks = last["ranks"]
    if len(ranks) < 2:
        yield "Only one strategy was run, so nothing says whether it is better than another."
        return
    best = min(ranks.values())
    first = [label for label, rank in ranks.items() if math.isclose(rank, best)]
    alike = [label for label, rank in ranks.items() if label not in first and rank - best < last["critical_difference"]]
    sentence = (
        f"Over all problems and seeds {listed(first)} {'has' if len(first) == 1 else 'share'} the best mean rank, "
        f"{best:.2f} of {len(ranks)} ({counted(overall['blocks'], 'block')})"
    )
    if alike:
        sentence += f"; that rank cannot be told apart from {'that' if len(alike) == 1 else 'those'} of {listed(alike)}"
    yield f"{sentence} (critical difference {last['critical_difference']:.2f})."


def _first(results: Results) -> Iterator[str]:
    """Which strategies are first, or within the interval of the first, on how many problems, at every checkpoint."""
    if len(results.labels) < 2:
        return
    within: dict[str, list[bool]] = {label: [] for label in results.labels}
    for problem in results.problems.values():
        for checkpoint in problem["checkpoints"]:
            for label, found in checkpoint["strategies"].items():
                within[label].append(found["within_first"])
    everywhere = [label for label, found in within.items() if all(found)]
    at = listed([str(checkpoint) for checkpoint in results.comparison["checkpoints"]])
    if everywhere:
        yield (
            f"{listed(everywhere)} {'is' if len(everywhere) == 1 else 'are'} first, or within the confidence interval "
            f"of the first, on every problem after {at} evaluations."
        )
    else:
        label = max(within, key=lambda name: sum(within[name]))
        yield (
            f"No strategy is first, or within the confidence interval of the first, on every problem after {at} "
            f"evaluations; {label} comes closest, in {sum(within[label])} of {len(within[label])} cases."
        )


def _against_the_baseline(results: Results) -> Iterator[str]:
    baseline, problems = results.comparison["baseline"], results.problems
    for label in results.labels[:-1]:
        sides: dict[str, list[str]] = {"better": [], "worse": []}
        for title, problem in problems.items():
            if problem["tests"][label]["p_holm"] <= SIGNIFICANT:
                sides["better" if problem["differences"][label]["mean"] > 0 else "worse"].append(title)
        words = [f"{side} on {listed(titles)}" for side, titles in sides.items() if titles]
        if words:
            yield f"Against {baseline}, {label} ends significantly {' and '.join(words)}."
    smallest = untestable(len(results.laboratory.seeds), len(results.labels) - 1)
    if smallest:
        yield f"Differences on a single problem cannot be tested{smallest}."


def _found(results: Results) -> Iterator[str]:
    """After how many evaluations half of the searches had found one of the best, per problem, soonest first."""
    for title, problem in results.problems.items():
        if problem["best"]:
            strategies = problem["best"]["strategies"]
            order = sorted(strategies, key=lambda label: strategies[label]["median"] or math.inf)
            words = [f"{label} {_median(results, strategies[label])}" for label in order]
            yield (
                f"Distinct evaluations after which half of the searches of {title} had found one of {results.best}: "
                + (f"{listed(words)}.")
            )


def _median(results: Results, found: Mapping[str, Any]) -> str:
    budget = results.laboratory.budget.evaluations
    return f"more than {budget}" if found["median"] is None else f"{found['median']:.0f}"


def _setting(results: Results) -> dict[str, str]:
    laboratory, budget = results.laboratory, results.laboratory.budget
    draws = laboratory.draws_alone
    return {
        "Strategies": f"{', '.join(laboratory.labels)}; baseline: {results.comparison['baseline']}",
        "Problems": ", ".join(results.problems),
        "Budget of a search": (
            f"{budget.evaluations} distinct evaluations, in rounds of at most {budget.batch} proposals"
        ),
        "Seeds": f"{', '.join(map(str, laboratory.seeds))} (n = {len(laboratory.seeds)}); all strategies of a seed "
        "draw their initial samples alike",
        **({"Random draws alone": f"{listed(draws)}: the initial sample takes the whole budget"} if draws else {}),
    }


def _ranks(results: Results) -> list[list[str]]:
    """Per strategy its mean rank at every checkpoint."""
    checkpoints = results.comparison["overall"]["checkpoints"]
    return [[label, *(f"{checkpoint['ranks'][label]:.2f}" for checkpoint in checkpoints)] for label in results.labels]


def _pairs(results: Results) -> list[list[str]]:
    """A square of effect size and corrected p of every strategy (row) against every other one (column)."""
    found: dict[tuple[str, str], str] = {}
    for pair in results.comparison["overall"]["pairs"]:
        for first, second, sign in ((pair["first"], pair["second"], 1), (pair["second"], pair["first"], -1)):
            mark = "*" if pair["p_holm"] <= SIGNIFICANT else ""
            found[first, second] = f"{style.signed(sign * pair['effect'], 2)}, p {pair['p_holm']:.2g}{mark}"
    return [[row, *(found.get((row, column), "") for column in results.labels)] for row in results.labels]


def _problem(results: Results, number: int, title: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    problem = results.problems[title]
    whole = problem["denominator"]
    references = [
        f"{axis(problem, name)} {reference:.6g}"
        for name, reference in zip(problem["objectives"], problem["reference"], strict=True)
    ]
    members = counted(whole["points"], "point")
    front = f"the exact front ({members})" if whole["exact"] else f"all that any search here found ({members} of front)"
    return {
        "number": number,
        "title": title,
        "objectives": len(problem["objectives"]),
        "exact": whole["exact"],
        "measure": (
            f"{listed([axis(problem, name) for name in problem['objectives']])}, all minimised. Reference point: "
            f"{', '.join(references)}. Hypervolume is a share of that of {front}: {whole['value']:.6g}."
        ),
        "finals": _finals(results, title),
        "checkpoints": _checkpoints(results, title),
        "levels": [(heading(one), one["against"]) for one in problem["targets"]],
        "targets": _targets(results, title),
        "best": _best(results, title),
        "goal": problem["best"] and _goal(results, problem),
        "foretold": [
            (f"foretold-{number}-{place}", name) for place, name in enumerate(results.foretold(title), start=1)
        ],
        "attainment": f"attainment-{number}" in figures,
    }


def _finals(results: Results, title: str) -> list[list[str]]:
    """Per strategy its final hypervolume, difference to the baseline, test, effect, rank, repeats; IGD+ if known."""
    problem, rows = results.problems[title], []
    for label in results.labels:
        searches, difference = results.searches(title, label), problem["differences"].get(label)
        last = problem["checkpoints"][-1]["strategies"][label]
        distances = [search["igd_plus"] for search in searches]
        rows.append(
            [
                label,
                style.interval(problem["final"][label], "{:.3f}".format),
                style.interval(difference, style.signed) if difference else "baseline",
                *tested(problem["tests"].get(label)),
                f"{last['rank']:.2f}",
                f"{sum(search['repeats'] for search in searches):,}",
                *([f"{np.mean(distances):.4f}"] if problem["denominator"]["exact"] else []),
            ]
        )
    return rows


def _checkpoints(results: Results, title: str) -> list[list[str]]:
    """Per strategy its hypervolume at every checkpoint; a star where it is within the interval of the first."""
    rows = []
    for label in results.labels:
        found = [checkpoint["strategies"][label] for checkpoint in results.problems[title]["checkpoints"]]
        cells = [style.interval(one, "{:.3f}".format) + (" *" if one["within_first"] else "") for one in found]
        rows.append([label, *cells])
    return rows


def _targets(results: Results, title: str) -> list[list[tuple[str, str]]]:
    """Per strategy and level the evaluations it takes and the speed-up."""
    targets = results.problems[title]["targets"]
    rows = []
    for label in results.labels:
        cells = []
        for target in targets:
            found = target["strategies"][label]
            cells.append((evaluations(found), speed_up(found["speed_up"])))
        rows.append([(label, ""), *cells])
    return rows


def _best(results: Results, title: str) -> list[list[str]]:
    """Per strategy evaluations to one of the best, the speed-up, and the restricted mean."""
    best = results.problems[title]["best"] or {"strategies": {}}
    return [
        [label, evaluations(found), speed_up(found["speed_up"]), style.interval(found["mean"], "{:.1f}".format)]
        for label, found in best["strategies"].items()
    ]


def _goal(results: Results, problem: Mapping[str, Any]) -> str:
    """What is to be found, and what random draws need."""
    best, name = problem["best"], problem["objectives"][0]
    return (
        f"By {name} {results.best} are {best['members']:,} of {best['architectures']:,} architectures, those with "
        f"{axis(problem, name)} up to {best['level']:.6g}. Draws without replacement need {best['expected']:.1f} "
        "evaluations in the mean to find one of them."
    )


def _proposing(results: Results) -> list[list[str]]:
    """Per strategy CPU seconds per proposal: mean over problems and seeds, the slowest problem, and of a search."""
    rows = []
    number = partial("{:.2g}".format)
    for label in results.labels:
        seconds = {title: results.proposing(title, label) for title in results.problems}
        slowest = max(seconds, key=lambda title: seconds[title])
        searches = [search for title in results.problems for search in results.searches(title, label)]
        totals = [search["proposing_seconds"]["total"] for search in searches]
        rows.append(
            [
                label,
                f"{number(np.mean(list(seconds.values())))} s",
                f"{number(seconds[slowest])} s ({slowest})",
                style.duration(float(np.mean(totals))),
            ]
        )
    return rows
