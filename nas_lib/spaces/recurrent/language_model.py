"""The language model in which NAS-Bench-NLP trained its recipes."""

from __future__ import annotations

from torch import nn

from nas_lib.spaces.recurrent.cell import Cell
from nas_lib.spaces.recurrent.network import RecurrentNetwork
from nas_lib.tasks.data import SequenceShape

EMBEDDING = 0.1
"""Weights of the embedding, which is the decoder too, start in +- this."""


def language_model(
    cell: Cell, words: int = 10_000, embedding: int = 400, hidden: int = 600, layers: int = 3
) -> RecurrentNetwork:
    """Layers of one recipe, of size `hidden`, the last of size `embedding`; the decoder has the embedding's weights.

    Sizes are those of the benchmark (Klyuchnikov et al. 2022). Weights and biases of the layers start uniform in
    +- 1 / sqrt(size of the layer), the embedding, drawn after them, uniform in +- 0.1. Dropout there was not part of
    what is searched, and there is none here.

    Raises:
        CellError: the cell reads x other than through linear blocks, which sizes that differ do not allow.
    """
    shape = SequenceShape(inputs=words, outputs=words, tokens=True)
    network = RecurrentNetwork(cell, shape, hidden, layers, encoded=embedding)
    network.decoder.weight = network.encoder.weight
    nn.init.uniform_(network.decoder.weight, -EMBEDDING, EMBEDDING)
    return network
