"""Which device a job may use. Snakemake counts resources but does not say which GPU is whose."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock, Timeout

POLL_SECONDS = 0.5


def available(devices: Sequence[str] | Literal["auto"]) -> list[str]:
    """The devices to share out: those named, or all CUDA devices, or the CPU."""
    if devices != "auto":
        return list(devices)
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cpu"]


@contextmanager
def claimed(devices: Sequence[str] | Literal["auto"], folder: Path) -> Iterator[str]:
    """The first free device; waits while all are taken.

    The CPU is shared by all jobs (Snakemake counts its cores). Every other device is held by a lock file of its host in
    `folder`, which the operating system frees when the job dies.
    """
    names = available(devices)
    if "cpu" in names:
        yield "cpu"
        return
    host = os.uname().nodename
    locks = {name: FileLock(folder / f".device-{host}-{name.replace(':', '-')}.lock") for name in names}
    while True:
        for name, lock in locks.items():
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield name
            finally:
                lock.release()
            return
        time.sleep(POLL_SECONDS)
