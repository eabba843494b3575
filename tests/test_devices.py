"""Each job is told which device is its own."""

import multiprocessing
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import pytest

from nas_lib.evaluation import devices
from nas_lib.evaluation.devices import DeviceError, claimed
from nas_lib.evaluation.settings import Resources

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


def test_a_device_that_is_not_here_is_one_clear_line() -> None:
    with pytest.raises(
        DeviceError, match=r"resources.devices: found \['cuda:99'\], but this machine has \d+ CUDA devices"
    ):
        devices.available(("cuda:99",))


@pytest.mark.parametrize(
    ("resources", "visible", "slots"),
    [
        ({"gpu_slots": 2}, "0,1", 4),
        ({"gpu_slots": 2}, "", 0),
        ({"devices": ["cuda:0"], "gpu_slots": 3}, "0,1", 3),
        ({"devices": ["cpu"], "gpu_slots": 3}, "0,1", 0),
    ],
)
def test_the_slots_of_this_machine_are_those_of_the_gpus_in_use(
    monkeypatch: pytest.MonkeyPatch, resources: dict[str, Any], visible: str, slots: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert Resources.model_validate(resources).gpu_slots_here == slots
