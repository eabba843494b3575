"""The loop over time of a plan, forward and backward, as generated Python.

PyTorch's autograd records every operation of every step and adds the gradient of a matrix up step by step. Here the
loop is one operation for autograd: the forward pass keeps what the backward pass needs, the backward pass is written
out too, and what does not wait for the loop is done for all steps at once: the factors that gradients get in a step,
before it, and the gradient of every matrix, after it. The code is made of the plan alone, with names of its own;
nothing a user writes gets into it. A second derivative does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
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
    "relu": partial(torch.clamp_min, min=0),
    "relu_": torch.relu_,
    "leaky_relu": torch._C._nn.leaky_relu,
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
("value", name), ("static grad", name), ("factor", variable), ("output grad",)."""


@dataclass(frozen=True)
class Code:
    """Both directions of a plan's loop."""

    plan: Plan
    static: tuple[str, ...]
    """Static values that the loop reads."""
    kept: tuple[str, ...]
    """Values computed in no slot that the backward pass needs, or that are states."""
    shared: dict[str, str]
    """State before a step -> the kept value that becomes it, which is one tensor with it, a step later."""
    listed: tuple[str, ...]
    """Other states before a step that the backward pass needs."""
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
    written = [name for _, name in plan.states]
    kept = tuple(name for name in dict.fromkeys([*needed, *written]) if name in plan.loop and name not in plan.places)
    shared: dict[str, str] = {}
    for before, name in plan.states:
        if name in kept and name not in shared.values():
            shared[before] = name
    listed = tuple(before for before, _ in plan.states if before in needed and before not in shared)
    forward = _forward(plan, started, kept, listed)
    carried = ", ".join(f"c{place}" for place, _ in enumerate(plan.states))
    last = backward.function("carried, matrices, zero", [f"{carried}, = carried"], f"({carried},)")
    return Code(plan, static, kept, shared, listed, started, *forward, *factors, *last)


def _forward(
    plan: Plan, started: Sequence[str], kept: Sequence[str], listed: Sequence[str]
) -> tuple[Callable[..., Any], tuple[Stream, ...]]:
    writer = _Writer(plan)
    states = [f"h{place}" for place, _ in enumerate(plan.states)]
    variables = dict(zip((before for before, _ in plan.states), states, strict=True))

    def value(name: str) -> str:
        if name in plan.places:
            group, slot = plan.places[name]
            return writer.stream("out", group, slot, slot + 1)
        return variables[name] if name in variables else writer.stream("value", name)

    def products(source: str) -> None:
        for number, group in enumerate(plan.groups):
            if group.source == source:
                out, given = writer.stream("out", number, 0, len(group.slots)), f"{value(source)}, matrices[{number}]"
                calls = {"tensor": f"{out}.addmm_({given})", "vector": f"addmm(vectors[{number}], {given}, out={out})"}
                writer.lines.append(calls.get(started[number], f"mm({given}, out={out})"))
                for kind, first, end in group.activations:
                    writer.lines.append(f"{kind}_({writer.stream('out', number, first, end)})")

    for before, _ in plan.states:
        products(before)
    for name, expression in plan.loop.items():
        if name not in plan.merged:
            if name not in plan.places and name not in kept:
                variables[name] = writer.name()
            writer.lines += _evaluated(plan, writer, name, expression, value, name in kept)
        products(name)
    writer.lines += [f"listed[{place}].append({value(name)})" for place, name in enumerate(listed)]
    after = ", ".join(value(written) for _, written in plan.states)
    writer.lines.append(f"{', '.join(states)}, = {after},")
    opening = [f"{', '.join(states)}, = states"]
    return writer.function("states, matrices, vectors, listed", opening, f"({', '.join(states)},)")


def _evaluated(
    plan: Plan, writer: _Writer, name: str, expression: Expression, value: Callable[[str], str], kept: bool
) -> list[str]:
    """The lines that compute a value; in the place of its first product if it has one."""
    target = value(name)
    if isinstance(expression, Act) and name in plan.places:
        return [f"{expression.kind}_({target})"]
    further: list[str] = []
    if isinstance(expression, Sum):
        first, further = _added(plan, writer, name, expression, value)
    elif isinstance(expression, Act):
        first = f"{expression.kind}({value(expression.value)}"
    elif isinstance(expression, Affine):
        first = f"mul({value(expression.value)}, {expression.scale!r}"
        further = [f"add_({expression.shift!r})"] * bool(expression.shift)
    elif isinstance(expression, Lerp):
        first = f"lerp({', '.join(map(value, (expression.start, expression.end, expression.weight)))}"
    else:
        first = f"mul({value(expression.first)}, {value(expression.second)}"
    begin = [f"{first}, out={target})" if kept else f"{target} = {first})"] if first else []
    return begin + [f"{target}.{each}" for each in further]


def _added(
    plan: Plan, writer: _Writer, name: str, expression: Sum, value: Callable[[str], str]
) -> tuple[str, list[str]]:
    """The call that begins a sum, left open, and those that add to it; products of its own place are there already."""
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
    first = ""
    if home is None and plain:
        begin = plain.pop(0)
        method, arguments = ("add", plain.pop(0)) if plain else others.pop(0)
        first = f"{method}({begin}, {arguments}"
    elif home is None:
        first = f"mul({others.pop(0)[1].replace('alpha=', '')}"
    return first, [f"add_({each})" for each in plain] + [f"{method}_({given})" for method, given in others]


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
        target, call = self.writer.name(), f"mm({gradient}, {matrix})"
        if name in self.terms:
            before = tuple(self.terms[name])
            start = self.joined(name)
            call = (
                f"addmm({start}, {gradient}, {matrix})" if start in before else f"{start}.addmm_({gradient}, {matrix})"
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
    and what its products are added to, in place if it is one of all steps, or None; the static values (time, batch,
    hidden); the states (batch, hidden). Gives the outputs of all steps (time, batch, hidden) and the states after
    them."""

    @staticmethod
    def forward(ctx: Any, made: Code, steps: int, *tensors: Any) -> tuple[Tensor, ...]:
        """See the class."""
        plan, count = made.plan, len(made.plan.groups)
        matrices, starts = tensors[:count], tensors[count : 2 * count]
        values = dict(zip(made.static, tensors[2 * count : 2 * count + len(made.static)], strict=True))
        states = tensors[2 * count + len(made.static) :]
        batch, hidden = states[0].shape
        buffers = [
            start.detach() if kind == "tensor" else states[0].new_empty(steps, batch, len(group.slots) * hidden)
            for group, kind, start in zip(plan.groups, made.started, starts, strict=True)
        ]
        for name, (group, slot) in plan.places.items():
            values[name] = buffers[group][..., slot * hidden : (slot + 1) * hidden]
        rows = {name: states[0].new_empty(steps + 1, batch, hidden) for name in made.kept}
        values |= {name: row[1:] for name, row in rows.items()}
        for (before, _), state in zip(plan.states, states, strict=True):
            if before in made.shared:
                row = rows[made.shared[before]]
                row[0].copy_(state)
                values[before] = row[:-1]
        listed: list[list[Tensor]] = [[] for _ in made.listed]
        streams = [_columns(stream, buffers, values, hidden).unbind(0) for stream in made.forward_streams]
        after = made.forward(
            zip(*streams, strict=True) if streams else [()] * steps,
            states,
            [matrix.t() for matrix in matrices],
            starts,
            listed,
        )
        values |= {name: torch.stack(found) for name, found in zip(made.listed, listed, strict=True)}
        ctx.made, ctx.values, ctx.matrices, ctx.sizes = made, values, matrices, [each.shape for each in buffers]
        output = values[plan.states[0][1]]
        return output.view_as(output), *(state.clone() for state in after)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, output: Tensor, *carried: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of all arguments."""
        made, values = ctx.made, ctx.values
        gradients = [output.new_empty(size) for size in ctx.sizes]
        statics = {name: output.new_empty(output.shape) for name in made.static}
        factors = iter(made.factors(output.new_ones(()), [values[name] for name in made.factor_values]))
        zero = torch.zeros_like(carried[0])
        # What enters at the end of a step back is the gradient of the state before it, the output of the step before.
        streams = [
            (zero, *output[:-1].unbind(0))
            if stream == ("output grad",)
            else next(factors).unbind(0)
            if stream[0] == "factor"
            else _columns(stream, gradients, statics, output.shape[-1]).unbind(0)
            for stream in made.backward_streams
        ]
        last = (carried[0] + output[-1], *carried[1:])
        before = made.backward(zip(*map(reversed, streams), strict=True), last, ctx.matrices, zero)
        matrices, starts = [], []
        for group, gradient, kind in zip(made.plan.groups, gradients, made.started, strict=True):
            matrices.append(gradient.flatten(0, 1).t() @ values[group.source].flatten(0, 1))
            starts.append(gradient if kind == "tensor" else gradient.sum((0, 1)) if kind else None)
        return None, None, *matrices, *starts, *(statics[name] for name in made.static), *before


def _columns(stream: Stream, buffers: Sequence[Tensor], values: dict[str, Tensor], hidden: int) -> Tensor:
    """The tensor of a stream for all steps, of the buffers of slots or of values."""
    kind, name, *columns = stream
    if kind in ("out", "grad"):
        return buffers[name][..., columns[0] * hidden : columns[1] * hidden]
    return values[name]
