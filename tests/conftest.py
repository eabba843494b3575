"""What several tests share."""

import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data sets that do not ship with the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the data folder ../shared/data is not there ({folder.name})")
    return folder


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs that are not there, and a folder for their locks."""
    from nas_lib.evaluation import devices

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(devices, "available", list)
    monkeypatch.setattr(devices, "lock_name", lambda device: f"uuid-of-{device}")
    monkeypatch.setattr(devices, "POLL_SECONDS", 0.01)
