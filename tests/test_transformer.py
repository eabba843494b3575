"""Transformer encoders: the space, what every choice builds, the published table, and how they are searched."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
import pytest
import scipy.fft
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nas_lib import search as loop
from nas_lib.evaluation import measures
from nas_lib.evaluation.settings import Latency, Training
from nas_lib.experiment import Experiment, parse
from nas_lib.export import export_finalists, read_export
from nas_lib.layout import write_json
from nas_lib.problems.flexibert import SPACE, published
from nas_lib.problems.problem import ProblemError
from nas_lib.randomness import generator
from nas_lib.records import Evaluation, Genotype, Proposal
from nas_lib.report import drawing
from nas_lib.search import Search
from nas_lib.spaces import Space
from nas_lib.spaces.transformer.encoder import Encoder, EncoderError, Layer, encoder_of
from nas_lib.spaces.transformer.network import Attention, Transform, TransformerNetwork, tokens_of
from nas_lib.spaces.transformer.space import TransformerSpace
from nas_lib.strategies.bayesian import BayesianOptimization
from nas_lib.strategies.evolution import AgeingEvolution, Evolution, LocalSearch
from nas_lib.strategies.neuroevolution import KnownNetworks, Neuroevolution
from nas_lib.strategies.request import Plan, Request, Strategy
from nas_lib.tasks.data import SequenceShape
from tests.test_experiment import mistakes

OPERATIONS = ("SA-SDP", "SA-WMA", "LT-DFT", "LT-DCT", "DSC-5", "DSC-9")
SHAPE = SequenceShape(inputs=20, outputs=2, tokens=True, length=9, padding=0)
LAYER = Layer("SA-SDP", heads=2, feed_forward=12, stacks=1)
SMALL = TransformerSpace(hidden=(8, 16), heads=(2, 4), feed_forward=(12, 24), embedding=6)


def network_of(*layers: Layer, hidden: int = 8, shape: SequenceShape = SHAPE) -> TransformerNetwork:
    torch.manual_seed(0)
    return TransformerNetwork(Encoder(hidden, layers), shape, embedding=6, deviation=0.5).eval()


def parameters_of(*layers: Layer, hidden: int = 8) -> int:
    return measures.parameters(network_of(*layers, hidden=hidden))


# --- the space -------------------------------------------------------------------------------------


def drawn_as_published(rng: random.Random) -> Genotype:
    """One encoder by the published order of draws."""
    hidden, count = rng.choice([128, 256]), rng.choice([2, 4])
    layers = []
    for _ in range(count):
        family = rng.choice(["SA", "LT", "DSC"])
        kind = rng.choice({"SA": ["SDP", "WMA"], "LT": ["DFT", "DCT"], "DSC": ["5", "9"]}[family])
        layers.append(Layer(f"{family}-{kind}", rng.choice([2, 4]), rng.choice([512, 1024]), rng.choice([1, 3])))
    return SPACE.genotype(Encoder(hidden, tuple(layers)))


@pytest.fixture(scope="module")
def drawn() -> list[Genotype]:
    rng = random.Random(0)
    return [drawn_as_published(rng) for _ in range(500)]


def test_the_space_has_the_published_size() -> None:
    assert TransformerSpace().architectures == 10_621_440


def test_a_small_space_is_as_large_as_its_list() -> None:
    space = TransformerSpace(layers=(1, 2), operations=("SA-SDP", "LT-DCT"), stacks=(1,), feed_forward=(8,))
    assert space.gene_space.listed is not None
    assert len(space.gene_space.listed) == space.architectures == 2 * (4 + 16)


def test_the_published_draws_begin_as_published_and_repeat_nine_times(drawn: list[Genotype]) -> None:
    assert SPACE.describe(drawn[0]) == (
        "256 wide, 4 layers: SA-WMA x 4 + 3 x 1024, LT-DCT x 2 + 3 x 512, SA-SDP x 4 + 3 x 512, SA-SDP x 4 + 1 x 1024"
    )
    assert len({SPACE.hash(genotype) for genotype in drawn}) == 491


def test_layers_that_are_not_there_have_no_effect() -> None:
    two, four = SPACE.genotype(Encoder(128, (LAYER_128,) * 2)), SPACE.genotype(Encoder(128, (LAYER_128,) * 4))
    other = {"genes": [*two["genes"][:-1], 3]}
    assert other != two
    assert SPACE.same(other, two)
    assert SPACE.hash(other) == SPACE.hash(two) != SPACE.hash(four)
    assert SPACE.describe(other) == SPACE.describe(two)
    np.testing.assert_array_equal(SPACE.encode(other), SPACE.encode(two))


LAYER_128 = Layer("DSC-9", heads=4, feed_forward=1024, stacks=3)


@given(st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_what_a_search_does_stays_in_the_space(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = SPACE.sample(rng), SPACE.sample(rng)
    point = SPACE.encode(first)
    assert SPACE.same(SPACE.decode(point, rng), first)
    np.testing.assert_array_equal(SPACE.canonical(point[None])[0], point)
    child, (record,) = SPACE.mutate(first, rng)
    assert not SPACE.same(child, first)
    changed = [
        gene
        for gene, one, other in zip(SPACE.gene_space.genes, child["genes"], first["genes"], strict=True)
        if one != other
    ]
    assert len(changed) == 1 or changed[0].name == "layers"
    assert record["text"].startswith(f"{changed[0].name} from ")
    crossed, _ = SPACE.crossover(first, second, rng)
    for own, one, other in zip(crossed["genes"], first["genes"], second["genes"], strict=True):
        assert own in (one, other)
    for genotype in (child, crossed):
        encoder_of(genotype)


def test_known_encoders_are_one_for_each_operation() -> None:
    known = [encoder_of(genotype) for genotype in SPACE.seeds()]
    assert [{layer.operation for layer in encoder.layers} for encoder in known] == [{name} for name in OPERATIONS]
    assert SPACE.size(SPACE.seeds()[0]) == {"blocks": 4 * (1 + 3)}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"operations": ["SA-SDP", "SA-SDPA"]},
            "space.operations: found operation 'SA-SDPA', allowed is SA-SDP, SA-WMA, LT-DFT, LT-DCT, or DSC-k with an "
            "odd kernel k of 3 or more, for example DSC-5",
        ),
        (
            {"operations": ["DSC-4"]},
            "space.operations: found operation 'DSC-4', allowed is SA-SDP, SA-WMA, LT-DFT, LT-DCT, or DSC-k with an "
            "odd kernel k of 3 or more, for example DSC-5",
        ),
        ({"heads": [2, 3]}, "space: heads: found 3 heads, allowed are numbers that divide the hidden size 128"),
        (
            {"heads": [1, 2]},
            "space: heads: found 1 heads of DSC-5, allowed are even numbers: half of them attend, half convolve",
        ),
        ({"layers": [2, 2]}, "space.layers: found [2, 2], allowed are different whole numbers of 1 or more"),
    ],
)
def test_what_no_encoder_can_be_is_one_clear_line(changes: dict[str, Any], line: str) -> None:
    assert mistakes(task={"name": "labelled-text"}, space={"name": "transformer", **changes}) == [f"my.yaml: {line}"]


@pytest.mark.parametrize("task", ["text", "formal-language"])
def test_an_answer_at_every_step_is_not_for_them(task: str) -> None:
    assert mistakes(task={"name": task}, space={"name": "transformer"}) == [
        f"my.yaml: task: {task!r} asks for an answer at every step, but networks of the space 'transformer' read a "
        "sequence as a whole; allowed is a task with one answer for each, such as labelled-text"
    ]


def test_an_unknown_operation_of_a_genotype_is_one_clear_line() -> None:
    genotype = {"genes": [8, 1, "SA-XYZ", 2, 12, 1]}
    with pytest.raises(EncoderError, match=r"^layer 1: found operation 'SA-XYZ', allowed is SA-SDP"):
        SMALL.build(genotype, SHAPE)


# --- networks --------------------------------------------------------------------------------------


def inputs_of(count: int = 3, steps: int = 9) -> Tensor:
    return torch.randint(1, SHAPE.inputs, (count, steps), generator=torch.Generator().manual_seed(1))


def test_every_operation_builds_another_network() -> None:
    outputs = [network_of(replace(LAYER, operation=name))(inputs_of())[0] for name in OPERATIONS]
    for place, one in enumerate(outputs):
        for other in outputs[:place]:
            assert not torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_heads_change_what_an_operation_computes(operation: str) -> None:
    two, four = (network_of(replace(LAYER, operation=operation, heads=heads)) for heads in (2, 4))
    if not operation.startswith("DSC"):  # its kernels are as many as its heads
        four.load_state_dict(two.state_dict())
    assert not torch.allclose(two(inputs_of())[0], four(inputs_of())[0], atol=1e-7)


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ({"feed_forward": 24}, 12 * (8 + 1 + 8)),
        ({"stacks": 3}, 2 * (12 * 12 + 12)),
        ({"operation": "SA-WMA"}, 8 * 8),
        ({"operation": "LT-DFT"}, -2 * (8 * 8 + 8)),
        ({"operation": "LT-DCT"}, -2 * (8 * 8 + 8)),
        # Half of the width attends; the other half: depthwise and pointwise convolution, kernels of one head, values.
        ({"operation": "DSC-5"}, -3 * (8 * 4 + 4) + (8 * 5) + (8 * 4 + 4) + (4 * 5 + 5) + (8 * 4 + 4)),
        ({"operation": "DSC-9"}, -3 * (8 * 4 + 4) + (8 * 9) + (8 * 4 + 4) + (4 * 9 + 9) + (8 * 4 + 4)),
    ],
)
def test_each_choice_adds_the_parameters_of_its_formula(change: dict[str, Any], more: int) -> None:
    assert parameters_of(replace(LAYER, **change)) - parameters_of(LAYER) == more


def test_layers_and_hidden_size_change_the_parameters() -> None:
    layer = 4 * (8 * 8 + 8) + (8 * 12 + 12) + (12 * 8 + 8) + 2 * 2 * 8
    assert parameters_of(LAYER, LAYER) - parameters_of(LAYER) == layer
    wide = 4 * (16 * 16 + 16) + (16 * 12 + 12) + (12 * 16 + 16) + 2 * 2 * 16
    ends = 20 * 6 + 2 * 6 + (6 * 16 + 16) + (16 * 2 + 2)
    assert parameters_of(LAYER, hidden=16) == ends + wide


@pytest.mark.parametrize("operation", OPERATIONS)
def test_padding_changes_nothing_of_the_real_tokens(operation: str) -> None:
    network = network_of(replace(LAYER, operation=operation), replace(LAYER, operation=operation))
    inputs = inputs_of()
    padded = torch.cat([torch.zeros(3, 5, dtype=torch.int64), inputs], dim=1)
    (alone, traces), (beside, others) = network.traced(inputs), network.traced(padded)
    torch.testing.assert_close(beside, alone)
    for trace, other in zip(traces, others, strict=True):
        torch.testing.assert_close(other.output[:, 5:], trace.output)
        torch.testing.assert_close(other.heads[:, :, 5:], trace.heads)


def test_a_sequence_of_padding_alone_has_a_finite_answer() -> None:
    network = network_of(*(replace(LAYER, operation=name) for name in OPERATIONS))
    assert network(torch.zeros(2, 9, dtype=torch.int64))[0].isfinite().all()


def test_the_order_of_tokens_matters() -> None:
    inputs = torch.arange(1, 10)[None]
    network = network_of(LAYER)
    assert not torch.allclose(network(inputs)[0], network(inputs.flip(1))[0], atol=1e-6)


def mixed(module: torch.nn.Module, values: Tensor) -> Any:
    return module.eval()(values, tokens_of(torch.ones(values.shape[:2], dtype=torch.bool)))


def of_heads(values: Tensor) -> Tensor:
    return values.reshape(*values.shape[:2], 2, 4).transpose(1, 2)


def test_self_attention_is_pytorchs_and_weighted_by_the_identity_the_same() -> None:
    torch.manual_seed(0)
    values, module = torch.randn(3, 5, 8), Attention(8, 8, heads=2, dropout=0.1)
    query, key, value = (of_heads(each(values)) for each in (module.query, module.key, module.value))
    torch.testing.assert_close(mixed(module, values).heads, F.scaled_dot_product_attention(query, key, value))
    weighted = Attention(8, 8, heads=2, dropout=0.1, weighted=True)
    weighted.load_state_dict(module.state_dict() | {"weight.weight": torch.eye(8)})
    torch.testing.assert_close(mixed(weighted, values).heads, mixed(module, values).heads)


def test_transforms_are_the_fourier_and_cosine_transforms_of_tokens_and_features() -> None:
    torch.manual_seed(0)
    values = torch.randn(3, 5, 8)
    fourier, cosine = (Transform(8, heads=2, kind=kind) for kind in ("DFT", "DCT"))
    expected = torch.fft.fft2(of_heads(fourier.input(values)), norm="ortho").real
    torch.testing.assert_close(mixed(fourier, values).heads, expected)
    heads = of_heads(cosine.input(values)).detach().numpy()
    found = mixed(cosine, values).heads.detach().numpy()
    np.testing.assert_allclose(found, scipy.fft.dctn(heads, axes=(2, 3), norm="ortho"), atol=1e-6)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_compute_in_the_precision_of_their_weights(operation: str) -> None:
    network, tokens = network_of(replace(LAYER, operation=operation)), torch.tensor([[3, 4, 5, 0], [6, 7, 8, 9]])
    single, double = network(tokens)[0], network.double()(tokens)[0]
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kernel", [5, 9])
def test_a_convolving_head_reads_two_spans_and_an_attending_one_everything(kernel: int) -> None:
    network = network_of(replace(LAYER, operation=f"DSC-{kernel}"))
    operation: Any = network.encoder_layers()[0].operation
    values = torch.randn(1, 25, 8, requires_grad=True)
    heads, attention = mixed(operation, values)
    assert attention.shape == (1, 1, 25, 25)
    reached = []
    for head in range(2):
        (gradient,) = torch.autograd.grad(heads[0, head, 12].sum(), values, retain_graph=True)
        reached.append(gradient[0].abs().sum(dim=1).nonzero().flatten().tolist())
    assert reached[0] == list(range(25))
    assert reached[1] == list(range(12 - kernel // 2, 13 + kernel // 2))


def test_one_pass_gives_heads_attention_and_their_gradients() -> None:
    network = network_of(LAYER, replace(LAYER, operation="LT-DFT", heads=4))
    inputs = inputs_of()
    inputs[0, :4] = 0
    outputs, (attending, transforming) = network.traced(inputs)
    torch.testing.assert_close(outputs, network(inputs)[0])
    assert (attending.heads.shape, transforming.heads.shape) == ((3, 2, 9, 4), (3, 4, 9, 2))
    assert transforming.attention is None
    assert attending.attention is not None
    torch.testing.assert_close(attending.attention.sum(dim=-1), torch.ones(3, 2, 9))
    assert not attending.attention[0, :, :, :4].any(), "nobody attends to padding"
    gradients = torch.autograd.grad(outputs.sum(), [attending.heads, transforming.heads])
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_the_linear_layers_of_a_layer_are_in_two_groups() -> None:
    (layer,) = network_of(replace(LAYER, operation="SA-WMA", stacks=3)).encoder_layers()
    assert [linear.out_features for linear in layer.operation_linears()] == [8] * 5
    assert [linear.out_features for linear in layer.feed_forward_linears()] == [12, 12, 12, 8]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_linear_layer_is_used_once(operation: str) -> None:
    (layer,) = (network := network_of(replace(LAYER, operation=operation))).encoder_layers()
    used: list[torch.nn.Module] = []
    linears = layer.operation_linears() + layer.feed_forward_linears()
    for linear in linears:
        linear.register_forward_hook(lambda module, *_: used.append(module))
    network(inputs_of())
    assert len(used) == len(linears) == len(set(used))


def test_costs_are_of_a_whole_sequence() -> None:
    network = network_of(LAYER)
    steps, hidden, embedding, width = 9, 8, 6, 12
    products = embedding * hidden + 4 * hidden * hidden + 2 * hidden * width + 2 * steps * hidden
    assert measures.forward_cost(network, SHAPE).flops == 2 * (steps * products + hidden * 2)
    longer = measures.forward_cost(network, replace(SHAPE, length=18))
    assert longer.activation_memory > 2 * measures.forward_cost(network, SHAPE).activation_memory
    assert measures.latency(network, SHAPE, Latency(warm_up=0, repetitions=3))["latency_of"] == "a sequence"
    memory = [measures.training_memory(network, SHAPE, Training(), 1, time_steps) for time_steps in (9, 18)]
    assert memory[0] < memory[1]


def test_vectors_are_encoded_and_read_at_any_length() -> None:
    network = network_of(LAYER, shape=SequenceShape(inputs=2, outputs=1, tokens=False, length=5))
    for steps in (5, 10):
        outputs, state = network(torch.rand(4, steps, 2))
        assert (outputs.shape, state) == ((4, 1, 1), None)


def test_a_drawing_goes_from_input_to_output_and_names_every_choice() -> None:
    graph = SPACE.graph(SPACE.genotype(Encoder(128, (LAYER_128, replace(LAYER_128, operation="LT-DFT", stacks=1)))))
    labels = [graph.nodes[node]["label"] for node in graph]
    assert labels == [
        *("input", "embed", "DSC-9 x 4", "add", "1024", "1024", "1024", "add"),
        *("LT-DFT x 4", "add", "1024", "add", "mean", "output"),
    ]
    assert [node for node in graph if graph.in_degree(node) == 2] == [3, 7, 9, 11]
    svg = drawing.svg(graph, "an encoder")
    for label in ("DSC-9 x 4", "LT-DFT x 4", "1024", "attention and convolution x heads"):
        assert label in svg


# --- the published table ---------------------------------------------------------------------------


def test_the_table_has_the_published_draws_and_scores(drawn: list[Genotype], shared_data: Path) -> None:
    if not (shared_data / "flexibert").is_dir():
        pytest.skip("the folder flexibert is not among the shared data")
    found = published(shared_data)
    assert [one.genotype for one in found] == drawn
    assert found[0].scores["glue"] == 74.73375
    assert found[0].scores["cola"] == 42.69
    for one in found:
        tasks = [score for task, score in one.scores.items() if task != "glue"]
        assert one.scores["glue"] == pytest.approx(np.mean(tasks))
        assert len(tasks) == 8


def test_a_missing_table_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"BERT_benchmark.json.gz: is missing; put it there by hand, from the repo"):
        published(tmp_path)


def test_a_damaged_table_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "flexibert").mkdir()
    (tmp_path / "flexibert/BERT_benchmark.json.gz").write_bytes(b"nothing")
    with pytest.raises(ProblemError, match="cannot be read as the benchmark of 500 transformers"):
        published(tmp_path)


# --- the search ------------------------------------------------------------------------------------


def request_of(history: Sequence[Evaluation], round: int, count: int = 4) -> Request:
    return Request(
        space=cast(Space, SMALL),
        objectives=["error", "flops"],
        history=list(history),
        pending=(),
        round=round,
        count=count,
        plan=Plan(rounds=9, proposals=count, lag=1, epochs=1),
        rng=partial(generator, 1),
    )


def evaluated(genotype: Genotype, round: int, slot: int, origin: str) -> Evaluation:
    """As if deep encoders made fewer errors."""
    depth, size = len(encoder_of(genotype).layers), sum(layer.feed_forward for layer in encoder_of(genotype).layers)
    proposal = Proposal(round=round, slot=slot, genotype=genotype, hash=SMALL.hash(genotype), epochs=1, origin=origin)
    values = {"error": 1 / depth + 1 / size, "flops": float(size)}
    return Evaluation(proposal=proposal, status="ok", objectives=values)


@pytest.mark.parametrize(
    "strategy",
    [
        Evolution(name="nsga2", population=4),
        AgeingEvolution(population=4, sample=2),
        LocalSearch(initial=4),
        Neuroevolution(population=4),
        KnownNetworks(),
        BayesianOptimization(name="bo"),
    ],
    ids=lambda strategy: strategy.name,
)
def test_strategies_search_the_space(strategy: Strategy) -> None:
    space = TransformerSpace(hidden=(8, 16), heads=(2, 4), feed_forward=(12, 24))
    assert strategy.needs <= space.operators()
    history: list[Evaluation] = []
    for round in range(3):
        for slot, suggestion in enumerate(strategy.propose(request_of(history, round))):
            history.append(evaluated(suggestion.genotype, round, slot, suggestion.origin))
    assert len(history) == (6 if isinstance(strategy, KnownNetworks) else 12)
    assert len({one.proposal.hash for one in history}) == len(history)


def reviews(folder: Path) -> Path:
    """A table whose texts with the word good are positive."""
    rng = np.random.default_rng(0)
    lines = []
    for number in range(80):
        words = [str(rng.choice(["film", "plot", "scene", "end"])) for _ in range(rng.integers(1, 8))]
        words.insert(int(rng.integers(len(words) + 1)), ["bad", "good"][number % 2])
        lines.append(f"{number % 2}\t{' '.join(words)}")
    path = folder / "reviews.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def experiment_of(folder: Path) -> Experiment:
    space = {"name": "transformer", "hidden": [8], "heads": [2], "feed_forward": [16], "stacks": [1], "layers": [2]}
    return parse(
        {
            "experiment": "reviews",
            "results": str(folder),
            "task": {"name": "labelled-text", "path": str(reviews(folder)), "length": 8},
            "space": {**space, "operations": ["LT-DFT", "DSC-3"], "embedding": 8, "dropout": 0.0},
            "strategies": ["random"],
            "objectives": ["error", "latency"],
            "training": {"learning_rate": 0.01, "batch_size": 8},
            "latency": {"repetitions": 3},
            "budget": {"rounds": 1, "proposals": 2, "jobs": 1, "epochs": 12},
            "finalists": {"count": 1, "repeats": 1, "epochs": 12},
            "resources": {"devices": ["cpu"]},
        },
        "reviews",
    )


def test_they_learn_and_a_finalist_is_exported_for_texts_of_any_length(tmp_path: Path) -> None:
    experiment = experiment_of(tmp_path)
    search = Search(experiment, "random", 1)
    write_json(experiment.folder.data, experiment.task.facts())
    loop.run_inline(search)
    loop.select_finalists(search)
    with loop.lazy_bench(experiment, finalists=True) as bench:
        loop.retrain_finalist(search, 0, bench)
    first, *_ = loop.read_history(search.folder, range(1))
    assert first.ok, first.reason
    assert first.wall_clock["latency_of"] == "a sequence"
    (finalist,) = loop.read_finalists(search)
    assert finalist.exported is not None
    assert float(finalist.exported.metrics["test_error"]) <= 0.1, (
        "a word decides; guessing is wrong in half of the texts"
    )

    export_finalists(search, [0])
    export = read_export(search, 0)
    assert export is not None
    assert export.status == "ok", export.reason
    folder = search.folder.model(0)
    card = json.loads((folder / "card.json").read_text())
    assert card["input"]["inputs"] == "int64 (n, time), n sequences of one length, any n and any length of at least 1"
    assert card["input"]["padding"] == "0 before shorter sequences, which has no effect"
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    with np.load(folder / "examples.npz") as examples:
        inputs, expected = examples["inputs"], examples["outputs"]
    padded = np.concatenate([np.zeros((len(inputs), 3), np.int64), inputs], axis=1)
    for given_ in (inputs, padded):
        (found,) = session.run(["outputs"], {"inputs": given_})
        np.testing.assert_allclose(found, expected, atol=1e-4)
