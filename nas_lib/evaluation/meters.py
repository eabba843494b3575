"""Energy and peak memory of a candidate: what a counter of the device says, or None where it cannot be proven."""

import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from nas_lib.evaluation.devices import Claim, lock_name

log = logging.getLogger(__name__)
POWERCAP = Path("/sys/class/powercap")
MOST_WATTS = 1000
"""No CPU package draws more: a counter that could have gone round in the time between two readings is not believed."""


class Usage(NamedTuple):
    """What one candidate took of its device; None where it is not known."""

    energy: float | None
    """Joules of the whole device, while no other job was on it."""
    peak_memory: int | None
    """Bytes. CUDA: tensors of the process on the device. CPU: resident memory of the process."""

    def after(self, before: "Usage") -> "Usage":
        """Both attempts together: energies add up, the higher peak counts, and what one does not know is unknown."""
        energy, peak = self
        return Usage(
            energy=None if energy is None or before.energy is None else before.energy + energy,
            peak_memory=None if peak is None or before.peak_memory is None else max(before.peak_memory, peak),
        )


NOTHING = Usage(0.0, 0)
UNKNOWN = Usage(None, None)


@dataclass(frozen=True)
class Counter:
    """A counter of the energy a device has used; only differences mean something."""

    read: Callable[[], int | None]
    """Its value; None where it cannot be read, or where it counts for other processes too."""
    joules: float
    """Of one step."""
    range: int | None = None
    """It starts again at 0 after this value; None: never."""


def difference(counter: Counter, before: int | None, after: int | None, seconds: float) -> float | None:
    """Joules between two readings; None where one is missing or the counter may have gone round more than once."""
    if before is None or after is None:
        return None
    if counter.range is None:
        return (after - before) * counter.joules if after >= before else None
    if seconds * MOST_WATTS >= counter.range * counter.joules:
        return None
    return (after - before + (counter.range if after < before else 0)) * counter.joules


def counters(device: str) -> list[Counter]:
    """The energy counters of a device, whose differences add up; none where there is none to read."""
    return rapl() if device == "cpu" else nvml(device)


def rapl(folder: Path = POWERCAP) -> list[Counter]:
    """One counter per CPU package (RAPL, through the powercap interface of Linux), in microjoules.

    Parts of a package are left out, as their energy is in it already, and so is the zone of the whole platform, which
    holds the packages. Memory modules are not counted.
    """
    found = []
    try:
        for zone in sorted(folder.glob("intel-rapl:*")):
            if re.fullmatch(r"intel-rapl:\d+", zone.name) and (zone / "name").read_text().startswith("package"):
                wraps = int((zone / "max_energy_range_uj").read_text())
                int((zone / "energy_uj").read_text())
                found.append(Counter(lambda path=zone / "energy_uj": _number(path), 1e-6, wraps))  # type: ignore[misc]
    except (OSError, ValueError) as error:
        log.info("energy is not measured: %s", error)
        return []
    if not found:
        log.info("energy is not measured: this machine has no counter of its CPU packages in %s", folder)
    return found


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def nvml(device: str) -> list[Counter]:
    """The counter of a CUDA device since its driver was loaded (NVML, Volta and newer), in millijoules.

    Devices that are a part of a card (MIG) have none.
    """
    try:
        import pynvml
    except ImportError:
        log.info("energy is not measured: the package nvidia-ml-py is not there (pip install 'nas-lib[gpu]')")
        return []
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{lock_name(device)}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        log.info("energy is not measured: %s: %s", device, error)
        return []
    return [Counter(lambda: _of_this_process(pynvml, handle), 1e-3)]


def _of_this_process(pynvml: Any, handle: Any) -> int | None:
    """The counter, unless NVML sees several processes that compute on the device."""
    try:
        if len(pynvml.nvmlDeviceGetComputeRunningProcesses(handle)) > 1:
            return None
        return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
    except pynvml.NVMLError:
        return None


class Meter:
    """Measures one candidate from its making on."""

    def __init__(self, claim: Claim | None, found: Sequence[Counter]) -> None:
        """Without a claim or counters there is no energy."""
        self.device = torch.device("cpu" if claim is None else claim.device)
        self.counters = found
        self.resettable = _forget_peak(self.device)
        self.joules = 0.0 if claim and found else None
        self.alone: Callable[[], bool] = claim.witness() if claim and found else lambda: False
        self.readings, self.read_at = self._read()

    def usage(self) -> Usage:
        """So far. Energy that could not be attributed once stays unknown."""
        readings, read_at = self._read()
        if self.joules is not None:
            risen = [
                difference(counter, before, after, read_at - self.read_at)
                for counter, before, after in zip(self.counters, self.readings, readings, strict=True)
            ]
            known = [rise for rise in risen if rise is not None]
            self.joules = self.joules + sum(known) if len(known) == len(risen) and self.alone() else None
        self.readings, self.read_at = readings, read_at
        return Usage(self.joules, _peak(self.device) if self.resettable else None)

    def _read(self) -> tuple[list[int | None], float]:
        return [counter.read() for counter in self.counters], time.monotonic()


def _forget_peak(device: torch.device) -> bool:
    """Begin a new peak; False where the system does not allow it: the peak may be that of an earlier candidate."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux 4.0: resets VmHWM, see proc(5)
    except OSError:
        return False
    return True


def _peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    found = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return 1024 * int(found[1]) if found else None
