"""Each job is told which device is its own."""

import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.queues import Queue
from pathlib import Path

import pytest
from filelock import Timeout

from nas_lib.evaluation import devices
from nas_lib.evaluation.candidate import with_room
from nas_lib.evaluation.devices import Claim, DeviceError, claimed
from nas_lib.records import Evaluation, Proposal

DEVICES = ("cuda:0", "cuda:1")


def pretend(folder: Path) -> None:
    """Two GPUs that are not there."""
    devices.tempfile.tempdir = str(folder)  # type: ignore[attr-defined]
    devices.available = list  # type: ignore[assignment]
    devices.lock_name = lambda device: f"uuid-of-{device}"


def hold(folder: Path, got: "Queue[str]", stop: "Queue[str]") -> None:
    pretend(folder)
    with claimed(DEVICES) as claim:
        got.put(claim.device)
        stop.get()


def test_jobs_get_devices_of_their_own_and_the_next_job_waits_for_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    got, stop = context.Queue(), context.Queue()
    jobs = [context.Process(target=hold, args=(tmp_path, got, stop)) for _ in range(3)]
    for job in jobs:
        job.start()
    assert {got.get(timeout=60), got.get(timeout=60)} == set(DEVICES)
    assert got.empty()
    stop.put("one")
    assert got.get(timeout=60) in DEVICES
    stop.put("two")
    stop.put("three")
    for job in jobs:
        job.join(60)
        assert job.exitcode == 0


def test_a_device_of_a_killed_job_is_free(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    for _ in range(2):
        got, stop = context.Queue(), context.Queue()  # a killed process may leave its queue locked
        job = context.Process(target=hold, args=(tmp_path, got, stop))
        job.start()
        assert got.get(timeout=60) == "cuda:0"
        job.kill()
        job.join(60)


def test_the_cpu_is_shared() -> None:
    with claimed(("cpu",)) as first, claimed(("cpu",)) as second:
        assert first.device == second.device == "cpu"
        assert first.slot.lock_file != second.slot.lock_file


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs that are not there, and a folder for their locks."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(devices, "available", list)
    monkeypatch.setattr(devices, "lock_name", lambda device: f"uuid-of-{device}")
    monkeypatch.setattr(devices, "POLL_SECONDS", 0.01)


def background(stack: ExitStack, work: Callable[[], object]) -> threading.Thread:
    """A job in a thread: locks are per file, not per process."""
    thread = threading.Thread(target=work)
    thread.start()
    stack.callback(thread.join, 30)
    return thread


@pytest.mark.usefixtures("two_gpus")
def test_slots_fill_the_device_with_the_fewest_jobs_first() -> None:
    with ExitStack() as stack:
        claims = [stack.enter_context(claimed(DEVICES, slots=2)) for _ in range(4)]
        assert [claim.device for claim in claims] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
        assert len({claim.slot.lock_file for claim in claims}) == 4


@pytest.mark.usefixtures("two_gpus")
def test_a_job_beyond_the_slots_waits_for_one() -> None:
    got: list[str] = []

    def job() -> None:
        with claimed(("cuda:0",), slots=2) as claim:
            got.append(claim.device)

    with ExitStack() as jobs, claimed(("cuda:0",), slots=2):
        with claimed(("cuda:0",), slots=2):
            waiting = background(jobs, job)
            time.sleep(0.2)
            assert got == []
        waiting.join(30)
        assert got == ["cuda:0"]


@pytest.mark.usefixtures("two_gpus")
def test_a_job_that_wants_a_device_for_itself_shares_with_no_other_experiment() -> None:
    got: list[int] = []

    def job() -> None:
        with claimed(("cuda:0",), slots=1):
            got.append(1)

    def other() -> None:
        with claimed(("cuda:0",), slots=4):
            got.append(4)

    with ExitStack() as jobs:
        with claimed(("cuda:0",), slots=4):
            first = background(jobs, job)
            time.sleep(0.2)
            assert got == []
        first.join(30)
        with claimed(("cuda:0",), slots=1):
            background(jobs, other)
            time.sleep(0.2)
            assert got == [1]
    assert got == [1, 4]


@pytest.mark.usefixtures("two_gpus")
def test_alone_waits_for_the_others_and_lets_nobody_in() -> None:
    events: list[str] = []

    def beside() -> None:
        with claimed(("cuda:0",), slots=3):
            events.append("in")

    with ExitStack() as jobs:
        leave = threading.Event()
        entered = threading.Event()

        def companion() -> None:
            with claimed(("cuda:0",), slots=3):
                entered.set()
                leave.wait(30)
                events.append("companion left")

        with claimed(("cuda:0",), slots=3) as claim:
            background(jobs, companion)
            entered.wait(30)
            threading.Timer(0.3, leave.set).start()
            with claim.alone():
                events.append("alone")
                background(jobs, beside)
                time.sleep(0.2)
                events.append("still alone")
    assert events == ["companion left", "alone", "still alone", "in"]


@pytest.mark.usefixtures("two_gpus")
def test_two_jobs_that_both_want_to_be_alone_each_get_their_turn() -> None:
    together = threading.Barrier(2)
    inside: list[int] = []
    most: list[int] = []

    def job() -> None:
        with claimed(("cuda:0",), slots=2) as claim:
            together.wait(30)
            with claim.alone():
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.1)
                inside.pop()

    with ExitStack() as jobs:
        for _ in range(2):
            background(jobs, job)
    assert most == [1, 1]


@pytest.mark.usefixtures("two_gpus")
def test_a_witness_sees_who_is_there_and_who_comes_and_goes() -> None:
    with claimed(("cuda:0",), slots=2) as first:
        undisturbed = first.witness()
        assert undisturbed()
        with claimed(("cuda:1",), slots=2):
            assert undisturbed()
        with claimed(("cuda:0",), slots=2):
            shared = first.witness()
            assert not undisturbed()
        assert not undisturbed()
        assert not shared()
        assert first.witness()()


@pytest.mark.usefixtures("two_gpus")
def test_a_witness_of_the_cpu_sees_jobs_on_gpus_too() -> None:
    with claimed(("cpu",)) as claim:
        undisturbed = claim.witness()
        assert undisturbed()
        with claimed(("cuda:0",)):
            pass
        assert not undisturbed()


# --- room on a device ------------------------------------------------------------------------------


def evaluation(reason: str = "") -> Evaluation:
    proposal = Proposal(round=0, slot=0, genotype={}, hash="h", epochs=1)
    return Evaluation(proposal=proposal, status="failed" if reason else "ok", reason=reason)


def claim_of_two(stack: ExitStack) -> Claim:
    return stack.enter_context(claimed(("cuda:0",), slots=2))


def is_alone() -> bool:
    """Whether the door of the device is held."""
    try:
        with devices._lock("cuda:0", "door").acquire(timeout=0):
            return False
    except Timeout:
        return True


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(("needed", "alone"), [(10, False), (11, True)])
def test_what_does_not_fit_beside_the_others_runs_alone(needed: int, alone: bool) -> None:
    how = []

    def run() -> Evaluation:
        how.append(is_alone())
        return evaluation()

    with ExitStack() as stack:
        assert with_room(claim_of_two(stack), needed=lambda: needed, free=lambda: 10, run=run).ok
    assert how == [alone]


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("second", ["", "out of memory"])
def test_out_of_memory_beside_others_is_tried_once_more_alone(second: str) -> None:
    reasons = ["out of memory", second]
    how = []

    def run() -> Evaluation:
        how.append(is_alone())
        return evaluation(reasons[len(how) - 1])

    with ExitStack() as stack:
        claim = claim_of_two(stack)
        companion = stack.enter_context(ExitStack())
        claim_of_two(companion)

        def leaving() -> Evaluation:
            result = run()
            companion.close()
            return result

        result = with_room(claim, needed=lambda: 1, free=lambda: 10, run=leaving)
    assert how == [False, True]
    assert result.reason == second
    assert result.wall_clock["retried"] == "out of memory beside other jobs"


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("slots", [1, 2])
def test_out_of_memory_with_the_device_to_itself_is_the_result(slots: int) -> None:
    runs = []

    def run() -> Evaluation:
        runs.append(1)
        return evaluation("out of memory")

    with claimed(("cuda:0",), slots=slots) as claim:
        result = with_room(claim, needed=lambda: 1, free=lambda: 10, run=run)
    assert (len(runs), result.reason) == (1, "out of memory")


@pytest.mark.usefixtures("two_gpus")
def test_another_failure_is_not_tried_again() -> None:
    runs = []

    def run() -> Evaluation:
        runs.append(1)
        return evaluation("diverged")

    with ExitStack() as stack:
        claim = claim_of_two(stack)
        claim_of_two(stack)
        with_room(claim, needed=lambda: 1, free=lambda: 10, run=run)
    assert len(runs) == 1


def test_a_device_that_is_not_here_is_one_clear_line() -> None:
    with pytest.raises(
        DeviceError, match=r"resources.devices: found \['cuda:99'\], but this machine has \d+ CUDA devices"
    ):
        devices.available(("cuda:99",))
