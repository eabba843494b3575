"""The report of a laboratory: what its page, figures and tables say of searches that are known by hand."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from nas_lib.laboratory.comparison import write_comparison
from nas_lib.laboratory.settings import Laboratory
from nas_lib.report import style
from nas_lib.report.laboratory import figure_names, table_names, write_figures, write_report
from nas_lib.report.laboratory.page import summary
from nas_lib.report.laboratory.results import Results, read
from tests.laboratories import UNLISTED_GRID, a_laboratory, write_search
from tests.pages import data_of, opened, titles_of, without_plotly, words_of

GOOD = [(3, 0), (0, 3), (2, 1), (1, 2)]
FAIR = [(3, 0), (0, 3), (2, 1), (4, 1)]
POOR = [(3, 0), (4, 1), (2, 1), (5, 2)]
"""Dominate 10, 9 and 7 of the 10 units."""


def made_up(folder: Path, **changes: Any) -> Laboratory:
    """Three strategies on a table and on a problem of three objectives; the first one predicts."""
    content = {
        "description": "Made-up <b>searches</b>",
        "strategies": [{"name": "linas", "label": "good"}, {"name": "nsga2", "label": "fair"}, "random"],
        "seeds": [1, 2, 3],
        "budget": {"evaluations": 6, "batch": 3},
    }
    laboratory = a_laboratory(folder, **content | changes)
    predicted = np.array([np.nan] * 3 + [1.0, 9.0, 8.0])
    for seed in laboratory.seeds:
        for label, points in zip(laboratory.labels, (GOOD, FAIR, POOR), strict=True):
            more = [*points, (4, 1), (5, 2)]
            write_search(
                laboratory,
                "staircase",
                label,
                seed,
                more,
                repeats=(5,) if label == "fair" else (),
                predicted=predicted if label == "good" else None,
            )
    write_comparison(laboratory)
    return laboratory


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    return made_up(tmp_path_factory.mktemp("laboratory"))


@pytest.fixture(scope="module")
def page(laboratory: Laboratory) -> str:
    write_report(laboratory)
    return without_plotly(laboratory.folder.report)


@pytest.fixture(scope="module")
def results(laboratory: Laboratory) -> Results:
    return read(laboratory)


def test_the_summary_answers_first(results: Results) -> None:
    found = summary(results)
    assert found[0].startswith(
        "3 strategies (good, fair and random) searched 1 problem (staircase) with 3 seeds each: 9 searches of up to 6 "
        "distinct evaluations, 51 in all. 3 proposals repeated"
    )
    assert found[1].startswith("Over all problems and seeds good has the best mean rank, 1.00 of 3 (3 blocks)")
    assert found[2].startswith("good is first, or within the confidence interval of the first, on every problem")
    assert "with 3 seeds p cannot be smaller than 0.5" in found[-1], "so few seeds cannot be tested"


def test_equal_mean_ranks_share_the_first_place(tmp_path: Path) -> None:
    laboratory = a_laboratory(tmp_path, seeds=[1])
    for label in laboratory.labels:
        write_search(laboratory, "staircase", label, 1, GOOD)
    write_comparison(laboratory)
    assert summary(read(laboratory))[1].startswith(
        "Over all problems and seeds good and random share the best mean rank, 1.50 of 2 (1 block) (critical"
    )


def test_strategies_that_have_no_budget_left_after_their_initial_sample_are_named(page: str) -> None:
    assert "good and fair: the initial sample takes the whole budget" in words_of(page)


def test_reference_points_denominators_and_repeats_are_stated(page: str) -> None:
    words = words_of(page)
    assert "loss and cost, all minimised. Reference point: loss 4, cost 4." in words
    assert "a share of that of the exact front (4 points): 10." in words
    assert "baseline: random" in words
    assert "Made-up &lt;b&gt;searches&lt;/b&gt;" in page


def test_every_problem_has_its_charts_with_titled_axes(page: str) -> None:
    titles = titles_of(page)
    assert titles == {
        "proposing": ["CPU seconds per proposal", ""],
        "hypervolume-1": ["Distinct evaluations", "Hypervolume (share)"],
        "attainment-1": ["loss", "cost"],
        "targets-1": ["Distinct evaluations", ""],
        "foretold-1-1": ["Round", "Kendall's tau, loss"],
    }
    assert all(f'id="{name}"' in page for name in titles)


def test_the_chart_of_hypervolume_holds_the_mean_over_seeds(page: str) -> None:
    means = [
        trace for trace in data_of(page)["charts"]["hypervolume-1"]["data"] if trace.get("showlegend") is not False
    ]
    assert [trace["name"] for trace in means] == ["good", "fair", "random"]
    assert means[0]["y"] == pytest.approx([0.4, 0.7, 0.9, 1.0, 1.0, 1.0])
    assert means[2]["y"] == pytest.approx([0.4, 0.4, 0.7, 0.7, 0.7, 0.7])


def test_the_page_needs_nothing_from_outside_and_names_no_folder(laboratory: Laboratory, page: str) -> None:
    assert not re.search(r'<(script|img|iframe|link|source)[^>]*(src|href)="(?!data:)', page)
    assert str(laboratory.results) not in page
    assert str(Path.cwd()) not in page


def test_figures_and_tables_are_those_declared_and_equal_bytes_each_time(laboratory: Laboratory) -> None:
    folder = laboratory.folder
    write_figures(laboratory)
    first = {path.name: path.read_bytes() for path in [*folder.figures.iterdir(), *folder.tables.iterdir()]}
    assert sorted(first) == sorted([*figure_names(laboratory), *table_names(laboratory)])
    write_figures(laboratory)
    assert all((folder.figures / name).read_bytes() == first[name] for name in figure_names(laboratory))
    for name in figure_names(laboratory):
        if name.endswith(".svg"):
            ElementTree.fromstring(first[name].decode())  # noqa: S314


def test_tables_hold_the_numbers_behind_the_figures(laboratory: Laboratory) -> None:
    write_figures(laboratory)
    tables = {name: pd.read_csv(laboratory.folder.tables / name) for name in table_names(laboratory)}
    hypervolume = tables["hypervolume.csv"].query("strategy == 'random' and seed == 2")
    assert hypervolume["hypervolume"].tolist() == pytest.approx([0.4, 0.4, 0.7, 0.7, 0.7, 0.7])
    searches = tables["searches.csv"].query("seed == 1").set_index("strategy")
    assert searches["repeats"].to_dict() == {"good": 0, "fair": 1, "random": 0}
    assert searches["evaluations"].to_dict() == {"good": 6, "fair": 5, "random": 6}
    surface = tables["attainment.csv"].query("strategy == 'good' and surface == 'worst'")
    assert surface[["first", "second"]].to_numpy().tolist() == [[0, 3], [1, 2], [2, 1], [3, 0]]
    targets = tables["targets.csv"].query("target == '95 % of the whole'").set_index("strategy")
    assert targets["reached"].to_dict() == {"good": 3, "fair": 0, "random": 0}
    assert tables["pairs.csv"]["effect"].tolist() == [1, 1, 1]
    assert tables["foretold.csv"]["correlation"].tolist() == pytest.approx([1 / 3] * 3)


def test_one_strategy_with_one_seed_and_three_objectives_is_not_called_evidence(tmp_path: Path) -> None:
    laboratory = a_laboratory(tmp_path, problems=[UNLISTED_GRID], strategies=["random"], seeds=[1])
    write_search(laboratory, laboratory.titles[0], "random", 1, [(1.5, 1.5, 1.5), (1.0, 1.0, 2.0)])
    write_comparison(laboratory)
    write_figures(laboratory)
    write_report(laboratory)
    words = words_of(without_plotly(laboratory.folder.report))
    assert "Only one strategy was run" in words
    assert "With 3 objectives there are no surfaces to draw." in words
    assert "The exact front is not known, so these shares compare the searches of this report only." in words


def test_eighteen_strategies_can_be_told_apart_by_colour_and_line() -> None:
    looks = {(style.colour(strategy), style.dash(strategy)) for strategy in range(18)}
    assert len(looks) == 18


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_works_offline_without_sideways_scrolling(
    browser: Any, laboratory: Laboratory, page: str, width: int, scheme: str
) -> None:
    tab, troubles = opened(browser, laboratory.folder.report, width, scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.locator("#proposing .main-svg").count() > 0
    tab.select_option("#filter [name=strategy]", "fair")
    shown = "() => document.getElementById('targets-1').data.filter((trace) => trace.visible).map((t) => t.name)"
    assert set(tab.evaluate(shown)) == {"fair"}
    assert troubles == []


@pytest.fixture(scope="module")
def aimed(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    """As `laboratory`, with the best 5 % as a target: the loss 0, which `good` and `fair` find second."""
    return made_up(tmp_path_factory.mktemp("aimed"), target={"share": 0.05}, seeds=[1, 2])


def test_a_target_adds_a_section_a_chart_and_a_sentence(aimed: Laboratory, page: str) -> None:
    write_report(aimed)
    html = without_plotly(aimed.folder.report)
    words = words_of(html)
    assert "Evaluations to the best 5 %" in words
    assert "By loss the best 5 % are 1 of 16 architectures, those with loss up to 0." in words
    assert "Draws without replacement need 8.5 evaluations in the mean" in words
    assert summary(read(aimed))[-1] == (
        "Distinct evaluations after which half of the searches of staircase had found one of the best 5 %: good 2, "
        "fair 2 and random more than 6."
    )
    assert titles_of(html)["best-1"] == ["Distinct evaluations", "Searches without success"]
    assert "best-1" not in titles_of(page)
    assert "Evaluations to the best" not in words_of(page)


def test_the_chart_of_a_target_falls_from_all_searches_to_those_that_found_nothing(aimed: Laboratory) -> None:
    results = read(aimed)
    assert results.unfound("staircase", "good").mean.tolist() == [1, 1, 0, 0, 0, 0, 0]
    assert results.unfound("staircase", "random").mean.tolist() == [1] * 7
    found = results.unfound("staircase", "good")
    assert (found.low[0], found.high[-1]) == pytest.approx((0.025**0.5, 1 - 0.025**0.5)), "Clopper and Pearson, n = 2"


def test_figures_and_tables_of_a_target(aimed: Laboratory, laboratory: Laboratory) -> None:
    write_figures(aimed)
    assert {path.name for path in aimed.folder.figures.iterdir()} == set(figure_names(aimed))
    assert set(figure_names(aimed)) - set(figure_names(laboratory)) == {"best-staircase.svg", "best-staircase.pdf"}
    table = pd.read_csv(aimed.folder.tables / "best.csv").set_index("strategy")
    assert table["evaluations"].fillna(0).to_dict() == {"good": 2, "fair": 2, "random": 0}
    assert table["mean"].to_dict() == {"good": 2, "fair": 2, "random": 6}
    assert table[["speed_up_at_least", "members", "expected", "against"]].to_numpy()[0].tolist() == [
        3,
        1,
        8.5,
        "random",
    ]
    searches = pd.read_csv(aimed.folder.tables / "searches.csv")
    assert searches.loc[searches["strategy"] == "fair", "found"].tolist() == [2, 2]
