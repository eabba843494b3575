"""Sequences made by rule: right targets, fixed splits, errors that mean what they say; and how networks are trained."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nas_lib.evaluation import measures, sequences, training
from nas_lib.evaluation.candidate import Bench, evaluate, retrain
from nas_lib.evaluation.settings import EarlyStop, Latency, Training
from nas_lib.records import Proposal, without_wall_clock
from nas_lib.tasks.data import SequenceShape
from nas_lib.tasks.sequences import Adding, FormalLanguage, dyck
from tests.recurrent import LSTM, LSTMSpace

ABC = FormalLanguage(strings=40, validation_strings=10, longest=3, beyond=2)


def answers(language: str, string: str, **settings: Any) -> str:
    """The symbols that may follow, step by step, as one word: {ab} where there are several."""
    task = FormalLanguage.model_validate({"language": language, **settings})
    return "".join(found if len(found) == 1 else f"{{{found}}}" for found in task.following(string))


def test_targets_of_a_string_are_those_of_the_reference() -> None:
    assert answers("anbncn", "aabbcc") == "{ab}{ab}bccT"
    assert answers("anbncn", "abc") == "{ab}cT"


def test_targets_of_two_counters() -> None:
    assert answers("anbmbman", "aabBAA") == "{ab}{ab}{bB}AAT"
    assert answers("anbmbman", "abbBBA") == "{ab}{bB}{bB}BAT"


def test_targets_of_brackets_know_the_innermost_one_and_the_depth() -> None:
    assert answers("dyck-2", "([])", depth=2) == "{([)}]{([)}{([T}"


def test_targets_are_encoded_over_the_symbols_and_the_end() -> None:
    data = FormalLanguage(longest=2, beyond=1).for_finalists()
    strings = data.held_out
    assert strings.lengths.tolist() == [3, 6]
    assert strings.inputs[0].argmax(1).tolist()[:3] == [0, 1, 2]
    expected = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert strings.targets[1].tolist() == expected
    assert strings.inputs[0, 3:].sum() == strings.targets[0, 3:].sum() == 0


@given(pairs=st.integers(1, 30), depth=st.integers(1, 5), seed=st.integers(0, 1000))
def test_strings_of_brackets_are_well_formed_and_not_too_deep(pairs: int, depth: int, seed: int) -> None:
    string = dyck(pairs, depth, np.random.default_rng(seed))
    assert len(string) == 2 * pairs
    deepest = max(string[:end].count("(") + string[:end].count("[") - end // 2 for end in range(1, len(string) + 1))
    assert deepest <= depth
    while "()" in string or "[]" in string:
        string = string.replace("()", "").replace("[]", "")
    assert string == ""


@given(language=st.sampled_from(["anbncn", "anbmbman", "dyck-2"]), seed=st.integers(0, 100))
def test_the_symbol_that_comes_is_always_among_those_that_may(language: str, seed: int) -> None:
    task = FormalLanguage.model_validate({"language": language, "strings": 5, "validation_strings": 1, "longest": 6})
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 7, size=2).tolist()
    string = task._string(n, m, rng)
    for after, following in zip(string[1:] + "T", task.following(string), strict=True):
        assert after in following


@pytest.mark.parametrize("language", ["anbncn", "anbmbman", "dyck-2"])
def test_longer_strings_are_longer_and_never_trained_on(language: str) -> None:
    task = FormalLanguage.model_validate({"language": language, "strings": 50, "longest": 4, "beyond": 2})
    data = task.for_search()
    assert data.beyond is not None
    unit = {"anbncn": 3, "dyck-2": 2}.get(language, 2)
    assert data.beyond.lengths.min() > 4 * unit >= data.held_out.lengths.min()
    assert data.train.inputs.shape[1] == data.held_out.inputs.shape[1]


def test_test_strings_are_each_length_once() -> None:
    data = FormalLanguage().for_finalists()
    assert data.validation is not None
    assert data.beyond is not None
    assert data.held_out.lengths.tolist() == [3 * n for n in range(1, 11)]
    assert data.beyond.lengths.tolist() == [3 * n for n in range(11, 16)]
    assert (len(data.train), len(data.validation)) == (500, 100)


@pytest.mark.parametrize("task", [ABC, Adding(steps=6, sequences=20, validation_sequences=5)])
def test_splits_depend_on_their_seed_alone(task: FormalLanguage | Adding) -> None:
    data, again = task.for_search(), task.for_search()
    other = task.model_copy(update={"split_seed": 1}).for_search()
    assert np.array_equal(data.train.inputs, again.train.inputs)
    assert data.train.inputs.shape != other.train.inputs.shape or not np.array_equal(
        data.train.inputs, other.train.inputs
    )
    final = task.for_finalists()
    assert np.array_equal(final.train.inputs, data.train.inputs), "finalists are trained on the same split"
    assert final.validation is not None
    assert np.array_equal(final.validation.inputs, data.held_out.inputs)


def test_the_answer_of_the_adding_problem_is_the_sum_of_the_marked_numbers() -> None:
    data = Adding(steps=10, sequences=50, validation_sequences=5).for_search()
    values, marks = data.train.inputs[..., 0], data.train.inputs[..., 1]
    assert (marks[:, :5].sum(1) == 1).all()
    assert (marks[:, 5:].sum(1) == 1).all()
    np.testing.assert_allclose(data.train.targets[:, 0], (values * marks).sum(1))
    assert data.beyond is not None
    assert data.beyond.inputs.shape == (5, 20, 2)


# --- loss and error --------------------------------------------------------------------------------


def split(targets: list[Any], lengths: list[int], steps: int) -> sequences.DeviceSplit:
    return sequences.DeviceSplit(torch.zeros(len(lengths), steps, 1), torch.tensor(targets), torch.tensor(lengths))


def test_padding_counts_neither_as_loss_nor_as_error() -> None:
    batch = split([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]], [1, 2], steps=2)
    outputs = torch.tensor([[[0.6, 0.4], [9.0, 9.0]], [[0.0, 1.0], [0.4, 0.0]]])
    loss, weight = sequences.loss_of(outputs, batch, 0.0)
    assert int(weight) == 3 * 2, "three steps of two outputs"
    assert loss.item() == pytest.approx(0.16 + 0.16 + 0.36)
    assert sequences.wrong(outputs, batch, None).item() == 1, "the second string has .4 where 1 is right"


def test_a_sum_is_right_within_its_tolerance() -> None:
    batch = split([[1.0], [1.0], [1.0]], [4, 4, 4], steps=4)
    outputs = torch.tensor([[1.03], [0.95], [float("nan")]])
    assert sequences.wrong(outputs, batch, 0.04).item() == 2
    assert sequences.loss_of(outputs[:2], split([[1.0], [1.0]], [4, 4], 4), 0.0)[0].item() == pytest.approx(0.0034)


def test_costs_are_those_of_one_time_step() -> None:
    shape = SequenceShape(inputs=3, outputs=2, tokens=False)
    cost = measures.forward_cost(LSTM(shape, 5), shape)
    assert cost.flops == 2 * (3 * 5 + 4 * 5 * 5 * 2 + 5 * 2)
    assert 4 * (5 + 4 * 5 + 5 + 2) <= cost.activation_memory < 4 * 5 * 5 * 4, "weights are no activations"
    figures = measures.latency(LSTM(shape, 5), shape, Latency(batch_size=1, warm_up=1, repetitions=3))
    assert float(figures["latency"]) > 0


# --- training --------------------------------------------------------------------------------------

ADAM = Training(**{**FormalLanguage.training_defaults, "batch_size": 8, "checkpoint_seconds": 0})


def a_bench(settings: Training = ADAM, **changes: Any) -> Bench:
    data = ABC.for_search()
    bench = Bench(
        space=cast(Any, LSTMSpace()),
        data=training.to_device(data, training.prepare_device("cpu", threads=1)),
        shape=data.shape,
        training=settings,
        latency=Latency(warm_up=1, repetitions=3),
        objectives=["loss", "blocks"],
        limits={},
        schedule_epochs=3,
    )
    return Bench(**{**vars(bench), **changes})


def proposal(hidden: int = 4, epochs: int = 3, **changes: Any) -> Proposal:
    content = {"round": 0, "slot": 0, "genotype": {"hidden": hidden}, "hash": f"lstm {hidden}", "epochs": epochs}
    return Proposal.model_validate(content | changes)


class Killed(BaseException):
    """Stands for a process that dies."""


def dying(after: int) -> Callable[[training.Progress], None]:
    def die(progress: training.Progress) -> None:
        if progress.epoch == after:
            raise Killed

    return die


def test_a_network_learns_and_what_it_does_beyond_is_told(tmp_path: Path) -> None:
    result = evaluate(a_bench(), proposal(8, epochs=25), seed=1, checkpoint=tmp_path / "c.pt")
    assert result.curves["validation_loss"][-1] < 0.5 * result.curves["validation_loss"][0]
    assert result.objectives == {"loss": result.curves["validation_loss"][-1], "blocks": 8}
    assert {"generalisation_error", "generalisation_loss"} < set(result.metrics)


SETTINGS = {
    "adam": ADAM,
    "plateau": ADAM.model_copy(update={"schedule": "plateau", "learning_rate": 0.5, "keep_best": True}),
    "sgd": ADAM.model_copy(update={"optimizer": "sgd", "schedule": "cosine"}),
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_killed_training_continues_to_the_same_result(tmp_path: Path, settings: Training) -> None:
    bench = a_bench(settings)
    whole = evaluate(bench, proposal(), seed=7, checkpoint=tmp_path / "whole.pt")
    with pytest.raises(Killed):
        evaluate(bench, proposal(), seed=7, checkpoint=tmp_path / "killed.pt", on_epoch=dying(3))
    continued = evaluate(bench, proposal(), seed=7, checkpoint=tmp_path / "killed.pt")
    assert without_wall_clock(continued) == without_wall_clock(whole)


def test_steps_are_those_of_pytorchs_adam() -> None:
    settings = Training(optimizer="adam", weight_decay=0.01)
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2), nn.Linear(2, 2).requires_grad_(False))
    theirs = copy.deepcopy(ours)
    descent, reference = training.Descent(ours, settings), torch.optim.Adam(theirs.parameters(), weight_decay=0.01)
    for step in range(5):
        inputs, rate = torch.randn(6, 4), 0.1 / (step + 1)
        for network in (ours, theirs):
            network.zero_grad()
            network(inputs).square().mean().backward()
        descent.step(rate)
        reference.param_groups[0]["lr"] = rate
        reference.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize(
    ("losses", "rate"), [([], 8.0), ([3.0], 8.0), ([3.0, 2.0], 8.0), ([3.0, 3.0], 2.0), ([3.0, 2.0, 2.5, 2.4], 0.5)]
)
def test_a_plateau_lowers_the_rate_after_every_epoch_without_a_new_best(losses: list[float], rate: float) -> None:
    settings = Training(schedule="plateau", learning_rate=8.0)
    assert training.learning_rate(settings, 0.5, losses) == rate


def test_other_schedules_do_not_look_at_losses() -> None:
    assert training.learning_rate(Training(schedule="constant", learning_rate=8.0), 0.5, [1.0, 2.0]) == 8
    assert training.learning_rate(Training(learning_rate=8.0), 0.5, [1.0, 2.0]) == pytest.approx(4)


def test_the_best_epoch_is_the_one_that_is_measured_and_kept(tmp_path: Path) -> None:
    bench = a_bench(SETTINGS["plateau"].model_copy(update={"learning_rate": 3.0}))
    result = evaluate(bench, proposal(epochs=4), seed=3, checkpoint=tmp_path / "c.pt")
    losses = result.curves["validation_loss"]
    assert min(losses) < losses[-1], "this rate is too high to end with the best"
    assert result.objectives["loss"] == min(losses)
    network = LSTM(ABC.for_search().shape, 4)
    network.load_state_dict(training.inherited(tmp_path / "c.pt")[0])
    assert bench.data.measure(network, "held_out", bench.training)["loss"] == min(losses)


def test_finalists_watch_validation_data_and_are_tested_once(tmp_path: Path) -> None:
    bench = a_bench(data=training.to_device(ABC.for_finalists(), torch.device("cpu")))
    result = retrain(bench, proposal(), seed=1, checkpoint=tmp_path / "c.pt")
    assert set(result.curves) == {"train_loss", "train_error", "validation_loss", "validation_error"}
    assert {"test_error", "test_loss", "generalisation_error", "blocks", "parameters"} < set(result.metrics)


# --- inherited weights -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a trained network of 4 hidden units."""
    path = tmp_path_factory.mktemp("parent") / "parent.pt"
    evaluate(a_bench(), proposal(4, epochs=10), seed=1, checkpoint=path)
    return path


def child(bench: Bench, parent: Path, checkpoint: Path, hidden: int = 4, **further: Any) -> Any:
    """A candidate with the weights of the parent, with a name of its own where it has the same size."""
    its = proposal(hidden, round=1, warm_start=(0, 0), genotype={"hidden": hidden, "child": 1}, hash="child")
    return evaluate(bench, its, seed=2, checkpoint=checkpoint, parents=[parent], **further)


def test_a_child_begins_with_the_weights_of_its_parent_and_an_optimiser_of_its_own(
    tmp_path: Path, parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first(network: nn.Module, *_: object, checkpoint: Path, **__: object) -> Any:
        weights = torch.load(parent, weights_only=True)["network"]
        assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
        assert not checkpoint.exists()
        raise Killed

    monkeypatch.setattr(training, "train", first)
    with pytest.raises(Killed):
        child(a_bench(), parent, tmp_path / "c.pt")


def test_a_child_of_two_gets_from_the_second_what_does_not_fit_of_the_first(
    tmp_path: Path, parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(a_bench(), proposal(8), seed=1, checkpoint=tmp_path / "mate.pt")
    of_parent, of_mate = (training.inherited(path)[0] for path in (parent, tmp_path / "mate.pt"))

    def first(network: nn.Module, *_: object, **__: object) -> Any:
        state = network.state_dict()
        from_parent = {name for name in state if state[name].shape == of_parent[name].shape}
        assert 0 < len(from_parent) < len(state)
        for name, value in state.items():
            assert torch.equal(value, (of_parent if name in from_parent else of_mate)[name])
        raise Killed

    monkeypatch.setattr(training, "train", first)
    its = proposal(8, round=1, warm_start=(0, 0), parents=[(0, 0), (0, 1)], hash="child")
    with pytest.raises(Killed):
        evaluate(a_bench(), its, seed=2, checkpoint=tmp_path / "c.pt", parents=[parent, tmp_path / "mate.pt"])


def test_a_child_trains_for_all_its_epochs_from_where_its_parent_was(tmp_path: Path, parent: Path) -> None:
    before = torch.load(parent, weights_only=True)["curves"]["validation_loss"][-1]
    result = child(a_bench(), parent, tmp_path / "c.pt")
    assert (len(result.curves["train_loss"]), result.cost.epochs) == (3, 3)
    assert result.curves["validation_loss"][0] < 1.2 * before
    alone = evaluate(a_bench(), proposal(4), seed=2, checkpoint=tmp_path / "alone.pt")
    assert result.curves["train_loss"][0] < alone.curves["train_loss"][0]


@pytest.mark.parametrize(("hidden", "epochs"), [(4, 1), (8, 3)], ids=["near", "far"])
def test_a_child_that_is_near_its_parent_trains_for_fewer_epochs(
    tmp_path: Path, parent: Path, hidden: int, epochs: int
) -> None:
    stop = EarlyStop(figure="loss", threshold=0.01, short_epochs=1)
    bench = a_bench(ADAM.model_copy(update={"early_stop": stop}))
    result = child(bench, parent, tmp_path / "c.pt", hidden)
    assert (result.metrics["trained_epochs"], result.cost.epochs, len(result.curves["train_loss"])) == (epochs,) * 3
    difference = float(result.metrics["inherited_loss"]) - float(result.metrics["parent_loss"])
    assert (difference < 0.01) == (epochs == 1)


def test_a_killed_child_continues_to_the_same_result(tmp_path: Path, parent: Path) -> None:
    stop = EarlyStop(figure="loss", threshold=10, short_epochs=2)
    bench = a_bench(ADAM.model_copy(update={"early_stop": stop}))
    whole = child(bench, parent, tmp_path / "whole.pt")
    with pytest.raises(Killed):
        child(bench, parent, tmp_path / "killed.pt", on_epoch=dying(2))
    continued = child(bench, parent, tmp_path / "killed.pt")
    assert without_wall_clock(continued) == without_wall_clock(whole)


def test_weights_that_are_gone_are_a_result(tmp_path: Path) -> None:
    result = child(a_bench(), tmp_path / "nothing.pt", tmp_path / "c.pt")
    assert result.reason.startswith("the weights to inherit cannot be read")
