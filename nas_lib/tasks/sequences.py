"""Tasks for recurrent networks: what they have in common, and those whose sequences are made by rule."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, StrictInt

from nas_lib.randomness import generator
from nas_lib.settings import Settings
from nas_lib.tasks.data import SequenceData, Sequences, SequenceShape, TextData, facts


class SequenceTask(Settings, ABC):
    """What every task of sequences offers. Finalists are trained on the training split alone: the validation split
    decides on their schedule, and the test split is read once, at the end."""

    name: str

    modality: ClassVar[str] = "sequences"
    items: ClassVar[str] = "sequences"
    """What the sizes of its splits count."""
    measures: ClassVar[tuple[str, ...]] = ("error", "loss")
    """What is measured on a split and can be an objective."""
    finalists_validate: ClassVar[bool] = True
    stepwise: ClassVar[bool] = False
    """Whether an answer is due at every step, of what came so far; else one of the whole sequence."""
    licence: ClassVar[str] = "made by rule"
    training_defaults: ClassVar[Mapping[str, object]] = {}
    """Settings of `training` where they are not given."""

    @property
    def source(self) -> str:
        """What an error message calls the data."""
        return self.name

    @abstractmethod
    def for_search(self) -> SequenceData | TextData:
        """Training and validation split; the test split is not read. Raises DataError."""

    @abstractmethod
    def for_finalists(self) -> SequenceData | TextData:
        """Training, validation and test split. Raises DataError."""

    def facts(self) -> dict[str, object]:
        """Sizes of the splits, shape and class names; reads and checks all of the data. Raises DataError."""
        return facts(self.name, self.items, self.for_search(), self.for_finalists())


SMALL_ADAM: Mapping[str, object] = {
    "optimizer": "adam",
    "learning_rate": 0.005,
    "schedule": "constant",
    "batch_size": 64,
    "gradient_clip": 1.0,
    "weight_decay": 0.0,
    "mixed_precision": False,
}
"""Defaults of training on data made by rule."""
END = "T"
"""The symbol that says that a string may be over; it is a target only."""
BRACKETS = {"(": ")", "[": "]"}


class FormalLanguage(SequenceTask):
    """Strings of a formal language: at every symbol the network says which symbols may come next.

    Inputs are one-hot over the symbols and the end T, targets k-hot over the same. `error` is the share of strings of
    which not every answer is right (threshold .5), `loss` the squared error, a mean over the symbols of the strings and
    the outputs. Both are measured of longer strings too, `generalisation_error` and `generalisation_loss`, and never
    minimised.
    """

    name: Literal["formal-language"] = "formal-language"
    language: Literal["anbncn", "anbmbman", "dyck-2"] = "anbncn"
    """`anbncn`: a^n b^n c^n (Suzgun et al. 2019). `anbmbman`: a^n b^m B^m A^n, two counters, the second within the
    first. `dyck-2`: well-formed strings of n pairs of ( ) and [ ], open at most `depth` deep."""
    strings: StrictInt = Field(default=500, ge=1)
    """Training strings, drawn with n (and m) uniform in 1 .. `longest`."""
    validation_strings: StrictInt = Field(default=100, ge=1)
    """Validation strings, drawn in the same way."""
    longest: StrictInt = Field(default=10, ge=1, le=1000)
    """Largest n (and m) of training, validation and test strings. The test strings are each n (and m) once; of
    `dyck-2` ten strings of each."""
    beyond: StrictInt = Field(default=5, ge=1, le=1000)
    """The longer strings have n (and m) from `longest` + 1 to `longest` + `beyond`, each once; of `dyck-2` ten of
    each."""
    depth: StrictInt = Field(default=4, ge=1)
    """Brackets of `dyck-2` that may be open at the same time."""
    split_seed: StrictInt = Field(default=0, ge=0)
    """Draws the strings."""

    stepwise = True
    training_defaults = SMALL_ADAM

    @property
    def source(self) -> str:
        """The language."""
        return f"{self.name} {self.language}"

    @property
    def symbols(self) -> str:
        """The symbols of its strings, the end last."""
        return {"anbncn": "abc", "anbmbman": "abBA", "dyck-2": "()[]"}[self.language] + END

    def for_search(self) -> SequenceData:
        """See `SequenceTask.for_search`."""
        return self._data(self._drawn("validation", self.validation_strings), None)

    def for_finalists(self) -> SequenceData:
        """See `SequenceTask.for_finalists`."""
        return self._data(self._each("test", 1, self.longest), self._drawn("validation", self.validation_strings))

    def _data(self, held_out: list[str], validation: list[str] | None) -> SequenceData:
        symbols = self.symbols
        steps = max(map(len, [*self._drawn("train", self.strings), *held_out, *(validation or [])]))
        beyond = self._each("beyond", self.longest + 1, self.longest + self.beyond)
        return SequenceData(
            train=self._encoded(self._drawn("train", self.strings), steps),
            held_out=self._encoded(held_out, steps),
            validation=None if validation is None else self._encoded(validation, steps),
            beyond=self._encoded(beyond, max(map(len, beyond))),
            shape=SequenceShape(len(symbols), len(symbols), tokens=False),
            class_names=tuple(symbols),
        )

    def _drawn(self, purpose: str, count: int) -> list[str]:
        rng = generator(self.split_seed, "formal language", self.language, purpose)
        sizes = rng.integers(1, self.longest + 1, size=(count, 2)).tolist()
        return [self._string(n, m, rng) for n, m in sizes]

    def _each(self, purpose: str, low: int, high: int) -> list[str]:
        rng = generator(self.split_seed, "formal language", self.language, purpose)
        numbers = range(low, high + 1)
        seconds = {"anbncn": [0], "anbmbman": numbers, "dyck-2": range(10)}[self.language]
        return [self._string(n, m, rng) for n in numbers for m in seconds]

    def _string(self, n: int, m: int, rng: np.random.Generator) -> str:
        if self.language == "anbncn":
            return "a" * n + "b" * n + "c" * n
        return "a" * n + "b" * m + "B" * m + "A" * n if self.language == "anbmbman" else dyck(n, self.depth, rng)

    def _encoded(self, strings: list[str], steps: int) -> Sequences:
        symbols = self.symbols
        inputs = np.zeros((len(strings), steps, len(symbols)), np.float32)
        targets = np.zeros_like(inputs)
        for row, string in enumerate(strings):
            for step, (symbol, following) in enumerate(zip(string, self.following(string), strict=True)):
                inputs[row, step, symbols.index(symbol)] = 1
                targets[row, step, [symbols.index(other) for other in following]] = 1
        return Sequences(inputs, targets, np.array([len(string) for string in strings], np.int64))

    def following(self, string: str) -> list[str]:
        """The symbols that may come after each symbol of a string of the language, T where it may be over."""
        if self.language == "dyck-2":
            return _following_brackets(string, self.depth)
        known = string + END
        # As long as the counted symbols go on, nobody can know when they end.
        open_ended = {"anbncn": {"a": "ab"}, "anbmbman": {"a": "ab", "b": "bB"}}[self.language]
        return [open_ended.get(symbol, known[step + 1]) for step, symbol in enumerate(string)]


def dyck(pairs: int, depth: int, rng: np.random.Generator) -> str:
    """A well-formed string of two kinds of brackets: opened or closed with equal chances where both are possible."""
    string, stack, left = "", "", pairs
    while left or stack:
        if left and (not stack or (len(stack) < depth and rng.random() < 0.5)):
            bracket = list(BRACKETS)[rng.integers(2)]
            string, stack, left = string + bracket, stack + bracket, left - 1
        else:
            string, stack = string + BRACKETS[stack[-1]], stack[:-1]
    return string


def _following_brackets(string: str, depth: int) -> list[str]:
    found, stack = [], ""
    for bracket in string:
        stack = stack + bracket if bracket in BRACKETS else stack[:-1]
        opening = "".join(BRACKETS) if len(stack) < depth else ""
        found.append(opening + (BRACKETS[stack[-1]] if stack else END))
    return found


class Adding(SequenceTask):
    """The adding problem (Hochreiter and Schmidhuber 1997): the sum of two marked numbers far apart in a long sequence.

    Each step has a number from 0 to 1 and a mark; one step of the first half and one of the second are marked. The
    answer is that of the last step. `loss` is the squared error, `error` the share of sequences of which it is off by
    more than .04. Both are measured of sequences twice as long too, `generalisation_error` and `generalisation_loss`.
    """

    name: Literal["adding"] = "adding"
    steps: StrictInt = Field(default=50, ge=2, le=10_000)
    """Length of a sequence."""
    sequences: StrictInt = Field(default=2000, ge=1)
    """Training sequences."""
    validation_sequences: StrictInt = Field(default=500, ge=1)
    """Validation sequences; the test split has as many."""
    split_seed: StrictInt = Field(default=0, ge=0)
    """Draws the sequences."""

    training_defaults = SMALL_ADAM

    def for_search(self) -> SequenceData:
        """See `SequenceTask.for_search`."""
        return self._data("validation", None)

    def for_finalists(self) -> SequenceData:
        """See `SequenceTask.for_finalists`."""
        return self._data("test", "validation")

    def _data(self, held_out: str, validation: str | None) -> SequenceData:
        count = self.validation_sequences
        return SequenceData(
            train=self._drawn("train", self.sequences, self.steps),
            held_out=self._drawn(held_out, count, self.steps),
            validation=None if validation is None else self._drawn(validation, count, self.steps),
            beyond=self._drawn("beyond", count, 2 * self.steps),
            shape=SequenceShape(inputs=2, outputs=1, tokens=False, length=self.steps),
            tolerance=0.04,
        )

    def _drawn(self, purpose: str, count: int, steps: int) -> Sequences:
        rng = generator(self.split_seed, "adding", purpose)
        values, rows = rng.random((count, steps), dtype=np.float32), np.arange(count)
        marked = rng.integers(steps // 2, size=count), rng.integers(steps // 2, steps, size=count)
        marks = np.zeros_like(values)
        for places in marked:
            marks[rows, places] = 1
        return Sequences(
            inputs=np.stack([values, marks], axis=2),
            targets=(values * marks).sum(axis=1, keepdims=True),
            lengths=np.full(count, steps, np.int64),
        )
