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
class SequenceShape:
    """What a network for sequences must accept and give."""

    inputs: int
    """Symbols, or numbers per time step."""
    outputs: int
    """Numbers per time step."""
    tokens: bool
    """Whether inputs are numbers of symbols; else they are vectors."""


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
