"""Which device a job may use. Snakemake counts resources but does not say which GPU is whose.

A job holds a slot of its device while it trains: a lock file of this machine, which the operating system frees when the
job dies. The CPU has a slot for every job (Snakemake counts its cores), a CUDA device as many as are configured. A job
that must be alone on its device holds the door of the device as well, and nobody else takes a slot meanwhile.
"""

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
    return "cpu" if device == "cpu" else str(torch.cuda.get_device_properties(device).uuid)


@dataclass(frozen=True)
class Claim:
    """The slot of a device that this job holds."""

    device: str
    slots: int | None
    """How many jobs may hold one at the same time; None: any number."""
    slot: FileLock

    def witness(self) -> Callable[[], bool]:
        """A question to ask later: has this job had its device to itself since now?

        Whoever takes a slot is counted before it does anything else. So a job that was there when the count is read
        here is seen in its slot, and one that comes later is seen in the count.
        """
        with _choosing():
            before = _count(self.device)
            alone = not _taken(self.device, besides=self.slot)
        return lambda: alone and _count(self.device) == before

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other job is on the device, and let none in until the end.

        The own slot is given up while waiting: of two jobs that both want to be alone, each gets its turn.
        """
        if self.slots is None or self.slots == 1:
            yield
            return
        self.slot.release()
        with _lock(self.device, "door"):
            while not self._back():
                time.sleep(POLL_SECONDS)
            yield

    def _back(self) -> bool:
        with _choosing():
            return not _taken(self.device) and _acquired(self.slot)


@contextmanager
def claimed(devices: Sequence[str] | Literal["auto"], slots: int = 1) -> Iterator[Claim]:
    """A slot of the device that has the fewest jobs; waits while all are taken. With one slot the job is alone.

    A job on a CUDA device holds a slot of the CPU too, as it works there as well.

    Raises:
        DeviceError: a CUDA device that is named is not on this machine.
    """
    names = available(devices)
    with ExitStack() as held:
        with _choosing():
            claim = Claim("cpu", None, _enter("cpu", held))
        while claim.device not in names:
            with _choosing():
                claim = _claim(names, slots, held) or claim
            if claim.device not in names:
                time.sleep(POLL_SECONDS)
        yield claim


def _claim(names: Sequence[str], slots: int, held: ExitStack) -> Claim | None:
    """A slot of one of the CUDA devices, with its door where there is but one; released with `held`."""
    taken = {name: _taken(name) for name in names}
    for name in sorted(names, key=taken.__getitem__):
        door = _lock(name, "door")
        if taken[name] >= slots or not _acquired(door):
            continue
        if slots == 1:
            held.callback(door.release)
        else:
            door.release()
        return Claim(name, slots, _enter(name, held))
    return None


def _enter(device: str, held: ExitStack) -> FileLock:
    """The first free slot, which is released with `held`; the claim is counted."""
    slot = next(lock for lock in (_lock(device, f"slot-{index}") for index in itertools.count()) if _acquired(lock))
    held.callback(slot.release)
    counter = _file(device, "claims")
    if not counter.exists():
        counter.touch()
        counter.chmod(0o666)  # as the locks: jobs of other users share the device
    with counter.open("ab") as file:
        file.write(b".")
    return slot


def _count(device: str) -> int:
    """How many claims there have been."""
    counter = _file(device, "claims")
    return counter.stat().st_size if counter.exists() else 0


def _taken(device: str, besides: FileLock | None = None) -> int:
    """How many slots are held now."""
    taken = 0
    own = None if besides is None else Path(besides.lock_file)
    for path in Path(tempfile.gettempdir()).glob(_file(device, "slot-*.lock").name):
        lock = FileLock(path, mode=0o666)
        if path == own:
            continue
        if _acquired(lock):
            lock.release()
        else:
            taken += 1
    return taken


def _choosing() -> FileLock:
    """Held for a moment by whoever looks at slots or takes one, so that nobody sees a slot that is only looked at."""
    return FileLock(Path(tempfile.gettempdir()) / "nas-devices.lock", mode=0o666)


def _lock(device: str, part: str) -> FileLock:
    return FileLock(_file(device, f"{part}.lock"), mode=0o666)


def _file(device: str, part: str) -> Path:
    return Path(tempfile.gettempdir()) / f"nas-device-{lock_name(device)}-{part}"


def _acquired(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True
