"""What networks are scored on: one batch, of data or of random tokens, and its loss."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from nas_lib.tasks.data import ImageData, SequenceData, TextData


@dataclass(frozen=True)
class Batch:
    """Inputs as a network takes them, and targets for scores that need a loss."""

    inputs: Tensor
    """(n, ...): images float32 (n, channels, height, width), symbols int64 (n, time), or vectors (n, time, features)."""
    targets: Tensor | None = None
    """Classes int64, or numbers float32: of every step (n, time, ...), or of the whole (n, ...)."""
    lengths: Tensor | None = None
    """int64 (n,): steps of each sequence that are no padding. Default: all."""

    def __len__(self) -> int:
        return len(self.inputs)

    def one(self, index: int) -> Batch:
        """A batch of one sample."""
        parts = (self.inputs, self.targets, self.lengths)
        inputs, targets, lengths = (None if part is None else part[index : index + 1] for part in parts)
        assert inputs is not None
        return replace(self, inputs=inputs, targets=targets, lengths=lengths)


def random_tokens(words: int, size: int, steps: int, rng: np.random.Generator) -> Batch:
    """Independent words with probability in proportion to 1 / rank (Zipf); the targets are the next ones.

    In place of text: scores of recurrent networks rank alike on both (Serianni and Kalita's data, measured).
    """
    shares = 1 / np.arange(1, words + 1)
    tokens = torch.from_numpy(rng.choice(words, (size, steps + 1), p=shares / shares.sum()))
    return Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())


def batch_of(data: ImageData | SequenceData | TextData, size: int, rng: np.random.Generator, steps: int = 35) -> Batch:
    """A random batch of training data: no more than there is, images normalised, pieces of `steps` tokens of a text."""
    if isinstance(data, TextData):
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


def answers(outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Outputs (k, ...) and the targets (k, ...) they are compared with: of all real steps, or of the last ones."""
    targets = batch.targets
    assert targets is not None
    features = targets.dim() - (0 if targets.is_floating_point() else -1)
    if outputs.dim() > features:
        return last(outputs, batch), targets
    if outputs.dim() == 3 and batch.lengths is not None:
        real = torch.arange(outputs.shape[1])[None] < batch.lengths[:, None]
        return outputs[real], targets[real]
    return outputs, targets


def last(outputs: Tensor, batch: Batch) -> Tensor:
    """Outputs (n, k) of the last real step, of outputs (n, time, k); those of a whole (n, k) as they are."""
    if outputs.dim() == 2:
        return outputs
    if batch.lengths is None or outputs.shape[1] == 1:
        return outputs[:, -1]
    return outputs[torch.arange(len(outputs)), batch.lengths - 1]


def loss_of(outputs: Tensor, batch: Batch) -> Tensor:
    """Mean cross-entropy of classes, mean squared error of numbers."""
    found, targets = answers(outputs, batch)
    if targets.is_floating_point():
        return F.mse_loss(found, targets)
    return F.cross_entropy(found.flatten(0, -2), targets.flatten())


def classes_of(batch: Batch) -> Tensor | None:
    """One class per sample, int64 (n,): of sequences with a class at every step that of the last; None without any."""
    targets = batch.targets
    if targets is None or targets.is_floating_point():
        return None
    return last(targets.unsqueeze(-1), batch).squeeze(-1) if targets.dim() == 2 else targets
