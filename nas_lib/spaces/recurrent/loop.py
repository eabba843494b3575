"""The loop over time of a plan, forward and backward, as generated Python.

PyTorch's autograd records every operation of every step and adds the gradient of a matrix up step by step. Here the
loop is one operation for autograd: the forward pass keeps what the backward pass needs, the backward pass is written
out too, and the gradient of every matrix is one product over all steps. The code is made of the plan alone, with names
of its own; nothing a user writes gets into it. A second derivative does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from nas_lib.spaces.recurrent.plan import (
    Act,
    Affine,
    Expression,
    Lerp,
    Mul,
    Plan,
    Product,
    Scaled,
    Sum,
    Times,
    static_reads,
)

SLOPE = 0.01
"""Of the leaky ReLU."""
aten = torch.ops.aten
NAMES: dict[str, Any] = {
    "add": torch.add,
    "addcmul": torch.addcmul,
    "addmm": torch.addmm,
    "lerp": torch.lerp,
    "mm": torch.mm,
    "mul": torch.mul,
    "sub": torch.sub,
    "tanh": torch.tanh,
    "tanh_": torch.tanh_,
    "sigmoid": torch.sigmoid,
    "sigmoid_": torch.sigmoid_,
    "relu": torch.relu,
    "relu_": torch.relu_,
    "leaky_relu": F.leaky_relu,
    "leaky_relu_": torch._C._nn.leaky_relu_,
    "tanh_back": aten.tanh_backward.default,
    "tanh_back_": aten.tanh_backward.grad_input,
    "sigmoid_back": aten.sigmoid_backward.default,
    "sigmoid_back_": aten.sigmoid_backward.grad_input,
    "relu_back": aten.threshold_backward.default,
    "relu_back_": aten.threshold_backward.grad_input,
    "leaky_relu_back": aten.leaky_relu_backward.default,
    "leaky_relu_back_": aten.leaky_relu_backward.grad_input,
}
"""What generated code can call."""
BACK = {"tanh": "", "sigmoid": "", "relu": ", 0", "leaky_relu": f", {SLOPE}, True"}
"""Activation -> further arguments of its gradient, which all four compute from their output."""

Stream = tuple[Any, ...]
"""A tensor per step: ("out", group, first, end) columns of the slots, ("grad", group, first, end) their gradients,
("start", group), ("static", name), ("static grad", name), ("kept", name), ("output grad",)."""


@dataclass(frozen=True)
class Code:
    """Both directions of a plan's loop."""

    plan: Plan
    static: tuple[str, ...]
    """Static values that the loop reads."""
    kept: tuple[str, ...]
    """Values that the forward pass keeps for the backward pass or as output."""
    started: tuple[str, ...]
    """Per group what its products are added to: `tensor` (time, batch, columns), `vector` (columns) or nothing."""
    forward: Callable[..., Any]
    forward_streams: tuple[Stream, ...]
    backward: Callable[..., Any]
    backward_streams: tuple[Stream, ...]


class _Writer:
    """Lines of a loop, and the tensors of each step that they use."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.lines: list[str] = []
        self.streams: dict[Stream, str] = {}
        self.fresh = 0

    def stream(self, *key: Any) -> str:
        return self.streams.setdefault(key, f"s{len(self.streams)}")

    def slots(self, kind: str, group: int, first: int, end: int) -> str:
        return self.stream(kind, group, first, end)

    def name(self) -> str:
        self.fresh += 1
        return f"v{self.fresh}"

    def function(
        self, arguments: str, opening: Sequence[str], closing: str
    ) -> tuple[Callable[..., Any], tuple[Stream, ...]]:
        """The function of these lines, whose first argument is an iterator over the streams."""
        body = "".join(f"        {line}\n" for line in self.lines or ["pass"])
        names = "".join(f"{name}, " for name in self.streams.values()) or "_"
        source = f"def loop(streams, {arguments}):\n"
        source += "".join(f"    {line}\n" for line in opening)
        source += f"    for {names} in streams:\n{body}    return {closing}\n"
        space = dict(NAMES)
        exec(compile(source, "<loop of a cell>", "exec"), space)  # noqa: S102
        return space["loop"], tuple(self.streams)


def code(plan: Plan, started: tuple[str, ...]) -> Code:
    """The loop of a plan.

    Args:
        started: per group what its products are added to, see `Code`.
    """
    static = tuple(static_reads(plan))
    kept = _kept(plan, static)
    forward = _forward(plan, started, static, kept)
    backward = _backward(plan, static, kept)
    return Code(plan, static, kept, started, *forward, *backward)


def _kept(plan: Plan, static: Sequence[str]) -> tuple[str, ...]:
    """What the backward pass reads, the sources of products, and the output, where no buffer holds them anyway."""
    needed = [group.source for group in plan.groups]
    for name, expression in plan.loop.items():
        if isinstance(expression, Sum):
            needed += [each for term in expression.terms if isinstance(term, Times) for each in term]
        elif isinstance(expression, Mul):
            needed += [expression.first, expression.second]
        elif isinstance(expression, Lerp):
            needed += [expression.start, expression.end, expression.weight]
        elif isinstance(expression, Act) and name not in plan.merged:
            needed.append(name)
    needed.append(plan.states[0][1])
    return tuple(name for name in dict.fromkeys(needed) if name not in plan.places and name not in static)


def _home(plan: Plan, writer: _Writer, name: str, kind: str, static: Sequence[str]) -> str | None:
    """The tensor that holds a value or its gradient, if it is part of a buffer."""
    if name in plan.places:
        group, slot = plan.places[name]
        return writer.slots(kind, group, slot, slot + 1)
    if name in static:
        return writer.stream("static" if kind == "out" else "static grad", name)
    return None


def _forward(
    plan: Plan, started: Sequence[str], static: Sequence[str], kept: Sequence[str]
) -> tuple[Callable[..., Any], tuple[Stream, ...]]:
    writer = _Writer(plan)
    states = [f"h{place}" for place, _ in enumerate(plan.states)]
    variables = dict(zip((before for before, _ in plan.states), states, strict=True))

    def value(name: str) -> str:
        if name not in variables:
            variables[name] = str(_home(plan, writer, name, "out", static))
        return variables[name]

    def products(source: str) -> None:
        for number, group in enumerate(plan.groups):
            if group.source == source:
                out, matrix = writer.slots("out", number, 0, len(group.slots)), f"matrices[{number}]"
                if started[number]:
                    start = writer.stream("start", number) if started[number] == "tensor" else f"vectors[{number}]"
                    writer.lines.append(f"addmm({start}, {value(source)}, {matrix}, out={out})")
                else:
                    writer.lines.append(f"mm({value(source)}, {matrix}, out={out})")
                for kind, first, end in group.activations:
                    writer.lines.append(f"{kind}_({writer.slots('out', number, first, end)})")

    for before, _ in plan.states:
        products(before)
    for name, expression in plan.loop.items():
        if name not in plan.merged:
            target = value(name) if name in plan.places else writer.name()
            variables[name] = target
            writer.lines += _evaluated(plan, writer, name, expression, target, value)
        products(name)
    writer.lines += [f"kept[{place}].append({value(name)})" for place, name in enumerate(kept)]
    after = ", ".join(value(written) for _, written in plan.states)
    writer.lines.append(f"{', '.join(states)}, = {after},")
    opening = [f"{', '.join(states)}, = states"]
    return writer.function("states, matrices, vectors, kept", opening, f"({', '.join(states)},)")


def _evaluated(
    plan: Plan, writer: _Writer, name: str, expression: Expression, target: str, value: Callable[[str], str]
) -> list[str]:
    """The lines that compute a value; in the place of its first product if it has one."""
    if isinstance(expression, Sum):
        return _added(plan, writer, name, expression, target, value)
    if isinstance(expression, Act):
        if name in plan.places:
            return [f"{expression.kind}_({target})"]
        return [f"{target} = {expression.kind}({value(expression.value)})"]
    if isinstance(expression, Affine):
        scaled = f"mul({value(expression.value)}, {expression.scale!r})"
        return [f"{target} = {scaled}{f'.add_({expression.shift!r})' if expression.shift else ''}"]
    if isinstance(expression, Lerp):
        return [f"{target} = lerp({', '.join(map(value, (expression.start, expression.end, expression.weight)))})"]
    return [f"{target} = mul({value(expression.first)}, {value(expression.second)})"]


def _added(
    plan: Plan, writer: _Writer, name: str, expression: Sum, target: str, value: Callable[[str], str]
) -> list[str]:
    """The lines that add up terms, each as method and arguments; the first one that is no product begins."""
    home = plan.places.get(name)
    plain, others = [], []
    for term in expression.terms:
        if isinstance(term, Product):
            if plan.inner[term] != home:
                group, slot = plan.inner[term]
                plain.append(writer.slots("out", group, slot, slot + 1))
        elif isinstance(term, Times):
            others.append(("addcmul", f"{value(term.first)}, {value(term.second)}"))
        elif isinstance(term, Scaled):
            others.append(("add", f"{value(term.value)}, alpha={term.factor!r}"))
        elif isinstance(term, str):
            plain.append(value(term))
    lines = []
    if home is None and plain:
        begin = plain.pop(0)
        method, arguments = ("add", plain.pop(0)) if plain else others.pop(0)
        lines.append(f"{target} = {method}({begin}, {arguments})")
    elif home is None:
        lines.append(f"{target} = mul({others.pop(0)[1].replace('alpha=', '')})")
    lines += [f"{target}.add_({each})" for each in plain]
    return lines + [f"{target}.{method}_({arguments})" for method, arguments in others]


class _Gradients:
    """The gradients of a step, as variables of generated code."""

    def __init__(self, writer: _Writer, home: Callable[[str], str | None]) -> None:
        self.writer, self.home = writer, home
        self.found: dict[str, tuple[str, bool]] = {}
        """Value -> variable, and whether it may be changed in place."""

    def add(self, name: str, gradient: str, factor: str = "") -> None:
        """Add a gradient, times the variable or number `factor` if there is one, to that of a value."""
        lines = self.writer.lines
        number = bool(factor) and factor[0] in "-0123456789"
        if name not in self.found:
            home = self.home(name)
            if home is not None:
                lines.append(f"mul({gradient}, {factor}, out={home})" if factor else f"{home}.copy_({gradient})")
                self.found[name] = (home, True)
            elif factor:
                variable = self.writer.name()
                lines.append(f"{variable} = mul({gradient}, {factor})")
                self.found[name] = (variable, True)
            else:
                self.found[name] = (gradient, False)
            return
        variable, own = self.found[name]
        target = variable if own else self.writer.name()
        mark, opening = ("_", f"{variable}.") if own else ("", f"{target} = {variable}.")
        if factor and not number:
            lines.append(f"{opening}addcmul{mark}({gradient}, {factor})")
        else:
            lines.append(f"{opening}add{mark}({gradient}{f', alpha={factor}' if factor else ''})")
        self.found[name] = (target, True)

    def product(self, name: str, gradient: str, matrix: str) -> None:
        """Add gradient times matrix to the gradient of a value."""
        lines = self.writer.lines
        if name not in self.found:
            home, variable = self.home(name), self.writer.name()
            if home is not None:
                lines.append(f"mm({gradient}, {matrix}, out={home})")
            else:
                lines.append(f"{variable} = mm({gradient}, {matrix})")
            self.found[name] = (home or variable, True)
            return
        variable, own = self.found[name]
        target = variable if own else self.writer.name()
        opening = f"{variable}.addmm_(" if own else f"{target} = addmm({variable}, "
        lines.append(f"{opening}{gradient}, {matrix})")
        self.found[name] = (target, True)

    def of(self, name: str) -> str:
        return self.found[name][0]


def _backward(plan: Plan, static: Sequence[str], kept: Sequence[str]) -> tuple[Callable[..., Any], tuple[Stream, ...]]:
    writer = _Writer(plan)
    gradients = _Gradients(writer, lambda name: _home(plan, writer, name, "grad", static))
    carried = [f"c{place}" for place, _ in enumerate(plan.states)]

    def value(name: str) -> str:
        return _home(plan, writer, name, "out", static) or writer.stream("kept", name)

    def products(source: str) -> None:
        for number, group in enumerate(plan.groups):
            if group.source == source:
                for kind, first, end in group.activations:
                    gradient, out = (writer.slots(each, number, first, end) for each in ("grad", "out"))
                    writer.lines.append(f"{kind}_back_({gradient}, {out}{BACK[kind]}, grad_input={gradient})")
                gradients.product(source, writer.slots("grad", number, 0, len(group.slots)), f"matrices[{number}]")

    gradients.add(plan.states[0][1], writer.stream("output grad"))
    for (_, written), variable in zip(plan.states, carried, strict=True):
        gradients.add(written, variable)
    for name, expression in reversed(plan.loop.items()):
        products(name)
        if isinstance(expression, Sum):
            # The gradient of a sum in whose place there is an activation is in that place.
            home = _home(plan, writer, name, "grad", static)
            gradient = gradients.of(name) if name in gradients.found else str(home)
            _distribute(plan, writer, gradients, name, expression, gradient, value)
        elif isinstance(expression, Act):
            if name not in plan.merged:
                _deactivate(plan, writer, gradients, name, expression, value)
        else:
            _undo(writer, gradients, expression, gradients.of(name), value)
    for before, _ in plan.states:
        products(before)
    ends = [gradients.of(before) if before in gradients.found else "zero" for before, _ in plan.states]
    writer.lines.append(f"{', '.join(carried)}, = {', '.join(ends)},")
    return writer.function("carried, matrices, zero", [f"{', '.join(carried)}, = carried"], f"({', '.join(carried)},)")


def _distribute(
    plan: Plan,
    writer: _Writer,
    gradients: _Gradients,
    name: str,
    expression: Sum,
    gradient: str,
    value: Callable[[str], str],
) -> None:
    """The gradient of a sum for each of its terms."""
    for term in expression.terms:
        if isinstance(term, Product):
            if plan.inner[term] != plan.places[name]:
                group, slot = plan.inner[term]
                writer.lines.append(f"{writer.slots('grad', group, slot, slot + 1)}.copy_({gradient})")
        elif isinstance(term, Times):
            gradients.add(term.first, gradient, value(term.second))
            gradients.add(term.second, gradient, value(term.first))
        elif isinstance(term, Scaled):
            gradients.add(term.value, gradient, repr(term.factor))
        elif isinstance(term, str):
            gradients.add(term, gradient)


def _deactivate(
    plan: Plan, writer: _Writer, gradients: _Gradients, name: str, expression: Act, value: Callable[[str], str]
) -> None:
    """The gradient of an activation's input; in the same place if the activation was."""
    kind, gradient, out = expression.kind, gradients.of(name), value(name)
    if name in plan.places:
        writer.lines.append(f"{kind}_back_({gradient}, {out}{BACK[kind]}, grad_input={gradient})")
        return
    variable = writer.name()
    writer.lines.append(f"{variable} = {kind}_back({gradient}, {out}{BACK[kind]})")
    gradients.add(expression.value, variable)


def _undo(
    writer: _Writer,
    gradients: _Gradients,
    expression: Mul | Affine | Lerp,
    gradient: str,
    value: Callable[[str], str],
) -> None:
    """The gradient of an expression for what it reads."""
    if isinstance(expression, Affine):
        gradients.add(expression.value, gradient, "" if expression.scale == 1 else repr(expression.scale))
    elif isinstance(expression, Mul):
        gradients.add(expression.first, gradient, value(expression.second))
        gradients.add(expression.second, gradient, value(expression.first))
    else:
        start, end, weight = map(value, (expression.start, expression.end, expression.weight))
        toward, apart = writer.name(), writer.name()
        writer.lines += [f"{toward} = mul({gradient}, {weight})", f"{apart} = sub({end}, {start})"]
        gradients.add(expression.end, toward)
        gradients.add(expression.start, gradient)
        gradients.add(expression.start, toward, "-1.0")
        gradients.add(expression.weight, gradient, apart)


class Loop(torch.autograd.Function):
    """All steps of a cell as one operation of autograd. Arguments: the code; per group its matrix (columns, hidden)
    and what its products are added to, or None; the static values (time, batch, hidden); the states (batch, hidden).
    Gives the outputs of all steps (time, batch, hidden) and the states after them."""

    @staticmethod
    def forward(ctx: Any, made: Code, steps: int, *tensors: Any) -> tuple[Tensor, ...]:
        """See the class."""
        groups, count = made.plan.groups, len(made.plan.groups)
        matrices, starts = tensors[:count], tensors[count : 2 * count]
        statics = dict(zip(made.static, tensors[2 * count : 2 * count + len(made.static)], strict=True))
        states = tensors[2 * count + len(made.static) :]
        batch, hidden = states[0].shape
        buffers = [states[0].new_empty(steps, batch, len(group.slots) * hidden) for group in groups]
        kept: list[list[Tensor]] = [[] for _ in made.kept]
        streams = [_unbound(stream, buffers, [], starts, statics, {}, hidden) for stream in made.forward_streams]
        after = made.forward(
            zip(*streams, strict=True) if streams else [()] * steps,
            states,
            [matrix.t() for matrix in matrices if matrix is not None],
            starts,
            kept,
        )
        ctx.made, ctx.buffers, ctx.kept, ctx.hidden = made, buffers, dict(zip(made.kept, kept, strict=True)), hidden
        ctx.matrices, ctx.statics, ctx.steps = matrices, statics, steps
        output = _stack(made.plan.states[0][1], made, buffers, ctx.kept, statics, hidden)
        return output.view_as(output), *(state.clone() for state in after)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, output: Tensor, *carried: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of all arguments."""
        made, hidden, buffers = ctx.made, ctx.hidden, ctx.buffers
        gradients = [torch.empty_like(buffer) for buffer in buffers]
        statics = {name: output.new_empty(ctx.steps, *output.shape[1:]) for name in made.static}
        streams = [
            output.unbind(0)
            if stream == ("output grad",)
            else ctx.kept[stream[1]]
            if stream[0] == "kept"
            else _unbound(stream, buffers, gradients, (), ctx.statics, statics, hidden)
            for stream in made.backward_streams
        ]
        before = made.backward(
            zip(*map(reversed, streams), strict=True), carried, ctx.matrices, torch.zeros_like(carried[0])
        )
        matrices, starts = [], []
        for group, gradient, kind in zip(made.plan.groups, gradients, made.started, strict=True):
            source = _stack(group.source, made, buffers, ctx.kept, ctx.statics, hidden)
            matrices.append(gradient.flatten(0, 1).t() @ source.flatten(0, 1))
            starts.append(gradient if kind == "tensor" else gradient.sum((0, 1)) if kind else None)
        return None, None, *matrices, *starts, *(statics[name] for name in made.static), *before


def _unbound(
    stream: Stream,
    buffers: Sequence[Tensor],
    gradients: Sequence[Tensor],
    starts: Sequence[Any],
    statics: dict[str, Any],
    static_gradients: dict[str, Tensor],
    hidden: int,
) -> Sequence[Tensor]:
    """The tensors of each step that a stream stands for."""
    kind, name, *columns = stream
    if kind in ("out", "grad"):
        tensor = (buffers if kind == "out" else gradients)[name]
        tensor = tensor[..., columns[0] * hidden : columns[1] * hidden]
    elif kind == "start":
        tensor = starts[name]
    else:
        tensor = statics[name] if kind == "static" else static_gradients[name]
    steps: Sequence[Tensor] = tensor.unbind(0)
    return steps


def _stack(
    name: str,
    made: Code,
    buffers: Sequence[Tensor],
    kept: dict[str, list[Tensor]],
    statics: dict[str, Any],
    hidden: int,
) -> Tensor:
    """A value at all steps, shape (time, batch, hidden)."""
    if name in made.plan.places:
        group, slot = made.plan.places[name]
        return buffers[group][..., slot * hidden : (slot + 1) * hidden]
    return statics[name] if name in statics else torch.stack(kept[name])
