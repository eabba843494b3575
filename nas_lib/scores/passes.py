"""Forward passes of networks, and what they show on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nas_lib.scores.attention import Trace, Tracing
from nas_lib.scores.formulas import kernel_of
from nas_lib.spaces.recurrent.network import CellLayer, RecurrentNetwork

THRESHOLDS: Mapping[Any, float] = {
    **dict.fromkeys((torch.relu, Tensor.relu, F.relu, F.leaky_relu, F.relu6, F.elu, F.gelu, F.silu), 0.0),
    **dict.fromkeys((torch.tanh, Tensor.tanh), 0.0),
    **dict.fromkeys((torch.sigmoid, Tensor.sigmoid), 0.5),
}
"""Activation function -> the output from which on its bit is 1: where its input is positive."""
COLUMNS = 1_000_000
"""Bits of a sample that are collected before their kernel is added up."""
WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Layers whose outputs the Fisher score reads."""


class NotApplicableError(Exception):
    """A score does not apply to a network or batch; the message says why in one line."""


@dataclass
class Watch:
    """What is collected during a forward pass, beside what networks give."""

    codes: bool = False
    """Whether the kernel of activation codes is."""
    maps: bool = False
    """Whether outputs of layers with weights are."""
    kernel: Tensor | None = None
    """(n, n): bits that two samples have in common."""
    outputs: dict[nn.Module, list[Tensor]] = field(default_factory=dict)
    """Layer with weights -> its outputs, one per call, samples first."""
    waiting: list[Tensor] = field(default_factory=list)

    def add(self, codes: Tensor) -> None:
        """Collect bits (n, ...)."""
        self.waiting.append(codes.flatten(1))
        if sum(each.shape[1] for each in self.waiting) >= COLUMNS:
            self.flush()

    def flush(self) -> None:
        """Add the kernel of the bits that wait."""
        if self.waiting:
            kernel = kernel_of(torch.cat(self.waiting, 1))
            self.kernel = kernel if self.kernel is None else self.kernel + kernel
            self.waiting = []

    @contextmanager
    def over(self, modules: Sequence[nn.Module], size: int) -> Iterator[None]:
        """Collect while open, from batches of `size` samples."""

        def keep(module: nn.Module, _: Any, output: Tensor) -> None:
            if output.shape[0] == size:
                self.outputs.setdefault(module, []).append(output)

        with ExitStack() as stack:
            if self.codes:
                stack.enter_context(_Activations(self, size))
            for module in modules if self.maps else ():
                if isinstance(module, WEIGHTED):
                    stack.callback(module.register_forward_hook(keep).remove)
            yield
            self.flush()


class _Activations(TorchFunctionMode):
    """Sees every activation function that is called, as a function or within a module."""

    def __init__(self, watch: Watch, size: int) -> None:
        super().__init__()
        self.watch, self.size = watch, size

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = function(*args, **(kwargs or {}))
        if function in THRESHOLDS and output.dim() > 1 and output.shape[0] == self.size:
            self.watch.add(output > THRESHOLDS[function])
        return output


Enter = Callable[[Tensor, int], Tensor]
"""From what a network computes with, and the place of its batch dimension, to what it shall compute with instead."""


def unchanged(values: Tensor, batch: int) -> Tensor:
    """See `Enter`."""
    return values


class Entrance:
    """Where a network's real-valued input enters: the inputs, or what an embedding of symbols gives."""

    def __init__(self, network: nn.Module, inputs: Tensor, enter: Enter, axis: int) -> None:
        self.network, self.enter, self.axis = network, enter, axis
        self.value: Tensor | None = None
        self.inputs = inputs
        if inputs.is_floating_point():
            self.axis = 0
            self.inputs = self.value = enter(inputs, 0).detach().requires_grad_()

    @contextmanager
    def open(self) -> Iterator[None]:
        """Embeddings give what shall enter while it is open."""

        def replace(_: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if self.value is not None or given[0].numel() != self.inputs.numel():
                return None
            self.value = self.enter(output, self.axis)
            return self.value

        with ExitStack() as stack:
            for module in self.network.modules():
                if isinstance(module, nn.Embedding):
                    stack.callback(module.register_forward_hook(replace).remove)
            yield

    def found(self) -> Tensor:
        """What entered. Raises NotApplicableError."""
        if self.value is None:
            raise NotApplicableError("needs an embedding of the symbols, and no nn.Embedding read all of them")
        return self.value

    def positions(self, values: Tensor) -> Tensor:
        """What entered, or its gradient, as (n, time, size). Raises NotApplicableError."""
        if values.dim() != 3:
            raise NotApplicableError("needs sequences")
        return values.movedim(self.axis, 0)

    def rows(self, gradient: Tensor) -> Tensor:
        """A gradient of what entered as one row per sample, (n, ...)."""
        return gradient.movedim(self.axis, 0).flatten(1)


class Pass(Protocol):
    """One forward pass of a batch; computed when first asked for."""

    entrance: Entrance
    watch: Watch

    def outputs(self) -> Tensor:
        """(n, ...), classes or numbers last."""

    def features(self) -> Tensor:
        """What the network makes of its inputs: before the decoder where that is recurrent, else the outputs."""

    def positions(self) -> Tensor:
        """The features at every position of a sequence, (n, time, size). Raises NotApplicableError."""

    def hidden(self, layer: int) -> Tensor:
        """(units, samples) of one layer, from 0; -1 is the last. Raises NotApplicableError."""

    def states(self) -> list[Tensor]:
        """Hidden states that are fed back, all steps but the first, all layers; none of networks without."""

    def traces(self) -> Sequence[Trace]:
        """What layers with attention show; none of networks without."""


def forward_pass(network: nn.Module, inputs: Tensor, watch: Watch, *, slow: bool, enter: Enter = unchanged) -> Pass:
    """The forward pass of a network.

    Args:
        slow: recurrent cells are run block by block, which shows more and has second derivatives.
    """
    if isinstance(network, RecurrentNetwork):
        return RecurrentPass(network, inputs, watch, slow=slow, enter=enter)
    return PlainPass(network, inputs, watch, enter)


class RecurrentPass:
    """Layer by layer, as far as somebody asks."""

    def __init__(self, network: RecurrentNetwork, inputs: Tensor, watch: Watch, *, slow: bool, enter: Enter) -> None:
        self.network, self.watch = network, watch
        self.entrance = Entrance(network, inputs, enter, axis=1)
        self.size = len(inputs)
        self.steps: list[list[Tensor]] = []
        """Per layer its first state after every step, if it was run block by block."""
        self.found: list[Tensor] = []
        self.given: Tensor | None = None
        run = partial(_layer, self.steps) if slow else CellLayer.__call__
        self.running = network.through(self.entrance.inputs, run=run)

    def _until(self, layer: int) -> Tensor:
        """Outputs (time, n, size) of a layer."""
        modules = list(self.network.layers.modules())
        while len(self.found) <= layer:
            with self.entrance.open(), self.watch.over(modules, self.size):
                self.found.append(next(self.running)[0])
        return self.found[layer]

    def outputs(self) -> Tensor:
        """See `Pass`."""
        if self.given is None:
            self.given = self.network.decoder(self._until(len(self.network.layers) - 1)).transpose(0, 1)
        return self.given

    def features(self) -> Tensor:
        """See `Pass`: what the last layer gives, (time, n, size)."""
        return self._until(len(self.network.layers) - 1)

    def positions(self) -> Tensor:
        """See `Pass`."""
        return self.features().transpose(0, 1)

    def hidden(self, layer: int) -> Tensor:
        """See `Pass`: the first state as every step reads it, zeros at first; the last one is not read."""
        count = len(self.network.layers)
        if layer >= count:
            raise NotApplicableError(f"needs layer {layer + 1}, and the network has {count}")
        outputs = self._until(layer % count)
        return torch.cat([torch.zeros_like(outputs[:1]), outputs[:-1]]).flatten(0, 1).T

    def states(self) -> list[Tensor]:
        """See `Pass`."""
        self.features()
        return [state for layer in self.steps for state in layer[:-1]]

    def traces(self) -> Sequence[Trace]:
        """See `Pass`."""
        return []


def _layer(
    shown: list[list[Tensor]], layer: CellLayer, values: Tensor, before: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A layer block by block; its first state after every step is added to `shown`."""
    steps = list(layer.steps(values, before))
    shown.append([states[0] for states in steps])
    return torch.stack(shown[-1]), steps[-1]


class PlainPass:
    """A network as a whole, and the layers of one that traces them."""

    def __init__(self, network: nn.Module, inputs: Tensor, watch: Watch, enter: Enter) -> None:
        self.network, self.watch = network, watch
        self.entrance = Entrance(network, inputs, enter, axis=0)
        self.size = len(inputs)
        self.found: tuple[Tensor, Sequence[Trace]] | None = None

    def _run(self) -> tuple[Tensor, Sequence[Trace]]:
        if self.found is None:
            with self.entrance.open(), self.watch.over(list(self.network.modules()), self.size):
                if isinstance(self.network, Tracing):
                    self.found = self.network.traced(self.entrance.inputs)
                else:
                    given = self.network(self.entrance.inputs)
                    self.found = (given[0] if isinstance(given, tuple) else given), []
        return self.found

    def outputs(self) -> Tensor:
        """See `Pass`."""
        return self._run()[0]

    def features(self) -> Tensor:
        """See `Pass`: the outputs, for the layers of an encoder end in a normalisation: the sum of what they give, and
        that of its squares, is the same for every network and input, and its gradient nothing but rounding."""
        return self.outputs()

    def positions(self) -> Tensor:
        """See `Pass`: what the last traced layer gives, else the outputs."""
        outputs, traces = self._run()
        features = traces[-1].output if traces else outputs
        if features.dim() != 3:
            raise NotApplicableError(f"needs features at every position, and {type(self.network).__name__} shows none")
        return features

    def hidden(self, layer: int) -> Tensor:
        """See `Pass`: what a traced layer gives, at all positions of all samples."""
        traces = self._run()[1]
        if not traces:
            raise NotApplicableError(f"needs hidden states of layers, and {type(self.network).__name__} shows none")
        if layer >= len(traces):
            raise NotApplicableError(f"needs layer {layer + 1}, and the network has {len(traces)}")
        return traces[layer].output.flatten(0, -2).T

    def states(self) -> list[Tensor]:
        """See `Pass`."""
        return []

    def traces(self) -> Sequence[Trace]:
        """See `Pass`."""
        return self._run()[1]
