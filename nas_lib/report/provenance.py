"""Where results come from: versions, machine, commit, configuration. Nothing that names the machine or its user."""

import json
import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import yaml

from nas_lib.experiment import Experiment
from nas_lib.laboratory.settings import Laboratory
from nas_lib.predictor_study.settings import PredictorStudy
from nas_lib.score_study.settings import ScoreStudy

PACKAGES = (
    "nas-lib",
    "torch",
    "snakemake",
    "mlflow",
    "numpy",
    "scipy",
    "networkx",
    "moocore",
    "pymoo",
    "bayesian-optimization",
    "onnx",
    "onnxruntime",
    "scikit-learn",
    "pydantic",
    "plotly",
)


def versions() -> dict[str, str]:
    """Name -> version of Python and the packages that decide results."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> str:
    """Operating system, processor architecture, cores and memory of this machine, without its name."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores, {memory:.0f} GiB of memory"


def commit(folder: Path = Path()) -> str | None:
    """The git commit of a folder, with a note where files differ from it; None without git or without a commit."""
    git = shutil.which("git")
    if git is None:
        return None

    def answer(*words: str) -> str | None:
        result = subprocess.run([git, "-C", folder, *words], capture_output=True, text=True, check=False)  # noqa: S603
        return result.stdout.strip() if result.returncode == 0 else None

    head = answer("rev-parse", "HEAD")
    changed = head and answer("status", "--porcelain")
    return f"{head}, with uncommitted changes" if changed else head


def facts(of: Experiment | Laboratory | PredictorStudy | ScoreStudy, tracking_uri: str) -> dict[str, Any]:
    """All that a page says of where its results come from."""
    return {
        "seeds": of.seeds,
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
        "file": relative(of.folder.configuration),
        "tracking_uri": tracking_uri,
        "configuration": configuration(of, tracking_uri),
    }


def configuration(of: Experiment | Laboratory | PredictorStudy | ScoreStudy, tracking_uri: str) -> str:
    """The configuration as YAML, every default spelt out."""
    content = json.loads(of.model_dump_json())
    content["tracking"]["uri"] = tracking_uri
    return yaml.safe_dump(_portable(content), sort_keys=False, allow_unicode=True, width=100)


def _portable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _portable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_portable(entry) for entry in value]
    return relative(Path(value)) if isinstance(value, str) and Path(value).is_absolute() else value


def relative(path: Path) -> str:
    """A path as seen from the folder the workflow runs in; of a path outside it only the last part."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else f"…/{path.name}"


def tracking_uri(of: Experiment | Laboratory | PredictorStudy | ScoreStudy) -> str:
    """Where runs appear in MLflow: a file by its relative path, a server without its name."""
    uri = urlsplit(of.tracking_uri)
    if uri.hostname:
        return f"{uri.scheme}://…"
    if uri.path.startswith("//"):
        return f"{uri.scheme}:///{relative(Path(uri.path[1:]))}"
    return of.tracking_uri


def without_paths(text: str) -> str:
    """A message with absolute paths cut to their last part."""
    return re.sub(r"(?<![\w./…])(?:/[\w.@+~-]+)+/(?=[\w.])", "…/", text)
