"""Networks of recurrent cells in PyTorch: an encoder, layers of one cell each with its own weights, a decoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nas_lib.spaces.recurrent.cell import INPUT, WEIGHTED, Cell, CellError, acting, checked, columns, live, order, users
from nas_lib.spaces.recurrent.loop import SLOPE, Code, Loop, code
from nas_lib.spaces.recurrent.plan import Act, Affine, Bias, Chain, Lerp, Part, Product, Scaled, Single, Times, plan
from nas_lib.tasks.data import SequenceShape

States = tuple[tuple[Tensor, ...], ...]
"""Per layer its states, each (batch, hidden)."""
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda value: value,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "leaky_relu": lambda value: F.leaky_relu(value, SLOPE),
}
Run = Callable[..., tuple[Tensor, tuple[Tensor, ...]]]
"""From (layer, values, states before) to outputs and states after."""
EMBEDDING = 0.05
"""Weights of embedding and decoder start in +- this, as in the language model of MOE/RNAS (section 7.1)."""


class CellLayer(nn.Module):
    """A cell run over time.

    Weights of block b are `block_b.weight`, shape (hidden, columns), and `block_b.bias`; of a linear block with several
    inputs the columns are those of its inputs, in order. All of them start uniform in +- 1 / sqrt(hidden), PyTorch's
    default for linear layers of that many inputs and for its recurrent ones.

    States on which no output ever depends are not computed: they stay as they were, and weights that only they need get
    no gradient.

    Args:
        inputs: size of x; other sizes than `hidden` only for cells that read x through linear blocks alone.
        made: the loop of the cell, where another layer has it already.

    Raises:
        CellError: x has another size than the states and is read without weights.
    """

    def __init__(self, cell: Cell, inputs: int, hidden: int, made: Code | None = None) -> None:
        super().__init__()
        self.cell, self.inputs, self.hidden = checked(cell), inputs, hidden
        if inputs != hidden:
            for user in users(cell, INPUT):
                block = cell.blocks[user]
                if not block.weighted or (block.combination != "linear" and len(block.inputs) > 1):
                    raise CellError(
                        f"block {user}: reads x of size {inputs} without weights, allowed is size {hidden}, that of "
                        "the states"
                    )
        self.names = [name for name in order(cell) if name in live(cell)]
        for name in self.names:
            block = cell.blocks[name]
            if block.weighted:
                linear = nn.Linear(sum(columns(block, hidden, inputs)), hidden, bias=block.biased)
                bound = 1 / math.sqrt(hidden)
                for parameter in linear.parameters():
                    nn.init.uniform_(parameter, -bound, bound)
                self.add_module(f"block_{name}", linear)
        states = acting(cell).states
        self.acting = [place for place, state in enumerate(cell.states) if state in states]
        self.made = made or _coded(acting(cell))
        self.runs, self.biases = _shared_products(self.made)

    def linear(self, name: str) -> nn.Linear:
        """The weights of a block."""
        module: nn.Linear = getattr(self, f"block_{name}")
        return module

    def start(self, batch: int, like: Tensor) -> tuple[Tensor, ...]:
        """The states before a sequence: zeros."""
        return tuple(like.new_zeros(batch, self.hidden) for _ in self.cell.states)

    def interpret(self, values: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Like `forward`, block by block: slow, and what the fast way must equal. All states are computed, and second
        derivatives exist.
        """
        steps = list(self.steps(values, states))
        return torch.stack([outputs for outputs, *_ in steps]), steps[-1]

    def steps(self, values: Tensor, states: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
        """The states after each step of `interpret`: tensors on which all that comes later depends."""
        for step in values.unbind(0):
            known = dict(zip(self.cell.inputs, (step, *states), strict=True))
            for name in self.names:
                known[name] = self._block(name, known)
            states = [known[name] for name in self.cell.outputs]
            yield tuple(states)

    def _block(self, name: str, known: Mapping[str, Tensor]) -> Tensor:
        block = self.cell.blocks[name]
        given = [known[each] if isinstance(each, str) else each for each in block.inputs]
        first: Any = given[0]
        if block.operation == "linear":
            first = self.linear(name)(torch.cat([each for each in given if isinstance(each, Tensor)], -1))
        elif block.operation == "blend":
            first = given[0] * given[1] + (1 - given[0]) * given[2]
        elif block.operation == "add":
            first = given[0] + given[1]
        elif block.operation == "sub":
            first = given[0] - given[1]
        elif block.operation == "elem_mul":
            first = given[0] * given[1]
        activation = (
            ACTIVATIONS[block.activation or "identity"] if block.activation not in WEIGHTED else self.linear(name)
        )
        value: Tensor = activation(first)
        return value

    def forward(self, values: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Outputs (time, batch, hidden) and the states after the last step.

        Where autocast asks for half precision, it computes in float32 all the same.

        Args:
            values: x at all steps, shape (time, batch, inputs).
            states: before the first step, each (batch, hidden).
        """
        if torch.is_autocast_enabled(values.device.type):
            with torch.autocast(values.device.type, enabled=False):
                return self.forward(values.float(), [state.float() for state in states])
        steps, made = len(values), self.made
        known = {INPUT: values}
        done: dict[tuple[Product, ...], Tensor] = {}
        for name, expression in made.plan.static.items():
            known[name] = (
                self._part(expression, known, done) if isinstance(expression, Part) else _static(expression, known)
            )
        matrices, starts = [], []
        for group, kind in zip(made.plan.groups, made.started, strict=True):
            matrices.append(_joined([self._matrix(slot.product) for slot in group.slots]))
            starts.append(self._start([slot.start for slot in group.slots], kind, known, done, values))
        static = [known[name] for name in made.static]
        before = [states[place] for place in self.acting]
        output, *found = Loop.apply(made, steps, *matrices, *starts, *static, *before)  # type: ignore[no-untyped-call]
        after = list(states)
        for place, state in zip(self.acting, found, strict=True):
            after[place] = state
        return output, tuple(after)

    def _matrix(self, product: Product) -> Tensor:
        """The matrix (hidden, size of its source) of a product."""
        return _added([self._chained(chain) for chain in product.chains])

    def _chained(self, chain: Chain, *before: Tensor) -> Tensor:
        """The matrix of a chain, or what the chain makes of a vector."""
        value, *others = [*before, *(self._weight(*link) for link in chain.links)]
        for weight in others:
            value = weight @ value
        return value if chain.scale == 1 else value * chain.scale

    def _weight(self, name: str, operand: int) -> Tensor:
        """The columns (hidden, size of the input) of one input of a block."""
        weight, block = self.linear(name).weight, self.cell.blocks[name]
        if block.combination == "linear":
            sizes = columns(block, self.hidden, self.inputs)
            weight = weight.narrow(1, sum(sizes[:operand]), sizes[operand])
        return weight

    def _bias(self, biases: Sequence[Bias], like: Tensor) -> Tensor:
        """Biases added up, shape (hidden,)."""
        if not biases:
            return like.new_zeros(self.hidden)
        return _added([self._chained(chain, self.linear(name).bias) for chain, name in biases])

    def _shared(
        self, products: tuple[Product, ...], known: Mapping[str, Tensor], done: dict[tuple[Product, ...], Tensor]
    ) -> Tensor:
        """Static products side by side, shape (time, batch, columns), biases included. All with one value are one."""
        if products not in done:
            runs = self.runs[products[0].source]
            together = [each for run in runs for each in run]
            matrix = _joined([self._matrix(product) for product in together])
            bias = None
            if any(self.biases[product] for product in together):
                bias = _joined([self._bias(self.biases[product], matrix) for product in together])
            found = F.linear(known[products[0].source], matrix, bias)
            # The loop writes into the pieces that start its groups, while autograd may have kept others. They share no
            # column, but those of `torch.split` share a count of changes, and the backward pass would be refused.
            sizes = [self.hidden * len(run) for run in runs]
            pieces = torch.unsafe_split_with_sizes(found, sizes, -1) if len(runs) > 1 else [found]
            done.update(zip(runs, pieces, strict=True))
        return done[products]

    def _part(self, part: Part, known: Mapping[str, Tensor], done: dict[tuple[Product, ...], Tensor]) -> Tensor:
        """The value of a static part, shape (time, batch, hidden)."""
        pieces = [self._shared((each,), known, done) for each in part.products]
        for other in part.others:
            if isinstance(other, Times):
                pieces.append(known[other.first] * known[other.second])
            else:
                pieces.append(known[other.value] * other.factor if isinstance(other, Scaled) else known[other])
        if part.biases and not part.products:
            pieces.append(self._bias(part.biases, pieces[0] if pieces else next(self.parameters())))
        return _added(pieces)

    def _start(
        self,
        parts: Sequence[Part],
        kind: str,
        known: Mapping[str, Tensor],
        done: dict[tuple[Product, ...], Tensor],
        like: Tensor,
    ) -> Tensor | None:
        """What the products of a group are added to: its static parts side by side."""
        if not kind:
            return None
        if kind == "vector":
            return _joined([self._bias(part.biases, like) for part in parts])
        together = _together(parts)
        if together:
            return self._shared(together, known, done)
        shape = (*like.shape[:2], self.hidden)
        return torch.cat(
            [
                like.new_zeros(1).expand(shape) if part == Part() else self._part(part, known, done).expand(shape)
                for part in parts
            ],
            -1,
        )


def _coded(cell: Cell) -> Code:
    """The loop of a cell."""
    found = plan(cell)
    started = []
    for group in found.groups:
        parts = [slot.start for slot in group.slots]
        tensor = any(part.products or part.others for part in parts)
        started.append("tensor" if tensor else "vector" if any(part.biases for part in parts) else "")
    return code(found, tuple(started))


def _together(parts: Sequence[Part]) -> tuple[Product, ...]:
    """The products of parts that are one product and biases each, all with the same value; else none."""
    plain = [part.products[0] for part in parts if len(part.products) == 1 and not part.others]
    return tuple(plain) if len(plain) == len(parts) and len({each.source for each in plain}) == 1 else ()


def _shared_products(made: Code) -> tuple[dict[str, list[tuple[Product, ...]]], dict[Product, tuple[Bias, ...]]]:
    """Per static value the products with it, those that start a group as one run; and the biases added with each."""
    runs: dict[str, list[tuple[Product, ...]]] = {}
    biases: dict[Product, tuple[Bias, ...]] = {}
    groups = [[slot.start for slot in group.slots] for group in made.plan.groups]
    for parts in [*groups, *([part] for part in made.plan.static.values() if isinstance(part, Part))]:
        for part in parts:
            biases |= {product: () if place else part.biases for place, product in enumerate(part.products)}
        together = _together(parts)
        for run in [together] if together else [(product,) for part in parts for product in part.products]:
            runs.setdefault(run[0].source, []).append(run)
    return runs, biases


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def _added(tensors: Sequence[Tensor]) -> Tensor:
    total, *others = tensors
    for each in others:
        total = total + each
    return total


def _static(expression: Single, known: Mapping[str, Tensor]) -> Tensor:
    if isinstance(expression, Act):
        return ACTIVATIONS[expression.kind](known[expression.value])
    if isinstance(expression, Affine):
        return known[expression.value] * expression.scale + expression.shift
    if isinstance(expression, Lerp):
        return torch.lerp(known[expression.start], known[expression.end], known[expression.weight])
    return known[expression.first] * known[expression.second]


class RecurrentNetwork(nn.Module):
    """Symbols or vectors in, one vector per time step out.

    Symbols are embedded, vectors encoded by a linear layer, to size `hidden`; a linear decoder reads the first state
    of the last layer. Dropout acts on what the encoder and every layer give, the same way in PyTorch's language models.
    Embedding and decoder start uniform in +- 0.05, the decoder's bias at 0, the encoder of vectors as PyTorch does;
    see `CellLayer` for the layers.

    Args:
        shape: `inputs`, `outputs` and `tokens` of a task.
        encoded: size of what the encoder gives, and of the last layer; other sizes than `hidden` only for cells that
            read x through linear blocks alone. Default: as `hidden`.
    """

    def __init__(
        self,
        cell: Cell,
        shape: SequenceShape,
        hidden: int,
        layers: int = 1,
        dropout: float = 0.0,
        encoded: int | None = None,
    ) -> None:
        super().__init__()
        size = encoded or hidden
        self.encoder = nn.Embedding(shape.inputs, size) if shape.tokens else nn.Linear(shape.inputs, size)
        sizes = [size, *[hidden] * (layers - 1), size]
        made = _coded(acting(checked(cell)))
        self.layers = nn.ModuleList(CellLayer(cell, *pair, made) for pair in pairwise(sizes))
        self.decoder = nn.Linear(size, shape.outputs)
        self.dropout = nn.Dropout(dropout)
        if shape.tokens:
            nn.init.uniform_(self.encoder.weight, -EMBEDDING, EMBEDDING)
        nn.init.uniform_(self.decoder.weight, -EMBEDDING, EMBEDDING)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, inputs: Tensor, state: States | None = None) -> tuple[Tensor, States]:
        """Outputs (batch, time, outputs) and the states after the last step.

        Args:
            inputs: symbols, int64 (batch, time), or vectors, float32 (batch, time, inputs).
            state: before the first step; zeros if there is none. See `detached`.
        """
        return self._run(inputs, state, CellLayer.__call__)

    def cells(self) -> list[CellLayer]:
        """The layers, first to last."""
        return [layer for layer in self.layers if isinstance(layer, CellLayer)]

    def interpret(self, inputs: Tensor, state: States | None = None) -> tuple[Tensor, States]:
        """Like `forward`, with every cell block by block."""
        return self._run(inputs, state, CellLayer.interpret)

    def _run(self, inputs: Tensor, state: States | None, run: Run) -> tuple[Tensor, States]:
        passed = list(self.through(inputs, state, run))
        values = self.dropout(passed[-1][0])
        return self.decoder(values).transpose(0, 1), tuple(states for _, states in passed)

    def through(
        self, inputs: Tensor, state: States | None = None, run: Run = CellLayer.__call__
    ) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        """Outputs (time, batch, size) of one layer after the other, and its states after the last step.

        Args:
            run: how a layer is run: from (layer, its inputs, its states before) to outputs and states after.
        """
        values = self.encoder(inputs.transpose(0, 1))
        for place, layer in enumerate(self.cells()):
            values = self.dropout(values)
            before = layer.start(values.shape[1], values) if state is None else state[place]
            values, states = run(layer, values, before)
            yield values, states


def detached(state: States) -> States:
    """States to carry over to the next piece of a sequence, without its gradients."""
    return tuple(tuple(each.detach() for each in layer) for layer in state)
