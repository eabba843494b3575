"""Published results of transformers: 500 encoders pretrained and tested on GLUE (Serianni and Kalita 2023)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_lib.problems.known import there
from nas_lib.problems.problem import ProblemError
from nas_lib.records import Genotype
from nas_lib.spaces.transformer.encoder import Encoder, Layer
from nas_lib.spaces.transformer.space import TransformerSpace

SPACE = TransformerSpace()
"""What they were drawn from."""


@dataclass(frozen=True)
class Published:
    """One encoder and what became of it."""

    genotype: Genotype
    """In `SPACE`."""
    scores: Mapping[str, float]
    """Task -> development score in percent, higher is better: cola (Matthews correlation), mnli, mrpc, qnli, qqp, rte,
    sst (accuracy), sts (Pearson correlation), and `glue`, the mean of the eight. Exactly 0 where fine-tuning failed."""
    seconds: float
    """Time of its training, on a TPU."""


def published(folder: Path | None = None) -> list[Published]:
    """All 500, in the order they were drawn in; 9 of them repeat an earlier one with scores of their own.

    As they were trained the operations had no effect, and the first feed-forward layer was 4 times as wide as the
    hidden size: see docs/transformers.md.

    Args:
        folder: of all data sets, as in configurations.

    Raises:
        ProblemError: the table is missing or damaged.
    """
    path = there(
        folder,
        "flexibert/BERT_benchmark.json.gz",
        "the repository aaronserianni/training-free-nas (data/BERT_benchmark.json, compressed)",
    )
    try:
        entries = json.loads(gzip.decompress(path.read_bytes()))
        return [
            Published(
                SPACE.genotype(_encoder(entry["hparams"]["model_hparam_overrides"])),
                {task: float(score) for task, score in entry["scores"].items()},
                float(entry["time_to_train"]),
            )
            for entry in entries
        ]
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProblemError(f"{path}: cannot be read as the benchmark of 500 transformers ({error})") from None


def _encoder(overrides: Mapping[str, Any]) -> Encoder:
    """The encoder of an entry."""
    layers = [
        Layer(
            operation=f"{layer['operation_type']}-{layer['operation_parameter']}",
            heads=layer["num_operation_heads"],
            feed_forward=layer["feed_forward_dimension"],
            stacks=layer["num_feed_forward"],
        )
        for layer in overrides["nas_config"]["encoder_layers"]
    ]
    return Encoder(overrides["hidden_size"], tuple(layers))
