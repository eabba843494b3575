"""The configuration: what is accepted, and what a user reads when it is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from nas_lib.experiment import ConfigurationError, Experiment, changed_since, load, load_merged, parse, schema

ROOT = Path(__file__).parent.parent
MINIMAL: dict[str, Any] = {
    "experiment": "tiny",
    "task": {"name": "digits"},
    "space": {"name": "generator"},
    "strategies": ["random"],
    "objectives": ["error", "parameters"],
}


def mistakes(**changes: object) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse({**MINIMAL, **changes}, "my.yaml")
    return str(caught.value).splitlines()


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_that_ships_is_valid(path: Path) -> None:
    assert load(path).experiment == path.stem


def test_a_stored_experiment_reads_back_equal() -> None:
    experiment = parse(MINIMAL, "my.yaml")
    assert parse(json.loads(experiment.model_dump_json()), "experiment.json") == experiment


def test_an_unknown_key_names_its_place_and_the_nearest_known_one() -> None:
    (line,) = mistakes(budget={"round": 3})
    assert line.startswith(
        "my.yaml: budget.round: unknown key (did you mean 'rounds'?); allowed are rounds, proposals,"
    )


def test_a_wrong_type_says_what_was_found_and_what_is_allowed() -> None:
    (line,) = mistakes(budget={"rounds": "many"})
    assert line == "my.yaml: budget.rounds: found 'many', allowed is a whole number"


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"my.yaml: task: missing; this key is required"):
        parse({key: value for key, value in MINIMAL.items() if key != "task"}, "my.yaml")


def test_a_key_deep_in_a_choice_is_named_as_the_user_wrote_it() -> None:
    (line,) = mistakes(space={"name": "generator", "levels": [{"model": "WS", "nodes": 5, "k": 4, "p": 1.5}]})
    assert line == "my.yaml: space.levels.0.p: found 1.5, allowed is a number from 0 to 1, or [low, high]"


def test_a_mistyped_name_shows_the_choices() -> None:
    (line,) = mistakes(task={"name": "digit"})
    assert line.startswith(
        "my.yaml: task.name: found 'digit' (did you mean 'digits'?), allowed is one of 'digits', 'mnist'"
    )


def test_all_mistakes_of_a_file_come_at_once() -> None:
    lines = mistakes(seeds=[1, 1], budget={"rounds": 0, "epoch": 2}, objectives=["error", "speed"], finalist={})
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"budget": {"proposals": 2, "jobs": 3}}, "budget: jobs is 3, allowed is at most proposals, which is 2"),
        (
            {"budget": {"rounds": 2, "proposals": 2, "jobs": 1}, "finalists": {"count": 5}},
            "finalists.count: found 5, allowed is at most the 4 candidates of the budget (rounds x proposals)",
        ),
        ({"strategies": ["bo"]}, "strategies.0 (bo): found 2 objectives, allowed is exactly 1"),
        (
            {"strategies": ["parego"], "objectives": ["error"]},
            "strategies.0 (parego): found 1 objectives, allowed is 2 or more",
        ),
        (
            {
                "strategies": ["parego"],
                "space": {"name": "generator", "levels": [{"model": "WS", "nodes": 5, "k": 4, "p": 0.5}]},
            },
            "strategies.0 (parego): needs the operator encode, which the space 'generator' does not offer with these "
            "settings; it offers build, graph, hash, sample",
        ),
        (
            {"strategies": ["random", "random"]},
            "strategies: ['random', 'random'] repeats a name: give each entry its own `label`",
        ),
        (
            {"strategies": [{"name": "random", "label": "figures"}]},
            "strategies: label 'figures' is the name of another folder, "
            "allowed is any but ['benchmarks', 'figures', 'logs']",
        ),
        ({"results": "a{b}"}, "results: found 'a{b}', allowed is a path without braces, brackets, '*' and '?'"),
    ],
)
def test_impossible_combinations_are_refused(changes: dict[str, object], expected: str) -> None:
    assert f"my.yaml: {expected}" in mistakes(**changes)


def test_impossible_combinations_are_found_beside_other_mistakes() -> None:
    lines = mistakes(strategies=["parego"], objectives=["error"], seeds=["one"])
    assert len(lines) == 2


def test_ranges_that_leave_a_stage_empty_are_refused() -> None:
    (line,) = mistakes(space={"name": "generator", "levels": [{"model": "ER", "nodes": [2, 6], "p": 0.5}]})
    assert line.startswith("my.yaml: space: stage_ratios: found [1.0, 1.0, 1.0], which leaves a stage without nodes")


def test_broken_yaml_is_one_line_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("experiment: [1\ntask: 2\n")
    with pytest.raises(ConfigurationError, match=r"broken.yaml: line 2, column \d+: not valid YAML: ") as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "just words", "- a\n- b\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match="allowed is a mapping of keys to values"):
        load(path)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none.yaml: cannot be read: No such file or directory"):
        load(tmp_path / "none.yaml")


def test_overrides_replace_single_keys(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    experiment = load_merged([path], {"budget": {"rounds": 7}, "seeds": [4]})
    assert (experiment.budget.rounds, experiment.budget.proposals, experiment.seeds) == (7, 4, (4,))


def test_results_are_continued_with_more_rounds_seeds_and_strategies() -> None:
    stored = json.loads(parse(MINIMAL, "").model_dump_json())
    more = {"budget": {"rounds": 9}, "seeds": [1, 2], "strategies": ["parego", "random"], "finalists": {"count": 1}}
    assert changed_since(parse({**MINIMAL, **more}, ""), stored) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"space": {"name": "generator", "parameters": 5}}, ["space"]),
        ({"budget": {"epochs": 9}}, ["budget.epochs"]),
        ({"objectives": ["error", "flops"]}, ["objectives"]),
        ({"task": {"name": "digits", "validation": 0.5}}, ["task"]),
    ],
)
def test_results_of_another_search_are_not_mixed_in(change: dict[str, object], named: list[str]) -> None:
    stored = json.loads(parse(MINIMAL, "").model_dump_json())
    assert changed_since(parse({**MINIMAL, **change}, ""), stored) == named


def documented(model: dict[str, Any]) -> list[str]:
    return [
        key for key, value in model.get("properties", {}).items() if "description" not in value and "const" not in value
    ]


def test_the_schema_describes_every_key() -> None:
    exported = schema()
    assert exported["title"] == "Experiment"
    undocumented = {name: documented(part) for name, part in {"Experiment": exported, **exported["$defs"]}.items()}
    assert {name: keys for name, keys in undocumented.items() if keys and name != "Shape"} == {}


def test_the_exported_schema_is_the_present_one() -> None:
    assert json.loads((ROOT / "config" / "schema.json").read_text()) == schema()


def test_experiment_is_immutable() -> None:
    experiment = parse(MINIMAL, "")
    with pytest.raises(ValueError, match="frozen"):
        experiment.experiment = "other"  # type: ignore[misc]
    assert isinstance(experiment, Experiment)
