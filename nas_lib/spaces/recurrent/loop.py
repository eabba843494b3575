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
Factor = float | str
"""Of a gradient: a number, or the variable of a tensor (time, batch, hidden)."""
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
    "sigmoid_back": aten.sigmoid_backward.default,
    "relu_back": aten.threshold_backward.default,
    "leaky_relu_back": aten.leaky_relu_backward.default,
}
"""What generated code can call."""
BACK = {"tanh": "", "sigmoid": "", "relu": ", 0", "leaky_relu": f", {SLOPE}, True"}
"""Activation -> further arguments of its gradient, which all four compute from their output."""

Stream = tuple[Any, ...]
"""A tensor per step: ("out", group, first, end) columns of the slots, ("grad", group, first, end) their gradients,
("start", group), ("static", name), ("static grad", name), ("kept", name), ("factor", variable), ("output grad",)."""


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
    factors: Callable[..., Any]
    """The factors of gradients from values at all steps."""
    factor_values: tuple[str, ...]
    """What `factors` reads."""
    backward: Callable[..., Any]
    backward_streams: tuple[Stream, ...]


class _Writer:
    """Lines of a loop, the tensors of each step that they use, and lines for all steps at once before it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.lines: list[str] = []
        self.streams: dict[Stream, str] = {}
        self.values: dict[str, str] = {}
        """Value -> its variable in formulas."""
        self.formulas: dict[str, str] = {}
        self.fresh = 0

    def stream(self, *key: Any) -> str:
        """The variable of a tensor of each step."""
        return self.streams.setdefault(key, f"s{len(self.streams)}")

    def name(self) -> str:
        """A new variable of the loop."""
        self.fresh += 1
        return f"v{self.fresh}"

    def value(self, name: str) -> str:
        """The variable of a value at all steps."""
        return self.values.setdefault(name, f"w{len(self.values)}")

    def formula(self, text: str) -> str:
        """The variable of a formula for all steps at once."""
        return self.formulas.setdefault(text, f"f{len(self.formulas)}")

    def product(self, first: Factor, second: Factor) -> Factor:
        """A factor times another."""
        if not isinstance(first, str) and not isinstance(second, str):
            return first * second
        if 1 in (first, second):
            return second if first == 1 else first
        tensor, other = sorted((first, second), key=lambda each: (not isinstance(each, str), str(each)))
        return self.formula(f"mul({tensor}, {other})")

    def sum(self, first: Factor, second: Factor) -> Factor:
        """A factor plus another."""
        if not isinstance(first, str) and not isinstance(second, str):
            return first + second
        tensor, other = sorted((first, second), key=lambda each: (not isinstance(each, str), str(each)))
        return self.formula(f"add({tensor}, {other})")

    def step(self, factor: Factor) -> str:
        """A factor in a step."""
        return self.stream("factor", factor) if isinstance(factor, str) else repr(factor)

    def function(
        self, arguments: str, opening: Sequence[str], closing: str
    ) -> tuple[Callable[..., Any], tuple[Stream, ...]]:
        """The function of the loop, whose first argument is an iterator over the streams."""
        names = "".join(f"{name}, " for name in self.streams.values()) or "_"
        lines = [*opening, f"for {names} in streams:", *(f"    {line}" for line in self.lines or ["pass"])]
        return _compiled(f"streams, {arguments}", [*lines, f"return {closing}"]), tuple(self.streams)

    def factors(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        """The function of the formulas and the values it reads: a one and they in, the factors of the loop out."""
        names = "".join(f"{name}, " for name in self.values.values())
        lines = [f"{name} = {text}" for text, name in self.formulas.items()]
        found = "".join(f"{stream[1]}, " for stream in self.streams if stream[0] == "factor")
        return _compiled("one, values", [f"{names or '_'} = values", *lines, f"return ({found})"]), tuple(self.values)


def _compiled(arguments: str, lines: Sequence[str]) -> Callable[..., Any]:
    """A function of generated code."""
    source = f"def made({arguments}):\n" + "".join(f"    {line}\n" for line in lines)
    space = dict(NAMES)
    exec(compile(source, "<loop of a cell>", "exec"), space)  # noqa: S102
    function: Callable[..., Any] = space["made"]
    return function


def code(plan: Plan, started: tuple[str, ...]) -> Code:
    """The loop of a plan.

    Args:
        started: per group what its products are added to, see `Code`.
    """
    static = tuple(static_reads(plan))
    backward = _backward(plan, static)
    factors = backward.factors()
    needed = [*factors[1], *(group.source for group in plan.groups), plan.states[0][1]]
    kept = tuple(name for name in dict.fromkeys(needed) if name not in plan.places and name not in static)
    forward = _forward(plan, started, static, kept)
    carried = ", ".join(f"c{place}" for place, _ in enumerate(plan.states))
    last = backward.function("carried, matrices, zero", [f"{carried}, = carried"], f"({carried},)")
    return Code(plan, static, kept, started, *forward, *factors, *last)


def _forward(
    plan: Plan, started: Sequence[str], static: Sequence[str], kept: Sequence[str]
) -> tuple[Callable[..., Any], tuple[Stream, ...]]:
    writer = _Writer(plan)
    states = [f"h{place}" for place, _ in enumerate(plan.states)]
    variables = dict(zip((before for before, _ in plan.states), states, strict=True))

    def value(name: str) -> str:
        if name not in variables and name in plan.places:
            group, slot = plan.places[name]
            return writer.stream("out", group, slot, slot + 1)
        return variables[name] if name in variables else writer.stream("static", name)

    def products(source: str) -> None:
        for number, group in enumerate(plan.groups):
            if group.source == source:
                out, matrix = writer.stream("out", number, 0, len(group.slots)), f"matrices[{number}]"
                if started[number]:
                    start = writer.stream("start", number) if started[number] == "tensor" else f"vectors[{number}]"
                    writer.lines.append(f"addmm({start}, {value(source)}, {matrix}, out={out})")
                else:
                    writer.lines.append(f"mm({value(source)}, {matrix}, out={out})")
                for kind, first, end in group.activations:
                    writer.lines.append(f"{kind}_({writer.stream('out', number, first, end)})")

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
                plain.append(writer.stream("out", group, slot, slot + 1))
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
    """The gradients of a step, each a sum of variables of generated code times factors.

    What a gradient is multiplied by on its way through a step is known before the backward pass begins. So factors are
    computed for all steps at once, and a step multiplies only where gradients meet or enter a product.
    """

    def __init__(self, writer: _Writer) -> None:
        self.writer = writer
        self.terms: dict[str, dict[str, Factor]] = {}
        """Value -> variable -> its factor."""

    def add(self, name: str, variable: str, factor: Factor = 1.0) -> None:
        """Add a variable times a factor to the gradient of a value."""
        terms = self.terms.setdefault(name, {})
        terms[variable] = self.writer.sum(terms[variable], factor) if variable in terms else factor

    def product(self, name: str, gradient: str, matrix: str) -> None:
        """Add gradient times matrix to the gradient of a value."""
        target = self.writer.name()
        call = (
            f"addmm({self.joined(name)}, {gradient}, {matrix})" if name in self.terms else f"mm({gradient}, {matrix})"
        )
        self.writer.lines.append(f"{target} = {call}")
        self.terms[name] = {target: 1.0}

    def joined(self, name: str, home: str = "") -> str:
        """The variable that is the gradient of a value from here on; `home` if it is to be there."""
        lines = self.writer.lines
        (variable, factor), *rest = sorted(self.terms[name].items(), key=lambda item: item[1] != 1)
        if factor == 1 and not rest and not home:
            return variable
        target = home or self.writer.name()
        if factor == 1 and not rest:
            lines.append(f"{home}.copy_({variable})")
        else:
            product = f"mul({variable}, {self.writer.step(factor)}"
            call = product if factor != 1 else self._more("", *rest.pop(0), f"{variable}, ")
            lines.append(f"{call}, out={home})" if home else f"{target} = {call})")
        lines += [f"{target}.{self._more('_', *term)})" for term in rest]
        self.terms[name] = {target: 1.0}
        return target

    def _more(self, mark: str, variable: str, factor: Factor, begin: str = "") -> str:
        """The call that adds a variable times a factor, left open."""
        if isinstance(factor, str):
            return f"addcmul{mark}({begin}{variable}, {self.writer.step(factor)}"
        return f"add{mark}({begin}{variable}, alpha={factor!r}"

    def one(self, name: str) -> tuple[str, Factor]:
        """The gradient of a value as one variable times a factor."""
        if len(self.terms[name]) > 1:
            self.joined(name)
        return next(iter(self.terms[name].items()))


def _backward(plan: Plan, static: Sequence[str]) -> _Writer:
    writer = _Writer(plan)
    gradients = _Gradients(writer)
    carried = [f"c{place}" for place, _ in enumerate(plan.states)]

    def products(source: str) -> None:
        for number, group in enumerate(plan.groups):
            if group.source == source:
                gradients.product(source, writer.stream("grad", number, 0, len(group.slots)), f"matrices[{number}]")

    for (_, written), variable in zip(plan.states, carried, strict=True):
        gradients.add(written, variable)
    for name, expression in reversed(plan.loop.items()):
        products(name)
        if isinstance(expression, Sum):
            _distribute(writer, gradients, name, expression)
        else:
            variable, factor = gradients.one(name)
            for source, slope in _slopes(writer, name, expression, factor):
                gradients.add(source, variable, slope)
    gradients.add(plan.states[0][0], writer.stream("output grad"))
    for before, _ in plan.states:
        products(before)
    for name in static:
        gradients.joined(name, writer.stream("static grad", name))
    ends = [gradients.joined(before) if before in gradients.terms else "zero" for before, _ in plan.states]
    writer.lines.append(f"{', '.join(carried)}, = {', '.join(ends)},")
    return writer


def _distribute(writer: _Writer, gradients: _Gradients, name: str, expression: Sum) -> None:
    """The gradient of a sum for each of its terms."""
    slots = [writer.plan.inner[term] for term in expression.terms if isinstance(term, Product)]
    for group, slot in slots:
        terms = dict(gradients.terms[name])
        home = writer.stream("grad", group, slot, slot + 1)
        gradients.joined(name, home)
        if len(terms) == 1:
            gradients.terms[name] = terms
    variable, factor = gradients.one(name)
    for term in expression.terms:
        if isinstance(term, Times):
            gradients.add(term.first, variable, writer.product(factor, writer.value(term.second)))
            gradients.add(term.second, variable, writer.product(factor, writer.value(term.first)))
        elif isinstance(term, Scaled):
            gradients.add(term.value, variable, writer.product(factor, term.factor))
        elif isinstance(term, str):
            gradients.add(term, variable, factor)


def _slopes(
    writer: _Writer, name: str, expression: Mul | Affine | Lerp | Act, factor: Factor
) -> list[tuple[str, Factor]]:
    """Values that an expression reads, each with a factor times the derivative by it."""
    value = writer.value
    if isinstance(expression, Act):
        given, number = (factor, 1.0) if isinstance(factor, str) else ("one", factor)
        back = writer.formula(f"{expression.kind}_back({given}, {value(name)}{BACK[expression.kind]})")
        return [(expression.value, writer.product(back, number))]
    if isinstance(expression, Affine):
        return [(expression.value, writer.product(factor, expression.scale))]
    if isinstance(expression, Mul):
        return [
            (expression.first, writer.product(factor, value(expression.second))),
            (expression.second, writer.product(factor, value(expression.first))),
        ]
    apart = writer.formula(f"sub({value(expression.end)}, {value(expression.start)})")
    rest = writer.formula(f"sub(one, {value(expression.weight)})")
    return [
        (expression.start, writer.product(factor, rest)),
        (expression.end, writer.product(factor, value(expression.weight))),
        (expression.weight, writer.product(factor, apart)),
    ]


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
        values = [_stack(name, made, buffers, ctx.kept, ctx.statics, hidden) for name in made.factor_values]
        factors = iter(made.factors(output.new_ones(()), values))
        # What enters at the end of a step back is the gradient of the state before it, the output of the step before.
        earlier = torch.cat([torch.zeros_like(output[:1]), output[:-1]]).unbind(0)
        streams = [
            earlier
            if stream == ("output grad",)
            else next(factors).unbind(0)
            if stream[0] == "factor"
            else _unbound(stream, buffers, gradients, (), ctx.statics, statics, hidden)
            for stream in made.backward_streams
        ]
        carried = (carried[0] + output[-1], *carried[1:])
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
