"""What networks are scored on: one batch, of data or of random tokens, and its loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from nas_lib.scores import ScoreError
from nas_lib.tasks.data import Data, ImageData, TextData


@dataclass(frozen=True)
class Batch:
    """Inputs as a network takes them, and targets for scores that need a loss."""

    inputs: Tensor
    """Images float32 (n, channels, height, width), symbols int64 (n, time), or vectors float32 (n, time, features)."""
    targets: Tensor | None = None
    """Classes int64, or numbers float32: of every step (n, time, ...), or of the whole (n, ...)."""
    lengths: Tensor | None = None
    """int64 (n,): steps of each sequence that are no padding. Default: all."""

    def __len__(self) -> int:
        return len(self.inputs)

    def one(self, index: int) -> Batch:
        """A batch of one sample."""
        inputs, targets, lengths = self.inputs, self.targets, self.lengths
        chosen = slice(index, index + 1)
        return Batch(
            inputs[chosen],
            None if targets is None else targets[chosen],
            None if lengths is None else lengths[chosen],
        )


def random_tokens(words: int, size: int, steps: int, rng: np.random.Generator) -> Batch:
    """Independent words with probability in proportion to 1 / rank (Zipf); the targets are the next ones.

    In place of text: scores of recurrent networks rank alike on both (Serianni and Kalita's data, measured).
    """
    shares = 1 / np.arange(1, words + 1)
    tokens = torch.from_numpy(rng.choice(words, (size, steps + 1), p=shares / shares.sum()))
    return Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())


def batch_of(data: Data, size: int, rng: np.random.Generator, steps: int = 35) -> Batch:
    """A random batch of training data: no more than there is, images normalised, pieces of `steps` tokens of a text.

    Raises:
        ScoreError: the text is shorter than a piece.
    """
    if isinstance(data, TextData):
        if len(data.train) <= steps:
            raise ScoreError(
                f"steps: found {steps}, allowed are fewer than the training text has tokens, {len(data.train)}"
            )
        starts = rng.integers(0, len(data.train) - steps, size)
        tokens = torch.from_numpy(data.train[starts[:, None] + np.arange(steps + 1)]).long()
        return Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
    chosen = rng.choice(len(data.train), min(size, len(data.train)), replace=False)
    if isinstance(data, ImageData):
        mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
        images = torch.from_numpy(data.train.images[chosen]).float() / 255
        return Batch((images - mean) / std, torch.from_numpy(data.train.labels[chosen]))
    inputs, targets = (torch.from_numpy(part[chosen]) for part in (data.train.inputs, data.train.targets))
    return Batch(inputs, targets, torch.from_numpy(data.train.lengths[chosen]))


def loss_of(outputs: Tensor, targets: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of classes, mean squared error of numbers; see `Batch` for the arguments.

    Of outputs of every step those of the real steps count, or of the last one where there is one target for the whole.
    """
    numbers = targets.is_floating_point()
    if outputs.dim() > targets.dim() + (0 if numbers else 1):
        outputs = last(outputs, lengths)
    elif outputs.dim() == 3 and lengths is not None:
        real = torch.arange(outputs.shape[1])[None] < lengths[:, None]
        outputs, targets = outputs[real], targets[real]
    if numbers:
        return F.mse_loss(outputs, targets)
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def last(outputs: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Outputs (n, k) of the last real step, of outputs (n, time, k); those of a whole (n, k) as they are."""
    if outputs.dim() == 2:
        return outputs
    if lengths is None or outputs.shape[1] == 1:
        return outputs[:, -1]
    return outputs[torch.arange(len(outputs)), lengths - 1]


def classes_of(batch: Batch) -> Tensor | None:
    """One class per sample, int64 (n,): of sequences with a class at every step that of the last; None without any."""
    targets = batch.targets
    if targets is None or targets.is_floating_point():
        return None
    return last(targets.unsqueeze(-1), batch.lengths).squeeze(-1) if targets.dim() == 2 else targets
