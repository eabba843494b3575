"""Which device a job may use. Snakemake counts resources but does not say which GPU is whose."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock, Timeout

from nas_lib.settings import UserError

POLL_SECONDS = 0.5


class DeviceError(UserError):
    """A device that was asked for is not here; the message is one clear line."""


def available(devices: Sequence[str] | Literal["auto"]) -> list[str]:
    """The devices to share out: those named, or all CUDA devices, or the CPU.

    Raises:
        DeviceError: a CUDA device that is named is not on this machine.
    """
    count = torch.cuda.device_count()
    if devices == "auto":
        return [f"cuda:{index}" for index in range(count)] or ["cpu"]
    missing = [name for name in devices if name != "cpu" and (torch.device(name).index or 0) >= count]
    if missing:
        raise DeviceError(f"resources.devices: found {missing}, but this machine has {count} CUDA devices")
    return list(devices)


def lock_name(device: str) -> str:
    """A name of the physical device, which jobs that see different devices as `cuda:0` do not share."""
    return str(torch.cuda.get_device_properties(device).uuid)


@contextmanager
def claimed(devices: Sequence[str] | Literal["auto"]) -> Iterator[str]:
    """The first free device; waits while all are taken.

    The CPU is shared by all jobs (Snakemake counts its cores). Every other device is held by a lock file of this
    machine, which the operating system frees when the job dies.

    Raises:
        DeviceError: a CUDA device that is named is not on this machine.
    """
    names = available(devices)
    if names == ["cpu"]:
        yield "cpu"
        return
    folder = Path(tempfile.gettempdir())
    locks = {name: FileLock(folder / f"nas-device-{lock_name(name)}.lock", mode=0o666) for name in names}
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
