"""Several experiments held against each other: one page of Markdown with its figures, for what differs in more than the
strategy (the space, the task, the training)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from nas_lib.experiment import Experiment
from nas_lib.layout import write_text
from nas_lib.report import style
from nas_lib.report.figures import write_comparison_figures
from nas_lib.report.results import Results, together, winners_compared
from nas_lib.report.summary import counted, measure_title, untestable

EXPECTED_TO_DIFFER = {"experiment", "description", "results", "strategies", "tracking", "resources"}
"""Keys of an experiment that are not worth a line where they differ."""


def write_versus(experiments: Sequence[Experiment], folder: Path) -> None:
    """Write `versus.md` and its figures as SVG and PDF.

    Raises:
        ConfigurationError: they cannot be compared.
        FileNotFoundError: a result is not there yet.
    """
    results = together(experiments)
    write_comparison_figures(results, folder)
    write_text(folder / "versus.md", "\n".join(_page(experiments, results)))


def _page(experiments: Sequence[Experiment], results: Results) -> Iterator[str]:
    comparison = results.comparison
    yield f"# {' / '.join(experiment.experiment for experiment in experiments)}"
    yield ""
    seeds, others = len(results.experiment.seeds), len(results.labels) - 1
    yield f"{counted(seeds, 'seed')}; baseline: {comparison['baseline']}."
    yield "Means with 95 % confidence intervals (Student's t); differences are taken per seed."
    yield f"p: Wilcoxon's signed ranks, two-sided, corrected for several comparisons (Holm){untestable(seeds, others)}."
    yield "Effect: rank-biserial correlation, 1 where all seeds are above the baseline, -1 where all are below."
    yield ""
    yield "What differs beside strategies and names: " + ("; ".join(_differing(experiments)) or "nothing") + "."
    quantities: list[tuple[str, dict[str, Any], Callable[[float], str]]] = [
        ("Hypervolume (share of the common box)", comparison, "{:.3f}".format)
    ]
    tested, measure = results.experiment.finalists.count > 0, results.measure
    for name, found in winners_compared(results).items():
        of = name.removeprefix("test_")
        title = style.axis(of) if of == name else style.tested(style.axis(of))
        lowest = f"of the finalist with the lowest {measure_title(measure)}"
        quantities.append((f"{title} {lowest}", found, partial(style.number, of)))
    for title, found, number in quantities:
        yield from ("", f"## {title}", "", *_table(found, results.labels, number))
    yield ""
    for figure in ("front", "hypervolume", "hypervolume-seconds", "ranks", *(["finalists"] if tested else [])):
        yield f"![{figure}]({figure}.svg)"
    yield ""


def _differing(experiments: Sequence[Experiment]) -> Iterator[str]:
    """Every setting that is not the same in all."""
    settings = [json.loads(experiment.model_dump_json(exclude=EXPECTED_TO_DIFFER)) for experiment in experiments]
    for section, first in settings[0].items():
        for key in first if isinstance(first, dict) else [None]:
            values = [each[section] if key is None else (each[section] or {}).get(key) for each in settings]
            if any(value != values[0] for value in values):
                yield f"`{section if key is None else f'{section}.{key}'}`"


def _table(found: Mapping[str, Any], labels: Sequence[str], number: Callable[[float], str]) -> Iterator[str]:
    ranks = found.get("ranks")
    yield "| search | mean | seeds | difference to the baseline | p | effect |" + (" mean rank |" if ranks else "")
    yield "|---|---|---|---|---|---|" + ("---|" if ranks else "")
    for label in labels:
        final, difference = found["final"][label], found["differences"].get(label)
        row = [label, style.interval(final, number), f"{final['count']}"]
        if difference:
            test = found["tests"][label]
            row += [style.interval(difference, number), f"{test['p_holm']:.2g}", f"{test['effect']:.2f}"]
        else:
            row += ["-"] * 3
        yield "| " + " | ".join(row + ([f"{ranks[label]:.1f}"] if ranks else [])) + " |"
