"""What a network with attention offers to be scored: a forward pass that shows what each layer computes.

Any class with these methods will do; nothing is inherited.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn


class Trace(Protocol):
    """What one layer computed: tensors of the graph of the outputs, so that gradients of them exist."""

    @property
    def heads(self) -> Tensor:
        """(n, heads, time, size): what each head gives, before heads are projected together."""

    @property
    def attention(self) -> Tensor | None:
        """(n, attending heads, time, time): probabilities with which each token (row) attends to each; None of layers
        that do not attend."""

    @property
    def output(self) -> Tensor:
        """(n, time, hidden): what the layer gives."""


class Layer(Protocol):
    """One layer of it."""

    def operation_linears(self) -> Sequence[nn.Linear]:
        """The linear layers of the operation block, its projection included."""


@runtime_checkable
class Tracing(Protocol):
    """A network whose layers can be looked at."""

    def traced(self, inputs: Tensor) -> tuple[Tensor, Sequence[Trace]]:
        """Outputs as of `forward`, and one trace per layer."""

    def encoder_layers(self) -> Sequence[Layer]:
        """The layers, first to last."""
