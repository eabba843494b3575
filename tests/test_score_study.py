"""The score study: what is measured of what, what a killed one keeps, what it says, and what a user reads."""

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from scipy import stats
from torch import nn

from nas_lib import cli, scores
from nas_lib.configuration import ConfigurationError
from nas_lib.mlflow_store import Synced
from nas_lib.problems.problem import ProblemError
from nas_lib.report.score_study import TABLES, figure_names, write_figures, write_report
from nas_lib.report.score_study.page import summary
from nas_lib.report.score_study.results import read
from nas_lib.score_study import analysis
from nas_lib.score_study.analysis import Scored, correlate, gains, kept_share, write_analysis
from nas_lib.score_study.benchmarks import Benchmark, ChosenOn, FlexiBERT, NASBenchNLP, Network, merged
from nas_lib.score_study.measure import Scoring, costs, run, table, time_alone
from nas_lib.score_study.settings import ScoreStudy, load, parse, schema
from nas_lib.score_study.tracking import sync
from nas_lib.scores.names import NAMES, REVISION
from nas_lib.settings import UserError
from nas_lib.spaces.recurrent.cell import cell_of
from nas_lib.spaces.recurrent.recipes import from_recipe, random_recipe
from nas_lib.spaces.transformer.space import TransformerSpace
from tests.pages import without_plotly

ROOT = Path(__file__).parent.parent
SPACE = {"name": "transformer", "hidden": [4, 8], "layers": [1, 2], "heads": [2], "feed_forward": [4, 8], "stacks": [1]}
TITLE = "mine"
COUNT = 24


def tiny(folder: Path) -> dict[str, Any]:
    """A study of a table in a folder: random encoders, whose loss falls with depth and width."""
    space, rng = TransformerSpace(**SPACE), np.random.default_rng(0)
    rows: dict[str, dict[str, Any]] = {}
    while len(rows) < COUNT:
        genotype = space.sample(rng)
        loss = 3 - 0.1 * genotype["genes"][0] - 0.2 * genotype["genes"][1] + 0.1 * rng.random()
        rows.setdefault(space.hash(genotype), {"genotype": json.dumps(genotype), "loss": loss})
    pd.DataFrame(rows.values()).to_csv(folder / "mine.csv", index=False)
    benchmark = {"name": "table", "path": str(folder / "mine.csv"), "measured": "loss", "better": "lower", "batch": 6}
    benchmark |= {"space": SPACE, "task": {"name": "adding", "steps": 4}}
    return {
        "score_study": "tiny",
        "benchmarks": [benchmark],
        "scores": ["snip", "head_confidence", "hidden_saliency", "parameters", "depth"],
        "jobs": 2,
    }


def study(folder: Path, **changes: Any) -> ScoreStudy:
    return parse(tiny(folder) | {"results": str(folder)} | changes, "my.yaml")


def mistakes(folder: Path, **changes: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        parse(tiny(folder) | changes, "my.yaml").checked_benchmarks()
    return str(caught.value).splitlines()


# --- what is measured ----------------------------------------------------------------------------


def test_every_network_is_scored_once_by_one_of_the_jobs_and_reasons_are_kept(tmp_path: Path) -> None:
    made = study(tmp_path)
    for job in range(2):
        run(made, TITLE, job)
    frame = pd.concat(pd.read_parquet(made.folder.share(TITLE, job)) for job in range(2))
    assert len(frame) == COUNT * 5
    assert set(frame["network"]) == {f"row {row}" for row in range(1, COUNT + 1)}
    saliency = frame[frame["score"] == "hidden_saliency"]
    assert saliency["value"].isna().all()
    assert set(saliency["reason"]) == {"needs recurrent states, and TransformerNetwork shows none"}
    assert np.isfinite(frame.loc[frame["score"] != "hidden_saliency", "value"]).all()
    run(made.model_copy(update={"jobs": 1}), TITLE, 0)
    whole = pd.read_parquet(made.folder.share(TITLE, 0))
    shared = frame.set_index(["network", "score"])["value"]
    assert whole.set_index(["network", "score"])["value"].sort_index().equals(shared.sort_index())


def test_what_cannot_be_built_or_scored_is_part_of_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = study(tmp_path, jobs=1, scores=["parameters", "snip"])
    once, whole = TransformerSpace.build, scores.score

    def building(self: TransformerSpace, genotype: Any, shape: Any) -> nn.Module:
        if genotype["genes"][0] == 4:
            raise ValueError("too narrow\nfor this")
        return once(self, genotype, shape)

    def scoring(network: nn.Module, batch: Any, names: list[str], seed: int) -> scores.Scored:
        if "snip" in names:
            raise RuntimeError("no gradients")
        return whole(network, batch, names, seed)

    monkeypatch.setattr(TransformerSpace, "build", building)
    monkeypatch.setattr(scores, "score", scoring)
    run(made, TITLE, 0)
    frame = pd.read_parquet(made.folder.share(TITLE, 0))
    narrow = frame["failure"] == "cannot be built: ValueError: too narrow"
    assert 0 < narrow.sum() < len(frame)
    built = dict([*frame[~narrow].groupby("score")])
    assert set(built["snip"]["failure"]) == {"RuntimeError: no gradients"}
    assert (built["parameters"]["value"] > 0).all()
    monkeypatch.undo()
    run(made, TITLE, 0)
    again = pd.read_parquet(made.folder.share(TITLE, 0))
    assert again["failure"].isna().all() and np.isfinite(again["value"]).all(), "what failed is tried again"


def test_networks_that_are_the_same_are_one_with_the_mean_of_their_results() -> None:
    found = merged([("a", Network("1", {}, 2.0)), ("b", Network("2", {}, 5.0)), ("a", Network("3", {}, 4.0))])
    assert [(network.name, network.measured) for network in found] == [("1", 3.0), ("2", 5.0)]


def test_the_published_benchmarks_have_the_networks_they_are_known_to_have(shared_data: Path) -> None:
    recipes, encoders = NASBenchNLP(folder=shared_data).benchmark(), FlexiBERT(folder=shared_data).benchmark()
    assert len(recipes.networks) == 3371
    assert len(encoders.networks) == 491
    assert min(network.measured for network in recipes.networks) == pytest.approx(4.436, abs=5e-4)
    few = recipes.only(20).networks
    assert len(few) == 20 and {network.name for network in few} < {network.name for network in recipes.networks}


# --- what a killed study keeps -------------------------------------------------------------------


def test_a_killed_job_goes_on_where_it_was_and_more_scores_are_all_that_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = study(tmp_path, jobs=1)
    once, asked = scores.score, list[list[str]]()

    def dying(network: nn.Module, batch: Any, names: list[str], seed: int) -> scores.Scored:
        if len(asked) == 5:
            raise KeyboardInterrupt
        asked.append(names)
        return once(network, batch, names, seed)

    monkeypatch.setattr(scores, "score", dying)
    with pytest.raises(KeyboardInterrupt):
        run(made, TITLE, 0)
    journal = made.folder.journal(TITLE, 0)
    kept = journal.read_text()
    assert len(kept.splitlines()) == 1 + 5
    journal.write_text(kept + kept.splitlines()[-1][:30])  # torn
    monkeypatch.setattr(scores, "score", once)
    run(made, TITLE, 0)
    assert journal.read_text().startswith(kept)
    assert len(journal.read_text().splitlines()) == 1 + COUNT
    before = journal.read_text()
    run(study(tmp_path, jobs=1, scores=[*tiny(tmp_path)["scores"], "width"]), TITLE, 0)
    added = journal.read_text().removeprefix(before).splitlines()
    assert len(added) == COUNT
    assert [*json.loads(added[0])["values"]] == ["width"]
    assert pd.read_parquet(made.folder.share(TITLE, 0))["value"].notna().sum() == COUNT * 5


def test_another_table_begins_anew(tmp_path: Path) -> None:
    made = study(tmp_path, jobs=1, scores=["parameters"])
    run(made, TITLE, 0)
    first = pd.read_csv(tmp_path / "mine.csv")
    first.assign(loss=first["loss"] + 1).to_csv(tmp_path / "mine.csv", index=False)
    run(made, TITLE, 0)
    frame = pd.read_parquet(made.folder.share(TITLE, 0))
    assert frame["measured"].to_numpy() == pytest.approx(first["loss"] + 1)
    assert len(made.folder.journal(TITLE, 0).read_text().splitlines()) == 1 + COUNT


def test_other_formulas_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = study(tmp_path, jobs=1, scores=["parameters"])
    run(made, TITLE, 0)
    journal = made.folder.journal(TITLE, 0)
    journal.write_text(journal.read_text().replace('"parameters":', '"parameters":9'))
    run(made, TITLE, 0)
    kept = pd.read_parquet(made.folder.share(TITLE, 0))["value"]
    monkeypatch.setattr("nas_lib.score_study.measure.REVISION", REVISION + 1)
    run(made, TITLE, 0)
    assert (pd.read_parquet(made.folder.share(TITLE, 0))["value"] < kept).all()


def test_combinations_and_what_they_were_chosen_on_leave_measurements_valid(tmp_path: Path) -> None:
    made = study(tmp_path, jobs=1, scores=["parameters", "depth"])
    run(made, TITLE, 0)
    kept = made.folder.journal(TITLE, 0).read_text()
    content = tiny(tmp_path)["benchmarks"][0] | {"chosen_on": {"share": 0.5, "seed": 7}}
    more = {"benchmarks": [content], "combinations": {"both": ["parameters", "depth"]}, "baseline": "depth"}
    combining = study(tmp_path, jobs=1, scores=["parameters", "depth"], **more)
    assert combining.settings_of_measurements(TITLE) == made.settings_of_measurements(TITLE)
    assert combining.settings_of_analysis(TITLE) != made.settings_of_analysis(TITLE)
    run(combining, TITLE, 0)
    assert made.folder.journal(TITLE, 0).read_text() == kept


def test_journals_of_the_shipped_study_stay_valid_as_long_as_these_settings_are_the_same() -> None:
    sizes = {"embedding": 64, "hidden": 96, "layers": 3, "batch": 25, "steps": 35, "vocabulary": 1000}
    expected = {"name": "nas-bench-nlp", "title": "nas-bench-nlp", **sizes}
    assert load(ROOT / "config" / "proxies.yaml").benchmark_content("nas-bench-nlp") == expected
    networks = [Network("1", {"a": 1}, 2.0), Network("2", {"a": 2}, 3.5)]
    assert listed(networks).digest == "f310bc7a2299dbfdcde8c622e9f96811"


# --- what scores have to do with results ---------------------------------------------------------


def scored(count: int = 100) -> Scored:
    rng = np.random.default_rng(1)
    measured = rng.normal(size=count)
    good = -measured + rng.normal(size=count)
    good[3] = math.nan
    values = {"good": good, "few": good.copy(), "parameters": rng.integers(0, 4, count).astype(float)}
    applies = {name: np.ones(count, dtype=bool) for name in values}
    applies["few"][:10] = False
    return Scored(measured, "lower", values, applies)


def test_correlations_are_those_of_scipy_with_scores_that_are_not_finite_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "RESAMPLES", 200)
    found = scored()
    correlations = {(one.score, one.subset, one.coefficient): one for one in correlate(found)[0]}
    last = np.where(np.isnan(found.values["good"]), -99, found.values["good"])
    kendall = correlations["good", "all", "kendall"]
    assert kendall.value == pytest.approx(stats.kendalltau(last, found.measured).statistic)
    assert (kendall.count, kendall.finite) == (100, 99)
    assert kendall.low < kendall.value < kendall.high < 0
    finite = np.isfinite(found.values["good"])
    pearson = stats.pearsonr(found.values["good"][finite], found.measured[finite]).statistic
    assert correlations["good", "all", "pearson"].value == pytest.approx(pearson)
    best = found.measured <= np.sort(found.measured)[49]
    spearman = stats.spearmanr(last[best], found.measured[best]).statistic
    assert correlations["good", "half", "spearman"].value == pytest.approx(spearman)
    assert correlations["good", "tenth", "kendall"].count == 10
    assert correlations["few", "all", "kendall"].count == 90


def test_two_networks_of_a_best_tenth_are_no_perfect_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "RESAMPLES", 200)
    few = scored(24)
    few.values["few"][:19] = math.nan
    found = {(one.subset, one.coefficient) for one in correlate(few)[0] if one.score == "few"}
    assert found == {(subset, coefficient) for subset in ("all", "half") for coefficient in ("kendall", "spearman")}


def test_a_lead_is_over_the_strongest_size_on_the_same_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "RESAMPLES", 200)
    correlations, leads = correlate(scored())
    taus = {one.score: one.value for one in correlations if (one.subset, one.coefficient) == ("all", "kendall")}
    (lead,) = [one for one in leads if (one.score, one.subset) == ("good", "all")]
    assert lead.baseline == "parameters"
    assert lead.value == pytest.approx(abs(taus["good"]) - abs(taus["parameters"]))
    assert lead.low <= lead.value <= lead.high


def test_a_combination_is_the_mean_rank_where_all_of_its_scores_apply_those_not_finite_lowest() -> None:
    values = {"a": np.array([3.0, math.nan, 1.0, 9.0]), "b": np.array([10.0, 30.0, 20.0, math.nan])}
    applies = {"a": np.ones(4, dtype=bool), "b": np.array([True, True, True, False])}
    found = Scored(np.arange(4.0), "lower", values, applies).combined({"ab": ["a", "b"], "none": ["a", "c"]})
    assert found.values["ab"][:3].tolist() == [(3 + 1) / 2, (1 + 3) / 2, (2 + 2) / 2]
    assert found.applies["ab"].tolist() == [True, True, True, False]
    assert "none" not in found.values
    again = found.only(np.array([0, 1])).combined({"ab": ["a", "b"]})
    assert again.values["ab"].tolist() == [(2 + 1) / 2, (1 + 2) / 2], "ranks are among the networks there are"


def test_a_gain_is_the_difference_of_coefficients_on_the_same_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "RESAMPLES", 200)
    found = scored().combined({"both": ["good", "parameters"], "double": ["good", "good"]})
    gained = {(one.combination, one.subset, one.coefficient): one for one in gains(found, ["both", "double"], "good")}
    of = {(one.score, one.subset, one.coefficient): one.value for one in correlate(found)[0]}
    for coefficient in ("kendall", "spearman"):
        one = gained["both", "all", coefficient]
        assert one.value == pytest.approx(of["good", "all", coefficient] - of["both", "all", coefficient])
        assert one.value < 0, "the combination is worse, for losses fall with the score"
        assert one.low < one.value < one.high
        same = gained["double", "half", coefficient]
        assert (same.value, same.low, same.high) == (0, 0, 0), "paired, so what ranks alike never differs"


def listed(networks: list[Network], **options: Any) -> Benchmark:
    return Benchmark(networks, "loss", "lower", lambda _: nn.Identity(), lambda _: pytest.fail("not needed"), **options)


def test_networks_that_equal_one_that_was_chosen_on_are_neither_chosen_nor_among_the_others() -> None:
    networks = [Network(str(place), {}, float(place)) for place in range(30)]
    chosen, others = listed(networks).parted(ChosenOn(share=0.4, seed=7))
    assert sorted(map(int, chosen)) == sorted(np.random.default_rng(7).permutation(30)[:12])
    assert others == {network.name for network in networks} - chosen
    first, *_ = chosen
    twin = min(others)
    _, fewer = listed(networks, alike=lambda one: first if one.name == twin else one.name).parted(
        ChosenOn(share=0.4, seed=7)
    )
    assert others - fewer == {twin}


def test_what_was_chosen_elsewhere_all_networks_confirm(tmp_path: Path) -> None:
    networks = [Network(str(place), {}, float(place)) for place in range(30)]
    assert listed(networks).parted(ChosenOn(share=0)) == (frozenset(), frozenset(one.name for one in networks))
    content = tiny(tmp_path)["benchmarks"][0] | {"chosen_on": {"share": 0}}
    combined = {"scores": ["parameters", "depth"], "combinations": {"both": ["parameters", "depth"]}}
    made = study(tmp_path, jobs=1, benchmarks=[content], baseline="depth", **combined)
    run(made, TITLE, 0)
    write_analysis(made, TITLE)
    found = json.loads(made.folder.analysis(TITLE).read_text())
    assert found["others"]["networks"] == COUNT and found["others"]["correlations"] == found["correlations"]
    assert {gain["combination"] for gain in found["others"]["gains"]} == {"both"}


def test_equal_recipes_are_not_on_both_sides(shared_data: Path) -> None:
    recipes = NASBenchNLP(folder=shared_data).benchmark()
    assert recipes.alike is not None
    alike = {network.name: recipes.alike(network) for network in recipes.networks}
    assert len(set(alike.values())) == 2833
    chosen, others = recipes.parted(ChosenOn(share=0.5, seed=7))
    assert (len(chosen), len(others)) == (1685, 1407)
    assert not {alike[name] for name in chosen} & {alike[name] for name in others}


def test_what_a_filter_keeps_of_the_best() -> None:
    best = np.array([True, True, False, False, False, False, False, False])
    ranked = np.array([8.0, 1.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0])
    assert kept_share(ranked, best, 0.5) == 0.5
    assert kept_share(ranked, best, 0.125) == 0.5
    assert kept_share(np.ones(8), best, 0.25) == 0.25, "without any difference it is chance"


# --- the report ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> ScoreStudy:
    """A study whose `snip` ranks right but for one network, while the number of parameters says nothing."""
    folder = tmp_path_factory.mktemp("finished")
    content = tiny(folder)["benchmarks"][0] | {"chosen_on": {"share": 0.5, "seed": 7}}
    combinations = {"pair": ["snip", "parameters"], "states": ["snip", "hidden_saliency"]}
    made = study(folder, jobs=1, benchmarks=[content], combinations=combinations, baseline="snip")
    networks = made.benchmark(TITLE).networks
    order = np.argsort(np.argsort([-network.measured for network in networks]))
    rng = np.random.default_rng(0)
    scorings = [
        Scoring(
            network=network.name,
            seed=0,
            values={"snip": math.nan if place == 20 else float(place), "parameters": float(rng.random()), "depth": 1.0},
            inapplicable={"hidden_saliency": "needs recurrent states"},
            failed={"head_confidence": "RuntimeError: no"},
            seconds=0.5,
        )
        for network, place in zip(networks, order, strict=True)
    ]
    share = made.folder.share(TITLE, 0)
    share.parent.mkdir(parents=True)
    table(networks, scorings, made.names).to_parquet(share)
    costs = [{"network": "row 1", "score": name, "seconds": 0.25} for name in ("build", "snip", "parameters")]
    pd.DataFrame(costs).to_parquet(made.folder.costs(TITLE))
    write_analysis(made, TITLE)
    write_figures(made)
    write_report(made)
    return made


def test_the_summary_says_which_score_is_strongest_whether_it_beats_sizes_and_where_it_fails(
    finished: ScoreStudy,
) -> None:
    words, combined = summary(read(finished))
    assert words.startswith("mine, 24 networks: of 2 scores SNIP agrees most with loss: Kendall's τ −0.8")
    assert "It beats the strongest mere size, Parameters (τ " in words
    assert "opposite" not in words
    assert "The best tenth are 2 networks: too few to say whether it can tell which of them is better." in words
    assert words.endswith("keeps 100 % of the best tenth, keeping a tenth 100 %.")
    assert combined.startswith(
        "Combination pair (SNIP + Parameters), on 12 networks it was not chosen on: Kendall's τ −"
    )
    assert " It is worse than SNIP alone, by −" in combined


def test_the_page_tells_of_failures_and_scores_that_do_not_apply(finished: ScoreStudy) -> None:
    page = without_plotly(finished.folder.report)
    assert "<td>Head confidence</td><td>RuntimeError: no</td><td>24</td>" in page
    assert "<td>Hidden saliency</td><td>needs recurrent states</td><td>24</td>" in page
    assert "<td>SNIP</td><td>is not finite</td><td>1</td>" in page
    assert '<option value="snip" selected>SNIP</option>' in page


def test_combinations_stand_beside_scores_everywhere(finished: ScoreStudy) -> None:
    page = without_plotly(finished.folder.report)
    assert page.count("<td>pair ‡</td>") == 5, "two tables of all networks, two of the others, costs"
    why = "does not apply, for Hidden saliency applies to none"
    assert f"<td>states ‡</td><td>{why}</td><td>24</td>" in page
    assert "Combinations were chosen on 12 networks. None of the others is equal to one of these. 12 remain." in page
    assert '<option value="pair">pair</option>' in page
    for name in TABLES:
        frame = pd.read_csv(finished.folder.tables / name)
        if name == "scores.csv":
            assert frame["pair"].between(1, COUNT).all() and "states" not in frame
        else:
            key = "combination" if name == "others_gains.csv" else "score"
            assert set(frame.loc[frame[key] == "pair", "combines"]) == {"snip parameters"}
            assert frame.loc[frame[key] != "pair", "combines"].isna().all()
    assert costs(finished, TITLE).set_index("score")["seconds"]["pair"] == 0.5
    gained = pd.read_csv(finished.folder.tables / "others_gains.csv")
    assert set(gained["baseline"]) == {"snip"} and {"kendall", "spearman"} == set(gained["coefficient"])


def test_figures_and_tables_are_the_ones_foretold_and_equal_every_time(finished: ScoreStudy) -> None:
    folder = finished.folder
    assert {path.name for path in folder.figures.iterdir()} == set(figure_names(finished))
    wide = pd.read_csv(folder.tables / "scores.csv")
    assert len(wide) == COUNT and wide["snip"].notna().sum() == COUNT - 1
    before = {path.name: path.read_bytes() for path in folder.figures.iterdir()}
    write_figures(finished)
    assert before == {path.name: path.read_bytes() for path in folder.figures.iterdir()}


def test_every_score_of_a_benchmark_is_a_run(finished: ScoreStudy) -> None:
    assert sync(finished) == Synced(created=5)
    assert sync(finished) == Synced(unchanged=5)
    client = MlflowClient(finished.tracking_uri)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert found.keys() == {"mine snip", "mine parameters", "mine depth", "mine head_confidence", "mine pair", "report"}
    metrics = found["mine snip"].data.metrics
    assert metrics["kendall_all_low"] < metrics["kendall_all"] < -0.8
    assert metrics["cpu_seconds"] == 0.25
    pair = found["mine pair"].data
    assert (pair.tags["kind"], pair.params["combines"]) == ("combination", "snip, parameters")
    assert pair.metrics["cpu_seconds"] == 0.5
    assert pair.metrics["others_gain_kendall_all_low"] < pair.metrics["others_gain_kendall_all"] < 0
    assert metrics["others_kendall_all"] < pair.metrics["others_kendall_all"]


def test_the_cost_of_each_score_alone_is_measured_where_it_applies(tmp_path: Path) -> None:
    made = study(tmp_path)
    time_alone(made, TITLE)
    costs = pd.read_parquet(made.folder.costs(TITLE))
    assert set(costs["score"]) == {"build", "snip", "head_confidence", "parameters", "depth"}
    assert set(costs.groupby("score")["network"].nunique()) == {20}


# --- what a user reads ---------------------------------------------------------------------------


def test_every_mistake_is_a_line(tmp_path: Path) -> None:
    (unknown,) = mistakes(tmp_path, scores=["snip", "hidden_covarianc_1"])
    assert unknown.startswith(
        "my.yaml: scores.1: found 'hidden_covarianc_1' (did you mean 'hidden_covariance_1'?), allowed are hidden"
    )
    (benchmark,) = tiny(tmp_path)["benchmarks"]
    assert mistakes(tmp_path, benchmarks=[benchmark, benchmark]) == [
        "my.yaml: benchmarks: mine occurs twice, allowed are different names; give one a `title`"
    ]
    assert mistakes(tmp_path, benchmarks=[benchmark | {"task": {"name": "digits"}}]) == [
        "my.yaml: benchmarks.0: 'transformer' makes networks for sequences, the task 'digits' has images"
    ]
    assert mistakes(tmp_path, benchmarks=[benchmark | {"measured": "los"}]) == [
        f"{tmp_path / 'mine.csv'}: no column 'los' (did you mean 'loss'?); it has genotype, loss"
    ]
    combinations = {"snip": ["snip", "dept"], "A b": ["snip"]}
    start = "my.yaml: combinations"
    assert [line.split(", allowed")[0] for line in mistakes(tmp_path, combinations=combinations)] == [
        f"{start}.snip: is the name of a score",
        f"{start}.snip.1: found 'dept' (did you mean 'depth'?)",
        f"{start}: found 'A b'",
        f"{start}.A b: found 1 scores",
    ]
    (line,) = mistakes(tmp_path, combinations={"pair": ["snip", "depth"]}, baseline="synflow")
    assert line.startswith("my.yaml: baseline: found 'synflow', allowed are the study's scores: snip, head_confidence")
    choosing = benchmark | {"chosen_on": {"share": 0.5, "seed": 7}}
    assert mistakes(tmp_path, benchmarks=[choosing]) == [
        "my.yaml: benchmarks.0.chosen_on: needs `combinations`, and there are none",
        "my.yaml: benchmarks.0.chosen_on: needs a `baseline`, for no score of the study is published here",
    ]
    wide = {"benchmarks": [choosing | {"chosen_on": {"share": 0.9, "seed": 7}}], "baseline": "snip"}
    assert mistakes(tmp_path, combinations={"pair": ["snip", "depth"]}, **wide) == [
        "mine: chosen_on leaves 3 other networks, allowed are 10 or more"
    ]
    (line,) = mistakes(tmp_path, benchmarks=[benchmark | {"genotype": "loss"}])
    assert line.startswith(
        f"{tmp_path / 'mine.csv'}: row 1: loss cannot be read as a genotype of the space 'transformer' ("
    )
    found, allowed = line.split(": found ")[1].split(", allowed is JSON such as ")
    assert float(found.strip("'")) and TransformerSpace(**SPACE).hash(json.loads(allowed)), (
        "what is allowed can be copied"
    )
    (line,) = mistakes(tmp_path, benchmarks=[benchmark | {"path": "gone.csv"}])
    assert line == "gone.csv: is missing"


def test_json_is_no_table(tmp_path: Path) -> None:
    (benchmark,) = tiny(tmp_path)["benchmarks"]
    pd.read_csv(tmp_path / "mine.csv").to_json(tmp_path / "mine.jsonl", orient="records", lines=True)
    assert mistakes(tmp_path, benchmarks=[benchmark | {"path": str(tmp_path / "mine.jsonl")}]) == [
        f"{tmp_path / 'mine.jsonl'}: ends in .jsonl, allowed are tables as CSV or Parquet"
    ]


def test_a_table_of_recurrent_cells_may_hold_recipes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    recipes = [random_recipe(rng, states=1 + number % 3) for number in range(COUNT)]
    rows = pd.DataFrame({"genotype": map(json.dumps, recipes), "loss": rng.random(COUNT)})
    rows.to_csv(tmp_path / "recipes.csv", index=False)
    (content,) = tiny(tmp_path)["benchmarks"]
    content |= {"path": str(tmp_path / "recipes.csv"), "space": {"name": "recurrent", "hidden": 8, "layers": 2}}
    benchmark = study(tmp_path, benchmarks=[content]).benchmark("recipes")
    assert len(benchmark.networks) > COUNT / 2
    first = benchmark.networks[0]
    assert cell_of(first.genotype) == from_recipe(recipes[0])
    assert scores.score(benchmark.build(first), benchmark.batch(rng), ["depth"]).values["depth"] > 0


def test_without_a_task_a_table_is_scored_on_random_words(tmp_path: Path) -> None:
    (content,) = tiny(tmp_path)["benchmarks"]
    content = {key: value for key, value in content.items() if key != "task"} | {"steps": 7, "vocabulary": 50}
    benchmark, rng = study(tmp_path, benchmarks=[content]).benchmark(TITLE), np.random.default_rng(0)
    batch = benchmark.batch(rng)
    assert batch.inputs.shape == (6, 7) and batch.inputs.max() < 50
    assert batch.targets is not None and sorted(batch.targets.tolist()) == [0, 0, 0, 1, 1, 1]
    assert scores.score(benchmark.build(benchmark.networks[0]), batch, ["snip"]).values["snip"] > 0

    recipes = [random_recipe(rng) for _ in range(COUNT)]
    pd.DataFrame({"genotype": map(json.dumps, recipes), "loss": rng.random(COUNT)}).to_csv(tmp_path / "cells.csv")
    content |= {"path": str(tmp_path / "cells.csv"), "space": {"name": "recurrent", "hidden": 8}}
    benchmark = study(tmp_path, benchmarks=[content]).benchmark("cells")
    batch = benchmark.batch(rng)
    assert batch.targets is not None and batch.targets.shape == (6, 7), "the next words"
    found = scores.score(benchmark.build(benchmark.networks[0]), batch, ["hidden_covariance_1", "snip"]).values
    assert all(np.isfinite(list(found.values())))

    content |= {"space": {"name": "generator", "levels": [{"model": "ER", "nodes": 3, "p": 0.5}]}}
    assert mistakes(tmp_path, benchmarks=[content]) == [
        "my.yaml: benchmarks.0: networks of the space 'generator' read no words, allowed is one with a `task`"
    ]


def test_commands_say_what_is_missing_or_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(tiny(tmp_path) | {"results": str(tmp_path)}))
    monkeypatch.setattr(cli, "_limit_threads", lambda _: None)
    for words, line in (
        (["page", file], r"^error: .*analysis.json: is missing; run the measurements first$"),
        (["analyse", file, "--benchmark", "mine"], r"^error: .*job-0.parquet: is missing; run the measurements first$"),
        (["costs", file, "--benchmark", "x"], r"^error: --benchmark: found 'x', allowed is one of \['mine'\]$"),
        (
            ["measure", file, "--benchmark", "mine", "--job", "2"],
            r"^error: --job: found 2, allowed is one of \[0, 1\]$",
        ),
    ):
        monkeypatch.setattr(sys, "argv", ["nas_lib", "scores", *map(str, words)])
        with pytest.raises(SystemExit, match=line):
            cli.main()


def test_a_table_with_too_few_networks_is_refused(tmp_path: Path) -> None:
    made = study(tmp_path)
    pd.read_csv(tmp_path / "mine.csv").head(5).to_csv(tmp_path / "mine.csv", index=False)
    with pytest.raises(ProblemError, match="has 5 different networks with a result, allowed are 20 or more"):
        made.benchmark(TITLE)


def test_the_exported_schema_is_the_present_one() -> None:
    assert json.loads((ROOT / "config" / "proxies.schema.json").read_text()) == schema()


def test_the_shipped_study_is_of_all_scores_on_both_benchmarks() -> None:
    found = load(ROOT / "config" / "proxies.yaml")
    assert found.titles == ["nas-bench-nlp", "flexibert"]
    assert found.scores is None
    assert json.loads(found.settings_of_measurements("flexibert"))["scores"] == [*NAMES], "new ones are measured"
    assert [*found.combinations] == ["memory", "together"]
    assert found.baseline_of("nas-bench-nlp") == "hidden_covariance_1"


def test_the_examples_of_the_guide_are_valid() -> None:
    own, words, combining = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "proxies.md").read_text(), re.DOTALL)
    assert parse(yaml.safe_load(own), "mine.yaml").titles == ["mine"]
    assert parse(yaml.safe_load(words) | {"score_study": "x"}, "mine.yaml").titles == ["wikitext"]
    assert [*parse(yaml.safe_load(combining) | {"score_study": "x"}, "mine.yaml").combinations] == ["memory"]


@pytest.mark.parametrize("file", ["proxies.yaml", "studies/proxies-others.yaml", "studies/proxies-own.yaml"])
def test_the_shipped_studies_are_valid(file: str) -> None:
    assert load(ROOT / "config" / file).titles


def test_a_study_of_something_else_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigurationError, match=r"there is `python -m nas_lib predictors`$"):
        parse({"predictor_study": "x"}, "my.yaml")
