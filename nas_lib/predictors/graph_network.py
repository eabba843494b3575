"""A small graph neural network ensemble, for hundreds of measured architectures.

Every label of a node has a vector, which is learnt. In each layer a node takes up the vectors of the nodes before and
after it (message passing; Gilmer et al. 2017, with the directions apart). The sum over all nodes foretells the
objective. The members of the ensemble are trained at once, each from another start.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from nas_lib.predictors.gene_process import Values, warp
from nas_lib.randomness import single_thread
from nas_lib.spaces.graphs import Graphs

if TYPE_CHECKING:
    from torch import Generator, Tensor

MEMBERS = 4
LAYERS = 3
WIDTH = 24
"""Of the vectors of nodes."""
STEPS = 250
"""Of training, whatever the number of architectures."""
BATCH = 64
"""Architectures of a step."""
RATE = 1e-2
"""Learning rate at the beginning; it falls to 0 as a cosine does."""
DECAY = 1e-3
"""Weight decay (AdamW)."""


class GraphNetwork:
    """The ensemble of one objective: scikit-learn's `fit` and `predict`, on graphs in chunks."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def fit(self, chunks: Iterable[Graphs], targets: Values) -> GraphNetwork:
        """Learn from n architectures and their targets (n,), smaller is better."""
        import torch

        parts = list(chunks)
        graphs = Graphs(np.concatenate([part.labels for part in parts]), np.concatenate([part.edges for part in parts]))
        self._words = np.unique(graphs.labels[graphs.labels >= 0])
        self._nodes = float(max((graphs.labels >= 0).sum(axis=1).mean(), 1.0))
        self._warp = warp("soft", targets)
        warped = self._warp.of(targets)
        self._centre, self._scale = float(warped.mean()), float(warped.std()) or 1.0
        wanted = torch.tensor((warped - self._centre) / self._scale, dtype=torch.float32)
        draws = torch.Generator().manual_seed(self.seed)
        with single_thread():
            places, edges = self._tensors(graphs)
            self._weights = [weight.requires_grad_() for weight in _initial(len(self._words), draws)]
            optimiser = torch.optim.AdamW(self._weights, lr=RATE, weight_decay=DECAY)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
            for _ in range(STEPS):
                some = torch.randperm(len(wanted), generator=draws)[:BATCH]
                loss = ((self._forward(places[some], edges[some]) - wanted[some]) ** 2).mean(dim=1).sum()
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
        return self

    def predict(self, chunks: Iterable[Graphs]) -> Values:
        """Targets (n,): the mean of the members."""
        return np.asarray(self.members(chunks).mean(axis=0))

    def members(self, chunks: Iterable[Graphs]) -> Values:
        """What every member predicts, shape (members, n)."""
        import torch

        with single_thread(), torch.no_grad():
            found = [self._forward(*self._tensors(graphs)).numpy() for graphs in chunks]
        return self._warp.back(np.concatenate(found, axis=1).astype(float) * self._scale + self._centre)

    def _tensors(self, graphs: Graphs) -> tuple[Tensor, Tensor]:
        """Per node the number of its label: from 2, 1 if never seen, 0 for no node (n, v); the edges (n, v, v)."""
        import torch

        places = np.minimum(np.searchsorted(self._words, graphs.labels), len(self._words) - 1)
        numbers = np.where(self._words[places] == graphs.labels, places + 2, (graphs.labels >= 0).astype(np.int64))
        return torch.from_numpy(numbers), torch.from_numpy(graphs.edges).float()

    def _forward(self, numbers: Tensor, edges: Tensor) -> Tensor:
        """Standardised targets (members, n)."""
        import torch

        vectors, *layers, direct, hidden, last = self._weights
        present = (numbers > 0).float()[None, :, :, None]
        state = vectors[:, numbers] * present
        shape = state.shape
        for layer in layers:
            around = torch.cat([state, edges.transpose(1, 2) @ state, edges @ state], dim=-1)
            mixed = (around.reshape(MEMBERS, -1, 3 * WIDTH) @ layer).reshape(shape)
            state = (state + torch.relu(torch.nn.functional.layer_norm(mixed, (WIDTH,)))) * present
        pooled = state.sum(dim=2) / self._nodes
        return (pooled @ direct + torch.relu(pooled @ hidden) @ last)[..., 0]


def _initial(words: int, draws: Generator) -> list[Tensor]:
    """Vectors of labels, weights of layers, and those of what follows the sum, each for all members."""
    import torch

    def drawn(*shape: int, scale: float) -> Tensor:
        return torch.randn(MEMBERS, *shape, generator=draws) * scale

    vectors = drawn(words + 2, WIDTH, scale=1.0)
    vectors[:, :2] = 0  # no node, and a label that was never seen
    layers = [drawn(3 * WIDTH, WIDTH, scale=(3 * WIDTH) ** -0.5) for _ in range(LAYERS)]
    readout = [drawn(WIDTH, columns, scale=WIDTH**-0.5) for columns in (1, WIDTH, 1)]
    return [vectors, *layers, *readout]
