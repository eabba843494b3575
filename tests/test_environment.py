"""pyproject.toml, constraints.txt and environment.yml describe one environment."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [name for names in project["optional-dependencies"].values() for name in names]
    return [normalised(name) for name in [*project["dependencies"], *extras]]


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normalised(name): pinned for name, pinned in pins}


def test_every_dependency_is_pinned() -> None:
    assert [name for name in wanted() if name not in constraints()] == []


def test_dependencies_leave_their_versions_to_the_constraints() -> None:
    assert [name for name in wanted() if not re.fullmatch(r"[a-z0-9-]+", name)] == []


def test_environment_and_constraints_are_the_same() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (packages,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    pins = [package.split("==") for package in packages]
    assert {normalised(name): pinned for name, pinned in pins} == constraints()


def test_the_fixed_packages_are_there() -> None:
    assert {"snakemake", "torch", "mlflow", "bayesian-optimization", "networkx"} <= set(wanted())
    assert constraints()["torch"] == "2.13.0"


@pytest.mark.parametrize("name", wanted())
def test_what_runs_here_is_what_is_pinned(name: str) -> None:
    assert version(name).split("+")[0] == constraints()[name]


def test_constraints_bring_no_cuda_packages() -> None:
    bindings = {"nvidia-ml-py"}  # pure Python; reads the counters of the driver
    assert [name for name in constraints().keys() - bindings if name.startswith(("nvidia", "triton", "cuda"))] == []
