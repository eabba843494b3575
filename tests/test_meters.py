"""Energy and memory are those of one candidate, or not there."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nas_lib.evaluation import meters
from nas_lib.evaluation.devices import Claim, claimed
from nas_lib.evaluation.meters import UNKNOWN, Counter, Meter, Usage, difference

RANGE = 1_000_000_000


def zone(folder: Path, name: str, kind: str, energy: int) -> Path:
    path = folder / name
    path.mkdir(parents=True)
    for file, text in {"name": kind, "energy_uj": energy, "max_energy_range_uj": RANGE}.items():
        (path / file).write_text(f"{text}\n")
    return path / "energy_uj"


@pytest.fixture
def claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Claim]:
    """A job on the CPU of a machine without others."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with claimed(("cpu",)) as held:
        yield held


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr("nas_lib.evaluation.meters.time.monotonic", lambda: now.seconds)
    return now


def test_packages_are_summed_and_their_parts_and_the_platform_are_not(tmp_path: Path, claim: Claim) -> None:
    powercap = tmp_path / "powercap"
    packages = [zone(powercap, f"intel-rapl:{index}", f"package-{index}", 1_000_000) for index in range(2)]
    for name, kind in (("intel-rapl:0:0", "core"), ("intel-rapl:2", "psys"), ("intel-rapl-mmio:0", "package-0")):
        zone(powercap, name, kind, 0)
    meter = Meter(claim, meters.rapl(powercap))
    packages[0].write_text("3500000\n")
    packages[1].write_text("1250000\n")
    assert meter.usage().energy == pytest.approx(2.5 + 0.25)
    packages[1].write_text("2250000\n")
    assert meter.usage().energy == pytest.approx(3.75)


@pytest.mark.parametrize(
    ("before", "after", "seconds", "joules"),
    [
        (100, 400, 0.1, 300e-6),
        (RANGE - 100, 400, 0.1, 500e-6),
        (0, RANGE, 0.1, RANGE / 1e6),
        (100, 400, RANGE / 1e6 / meters.MOST_WATTS, None),
        (None, 400, 0.1, None),
        (100, None, 0.1, None),
    ],
)
def test_a_counter_may_go_round_once(
    before: int | None, after: int | None, seconds: float, joules: float | None
) -> None:
    counter = Counter(lambda: 0, joules=1e-6, range=RANGE)
    assert difference(counter, before, after, seconds) == (None if joules is None else pytest.approx(joules))


def test_a_counter_without_a_range_that_falls_was_reset() -> None:
    assert difference(Counter(lambda: 0, 1e-3), 5, 4, 1.0) is None
    assert difference(Counter(lambda: 0, 1e-3), 5, 1005, 1e6) == pytest.approx(1.0)


@pytest.mark.parametrize("broken", ["missing", "unreadable", "no package"])
def test_without_a_counter_there_is_no_energy(
    tmp_path: Path, claim: Claim, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    powercap = tmp_path / "powercap"
    if broken == "unreadable":
        zone(powercap, "intel-rapl:0", "package-0", 1)
        zone(powercap, "intel-rapl:1", "package-1", 1).write_text("")
    if broken == "no package":
        zone(powercap, "intel-rapl:0", "psys", 1)
    with caplog.at_level("INFO"):
        assert meters.rapl(powercap) == []
    assert "energy is not measured" in caplog.text
    assert Meter(claim, []).usage().energy is None


def test_a_counter_that_cannot_be_read_once_makes_energy_unknown_for_good(tmp_path: Path, claim: Claim) -> None:
    package = zone(tmp_path / "powercap", "intel-rapl:0", "package-0", 1)
    meter = Meter(claim, meters.rapl(tmp_path / "powercap"))
    package.write_text("")
    assert meter.usage().energy is None
    package.write_text("5")
    assert meter.usage().energy is None


def test_a_long_time_between_two_readings_makes_energy_unknown(
    tmp_path: Path, claim: Claim, clock: SimpleNamespace
) -> None:
    zone(tmp_path / "powercap", "intel-rapl:0", "package-0", 1)
    meter = Meter(claim, meters.rapl(tmp_path / "powercap"))
    clock.seconds = 0.9
    assert meter.usage().energy == 0
    clock.seconds = 1.8
    assert meter.usage().energy == 0
    clock.seconds = 2.9
    assert meter.usage().energy is None


def counting() -> Counter:
    """A counter that rises by 1 J at every reading."""
    values = iter(range(1000))
    return Counter(lambda: next(values), joules=1.0)


def test_another_job_at_any_time_makes_energy_unknown(claim: Claim) -> None:
    before, during, after = (Meter(claim, [counting()]) for _ in range(3))
    assert before.usage().energy == 1
    with claimed(("cpu",)) as other:
        assert during.usage().energy is None
        assert Meter(other, [counting()]).usage().energy is None
        assert Meter(claim, [counting()]).usage().energy is None
    assert (before.usage().energy, during.usage().energy, after.usage().energy) == (None, None, None)
    assert Meter(claim, [counting()]).usage().energy == 1


def test_without_a_claim_nothing_is_attributed() -> None:
    assert Meter(None, [counting()]).usage().energy is None


def test_attempts_add_up_and_the_unknown_stays_unknown() -> None:
    assert Usage(2.0, 10).after(Usage(1.0, 30)) == Usage(3.0, 30)
    assert Usage(2.0, None).after(Usage(1.0, 30)) == Usage(3.0, None)
    assert Usage(2.0, 40).after(Usage(None, 30)) == Usage(None, 40)
    assert UNKNOWN.after(Usage(1.0, 30)) == UNKNOWN


def test_the_peak_of_memory_is_that_of_the_candidate(claim: Claim) -> None:
    large = Meter(claim, [])
    if not large.resettable:
        pytest.skip("this system does not allow to reset the peak of resident memory")
    held = bytearray(b"x" * 200_000_000)
    peak = large.usage().peak_memory
    del held
    later = Meter(claim, []).usage().peak_memory
    assert peak is not None
    assert later is not None
    assert peak - later > 150_000_000


def test_a_system_that_cannot_reset_the_peak_gives_none(claim: Claim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "_forget_peak", lambda _: False)
    assert Meter(claim, []).usage().peak_memory is None


class FakeNvml:
    """The four calls that are made of NVML."""

    class NVMLError(Exception):
        pass

    def __init__(self, processes: int = 1, supported: bool = True) -> None:
        self.millijoules, self.processes, self.supported = 1000, processes, supported
        self.asked = ""

    def nvmlInit(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        self.asked = uuid
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, _handle: Any) -> int:  # noqa: N802
        if not self.supported:
            raise self.NVMLError("Not Supported")
        return self.millijoules

    def nvmlDeviceGetComputeRunningProcesses(self, _handle: Any) -> list[int]:  # noqa: N802
        return list(range(self.processes))


def fake(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> FakeNvml:
    nvml = FakeNvml(**changes)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(meters, "lock_name", lambda device: f"of-{device}")
    return nvml


def test_energy_of_a_gpu_is_what_its_counter_rose(claim: Claim, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = fake(monkeypatch)
    meter = Meter(claim, meters.counters("cuda:0"))
    nvml.millijoules += 2500
    assert nvml.asked == "GPU-of-cuda:0"
    assert meter.usage().energy == pytest.approx(2.5)
    nvml.processes = 2
    assert meter.usage().energy is None


def test_a_gpu_without_a_counter_has_no_energy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake(monkeypatch, supported=False)
    with caplog.at_level("INFO"):
        assert meters.nvml("cuda:0") == []
    assert "Not Supported" in caplog.text


def test_without_the_package_there_is_a_hint(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with caplog.at_level("INFO"):
        assert meters.nvml("cuda:0") == []
    assert "nas-lib[gpu]" in caplog.text
