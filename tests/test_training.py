"""Training: equal to itself when interrupted, correct in what it measures, and clear about what goes wrong."""

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas_lib.evaluation import candidate, measures, training
from nas_lib.evaluation.candidate import Bench, evaluate, retrain
from nas_lib.evaluation.images import EVALUATION_BATCH, augment
from nas_lib.evaluation.meters import Usage
from nas_lib.evaluation.settings import Latency, Training
from nas_lib.records import Evaluation, Proposal, without_wall_clock
from nas_lib.spaces.generator import GeneratorSpace
from nas_lib.tasks.data import ImageData, Shape, Split

SPACE = GeneratorSpace(parameters=8_000, head_channels=16, max_operations=12)
SHAPE = Shape(channels=1, height=8, width=8, classes=3)
AUGMENTED = Training(
    batch_size=16, learning_rate=0.05, crop_padding=1, horizontal_flip=True, cutout=2, checkpoint_seconds=0
)


def images(count: int, seed: int) -> Split:
    """Three classes that differ in where the image is bright."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=count)
    pixels = rng.integers(0, 120, size=(count, 1, 8, 8))
    for image, label in zip(pixels, labels, strict=True):
        image[:, 2 * label : 2 * label + 3] += 120
    return Split(pixels.astype(np.uint8), labels.astype(np.int64))


@pytest.fixture(scope="module")
def bench() -> Bench:
    data = ImageData(images(96, 1), images(48, 2), SHAPE, ("a", "b", "c"), (0.4,), (0.25,))
    device = training.prepare_device("cpu", threads=1)
    return Bench(
        space=SPACE,
        data=training.to_device(data, device),
        shape=SHAPE,
        training=AUGMENTED,
        latency=Latency(warm_up=1, repetitions=5),
        objectives=["error", "flops"],
        limits={},
        schedule_epochs=4,
    )


def proposal(epochs: int = 4, **changes: object) -> Proposal:
    genotype = SPACE.sample(np.random.default_rng(5))
    return Proposal.model_validate(
        {"round": 0, "slot": 0, "genotype": genotype, "hash": "h", "epochs": epochs, **changes}
    )


class Killed(BaseException):
    """Stands for a process that dies: nothing after it runs, and nothing catches it."""


def interrupted(bench: Bench, after: int, checkpoint: Path) -> None:
    def die(progress: training.Progress) -> None:
        if progress.epoch == after:
            raise Killed

    with pytest.raises(Killed):
        evaluate(bench, proposal(), seed=7, checkpoint=checkpoint, on_epoch=die)


def test_a_training_learns(bench: Bench, tmp_path: Path) -> None:
    result = evaluate(bench, proposal(), seed=7, checkpoint=tmp_path / "c.pt")
    assert result.ok
    assert result.objectives["error"] < 0.3
    assert result.objectives["error"] == result.curves["validation_error"][-1]
    assert len(result.curves["train_loss"]) == 4


def test_the_same_training_twice_is_equal_bit_for_bit(bench: Bench, tmp_path: Path) -> None:
    runs = [evaluate(bench, proposal(), seed=7, checkpoint=tmp_path / f"{name}.pt") for name in "ab"]
    assert without_wall_clock(runs[0]) == without_wall_clock(runs[1])
    weights = [torch.load(tmp_path / f"{name}.pt", weights_only=True)["network"] for name in "ab"]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_another_seed_gives_another_training(bench: Bench, tmp_path: Path) -> None:
    runs = [evaluate(bench, proposal(), seed=seed, checkpoint=tmp_path / f"{seed}.pt") for seed in (7, 8)]
    assert runs[0].curves != runs[1].curves


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_a_killed_training_continues_to_the_same_result(bench: Bench, tmp_path: Path, after: int) -> None:
    whole = evaluate(bench, proposal(), seed=7, checkpoint=tmp_path / "whole.pt")
    interrupted(bench, after, tmp_path / "killed.pt")
    continued = evaluate(bench, proposal(), seed=7, checkpoint=tmp_path / "killed.pt")
    assert without_wall_clock(continued) == without_wall_clock(whole)


def test_a_checkpoint_of_another_candidate_is_not_used(bench: Bench, tmp_path: Path) -> None:
    whole = evaluate(bench, proposal(), seed=7, checkpoint=tmp_path / "whole.pt")
    other = {**SPACE.sample(np.random.default_rng(6))}
    evaluate(bench, proposal(genotype=other), seed=7, checkpoint=tmp_path / "c.pt")
    assert without_wall_clock(evaluate(bench, proposal(), seed=7, checkpoint=tmp_path / "c.pt")) == without_wall_clock(
        whole
    )


def test_a_damaged_checkpoint_is_started_over(bench: Bench, tmp_path: Path) -> None:
    whole = evaluate(bench, proposal(), seed=7, checkpoint=tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:1000])
    restarted = evaluate(bench, proposal(), seed=7, checkpoint=tmp_path / "cut.pt")
    assert without_wall_clock(restarted) == without_wall_clock(whole)


def test_a_warm_start_continues_the_shorter_training_on_the_same_schedule(bench: Bench, tmp_path: Path) -> None:
    whole = evaluate(bench, proposal(epochs=4), seed=7, checkpoint=tmp_path / "whole.pt")
    evaluate(bench, proposal(epochs=2), seed=7, checkpoint=tmp_path / "short.pt")
    promoted = proposal(epochs=4, round=1, warm_start=(0, 0))
    continued = evaluate(bench, promoted, seed=7, checkpoint=tmp_path / "long.pt", continued=tmp_path / "short.pt")
    assert continued.objectives == whole.objectives
    assert continued.curves == whole.curves
    assert (whole.cost.epochs, continued.cost.epochs) == (4, 2)


def counted(values: list[float | None]) -> Callable[[], Usage]:
    """What a meter says at the end of each epoch."""
    readings = iter(values)
    return lambda: Usage(next(readings), 100)


@pytest.mark.parametrize(
    ("before", "after", "energy"),
    [([1.0, 2.0], [5.0, 6.0], 8.0), ([1.0, None], [5.0, 6.0], None), ([1.0, 2.0], [5.0, None], None)],
)
def test_energy_of_a_killed_training_counts_up_to_its_last_checkpoint(
    bench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: list[float | None],
    after: list[float | None],
    energy: float | None,
) -> None:
    monkeypatch.setattr(candidate, "Meter", lambda *_: SimpleNamespace(usage=counted([*before, 99.0])))
    interrupted(bench, 3, tmp_path / "c.pt")
    monkeypatch.setattr(candidate, "Meter", lambda *_: SimpleNamespace(usage=counted(after)))
    cost = evaluate(bench, proposal(), seed=7, checkpoint=tmp_path / "c.pt").cost
    assert (cost.energy, cost.peak_memory) == (energy, 100)


def test_energy_of_the_shorter_training_is_not_that_of_the_one_that_continues_it(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidate, "Meter", lambda *_: SimpleNamespace(usage=counted([1.0, 2.0])))
    evaluate(bench, proposal(epochs=2), seed=7, checkpoint=tmp_path / "short.pt")
    monkeypatch.setattr(candidate, "Meter", lambda *_: SimpleNamespace(usage=counted([3.0, 4.0])))
    promoted = proposal(epochs=4, round=1, warm_start=(0, 0))
    continued = evaluate(bench, promoted, seed=7, checkpoint=tmp_path / "long.pt", continued=tmp_path / "short.pt")
    assert continued.cost.energy == 4.0


def test_finalists_read_the_test_split_once_and_only_at_the_end(bench: Bench, tmp_path: Path) -> None:
    result = retrain(bench, proposal(), seed=7, checkpoint=tmp_path / "c.pt")
    assert set(result.curves) == {"train_loss", "train_error"}
    assert 0 <= float(result.metrics["test_error"]) < 0.3


def failure(bench: Bench, tmp_path: Path, **changes: object) -> Evaluation:
    return evaluate(bench, proposal(**changes), seed=7, checkpoint=tmp_path / "c.pt")  # type: ignore[arg-type]


def changed(bench: Bench, **changes: object) -> Bench:
    return Bench(**{**vars(bench), **changes})


def test_divergence_is_a_result(bench: Bench, tmp_path: Path) -> None:
    result = failure(changed(bench, training=Training(learning_rate=1e30)), tmp_path)
    assert (result.status, result.reason) == ("failed", "diverged: the loss is not finite in epoch 1")
    assert result.objectives == {}


def test_the_time_limit_is_a_result(bench: Bench, tmp_path: Path) -> None:
    result = failure(changed(bench, time_limit=1e-9), tmp_path)
    assert result.reason == "time limit reached in epoch 1"


def test_an_impossible_network_is_a_result(bench: Bench, tmp_path: Path) -> None:
    result = failure(changed(bench, space=SPACE.model_copy(update={"parameters": 10})), tmp_path)
    assert "the narrowest network has" in result.reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
        (MemoryError(), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
        (ZeroDivisionError("division by zero\nsecond line"), "ZeroDivisionError: division by zero"),
    ],
)
def test_whatever_breaks_while_training_is_a_result(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def broken(*_args: object, **_kwargs: object) -> None:
        raise error

    monkeypatch.setattr(training, "train", broken)
    assert failure(bench, tmp_path).reason == reason


# --- augmentation ----------------------------------------------------------------------------------


def batch() -> torch.Tensor:
    return torch.arange(1, 1 + 4 * 2 * 6 * 6, dtype=torch.float32).view(4, 2, 6, 6)


def draw(settings: Training, seed: int = 0) -> torch.Tensor:
    return augment(batch(), settings, torch.Generator().manual_seed(seed))


def test_no_augmentation_leaves_images_alone() -> None:
    assert torch.equal(draw(Training()), batch())


def test_a_flipped_image_is_itself_or_its_mirror() -> None:
    kinds = set()
    for seed in range(8):
        for before, after in zip(batch(), draw(Training(horizontal_flip=True), seed), strict=True):
            mirrored = torch.equal(after, before.flip(2))
            assert mirrored or torch.equal(after, before)
            kinds.add(mirrored)
    assert kinds == {True, False}


def test_a_crop_is_a_window_of_the_padded_image() -> None:
    padded = nn.functional.pad(batch(), (2, 2, 2, 2))
    shifts = set()
    for seed in range(8):
        for image, crop in zip(padded, draw(Training(crop_padding=2), seed), strict=True):
            found = [(r, c) for r in range(5) for c in range(5) if torch.equal(image[:, r : r + 6, c : c + 6], crop)]
            assert found
            shifts.update(found)
    assert len(shifts) > 10


def test_cutout_blanks_one_square_at_most_of_its_side() -> None:
    for before, after in zip(batch(), draw(Training(cutout=3)), strict=True):
        gone = (after == 0).all(0)
        assert torch.equal(after[:, ~gone], before[:, ~gone])
        rows, columns = gone.any(1).sum(), gone.any(0).sum()
        assert 1 <= rows <= 3
        assert 1 <= columns <= 3
        assert gone.sum() == rows * columns


# --- measures --------------------------------------------------------------------------------------


def test_costs_of_a_network_counted_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 64, 3))
    cost = measures.forward_cost(network, SHAPE)
    assert measures.parameters(network) == (9 * 2 + 2) + (128 * 3 + 3)
    assert cost.flops == 2 * 9 * 2 * 64 + 2 * 128 * 3
    assert cost.activation_memory == 4 * (128 + 128 + 128 + 3)


class Attentive(nn.Module):
    """Operations of several kinds, those without a module of their own included."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(SHAPE.channels, 6, (3, 1), groups=1, bias=False)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.convolution(images).flatten(2).transpose(1, 2)
        mixed, _ = self.attention(tokens, tokens @ tokens.transpose(1, 2) @ tokens, tokens)
        logits: torch.Tensor = self.head(mixed).mean(1)
        return logits


def test_flops_are_those_of_the_flop_counter_of_pytorch() -> None:
    network = Attentive()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, SHAPE.channels, SHAPE.height, SHAPE.width))
    assert measures.forward_cost(network, SHAPE).flops == counter.get_total_flops() > 0


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_are_those_of_pytorchs_gradient_descent(momentum: float) -> None:
    settings = Training(momentum=momentum, weight_decay=0.01)
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), nn.Linear(2, 2).requires_grad_(False))
    theirs = copy.deepcopy(ours)
    descent = training.Descent(ours, settings)
    reference = torch.optim.SGD(theirs.parameters(), momentum=momentum, weight_decay=0.01, nesterov=momentum > 0)
    for step in range(5):
        inputs = torch.randn(6, 4)
        for network, optimizer in ((ours, descent), (theirs, reference)):
            network.zero_grad()
            network(inputs).square().mean().backward()
            if isinstance(optimizer, training.Descent):
                optimizer.step(0.1 / (step + 1))
            else:
                optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
                optimizer.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)


def saved_for_backward(network: nn.Module, images: torch.Tensor) -> int:
    """Bytes that PyTorch keeps between the forward and the backward pass, weights left out."""
    weights = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    network.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = network(images)
    assert logits.requires_grad
    return sum(storage.nbytes() for key, storage in saved.items() if key not in weights)


@pytest.mark.parametrize("draw", range(4))
def test_the_estimate_of_training_memory_is_near_what_is_kept(draw: int) -> None:
    space = GeneratorSpace(
        parameters=20_000,
        head_channels=32,
        max_operations=40,
        merge={"sum": 1.0, "concat": 1.0, "attention": 1.0},
        operations={"conv3x3": 1.0, "avg_pool3x3": 1.0},
    )
    network = space.build(space.sample(np.random.default_rng(draw)), SHAPE)
    estimate = measures.training_memory(network, SHAPE, Training(batch_size=512), evaluation_batch=512)
    activations = estimate - 4 * 3 * measures.parameters(network)
    assert 0.7 < saved_for_backward(network, torch.randn(512, 1, 8, 8)) / activations < 1.4


def test_the_estimate_counts_weights_gradients_momentum_and_the_larger_batch() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))  # outputs: 64 and 3 numbers
    plain = Training(batch_size=10, momentum=0)
    assert measures.training_memory(network, SHAPE, plain, evaluation_batch=0) == 4 * 2 * 195 + 4 * 67 * 10
    assert measures.training_memory(network, SHAPE, Training(batch_size=10), 0) == 4 * 3 * 195 + 4 * 67 * 10
    assert measures.training_memory(network, SHAPE, plain, evaluation_batch=100) == 4 * 2 * 195 + 4 * 67 * 30


def test_a_network_that_takes_no_memory_gives_the_same_estimate(bench: Bench) -> None:
    network = SPACE.build(proposal().genotype, SHAPE)
    settings = bench.training
    needed = candidate._memory_needed(bench, proposal())
    assert needed == measures.training_memory(network, SHAPE, settings, EVALUATION_BATCH)
    too_small = changed(bench, space=SPACE.model_copy(update={"parameters": 10}))
    assert candidate._memory_needed(too_small, proposal()) == 0


def test_latency_states_how_it_was_measured(bench: Bench) -> None:
    figures = measures.latency(nn.Conv2d(1, 2, 3), SHAPE, Latency(batch_size=2, warm_up=1, repetitions=5))
    assert figures["latency_device"] == "cpu"
    assert (figures["latency_batch_size"], figures["latency_repetitions"], figures["latency_threads"]) == (2, 5, 1)
    assert 0 < float(figures["latency_p10"]) <= float(figures["latency"]) <= float(figures["latency_p90"])


def test_latency_as_an_objective_is_no_part_of_what_equal_runs_share(bench: Bench, tmp_path: Path) -> None:
    timed = changed(bench, objectives=["error", "latency"])
    result = evaluate(timed, proposal(epochs=1), seed=7, checkpoint=tmp_path / "c.pt")
    assert result.objectives["latency"] > 0
    assert set(without_wall_clock(result)["objectives"]) == {"error"}


def test_constraints_are_measured_whatever_the_objectives_and_hold_the_excess(bench: Bench, tmp_path: Path) -> None:
    limited = changed(bench, objectives=["error"], limits={"parameters": 1e6, "flops": 1.0, "latency": 1e6})
    result = evaluate(limited, proposal(epochs=1), seed=7, checkpoint=tmp_path / "c.pt")
    assert (result.status, result.feasible) == ("ok", False)
    assert result.constraints["parameters"] == float(result.metrics["parameters"]) - 1e6
    assert result.constraints["flops"] == float(result.metrics["flops"]) - 1
    assert result.constraints["latency"] == float(result.wall_clock["latency"]) - 1e6
    assert set(without_wall_clock(result)["constraints"]) == {"parameters", "flops"}
