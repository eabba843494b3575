"""The example of docs/laboratory.md does what the page says."""

import re
from pathlib import Path

import pytest
import yaml

from nas_lib.laboratory.search import search
from nas_lib.laboratory.settings import parse

PAGE = (Path(__file__).parent.parent / "docs" / "laboratory.md").read_text()


def block(language: str) -> str:
    """The only code block of that language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def test_the_example_of_a_table_of_ones_own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chain.csv").write_text(block("csv"))
    monkeypatch.chdir(tmp_path)
    laboratory = parse(yaml.safe_load(block("yaml")), "mine.yaml")
    assert laboratory.titles == ["chain"]
    problem = laboratory.problem("chain")
    assert problem.space.size == 8  # nine rows, the last of which is not measured
    assert problem.reference.tolist() == pytest.approx([-65, 36 + 0.1 * 26])
    for strategy in laboratory.strategies:
        history, _ = search(problem, strategy, 1, laboratory.budget)
        assert len({evaluation.proposal.hash for evaluation in history}) == 6
