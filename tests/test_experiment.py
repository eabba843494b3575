"""The configuration: what is accepted, and what a user reads when it is wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from nas_lib.configuration import ConfigurationError, read, read_merged
from nas_lib.experiment import Experiment, load, parse, schema, settings_of
from nas_lib.laboratory import settings as laboratories
from nas_lib.predictor_study import settings as studies
from nas_lib.score_study import settings as scores
from nas_lib.spaces.generator import GeneratorSpace
from nas_lib.strategies.random_search import RandomSearch
from nas_lib.tasks.data import Shape

ROOT = Path(__file__).parent.parent
INFINITY = float("inf")
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


SHIPPED = sorted((ROOT / "config").rglob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_configuration_that_ships_is_valid(path: Path) -> None:
    content = read(path)
    assert isinstance(content, dict)
    if "laboratory" in content:
        found = laboratories.load(path).laboratory
    elif "predictor_study" in content:
        found = studies.load(path).predictor_study
    elif "score_study" in content:
        found = scores.load(path).score_study
    else:
        found = load(path).experiment
    assert found == path.stem


@pytest.mark.parametrize(
    ("name", "searched"),
    [("nago-cifar-10", 8), ("nago-cifar-100", 8), ("hnag-rs", 8), ("nago-15", 15), ("nago-14", 14), ("rnag", 3)],
)
def test_the_published_spaces_have_the_published_number_of_dimensions(name: str, searched: int) -> None:
    assert len(load(ROOT / "config" / f"{name}.yaml").architectures.dimensions()) == searched


def test_randwires_default_is_one_generator_of_three_times_32_operations() -> None:
    experiment = load(ROOT / "config" / "rnag-d.yaml")
    assert experiment.architectures.dimensions() == []
    assert isinstance(experiment.space, GeneratorSpace)
    plan = experiment.space.plan(experiment.space.sample(np.random.default_rng(0)), Shape(3, 32, 32, 10))
    assert plan.operations() == 96
    assert 0.9 < plan.parameters() / 4.0e6 <= 1


@pytest.mark.parametrize("name", ["nago-cifar-10", "nago-cifar-100"])
def test_the_published_protocol_is_that_of_the_paper(name: str) -> None:
    experiment = load(ROOT / "config" / f"{name}.yaml")
    final = experiment.finalists.training
    assert (experiment.budget.epochs, experiment.budget.proposals) == (60, 8)
    assert experiment.objective_names == ["error", "activation_memory"]
    assert (experiment.finalists.epochs, experiment.finalists.draws) == (600, 8)
    assert final is not None
    assert (final.batch_size, final.learning_rate, final.cutout) == (96, 0.025, 16)


@pytest.mark.parametrize(
    "space",
    [
        {"name": "generator"},
        {"name": "generator", "merge": {"sum": 1, "concat": [0, 1]}, "channel_ratios": [1, [1.5, 2.5], 4]},
    ],
)
def test_a_stored_experiment_reads_back_equal(space: dict[str, object]) -> None:
    experiment = parse({**MINIMAL, "space": space, "finalists": {"training": {}}}, "my.yaml")
    assert parse(json.loads(experiment.model_dump_json()), "experiment.json") == experiment


def test_an_unknown_key_names_its_place_and_the_nearest_known_one() -> None:
    (line,) = mistakes(budget={"round": 3})
    assert line.startswith(
        "my.yaml: budget.round: unknown key (did you mean 'rounds'?); allowed are rounds, proposals,"
    )


def test_a_wrong_type_says_what_was_found_and_what_is_allowed() -> None:
    (line,) = mistakes(budget={"rounds": "many"})
    assert line == "my.yaml: budget.rounds: found 'many', allowed is a whole number"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"budget": {"rounds": True}}, "budget.rounds: found True, allowed is a whole number"),
        ({"budget": {"rounds": "5"}}, "budget.rounds: found '5', allowed is a whole number"),
        ({"seeds": [True]}, "seeds.0: found True, allowed is a whole number"),
        ({"seeds": ["1"]}, "seeds.0: found '1', allowed is a whole number"),
        ({"seeds": [1.0]}, "seeds.0: found 1.0, allowed is a whole number"),
        (
            {"task": {"name": "digits", "train_images": True}},
            "task.train_images: found True, allowed is a whole number",
        ),
        (
            {"space": {"name": "generator", "head_channels": 64.0}},
            "space.head_channels: found 64.0, allowed is a whole number",
        ),
        ({"training": {"cutout": "8"}}, "training.cutout: found '8', allowed is a whole number"),
    ],
)
def test_only_whole_numbers_pass_for_whole_numbers(changes: dict[str, object], expected: str) -> None:
    assert mistakes(**changes) == [f"my.yaml: {expected}"]


def test_a_number_that_yaml_reads_as_text_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(MINIMAL) + "training:\n  weight_decay: 1e-4\n")
    assert load(path).training.weight_decay == 1e-4


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"training": {"learning_rate": INFINITY}}, "training.learning_rate: found inf, allowed is a finite number"),
        ({"budget": {"time_limit": INFINITY}}, "budget.time_limit: found inf, allowed is a finite number"),
        (
            {"objectives": [{"name": "error", "reference": INFINITY}]},
            "objectives.0.reference: found inf, allowed is a finite number",
        ),
        (
            {"space": {"name": "generator", "merge": {"sum": INFINITY}}},
            "space.merge: found inf, allowed is a number from 0 to 1000, or [low, high]",
        ),
    ],
)
def test_infinite_numbers_are_refused(changes: dict[str, object], expected: str) -> None:
    assert mistakes(**changes) == [f"my.yaml: {expected}"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"strategies": []}, "strategies: found [], allowed is at least one entry"),
        ({"objectives": []}, "objectives: found [], allowed is at least one entry"),
        ({"seeds": []}, "seeds: found [], allowed is at least one entry"),
        ({"space": {"name": "generator", "levels": []}}, "space.levels: found [], allowed is at least one entry"),
        ({"space": {"name": "generator", "merge": {}}}, "space.merge: found {}, allowed is at least one entry"),
        (
            {"space": {"name": "generator", "stage_ratios": []}},
            "space.stage_ratios: found [], allowed is at least one entry",
        ),
        (
            {"space": {"name": "generator", "merge": ["sum"]}},
            "space.merge: found ['sum'], allowed is a mapping of keys to values",
        ),
        ({"budget": {1: 2}}, "budget.1: found 1, allowed is a key that is text"),
        ({"task": {"name": "npz", "path": 3}}, "task.path: found 3, allowed is a path"),
        (
            {"task": {"name": "npz", "path": "a.npz", "sha256": "abc"}},
            "task.sha256: found 'abc', allowed is text of the form ^[0-9a-fA-F]{64}$",
        ),
        (
            {"results": "a{b}"},
            "results: found 'a{b}', allowed is a path of at least one character, without braces, brackets, '*' and '?'",
        ),
        (
            {"results": ""},
            "results: found '', allowed is a path of at least one character, without braces, brackets, '*' and '?'",
        ),
        (
            {"results": "~nobody-here/a"},
            "results: found '~nobody-here/a', allowed is ~ of a user with a home folder",
        ),
    ],
)
def test_mistakes_are_described_in_plain_words(changes: dict[str, object], expected: str) -> None:
    assert mistakes(**changes) == [f"my.yaml: {expected}"]


def test_results_may_lie_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert parse({**MINIMAL, "results": "~/results"}, "").results == "/somewhere/results"


@pytest.mark.parametrize("name", ["", "a.b", "-a", "A", "a\n", "a" * 65])
def test_experiments_and_searches_have_names_that_are_safe_as_folders(name: str) -> None:
    allowed = "allowed is 1 to 64 small letters, digits, '_' and '-', beginning with a letter or digit"
    (line,) = mistakes(experiment=name)
    assert line.startswith("my.yaml: experiment: found ")
    assert line.endswith(allowed)
    if name:  # an empty label stands for the name of the strategy
        (line,) = mistakes(strategies=[{"name": "random", "label": name}])
        assert line == f"my.yaml: strategies: label {name!r} is a folder name, {allowed}"


def test_an_experiment_is_not_named_like_the_folder_of_mlflow() -> None:
    assert mistakes(experiment="mlartifacts") == [
        "my.yaml: experiment: found 'mlartifacts', allowed is any name but that of MLflow's folder beside the results"
    ]


@pytest.mark.parametrize("devices", ["auto", ["cpu"], ["cuda"], ["cuda:0", "cuda:11"]])
def test_devices_are_auto_or_named(devices: str | list[str]) -> None:
    stored = json.loads(parse({**MINIMAL, "resources": {"devices": devices}}, "").model_dump_json())
    assert stored["resources"]["devices"] == devices


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ("cuda:0", "found 'cuda:0', allowed is auto or a list such as [cuda:0, cuda:1]"),
        ([], "found [], allowed is auto or a list such as [cuda:0, cuda:1]"),
        (["gpu"], "found 'gpu', allowed is cpu, or cuda devices such as cuda:0"),
        ([0, 1], "found 0, allowed is cpu, or cuda devices such as cuda:0"),
        (["cuda:0", "cuda:0"], "['cuda:0', 'cuda:0'] repeats a device, allowed are different ones"),
        (["cuda", "cuda:0"], "['cuda', 'cuda:0'] repeats a device, allowed are different ones"),
        (["cpu", "cuda:0"], "found ['cpu', 'cuda:0'], allowed is either cpu or cuda devices, not both"),
    ],
)
def test_other_devices_are_refused(devices: object, expected: str) -> None:
    assert mistakes(resources={"devices": devices}) == [f"my.yaml: resources.devices: {expected}"]


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


@pytest.mark.parametrize(
    ("constraints", "expected"),
    [
        ([{"name": "parameter", "at_most": 5}], "constraints.0.name: found 'parameter' (did you mean 'parameters'?)"),
        ([{"name": "latency", "at_most": 0}], "constraints.0.at_most: found 0, allowed is greater than 0"),
        ([{"name": "latency"}], "constraints.0.at_most: missing"),
        ([{"name": "flops", "at_most": 1}] * 2, "constraints: ['flops', 'flops'] limits a figure twice"),
    ],
)
def test_constraints_name_a_figure_once_and_a_limit_above_zero(constraints: object, expected: str) -> None:
    (line,) = mistakes(constraints=constraints)
    assert line.removeprefix("my.yaml: ").startswith(expected)


def test_a_constraint_need_not_be_on_an_objective() -> None:
    experiment = parse({**MINIMAL, "constraints": [{"name": "latency", "at_most": 5}]}, "")
    assert experiment.limits == {"latency": 5.0}
    assert "latency" not in experiment.objective_names
    assert parse(MINIMAL, "").limits == {}


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
        (
            {"budget": {"proposals": 6, "draws": 4}},
            "budget: proposals is 6, allowed is a multiple of draws, which is 4",
        ),
        ({"strategies": ["bo"]}, "strategies.0 (bo): the number of objectives is 2, allowed is exactly 1"),
        (
            {"strategies": ["parego"], "objectives": ["error"]},
            "strategies.0 (parego): the number of objectives is 1, allowed is 2 or more",
        ),
        (
            {
                "strategies": ["parego"],
                "space": {"name": "generator", "levels": [{"model": "WS", "nodes": 5, "k": 4, "p": 0.5}]},
            },
            "strategies.0 (parego): needs the operator encode, which the space 'generator' does not offer with these "
            "settings; it offers build, graph, hash, redraw, sample",
        ),
        (
            {"strategies": ["random", "random"]},
            "strategies: ['random', 'random'] repeats a name: give each entry its own `label`",
        ),
        (
            {"strategies": [{"name": "random", "label": "figures"}]},
            "strategies: label 'figures' is the name of another folder, "
            "allowed is any but ['benchmarks', 'figures', 'logs', 'tables']",
        ),
        (
            {"budget": {"rounds": 2, "lag": 5}},
            "budget: lag is 5, allowed is at most 1, one less than rounds, which is 2",
        ),
        ({"budget": {"rounds": 1, "lag": 2}}, "budget: lag is 2, allowed is at most 1"),
    ],
)
def test_impossible_combinations_are_refused(changes: dict[str, object], expected: str) -> None:
    assert f"my.yaml: {expected}" in mistakes(**changes)


def test_several_draws_need_a_space_that_draws_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GeneratorSpace, "operators", lambda _space: frozenset({"sample"}))
    reason = "allowed is 1 for the space 'generator', which does not offer the operator redraw"
    assert mistakes(budget={"draws": 2}, finalists={"draws": 8}) == [
        f"my.yaml: budget.draws: found 2, {reason}",
        f"my.yaml: finalists.draws: found 8, {reason}",
    ]


def test_several_draws_are_refused_where_a_strategy_continues_single_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RandomSearch, "keeps_weights", True)
    assert mistakes(budget={"draws": 2}) == [
        "my.yaml: budget.draws: found 2, allowed is 1 with strategies.0 (random), "
        "which continues the trainings of single networks"
    ]


def test_candidates_of_the_round_before_are_always_allowed_to_be_known() -> None:
    assert parse({**MINIMAL, "budget": {"rounds": 1, "lag": 1}}, "").budget.lag == 1


def test_impossible_combinations_are_found_beside_other_mistakes() -> None:
    lines = mistakes(strategies=["parego"], objectives=["error"], seeds=["one"])
    assert len(lines) == 2


def test_ranges_that_leave_a_stage_empty_are_refused() -> None:
    (line,) = mistakes(space={"name": "generator", "levels": [{"model": "ER", "nodes": [2, 6], "p": 0.5}]})
    assert line == (
        "my.yaml: space: stage_ratios: found 3 values, which leaves a stage without nodes when the top level has 2; "
        "allowed are at most 2, or a top level of at least 3 nodes"
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"merge": {"sum": [0, 1], "concat": [0, 1]}},
            "space.merge: found {'sum': [0.0, 1.0], 'concat': [0.0, 1.0]}, "
            "allowed is at least one weight that is always above 0",
        ),
        (
            {"operations": {"conv3x3": [0, 1], "avg_pool3x3": [0.1, 1]}},
            "space: operations: found {'conv3x3': [0.0, 1.0], 'avg_pool3x3': [0.1, 1.0]}, allowed is at least one of "
            "conv3x3, conv5x5, conv1x1, conv3x1, conv1x3 with a weight that is always above 0",
        ),
        (
            {"stage_ratios": [1, [0, 1], 1]},
            "space.stage_ratios.1: found [0, 1], allowed is a number from 0.001 to 1000, or [low, high]",
        ),
        (
            {"stage_ratios": [1, [2, 1], 1]},
            "space.stage_ratios.1: found [2, 1], allowed is a number from 0.001 to 1000, or [low, high]",
        ),
        (
            {"channel_ratios": [1, [1, 2]]},
            "space: stage_ratios: found 3 values, allowed is one per channel ratio, which are 2",
        ),
    ],
)
def test_weights_and_ratios_that_could_make_no_network_are_refused(change: dict[str, object], expected: str) -> None:
    assert mistakes(space={"name": "generator", **change}) == [f"my.yaml: {expected}"]


def test_broken_yaml_is_one_line_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("experiment: [1\ntask: 2\n")
    with pytest.raises(ConfigurationError, match=r"broken.yaml: line 2, column \d+: not valid YAML: ") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_key_that_occurs_twice_is_one_line_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("experiment: a\nbudget:\n  rounds: 2\n  epochs: 1\n  rounds: 3\n")
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: line 5, column 3: not valid YAML: key 'rounds' occurs twice"


def test_keys_of_a_merged_mapping_may_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "merged.yaml"
    path.write_text(
        yaml.safe_dump({key: value for key, value in MINIMAL.items() if key != "space"})
        + "space: {levels: [&top {model: WS, nodes: 5, k: 4, p: 0.5}, {<<: *top, nodes: 3}]}\n"
    )
    space = load(path).space
    assert isinstance(space, GeneratorSpace)
    assert [level.nodes for level in space.levels] == [(5, 5), (3, 3)]


@pytest.mark.parametrize("content", [b"experiment: \xff", b"experiment: \0", b"experiment: 2024-13-01"])
def test_a_file_that_yaml_cannot_hold_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"other.yaml: not valid YAML: .+") as caught:
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
    experiment = parse(*read_merged([path], {"budget": {"rounds": 7}, "seeds": [4]}))
    assert (experiment.budget.rounds, experiment.budget.proposals, experiment.seeds) == (7, 4, (4,))


def test_numbers_within_overrides_may_be_text_as_snakemake_gives_them(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    experiment = parse(*read_merged([path], {"budget": {"rounds": "7"}, "seeds": ["4", "5"], "description": "3"}))
    assert (experiment.budget.rounds, experiment.seeds, experiment.description) == (7, (4, 5), "3")


def test_results_are_continued_with_more_rounds_seeds_and_strategies() -> None:
    more = {"budget": {"rounds": 9}, "seeds": [1, 2], "strategies": ["parego", "random"], "finalists": {"count": 1}}
    assert settings_of(parse({**MINIMAL, **more}, ""), "random") == settings_of(parse(MINIMAL, ""), "random")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"space": {"name": "generator", "parameters": 5}}, "space"),
        ({"budget": {"epochs": 9}}, "budget.epochs"),
        ({"budget": {"draws": 2}}, "budget.draws"),
        ({"finalists": {"training": {"batch_size": 96}}}, "finalists.training"),
        ({"objectives": ["error", "flops"]}, "objectives"),
        ({"constraints": [{"name": "flops", "at_most": 9}]}, "constraints"),
        ({"task": {"name": "digits", "validation": 0.5}}, "task"),
    ],
)
def test_results_of_another_search_are_not_mixed_in(change: dict[str, object], named: str) -> None:
    before, now = settings_of(parse(MINIMAL, ""), "random"), settings_of(parse({**MINIMAL, **change}, ""), "random")
    assert [key for key in before if before[key] != now[key]] == [named]


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


def test_a_transfer_needs_other_data_and_finalists() -> None:
    mnist = {"task": {"name": "mnist"}}
    assert parse({**MINIMAL, "transfer": mnist}, "my.yaml").carried.task.name == "mnist"
    assert mistakes(transfer={"task": {"name": "digits", "validation": 0.5}}) == [
        "my.yaml: transfer.task: found 'digits', the data of the search; allowed is other data"
    ]
    assert mistakes(transfer=mnist, finalists={"count": 0}) == [
        "my.yaml: transfer: finalists.count is 0, so there is nothing to carry; allowed is 1 or more"
    ]
    (line,) = mistakes(transfer={"task": {"name": "mnits"}})
    assert line.startswith("my.yaml: transfer.task.name: found 'mnits' (did you mean 'mnist'?)")


def test_a_transfer_has_its_own_training_or_that_of_the_search() -> None:
    transfer = {"task": {"name": "mnist"}, "epochs": 7, "repeats": 3}
    carried = parse({**MINIMAL, "training": {"batch_size": 5}, "transfer": transfer}, "my.yaml").carried
    assert (carried.training.batch_size, carried.finalists.epochs, carried.finalists.repeats) == (5, 7, 3)
    other = parse({**MINIMAL, "transfer": transfer | {"training": {"batch_size": 6}}}, "my.yaml")
    assert (other.training.batch_size, other.carried.training.batch_size) == (128, 6)
    with pytest.raises(ConfigurationError, match="transfer: missing"):
        _ = parse(MINIMAL, "my.yaml").carried
