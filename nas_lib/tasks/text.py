"""Running text to be predicted token by token: the Penn Treebank, or text files of one's own."""

import gzip
import hashlib
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, StrictInt

from nas_lib.tasks.data import DataError, SequenceShape, TextData
from nas_lib.tasks.download import data_folder
from nas_lib.tasks.images import DataFolder
from nas_lib.tasks.sequences import SequenceTask

UNKNOWN = "<unk>"
END_OF_LINE = "<eos>"
PARTS = {"train": ("train",), "validation": ("valid", "dev"), "test": ("test",)}
"""Part -> words by one of which its file is recognised."""
FEWEST_TOKENS = 100


class RunningText(SequenceTask):
    """Language modelling: the next word or character of a running text.

    `loss` is in nats per token, over every token of a split but its first; `perplexity` is its exponential; `error` is
    the share of tokens that are not the ones expected most.
    """

    name: Literal["text"] = "text"
    path: Path | None = None
    """A folder with text files whose names contain `train`, `valid` or `dev`, and `test`; or one text file. They may be
    compressed as `.gz`. Relative to where the command runs. Default: the Penn Treebank (Mikolov's preparation), in the
    folder `ptb` of all data sets."""
    folder: DataFolder = None
    level: Literal["words", "characters"] = "words"
    """Tokens are what stands between blanks, or single characters; each line ends with the token `<eos>`."""
    vocabulary: StrictInt | None = Field(default=None, ge=2)
    """Keep so many of the tokens most frequent in the training text, among them `<unk>` for all others. Default:
    all."""
    train_tokens: StrictInt | None = Field(default=None, ge=FEWEST_TOKENS)
    """Train on so many tokens from the beginning of the training text. The vocabulary is that of the whole. Default:
    all."""
    validation_tokens: StrictInt | None = Field(default=None, ge=FEWEST_TOKENS)
    """Measure on so many tokens from the beginning of the validation text. Default: all."""
    held_out: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of the lines of a single file that is its test text, at its end, and as much before it for validation."""

    items = "tokens"
    stepwise = True
    measures = ("error", "loss", "perplexity")
    licence = "that of your text; no right to pass on the Penn Treebank is stated"
    training_defaults: ClassVar[Mapping[str, object]] = {
        "optimizer": "sgd",
        "learning_rate": 20.0,
        "schedule": "plateau",
        "plateau_factor": 0.25,
        "keep_best": True,
        "batch_size": 20,
        "steps": 35,
        "gradient_clip": 0.25,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "mixed_precision": False,
    }
    md5: ClassVar[Mapping[str, str]] = {
        "train": "f26c4b92c5fdc7b3f8c7cdcb991d8420",
        "validation": "aa0affc06ff7c36e977d7cd49e3839bf",
        "test": "8b80168b89c18661a38ef683c0dc3721",
    }
    """Of the files of the Penn Treebank, unpacked."""

    @property
    def source(self) -> str:
        """Where the text is."""
        return f"{self.name} {self.path or 'ptb'}"

    def for_search(self) -> TextData:
        """See `SequenceTask.for_search`."""
        return self._data("validation", None)

    def for_finalists(self) -> TextData:
        """See `SequenceTask.for_finalists`."""
        return self._data("test", "validation")

    def _data(self, held_out: str, validation: str | None) -> TextData:
        whole = self._tokens("train")
        words = vocabulary(whole, self.vocabulary, (UNKNOWN,))
        return TextData(
            train=_numbers(self._beginning("train", whole, self.train_tokens), words),
            held_out=self._split(held_out, words),
            validation=None if validation is None else self._split(validation, words),
            shape=SequenceShape(len(words), len(words), tokens=True),
            class_names=tuple(words),
        )

    def _split(self, part: str, words: Mapping[str, int]) -> np.ndarray:
        limit = self.validation_tokens if part == "validation" else None
        return _numbers(self._beginning(part, self._tokens(part), limit), words)

    def _beginning(self, part: str, tokens: list[str], limit: int | None) -> list[str]:
        if limit is not None and limit > len(tokens):
            raise DataError(f"{self._place}: {part}_tokens is {limit}, but there are only {len(tokens)}")
        return tokens[:limit]

    @property
    def _place(self) -> Path:
        return self.path or self._ptb()

    def _tokens(self, part: str) -> list[str]:
        lines = [line.strip() for line in self._lines(part)]
        split = [line.split() if self.level == "words" else list(line) for line in lines]
        tokens = [token for line in split for token in [*line, END_OF_LINE]]
        if len(tokens) < FEWEST_TOKENS:
            raise DataError(
                f"{self._place}: the {part} text has {len(tokens)} tokens, allowed are {FEWEST_TOKENS} or more"
            )
        return tokens

    def _lines(self, part: str) -> list[str]:
        if self.path is None:
            return read_text(part_file(self._ptb(), part, ".txt"), md5=self.md5[part]).splitlines()
        if self.path.is_dir():
            return read_text(part_file(self.path, part, ".txt")).splitlines()
        lines = read_text(self.path).splitlines()
        kept = int(len(lines) * self.held_out)
        ends = {"train": (0, len(lines) - 2 * kept), "validation": (len(lines) - 2 * kept, len(lines) - kept)}
        begin, end = ends.get(part, (len(lines) - kept, len(lines)))
        return lines[begin:end]

    def _ptb(self) -> Path:
        return data_folder(self.folder) / "ptb"


def part_file(folder: Path, part: str, suffix: str) -> Path:
    """The file of a part in a folder, by its name; `suffix` is with or without a further `.gz`.

    Raises:
        DataError: there is none, or more than one.
    """
    words = PARTS[part]
    try:
        names = [path for path in sorted(folder.iterdir()) if path.name.endswith((suffix, f"{suffix}.gz"))]
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be read ({error.strerror}); put the files *train*{suffix}, *valid*{suffix} and "
            f"*test*{suffix} there, also as .gz, or name others by `path`"
        ) from None
    found = [path for path in names if any(word in path.name for word in words)]
    if len(found) != 1:
        listed = ", ".join(path.name for path in found or names) or "none"
        raise DataError(
            f"{folder}: found {len(found)} files for {part} among {listed}; allowed is one whose name contains "
            f"{' or '.join(words)} and ends with {suffix} or {suffix}.gz"
        )
    return found[0]


def read_text(path: Path, *, md5: str | None = None) -> str:
    """The content of a UTF-8 file without a byte order mark, unpacked where its name ends with `.gz`.

    Raises:
        DataError: it cannot be read, or its content has another checksum.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if md5 is not None and (found := hashlib.md5(content, usedforsecurity=False).hexdigest()) != md5:
            raise DataError(f"{path}: md5 of its content is {found}, expected {md5}; put the published file there")
        return content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read as UTF-8 text ({reason})") from None


def vocabulary(tokens: Sequence[str], limit: int | None, special: tuple[str, ...]) -> dict[str, int]:
    """Token -> number: the special ones, then the most frequent others, by name where equally frequent."""
    counts = Counter(tokens)
    others = sorted((token for token in counts if token not in special), key=lambda token: (-counts[token], token))
    kept = others if limit is None else others[: limit - len(special)]
    return {token: number for number, token in enumerate([*special, *kept])}


def _numbers(tokens: Sequence[str], words: Mapping[str, int]) -> np.ndarray:
    unknown = words[UNKNOWN]
    return np.array([words.get(token, unknown) for token in tokens], np.int64)
