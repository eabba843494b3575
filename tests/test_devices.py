"""Each job is told which device is its own."""

import multiprocessing
from multiprocessing.queues import Queue
from pathlib import Path

import pytest

from nas_lib.evaluation import devices
from nas_lib.evaluation.devices import DeviceError, claimed

DEVICES = ("cuda:0", "cuda:1")


def pretend(folder: Path) -> None:
    """Two GPUs that are not there."""
    devices.tempfile.tempdir = str(folder)  # type: ignore[attr-defined]
    devices.available = list  # type: ignore[assignment]
    devices.lock_name = lambda device: f"uuid-of-{device}"


def hold(folder: Path, got: "Queue[str]", stop: "Queue[str]") -> None:
    pretend(folder)
    with claimed(DEVICES) as name:
        got.put(name)
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
        assert first == second == "cpu"


def test_a_device_that_is_not_here_is_one_clear_line() -> None:
    with pytest.raises(
        DeviceError, match=r"resources.devices: found \['cuda:99'\], but this machine has \d+ CUDA devices"
    ):
        devices.available(("cuda:99",))
