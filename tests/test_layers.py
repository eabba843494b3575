"""Dependencies point one way, and heavy libraries are imported only by the steps that need them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_search import tiny

ROOT = Path(__file__).parent.parent
BELOW = {
    "records": set(),
    "randomness": set(),
    "settings": set(),
    "flops": set(),
    "configuration": {"settings"},
    "tasks": {"randomness", "settings"},
    "spaces": {"records", "randomness", "settings", "tasks"},
    "pareto": {"records"},
    "predictors": {"randomness", "spaces"},
    "strategies": {"records", "randomness", "settings", "scores", "spaces", "pareto", "predictors"},
    "problems": {"configuration", "randomness", "records", "settings", "spaces", "tasks"},
    "scores": {"flops", "records", "randomness", "settings", "spaces", "tasks"},
    "evaluation": {"flops", "journals", "records", "randomness", "scores", "settings", "spaces", "tasks"},
    "layout": {"records"},
    "journals": {"layout"},
    "correlation": set(),
    "experiment": {"configuration", "layout", "scores", "settings", "spaces", "strategies", "tasks", "evaluation"},
    "search": {
        "experiment",
        "layout",
        "pareto",
        "randomness",
        "records",
        "spaces",
        "strategies",
        "tasks",
        "evaluation",
    },
}
"""Part of nas_lib -> the parts it may know. Whatever is not named stands above all of these."""


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "nas_lib").with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "nas_lib":
            parts = node.module.split(".")[1:2] or [alias.name for alias in node.names]
            found.update(parts)
    return found


@pytest.mark.parametrize("part", BELOW)
def test_a_part_knows_only_the_parts_below_it(part: str) -> None:
    files = [path for path in (ROOT / "nas_lib").rglob("*.py") if part_of(path) == part]
    assert files
    for path in files:
        assert imported(path) - {part} <= BELOW[part], path


def modules_after(code: str, folder: Path) -> set[str]:
    program = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=folder)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_proposing_needs_neither_torch_nor_mlflow(tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text(tiny(tmp_path).model_dump_json())
    code = (
        "from pathlib import Path\n"
        "from nas_lib.experiment import load\n"
        "from nas_lib.search import Search, propose_round\n"
        "propose_round(Search(load(Path('tiny.json')), 'random', 1), 0)"
    )
    heavy = {"torch", "botorch", "mlflow", "pandas", "sklearn", "plotly", "matplotlib", "snakemake"}
    assert modules_after(code, tmp_path) & heavy == set()


def test_training_does_without_pytorchs_compiler(tmp_path: Path) -> None:
    experiment = tiny(tmp_path, budget={"rounds": 1, "proposals": 1, "jobs": 1}, finalists={"count": 1})
    (tmp_path / "tiny.json").write_text(experiment.model_dump_json())
    code = (
        "from pathlib import Path\n"
        "from nas_lib.experiment import load\n"
        "from nas_lib.search import Search, run_inline\n"
        "run_inline(Search(load(Path('tiny.json')), 'random', 1))"
    )
    assert "sympy" not in modules_after(code, tmp_path), "only the compiler needs it, and takes 2 s to import"


def test_reading_a_configuration_is_light(tmp_path: Path) -> None:
    heavy = {"torch", "botorch", "mlflow", "pandas", "sklearn", "plotly", "matplotlib", "scipy", "networkx"}
    assert modules_after("import nas_lib.experiment", tmp_path) & heavy == set()
