"""Texts: tokens, vocabularies and splits of running text and of labelled texts, and perplexity counted by hand."""

import gzip
import hashlib
import io
import math
import tarfile
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_lib.evaluation import text, training
from nas_lib.evaluation.candidate import Bench, evaluate
from nas_lib.evaluation.settings import Latency, Training
from nas_lib.records import Proposal, without_wall_clock
from nas_lib.tasks.data import DataError, SequenceShape, TextData
from nas_lib.tasks.labelled_text import LabelledText, tokens
from nas_lib.tasks.text import RunningText
from tests.recurrent import LSTMSpace


def write(folder: Path, **contents: str) -> Path:
    for name, content in contents.items():
        (folder / f"some.{name}.txt").write_text(content)
    return folder


@pytest.fixture
def own(tmp_path: Path) -> RunningText:
    """A text of one's own, with a word in the validation text that the training text lacks."""
    lines = "the cat sat\nthe dog sat\n" * 20
    return RunningText(path=write(tmp_path, train=lines, valid=lines + "the owl sat\n", test=lines))


def test_lines_become_words_and_an_end_of_line(own: RunningText) -> None:
    data = own.for_search()
    assert data.class_names == ("<unk>", "<eos>", "sat", "the", "cat", "dog"), "by frequency, then by name"
    assert [data.class_names[token] for token in data.train[:5]] == ["the", "cat", "sat", "<eos>", "the"]
    assert [data.class_names[token] for token in data.held_out[-4:]] == ["the", "<unk>", "sat", "<eos>"]
    assert data.shape == SequenceShape(6, 6, tokens=True)


def test_a_limited_vocabulary_keeps_the_most_frequent(own: RunningText) -> None:
    data = own.model_copy(update={"vocabulary": 4}).for_search()
    assert data.class_names == ("<unk>", "<eos>", "sat", "the")
    assert data.train[:4].tolist() == [3, 0, 2, 1]


def test_characters_can_be_tokens(own: RunningText) -> None:
    data = own.model_copy(update={"level": "characters"}).for_search()
    assert "".join(data.class_names[token] for token in data.train[:12]) == "the cat sat<eos>"


def test_limits_take_the_beginning_and_leave_the_vocabulary(own: RunningText) -> None:
    whole, limited = (
        own.for_search(),
        own.model_copy(update={"train_tokens": 100, "validation_tokens": 110}).for_search(),
    )
    assert np.array_equal(limited.train, whole.train[:100])
    assert np.array_equal(limited.held_out, whole.held_out[:110])
    assert limited.shape == whole.shape


@pytest.mark.parametrize(("limit", "count"), [("train_tokens", 160), ("validation_tokens", 164)])
def test_a_limit_beyond_the_text_is_one_clear_line(own: RunningText, limit: str, count: int) -> None:
    with pytest.raises(DataError, match=f"{limit} is 500, but there are only {count}$"):
        own.model_copy(update={limit: 500}).for_search()


def test_one_file_is_split_by_its_lines_in_order(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("\n".join(f"line {number} " + "x " * 20 for number in range(100)))
    task = RunningText(path=path)
    search, final = task.for_search(), task.for_finalists()
    assert [len(part) for part in (search.train, search.held_out, final.held_out)] == [23 * 80, 23 * 10, 23 * 10]
    assert np.array_equal(final.train, search.train)
    assert final.validation is not None
    assert np.array_equal(final.validation, search.held_out)


def missing_part(folder: Path) -> None:
    (folder / "some.valid.txt").unlink()


def two_of_a_kind(folder: Path) -> None:
    write(folder, train_again="a\n")


def too_short(folder: Path) -> None:
    write(folder, train="a b c\n")


def no_text(folder: Path) -> None:
    (folder / "some.train.txt").write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (missing_part, "found 0 files for validation among some.test.txt, some.train.txt; allowed is one"),
        (two_of_a_kind, "found 2 files for train among some.train.txt, some.train_again.txt"),
        (too_short, "the train text has 4 tokens, allowed are 100 or more"),
        (no_text, "cannot be read as UTF-8 text"),
    ],
)
def test_a_wrong_text_is_one_clear_line(own: RunningText, damage: Callable[[Path], None], found: str) -> None:
    assert own.path is not None
    damage(own.path)
    with pytest.raises(DataError) as error:
        own.for_search()
    assert found in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_data_sets_say_where_they_belong(tmp_path: Path) -> None:
    for task in (RunningText(folder=tmp_path), LabelledText(folder=tmp_path)):
        with pytest.raises(DataError, match=f"{tmp_path}/(ptb|sst2): cannot be read .*put the files"):
            task.for_search()


def test_another_text_is_not_taken_for_the_penn_treebank(tmp_path: Path) -> None:
    (tmp_path / "ptb").mkdir()
    (tmp_path / "ptb" / "ptb.train.txt.gz").write_bytes(gzip.compress(b"a b c\n" * 100))
    with pytest.raises(DataError, match="md5 of its content is"):
        RunningText(folder=tmp_path).for_search()


def test_the_penn_treebank_has_its_published_sizes(shared_data: Path) -> None:
    if not (shared_data / "ptb").is_dir():
        pytest.skip("the folder ptb is not among the shared data")
    facts = RunningText(folder=shared_data).facts()
    assert [facts[part] for part in ("train", "validation", "test")] == [929_589, 73_760, 82_430]
    assert facts["shape"] == {"inputs": 10_000, "outputs": 10_000, "tokens": True}


# --- batches and perplexity ------------------------------------------------------------------------


class Table(nn.Module):
    """Outputs depend on the present token and on how many the row has seen; the state is that number."""

    def __init__(self, symbols: int, depends_on_place: bool = False) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(symbols, symbols, generator=torch.Generator().manual_seed(0)))
        self.depends_on_place = depends_on_place
        self.seen: list[tuple[Tensor, Tensor | None]] = []

    def forward(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See the class."""
        self.seen.append((inputs, state))
        before = torch.zeros(len(inputs)) if state is None else state
        places = before[:, None] + torch.arange(inputs.shape[1])
        scale = 1 + places[..., None] if self.depends_on_place else 1
        return self.table[inputs] * scale, places[:, -1] + 1 + 0 * self.table.sum()


def some_text(length: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 5, size=length)


def on_device(length: int) -> text.DeviceText:
    return text.to_device(
        TextData(some_text(length), some_text(length), SequenceShape(5, 5, tokens=True), ()), torch.device("cpu")
    )


@pytest.mark.parametrize("length", [11, 101, 137])
@pytest.mark.parametrize("steps", [1, 4, 35])
def test_perplexity_is_over_every_token_but_the_first(length: int, steps: int) -> None:
    network, tokens = Table(5), some_text(length)
    measured = on_device(length).measure(network, "held_out", Training(steps=steps))
    table = network.table.detach().double().numpy()
    logs = table - np.log(np.exp(table).sum(axis=1, keepdims=True))
    expected = -sum(logs[before, after] for before, after in pairwise(tokens)) / (length - 1)
    assert measured["loss"] == pytest.approx(expected, rel=1e-5)
    assert measured["perplexity"] == pytest.approx(math.exp(expected), rel=1e-5)
    mistakes = sum(table[before].argmax() != after for before, after in pairwise(tokens))
    assert measured["error"] == pytest.approx(mistakes / (length - 1))


def test_the_state_is_carried_when_a_text_is_measured() -> None:
    network = Table(5, depends_on_place=True)
    data = on_device(101)
    by_steps = [data.measure(network, "held_out", Training(steps=steps))["loss"] for steps in (3, 10)]
    assert by_steps[0] == pytest.approx(by_steps[1], rel=1e-6)


def test_batches_follow_each_other_with_the_state_carried_and_detached() -> None:
    network, data = Table(5), on_device(62)
    settings = Training(batch_size=3, steps=8)
    for _ in range(2):  # every epoch begins with a zero state
        network.seen.clear()
        steps = list(data.steps(network, settings, torch.Generator()))
        rows = torch.cat([inputs for inputs, _ in network.seen], dim=1)
        assert torch.equal(rows, data.train[:60].view(3, 20))
        assert network.seen[0][1] is None
        carried = [state for _, state in network.seen[1:]]
        assert [float(state[0]) for state in carried if state is not None] == [8, 16]
        assert not any(state.requires_grad for state in carried if state is not None)
        assert (len(steps), sum(step.items for step in steps)) == (data.updates(settings), 60)
    wanted = data.train[1:61].view(3, 20)[:, :8].flatten()
    expected = nn.functional.cross_entropy(network.table[rows[:, :8]].flatten(0, 1), wanted)
    assert torch.equal(steps[0].loss, expected)


def text_bench(own: RunningText, **changes: Any) -> Bench:
    data = own.for_search()
    settings = {**own.training_defaults, "batch_size": 4, "steps": 5, "checkpoint_seconds": 0} | changes
    return Bench(
        space=cast(Any, LSTMSpace()),
        data=training.to_device(data, training.prepare_device("cpu", threads=1)),
        shape=data.shape,
        training=Training.model_validate(settings),
        latency=Latency(),
        objectives=["perplexity"],
        limits={},
        schedule_epochs=3,
    )


LSTM = Proposal(round=0, slot=0, genotype={"hidden": 8}, hash="h", epochs=3)


def test_a_killed_training_on_text_continues_to_the_same_result(own: RunningText, tmp_path: Path) -> None:
    class Killed(BaseException):
        """Stands for a process that dies."""

    def die(progress: training.Progress) -> None:
        if progress.epoch == 2:
            raise Killed

    bench = text_bench(own)
    whole = evaluate(bench, LSTM, seed=7, checkpoint=tmp_path / "whole.pt")
    with pytest.raises(Killed):
        evaluate(bench, LSTM, seed=7, checkpoint=tmp_path / "killed.pt", on_epoch=die)
    continued = evaluate(bench, LSTM, seed=7, checkpoint=tmp_path / "killed.pt")
    assert without_wall_clock(continued) == without_wall_clock(whole)
    assert whole.objectives["perplexity"] == min(whole.curves["validation_perplexity"])
    assert whole.objectives["perplexity"] < 3, "of six words, most follow from the one before"


def test_an_infinite_perplexity_is_a_divergence(own: RunningText, tmp_path: Path) -> None:
    result = evaluate(
        text_bench(own, learning_rate=1e6, gradient_clip=None), LSTM, seed=7, checkpoint=tmp_path / "c.pt"
    )
    assert result.reason == "diverged: the loss is not finite in epoch 1"


def test_more_rows_than_tokens_are_a_clear_failure(own: RunningText, tmp_path: Path) -> None:
    result = evaluate(text_bench(own, batch_size=160), LSTM, seed=7, checkpoint=tmp_path / "c.pt")
    assert result.reason == "batch_size is 160, allowed are fewer rows than the text has tokens"


# --- labelled texts --------------------------------------------------------------------------------

LINES = "0\tThis is a bad film, no. {0}!\n1\tThis is a good film, no. {0}!\n"
TABLE = "".join(LINES.format(number) for number in range(20))


@pytest.fixture
def table(tmp_path: Path) -> LabelledText:
    (tmp_path / "films.tsv").write_text(TABLE)
    return LabelledText(path=tmp_path / "films.tsv", length=6, vocabulary=9)


def test_words_and_signs_are_apart_and_small() -> None:
    assert tokens("It's 5.0 GOOD-ish...") == ["it", "'", "s", "5", ".", "0", "good", "-", "ish", ".", ".", "."]


def test_texts_are_cut_at_their_end_and_padded_at_their_beginning(table: LabelledText) -> None:
    data = table.for_search()
    assert data.shape == SequenceShape(9, 2, tokens=True, length=6, padding=0)
    assert data.train.inputs.shape == (24, 6)
    long = table.model_copy(update={"length": 12}).for_search().train.inputs
    assert (long[:, :2] == 0).all()
    assert np.array_equal(long[:, 3:9], data.train.inputs) or np.array_equal(long[:, 2:8], data.train.inputs)


def test_one_table_is_split_class_by_class(table: LabelledText) -> None:
    search, final = table.for_search(), table.for_finalists()
    assert [np.bincount(part.targets).tolist() for part in (search.train, search.held_out, final.held_out)] == [
        [12, 12], [4, 4], [4, 4],
    ]  # fmt: skip
    assert final.validation is not None
    assert np.array_equal(final.validation.inputs, search.held_out.inputs)
    limited = table.model_copy(update={"train_texts": 6}).for_search()
    assert np.bincount(limited.train.targets).tolist() == [3, 3]


def test_columns_are_named_by_a_header(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("id\treview\tstars\n" + "1\tfine thing\tup\n2\tbad thing\tdown\n" * 10)
    data = LabelledText(path=tmp_path / "t.tsv", header=True, label="stars", text="review").for_search()
    assert data.class_names == ("down", "up")
    with pytest.raises(DataError, match="has no column label: 'mood'; it has id, review, stars"):
        LabelledText(path=tmp_path / "t.tsv", header=True, label="mood", text="review").for_search()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", "has no texts"),
        ("\n\n", "has no texts"),
        ("0,a\n", "has no column text: 1; it has 0, separated by tabs"),
        ("0\ta\n \tb\n", "line 2 has no label"),
        ("0\ta\n1\n", "line 2 has 1 columns, expected are 2"),
        (
            "label\tsentence\n" + "0\ta\n1\tb\n" * 9,
            "line 1 is of one word and has a label of its own, 'label'; where it names",
        ),
        ("0\ta\n" * 9, "the training texts have 1 labels, allowed are at least 2"),
    ],
)
def test_a_wrong_table_is_one_clear_line(tmp_path: Path, content: str, found: str) -> None:
    (tmp_path / "t.tsv").write_text(content)
    with pytest.raises(DataError) as error:
        LabelledText(path=tmp_path / "t.tsv").for_search()
    assert found in str(error.value)
    assert "\n" not in str(error.value)


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text(TABLE, encoding="utf-8-sig")
    assert LabelledText(path=tmp_path / "t.tsv").for_search().class_names == ("0", "1")
    (tmp_path / "t.txt").write_text("a b\n" * 500, encoding="utf-8-sig")
    assert RunningText(path=tmp_path / "t.txt").for_search().class_names == ("<unk>", "<eos>", "a", "b")


def test_a_column_is_either_label_or_text() -> None:
    with pytest.raises(ValueError, match="found column 1 as label and as text, allowed are different ones"):
        LabelledText(label=1)


def test_labels_that_were_never_trained_are_refused(tmp_path: Path) -> None:
    for part, labels in (("train", "ab"), ("dev", "abc"), ("test", "ab")):
        (tmp_path / f"x.{part}.tsv").write_text("".join(f"{label}\tsome text\n" for label in labels))
    with pytest.raises(DataError, match="a label 'c' occurs that no training text has"):
        LabelledText(path=tmp_path).for_search()


def test_sst2_has_its_published_sizes(shared_data: Path) -> None:
    if not (shared_data / "sst2").is_dir():
        pytest.skip("the folder sst2 is not among the shared data")
    facts = LabelledText(folder=shared_data).facts()
    assert [facts[part] for part in ("train", "validation", "test")] == [67_349, 872, 1_821]
    assert facts["class_names"] == ["0", "1"]


@pytest.fixture
def reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabelledText:
    """The task of IMDB with an archive of the same layout, twenty reviews a class in each official part."""
    folder = tmp_path / "imdb"
    folder.mkdir()
    with tarfile.open(folder / "aclImdb_v1.tar.gz", "w:gz") as archive:
        for part, kind, number in product(("test", "train"), ("pos", "neg", "unsup"), range(20)):
            content = f"{part} {kind}<br /><br />number {number}".encode()
            member = tarfile.TarInfo(f"aclImdb/{part}/{kind}/{number}_{7 if kind == 'pos' else 2}.txt")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    md5 = hashlib.md5((folder / "aclImdb_v1.tar.gz").read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(LabelledText, "imdb", replace(LabelledText.imdb, md5=md5))
    return LabelledText(corpus="imdb", folder=tmp_path, length=6, held_out=0.25)


def test_reviews_have_an_official_test_split_and_validation_texts_from_the_training_ones(reviews: LabelledText) -> None:
    search, final = reviews.for_search(), reviews.for_finalists()
    assert search.class_names == ("neg", "pos")
    assert [len(split.inputs) for split in (search.train, search.held_out, final.held_out)] == [30, 10, 40]
    assert np.array_equal(final.train.inputs, search.train.inputs)
    assert final.validation is not None and np.array_equal(final.validation.inputs, search.held_out.inputs)
    assert np.bincount(search.held_out.targets).tolist() == [5, 5]
    read = [text.tobytes() for split in (search.train, search.held_out) for text in split.inputs]
    assert len(set(read)) > 30, "the two splits have different texts"


def test_a_damaged_archive_of_reviews_is_one_clear_line(reviews: LabelledText, tmp_path: Path) -> None:
    (tmp_path / "imdb" / "aclImdb_v1.tar.gz").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"aclImdb_v1.tar.gz: md5 is .*, expected .*; remove it to have it downloaded"):
        reviews.for_search()


def test_reviews_and_a_table_of_ones_own_are_not_asked_for_at_once() -> None:
    with pytest.raises(ValueError, match="found corpus 'imdb' beside path, allowed is one of them"):
        LabelledText(corpus="imdb", path=Path("mine.tsv"))
