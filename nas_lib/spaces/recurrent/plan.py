"""How a cell is computed fast: what does not wait for the loop over time, and which products are one.

A cell becomes a few expressions. A matrix times a sum of products is products again, of matrices multiplied before the
loop. Expressions that depend on x alone are static: they are computed for all time steps at once. In the loop, the
products of one value with several matrices are a group: one product with the matrices side by side, a slot each. A slot
starts from its static part, so that W x + b + U h costs one operation per step, and activations of neighbouring slots
are one operation too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from nas_lib.spaces.recurrent.cell import INPUT, WEIGHTED, Block, Cell, live, order


class Chain(NamedTuple):
    """Matrices one after the other and a constant, all multiplied."""

    links: tuple[tuple[str, int], ...] = ()
    """Block and number of the input that each matrix is of; the first is applied first."""
    scale: float = 1.0


class Product(NamedTuple):
    """A term of a sum: a sum of chains times a value."""

    chains: tuple[Chain, ...]
    source: str


class Bias(NamedTuple):
    """A term of a sum: a chain times the bias of a block."""

    chain: Chain
    block: str


class Times(NamedTuple):
    """A term of a sum: two values multiplied."""

    first: str
    second: str


class Scaled(NamedTuple):
    """A term of a sum: a value times a constant."""

    value: str
    factor: float


Term = Product | Bias | Times | Scaled | str
"""Of a sum; a text is the value of that name."""


@dataclass(frozen=True)
class Sum:
    """Any number of terms."""

    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Mul:
    """First times second."""

    first: str
    second: str


@dataclass(frozen=True)
class Affine:
    """scale * value + shift."""

    value: str
    scale: float
    shift: float


@dataclass(frozen=True)
class Lerp:
    """(1 - weight) start + weight end."""

    start: str
    end: str
    weight: str


@dataclass(frozen=True)
class Act:
    """An activation without weights."""

    kind: str
    value: str


Single = Mul | Affine | Lerp | Act
Expression = Sum | Single


@dataclass(frozen=True)
class Part:
    """The static terms of a sum."""

    products: tuple[Product, ...] = ()
    biases: tuple[Bias, ...] = ()
    others: tuple[Times | Scaled | str, ...] = ()


@dataclass(frozen=True)
class Slot:
    """One product of a group; the sum it belongs to is computed in its place if it is the first there."""

    product: Product
    start: Part
    """What the product is added to."""


@dataclass(frozen=True)
class Group:
    """All products with one value in the loop."""

    source: str
    slots: tuple[Slot, ...]
    activations: tuple[tuple[str, int, int], ...]
    """Activation, first slot and slot after the last: applied as soon as the product is there."""


@dataclass(frozen=True)
class Plan:
    """A cell as the loop computes it."""

    states: tuple[tuple[str, str], ...]
    """Per state the value before a step and the value that becomes it."""
    static: dict[str, Part | Single]
    """Values computed for all time steps at once, in order."""
    groups: tuple[Group, ...]
    loop: dict[str, Expression]
    """Values of each step, in order; the terms of sums are those that are not static."""
    places: dict[str, tuple[int, int]]
    """Values that are computed in a slot: group and slot."""
    merged: frozenset[str]
    """Values that the activations of a group give."""
    inner: dict[Product, tuple[int, int]] = field(default_factory=dict)
    """Group and slot of every product in the loop."""


def reads(expression: Expression) -> Iterator[str]:
    """The values an expression reads, one as often as it does."""
    if isinstance(expression, Sum):
        for term in expression.terms:
            if isinstance(term, str):
                yield term
            elif isinstance(term, Product):
                yield term.source
            elif isinstance(term, Scaled):
                yield term.value
            elif isinstance(term, Times):
                yield from term
    elif isinstance(expression, Lerp):
        yield from (expression.start, expression.end, expression.weight)
    elif isinstance(expression, Mul):
        yield from (expression.first, expression.second)
    else:
        yield expression.value


def plan(cell: Cell) -> Plan:
    """How the live blocks of a cell are computed."""
    values, states = _expressions(cell)
    values = _lerps(_flat(values, states), states)
    dynamic = {before for before, _ in states}
    for name, expression in values.items():
        if any(each in dynamic for each in reads(expression)):
            dynamic.add(name)
    static: dict[str, Part | Single] = {}
    loop: dict[str, Expression] = {}
    slots: dict[str, list[tuple[str, Slot]]] = {}
    for name, expression in values.items():
        if name not in dynamic:
            static[name] = _part(expression.terms) if isinstance(expression, Sum) else expression
        elif isinstance(expression, Sum):
            waiting = [term for term in expression.terms if _waits(term, dynamic)]
            start = _part(tuple(term for term in expression.terms if not _waits(term, dynamic)))
            products = [term for term in waiting if isinstance(term, Product)]
            if not products and start != Part():
                waiting.append(_static_value(name, start, static))
            for place, product in enumerate(products):
                slots.setdefault(product.source, []).append((name, Slot(product, Part() if place else start)))
            loop[name] = Sum(tuple(waiting))
        else:
            loop[name] = expression
    return _grouped(states, static, loop, slots)


def _expressions(cell: Cell) -> tuple[dict[str, Expression], tuple[tuple[str, str], ...]]:
    """One or two expressions per live block, in order; blocks that pass something on have none."""
    values: dict[str, Expression] = {}
    known: dict[str, str] = {name: name for name in cell.inputs}
    needed = live(cell)
    for name in order(cell):
        if name not in needed:
            continue
        block = cell.blocks[name]
        inner = name if block.activation in (None, "identity") else f"{name} before"
        value = inner
        if block.operation is None:
            value = known[block.sources[0]]
        else:
            values[inner] = _combined(name, block, known)
        if block.activation in WEIGHTED:
            biases = (Bias(Chain(), name),) * block.biased
            values[name] = Sum((_product(name, 0, value), *biases))
            value = name
        elif block.activation not in (None, "identity"):
            values[name] = Act(str(block.activation), value)
            value = name
        known[name] = value
    return values, tuple((before, known[after]) for before, after in cell.states)


def _product(block: str, operand: int, source: str) -> Product:
    return Product((Chain(((block, operand),)),), source)


def _combined(name: str, block: Block, known: Mapping[str, str]) -> Expression:
    first, *others = (known[source] for source in block.sources)
    if block.operation == "linear":
        products = (_product(name, place, source) for place, source in enumerate((first, *others)))
        return Sum((*products, Bias(Chain(), name)))
    if block.operation == "blend":
        return Lerp(others[1], others[0], first)
    if others and block.operation == "elem_mul":
        return Mul(first, others[0])
    if others:
        return Sum((first, others[0] if block.operation == "add" else Scaled(others[0], -1.0)))
    constant = next(float(each) for each in block.inputs if not isinstance(each, str))
    scale, shift = {
        "elem_mul": (constant, 0.0),
        "add": (1.0, constant),
        "sub": (1.0, -constant) if isinstance(block.inputs[0], str) else (-1.0, constant),
    }[str(block.operation)]
    return Affine(first, scale, shift)


def _uses(values: Mapping[str, Expression], states: tuple[tuple[str, str], ...]) -> Counter[str]:
    uses = Counter(each for expression in values.values() for each in reads(expression))
    uses.update(written for _, written in states)
    return uses


def _flat(values: dict[str, Expression], states: tuple[tuple[str, str], ...]) -> dict[str, Expression]:
    """Sums within sums become one, also through a matrix; products, also with constants, that only a sum reads become
    its terms, and its products with one value become one."""
    uses = _uses(values, states)
    values = dict(values)
    for name, expression in list(values.items()):
        if isinstance(expression, Sum):
            terms: list[Term] = []
            for term in expression.terms:
                read, factor = next(reads(Sum((term,))), ""), term.factor if isinstance(term, Scaled) else 1.0
                inner = values.get(read) if uses[read] == 1 and not isinstance(term, Times) else None
                if isinstance(inner, Sum) and isinstance(term, Product) and _passes(inner):
                    terms += (each for one in inner.terms for each in _through(one, term))
                elif isinstance(term, Product):
                    terms.append(term)
                    continue
                elif isinstance(inner, Sum) and (factor == 1 or not _multiplies(inner)):
                    terms += (_scaled(each, factor) for each in inner.terms)
                elif isinstance(inner, Mul) and factor == 1:
                    terms.append(Times(inner.first, inner.second))
                elif isinstance(inner, Affine) and not inner.shift:
                    terms.append(Scaled(inner.value, inner.scale * factor))
                else:
                    terms.append(term)
                    continue
                del values[read]
            values[name] = Sum(_merged(terms))
    return values


def _multiplies(inner: Sum) -> bool:
    """Whether values are multiplied in a sum."""
    return any(isinstance(term, Times) for term in inner.terms)


def _passes(inner: Sum) -> bool:
    """Whether a matrix times a sum is no more work as a sum of chains: no more products, one of them in the loop."""
    sources = set(reads(inner))
    before = 1 + sum(isinstance(term, Product) for term in inner.terms)
    return not _multiplies(inner) and len(sources) <= before and len(sources - {INPUT}) <= 1


def _through(term: Term, product: Product) -> Iterator[Term]:
    """A term, not two values multiplied, times the chains of a product."""
    for after in product.chains:
        if isinstance(term, Bias):
            yield Bias(_linked(term.chain, after), term.block)
        elif isinstance(term, Product):
            yield Product(tuple(_linked(chain, after) for chain in term.chains), term.source)
        elif isinstance(term, Scaled):
            yield Product((after._replace(scale=after.scale * term.factor),), term.value)
        elif isinstance(term, str):
            yield Product((after,), term)


def _linked(before: Chain, after: Chain) -> Chain:
    return Chain(before.links + after.links, before.scale * after.scale)


def _merged(terms: Sequence[Term]) -> tuple[Term, ...]:
    """Terms of which the products with one value are one, in the place of the first."""
    chains: dict[str, tuple[Chain, ...]] = {}
    for term in terms:
        if isinstance(term, Product):
            chains[term.source] = chains.get(term.source, ()) + term.chains
    return tuple(
        Product(chains.pop(term.source), term.source) if isinstance(term, Product) else term
        for term in terms
        if not isinstance(term, Product) or term.source in chains
    )


def _scaled(term: Term, factor: float) -> Term:
    """A term, not two values multiplied unless the factor is 1, times a factor."""
    if factor == 1 or isinstance(term, Times):
        return term
    if isinstance(term, Bias):
        return term._replace(chain=_linked(term.chain, Chain((), factor)))
    if isinstance(term, Product):
        return term._replace(chains=tuple(_linked(chain, Chain((), factor)) for chain in term.chains))
    value, inner = (term.value, term.factor) if isinstance(term, Scaled) else (term, 1.0)
    return value if inner * factor == 1 else Scaled(value, inner * factor)


def _lerps(values: dict[str, Expression], states: tuple[tuple[str, str], ...]) -> dict[str, Expression]:
    """(1 - z) a + z b, the update of a GRU, becomes one expression."""
    uses = _uses(values, states)
    for name, expression in list(values.items()):
        if not (isinstance(expression, Sum) and len(expression.terms) == 2):
            continue
        one, other = expression.terms
        if not (isinstance(one, Times) and isinstance(other, Times)):
            continue
        for rest, kept in ((one, other), (other, one)):
            for complement, start in (rest, rest[::-1]):
                inner = values.get(complement)
                if isinstance(inner, Affine) and (inner.scale, inner.shift) == (-1, 1) and uses[complement] == 1:
                    weight = inner.value
                    if weight in kept:
                        end = kept.second if kept.first == weight else kept.first
                        values[name] = Lerp(start, end, weight)
                        del values[complement]
                        break
            else:
                continue
            break
    return values


def _waits(term: Term, dynamic: set[str]) -> bool:
    """Whether a term depends on a state."""
    if isinstance(term, Bias):
        return False
    if isinstance(term, Product):
        return term.source in dynamic
    if isinstance(term, Scaled):
        return term.value in dynamic
    return term in dynamic if isinstance(term, str) else bool(dynamic & set(term))


def _part(terms: tuple[Term, ...]) -> Part:
    return Part(
        tuple(term for term in terms if isinstance(term, Product)),
        tuple(term for term in terms if isinstance(term, Bias)),
        tuple(term for term in terms if isinstance(term, Times | Scaled | str)),
    )


def _static_value(name: str, part: Part, static: dict[str, Part | Single]) -> str:
    """The name of a part as a static value."""
    if not part.products and not part.biases and len(part.others) == 1 and isinstance(part.others[0], str):
        return part.others[0]
    static[f"{name} static"] = part
    return f"{name} static"


def _grouped(
    states: tuple[tuple[str, str], ...],
    static: dict[str, Part | Single],
    loop: dict[str, Expression],
    slots: Mapping[str, list[tuple[str, Slot]]],
) -> Plan:
    uses = _uses(loop, states)
    only_user = {each: name for name, expression in loop.items() for each in reads(expression) if uses[each] == 1}
    activated = {
        name: only_user[name]
        for name, expression in loop.items()
        if isinstance(expression, Sum) and isinstance(loop.get(only_user.get(name, "")), Act)
    }
    """Sums that only an activation reads: it is applied in their place."""

    def kind(name: str) -> str:
        """The activation that can follow the product at once; none if the sum has more terms."""
        expression, user = loop[name], loop.get(activated.get(name, ""))
        alone = isinstance(expression, Sum) and len(expression.terms) == 1
        return user.kind if alone and isinstance(user, Act) else ""

    groups: list[Group] = []
    places: dict[str, tuple[int, int]] = {}
    merged: set[str] = set()
    inner: dict[Product, tuple[int, int]] = {}
    for source, members in slots.items():
        found = sorted(members, key=lambda item: (kind(item[0]), not item[1].start.products))
        ranges: list[tuple[str, int, int]] = []
        for place, (name, slot) in enumerate(found):
            inner[slot.product] = (len(groups), place)
            if kind(name):
                merged.add(activated[name])
                if ranges and ranges[-1][0] == kind(name):
                    ranges[-1] = (kind(name), ranges[-1][1], place + 1)
                else:
                    ranges.append((kind(name), place, place + 1))
        groups.append(Group(source, tuple(slot for _, slot in found), tuple(ranges)))
    for name, expression in loop.items():
        products = (
            [term for term in expression.terms if isinstance(term, Product)] if isinstance(expression, Sum) else []
        )
        if products:
            places[name] = inner[products[0]]
            if name in activated:
                places[activated[name]] = places[name]
    return Plan(states, static, tuple(groups), loop, places, frozenset(merged), inner)


def static_reads(cell_plan: Plan) -> list[str]:
    """The static values that the loop reads one by one, x among them."""
    dynamic = {*cell_plan.loop, *(before for before, _ in cell_plan.states)}
    found = [each for expression in cell_plan.loop.values() for each in reads(expression)]
    found += [written for _, written in cell_plan.states]
    return [each for each in dict.fromkeys(found) if each not in dynamic]
