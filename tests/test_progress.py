"""What the progress display says, and when its process ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest

from nas_lib import comparison, progress, tracking
from nas_lib.layout import write_json, write_text
from nas_lib.mlflow_store import TrackingUnavailable
from nas_lib.progress import Known, line, seconds_left, snapshot, total_line, trainings_line, watch
from nas_lib.records import Evaluation
from nas_lib.search import Search, read_proposals
from tests.synthetic import an_experiment, searches_of, write_evaluation, write_everything, write_finalist, write_round

ROOT = Path(__file__).parent.parent


@pytest.fixture
def search(tmp_path: Path) -> Search:
    """A search whose first round is finished; of the second the duplicate is, and one candidate is in training."""
    (search,) = searches_of(an_experiment(tmp_path))
    write_round(search, 0)
    write_round(search, 1, finished=0)
    write_json(search.folder.work((1, 1)) / "epoch.json", {"epoch": 1, "epochs": 2})
    return search


def test_a_line_says_how_far_a_search_is(search: Search) -> None:
    (found,) = snapshot(search.experiment)
    assert line(found) == (
        f"random seed 1 · round 2/2 · 4/6 candidates, 1 failed, 1 known before · front {found.front} · "
        f"hypervolume {found.hypervolume:.2f}"
    )
    assert trainings_line([found]) == "training random-1 r01 s1 epoch 1/2"


def test_candidates_that_break_a_constraint_are_counted_and_on_no_front(search: Search) -> None:
    work = search.folder.work((0, 0))
    evaluation = Evaluation.model_validate_json((work / "evaluation.json").read_text())
    before = snapshot(search.experiment)[0]
    broken = evaluation.model_copy(update={"constraints": {"parameters": 1.0}})
    write_text(work / "evaluation.json", broken.model_dump_json())
    (after,) = snapshot(search.experiment)
    # One of them is the duplicate, which breaks what its original breaks.
    assert (before.infeasible, after.infeasible) == (0, 2)
    assert (after.failed, after.done, after.front) == (before.failed, before.done, 1)
    assert "4/6 candidates, 1 failed, 2 infeasible, 1 known before" in line(after)


def test_a_search_that_has_not_begun_has_a_line_too(tmp_path: Path) -> None:
    experiment = an_experiment(tmp_path)
    (found,) = snapshot(experiment)
    assert line(found) == "random seed 1 · round 1/2 · 0/6 candidates"
    assert total_line(experiment, [found]) == "made-up · 0/6 candidates"
    assert trainings_line([found]) == ""


def test_later_looks_read_only_what_is_new_and_see_the_same_as_a_first_look(search: Search) -> None:
    known: dict[tuple[str, int], Known] = {}
    snapshot(search.experiment, known)
    for proposal in read_proposals(search.folder, 0):
        (search.folder.work(proposal.candidate) / "evaluation.json").rename(search.folder.path / f"{proposal.slot}")
    write_evaluation(search, read_proposals(search.folder, 1)[2])
    later = snapshot(search.experiment, known)
    for proposal in read_proposals(search.folder, 0):
        (search.folder.path / f"{proposal.slot}").rename(search.folder.work(proposal.candidate) / "evaluation.json")
    assert later == snapshot(search.experiment)
    assert later[0].done == 5


def test_a_result_of_another_proposal_does_not_count(search: Search) -> None:
    proposal = read_proposals(search.folder, 1)[2]
    write_evaluation(search, proposal.model_copy(update={"epochs": 9}))
    assert snapshot(search.experiment)[0].done == 4
    write_evaluation(search, proposal)
    assert snapshot(search.experiment)[0].done == 5


def test_hypervolume_and_front_end_as_the_comparison_has_them(tmp_path: Path) -> None:
    experiment = an_experiment(tmp_path, seeds=[1, 2, 3], budget={"rounds": 3, "proposals": 3, "jobs": 1, "epochs": 2})
    write_everything(experiment)
    known: dict[tuple[str, int], Known] = {}
    found = snapshot(experiment, known)
    compared = comparison.compare(experiment)["searches"]
    assert [each.hypervolume for each in found] == pytest.approx([each["hypervolume"][-1] for each in compared])
    assert [each.front for each in found] == [each["front"] for each in compared]


def test_finalists_are_counted_once_all_candidates_are_done(search: Search) -> None:
    write_round(search, 1)
    assert line(snapshot(search.experiment)[0]).endswith(" · finalist trainings 0/2")
    write_json(search.folder.finalists, [{}])
    work = search.folder.finalist(0).parent / "repeat-0"
    write_json(work / "epoch.json", {"epoch": 3, "epochs": 4})
    assert trainings_line(snapshot(search.experiment)) == "training random-1 finalist 0 repeat-0 epoch 3/4"
    write_finalist(search, 0)
    assert line(snapshot(search.experiment)[0]).endswith(" · finalist trainings 2/2")


def test_trainings_on_a_second_data_set_are_counted_too(tmp_path: Path) -> None:
    experiment = an_experiment(tmp_path, transfer={"task": {"name": "mnist"}, "epochs": 6, "repeats": 3})
    (search,) = searches_of(experiment)
    write_everything(experiment)
    assert line(snapshot(experiment)[0]).endswith(" · finalist trainings 2/5")
    write_finalist(search, 0, transfer=True)
    write_json(search.folder.retraining(0, 0, 2, transfer=True) / "epoch.json", {"epoch": 3, "epochs": 6})
    (search.folder.retraining(0, 0, 2, transfer=True) / "evaluation.json").unlink()
    (found,) = snapshot(experiment)
    assert line(found).endswith(" · finalist trainings 4/5")
    assert trainings_line([found]) == "training random-1 finalist 0 transfer repeat-2 epoch 3/6"


def test_the_time_left_is_the_work_left_shared_by_the_workers_that_were_busy(search: Search) -> None:
    (found,) = snapshot(search.experiment)
    # Done: 4 candidates and 6 epochs in 30 s, one after the other. Left: 1.5 candidates and 2 trainings of 4 epochs.
    assert found.work_left == pytest.approx(1.5 * 30 / 4 + 8 * 30 / 6)
    assert seconds_left(search.experiment, [found], cores=8) == pytest.approx(51.25)
    assert total_line(search.experiment, [found]) == "made-up · 4/6 candidates, 1 failed · about 51 s left"


def test_two_searches_side_by_side_take_half_the_time_if_the_cores_allow(tmp_path: Path) -> None:
    experiment = an_experiment(tmp_path, seeds=[1, 2], finalists={"count": 0})
    for search in searches_of(experiment):
        write_round(search, 0)
    found = snapshot(experiment)
    assert seconds_left(experiment, found, cores=2) == pytest.approx(30)
    assert seconds_left(experiment, found, cores=1) == pytest.approx(60)


@pytest.mark.parametrize(("seconds", "words"), [(89.0, "89 s"), (600.0, "10 min"), (9000.0, "2.5 h")])
def test_durations_are_told_in_the_unit_of_their_size(seconds: float, words: str) -> None:
    assert progress._duration(seconds) == words


def watcher(search: Search, parent: int) -> "subprocess.Popen[str]":
    folder = Path(search.experiment.results).parent
    script = (
        "from pathlib import Path; from nas_lib.progress import watch; from tests.synthetic import an_experiment;"
        f"watch(an_experiment(Path({str(folder)!r})), {parent}, 0.1, mirror=False)"
    )
    return subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.PIPE, text=True)


def next_words(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    return process.stderr.readline().strip()


def test_watching_shows_what_is_new_and_ends_with_its_parent(search: Search) -> None:
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as parent,
        watcher(search, parent.pid) as process,
    ):
        assert next_words(process).startswith("random seed 1 · round 2/2 · 4/6 candidates")
        assert next_words(process).startswith("made-up · 4/6 candidates")
        write_round(search, 1)
        assert next_words(process).startswith("random seed 1 · round 2/2 · 6/6 candidates")
        parent.kill()
        assert process.wait(timeout=30) == 0


def test_watching_ends_at_once_when_asked_to(search: Search) -> None:
    with watcher(search, os.getpid()) as process:
        assert next_words(process).startswith("random seed 1")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def test_a_number_of_no_process_is_a_parent_that_has_ended(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with subprocess.Popen(["true"]) as gone:
        pass
    watch(search.experiment, gone.pid, mirror=False)


def test_mirroring_waits_for_the_first_finished_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = Search(an_experiment(tmp_path), "random", 1)
    mirrors: Queue[threading.Event] = Queue()

    def ticks(*_: object) -> Iterator[float]:
        changed = mirrors.get()
        yield time.monotonic()
        assert not changed.is_set()
        write_round(search, 0)
        yield time.monotonic() + 1000
        assert changed.is_set()

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(progress, "_mirror", lambda _, changed, stop: mirrors.put(changed))
    monkeypatch.setattr(progress, "_ticks", ticks)
    watch(search.experiment, os.getpid())


def test_mirroring_tells_a_failure_once_and_goes_on(
    search: Search, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed, stop = threading.Event(), threading.Event()
    outcomes = iter([TrackingUnavailable("no server"), OSError("no\nroute"), OSError("no\nroute"), None])

    def sync(_: object) -> None:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome
        stop.set()

    monkeypatch.setattr(tracking, "sync", sync)
    monkeypatch.setattr(progress, "MIRROR_SECONDS", 0.0)
    changed.set()
    progress._mirror(search.experiment, changed, stop)
    assert next(outcomes, "all were used") == "all were used"
    assert capsys.readouterr().err.splitlines() == ["no server", "no"]


def test_progress_is_shown_without_heavy_libraries() -> None:
    heavy = "{'torch', 'mlflow', 'pandas', 'matplotlib', 'plotly', 'sklearn'}"
    script = f"import sys, nas_lib.progress; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
