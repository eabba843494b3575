"""What a task hands to training: arrays, their shape and their splits."""

from dataclasses import dataclass

import numpy as np

from nas_lib.settings import UserError


class DataError(UserError):
    """Data is missing or damaged. The message is one clear line: which file, what was expected, what to do."""


@dataclass(frozen=True)
class Shape:
    """What a network for a task must accept and give."""

    channels: int
    height: int
    width: int
    """Pixels."""
    classes: int


@dataclass(frozen=True)
class Split:
    """Images (n, channels, height, width) as uint8 and labels (n,) as int64."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageData:
    """Splits of an image-classification task. What is trained on is `train`; what is measured on is `held_out`.

    For a search `held_out` is the validation split; for finalists `train` holds the training and the
    validation images and `held_out` is the test split.
    """

    train: Split
    held_out: Split
    shape: Shape
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Per channel, of the training split scaled to [0, 1]."""


@dataclass(frozen=True)
class SequenceShape:
    """What a network for a task of sequences must accept and give."""

    inputs: int
    """Symbols, or features of a time step."""
    outputs: int
    tokens: bool
    """Whether inputs are symbols, int64 (batch, time), and not features, float32 (batch, time, features)."""
    length: int | None = None
    """Time steps of a training sequence, where every one has as many."""
    padding: int | None = None
    """The symbol that fills shorter sequences up, which means nothing."""


@dataclass(frozen=True)
class Sequences:
    """Sequences of one length, padded.

    Targets of every step, float32 (n, time, outputs), of which the first `lengths` steps count; or of the last step
    alone: numbers, float32 (n, outputs), or classes, int64 (n,). Numbers are compared by squares, classes by
    cross-entropy.
    """

    inputs: np.ndarray
    """int64 (n, time) or float32 (n, time, features)."""
    targets: np.ndarray
    lengths: np.ndarray
    """int64 (n,): steps that are no padding. With targets of every step they are the first ones."""

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class SequenceData:
    """Splits of a task whose items are sequences.

    For a search `held_out` is the validation split and `validation` is None. Finalists are trained on the same
    `train`; their `validation` may decide on schedules, and `held_out` is the test split.
    """

    train: Sequences
    held_out: Sequences
    shape: SequenceShape
    class_names: tuple[str, ...] = ()
    validation: Sequences | None = None
    beyond: Sequences | None = None
    """Longer sequences than those trained on: what a network makes of them is reported, never minimised."""
    tolerance: float | None = None
    """A sequence is right if no output is further than this from its target; None: if every output is on the side of
    .5 on which its target is, 0 or 1."""


@dataclass(frozen=True)
class TextData:
    """Splits of a running text, each int64 (tokens,); otherwise as `SequenceData`."""

    train: np.ndarray
    held_out: np.ndarray
    shape: SequenceShape
    class_names: tuple[str, ...]
    """The vocabulary, in the order of the tokens."""
    validation: np.ndarray | None = None


Data = ImageData | SequenceData | TextData
"""What every task gives."""


def facts(task: str, items: str, search: Data, final: Data) -> dict[str, object]:
    """Sizes of the splits, shape and class names.

    Args:
        items: what sizes count; tokens have no class names but a vocabulary.
        search: training and validation split.
        final: training and test split.
    """
    return {
        "task": task,
        "items": items,
        "train": len(search.train),
        "validation": len(search.held_out),
        "test": len(final.held_out),
        "shape": {key: value for key, value in vars(search.shape).items() if value is not None},
        "class_names": [] if items == "tokens" else list(search.class_names),
    }
