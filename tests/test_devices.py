"""Each job is told which device is its own."""

import multiprocessing
from multiprocessing.queues import Queue
from pathlib import Path

from nas_lib.evaluation.devices import claimed

DEVICES = ("cuda:0", "cuda:1")


def hold(folder: Path, got: "Queue[str]", stop: "Queue[str]") -> None:
    with claimed(DEVICES, folder) as name:
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
    got, stop = context.Queue(), context.Queue()
    job = context.Process(target=hold, args=(tmp_path, got, stop))
    job.start()
    name = got.get(timeout=60)
    job.kill()
    job.join(60)
    with claimed((name,), tmp_path) as again:
        assert again == name


def test_the_cpu_is_shared(tmp_path: Path) -> None:
    with claimed(("cpu",), tmp_path) as first, claimed(("cpu",), tmp_path) as second:
        assert first == second == "cpu"
