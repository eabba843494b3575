"""Texts with labels: SST-2, IMDB, or tables of one's own."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, StrictInt, model_validator

from nas_lib.randomness import generator
from nas_lib.tasks.data import DataError, SequenceData, Sequences, SequenceShape
from nas_lib.tasks.download import Published, data_folder, read_matching
from nas_lib.tasks.images import DataFolder, class_quantiles
from nas_lib.tasks.sequences import SequenceTask
from nas_lib.tasks.text import UNKNOWN, part_file, read_text, vocabulary

PADDING = "<pad>"
TOKEN = re.compile(r"\w+|[^\w\s]")
"""A word, a number, or a sign."""


@dataclass(frozen=True)
class Rows:
    """Labels and texts of a table, line by line, texts as their words."""

    labels: list[str]
    texts: list[list[str]]

    def taken(self, indices: np.ndarray) -> "Rows":
        """Some of them."""
        return Rows([self.labels[index] for index in indices], [self.texts[index] for index in indices])


class LabelledText(SequenceTask):
    """Classification of texts: one label of a text, from what the network says at its last word.

    Texts are taken in small letters, words and signs apart, cut to `length` or padded before their beginning.
    `error` is the share of texts misclassified, `loss` the cross-entropy.
    """

    name: Literal["labelled-text"] = "labelled-text"
    corpus: Literal["sst2", "imdb"] = "sst2"
    """`sst2`: Stanford Sentiment Treebank, two classes, in the folder `sst2` of all data sets. `imdb`: 50,000 film
    reviews (Maas et al. 2011), downloaded to the folder `imdb`; a share of `held_out` of the official training texts is
    for validation. Neither is used where there is a `path`."""
    path: Path | None = None
    """A folder with tables whose names contain `train`, `valid` or `dev`, and `test` and end with `.tsv`, or one table;
    they may be compressed as `.gz`. Relative to where the command runs. Default: those of `corpus`."""
    folder: DataFolder = None
    header: bool = False
    """Whether the first line of a table names its columns. Columns are separated by tabs and never quoted."""
    label: StrictInt | str = 0
    """Column of the labels: its name where there is a header, else its number from 0."""
    text: StrictInt | str = 1
    """Column of the texts."""
    vocabulary: StrictInt = Field(default=10_000, ge=3)
    """Words kept, the most frequent ones of the training texts; padding and unknown words are two of them."""
    length: StrictInt = Field(default=40, ge=1)
    """Words of a text: longer ones lose their end, shorter ones are padded at their beginning."""
    train_texts: StrictInt | None = Field(default=None, ge=1)
    """Use so many training texts, classes in proportion; a larger number contains a smaller one's. Default: all."""
    held_out: float = Field(default=0.2, gt=0, lt=0.5)
    """Shares of a single table that are its test and its validation texts, or of the official training texts of `imdb`
    that are for validation, class by class."""
    split_seed: StrictInt = Field(default=0, ge=0)
    """Draws the texts of the splits of a single table or of `imdb`, and those of `train_texts`."""

    items = "texts"
    licence = "that of your texts; none is stated for SST-2; IMDB: none, the authors ask to be cited"
    training_defaults: ClassVar[Mapping[str, object]] = {
        "optimizer": "adam",
        "learning_rate": 0.001,
        "schedule": "constant",
        "batch_size": 50,
        "gradient_clip": 5.0,
        "weight_decay": 0.0,
        "mixed_precision": False,
    }
    md5: ClassVar[Mapping[str, str]] = {
        "train": "e258db73faab06778e38b1270129defe",
        "validation": "e28b978a6628b9f2438db9f5c0d910ce",
        "test": "12bb13c2113ca3af31c867d90e9bb9db",
    }
    """Of the tables of SST-2, unpacked."""
    imdb: ClassVar[Published] = Published(
        file="imdb/aclImdb_v1.tar.gz",
        urls=("https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",),
        md5="7c2ac02c03563afcf9b574c7e56c153a",
    )

    @model_validator(mode="after")
    def _one_source_and_two_columns(self) -> Self:
        if str(self.label) == str(self.text):
            raise ValueError(f"found column {self.label!r} as label and as text, allowed are different ones")
        if self.path is not None and self.corpus != "sst2":
            raise ValueError(f"found corpus {self.corpus!r} beside path, allowed is one of them")
        return self

    @property
    def source(self) -> str:
        """Where the texts are."""
        return f"{self.name} {self.path or self.corpus}"

    def for_search(self) -> SequenceData:
        """See `SequenceTask.for_search`."""
        return self._data("validation", None)

    def for_finalists(self) -> SequenceData:
        """See `SequenceTask.for_finalists`."""
        return self._data("test", "validation")

    def _data(self, held_out: str, validation: str | None) -> SequenceData:
        train = self._rows("train")
        classes = sorted(set(train.labels))
        if len(classes) < 2:
            raise DataError(f"{self._place}: the training texts have {len(classes)} labels, allowed are at least 2")
        train = self._limited(train, classes)
        words = vocabulary([word for text in train.texts for word in text], self.vocabulary, (PADDING, UNKNOWN))
        return SequenceData(
            train=self._encoded(train, classes, words),
            held_out=self._encoded(self._rows(held_out), classes, words),
            validation=None if validation is None else self._encoded(self._rows(validation), classes, words),
            shape=SequenceShape(len(words), len(classes), tokens=True, length=self.length, padding=words[PADDING]),
            class_names=tuple(classes),
        )

    @property
    def _place(self) -> Path:
        return self.path or data_folder(self.folder) / self.corpus

    def _limited(self, rows: Rows, classes: list[str]) -> Rows:
        if self.train_texts is None:
            return rows
        if self.train_texts > len(rows.texts):
            raise DataError(f"{self._place}: train_texts is {self.train_texts}, but there are only {len(rows.texts)}")
        order = np.argsort(self._quantiles(rows, "limit"), kind="stable")
        limited = rows.taken(np.sort(order[: self.train_texts]))
        missing = sorted(set(classes) - set(limited.labels))
        if missing:
            raise DataError(f"{self._place}: train_texts is {self.train_texts}, too few for a text with {missing[0]!r}")
        return limited

    def _quantiles(self, rows: Rows, purpose: str) -> np.ndarray:
        labels = np.unique(rows.labels, return_inverse=True)[1]
        return class_quantiles(labels, generator(self.split_seed, "labelled text", purpose))

    def _rows(self, part: str) -> Rows:
        if self.path is None and self.corpus == "imdb":
            rows = self._reviews("test" if part == "test" else "train")
            if part == "test":
                return rows
            validates = self._quantiles(rows, "split") < self.held_out
            return rows.taken(np.flatnonzero(validates == (part == "validation")))
        if self.path is None or self.path.is_dir():
            return self._table(part_file(self._place, part, ".tsv"), None if self.path else self.md5[part])
        rows = self._table(self.path)
        quantiles = self._quantiles(rows, "split")
        ends = {"test": (0, self.held_out), "validation": (self.held_out, 2 * self.held_out)}
        low, high = ends.get(part, (2 * self.held_out, 1))
        taken = rows.taken(np.flatnonzero((quantiles >= low) & (quantiles < high)))
        if not taken.texts:
            raise DataError(f"{self.path}: has {len(rows.texts)} texts, too few for a {part} split")
        return taken

    def _reviews(self, part: str) -> Rows:
        """An official part of IMDB: its archive has a file for each review, in a folder for each class."""
        files = read_matching(data_folder(self.folder), self.imdb, rf"aclImdb/{part}/(neg|pos)/\d+_\d+\.txt")
        texts = [tokens(content.decode().replace("<br />", " ")) for content in files.values()]
        return Rows([name.split("/")[2] for name in files], texts)

    def _table(self, path: Path, md5: str | None = None) -> Rows:
        lines = [line.split("\t") for line in read_text(path, md5=md5).split("\n")]
        if not any(map(any, lines)):
            raise DataError(f"{path}: has no texts")
        names = [name.strip() for name in lines[0]] if self.header else [str(number) for number in range(len(lines[0]))]
        columns = []
        for key, column in (("label", self.label), ("text", self.text)):
            if str(column) not in names:
                found = f"it has {', '.join(names)}, separated by tabs"
                raise DataError(f"{path}: has no column {key}: {column!r}; {found}")
            columns.append(names.index(str(column)))
        rows = [(number, line) for number, line in enumerate(lines, 1) if line != [""]][int(self.header) :]
        for number, line in rows:
            if len(line) <= max(columns):
                raise DataError(f"{path}: line {number} has {len(line)} columns, expected are {len(names)}")
            if not line[columns[0]].strip():
                raise DataError(f"{path}: line {number} has no label")
        if not rows:
            raise DataError(f"{path}: has no texts")
        label, text = columns
        table = Rows([line[label].strip() for _, line in rows], [tokens(line[text]) for _, line in rows])
        first = table.labels[0]
        if not self.header and table.labels.count(first) == 1 and len(table.texts[0]) == 1 < len(rows):
            seems = f"line {rows[0][0]} is of one word and has a label of its own, {first!r}"
            raise DataError(f"{path}: {seems}; where it names the columns, say `header: true`, else remove it")
        return table

    def _encoded(self, rows: Rows, classes: list[str], words: Mapping[str, int]) -> Sequences:
        unknown = set(rows.labels) - set(classes)
        if unknown:
            raise DataError(f"{self._place}: a label {min(unknown)!r} occurs that no training text has")
        inputs = np.full((len(rows.texts), self.length), words[PADDING], np.int64)
        lengths = np.zeros(len(rows.texts), np.int64)
        for row, text in enumerate(rows.texts):
            found = [words.get(word, words[UNKNOWN]) for word in text[: self.length]]
            lengths[row] = len(found)
            inputs[row, self.length - len(found) :] = found
        places = {label: place for place, label in enumerate(classes)}
        return Sequences(inputs, np.array([places[label] for label in rows.labels], np.int64), lengths)


def tokens(text: str) -> list[str]:
    """The words and signs of a text, in small letters."""
    return TOKEN.findall(text.lower())
