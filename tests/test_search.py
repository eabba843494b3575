"""The loop: propose, evaluate exactly once, collect; however it is cut into processes."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

from nas_lib import pareto
from nas_lib import search as loop
from nas_lib.configuration import ConfigurationError
from nas_lib.evaluation import candidate
from nas_lib.experiment import ATTEMPTS, Experiment, parse, refuse_other_settings
from nas_lib.layout import SearchFolder, write_json, write_text
from nas_lib.randomness import seed_of
from nas_lib.records import Evaluation, History, Proposal, networks_of, sample_tested, without_wall_clock
from nas_lib.search import Search
from nas_lib.strategies.random_search import RandomSearch
from nas_lib.strategies.request import Request, Suggestion
from nas_lib.tasks.data import DataError

TINY: dict[str, Any] = {
    "experiment": "tiny",
    "task": {"name": "digits", "train_images": 60, "validation_images": 40},
    "space": {"name": "generator", "parameters": 8000, "head_channels": 16, "max_operations": 24},
    "strategies": ["random"],
    "objectives": ["error", "flops"],
    "budget": {"rounds": 3, "proposals": 3, "jobs": 2, "epochs": 2},
    "training": {"batch_size": 20, "checkpoint_seconds": 0},
    "seeds": [1],
    "finalists": {"count": 2, "repeats": 2, "epochs": 2},
}


def tiny(folder: Path, **changes: Any) -> Experiment:
    content = {**TINY, "results": str(folder)}
    for key, value in changes.items():
        content[key] = {**content.get(key, {}), **value} if isinstance(value, dict) else value
    return parse(content, "tiny")


def run_as_jobs(search: Search) -> None:
    """What the workflow does: one process's work at a time, jobs of a round in any order."""
    budget = search.experiment.budget
    for round in range(budget.rounds):
        loop.propose_round(search, round)
        for job in reversed(range(budget.jobs)):
            with loop.lazy_bench(search.experiment) as bench:
                loop.evaluate_job(search, round, job, bench)
    loop.collect(search)


def history_of(search: Search) -> History:
    return loop.read_history(search.folder, range(search.experiment.budget.rounds))


def comparable(search: Search) -> list[dict[str, Any]]:
    return [without_wall_clock(evaluation) for evaluation in history_of(search)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Search:
    search = Search(tiny(tmp_path_factory.mktemp("inline")), "random", 1)
    loop.run_inline(search)
    return search


def test_inline_and_jobs_give_the_same_history(finished: Search, tmp_path: Path) -> None:
    jobs = Search(tiny(tmp_path), "random", 1)
    run_as_jobs(jobs)
    assert comparable(jobs) == comparable(finished)
    assert len(comparable(jobs)) == 9


@pytest.mark.parametrize("jobs", [1, 3])
def test_the_number_of_jobs_does_not_change_the_history(finished: Search, tmp_path: Path, jobs: int) -> None:
    other = Search(tiny(tmp_path, budget={"jobs": jobs}), "random", 1)
    run_as_jobs(other)
    assert comparable(other) == comparable(finished)


def test_a_search_can_be_continued_with_more_rounds(finished: Search, tmp_path: Path) -> None:
    shorter = Search(tiny(tmp_path, budget={"rounds": 2}), "random", 1)
    loop.run_inline(shorter)
    longer = Search(tiny(tmp_path), "random", 1)
    loop.run_inline(longer)
    assert comparable(longer) == comparable(finished)


def test_seeds_differ_and_repeat(finished: Search, tmp_path: Path) -> None:
    again, other = (Search(tiny(tmp_path / str(seed), budget={"rounds": 1}), "random", seed) for seed in (1, 2))
    loop.run_inline(again)
    loop.run_inline(other)
    assert comparable(again) == comparable(finished)[:3]
    assert comparable(other) != comparable(finished)[:3]


def test_the_history_table_has_one_row_per_candidate_and_plain_columns(finished: Search) -> None:
    table = pd.read_parquet(finished.folder.history)
    assert len(table) == 9
    assert {"round", "slot", "hash", "status", "objective.error", "objective.flops", "cost.seconds"} <= set(
        table.columns
    )
    assert json.loads(table["genotype"][0])["draw"] == history_of(finished)[0].proposal.genotype["draw"]


def test_constraints_hold_from_the_configuration_to_the_finalists(tmp_path: Path) -> None:
    constraints = [{"name": "activation_memory", "at_most": 26000}, {"name": "latency", "at_most": 1e6}]
    strategies = [{"name": "nehvi", "initial": 3}]
    search = Search(tiny(tmp_path, constraints=constraints, strategies=strategies, budget={"rounds": 2}), "nehvi", 1)
    loop.run_inline(search)
    history = history_of(search)
    feasible = [evaluation for evaluation in history if float(evaluation.metrics["activation_memory"]) <= 26000]
    assert [evaluation.feasible for evaluation in history] == [evaluation in feasible for evaluation in history]
    assert 0 < len(feasible) < len(history)
    assert [evaluation.proposal.origin for evaluation in history[3:]] == ["hypervolume improvement"] * 3
    table = pd.read_parquet(search.folder.history)
    assert list(table["feasible"]) == [evaluation.feasible for evaluation in history]
    assert list(table["constraint.activation_memory"] <= 0) == list(table["feasible"])
    loop.select_finalists(search)
    for path in (search.folder.front, search.folder.finalists):
        members = [Evaluation.model_validate(entry) for entry in json.loads(path.read_text())]
        assert members
        assert all(member.feasible for member in members)


def test_no_weights_are_left_behind_unless_a_strategy_continues_them(finished: Search) -> None:
    assert not list(finished.folder.path.rglob("checkpoint.pt"))


def test_finalists_are_retrained_and_tested(finished: Search) -> None:
    loop.select_finalists(finished)
    for rank in range(3):
        with loop.lazy_bench(finished.experiment, finalists=True) as bench:
            loop.retrain_finalist(finished, rank, bench)
    finalists = loop.read_finalists(finished)
    front = json.loads(finished.folder.front.read_text())
    assert len(finalists) == min(2, len(front))
    for finalist in finalists:
        assert [repeat.proposal.epochs for repeat in finalist.repeats] == [2, 2]
        first, second = (repeat.metrics["test_error"] for repeat in finalist.repeats)
        assert 0 <= float(first) <= 1
        assert finalist.repeats[0].curves != finalist.repeats[1].curves
        assert isinstance(second, float)
        assert finished.folder.weights(finalist.rank).exists()
        assert not list(finished.folder.finalist(finalist.rank).parent.rglob("checkpoint.pt"))


def test_the_weights_kept_are_those_of_the_first_training_that_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def retrain(_bench: object, proposal: Proposal, *, weights: Path | None, **_options: object) -> Evaluation:
        asked.append(weights and weights.name)
        status: Literal["ok", "failed"] = "failed" if proposal.slot == 0 else "ok"
        return Evaluation(proposal=proposal, status=status, metrics={"test_error": 0.1})

    monkeypatch.setattr(candidate, "retrain", retrain)
    search = Search(tiny(tmp_path, finalists={"repeats": 4}), "random", 1)
    write_json(search.folder.finalists, [good(some_proposal()).model_dump(mode="json")])
    with loop.lazy_bench(search.experiment, finalists=True) as bench:
        loop.retrain_finalist(search, 0, bench)
    (finalist,) = loop.read_finalists(search)
    assert asked == ["weights.pt", "weights.pt", None, None]
    assert finalist.exported == finalist.repeats[1]


def write_npz(path: Path, channels: int = 3, size: int = 10, classes: int = 4) -> None:
    """A second data set: colour images whose class is how bright they are."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for part, count in (("train", 60), ("test", 20)):
        labels = np.arange(count) % classes
        images = rng.integers(0, 50, (count, size, size, channels)) + 50 * labels[:, None, None, None]
        arrays |= {f"x_{part}": images.astype(np.uint8), f"y_{part}": labels}
    np.savez(path, **arrays)  # type: ignore[arg-type]


def transferring(folder: Path, **transfer: Any) -> Search:
    """A search with one chosen finalist, to be carried to a second data set."""
    write_npz(folder / "second.npz")
    second = {"task": {"name": "npz", "path": str(folder / "second.npz")}, "epochs": 2, "repeats": 2, **transfer}
    search = Search(tiny(folder, transfer=second), "random", 1)
    genotype = search.experiment.space.sample(np.random.default_rng(1))
    proposal = Proposal(round=0, slot=0, genotype=genotype, hash="h", epochs=2)
    write_json(
        search.folder.finalists,
        [Evaluation(proposal=proposal, status="ok", objectives={"error": 0.5, "flops": 1}).model_dump(mode="json")],
    )
    for rank in range(2):
        with loop.lazy_bench(search.experiment.carried, finalists=True) as bench:
            loop.transfer_finalist(search, rank, bench)
    return search


def test_finalists_are_trained_and_tested_on_a_second_data_set(tmp_path: Path) -> None:
    search = transferring(tmp_path)
    (finalist,) = loop.read_finalists(search, transfer=True)
    assert finalist.chosen is not None
    for repeat in finalist.repeats:
        assert repeat.ok, repeat.reason
        assert repeat.proposal.genotype == finalist.chosen.proposal.genotype
        assert repeat.proposal.origin.startswith("transfer to npz (")
        assert (repeat.cost.epochs, len(repeat.curves["train_loss"])) == (2, 2)
    assert len(finalist.repeats) == 2
    assert finalist.repeats[0].curves != finalist.repeats[1].curves
    assert loop.read_finalists(search) == [], "results on the task of the search are apart"
    assert not search.folder.weights(0).exists()
    assert not list(search.folder.path.rglob("checkpoint.pt"))


def test_a_transfer_with_other_settings_is_trained_anew(tmp_path: Path) -> None:
    before = loop.read_finalists(transferring(tmp_path), transfer=True)
    same = loop.read_finalists(transferring(tmp_path), transfer=True)
    assert same == before
    other = loop.read_finalists(transferring(tmp_path, training={"batch_size": 10}), transfer=True)
    assert [repeat.curves for repeat in other[0].repeats] != [repeat.curves for repeat in before[0].repeats]


def test_a_finalist_is_several_networks_of_its_generator_each_trained_as_told(finished: Search, tmp_path: Path) -> None:
    shutil.copytree(finished.folder.path, tmp_path / "tiny" / "random" / "seed-1")
    own = {"batch_size": 7, "learning_rate": 0.02}
    search = Search(tiny(tmp_path, finalists={"draws": 3, "repeats": 2, "epochs": 1, "training": own}), "random", 1)
    loop.select_finalists(search)
    with loop.lazy_bench(search.experiment, finalists=True) as bench:
        assert (bench().training.batch_size, bench().training.learning_rate) == (7, 0.02)
        loop.retrain_finalist(search, 0, bench)
    finalist = loop.read_finalists(search)[0]
    assert finalist.chosen is not None
    genotypes = [repeat.proposal.genotype for repeat in finalist.repeats]
    assert genotypes[0] == genotypes[1] == finalist.chosen.proposal.genotype
    assert len({genotype["draw"] for genotype in genotypes}) == 3
    assert len({json.dumps({**genotype, "draw": 0}) for genotype in genotypes}) == 1
    assert len({repeat.proposal.hash for repeat in finalist.repeats}) > 1
    assert len({str(repeat.curves) for repeat in finalist.repeats}) == 6
    assert [repeat.proposal.slot for repeat in finalist.repeats] == [0, 1, 0, 1, 0, 1]
    assert len(sample_tested(finalist.repeats, "error")) == len(networks_of(finalist.repeats)) == 3


def test_more_draws_and_repeats_keep_the_trainings_there_are(finished: Search, tmp_path: Path) -> None:
    def retrained(**finalists: int) -> list[Evaluation]:
        search = Search(tiny(tmp_path, finalists={"count": 1, "epochs": 1, **finalists}), "random", 1)
        loop.select_finalists(search)
        with loop.lazy_bench(search.experiment, finalists=True) as bench:
            loop.retrain_finalist(search, 0, bench)
        return loop.read_finalists(search)[0].repeats

    shutil.copytree(finished.folder.path, tmp_path / "tiny" / "random" / "seed-1")
    few, many = retrained(draws=2, repeats=1), retrained(draws=3, repeats=2)
    assert [many[0], many[2]] == few


def test_the_test_error_of_several_networks_is_one_mean_per_network() -> None:
    def trained(draw: int, error: float | None) -> Evaluation:
        proposal = some_proposal().model_copy(update={"genotype": {"draw": draw}})
        if error is None:
            return Evaluation(proposal=proposal, status="failed", reason="r")
        return Evaluation(proposal=proposal, status="ok", metrics={"test_error": error})

    assert sample_tested([trained(0, 0.25), trained(0, 0.5)], "error") == [0.25, 0.5]
    several = [trained(0, 0.25), trained(0, 0.75), trained(1, None), trained(1, 0.25), trained(2, None)]
    assert sample_tested(several, "error") == [0.5, 0.25]
    assert sample_tested([trained(0, None)], "error") == []


# --- propose ---------------------------------------------------------------------------------------


def evaluated(proposals: list[Proposal]) -> History:
    return [Evaluation(proposal=proposal, status="ok", objectives={"error": 0.5, "flops": 1}) for proposal in proposals]


def deterministic(folder: Path, **budget: int) -> Search:
    """A space with one architecture only: every proposal after the first is a duplicate."""
    triangle = {"model": "WS", "nodes": 3, "k": 2, "p": 0.5}
    return Search(tiny(folder, space={"levels": [triangle, triangle]}, budget=budget), "random", 1)


@pytest.mark.parametrize("strategy", ["random", "parego"])
def test_several_draws_of_each_proposed_generator_are_candidates_of_one_round(tmp_path: Path, strategy: str) -> None:
    changes = {"strategies": [{"name": "parego", "initial": 2}, "random"]}
    search = Search(tiny(tmp_path, budget={"proposals": 6, "draws": 3, "rounds": 2}, **changes), strategy, 1)
    single = Search(tiny(tmp_path, budget={"proposals": 2}, **changes), strategy, 1)
    first = loop.propose(search, 0, [], [])
    for proposals in (first, loop.propose(search, 1, evaluated(first), [])):
        generators = [json.dumps({**proposal.genotype, "draw": 0}) for proposal in proposals]
        assert [proposal.slot for proposal in proposals] == list(range(6))
        assert generators == [generators[0]] * 3 + [generators[3]] * 3
        assert len({proposal.genotype["draw"] for proposal in proposals}) == 6
    assert [first[0].genotype, first[3].genotype] == [p.genotype for p in loop.propose(single, 0, [], [])]
    assert loop.propose(search, 0, [], []) == first


def test_an_architecture_is_proposed_for_training_once_per_round(tmp_path: Path) -> None:
    first, second, third = loop.propose(deterministic(tmp_path), 0, [], [])
    assert first.duplicate_of is None
    assert first.genotype != second.genotype
    assert second.duplicate_of == third.duplicate_of == (0, 0)


def test_duplicates_of_earlier_and_of_pending_proposals_are_found(tmp_path: Path) -> None:
    search = deterministic(tmp_path)
    earlier = loop.propose(search, 0, [], [])
    for history, pending in ((evaluated(earlier), []), ([], earlier)):
        assert [proposal.duplicate_of for proposal in loop.propose(search, 1, history, pending)] == [(0, 0)] * 3


def test_the_same_architecture_at_another_fidelity_is_no_duplicate(tmp_path: Path) -> None:
    earlier = [
        proposal.model_copy(update={"epochs": 1}) for proposal in loop.propose(deterministic(tmp_path), 0, [], [])
    ]
    assert loop.propose(deterministic(tmp_path), 1, evaluated(earlier), [])[0].duplicate_of is None


def test_equal_hashes_of_different_architectures_are_no_duplicates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Search(tiny(tmp_path), "random", 1)
    monkeypatch.setattr(type(search.experiment.space), "hash", lambda _space, _genotype: "collision")
    assert [proposal.duplicate_of for proposal in loop.propose(search, 0, [], [])] == [None] * 3


def test_a_duplicate_gets_the_result_of_its_original_at_no_cost(tmp_path: Path) -> None:
    search = deterministic(tmp_path, rounds=2)
    run_as_jobs(search)
    original, *others = history_of(search)
    assert len(others) == 5
    assert original.cost.seconds > 0
    for other in others:
        assert (other.objectives, other.cost.seconds, other.cost.epochs) == (original.objectives, 0, 0)


@pytest.mark.parametrize("lag", [1, 2])
def test_with_lag_proposals_know_only_the_rounds_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lag: int
) -> None:
    search = Search(tiny(tmp_path, budget={"lag": lag, "rounds": 4}), "random", 1)
    seen = []

    def spy(search: Search, round: int, history: History, pending: list[Proposal]) -> list[Proposal]:
        seen.append((round, {e.proposal.round for e in history}, {p.round for p in pending}))
        return original(search, round, history, pending)

    original = loop.propose
    monkeypatch.setattr(loop, "propose", spy)
    run_as_jobs(search)
    for round, known, pending in seen:
        assert known == set(range(max(0, round - lag + 1)))
        assert pending == set(range(max(0, round - lag + 1), round))


def test_what_jobs_wrote_stands_in_for_candidates_that_were_cleaned_away(finished: Search, tmp_path: Path) -> None:
    copy = SearchFolder(tmp_path / "copy")
    shutil.copytree(finished.folder.path, copy.path)
    for work in copy.path.glob("round-*/candidate-*"):
        shutil.rmtree(work)
    assert loop.read_history(copy, range(3)) == history_of(finished)


def test_a_warm_start_from_a_duplicate_continues_the_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = deterministic(tmp_path)
    earlier = loop.propose(search, 0, [], [])

    def promote(_strategy: RandomSearch, _request: Request) -> list[Suggestion]:
        return [Suggestion(earlier[2].genotype, "promoted", epochs=9, warm_start=earlier[2].candidate)]

    monkeypatch.setattr(RandomSearch, "propose", promote)
    assert loop.propose(search, 1, evaluated(earlier), [])[0].warm_start == (0, 0)


def test_a_search_is_not_continued_with_settings_it_was_not_begun_with(finished: Search) -> None:
    results = Path(finished.experiment.results)
    refuse_other_settings(tiny(results, budget={"rounds": 9, "jobs": 1}, seeds=[1, 2]), "my.yaml")
    for change in ({"training": {"momentum": 0.5}}, {"budget": {"epochs": 3}}, {"resources": {"threads": 2}}):
        named = "|".join(change)
        with pytest.raises(ConfigurationError, match=rf"my.yaml: .*seed-1 holds results made with another ({named})"):
            refuse_other_settings(tiny(results, **change), "my.yaml")


# --- fidelities ------------------------------------------------------------------------------------

HALVING: dict[str, Any] = {
    "strategies": ["hyperband"],
    "budget": {"rounds": 3, "proposals": 4, "jobs": 2, "epochs": 4},
}


def test_a_promoted_candidate_equals_an_uninterrupted_training(tmp_path: Path) -> None:
    search = Search(tiny(tmp_path / "halving", **HALVING), "hyperband", 1)
    loop.run_inline(search)
    history = {evaluation.proposal.candidate: evaluation for evaluation in history_of(search)}
    last = max(history.values(), key=lambda one: (one.proposal.warm_start is not None, one.proposal.round))
    first = last
    while first.proposal.warm_start is not None:
        first = history[first.proposal.warm_start]
    assert (first.proposal.epochs, last.proposal.epochs) == (1, 4)

    whole = first.proposal.model_copy(update={"epochs": 4})
    with loop.lazy_bench(search.experiment) as bench:
        uninterrupted = candidate.evaluate(
            bench(), whole, seed=seed_of(1, "train", *whole.candidate), checkpoint=tmp_path / "checkpoint.pt"
        )
    assert last.curves == uninterrupted.curves
    assert last.objectives == uninterrupted.objectives
    assert last.cost.epochs == 2


def test_brackets_are_the_same_inline_and_as_jobs(tmp_path: Path) -> None:
    searches = [Search(tiny(tmp_path / name, **HALVING), "hyperband", 1) for name in ("inline", "jobs")]
    loop.run_inline(searches[0])
    run_as_jobs(searches[1])
    assert comparable(searches[0]) == comparable(searches[1])
    epochs = {evaluation.proposal.epochs for evaluation in history_of(searches[0])}
    assert epochs == {1, 2, 4}
    assert {member.proposal.epochs for member in pareto.front(history_of(searches[0]), ["error", "flops"])} == {4}


def test_a_search_ends_when_its_epochs_are_spent(tmp_path: Path) -> None:
    spent = {}
    for name in ("random", "hyperband"):
        budget = {**HALVING["budget"], "rounds": 9, "total_epochs": 22}
        search = Search(tiny(tmp_path, strategies=[name], budget=budget), name, 1)
        for round in range(9):
            loop.propose_round(search, round)
            for proposal in loop.read_proposals(search.folder, round):
                write_text(search.folder.work(proposal.candidate) / "evaluation.json", good(proposal).model_dump_json())
        proposals = [one for round in range(9) for one in loop.read_proposals(search.folder, round)]
        spent[name] = loop.epochs_of(proposals)
    assert spent["random"] == 20, "a sixth training would be one too many"
    assert 20 <= spent["hyperband"] <= 22


# --- exactly once ----------------------------------------------------------------------------------


def some_proposal() -> Proposal:
    return Proposal(round=0, slot=0, genotype={}, hash="h", epochs=3)


def slow_result(work: Path, proposal: Proposal) -> Evaluation:
    with (work.parent / "trainings").open("a") as file:
        file.write("x")
    time.sleep(1)
    return Evaluation(proposal=proposal, status="ok", objectives={"error": 0.1, "flops": 10.0 + proposal.slot})


def train_once(work: Path) -> None:
    loop.once(work, some_proposal(), lambda proposal: slow_result(work, proposal))


def test_processes_that_want_the_same_candidate_train_it_once(tmp_path: Path) -> None:
    work = tmp_path / "candidate"
    processes = [multiprocessing.get_context("spawn").Process(target=train_once, args=(work,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "trainings").read_text() == "x"


def test_a_candidate_whose_owner_is_dead_is_taken_over(tmp_path: Path) -> None:
    work = tmp_path / "candidate"
    owner = multiprocessing.get_context("spawn").Process(target=train_once, args=(work,))
    owner.start()
    trainings = tmp_path / "trainings"
    while not (trainings.exists() and trainings.read_text()):
        time.sleep(0.02)
    assert owner.pid is not None
    os.kill(owner.pid, signal.SIGKILL)
    owner.join(60)
    train_once(work)
    assert trainings.read_text() == "xx"
    assert json.loads((work / "evaluation.json").read_text())["status"] == "ok"


def test_a_damaged_evaluation_is_made_anew(tmp_path: Path) -> None:
    write_text(tmp_path / "evaluation.json", '{"proposal": {"rou')
    result = loop.once(tmp_path, some_proposal(), lambda p: Evaluation(proposal=p, status="failed", reason="r"))
    assert result.reason == "r"


def good(proposal: Proposal) -> Evaluation:
    return Evaluation(proposal=proposal, status="ok", objectives={"error": 0.1, "flops": 10.0 + proposal.slot})


def dying(_proposal: Proposal) -> Evaluation:
    raise KeyboardInterrupt


def test_a_candidate_that_kills_its_process_every_time_is_recorded_as_failed(tmp_path: Path) -> None:
    for attempt in range(1, ATTEMPTS):
        with pytest.raises(KeyboardInterrupt):
            loop.once(tmp_path, some_proposal(), dying, attempt)
    result = loop.once(tmp_path, some_proposal(), dying, ATTEMPTS)
    assert result.status == "failed"
    assert result.reason == "its process died 3 times in a row without finishing an epoch (out of memory?)"


def test_a_candidate_that_gets_on_between_deaths_is_not_given_up(tmp_path: Path) -> None:
    for attempt in range(1, 2 * ATTEMPTS):
        write_json(tmp_path / "epoch.json", {"epoch": attempt, "epochs": 99})
        with pytest.raises(KeyboardInterrupt):
            loop.once(tmp_path, some_proposal(), dying, attempt)


def test_an_error_of_data_or_device_is_no_death_and_no_result(tmp_path: Path) -> None:
    def unreadable(_proposal: Proposal) -> Evaluation:
        raise DataError("the disk is not mounted")

    for attempt in range(1, 2 * ATTEMPTS):
        with pytest.raises(DataError):
            loop.once(tmp_path, some_proposal(), unreadable, attempt)
    assert loop.once(tmp_path, some_proposal(), good, 2 * ATTEMPTS).ok


def test_deaths_in_runs_the_user_started_anew_do_not_count(tmp_path: Path) -> None:
    for _ in range(2 * ATTEMPTS):
        with pytest.raises(KeyboardInterrupt):
            loop.once(tmp_path, some_proposal(), dying, attempt=1)


def test_a_history_that_is_not_complete_is_refused_unless_asked_for(tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path)
    write_json(folder.proposals(0), [some_proposal().model_dump(mode="json")])
    with pytest.raises(FileNotFoundError, match=r"candidate \(0, 0\) .* is not evaluated yet"):
        loop.read_history(folder, range(1))
    assert loop.read_history(folder, range(2), partial=True) == []
